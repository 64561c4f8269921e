package tokenizer

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// runeSet is a set of characters: a bitmap of the basic plane, and ranges above it.
type runeSet struct {
	bits [1 << 10]uint64
	high []rune // pairs lo, hi
}

func (s *runeSet) add(lo, hi rune) {
	for r := lo; r <= hi && r < 1<<16; r++ {
		s.bits[r>>6] |= 1 << (r & 63)
	}
	if hi >= 1<<16 {
		s.high = append(s.high, max(lo, 1<<16), hi)
	}
}

func (s *runeSet) addTable(t *unicode.RangeTable) {
	for _, r := range t.R16 {
		for c := rune(r.Lo); c <= rune(r.Hi); c += rune(r.Stride) {
			s.bits[c>>6] |= 1 << (c & 63)
		}
	}
	for _, r := range t.R32 {
		for c := rune(r.Lo); c <= rune(r.Hi); c += rune(r.Stride) {
			if r.Stride == 1 {
				s.high = append(s.high, rune(r.Lo), rune(r.Hi))
				break
			}
			s.high = append(s.high, c, c)
		}
	}
}

func (s *runeSet) has(r rune) bool {
	if r < 1<<16 {
		return s.bits[r>>6]&(1<<(r&63)) != 0
	}
	for i := 0; i < len(s.high); i += 2 {
		if r >= s.high[i] && r <= s.high[i+1] {
			return true
		}
	}
	return false
}

func (s *runeSet) complement() {
	for i := range s.bits {
		s.bits[i] = ^s.bits[i]
	}
	var high []rune
	next := rune(1 << 16)
	for next <= unicode.MaxRune {
		end := unicode.MaxRune + 1 // the start of the nearest range at or above next
		inside := false
		for i := 0; i < len(s.high); i += 2 {
			if lo, hi := s.high[i], s.high[i+1]; lo <= next && next <= hi {
				next, inside = hi+1, true
				break
			} else if lo > next && lo < end {
				end = lo
			}
		}
		if !inside {
			high = append(high, next, end-1)
			next = end
		}
	}
	s.high = high
}

// setPattern matches one optional white space, then min to max characters of the set (max < 0: any number), then the
// end of the text where atEnd is set.
type setPattern struct {
	set      *runeSet
	min, max int
	space    bool
	atEnd    bool
}

func (p *setPattern) match(text []byte, i int) int {
	if p.space {
		if r, n := runeAt(text, i); classTable().spaceRune(r) != 0 {
			if e := p.body(text, i+n); e > i+n {
				return e
			}
		}
	}
	return p.body(text, i)
}

// find looks for a character of the set, or a white space that may stand before one.
func (p *setPattern) find(text []byte, i int) int {
	for i < len(text) {
		r, n := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, n = runeAt(text, i)
		}
		if (p.set.has(r) || p.space && classTable().spaceRune(r) != 0) && p.match(text, i) > i {
			return i
		}
		i += n
	}
	return i
}

func (p *setPattern) body(text []byte, i int) int {
	j := i
	k := 0
	for j < len(text) && (p.max < 0 || k < p.max) {
		r, n := runeAt(text, j)
		if !p.set.has(r) {
			break
		}
		j += n
		k++
	}
	if k < p.min || p.atEnd && j < len(text) {
		return i
	}
	return j
}

// literalPattern matches a fixed string.
type literalPattern string

func (p literalPattern) match(text []byte, i int) int {
	if len(p) <= len(text)-i && string(text[i:i+len(p)]) == string(p) {
		return i + len(p)
	}
	return i
}

// literalsPattern matches the first of its strings, by first byte.
type literalsPattern [256][]string

func (p *literalsPattern) match(text []byte, i int) int {
	for _, s := range p[text[i]] {
		if len(s) <= len(text)-i && string(text[i:i+len(s)]) == s {
			return i + len(s)
		}
	}
	return i
}

// metaCharacters have a meaning of their own in expressions.
const metaCharacters = `\.+*?()|[]{}^$#&-~`

// alternation is the expression that matches any of the texts, longer ones first.
func alternation(texts []string) string {
	texts = slices.Clone(texts)
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	var b strings.Builder
	for i, s := range texts {
		if i > 0 {
			b.WriteByte('|')
		}
		for _, r := range s {
			if strings.ContainsRune(metaCharacters, r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}

// compileLiterals turns an alternation of plain strings into a scanner. It returns nil for anything else.
func compileLiterals(expr string) pattern {
	p := new(literalsPattern)
	var s []byte
	for i := 0; i <= len(expr); i++ {
		switch {
		case i == len(expr) || expr[i] == '|':
			if len(s) == 0 {
				return nil
			}
			p[s[0]] = append(p[s[0]], string(s))
			s = nil
		case expr[i] == '\\' && i+1 < len(expr) && strings.IndexByte(metaCharacters, expr[i+1]) >= 0:
			i++
			s = append(s, expr[i])
		case strings.IndexByte(metaCharacters, expr[i]) >= 0 && strings.IndexByte("#&-~", expr[i]) < 0:
			return nil
		default:
			s = append(s, expr[i])
		}
	}
	return p
}

func (p literalPattern) find(text []byte, i int) int {
	if n := bytes.Index(text[i:], []byte(p)); n >= 0 {
		return i + n
	}
	return len(text)
}

// compileSet turns the simple expressions of pre-tokenizers, one character class with an optional \s? before it, a
// quantifier and an optional $ after it, into a scanner. It returns nil for anything else.
func compileSet(expr string) pattern {
	p := &setPattern{min: 1, max: 1}
	if rest, ok := strings.CutPrefix(expr, `\s?`); ok {
		p.space, expr = true, rest
	}
	set, rest := parseClass(expr)
	if set == nil {
		return nil
	}
	p.set = set
	if r, ok := strings.CutPrefix(rest, "+"); ok {
		p.max, rest = -1, r
	} else if r, ok := strings.CutPrefix(rest, "{"); ok {
		bounds, after, ok := strings.Cut(r, "}")
		lo, hi, comma := strings.Cut(bounds, ",")
		n, err := strconv.Atoi(lo)
		if !ok || err != nil || n < 1 || n > 1000 {
			return nil
		}
		p.min, p.max, rest = n, n, after
		switch {
		case comma && hi == "":
			p.max = -1
		case comma:
			if p.max, err = strconv.Atoi(hi); err != nil || p.max < n {
				return nil
			}
		}
	}
	if r, ok := strings.CutPrefix(rest, "$"); ok {
		// A greedy run ends at the end of the text or cannot reach it, so no backtracking is lost. Some engines let $ also
		// match before a line break, which matters unless the run takes line breaks itself.
		if !set.has('\n') || p.max >= 0 {
			return nil
		}
		p.atEnd, rest = true, r
	}
	if rest != "" {
		return nil
	}
	return p
}

// parseClass reads one character class, escape or plain character at the start of expr.
func parseClass(expr string) (*runeSet, string) {
	s := new(runeSet)
	if !strings.HasPrefix(expr, "[") {
		lo, hi, n := parseClassAtom(s, expr)
		if n == 0 || strings.ContainsRune(`.^$*+?()|{}]`, rune(expr[0])) {
			return nil, expr
		}
		if lo <= hi {
			s.add(lo, hi)
		}
		return s, expr[n:]
	}
	expr = expr[1:]
	negate := strings.HasPrefix(expr, "^")
	if negate {
		expr = expr[1:]
	}
	for first := true; ; first = false {
		if expr == "" || strings.HasPrefix(expr, "[") || strings.HasPrefix(expr, "&&") {
			return nil, "" // unclosed, or a set operation
		}
		if expr[0] == ']' && !first {
			break
		}
		lo, hi, n := parseClassAtom(s, expr)
		if n == 0 {
			return nil, ""
		}
		expr = expr[n:]
		if lo > hi {
			continue // a class escape, added already
		}
		if len(expr) > 1 && expr[0] == '-' && expr[1] != ']' {
			lo2, hi2, n := parseClassAtom(s, expr[1:])
			if n == 0 || lo2 > hi2 || lo2 < lo {
				return nil, ""
			}
			expr = expr[1+n:]
			hi = hi2
		}
		s.add(lo, hi)
	}
	if negate {
		s.complement()
	}
	return s, expr[1:]
}

// parseClassAtom reads one character (lo == hi) or one class escape, which it adds to s itself (lo > hi). n is 0 when
// the start of expr is neither.
func parseClassAtom(s *runeSet, expr string) (lo, hi rune, n int) {
	if expr == "" {
		return 0, 0, 0
	}
	if expr[0] != '\\' {
		r, n := utf8.DecodeRuneInString(expr)
		return r, r, n
	}
	if len(expr) < 2 {
		return 0, 0, 0
	}
	switch expr[1] {
	case 'r':
		return '\r', '\r', 2
	case 'n':
		return '\n', '\n', 2
	case 't':
		return '\t', '\t', 2
	case 's':
		s.addTable(unicode.White_Space)
		return 1, 0, 2
	case 'd':
		s.addTable(unicode.Nd)
		return 1, 0, 2
	case 'p':
		name, _, ok := strings.Cut(strings.TrimPrefix(expr[2:], "{"), "}")
		t := unicode.Categories[name]
		if t == nil {
			t = unicode.Scripts[name]
		}
		if !ok || !strings.HasPrefix(expr[2:], "{") || t == nil {
			return 0, 0, 0
		}
		s.addTable(t)
		return 1, 0, len(`\p{}`) + len(name)
	case 'u':
		if len(expr) < 6 {
			return 0, 0, 0
		}
		v, err := strconv.ParseUint(expr[2:6], 16, 32)
		if err != nil {
			return 0, 0, 0
		}
		return rune(v), rune(v), 6
	}
	if c := expr[1]; c < utf8.RuneSelf && !asciiLetter(c) && (c < '0' || c > '9') {
		return rune(c), rune(c), 2
	}
	return 0, 0, 0
}
