package chat

import (
	"errors"
	"fmt"

	"danlu/chat/jinja"
)

// Conversation is what a template renders.
type Conversation struct {
	Messages  []*jinja.Dict // OpenAI's fields, in the order they were given; others are kept for templates that read them
	Tools     jinja.Value   // a jinja.List of tools; nil: none
	Documents jinja.Value   // nil: none
	// Open ends the text with the opening of an answer (add_generation_prompt).
	Open bool
	// Continue leaves the last message open, to be continued (continue_final_message).
	Continue bool
	// Variables are further values that the template sees, such as enable_thinking (chat_template_kwargs).
	Variables *jinja.Dict
}

// SetThinking tells the template whether to think (enable_thinking), in a copy of the variables; nil leaves it to the
// template.
func (c *Conversation) SetThinking(on *bool) {
	if on == nil {
		return
	}
	v := jinja.NewDict()
	if c.Variables != nil {
		v = c.Variables.Clone()
	}
	v.SetString("enable_thinking", *on)
	c.Variables = v
}

// ParseConversation reads a JSON list of messages, or an object of messages, tools, documents, add_generation_prompt,
// continue_final_message, and kwargs (or chat_template_kwargs). A list alone is rendered with the opening of an answer
// unless it ends with one.
func ParseConversation(data []byte) (*Conversation, error) {
	v, err := jinja.ParseJSON(data)
	if err != nil {
		return nil, fmt.Errorf("chat: messages: %w", err)
	}
	c := &Conversation{}
	list, ok := v.(jinja.List)
	o, isObject := v.(*jinja.Dict)
	if isObject {
		m, _ := o.Get("messages")
		list, ok = m.(jinja.List)
	}
	if !ok {
		return nil, errors.New("chat: messages: want a JSON list of messages, or an object with one under \"messages\"")
	}
	for i, x := range list {
		m, ok := x.(*jinja.Dict)
		if !ok {
			return nil, fmt.Errorf("chat: messages[%d]: want an object with role and content", i)
		}
		if role, _ := m.Get("role"); !isString(role) {
			return nil, fmt.Errorf("chat: messages[%d]: role: want a string", i)
		}
		c.Messages = append(c.Messages, m)
	}
	if !isObject {
		c.Open = len(c.Messages) > 0 && role(c.Messages[len(c.Messages)-1]) != Assistant
		return c, nil
	}
	return c, c.readObject(o)
}

func (c *Conversation) readObject(o *jinja.Dict) error {
	for i := range o.Len() {
		key, v := o.At(i)
		ok := true
		switch key {
		case "messages":
		case "tools", "documents":
			_, isList := v.(jinja.List)
			if ok = isList || v == nil; key == "tools" {
				c.Tools = v
			} else {
				c.Documents = v
			}
		case "add_generation_prompt":
			c.Open, ok = v.(bool)
		case "continue_final_message":
			c.Continue, ok = v.(bool)
		case "kwargs", "chat_template_kwargs":
			c.Variables, ok = v.(*jinja.Dict)
			ok = ok || v == nil
		case "name", "rendered", "error", "raised": // the rest of a recorded case
		default:
			return fmt.Errorf("chat: %v: unknown key; known are messages, tools, documents, add_generation_prompt, continue_final_message and kwargs", key)
		}
		if !ok {
			return fmt.Errorf("chat: %v: wrong type %s", key, jinja.Repr(v))
		}
	}
	return nil
}

// NewMessage returns a message of a role and a text.
func NewMessage(role, content string) *jinja.Dict {
	m := jinja.NewDict()
	m.SetString("role", role)
	m.SetString("content", content)
	return m
}

func isString(v jinja.Value) bool { _, ok := v.(string); return ok }

// text of a string entry, "" otherwise.
func entry(d *jinja.Dict, key string) string {
	v, _ := d.Get(key)
	s, _ := v.(string)
	return s
}

func role(m *jinja.Dict) string { return entry(m, "role") }

// prepared are the messages as templates expect them: the first of reasoning_content, thinking and reasoning is stored
// as reasoning_content, and as thinking if that is absent.
func prepared(messages []*jinja.Dict) jinja.List {
	out := make(jinja.List, len(messages))
	for i, m := range messages {
		out[i] = m
		for _, key := range []string{"reasoning_content", "thinking", "reasoning"} {
			v, _ := m.Get(key)
			if v == nil {
				continue
			}
			d := m
			if _, ok := m.Get("thinking"); ok {
				d = m.Clone()
			} else {
				d = jinja.NewDict()
				d.SetString("thinking", v)
				for k := range m.Len() {
					key, x := m.At(k)
					d.SetString(key.(string), x)
				}
			}
			d.SetString("reasoning_content", v)
			out[i] = d
			break
		}
	}
	return out
}
