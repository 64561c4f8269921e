package tokenizer

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// Kind says what a piece is, with the numbers of SentencePiece and GGUF.
type Kind uint8

// The kinds of pieces.
const (
	Normal      Kind = 1
	Unknown     Kind = 2
	Control     Kind = 3
	UserDefined Kind = 4
	Unused      Kind = 5
	Byte        Kind = 6
)

// Options chooses how text is read.
type Options struct {
	ParseSpecial bool // control tokens written in the text become their ids; otherwise they are text
	AddSpecial   bool // add what the model's own post-processor adds (BOS, EOS, prefixes)
}

// AddedToken is a token matched in the text before the model sees it.
type AddedToken struct {
	ID         int32
	Content    string
	Special    bool // matched only with Options.ParseSpecial, left out by Decode's skipSpecial
	LStrip     bool // takes the white space before it
	RStrip     bool // takes the white space after it
	SingleWord bool // matches only between characters that are no part of a word
	Normalized bool // matched in the normalised text
}

// Tokenizer is safe for concurrent use.
type Tokenizer struct {
	Source string // the file it was read from

	pieces []string // as the file writes them; "" for ids without a piece
	bytes  []string // what each piece decodes to
	kinds  []Kind
	byText map[string]int32

	raw, rawSpecial   *matcher // tokens matched in the text, without and with special ones
	norm, normSpecial *matcher // tokens matched in the normalised text
	written           *matcher // all special tokens and raw's, for EncodeParts
	added             []AddedToken
	normalizeAdded    bool // the texts of added tokens pass the normaliser too (tokenizer.json)
	normalizer        []normStep
	pre               []preStep
	model             segmenter
	bpe               *bpe     // the model when it is a BPE, else nil
	unigram           *unigram // the model when it is a unigram model, else nil
	byteLevel         bool     // pieces are bytes, spelled in GPT-2's alphabet
	decode            decodeRules
	prefix, suffix    []int32
	bos, eos, pad     int32
	unk               int32
	chatTemplate      string
	original          map[string][]byte // the files it came from, by base name

	mu   sync.Mutex
	free []*state
}

func newTokenizer(source string) *Tokenizer {
	return &Tokenizer{Source: source, bos: -1, eos: -1, pad: -1, unk: -1, original: map[string][]byte{}}
}

// segmenter is a model: it appends the ids of one pre-token, text[from:to]. Bytes of text beyond to may be read.
type segmenter interface {
	appendWord(dst []int32, st *state, text []byte, from, to int) []int32
}

// VocabSize is one more than the largest id.
func (t *Tokenizer) VocabSize() int { return len(t.pieces) }

// BOS is the id of the token that begins a text, -1 when there is none.
func (t *Tokenizer) BOS() int32 { return t.bos }

// EOS is the id of the token that ends a text, -1 when there is none.
func (t *Tokenizer) EOS() int32 { return t.eos }

// PAD is the id of the padding token, -1 when there is none.
func (t *Tokenizer) PAD() int32 { return t.pad }

// ChatTemplate is the Jinja template that came with the vocabulary, "" when there was none.
func (t *Tokenizer) ChatTemplate() string { return t.chatTemplate }

// AddedTokens returns the tokens that are matched in the text before the model sees it.
func (t *Tokenizer) AddedTokens() []AddedToken { return t.added }

// Piece returns the piece of an id as its file writes it, "" for an id without one.
func (t *Tokenizer) Piece(id int32) string {
	if id < 0 || int(id) >= len(t.pieces) {
		return ""
	}
	return t.pieces[id]
}

// Bytes returns what an id stands for in decoded text; the bytes may be part of a character.
func (t *Tokenizer) Bytes(id int32) []byte {
	if id < 0 || int(id) >= len(t.bytes) {
		return nil
	}
	return []byte(t.bytes[id])
}

// Kind returns what an id is; ids without a piece are Unused.
func (t *Tokenizer) Kind(id int32) Kind {
	if id < 0 || int(id) >= len(t.kinds) {
		return Unused
	}
	return t.kinds[id]
}

// ID returns the id of a piece as its file writes it.
func (t *Tokenizer) ID(piece string) (int32, bool) {
	id, ok := t.byText[piece]
	return id, ok
}

// Original returns the bytes of the files the tokenizer was read from, by base name, for copying them through.
func (t *Tokenizer) Original() map[string][]byte { return t.original }

// Plain reads text without parsing or adding special tokens.
type Plain struct{ *Tokenizer }

// Encode returns the ids of text.
func (p Plain) Encode(text string) []int32 { return p.Tokenizer.Encode(text, Options{}) }

// Encode returns the ids of text. Ill-formed UTF-8 is read as U+FFFD, one for each maximal subpart.
func (t *Tokenizer) Encode(text string, o Options) []int32 {
	return t.AppendEncode(make([]int32, 0, len(text)/3+4), text, o)
}

// AppendEncode appends the ids of text to dst.
func (t *Tokenizer) AppendEncode(dst []int32, text string, o Options) []int32 {
	if o.AddSpecial {
		dst = append(dst, t.prefix...)
	}
	b := view(text)
	if !utf8.Valid(b) {
		b = appendValid(nil, b)
	}
	st := t.take()
	m := t.raw
	if o.ParseSpecial {
		m = t.rawSpecial
	}
	m.split(b, nil, func(p []byte, id int32, first bool) {
		if id >= 0 {
			dst = append(dst, id)
		} else {
			dst = t.appendSegment(dst, st, p, first, o.ParseSpecial)
		}
	})
	t.give(st)
	if o.AddSpecial {
		dst = append(dst, t.suffix...)
	}
	return dst
}

func (t *Tokenizer) appendSegment(dst []int32, st *state, text []byte, first, parse bool) []int32 {
	if len(t.normalizer) > 0 {
		text = normalize(t.normalizer, text)
	}
	m := t.norm
	if parse {
		m = t.normSpecial
	}
	m.split(text, nil, func(p []byte, id int32, f bool) {
		switch {
		case id >= 0:
			dst = append(dst, id)
		case len(t.pre) == 0:
			dst = t.model.appendWord(dst, st, p, 0, len(p))
		default:
			dst = t.appendPieces(dst, st, p, first && f)
		}
	})
	return dst
}

func (t *Tokenizer) appendPieces(dst []int32, st *state, text []byte, first bool) []int32 {
	if !isolates(t.pre) {
		pretokenize(t.pre, text, first, func(p []byte) { dst = t.model.appendWord(dst, st, p, 0, len(p)) })
		return dst
	}
	if s := t.pre[0].split; len(t.pre) == 1 {
		for i := 0; i < len(text); {
			e, _ := s.next(text, i)
			dst = t.model.appendWord(dst, st, text, i, e)
			i = e
		}
		return dst
	}
	i := 0
	for _, e := range cut(t.pre, text, st) {
		dst = t.model.appendWord(dst, st, text, i, int(e))
		i = int(e)
	}
	return dst
}

// EncodeBatch encodes texts on the given number of goroutines, 0 for one per CPU. Results do not depend on it.
func (t *Tokenizer) EncodeBatch(texts []string, o Options, threads int) [][]int32 {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	out := make([][]int32, len(texts))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(threads, len(texts)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(texts) {
					return
				}
				out[i] = t.Encode(texts[i], o)
			}
		})
	}
	wg.Wait()
	return out
}

// take returns a free encoder state; at most one per CPU is kept.
func (t *Tokenizer) take() *state {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.free); n > 0 {
		st := t.free[n-1]
		t.free = t.free[:n-1]
		return st
	}
	return new(state)
}

func (t *Tokenizer) give(st *state) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) < runtime.GOMAXPROCS(0) {
		t.free = append(t.free, st)
	}
}

// setPieces fills the vocabulary's tables; decoded holds what each piece decodes to.
func (t *Tokenizer) setPieces(pieces, decoded []string, kinds []Kind) {
	t.pieces, t.bytes, t.kinds = pieces, decoded, kinds
	t.byText = make(map[string]int32, len(pieces))
	for i := len(pieces) - 1; i >= 0; i-- {
		if pieces[i] != "" {
			t.byText[pieces[i]] = int32(i)
		}
	}
}

// setAdded installs the tokens that are matched before the model.
func (t *Tokenizer) setAdded(list []AddedToken) {
	t.added = list
	pick := func(normalized, special bool) *matcher {
		var use []AddedToken
		for _, a := range list {
			if t.normalizeAdded && a.Normalized {
				a.Content = string(normalize(t.normalizer, []byte(a.Content)))
			}
			if a.Content != "" && a.Normalized == normalized && (special || !a.Special) {
				use = append(use, a)
			}
		}
		return newMatcher(use)
	}
	t.raw, t.rawSpecial = pick(false, false), pick(false, true)
	t.norm, t.normSpecial = pick(true, false), pick(true, true)
	var written []AddedToken
	for _, a := range list {
		if a.Content != "" && (a.Special || !a.Normalized) {
			written = append(written, a)
		}
	}
	t.written = newMatcher(written)
}

func (t *Tokenizer) fail(field, format string, args ...any) error {
	return fmt.Errorf("tokenizer: %s: %s: %s", t.Source, field, fmt.Sprintf(format, args...))
}
