package grammar

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// FromGBNF reads a grammar in llama.cpp's notation: rules NAME ::= ALTERNATIVES, of which root is the whole.
func FromGBNF(source string, v *Vocabulary) (*Grammar, error) {
	a, err := readGBNF(source)
	if err != nil {
		return nil, fmt.Errorf("grammar: %w", err)
	}
	g, err := a.compile(v)
	if err != nil {
		return nil, fmt.Errorf("grammar: %w", err)
	}
	return g, nil
}

func readGBNF(source string) (*automaton, error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("it has %d bytes, want at most %d", len(source), maxSource)
	}
	if !utf8.ValidString(source) {
		return nil, errors.New("it is not UTF-8")
	}
	p := &gbnf{text: source, a: &automaton{}, index: map[string]int32{}}
	p.rule("root")
	for p.space(true); p.at < len(p.text); p.space(true) {
		if err := p.definition(); err != nil {
			return nil, fmt.Errorf("line %d: %w", 1+strings.Count(source[:p.at], "\n"), err)
		}
		if p.a.err != nil {
			return nil, p.a.err
		}
	}
	return p.a, nil
}

// gbnf is a reader of the notation.
type gbnf struct {
	text  string
	at    int
	a     *automaton
	index map[string]int32
	depth int // of parentheses
}

// maxNesting is how deep parentheses may nest.
const maxNesting = 256

func (p *gbnf) rule(name string) int32 {
	r, ok := p.index[name]
	if !ok {
		r = p.a.declare(name)
		p.index[name] = r
	}
	return r
}

func (p *gbnf) rest() string { return p.text[p.at:] }

// space skips blanks and comments, and line ends where they mean nothing.
func (p *gbnf) space(lines bool) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == ' ' || c == '\t' || lines && (c == '\n' || c == '\r'):
			p.at++
		case c == '#':
			n := strings.IndexAny(p.rest(), "\r\n")
			if n < 0 {
				n = len(p.rest())
			}
			p.at += n
		default:
			return
		}
	}
}

// take skips a text if it comes next.
func (p *gbnf) take(text string) bool {
	if !strings.HasPrefix(p.rest(), text) {
		return false
	}
	p.at += len(text)
	return true
}

func (p *gbnf) word() string {
	n := 0
	for rest := p.rest(); n < len(rest); n++ {
		if c := rest[n]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			break
		}
	}
	p.at += n
	return p.text[p.at-n : p.at]
}

func (p *gbnf) definition() error {
	name := p.word()
	if name == "" {
		return fmt.Errorf("want the name of a rule, got %q", p.next())
	}
	p.space(false)
	if !p.take("::=") {
		return fmt.Errorf("rule %q: want ::=, got %q", name, p.next())
	}
	r := p.rule(name)
	if p.a.err == nil && p.a.rules[r].start >= 0 {
		return fmt.Errorf("rule %q is defined twice", name)
	}
	p.space(true)
	body, err := p.alternatives()
	if err != nil {
		return fmt.Errorf("rule %q: %w", name, err)
	}
	if p.at < len(p.text) && p.text[p.at] != '\n' && p.text[p.at] != '\r' {
		return fmt.Errorf("rule %q: unexpected %q", name, p.next())
	}
	p.a.define(r, body)
	return nil
}

// next is the next character, for messages.
func (p *gbnf) next() string {
	if p.at >= len(p.text) {
		return "the end"
	}
	_, n := utf8.DecodeRuneInString(p.rest())
	return p.text[p.at : p.at+n]
}

func (p *gbnf) alternatives() (piece, error) {
	var all []piece
	for {
		one, err := p.sequence()
		if err != nil {
			return nil, err
		}
		all = append(all, one)
		if !p.take("|") {
			break
		}
		p.space(true)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return either(all...), nil
}

func (p *gbnf) sequence() (piece, error) {
	var all []piece
	for {
		p.space(p.depth > 0)
		if p.at >= len(p.text) || strings.IndexByte("|)\r\n", p.text[p.at]) >= 0 {
			return sequence(all...), nil
		}
		one, err := p.element()
		if err != nil {
			return nil, err
		}
		if one, err = p.repeated(one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
}

func (p *gbnf) element() (piece, error) {
	switch c := p.text[p.at]; {
	case c == '"':
		return p.literal()
	case c == '[':
		return p.class()
	case c == '.':
		p.at++
		return anyRune.one, nil
	case c == '(':
		return p.group()
	case c == '<':
		return nil, errors.New("tokens in angle brackets are not supported: spell the text")
	}
	if name := p.word(); name != "" {
		return call(p.rule(name)), nil
	}
	return nil, fmt.Errorf("unexpected %q", p.next())
}

func (p *gbnf) group() (piece, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, fmt.Errorf("parentheses nest deeper than %d", maxNesting)
	}
	p.at++
	body, err := p.alternatives()
	if err != nil {
		return nil, err
	}
	if !p.take(")") {
		return nil, fmt.Errorf("want ), got %q", p.next())
	}
	p.depth--
	return p.named(body), nil
}

// named makes a piece a rule of its own, so that repeating it repeats a call.
func (p *gbnf) named(body piece) piece {
	r := p.a.declare(fmt.Sprintf("(%d)", len(p.a.rules)))
	if p.a.err != nil {
		return nothing
	}
	p.a.define(r, body)
	return call(r)
}

func (p *gbnf) literal() (piece, error) {
	p.at++
	var text []byte
	for {
		if p.at >= len(p.text) || p.text[p.at] == '\n' {
			return nil, errors.New(`a text does not end with "`)
		}
		if p.take(`"`) {
			return literal(string(text)), nil
		}
		r, err := p.char()
		if err != nil {
			return nil, err
		}
		text = utf8.AppendRune(text, r)
	}
}

func (p *gbnf) class() (piece, error) {
	p.at++
	not := p.take("^")
	var ranges [][2]rune
	for !p.take("]") {
		if p.at >= len(p.text) || p.text[p.at] == '\n' {
			return nil, errors.New("a class of characters does not end with ]")
		}
		lo, err := p.char()
		if err != nil {
			return nil, err
		}
		hi := lo
		if strings.HasPrefix(p.rest(), "-") && !strings.HasPrefix(p.rest(), "-]") {
			p.at++
			if p.at >= len(p.text) {
				continue
			}
			if hi, err = p.char(); err != nil {
				return nil, err
			}
			if hi < lo {
				return nil, fmt.Errorf("the range %c-%c has no characters", lo, hi)
			}
		}
		ranges = append(ranges, [2]rune{lo, hi})
	}
	set := rangesOf(ranges...)
	if not {
		set = set.without()
	}
	return set.one, nil
}

// char reads a character of a text or class.
func (p *gbnf) char() (rune, error) {
	r, n := utf8.DecodeRuneInString(p.rest())
	p.at += n
	if r != '\\' {
		return r, nil
	}
	c := byte(0)
	if p.at < len(p.text) {
		c = p.text[p.at]
		p.at++
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	switch c {
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case '\\', '"', '[', ']', '-', '^':
		return rune(c), nil
	case 'x', 'u', 'U':
		if len(p.rest()) >= digits {
			x, err := strconv.ParseUint(p.rest()[:digits], 16, 32)
			if r := rune(x); err == nil && x <= utf8.MaxRune && utf8.ValidRune(r) {
				p.at += digits
				return r, nil
			}
		}
		return 0, fmt.Errorf(`\%c wants %d hexadecimal digits of a character`, c, digits)
	}
	return 0, fmt.Errorf(`unknown escape \%s`, strings.TrimRight(string(c), "\x00"))
}

// repeated reads * + ? {m} {m,} {m,n} behind an element.
func (p *gbnf) repeated(one piece) (piece, error) {
	for {
		p.space(false)
		switch {
		case p.take("*"):
			one = repeat(one, 0, unbounded)
		case p.take("+"):
			one = repeat(one, 1, unbounded)
		case p.take("?"):
			one = optional(one)
		case p.take("{"):
			lo, hi, err := p.counts()
			if err != nil {
				return nil, err
			}
			one = repeat(one, lo, hi)
		default:
			return one, nil
		}
		one = p.named(one)
	}
}

// maxCount is the largest count of a repetition.
const maxCount = 1 << 16

func (p *gbnf) counts() (lo, hi int, err error) {
	body, after, ok := strings.Cut(p.rest(), "}")
	if !ok {
		return 0, 0, errors.New("a count does not end with }")
	}
	p.at = len(p.text) - len(after)
	first, second, two := strings.Cut(body, ",")
	number := func(s string) int {
		n, e := strconv.ParseUint(strings.TrimSpace(s), 10, 31)
		if (e != nil || n > maxCount) && err == nil {
			err = fmt.Errorf("{%s}: want counts of at most %d", body, maxCount)
		}
		return int(n)
	}
	lo = number(first)
	switch hi = lo; {
	case two && strings.TrimSpace(second) == "":
		hi = unbounded
	case two:
		hi = number(second)
	}
	if err == nil && hi != unbounded && hi < lo {
		err = fmt.Errorf("{%s}: the second count is the smaller one", body)
	}
	return lo, hi, err
}
