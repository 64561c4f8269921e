package tokenizer

import (
	"sync"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// The classes that pre-tokenizer patterns distinguish, as bits.
const (
	clLetter  = 1 << iota // \p{L}
	clNumber              // \p{N}
	clSpace               // \s, the property White_Space
	clNewline             // \r \n
	clMark                // \p{M}
	clPunct               // \p{P}
	clSymbol              // \p{S}
)

// classes holds the class bits of the basic multilingual plane; other planes are looked up in package unicode.
type classes [1 << 16]uint8

var classTable = sync.OnceValue(func() *classes {
	t := new(classes)
	mark := func(table *unicode.RangeTable, bit uint8) {
		for _, r := range table.R16 {
			for c := uint32(r.Lo); c <= uint32(r.Hi); c += uint32(r.Stride) {
				t[c] |= bit
			}
		}
	}
	mark(unicode.L, clLetter)
	mark(unicode.N, clNumber)
	mark(unicode.White_Space, clSpace)
	mark(unicode.M, clMark)
	mark(unicode.P, clPunct)
	mark(unicode.S, clSymbol)
	t['\r'] |= clNewline
	t['\n'] |= clNewline
	return t
})

func classOfRune(r rune) uint8 {
	var c uint8
	switch {
	case unicode.Is(unicode.L, r):
		c = clLetter
	case unicode.Is(unicode.N, r):
		c = clNumber
	case unicode.Is(unicode.M, r):
		c = clMark
	case unicode.Is(unicode.P, r):
		c = clPunct
	case unicode.Is(unicode.S, r):
		c = clSymbol
	}
	return c // no white space lies outside the basic plane
}

// at returns the class bits and the length of the character at text[i]. The text must be valid UTF-8.
func (t *classes) at(text []byte, i int) (uint8, int) {
	b := text[i]
	switch {
	case b < utf8.RuneSelf:
		return t[b], 1
	case b < 0xe0:
		return t[uint32(b&0x1f)<<6|uint32(text[i+1]&0x3f)], 2
	case b < 0xf0:
		return t[uint16(uint32(b)<<12|uint32(text[i+1]&0x3f)<<6|uint32(text[i+2]&0x3f))], 3
	}
	r, n := utf8.DecodeRune(text[i:])
	return classOfRune(r), n
}

// runeAt decodes the character at text[i] of valid UTF-8.
func runeAt(text []byte, i int) (rune, int) {
	b := text[i]
	switch {
	case b < utf8.RuneSelf:
		return rune(b), 1
	case b < 0xe0:
		return rune(b&0x1f)<<6 | rune(text[i+1]&0x3f), 2
	case b < 0xf0:
		return rune(b&0xf)<<12 | rune(text[i+1]&0x3f)<<6 | rune(text[i+2]&0x3f), 3
	}
	return utf8.DecodeRune(text[i:])
}

// charLen is the length that a lead byte announces; continuation bytes count as 1.
func charLen(b byte) int {
	switch {
	case b < 0xc0:
		return 1
	case b < 0xe0:
		return 2
	case b < 0xf0:
		return 3
	}
	return 4
}

// invalidPrefix returns the length of the maximal subpart of an ill-formed sequence at the start of p, 0 when p starts
// with a well-formed character, and whether more bytes could still complete it (Unicode 15, section 3.9, table 3-7).
func invalidPrefix(p []byte) (n int, incomplete bool) {
	b := p[0]
	lo, hi, need := byte(0x80), byte(0xbf), 0
	switch {
	case b < 0x80:
		return 0, false
	case b < 0xc2:
		return 1, false
	case b < 0xe0:
		need = 1
	case b < 0xf0:
		need = 2
		if b == 0xe0 {
			lo = 0xa0
		} else if b == 0xed {
			hi = 0x9f
		}
	case b < 0xf5:
		need = 3
		if b == 0xf0 {
			lo = 0x90
		} else if b == 0xf4 {
			hi = 0x8f
		}
	default:
		return 1, false
	}
	for i := 1; i <= need; i++ {
		if i == len(p) {
			return i, true
		}
		if p[i] < lo || p[i] > hi {
			return i, false
		}
		lo, hi = 0x80, 0xbf
	}
	return 0, false
}

// appendValid appends p with each maximal ill-formed subpart replaced by one U+FFFD, as the WHATWG decoder does.
func appendValid(dst, p []byte) []byte {
	for len(p) > 0 {
		if utf8.Valid(p) {
			return append(dst, p...)
		}
		i := 0
		for i < len(p) {
			if p[i] < utf8.RuneSelf {
				i++
				continue
			}
			if n, _ := invalidPrefix(p[i:]); n > 0 {
				dst = append(append(dst, p[:i]...), "\uFFFD"...)
				p = p[i+n:]
				i = 0
				continue
			}
			i += charLen(p[i])
		}
		dst = append(dst, p...)
		return dst
	}
	return dst
}

// view reads a string as bytes without copying. The result must never be written to.
func view(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
