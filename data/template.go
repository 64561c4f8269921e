package data

import (
	"fmt"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/tokenizer"
)

// Formatted is a Template that renders with a prompt format of package chat, as LLaMA-Factory does. The format's
// Trusted should be set: control tokens that a dataset spells are meant.
type Formatted struct {
	Format *chat.Format
	// LastOnly says that only the last answer of a conversation is scored (mask_history, and every stage but sft):
	// formats with thoughts then drop those of earlier answers.
	LastOnly bool
}

// EncodePairs implements Template.
func (f Formatted) EncodePairs(system, tools string, turns []Turn) ([]Pair, error) {
	plain := make([]chat.Turn, len(turns))
	for i, t := range turns {
		plain[i] = chat.Turn{Role: t.Role, Content: t.Content}
		if t.Reasoning != "" {
			plain[i].Content = chat.Thought(t.Reasoning) + t.Content
		}
	}
	rounds, err := f.Format.Pairs(system, tools, plain, f.LastOnly)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	pairs := make([]Pair, len(rounds))
	for i, r := range rounds {
		pairs[i] = Pair{Source: r.Source, Target: r.Target}
	}
	return pairs, nil
}

// Carried is a Template that renders with the chat template that a model carries.
type Carried struct {
	Template  *chat.Template
	Tokenizer *tokenizer.Tokenizer
	// Variables are further values that the template sees, such as enable_thinking; nil: none.
	Variables *jinja.Dict
}

// EncodePairs implements Template: a pair ends where a scored answer does.
func (t Carried) EncodePairs(system, tools string, turns []Turn) ([]Pair, error) {
	c := &chat.Conversation{Variables: t.Variables}
	if system != "" {
		c.Messages = append(c.Messages, chat.NewMessage(chat.System, system))
	}
	if tools != "" {
		list, err := jinja.ParseJSON([]byte(tools))
		if err != nil {
			return nil, fmt.Errorf("template: tools: %w", err)
		}
		if jinja.Truth(list) {
			c.Tools = list
		}
	}
	for i, turn := range turns {
		m, err := openAIMessage(turn)
		if err != nil {
			return nil, fmt.Errorf("template: turn %d: %w", i, err)
		}
		c.Messages = append(c.Messages, m)
	}
	ids, answers, err := t.Template.Marked(t.Tokenizer, c)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	var pairs []Pair
	at := 0
	for _, a := range answers {
		pairs = append(pairs, Pair{Source: ids[at:a[0]], Target: ids[a[0]:a[1]]})
		at = a[1]
	}
	if at < len(ids) {
		pairs = append(pairs, Pair{Source: ids[at:]})
	}
	return pairs, nil
}

// openAIMessage is a turn with OpenAI's fields.
func openAIMessage(t Turn) (*jinja.Dict, error) {
	role := t.Role
	if role == Observation {
		role = chat.Tool
	}
	if role != Function {
		m := chat.NewMessage(role, "")
		m.SetString("content", chat.Content(t.Content))
		if t.Reasoning != "" {
			m.SetString("reasoning_content", t.Reasoning)
		}
		return m, nil
	}
	m := chat.NewMessage(chat.Assistant, "")
	if t.Reasoning != "" {
		m.SetString("reasoning_content", t.Reasoning)
	}
	raw, wrap := []byte(t.ToolCalls), false
	if len(raw) == 0 {
		raw, wrap = []byte(t.Content), true
	}
	v, err := jinja.ParseJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("want function calls as JSON: %w", err)
	}
	calls, ok := v.(jinja.List)
	if !ok {
		calls = jinja.List{v}
	}
	if wrap {
		for i, c := range calls {
			d := jinja.NewDict()
			d.SetString("type", "function")
			d.SetString("function", c)
			calls[i] = d
		}
	}
	m.SetString("tool_calls", calls)
	return m, nil
}
