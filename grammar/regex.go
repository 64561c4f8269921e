package grammar

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"unicode"
)

// FromRegex reads a regular expression that the whole text has to match.
func FromRegex(expr string, v *Vocabulary) (*Grammar, error) {
	fail := func(err error) (*Grammar, error) { return nil, fmt.Errorf("regex: %w", err) }
	body, err := regex(expr, plainText, true)
	if err != nil {
		return fail(err)
	}
	g, err := whole(body).compile(v)
	if err != nil {
		return fail(err)
	}
	return g, nil
}

// FromChoice admits one of several texts.
func FromChoice(texts []string, v *Vocabulary) (*Grammar, error) {
	if len(texts) == 0 {
		return nil, errors.New("choice: want at least one text")
	}
	g, err := whole(oneOf(texts)).compile(v)
	if err != nil {
		return nil, fmt.Errorf("choice: %w", err)
	}
	return g, nil
}

// whole is an automaton of one rule.
func whole(p piece) *automaton {
	a := &automaton{}
	a.define(a.declare("root"), p)
	return a
}

// spelling is how characters of an expression are written: as they are, or in a JSON string.
type spelling func(set runes) piece

func plainText(set runes) piece { return set.one }

// regex reads an expression. One that is not anchored may match anywhere in the text, unless the whole has to match.
func regex(expr string, spell spelling, all bool) (piece, error) {
	if len(expr) > maxSource {
		return nil, fmt.Errorf("it has %d bytes, want at most %d", len(expr), maxSource)
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	parts := []*syntax.Regexp{tree}
	if tree.Op == syntax.OpConcat {
		parts = tree.Sub
	}
	// A part that is a group with an anchor inside is refused below.
	from, to := all, all
	if n := len(parts); n > 0 && parts[0].Op == syntax.OpBeginText {
		parts, from = parts[1:], true
	}
	if n := len(parts); n > 0 && parts[n-1].Op == syntax.OpEndText {
		parts, to = parts[:n-1], true
	}
	pieces := []piece{}
	anything := repeat(spell(anyRune), 0, unbounded)
	if !from {
		pieces = append(pieces, anything)
	}
	for _, p := range parts {
		x, err := regexPart(p, spell)
		if err != nil {
			return nil, err
		}
		pieces = append(pieces, x)
	}
	if !to {
		pieces = append(pieces, anything)
	}
	return sequence(pieces...), nil
}

func regexPart(x *syntax.Regexp, spell spelling) (piece, error) {
	var subs []piece
	for _, s := range x.Sub {
		p, err := regexPart(s, spell)
		if err != nil {
			return nil, err
		}
		subs = append(subs, p)
	}
	switch x.Op {
	case syntax.OpNoMatch:
		return runes(nil).one, nil
	case syntax.OpEmptyMatch:
		return nothing, nil
	case syntax.OpLiteral:
		var all []piece
		for _, r := range x.Rune {
			all = append(all, spell(folded(r, x.Flags&syntax.FoldCase != 0)))
		}
		return sequence(all...), nil
	case syntax.OpCharClass:
		var ranges [][2]rune
		for i := 0; i+1 < len(x.Rune); i += 2 {
			ranges = append(ranges, [2]rune{x.Rune[i], x.Rune[i+1]})
		}
		return spell(rangesOf(ranges...)), nil
	case syntax.OpAnyChar:
		return spell(anyRune), nil
	case syntax.OpAnyCharNotNL:
		return spell(runes{{'\n', '\n'}}.without()), nil
	case syntax.OpCapture:
		return subs[0], nil
	case syntax.OpConcat:
		return sequence(subs...), nil
	case syntax.OpAlternate:
		return either(subs...), nil
	case syntax.OpStar:
		return repeat(subs[0], 0, unbounded), nil
	case syntax.OpPlus:
		return repeat(subs[0], 1, unbounded), nil
	case syntax.OpQuest:
		return optional(subs[0]), nil
	case syntax.OpRepeat:
		return repeat(subs[0], x.Min, x.Max), nil // a Max of -1 is unbounded here too
	case syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
		return nil, errors.New("^ and $ are supported at the two ends of an expression alone")
	}
	return nil, fmt.Errorf("%v is not supported", x)
}

// folded is a character, with those that differ in case alone if fold is set.
func folded(r rune, fold bool) runes {
	ranges := [][2]rune{{r, r}}
	if fold {
		for x := unicode.SimpleFold(r); x != r; x = unicode.SimpleFold(x) {
			ranges = append(ranges, [2]rune{x, x})
		}
	}
	return rangesOf(ranges...)
}
