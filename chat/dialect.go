package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"danlu/chat/jinja"
	"danlu/tokenizer"
)

// Dialect is how one model converses: by the template that it carries, or by a format. Exactly one of both is set. It
// is safe for concurrent use.
type Dialect struct {
	Template *Template
	Format   *Format

	tok      *tokenizer.Tokenizer
	controls *strings.Replacer // breaks up control tokens that a message spells
}

// Open returns the dialect of a model: the named format, or the model's own template when name is "".
func Open(path, name string, tok *tokenizer.Tokenizer) (*Dialect, error) {
	if name != "" {
		f, err := Lookup(name, tok)
		if err != nil {
			return nil, err
		}
		return NewDialect(nil, f, tok), nil
	}
	t, err := FromModel(path, tok)
	if err != nil {
		return nil, err
	}
	return NewDialect(t, nil, tok), nil
}

// NewDialect binds a template or a format to a tokenizer.
func NewDialect(t *Template, f *Format, tok *tokenizer.Tokenizer) *Dialect {
	d := &Dialect{Template: t, Format: f, tok: tok}
	var pairs []string
	for id := range int32(tok.VocabSize()) {
		// Ends of thoughts are left whole: templates look for them in answers, and nothing is gained by spelling one.
		if piece := tok.Piece(id); tok.Kind(id) == tokenizer.Control && len([]rune(piece)) > 1 && !slices.Contains(thoughtTags, piece) {
			r := []rune(piece)
			pairs = append(pairs, piece, string(r[0])+breaker+string(r[1:]))
		}
	}
	// The replacer takes the first of its arguments that fits, so that longer spellings have to come first.
	sortPairs(pairs)
	d.controls = strings.NewReplacer(pairs...)
	return d
}

// Name says what the dialect renders with.
func (d *Dialect) Name() string {
	if d.Format != nil {
		return d.Format.Name()
	}
	return "the model's own"
}

// Prompt is a conversation as the model reads it.
type Prompt struct {
	IDs  []int32
	Text string // "" for formats, which are made of ids
}

// Prompt renders a conversation and encodes it. Control tokens that messages spell are plain text.
func (d *Dialect) Prompt(c *Conversation) (Prompt, error) {
	if d.Format != nil {
		ids, err := d.Format.conversation(c)
		return Prompt{IDs: ids}, err
	}
	parts, err := d.parts(c)
	if err != nil {
		return Prompt{}, err
	}
	p := Prompt{IDs: d.tok.EncodeParts(parts)}
	for _, x := range parts {
		p.Text += x.Text
	}
	return p, nil
}

// Stop returns the tokens that end an answer, and the strings that do where there is no token for them.
func (d *Dialect) Stop() (ids []int32, words []string) {
	if d.Format != nil {
		return d.Format.Stop()
	}
	if id := d.tok.EOS(); id >= 0 {
		ids = append(ids, id)
	}
	// Files of base models name the end of a document as the end token, while the template ends turns by another one.
	source := d.Template.Source()
	for _, w := range turnEnds {
		if id, ok := d.tok.ID(w); ok && strings.Contains(source, w) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// turnEnds are tokens that end an answer in the families here, by templates that write them.
var turnEnds = []string{"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|user|>", "<|observation|>", "<｜end▁of▁sentence｜>"}

// conversation renders messages with the format.
func (f *Format) conversation(c *Conversation) ([]int32, error) {
	if c.Continue {
		return nil, fmt.Errorf("chat: template %s: continuing the last message needs a model's own template", f.spec.name)
	}
	system, turns, err := f.turns(c.Messages)
	if err != nil {
		return nil, err
	}
	tools := ""
	if c.Tools != nil {
		if tools, err = jinja.DumpJSON(c.Tools, jinja.JSONStyle{}); err != nil {
			return nil, fmt.Errorf("chat: tools: %w", err)
		}
	}
	g := *f
	if c.Variables != nil {
		if v, ok := c.Variables.Get("enable_thinking"); ok {
			g.Thinking = jinja.Truth(v)
		}
	}
	if c.Open {
		return g.Prompt(system, tools, turns)
	}
	pairs, err := g.Pairs(system, tools, turns, true)
	var ids []int32
	for _, p := range pairs {
		ids = append(append(ids, p.Source...), p.Target...)
	}
	return ids, err
}

// turns reads messages with OpenAI's fields as a format's turns.
func (f *Format) turns(messages []*jinja.Dict) (system string, turns []Turn, err error) {
	for i, m := range messages {
		content, err := contentText(m)
		if err != nil {
			return "", nil, fmt.Errorf("chat: messages[%d]: %w", i, err)
		}
		t := Turn{Role: role(m), Content: content}
		switch t.Role {
		case System, "developer":
			if i != 0 {
				return "", nil, fmt.Errorf("chat: messages[%d]: template %s takes a system message in the first place only", i, f.spec.name)
			}
			system = content
			continue
		case Tool, Observation, "ipython":
			t.Role = Observation
			if n := len(turns); n > 0 && turns[n-1].Role == Observation {
				sep := "\n"
				if f.ToolFormat == "qwen" {
					sep = "\n</tool_response>\n<tool_response>\n"
				}
				turns[n-1].Content += sep + content
				continue
			}
		case Assistant, Function:
			if calls, _ := m.Get("tool_calls"); jinja.Truth(calls) {
				t.Role = Function
				if t.Content, err = callsJSON(calls); err != nil {
					return "", nil, fmt.Errorf("chat: messages[%d]: tool_calls: %w", i, err)
				}
			}
			if r := entry(m, "reasoning_content"); r != "" && f.spec.reasoning {
				t.Content = Thought(r) + t.Content
			}
		case User:
			t.Content = f.spec.sees.onLines(t.Content)
		default:
			return "", nil, fmt.Errorf("chat: messages[%d]: role: template %s knows system, user, assistant and tool, got %q", i, f.spec.name, t.Role)
		}
		asks := t.Role == User || t.Role == Observation
		if asks != (len(turns)%2 == 0) {
			return "", nil, fmt.Errorf("chat: messages[%d]: template %s takes questions and answers in turn", i, f.spec.name)
		}
		turns = append(turns, t)
	}
	return system, turns, nil
}

// contentText is a message's content as a marked text: a string, none, or its parts.
func contentText(m *jinja.Dict) (string, error) {
	v, _ := m.Get("content")
	switch x := v.(type) {
	case nil:
		return "", nil
	case string:
		return Unmarked(x), nil
	case jinja.List:
		return markedText(x)
	}
	return "", errors.New("content: want a string or a list of parts")
}

// callsJSON reduces OpenAI tool calls to the list of {name, arguments} that formats read.
func callsJSON(v jinja.Value) (string, error) {
	list, ok := v.(jinja.List)
	if !ok {
		return "", errors.New("want a list")
	}
	out := jinja.List{}
	for i, x := range list {
		d, ok := x.(*jinja.Dict)
		if !ok {
			return "", fmt.Errorf("entry %d: want an object", i)
		}
		if inner, ok := d.Get("function"); ok {
			if d, ok = inner.(*jinja.Dict); !ok {
				return "", fmt.Errorf("entry %d: function: want an object", i)
			}
		}
		c := jinja.NewDict()
		c.SetString("name", entry(d, "name"))
		arguments, _ := d.Get("arguments")
		if s, ok := arguments.(string); ok { // OpenAI writes the object as a string
			if parsed, err := jinja.ParseJSON([]byte(s)); err == nil {
				arguments = parsed
			}
		}
		c.SetString("arguments", arguments)
		out = append(out, c)
	}
	return jinja.DumpJSON(out, jinja.JSONStyle{})
}
