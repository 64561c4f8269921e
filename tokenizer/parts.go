package tokenizer

import "unicode/utf8"

// Part is a piece of a text made from trusted and untrusted sources.
type Part struct {
	Text  string
	Plain bool // special tokens spelled in it, wholly or across a border, are plain text
}

// EncodeParts returns the ids of the parts' concatenation, read as one text, so that where a part ends does not show.
// Only special tokens that lie wholly in parts that are not Plain become their ids.
func (t *Tokenizer) EncodeParts(parts []Part) []int32 {
	n := 0
	for _, p := range parts {
		n += len(p.Text)
	}
	text := make([]byte, 0, n)
	type span struct{ from, to int }
	var plain []span // ascending
	for _, p := range parts {
		from := len(text)
		if b := view(p.Text); utf8.Valid(b) {
			text = append(text, b...)
		} else {
			text = appendValid(text, b)
		}
		if p.Plain && len(text) > from {
			plain = append(plain, span{from, len(text)})
		}
	}
	next := 0 // candidates come in order, so spans that end before one are done with
	admit := func(from, to int) bool {
		for next < len(plain) && plain[next].to <= from {
			next++
		}
		return next == len(plain) || plain[next].from >= to
	}
	dst := make([]int32, 0, n/3+4)
	st := t.take()
	t.written.split(text, admit, func(p []byte, id int32, first bool) {
		if id >= 0 {
			dst = append(dst, id)
		} else {
			dst = t.appendSegment(dst, st, p, first, false)
		}
	})
	t.give(st)
	return dst
}
