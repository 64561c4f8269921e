package tokenizer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// ByteTrainer trains a byte-level BPE vocabulary, the same one as Hugging Face's BpeTrainer over the 256 byte symbols.
type ByteTrainer struct {
	VocabSize      int
	SpecialTokens  []string // the first ids
	MinFrequency   int64    // a merge needs at least this count, and at least 1
	MaxTokenLength int      // in bytes, 0: no limit
	Pattern        string   // "" for GPT-2's
	NFC            bool
	Tell           func(symbols int) // progress of Train, may be nil

	count wordCount
	pre   []preStep
}

func (b *ByteTrainer) words() *wordCount {
	if b.count.table == nil {
		b.count = newWordCount()
	}
	return &b.count
}

func (b *ByteTrainer) options() string { return fmt.Sprintf("byte-level %q nfc=%v", b.Pattern, b.NFC) }

func (b *ByteTrainer) fork() (Trainer, error) {
	if err := b.start(); err != nil {
		return nil, err
	}
	return &ByteTrainer{Pattern: b.Pattern, NFC: b.NFC, pre: b.pre, count: newWordCount()}, nil
}

func (b *ByteTrainer) start() error {
	if b.pre != nil {
		return nil
	}
	b.Pattern = cmp.Or(b.Pattern, patternGPT2)
	var err error
	if b.pre, err = preSteps([]string{b.Pattern}); err != nil {
		return fmt.Errorf("tokenizer: train: %w", err)
	}
	return nil
}

// Add counts the words of one text, usually a line with its line break.
func (b *ByteTrainer) Add(text []byte) error {
	if err := b.start(); err != nil {
		return err
	}
	if !utf8.Valid(text) {
		text = appendValid(nil, text)
	}
	if b.NFC {
		text = formStep{norm.NFC}.apply(text)
	}
	table := b.words().table
	pretokenize(b.pre, text, true, func(w []byte) {
		for len(w) > maxWord {
			table.add(w[:maxWord], 1)
			w = w[maxWord:]
		}
		table.add(w, 1)
	})
	return nil
}

// Train learns the merges. It returns an error when the text does not support VocabSize pieces.
func (b *ByteTrainer) Train() (*Tokenizer, error) {
	base := len(b.SpecialTokens) + 256
	if b.VocabSize < base || b.VocabSize > maxVocab {
		return nil, fmt.Errorf("tokenizer: train: vocab_size: want %d (256 bytes and the special tokens) to %d, got %d", base, maxVocab, b.VocabSize)
	}
	table := b.words().table
	if table.n == 0 {
		return nil, fmt.Errorf("tokenizer: train: the text is empty")
	}
	order := make([]int, 256) // the alphabet is ordered by the characters that stand for the bytes
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(byteRunes[a], byteRunes[b]) })
	var byteID [256]int32
	l := &learner{toks: make([]string, len(b.SpecialTokens), b.VocabSize), before: byIDs, again: true, limit: b.VocabSize, tell: b.Tell}
	l.units = make([]int32, len(b.SpecialTokens))
	for _, v := range order {
		byteID[v] = int32(len(l.toks))
		l.toks, l.units = append(l.toks, string([]byte{byte(v)})), append(l.units, 1)
	}
	l.valid = func(left, right int32) bool {
		return b.MaxTokenLength == 0 || int(l.units[left]+l.units[right]) <= b.MaxTokenLength
	}
	if err := tooMany(table); err != nil {
		return nil, err
	}
	var ids []int32
	table.each(func(word []byte, n int64) {
		ids = ids[:0]
		for _, c := range word {
			ids = append(ids, byteID[c])
		}
		l.addWord(ids, n)
	})
	l.learn(max(1, b.MinFrequency))
	if len(l.toks) < b.VocabSize {
		return nil, fmt.Errorf("tokenizer: train: vocab_size: the text supports %d pieces, got %d; ask for fewer or give more text", len(l.toks), b.VocabSize)
	}
	pieces := slices.Clone(b.SpecialTokens)
	for _, s := range l.toks[len(pieces):] {
		pieces = append(pieces, toAlphabet([]byte(s)))
	}
	merges := make([][2]string, len(l.merges))
	for i, m := range l.merges {
		merges[i] = [2]string{l.toks[m[0]], l.toks[m[1]]}
	}
	return b.build(pieces, merges)
}

// tooMany refuses more text than the learner's 32-bit places reach.
func tooMany(t *wordTable) error {
	if t.bytes+int64(t.n) >= math.MaxInt32-1 {
		return fmt.Errorf("tokenizer: train: %d distinct words of %d bytes are more than can be learnt from; count fewer with max_words", t.n, t.bytes)
	}
	return nil
}

// build makes the tokenizer of a trained vocabulary and its tokenizer.json.
func (b *ByteTrainer) build(pieces []string, merges [][2]string) (*Tokenizer, error) {
	t := newTokenizer("trained vocabulary")
	kinds := make([]Kind, len(pieces))
	var added []AddedToken
	for i := range kinds {
		kinds[i] = Normal
		if i < len(b.SpecialTokens) {
			kinds[i] = Control
			added = append(added, AddedToken{ID: int32(i), Content: pieces[i], Special: true})
		}
	}
	if err := t.initAlphabet(pieces, kinds, merges); err != nil {
		return nil, err
	}
	t.setAdded(added)
	t.pre = b.pre
	if b.NFC {
		t.normalizer = []normStep{formStep{norm.NFC}}
	}
	var err error
	t.original["tokenizer.json"], err = t.marshalJSON()
	return t, err
}
