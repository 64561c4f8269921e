package grammar

import "fmt"

// FromJSON admits any JSON object: JSON mode.
func FromJSON(v *Vocabulary) (*Grammar, error) {
	j := newJSON()
	j.a.define(root, call(j.object))
	g, err := j.a.compile(v)
	if err != nil {
		return nil, fmt.Errorf("grammar: %w", err)
	}
	return g, nil
}

// root is the rule that is the whole.
const root = 0

// jsonRules are an automaton with the rules of JSON.
type jsonRules struct {
	a *automaton
	// Rules of values, and of what may stand between the parts of objects and lists.
	value, object, array, text, number, blank int32
}

// maxIndent is the deepest indentation that is written: a model that has begun to write spaces does not write them for ever.
const maxIndent = 40

// Digits of numbers, bounded for the same reason.
const (
	maxDigits   = 15
	maxFraction = 15
)

var digit = runes{{'0', '9'}}

// newJSON declares a root, which is to be defined, and defines the rest.
func newJSON() *jsonRules {
	a := &automaton{}
	a.declare("root")
	j := &jsonRules{a: a, value: a.declare("value"), object: a.declare("object"), array: a.declare("array"), text: a.declare("string"),
		number: a.declare("number"), blank: a.declare("blank")}
	indent := rangesOf([2]rune{' ', ' '}, [2]rune{'\t', '\t'})
	a.define(j.blank, either(nothing, literal(" "), sequence(literal("\n"), repeat(indent.one, 0, maxIndent))))
	a.define(j.text, quoted(repeat(anyChar, 0, unbounded)))
	a.define(j.number, number)
	member := sequence(call(j.text), j.colon(), call(j.value))
	a.define(j.object, j.enclosed("{", "}", j.listed(member, 0, unbounded)))
	a.define(j.array, j.enclosed("[", "]", j.listed(call(j.value), 0, unbounded)))
	a.define(j.value, either(call(j.object), call(j.array), call(j.text), call(j.number), oneOf([]string{"true", "false", "null"})))
	return j
}

func (j *jsonRules) colon() piece { return oneOf([]string{":", ": "}) }

func (j *jsonRules) comma() piece { return sequence(literal(","), call(j.blank)) }

func (j *jsonRules) enclosed(open, close string, inner piece) piece {
	return sequence(literal(open), call(j.blank), inner, literal(close))
}

// listed reads least to most items with commas between them, and the blank behind the last one.
func (j *jsonRules) listed(item piece, least, most int) piece {
	if most == 0 {
		return nothing
	}
	rest := most
	if most != unbounded {
		rest = most - 1
	}
	some := sequence(item, repeat(sequence(j.comma(), item), max(least-1, 0), rest), call(j.blank))
	if least == 0 {
		return optional(some)
	}
	return some
}

func quoted(inner piece) piece { return sequence(literal(`"`), inner, literal(`"`)) }

// unescaped are the characters that stand for themselves in a JSON string.
var unescaped = rangesOf([2]rune{0, 0x1f}, [2]rune{'"', '"'}, [2]rune{'\\', '\\'}).without()

// anyChar is a character of a JSON string, escaped or not; halves of surrogate pairs only together.
var anyChar = either(unescaped.one, sequence(literal(`\`), either(
	oneOf([]string{`"`, `\`, "/", "b", "f", "n", "r", "t"}),
	sequence(literal("u"), either(
		sequence(hex("0-9a-cA-CefEF").one, repeat(hexDigit.one, 3, 3)),
		sequence(hex("dD").one, hex("0-7").one, repeat(hexDigit.one, 2, 2)),
		sequence(hex("dD").one, hex("89abAB").one, repeat(hexDigit.one, 2, 2), literal(`\u`), hex("dD").one, hex("c-fC-F").one, repeat(hexDigit.one, 2, 2)))))))

var hexDigit = hex("0-9a-fA-F")

// hex is a class of characters as a bracket expression spells it.
func hex(class string) runes {
	var ranges [][2]rune
	for i := 0; i < len(class); i++ {
		x := [2]rune{rune(class[i]), rune(class[i])}
		if i+2 < len(class) && class[i+1] == '-' {
			x[1] = rune(class[i+2])
			i += 2
		}
		ranges = append(ranges, x)
	}
	return rangesOf(ranges...)
}

// number is a JSON number.
var number = sequence(integer, optional(fraction), optional(sequence(hex("eE").one, optional(oneOf([]string{"+", "-"})), repeat(digit.one, 1, 2))))

// integer is a whole number.
var integer = sequence(optional(literal("-")), either(literal("0"), sequence(runes{{'1', '9'}}.one, repeat(digit.one, 0, maxDigits-1))))

var fraction = sequence(literal("."), repeat(digit.one, 1, maxFraction))

// inString writes characters as they stand in a JSON string, each in one way: with a short escape where it has one. Other
// control characters are left out.
func inString(set runes) piece {
	all := []piece{set.common(unescaped).one}
	for _, e := range []struct {
		r    rune
		text string
	}{{'"', `\"`}, {'\\', `\\`}, {'\n', `\n`}, {'\r', `\r`}, {'\t', `\t`}, {'\b', `\b`}, {'\f', `\f`}} {
		if set.has(e.r) {
			all = append(all, literal(e.text))
		}
	}
	return either(all...)
}
