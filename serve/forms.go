package serve

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/generate"
	"danlu/grammar"
	"danlu/tokenizer"
)

// thought says where a reply begins.
type thought int

const (
	noThought   thought = iota // in the answer
	mayThink                   // the model may open a thought
	midThought                 // the prompt opened one
	behindThink                // behind a thought, where line breaks may come before the answer
)

// form is what a reply has to look like, as the request says it.
type form struct {
	field string // of the request
	key   string // tells compiled grammars apart
	make  func(v *grammar.Vocabulary) (*grammar.Grammar, error)
}

// maxForms is the most compiled grammars that are kept.
const maxForms = 64

// forms are the grammars that a model's requests asked for.
type forms struct {
	mu     sync.Mutex
	vocabs map[bool]*grammar.Vocabulary // with the control tokens that replies in conversations keep, and without
	made   map[string]*grammar.Grammar
	order  []string // of made, the most recent last
}

// grammar compiles a form, unless it is known.
func (m *Model) grammar(f *form, talks bool) (*grammar.Grammar, error) {
	m.forms.mu.Lock()
	defer m.forms.mu.Unlock()
	s := m.forms
	key := f.key
	if talks {
		key = "chat " + key
	}
	if g := s.made[key]; g != nil {
		s.order = append(slices.DeleteFunc(s.order, func(k string) bool { return k == key }), key)
		return g, nil
	}
	v := s.vocabs[talks]
	if v == nil {
		var keep map[int32]bool
		if talks {
			keep = m.Dialect.Speech().Keep(m.Tokenizer)
		}
		v = grammar.VocabularyOf(m.Tokenizer, keep)
		s.vocabs[talks] = v
	}
	g, err := f.make(v)
	if err != nil {
		return nil, err
	}
	s.made[key], s.order = g, append(s.order, key)
	if len(s.order) > maxForms {
		delete(s.made, s.order[0])
		s.order = s.order[1:]
	}
	return g, nil
}

// wants sets the request's form; a request has one at most.
func (r *request) wants(f *fields, x form) {
	if r.form != nil {
		f.fail(badField(x.field, "and %s exclude each other", r.form.field))
		return
	}
	r.form = &x
}

// compile makes the grammar of the request's form.
func (r *request) compile(talks bool) *apiError {
	if r.form == nil {
		return nil
	}
	var err error
	if r.grammar, err = r.model.grammar(r.form, talks); err != nil {
		return badField(r.form.field, "%v", err)
	}
	return nil
}

// readForms reads the fields that hold a reply to a form.
func (r *request) readForms(f *fields) {
	if v, ok := f.take("response_format"); ok {
		r.responseFormat(f, v)
	}
	if v, ok := f.take("structured_outputs"); ok {
		r.structured(f, v)
	}
	var text string
	if read(f, "grammar", "a grammar in GBNF", &text) {
		r.wants(f, gbnf("grammar", text))
	}
	if v, ok := f.take("json_schema"); ok {
		r.wants(f, schema("json_schema", v))
	}
}

func gbnf(field, text string) form {
	return form{field, "gbnf " + text, func(v *grammar.Vocabulary) (*grammar.Grammar, error) { return grammar.FromGBNF(text, v) }}
}

func schema(field string, document []byte) form {
	return form{field, "schema " + string(document), func(v *grammar.Vocabulary) (*grammar.Grammar, error) { return grammar.FromSchema(document, v) }}
}

// responseFormat reads OpenAI's field.
func (r *request) responseFormat(f *fields, v json.RawMessage) {
	const field = "response_format"
	o, e := readFields(v)
	if e != nil {
		f.fail(badField(field, "want an object with a type, got %s", short(v)))
		return
	}
	var kind string
	read(o, "type", "a text", &kind)
	switch kind {
	case "text":
	case "json_object":
		r.wants(f, form{field, "json", grammar.FromJSON})
	case "json_schema":
		inner, ok := o.take("json_schema")
		if !ok {
			o.fail(badField("json_schema", "is missing"))
			break
		}
		r.namedSchema(f, o, inner)
	default:
		o.fail(badField("type", "want text, json_object or json_schema, got %q", kind))
	}
	f.within(field, o)
}

// namedSchema reads the member json_schema: a schema with a name.
func (r *request) namedSchema(f, o *fields, v json.RawMessage) {
	in, e := readFields(v)
	if e != nil {
		o.fail(badField("json_schema", "want an object, got %s", short(v)))
		return
	}
	for _, name := range []string{"name", "description"} {
		var label string
		read(in, name, "a text", &label)
	}
	var strict bool // a schema always holds
	in.bool("strict", &strict)
	document, ok := in.take("schema")
	if !ok {
		in.fail(badField("schema", "is missing"))
	} else {
		r.wants(f, schema("response_format", document))
	}
	o.within("json_schema", in)
}

// structured reads vLLM's field.
func (r *request) structured(f *fields, v json.RawMessage) {
	const field = "structured_outputs"
	o, e := readFields(v)
	if e != nil {
		f.fail(badField(field, "want an object, got %s", short(v)))
		return
	}
	if document, ok := o.take("json"); ok {
		var text string // a schema may be spelled as a text
		if json.Unmarshal(document, &text) == nil {
			document = []byte(text)
		}
		r.wants(f, schema(field, document))
	}
	var on bool
	if o.bool("json_object", &on); on {
		r.wants(f, form{field, "json", grammar.FromJSON})
	}
	var text string
	if read(o, "regex", "an expression", &text) {
		r.wants(f, form{field, "regex " + text, func(v *grammar.Vocabulary) (*grammar.Grammar, error) { return grammar.FromRegex(text, v) }})
	}
	var rules string
	if read(o, "grammar", "a grammar in GBNF", &rules) {
		r.wants(f, gbnf(field, rules))
	}
	if raw, ok := o.take("choice"); ok {
		var texts []string
		if json.Unmarshal(raw, &texts) != nil {
			o.fail(badField("choice", "want a list of texts, got %s", short(raw)))
		}
		r.wants(f, form{field, "choice " + string(raw), func(v *grammar.Vocabulary) (*grammar.Grammar, error) { return grammar.FromChoice(texts, v) }})
	}
	if r.form == nil && o.err == nil && len(o.raw) == 0 {
		o.fail(badField("json", "is missing, and so are regex, choice and grammar"))
	}
	f.within(field, o)
}

// calls holds a reply to calls of tools. With auto the model may answer in the request's own form instead.
func (r *request) calls(f *fields, field string, speech chat.Speech, tools jinja.List, only string, parallel, auto bool) {
	c := grammar.Calls{Style: speech.Calls(), Parallel: parallel}
	for _, x := range tools {
		inner, _ := x.(*jinja.Dict).Get("function") // offered has looked at them
		d := inner.(*jinja.Dict)
		name, _ := d.Get("name")
		if only != "" && name != only {
			continue
		}
		parameters, _ := d.Get("parameters")
		c.Functions = append(c.Functions, grammar.Function{Name: name.(string), Parameters: parameters})
	}
	if only != "" && len(c.Functions) == 0 {
		f.fail(badField(field, "no tool is named %q", only))
		return
	}
	key, err := jinja.DumpJSON(tools, jinja.JSONStyle{})
	if err != nil {
		f.fail(badField("tools", "%v", err))
		return
	}
	key = "calls " + c.Style + " " + only + map[bool]string{true: " several "}[parallel] + key
	if auto {
		if r.form == nil {
			return
		}
		own := r.form
		switch document, isSchema := strings.CutPrefix(own.key, "schema "); {
		case isSchema:
			c.Instead = []byte(document)
		case own.key == "json":
			c.InsteadJSON = true
		default:
			f.fail(badField(own.field, "and tools exclude each other, unless tool_choice is none"))
			return
		}
		field, key, r.form = own.field, key+own.key, nil
	}
	r.wants(f, form{field, key, func(v *grammar.Vocabulary) (*grammar.Grammar, error) { return grammar.FromCalls(c, v) }})
}

// constraint is what one reply is held to, nil for nothing.
func (r *request) constraint(a *reply, p prompt) generate.Constraint {
	if r.grammar == nil && r.admitted == nil && r.minNew == 0 {
		return nil
	}
	c := &constraint{reply: a, end: r.answer.End, least: r.minNew, thought: p.thought, size: r.model.Runner.Info().VocabSize}
	if r.grammar != nil {
		c.form = generate.NewForm(r.grammar, r.answer.End)
	}
	if r.admitted != nil {
		c.admitted = grammar.NewMask(c.size)
		for _, id := range r.admitted {
			c.admitted.Set(id)
		}
	}
	if p.thought != noThought {
		tag := func(text string) int32 {
			if ids := r.model.Tokenizer.Encode(text, tokenizer.Options{ParseSpecial: true}); len(ids) == 1 {
				return ids[0]
			}
			return -1
		}
		c.open, c.breaks = tag(r.model.Dialect.Speech().Think[0]), []int32{tag("\n"), tag("\n\n")}
	}
	return c
}

// constraint holds a reply to the request's form, behind its thoughts, and to the tokens that the request admits.
type constraint struct {
	reply    *reply
	form     *generate.Form
	admitted grammar.Mask
	end      []int32
	least    int // tokens before the end
	thought  thought
	open     int32   // begins a thought, -1 where no one token does
	breaks   []int32 // line breaks, -1 where no one token is one
	size     int
}

// Allowed implements generate.Constraint.
func (c *constraint) Allowed() (grammar.Mask, error) {
	if c.thought == midThought && !c.reply.parser.Thinking() {
		c.thought = behindThink
	}
	var mask grammar.Mask
	if c.form != nil && c.thought != midThought {
		var err error
		if mask, err = c.form.Allowed(); err != nil {
			return nil, err
		}
		switch c.thought {
		case mayThink:
			mask.Set(c.open)
		case behindThink:
			for _, id := range c.breaks {
				mask.Set(id)
			}
		}
	}
	if c.admitted != nil {
		if mask == nil {
			mask = slices.Clone(c.admitted)
		} else {
			mask.And(c.admitted)
		}
	}
	if c.reply.tokens < c.least {
		if mask == nil {
			mask = grammar.NewMask(c.size)
			for i := range mask {
				mask[i] = ^uint64(0)
			}
		}
		for _, id := range c.end {
			mask.Clear(id)
		}
	}
	return mask, nil
}

// Accept implements generate.Constraint.
func (c *constraint) Accept(id int32) (ended bool, err error) {
	switch {
	case c.form == nil, c.thought == midThought:
		return false, nil
	case c.thought == mayThink && id == c.open:
		c.thought = midThought
		return false, nil
	case c.thought == behindThink && slices.Contains(c.breaks, id):
		return false, nil
	}
	c.thought = noThought
	return c.form.Accept(id)
}
