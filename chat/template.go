package chat

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"danlu/chat/jinja"
)

// Template is the chat template that a model carries: Jinja sources under names, of which "default" and "tool_use" have
// a meaning, and the special-token strings that they read. It is safe for concurrent use.
type Template struct {
	// Now is what strftime_now tells; nil: the time of day.
	Now func() time.Time
	// Limits bound each rendering; zero values stand for jinja's defaults.
	Limits jinja.Limits

	named  map[string]*jinja.Template
	tokens *jinja.Dict // bos_token and so on
}

// NewTemplate parses one template. tokens are the special-token strings it reads (bos_token, eos_token, ...); nil: none.
func NewTemplate(source string, tokens *jinja.Dict) (*Template, error) {
	return newTemplates(map[string]string{"default": source}, tokens)
}

func newTemplates(sources map[string]string, tokens *jinja.Dict) (*Template, error) {
	t := &Template{named: map[string]*jinja.Template{}, tokens: tokens}
	if t.tokens == nil {
		t.tokens = jinja.NewDict()
	}
	for name, source := range sources {
		parsed, err := jinja.Parse(source)
		if err != nil {
			return nil, fmt.Errorf("chat: template %s: %w", name, err)
		}
		t.named[name] = parsed
	}
	return t, nil
}

// choose picks the template for a conversation: tool_use where there are tools, else default.
func (t *Template) choose(c *Conversation) (*jinja.Template, error) {
	name := "default"
	if _, ok := t.named["tool_use"]; ok && c.Tools != nil {
		name = "tool_use"
	}
	if p, ok := t.named[name]; ok {
		return p, nil
	}
	if len(t.named) == 1 {
		for _, p := range t.named {
			return p, nil
		}
	}
	return nil, fmt.Errorf("chat: the model has several templates and none is named %q", name)
}

// Source returns the text of the template for conversations without tools.
func (t *Template) Source() string {
	p, err := t.choose(&Conversation{})
	if err != nil {
		return ""
	}
	return p.Source()
}

// Render returns the text of a conversation. A template's own refusal is a *jinja.RaisedError.
func (t *Template) Render(c *Conversation) (string, error) {
	r, err := t.render(c, c.Messages)
	return r.Text, err
}

func (t *Template) render(c *Conversation, messages []*jinja.Dict) (jinja.Result, error) {
	p, err := t.choose(c)
	if err != nil {
		return jinja.Result{}, err
	}
	list := prepared(messages)
	final := ""
	if c.Continue {
		if c.Open {
			return jinja.Result{}, errors.New("chat: a conversation is either opened for an answer or its last message continued, not both")
		}
		if final, err = tagFinal(list); err != nil {
			return jinja.Result{}, err
		}
	}
	vars := t.tokens.Clone()
	if c.Variables != nil {
		for i := range c.Variables.Len() {
			k, v := c.Variables.At(i)
			if err := vars.Set(k, v); err != nil {
				return jinja.Result{}, err
			}
		}
	}
	vars.SetString("messages", list)
	vars.SetString("tools", c.Tools)
	vars.SetString("documents", c.Documents)
	vars.SetString("add_generation_prompt", c.Open)
	res, err := p.Render(vars, jinja.Options{Limits: t.Limits, Now: t.Now})
	if err != nil {
		return jinja.Result{}, fmt.Errorf("chat: %w", err)
	}
	if c.Continue {
		return cutFinal(res, final)
	}
	return res, nil
}

// finalTag marks the end of the message to be continued while a template renders it; the space tells whether the
// template keeps white space at a message's end.
const finalTag = "CONTINUE_FINAL_MESSAGE_TAG "

// tagFinal puts the tag behind the last message's text, which it returns. Messages are copied, not changed.
func tagFinal(list jinja.List) (string, error) {
	if len(list) == 0 {
		return "", errors.New("chat: continue_final_message: there is no message")
	}
	last := list[len(list)-1].(*jinja.Dict).Clone()
	list[len(list)-1] = last
	v, _ := last.Get("content")
	switch content := v.(type) {
	case string:
		last.SetString("content", content+finalTag)
		return content, nil
	case jinja.List:
		parts := append(jinja.List(nil), content...)
		for i := len(parts) - 1; i >= 0; i-- {
			part, ok := parts[i].(*jinja.Dict)
			if !ok {
				continue
			}
			if text, ok := part.Get("text"); ok && isString(text) {
				tagged := part.Clone()
				tagged.SetString("text", text.(string)+finalTag)
				parts[i] = tagged
				last.SetString("content", parts)
				return text.(string), nil
			}
		}
	}
	return "", errors.New("chat: continue_final_message: the last message has no text to continue")
}

// cutFinal cuts a rendered text at the tag.
func cutFinal(res jinja.Result, final string) (jinja.Result, error) {
	bare := strings.TrimSpace(finalTag)
	at := strings.LastIndex(res.Text, bare)
	if at < 0 || !strings.Contains(res.Text, strings.TrimSpace(final)) {
		return jinja.Result{}, errors.New("chat: continue_final_message: the template does not render the last message's text as it is")
	}
	kept := strings.HasPrefix(res.Text[at:], finalTag)
	if res.Text = res.Text[:at]; !kept {
		res.Text = strings.TrimRight(res.Text, " \t\r\n\v\f")
	}
	var spans []jinja.Span
	for _, s := range res.Generated {
		if s.End = min(s.End, len(res.Text)); s.Start < s.End {
			spans = append(spans, s)
		}
	}
	res.Generated = spans
	return res, nil
}
