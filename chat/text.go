package chat

import (
	"strings"

	"danlu/tokenizer"
)

// Text turns generated ids into text that can be shown at once: whole characters, and never a part of what may become a
// stop string.
type Text struct {
	tok    *tokenizer.Tokenizer
	stream *tokenizer.Stream
	keep   map[int32]bool
	stops  []string
	held   string // may be the beginning of a stop string
	done   bool
}

// NewText returns a decoder for what follows prompt (which decides about leading white space). Control tokens are left
// out, except those in keep. stops end the text and are no part of it.
func NewText(tok *tokenizer.Tokenizer, prompt []int32, stops []string, keep map[int32]bool) *Text {
	t := &Text{tok: tok, stream: tok.Stream(false), keep: keep}
	for _, s := range stops {
		if s != "" {
			t.stops = append(t.stops, s)
		}
	}
	// A few ids before the text suffice to tell its decoder that it is not at a beginning.
	for _, id := range prompt[max(0, len(prompt)-4):] {
		t.stream.Next(id)
	}
	t.stream.Flush()
	return t
}

// Next takes an id and returns the text that is certain by now; stop says that a stop string ended it.
func (t *Text) Next(id int32) (text string, stop bool) {
	if t.done {
		return "", true
	}
	if t.tok.Kind(id) == tokenizer.Control {
		if !t.keep[id] {
			return t.add(t.stream.Flush())
		}
		return t.add(t.stream.Flush() + t.tok.Piece(id))
	}
	return t.add(t.stream.Next(id))
}

// Flush returns what was held back when the ids end without a stop string.
func (t *Text) Flush() string {
	if t.done {
		return ""
	}
	text, stop := t.add(t.stream.Flush())
	if stop {
		return text
	}
	text += t.held
	t.held, t.done = "", true
	return text
}

func (t *Text) add(piece string) (text string, stop bool) {
	t.held += piece
	if at, _ := firstOf(t.held, t.stops); at >= 0 {
		text, t.held, t.done = t.held[:at], "", true
		return text, true
	}
	keep := 0
	for _, s := range t.stops {
		keep = max(keep, overlap(t.held, s))
	}
	text = t.held[:len(t.held)-keep]
	t.held = t.held[len(t.held)-keep:]
	return text, false
}

// Decode returns the text of ids with the control tokens in keep and without others.
func Decode(tok *tokenizer.Tokenizer, ids []int32, keep map[int32]bool) string {
	t := NewText(tok, nil, nil, keep)
	var b strings.Builder
	for _, id := range ids {
		s, _ := t.Next(id)
		b.WriteString(s)
	}
	return b.String() + t.Flush()
}
