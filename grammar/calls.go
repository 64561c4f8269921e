package grammar

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"danlu/chat"
	"danlu/chat/jinja"
)

// Function is one that a model may call.
type Function struct {
	Name       string
	Parameters jinja.Value // JSON Schema of the object of arguments; nil: any object
}

// Calls are replies that call functions, as a model writes them.
type Calls struct {
	Style     string // a name of package chat's styles
	Functions []Function
	Parallel  bool // several calls, where the style can write them
	// Instead, if set, is the JSON Schema of a reply that calls nothing; InsteadJSON is one of any object.
	Instead     []byte
	InsteadJSON bool
}

// FromCalls admits calls of functions.
func FromCalls(calls Calls, v *Vocabulary) (*Grammar, error) {
	j := newJSON()
	p, err := j.calls(calls)
	if err != nil {
		return nil, err
	}
	alternatives := []piece{p}
	switch {
	case calls.Instead != nil:
		p, err := j.schema(calls.Instead)
		if err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		alternatives = append(alternatives, p)
	case calls.InsteadJSON:
		alternatives = append(alternatives, call(j.object))
	}
	j.a.define(root, either(alternatives...))
	g, err := j.a.compile(v)
	if err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	return g, nil
}

// style is how calls are written: what encloses all of them and stands between them, and one of them.
type style struct {
	open, between, close string
	several              bool
	one                  func(c *compiler, f Function) (piece, error)
}

// styles are those of package chat, with the spellings that its parsers read.
var styles = map[string]style{
	chat.Hermes: {between: "\n", several: true, one: func(c *compiler, f Function) (piece, error) {
		return c.named(f, `<tool_call>`+"\n"+`{"name": `, `, "arguments": `, "}\n</tool_call>")
	}},
	chat.Llama3: {one: func(c *compiler, f Function) (piece, error) {
		return c.named(f, `{"name": `, `, "parameters": `, "}")
	}},
	chat.GLM4: {one: func(c *compiler, f Function) (piece, error) {
		p, err := c.arguments(f)
		return sequence(literal(f.Name+"\n"), p), err
	}},
	chat.GLM45: {between: "\n", several: true, one: (*compiler).tagged},
	chat.DeepSeekV3: {open: "<｜tool▁calls▁begin｜>", between: "\n", close: "<｜tool▁calls▁end｜>", several: true, one: func(c *compiler, f Function) (piece, error) {
		p, err := c.arguments(f)
		older := sequence(literal("function<｜tool▁sep｜>"+f.Name+"\n```json\n"), p, literal("\n```"))
		newer := sequence(literal(f.Name+"<｜tool▁sep｜>"), p) // from V3.1 on
		return sequence(literal("<｜tool▁call▁begin｜>"), either(older, newer), literal("<｜tool▁call▁end｜>")), err
	}},
}

// calls reads one or more calls.
func (j *jsonRules) calls(calls Calls) (piece, error) {
	s, ok := styles[calls.Style]
	if !ok {
		return nil, fmt.Errorf("tools: calls in the style %q cannot be forced", calls.Style)
	}
	if len(calls.Functions) == 0 {
		return nil, errors.New("tools: there is no function to call")
	}
	var all []piece
	for _, f := range calls.Functions {
		p, err := s.one(j.compiler(f.Parameters), f)
		if err != nil {
			return nil, fmt.Errorf("tools: %s: %w", f.Name, err)
		}
		all = append(all, p)
	}
	r := j.a.declare("call")
	if j.a.err == nil {
		j.a.define(r, either(all...))
	}
	body := call(r)
	if calls.Parallel && s.several {
		body = sequence(body, repeat(sequence(optional(literal(s.between)), body), 0, unbounded))
	}
	return sequence(literal(s.open), body, literal(s.close)), nil
}

// arguments is the JSON object of a function's arguments.
func (c *compiler) arguments(f Function) (piece, error) {
	if f.Parameters == nil {
		return call(c.jsonRules.object), nil
	}
	return c.value(f.Parameters, "#")
}

// named is a call that is a JSON object with the function's name.
func (c *compiler) named(f Function, before, behind, end string) (piece, error) {
	p, err := c.arguments(f)
	return sequence(literal(before+jsonText(f.Name)+behind), p, literal(end)), err
}

// tagged is a call of GLM-4.5: texts stand as they are, other values as JSON.
func (c *compiler) tagged(f Function) (piece, error) {
	d, _ := f.Parameters.(*jinja.Dict)
	if d == nil {
		d = jinja.NewDict()
	}
	if key := constraint(d, ""); key != "" && !slices.Contains([]string{"type", "properties", "required", "additionalProperties"}, key) {
		return nil, at("#", "%q of arguments is not supported in this model's format", key)
	}
	list, err := c.properties(d, "#")
	if err != nil {
		return nil, err
	}
	v, _ := d.Get("properties")
	props, _ := v.(*jinja.Dict)
	parts := []piece{literal("<tool_call>" + f.Name + "\n")}
	for _, m := range list {
		value := m.value
		if props != nil {
			schema, _ := props.Get(m.name)
			if value, err = bare(schema, value); err != nil {
				return nil, at("#/properties/"+m.name, "%v", err)
			}
		}
		arg := sequence(literal("<arg_key>"+m.name+"</arg_key>\n<arg_value>"), value, literal("</arg_value>\n"))
		if !m.required {
			arg = optional(arg)
		}
		parts = append(parts, arg)
	}
	return sequence(append(parts, literal("</tool_call>"))...), nil
}

// bare is a value without quotes if the schema says that it is a text.
func bare(schema jinja.Value, value piece) (piece, error) {
	d, ok := schema.(*jinja.Dict)
	if kind, _ := getText(d, "type"); !ok || kind != "string" {
		return value, nil
	}
	if v, ok := constants(d); ok {
		var texts []string
		list, _ := v.(jinja.List)
		for _, x := range list {
			if s, ok := x.(string); ok && !strings.Contains(s, "<") {
				texts = append(texts, s)
			}
		}
		return oneOf(texts), nil
	}
	if key := constraint(d, "type"); key != "" {
		return nil, fmt.Errorf("%q of a text is not supported in this model's format", key)
	}
	return repeat(runes{{'<', '<'}}.without().one, 0, unbounded), nil
}

func getText(d *jinja.Dict, key string) (string, bool) {
	if d == nil {
		return "", false
	}
	v, _ := d.Get(key)
	s, ok := v.(string)
	return s, ok
}
