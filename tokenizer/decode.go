package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// decodeRules says how pieces become text.
type decodeRules struct {
	stripSpace bool // a space at the very start is the dummy prefix
	stripAll   bool // all spaces at the start (remove_extra_whitespaces)
	wholeRuns  bool // a run of byte pieces that is not valid as a whole becomes one U+FFFD a byte (HF ByteFallback)
}

// Decode returns the text of ids. Bytes that form no character become U+FFFD, one for each maximal ill-formed subpart
// (in SentencePiece vocabularies one for each byte). Ids outside the vocabulary are left out.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	var out, run []byte
	started := false
	flush := func() {
		if len(run) > 0 {
			out = t.appendRun(out, run)
			run = run[:0]
		}
	}
	for _, id := range ids {
		k := t.Kind(id)
		if k == Unused && t.Piece(id) == "" || skipSpecial && k == Control {
			continue
		}
		s := t.bytes[id]
		if t.byteLevel || k == Byte {
			run = append(run, s...)
			continue
		}
		flush()
		if !started && len(out) == 0 && k != Unknown && k != Control {
			s, started = t.trimStart(s)
		}
		out = append(out, s...)
	}
	flush()
	return string(out)
}

// trimStart removes the dummy prefix from the first piece; done says that later pieces keep their spaces even if this
// one is now empty.
func (t *Tokenizer) trimStart(s string) (rest string, done bool) {
	if !t.decode.stripSpace && !t.decode.stripAll {
		return s, true
	}
	rest, done = strings.CutPrefix(s, " ")
	return rest, done && !t.decode.stripAll
}

// appendRun appends the text of a run of bytes.
func (t *Tokenizer) appendRun(out, run []byte) []byte {
	switch {
	case t.byteLevel:
		return appendValid(out, run)
	case t.decode.wholeRuns && !utf8.Valid(run):
		return append(out, strings.Repeat("\uFFFD", len(run))...)
	}
	for len(run) > 0 {
		r, n := utf8.DecodeRune(run)
		out = utf8.AppendRune(out, r)
		run = run[n:]
	}
	return out
}

// Stream decodes ids one at a time and never returns part of a character.
type Stream struct {
	t       *Tokenizer
	skip    bool
	started bool
	held    []byte
}

// Stream returns a decoder for one text.
func (t *Tokenizer) Stream(skipSpecial bool) *Stream { return &Stream{t: t, skip: skipSpecial} }

// Next returns the text that id completes, "" while a character is incomplete.
func (s *Stream) Next(id int32) string {
	t := s.t
	k := t.Kind(id)
	if k == Unused && t.Piece(id) == "" || s.skip && k == Control {
		return ""
	}
	b := t.bytes[id]
	var out []byte
	if !t.byteLevel && k != Byte {
		out = t.appendRun(out, s.held)
		s.held = s.held[:0]
		if !s.started && len(out) == 0 && k != Unknown && k != Control {
			b, s.started = t.trimStart(b)
		}
		out = append(out, b...)
	} else {
		s.held = append(s.held, b...)
		end := len(s.held)
		for i := max(0, end-3); i < end; i++ {
			if n, more := invalidPrefix(s.held[i:]); n > 0 && more && i+n == end {
				end = i
			}
		}
		out = t.appendRun(out, s.held[:end])
		s.held = append(s.held[:0], s.held[end:]...)
	}
	s.started = s.started || len(out) > 0
	return string(out)
}

// Flush returns what is held, with U+FFFD for a character that was never completed.
func (s *Stream) Flush() string {
	out := s.t.appendRun(nil, s.held)
	s.held = s.held[:0]
	return string(out)
}
