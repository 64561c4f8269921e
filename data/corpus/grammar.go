package corpus

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A grammar is a start pattern and named alternatives. A pattern is text with slots:
//
//	{name}   a word list's entry; the same slot is the same entry throughout a story
//	<part>   one of the alternatives of a part, which are patterns themselves
//	{+name}  {name} with a capital first letter
//
// Slots whose names differ only in a final digit draw from the same list, each for itself.
type grammar struct {
	start string
	parts map[string][]string
	words map[string][]string
}

// bindings are the slots' entries.
type bindings map[string]string

// list is the word list of a slot.
func (g *grammar) list(slot string) []string {
	if w, ok := g.words[slot]; ok {
		return w
	}
	return g.words[strings.TrimRight(slot, "0123456789")]
}

// piece is one element of a pattern: literal text, a slot or a part.
type piece struct {
	kind byte // 0 literal, '{' slot, '<' part
	text string
	up   bool
}

// next cuts the first piece off a pattern.
func next(pattern string) (piece, string) {
	i := strings.IndexAny(pattern, "{<")
	switch {
	case i < 0:
		return piece{text: pattern}, ""
	case i > 0:
		return piece{text: pattern[:i]}, pattern[i:]
	}
	end := strings.IndexAny(pattern, "}>")
	p := piece{kind: pattern[0], text: pattern[1:end]}
	if strings.HasPrefix(p.text, "+") {
		p.text, p.up = p.text[1:], true
	}
	return p, pattern[end+1:]
}

func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// generate writes a pattern with random choices, extending b.
func (g *grammar) generate(rng *rand.Rand, pattern string, b bindings) string {
	var out strings.Builder
	for pattern != "" {
		var p piece
		p, pattern = next(pattern)
		switch p.kind {
		case 0:
			out.WriteString(p.text)
		case '{':
			if _, ok := b[p.text]; !ok {
				words := g.list(p.text)
				b[p.text] = words[rng.IntN(len(words))]
			}
			w := b[p.text]
			if p.up {
				w = capital(w)
			}
			out.WriteString(w)
		case '<':
			choices := g.parts[p.text]
			out.WriteString(g.generate(rng, choices[rng.IntN(len(choices))], b))
		}
	}
	return out.String()
}

// parse reports whether text is derived from pattern, and the slots' entries. far is the furthest byte that fitted.
func (g *grammar) parse(text, pattern string) (b bindings, far int, ok bool) {
	b = bindings{}
	ok = g.match(text, 0, pattern, b, &far)
	return b, far, ok
}

// match tries to read text[at:] as pattern to the end, backtracking over alternatives.
func (g *grammar) match(text string, at int, pattern string, b bindings, far *int) bool {
	*far = max(*far, at)
	if pattern == "" {
		return at == len(text)
	}
	p, rest := next(pattern)
	switch p.kind {
	case 0:
		return strings.HasPrefix(text[at:], p.text) && g.match(text, at+len(p.text), rest, b, far)
	case '<':
		for _, choice := range g.parts[p.text] {
			if g.match(text, at, choice+rest, b, far) {
				return true
			}
		}
		return false
	}
	try := func(w string) bool {
		if p.up {
			w = capital(w)
		}
		return strings.HasPrefix(text[at:], w) && g.match(text, at+len(w), rest, b, far)
	}
	if w, bound := b[p.text]; bound {
		return try(w)
	}
	for _, w := range g.list(p.text) {
		b[p.text] = w
		if try(w) {
			return true
		}
		delete(b, p.text)
	}
	return false
}

// check panics on a grammar that names what it does not define; the grammars are constants of this package.
func (g *grammar) check() *grammar {
	walk := func(pattern string) {
		for pattern != "" {
			var p piece
			p, pattern = next(pattern)
			if p.kind == '{' && len(g.list(p.text)) == 0 || p.kind == '<' && len(g.parts[p.text]) == 0 {
				panic(fmt.Sprintf("corpus: grammar: %q is not defined", p.text))
			}
		}
	}
	walk(g.start)
	for _, choices := range g.parts {
		for _, c := range choices {
			walk(c)
		}
	}
	return g
}
