package tokenizer

import (
	"bufio"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
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

	counts map[string]int64
	pre    []preStep
}

// maxWord bounds the pre-tokens that are counted; longer ones are cut, as nothing learns from them.
const maxWord = 1 << 10

// Add counts the words of one text, usually a line with its line break.
func (b *ByteTrainer) Add(text []byte) error {
	if b.counts == nil {
		if b.Pattern == "" {
			b.Pattern = patternGPT2
		}
		pre, err := preSteps([]string{b.Pattern})
		if err != nil {
			return fmt.Errorf("tokenizer: train: %w", err)
		}
		b.pre, b.counts = pre, map[string]int64{}
	}
	if !utf8.Valid(text) {
		text = appendValid(nil, text)
	}
	if b.NFC {
		text = formStep{norm.NFC}.apply(text)
	}
	pretokenize(b.pre, text, true, func(w []byte) {
		for len(w) > maxWord {
			b.counts[string(w[:maxWord])]++
			w = w[maxWord:]
		}
		b.counts[string(w)]++
	})
	return nil
}

// AddReader counts the words of every line of r.
func (b *ByteTrainer) AddReader(r io.Reader) error {
	br := bufio.NewReaderSize(r, 1<<20)
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) && len(line) < 1<<24 {
			continue // a line of more than 16 MB is counted in parts, so that memory stays bounded
		}
		if len(line) > 0 {
			if err := b.Add(line); err != nil {
				return err
			}
			line = line[:0]
		}
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("tokenizer: train: %w", err)
		}
	}
}

// Train learns the merges. It returns an error when the text does not support VocabSize pieces.
func (b *ByteTrainer) Train() (*Tokenizer, error) {
	base := len(b.SpecialTokens) + 256
	if b.VocabSize < base || b.VocabSize > maxVocab {
		return nil, fmt.Errorf("tokenizer: train: vocab_size: want %d (256 bytes and the special tokens) to %d, got %d", base, maxVocab, b.VocabSize)
	}
	if len(b.counts) == 0 {
		return nil, fmt.Errorf("tokenizer: train: the text is empty")
	}
	pieces := slices.Clone(b.SpecialTokens)
	order := make([]int, 256) // the alphabet is ordered by the characters that stand for the bytes
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(i, j int) bool { return byteRunes[order[i]] < byteRunes[order[j]] })
	var byteID [256]int32
	toks := make([]string, len(pieces), b.VocabSize)
	for _, v := range order {
		byteID[v] = int32(len(pieces))
		pieces, toks = append(pieces, string(byteRunes[v])), append(toks, string([]byte{byte(v)}))
	}
	words := make([]string, 0, len(b.counts))
	for w := range b.counts {
		words = append(words, w)
	}
	sort.Strings(words)
	l := &learner{toks: toks, limit: b.MaxTokenLength, counts: map[[2]int32]int64{}, where: map[[2]int32][]int32{}}
	for _, w := range words {
		ids := make([]int32, len(w))
		for i := range len(w) {
			ids[i] = byteID[w[i]]
		}
		l.words, l.weights = append(l.words, ids), append(l.weights, b.counts[w])
	}
	l.learn(b.VocabSize, max(1, b.MinFrequency))
	if len(l.toks) < b.VocabSize {
		return nil, fmt.Errorf("tokenizer: train: vocab_size: the text supports %d pieces, got %d; ask for fewer or give more text", len(l.toks), b.VocabSize)
	}
	for _, s := range l.toks[base:] {
		pieces = append(pieces, toAlphabet([]byte(s)))
	}
	merges := make([][2]string, len(l.merges))
	for i, m := range l.merges {
		merges[i] = [2]string{l.toks[m[0]], l.toks[m[1]]}
	}
	return b.build(pieces, merges)
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

// learner finds merges: the pair of highest count first, of equal counts the smaller pair of ids.
type learner struct {
	toks    []string
	limit   int
	words   [][]int32
	weights []int64
	counts  map[[2]int32]int64
	where   map[[2]int32][]int32 // words that hold or held the pair
	queue   pairQueue
	merges  [][2]int32
}

type pairCount struct {
	pair  [2]int32
	count int64
}

type pairQueue []pairCount

func (q pairQueue) Len() int { return len(q) }
func (q pairQueue) Less(i, j int) bool {
	a, b := &q[i], &q[j]
	if a.count != b.count {
		return a.count > b.count
	}
	return a.pair[0] < b.pair[0] || a.pair[0] == b.pair[0] && a.pair[1] < b.pair[1]
}
func (q pairQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *pairQueue) Push(x any)   { *q = append(*q, x.(pairCount)) }
func (q *pairQueue) Pop() any     { v := (*q)[len(*q)-1]; *q = (*q)[:len(*q)-1]; return v }

func (l *learner) fits(p [2]int32) bool {
	return l.limit == 0 || len(l.toks[p[0]])+len(l.toks[p[1]]) <= l.limit
}

func (l *learner) add(p [2]int32, n int64, word int32) {
	l.counts[p] += n
	if n > 0 {
		if w := l.where[p]; len(w) == 0 || w[len(w)-1] != word {
			l.where[p] = append(w, word)
		}
	}
}

func (l *learner) learn(size int, least int64) {
	for w, ids := range l.words {
		for i := 0; i+1 < len(ids); i++ {
			l.add([2]int32{ids[i], ids[i+1]}, l.weights[w], int32(w))
		}
	}
	for p, n := range l.counts {
		if l.fits(p) {
			l.queue = append(l.queue, pairCount{p, n})
		}
	}
	heap.Init(&l.queue)
	known := make(map[string]int32, size)
	for i, s := range l.toks {
		if s != "" {
			known[s] = int32(i)
		}
	}
	for len(l.toks) < size && len(l.queue) > 0 {
		top := heap.Pop(&l.queue).(pairCount)
		if n := l.counts[top.pair]; n != top.count {
			if n > 0 {
				heap.Push(&l.queue, pairCount{top.pair, n})
			}
			continue
		}
		if top.count < least {
			break
		}
		text := l.toks[top.pair[0]] + l.toks[top.pair[1]]
		id, ok := known[text]
		if !ok {
			id = int32(len(l.toks))
			known[text] = id
			l.toks = append(l.toks, text)
		}
		l.merges = append(l.merges, top.pair)
		l.apply(top.pair, id)
	}
}

// apply merges the pair in every word that holds it and queues the pairs whose counts grew.
func (l *learner) apply(p [2]int32, id int32) {
	grown := map[[2]int32]bool{}
	words := l.where[p]
	delete(l.where, p)
	slices.Sort(words)
	for _, w := range slices.Compact(words) {
		ids, n := l.words[w], l.weights[w]
		out := ids[:0]
		for i := 0; i < len(ids); i++ {
			if i+1 >= len(ids) || ids[i] != p[0] || ids[i+1] != p[1] {
				out = append(out, ids[i])
				continue
			}
			if k := len(out); k > 0 {
				l.add([2]int32{out[k-1], p[0]}, -n, w)
				l.add([2]int32{out[k-1], id}, n, w)
				grown[[2]int32{out[k-1], id}] = true
			}
			if i+2 < len(ids) {
				l.add([2]int32{p[1], ids[i+2]}, -n, w)
				l.add([2]int32{id, ids[i+2]}, n, w)
				grown[[2]int32{id, ids[i+2]}] = true
			}
			out = append(out, id)
			i++
		}
		l.words[w] = out
	}
	delete(l.counts, p)
	for q := range grown {
		if n := l.counts[q]; n > 0 && l.fits(q) {
			heap.Push(&l.queue, pairCount{q, n})
		}
	}
}
