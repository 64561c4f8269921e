// Package jinja renders Jinja templates as Hugging Face transformers configures the language for chat templates:
// trim_blocks and lstrip_blocks, loop controls, {% generation %} spans, tojson without HTML escapes, raise_exception
// and strftime_now, with Python's values underneath: ordered dicts, integers apart from floats, Python's text for
// numbers, its string, list and dict methods, slices by code point.
//
// Templates come with models from strangers. Nothing in the language reaches outside; steps, nesting and sizes are
// limited, and nothing can be changed in place (transformers' sandbox is the immutable one).
package jinja

import (
	"fmt"
	"time"
)

// Template is a parsed template. It is safe for concurrent use.
type Template struct {
	source string
	body   []stmt
	spans  bool // has {% generation %}
	strict bool // what is not there is an error wherever it is used
}

// Error is a fault in a template or while one ran.
type Error struct {
	Line    int // 0: unknown
	Message string
}

// Error names the line.
func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("template line %d: %s", e.Line, e.Message)
	}
	return e.Message
}

// RaisedError is a template's own refusal: it called raise_exception.
type RaisedError struct{ Message string }

// Error is the template's message.
func (e *RaisedError) Error() string { return e.Message }

// Limits bound one rendering. Zero values stand for the defaults in brackets.
type Limits struct {
	Steps int // expressions and statements [10 million]
	Depth int // calls within calls [100]
	Bytes int // of all strings and lists built on the way, output included [1 GiB]
}

// Options of a rendering.
type Options struct {
	Limits Limits
	Now    func() time.Time // what strftime_now tells [time.Now]
}

// Span is a range of bytes of a rendered text.
type Span struct{ Start, End int }

// Result is a rendered text with the spans between {% generation %} and {% endgeneration %}.
type Result struct {
	Text      string
	Generated []Span
}

// Parse reads a template. Faults are an *Error.
func Parse(source string) (t *Template, err error) {
	defer caught(&err)
	p := &parser{tokens: lex(source, true)}
	body, _ := p.body()
	t = &Template{source: source, body: body}
	for i := range p.tokens[:len(p.tokens)-1] {
		t.spans = t.spans || p.tokens[i].kind == tBlock && p.tokens[i+1].kind == tName && p.tokens[i+1].text == "generation"
	}
	return t, nil
}

// Source is the text that was parsed.
func (t *Template) Source() string { return t.source }

// MarksGeneration reports whether the template says by {% generation %} what the model writes.
func (t *Template) MarksGeneration() bool { return t.spans }

// Render runs the template. Errors are a *RaisedError or an *Error.
func (t *Template) Render(vars *Dict, o Options) (res Result, err error) {
	defer caught(&err)
	if o.Limits.Steps <= 0 {
		o.Limits.Steps = 10_000_000
	}
	if o.Limits.Depth <= 0 {
		o.Limits.Depth = 100
	}
	if o.Limits.Bytes <= 0 {
		o.Limits.Bytes = 1 << 30
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	out := &output{root: true}
	r := &run{limits: o.Limits, now: o.Now, out: out, strict: t.strict}
	globals := &scope{vars: map[string]Value{}}
	for name, f := range globalFunctions {
		globals.vars[name] = f
	}
	top := &scope{vars: map[string]Value{}, parent: globals}
	for i, k := range vars.keys {
		if name, ok := k.(string); ok {
			top.vars[name] = vars.vals[i]
		}
	}
	r.body(t.body, &scope{parent: top})
	return Result{string(out.b), r.spans}, nil
}

// caught turns a template's fault into an error.
func caught(err *error) {
	switch x := recover().(type) {
	case nil:
	case *Error:
		*err = x
	case *RaisedError:
		*err = x
	default:
		panic(x)
	}
}

func failAt(line int, format string, args ...any) {
	panic(&Error{line, fmt.Sprintf(format, args...)})
}

// Arguments reads the named arguments of a Python call, "a=1, b='x'", as a dict. Values are literals.
func Arguments(s string) (d *Dict, err error) {
	defer caught(&err)
	p := &parser{tokens: lex("{{f("+s+")}}", true)}
	p.advance()
	call, ok := p.expression().(*callExpr)
	if !ok || p.cur().kind != tPrintEnd || len(call.args.pos) > 0 || call.args.star != nil || call.args.starStar != nil {
		return nil, &Error{Message: "want name=value, ..."}
	}
	if p.advance(); p.cur().kind != tEOF {
		return nil, &Error{Message: "want name=value, ..."}
	}
	d = NewDict()
	r := &run{limits: Limits{Steps: 1 << 16, Depth: 1, Bytes: 1 << 20}}
	for i, e := range call.args.named {
		if !literal(e) {
			return nil, &Error{Message: "want literal values"}
		}
		d.SetString(call.args.names[i], e.eval(r, nil))
	}
	return d, nil
}

// literal reports whether an expression is made of constants alone.
func literal(e expr) bool {
	all := func(list []expr) bool {
		for _, x := range list {
			if !literal(x) {
				return false
			}
		}
		return true
	}
	switch x := e.(type) {
	case *constExpr:
		return true
	case *signExpr:
		return literal(x.e)
	case *listExpr:
		return all(x.items)
	case *dictExpr:
		return all(x.keys) && all(x.vals)
	}
	return false
}
