package grammar

import (
	"slices"
	"unicode/utf8"
)

// piece is a part of a rule: it adds itself to an automaton from a state on and returns the state behind it. A piece adds
// no edge that leads to the state from which it starts, and may be added any number of times.
type piece func(a *automaton, from int32) (to int32)

// nothing reads no byte.
func nothing(_ *automaton, from int32) int32 { return from }

// literal reads a text.
func literal(text string) piece {
	return func(a *automaton, from int32) int32 {
		for i := range len(text) {
			to := a.add()
			a.read(from, text[i], text[i], to)
			from = to
		}
		return from
	}
}

// oneOf reads one of several texts.
func oneOf(texts []string) piece {
	texts = slices.Compact(slices.Sorted(slices.Values(texts)))
	return func(a *automaton, from int32) int32 {
		end := a.add()
		branch(a, from, end, texts, 0)
		return end
	}
}

// branch adds the trie of sorted texts that are alike up to byte at.
func branch(a *automaton, from, end int32, texts []string, at int) {
	for len(texts) > 0 && a.err == nil {
		if len(texts[0]) == at {
			a.skip(from, end)
			texts = texts[1:]
			continue
		}
		c, n := texts[0][at], 1
		for n < len(texts) && texts[n][at] == c {
			n++
		}
		to := a.add()
		a.read(from, c, c, to)
		branch(a, to, end, texts[:n], at+1)
		texts = texts[n:]
	}
}

// call reads what a rule stands for.
func call(rule int32) piece {
	return func(a *automaton, from int32) int32 {
		to := a.add()
		a.call(from, rule, to)
		return to
	}
}

// sequence reads pieces one after another.
func sequence(pieces ...piece) piece {
	return func(a *automaton, from int32) int32 {
		for _, p := range pieces {
			from = p(a, from)
		}
		return from
	}
}

// either reads one of several pieces.
func either(pieces ...piece) piece {
	return func(a *automaton, from int32) int32 {
		to := a.add()
		for _, p := range pieces {
			a.skip(p(a, from), to)
		}
		return to
	}
}

func optional(p piece) piece { return either(nothing, p) }

// unbounded is the count of a repetition without an end.
const unbounded = -1

// repeat reads a piece least to most times.
func repeat(p piece, least, most int) piece {
	return func(a *automaton, from int32) int32 {
		for i := 0; i < least && a.err == nil; i++ {
			from = p(a, from)
		}
		if most == unbounded {
			loop := a.add()
			a.skip(from, loop)
			a.skip(p(a, loop), loop)
			return loop
		}
		if most <= least {
			return from
		}
		to := a.add()
		a.skip(from, to)
		for i := least; i < most && a.err == nil; i++ {
			from = p(a, from)
			a.skip(from, to)
		}
		return to
	}
}

// runes are ranges of characters, in order and apart.
type runes [][2]rune

const surrogateLow, surrogateHigh = 0xd800, 0xdfff

// anyRune are all characters.
var anyRune = runes{{0, surrogateLow - 1}, {surrogateHigh + 1, utf8.MaxRune}}

// rangesOf puts ranges in order and joins them; what is no character is left out.
func rangesOf(ranges ...[2]rune) runes {
	slices.SortFunc(ranges, func(a, b [2]rune) int { return int(a[0]) - int(b[0]) })
	var out runes
	for _, x := range ranges {
		if n := len(out); n > 0 && x[0] <= out[n-1][1]+1 {
			out[n-1][1] = max(out[n-1][1], x[1])
		} else if x[0] <= x[1] {
			out = append(out, x)
		}
	}
	return out.common(anyRune)
}

// common are the characters in both.
func (s runes) common(o runes) runes {
	var out runes
	for i, j := 0, 0; i < len(s) && j < len(o); {
		lo, hi := max(s[i][0], o[j][0]), min(s[i][1], o[j][1])
		if lo <= hi {
			out = append(out, [2]rune{lo, hi})
		}
		if s[i][1] < o[j][1] {
			i++
		} else {
			j++
		}
	}
	return out
}

// without are all other characters.
func (s runes) without() runes {
	var out runes
	next := rune(0)
	for _, x := range s {
		if x[0] > next {
			out = append(out, [2]rune{next, x[0] - 1})
		}
		next = x[1] + 1
	}
	if next <= utf8.MaxRune {
		out = append(out, [2]rune{next, utf8.MaxRune})
	}
	return out.common(anyRune)
}

func (s runes) has(r rune) bool { return len(s.common(runes{{r, r}})) > 0 }

// one reads one of the characters, in UTF-8.
func (s runes) one(a *automaton, from int32) int32 {
	w := words{a: a, lo: 0x80, hi: 0xbf, rest: []int32{a.add()}}
	for _, x := range s {
		for lo := x[0]; lo <= x[1]; { // a part for each length of the encoding
			hi := x[1]
			for _, last := range []rune{0x7f, 0x7ff, 0xffff} {
				if lo <= last {
					hi = min(hi, last)
					break
				}
			}
			w.between(from, utf8.AppendRune(nil, lo), utf8.AppendRune(nil, hi))
			lo = hi + 1
		}
	}
	return w.rest[0]
}

// words adds words of equal length that lie between two of them, in the order of bytes. All bytes but the first run from
// lo to hi.
type words struct {
	a      *automaton
	lo, hi byte
	rest   []int32 // the state from which so many more bytes, whichever, lead to the end
}

// tail is the state before n more bytes.
func (w *words) tail(n int) int32 {
	for len(w.rest) <= n {
		s := w.a.add()
		w.a.read(s, w.lo, w.hi, w.rest[len(w.rest)-1])
		w.rest = append(w.rest, s)
	}
	return w.rest[n]
}

func (w *words) between(from int32, first, last []byte) {
	if w.a.err != nil {
		return
	}
	n := len(first) - 1
	if n == 0 {
		w.a.read(from, first[0], last[0], w.rest[0])
		return
	}
	full := func(b byte) []byte { return slices.Repeat([]byte{b}, n) }
	step := func(b byte, lo, hi []byte) {
		to := w.a.add()
		w.a.read(from, b, b, to)
		w.between(to, lo, hi)
	}
	lo, hi := first[0], last[0]
	if lo == hi {
		if slices.Equal(first[1:], full(w.lo)) && slices.Equal(last[1:], full(w.hi)) {
			w.a.read(from, lo, lo, w.tail(n))
			return
		}
		step(lo, first[1:], last[1:])
		return
	}
	if !slices.Equal(first[1:], full(w.lo)) {
		step(lo, first[1:], full(w.hi))
		lo++
	}
	if !slices.Equal(last[1:], full(w.hi)) {
		step(hi, full(w.lo), last[1:])
		hi--
	}
	if lo <= hi {
		w.a.read(from, lo, hi, w.tail(n))
	}
}
