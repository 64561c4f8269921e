package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normStep is one stage of a normaliser. It may return its input, which it does not write to.
type normStep interface {
	apply(text []byte) []byte
}

func normalize(steps []normStep, text []byte) []byte {
	for _, s := range steps {
		text = s.apply(text)
	}
	return text
}

// formStep is a Unicode normalisation form (UAX 15).
type formStep struct{ form norm.Form }

func (s formStep) apply(text []byte) []byte {
	if s.form == norm.NFC && plainNFC(text) {
		return text
	}
	if s.form.IsNormal(text) {
		return text
	}
	return s.form.Bytes(text)
}

// inert holds the characters of the basic plane that NFC leaves alone whatever stands beside them, a bit each.
var inert = sync.OnceValue(func() *[1 << 10]uint64 {
	t := new([1 << 10]uint64)
	var buf [utf8.UTFMax]byte
	for r := rune(0); r < 1<<16; r++ {
		if r >= 0xd800 && r < 0xe000 {
			continue
		}
		b := buf[:utf8.EncodeRune(buf[:], r)]
		if p := norm.NFC.Properties(b); p.CCC() == 0 && p.BoundaryBefore() && norm.NFC.IsNormal(b) {
			t[r>>6] |= 1 << (r & 63)
		}
	}
	return t
})

// plainNFC reports whether a text consists of such characters.
func plainNFC(text []byte) bool {
	t := inert()
	for i := 0; i < len(text); {
		if text[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := runeAt(text, i)
		if r >= 1<<16 || t[r>>6]&(1<<(r&63)) == 0 {
			return false
		}
		i += n
	}
	return true
}

// prependStep puts a string before each segment that is not empty.
type prependStep string

func (s prependStep) apply(text []byte) []byte {
	if len(text) == 0 {
		return text
	}
	out := make([]byte, 0, len(text)+len(s))
	return append(append(out, s...), text...)
}

// replaceStep replaces a fixed string.
type replaceStep struct{ from, to string }

func (s replaceStep) apply(text []byte) []byte {
	if s.from == "" || !bytes.Contains(text, []byte(s.from)) {
		return text
	}
	return bytes.ReplaceAll(text, []byte(s.from), []byte(s.to))
}

// replacePatternStep replaces every match of a pattern.
type replacePatternStep struct {
	find *splitter
	to   string
}

func (s *replacePatternStep) apply(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, p := range s.find.spans(nil, text) {
		if p.matched {
			out = append(out, s.to...)
		} else {
			out = append(out, text[p.from:p.to]...)
		}
	}
	return out
}

// stripStep cuts white space off the ends.
type stripStep struct{ left, right bool }

func (s stripStep) apply(text []byte) []byte {
	if s.left {
		text = bytes.TrimLeftFunc(text, unicode.IsSpace)
	}
	if s.right {
		text = bytes.TrimRightFunc(text, unicode.IsSpace)
	}
	return text
}

// charsmapStep replaces mapped prefixes.
type charsmapStep struct{ m *charsmap }

func (s charsmapStep) apply(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		to, n := s.m.longest(text)
		if n == 0 {
			n = charLen(text[0])
			to = text[:n]
		}
		out = append(out, to...)
		text = text[n:]
	}
	return out
}

type lowerStep struct{}

func (lowerStep) apply(text []byte) []byte { return bytes.ToLower(text) }

// metaStep reads the visible space U+2581 as the space it stands for.
var metaStep = replaceStep{"\u2581", " "}

// spmStep is SentencePiece's normaliser (normalizer.cc): mapped prefixes, white space, the dummy prefix.
type spmStep struct {
	charsmap      *charsmap // nil: identity
	keep          *matcher  // user-defined pieces, which stay as they are
	dummyPrefix   bool
	removeSpaces  bool
	spaceAsSuffix bool
}

func (s *spmStep) apply(text []byte) []byte {
	if s.charsmap == nil && !s.removeSpaces {
		out := make([]byte, 0, len(text)+1)
		if s.dummyPrefix && !s.spaceAsSuffix {
			out = append(out, ' ')
		}
		out = append(out, metaStep.apply(text)...)
		if s.dummyPrefix && s.spaceAsSuffix {
			out = append(out, ' ')
		}
		return out
	}
	out := make([]byte, 0, len(text)+1)
	if s.dummyPrefix && !s.spaceAsSuffix {
		out = append(out, ' ')
	}
	head := len(out)
	space := s.removeSpaces
	for i := 0; i < len(text); {
		if n := s.plain(text[i:]); n > 0 {
			out = append(out, text[i:i+n]...)
			space = false
			i += n
			continue
		}
		part, n := s.prefix(text[i:])
		i += n
		for space && len(part) > 0 && part[0] == ' ' {
			part = part[1:]
		}
		if len(part) > 0 {
			out = append(out, metaStep.apply(part)...)
			space = part[len(part)-1] == ' '
		}
		if !s.removeSpaces {
			space = false
		}
	}
	if s.removeSpaces {
		for len(out) > head && out[len(out)-1] == ' ' {
			out = out[:len(out)-1]
		}
		if len(out) == head {
			return nil
		}
	}
	if s.dummyPrefix && s.spaceAsSuffix {
		out = append(out, ' ')
	}
	return out
}

// plain returns the length of a run of characters at the start of text that stay as they are.
func (s *spmStep) plain(text []byte) int {
	i := 0
	for i < len(text) {
		b := text[i]
		if s.keep != nil && s.keep.starts[b] || b == ' ' {
			break
		}
		if b < utf8.RuneSelf {
			if s.charsmap != nil && (i+1 == len(text) || text[i+1] >= utf8.RuneSelf || !s.charsmap.plainASCII[b]) {
				break
			}
			i++
			continue
		}
		r, n := runeAt(text, i)
		if r == metaSpace || s.charsmap != nil && s.charsmap.mayStart(r) {
			break
		}
		i += n
	}
	return i
}

func (s *spmStep) prefix(text []byte) (part []byte, n int) {
	if s.keep != nil {
		if a := s.keep.longest(text, 0, nil); a != nil {
			return text[:len(a.Content)], len(a.Content)
		}
	}
	if s.charsmap != nil {
		if to, n := s.charsmap.longest(text); n > 0 {
			return to, n
		}
	}
	n = charLen(text[0])
	return text[:n], n
}

// charsmap is SentencePiece's precompiled map: a double-array trie (Aoe 1989; the layout of darts-clone) from byte
// strings to offsets into a list of zero-terminated replacements.
type charsmap struct {
	units []uint32
	to    []byte
	file  []byte // as it was read

	plainASCII [utf8.RuneSelf]bool // characters that stay as they are before another ASCII character
	start      [1 << 10]uint64     // characters of the basic plane with which a mapped string starts
}

// maxReplacement bounds what a mapped string becomes, so that a text grows by no more than that; NFKC's longest is 33 bytes.
const maxReplacement = 1 << 10

var errCharsmap = errors.New("truncated or damaged")

// newCharsmap reads the size of the trie in bytes (little endian), the trie and the replacements.
func newCharsmap(b []byte) (*charsmap, error) {
	if len(b) < 4 {
		return nil, errCharsmap
	}
	n := int(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
	if n%4 != 0 || n == 0 || n > len(b)-4 {
		return nil, errCharsmap
	}
	for to := range bytes.SplitSeq(b[4+n:], []byte{0}) {
		if len(to) > maxReplacement {
			return nil, fmt.Errorf("replacement: want at most %d bytes, got %d", maxReplacement, len(to))
		}
	}
	c := &charsmap{units: make([]uint32, n/4), to: b[4+n:], file: b}
	for i := range c.units {
		p := b[4+4*i:]
		c.units[i] = uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16 | uint32(p[3])<<24
	}
	c.index()
	return c, nil
}

// index notes which characters need no look-up.
func (c *charsmap) index() {
	for a := range utf8.RuneSelf {
		_, n := c.longest([]byte{byte(a)})
		c.plainASCII[a] = n == 0
		for b := range utf8.RuneSelf {
			c.plainASCII[a] = c.plainASCII[a] && !c.walks([]byte{byte(a), byte(b)})
		}
	}
	var buf [utf8.UTFMax]byte
	for r := rune(0); r < 1<<16; r++ {
		if c.walks(buf[:utf8.EncodeRune(buf[:], r)]) {
			c.start[r>>6] |= 1 << (r & 63)
		}
	}
}

// walks reports whether the trie holds a string that starts with s.
func (c *charsmap) walks(s []byte) bool {
	pos := trieOffset(c.units[0])
	for _, b := range s {
		pos ^= uint32(b)
		if b == 0 || int(pos) >= len(c.units) || c.units[pos]&(1<<31|0xff) != uint32(b) {
			return false
		}
		pos ^= trieOffset(c.units[pos])
	}
	return true
}

func (c *charsmap) mayStart(r rune) bool {
	return r >= 1<<16 || c.start[r>>6]&(1<<(r&63)) != 0
}

func trieOffset(u uint32) uint32 { return u >> 10 << ((u & (1 << 9)) >> 6) }

// longest returns the replacement of the longest mapped prefix of text and the prefix's length, 0 when there is none.
func (c *charsmap) longest(text []byte) (to []byte, n int) {
	pos := trieOffset(c.units[0])
	for i, b := range text {
		pos ^= uint32(b)
		if b == 0 || int(pos) >= len(c.units) {
			break
		}
		u := c.units[pos]
		if u&(1<<31|0xff) != uint32(b) {
			break
		}
		pos ^= trieOffset(u)
		if u>>8&1 == 1 && int(pos) < len(c.units) {
			at := int(c.units[pos] & (1<<31 - 1))
			if at > len(c.to) {
				break
			}
			end := bytes.IndexByte(c.to[at:], 0)
			if end < 0 {
				end = len(c.to) - at
			}
			to, n = c.to[at:at+end], i+1
		}
	}
	return to, n
}
