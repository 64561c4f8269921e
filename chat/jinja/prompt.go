package jinja

import "danlu/internal/pyre"

// ParsePrompt reads a template as evaluation harnesses configure the language for prompts: white space around tags and
// the last line break stay, regex_replace is a filter, and what is not there is an error where it is used.
func ParsePrompt(source string) (t *Template, err error) {
	defer caught(&err)
	p := &parser{tokens: lex(source, false), filters: promptFilters}
	body, _ := p.body()
	return &Template{source: source, body: body, strict: true}, nil
}

// promptFilters are the filters that prompts have besides.
var promptFilters = map[string]filterFunc{
	"regex_replace": soft(func(r *run, s string, a *args) Value {
		re, err := pyre.Compile(a.text(r, 0, "pattern"))
		if err != nil {
			r.fail("regex_replace: %v", err)
		}
		r.charge(len(s))
		out, err := re.Sub(s, a.text(r, 1, "repl"), a.integer(r, 2, "count", 0))
		if err != nil {
			r.fail("regex_replace: %v", err)
		}
		return out
	}),
}

// Literal reads a Python literal: what ast.literal_eval reads of strings, numbers, lists, tuples, dicts, True, False and
// None.
func Literal(s string) (v Value, err error) {
	defer caught(&err)
	p := &parser{tokens: lex("{{ "+s+" }}", true)}
	p.advance()
	e := p.tuple(true)
	if p.cur().kind != tPrintEnd || !literal(e) {
		return nil, &Error{Message: "want a literal"}
	}
	if p.advance(); p.cur().kind != tEOF {
		return nil, &Error{Message: "want a literal"}
	}
	r := &run{limits: Limits{Steps: 1 << 20, Depth: 1, Bytes: 1 << 26}}
	return e.eval(r, nil), nil
}
