package recipe

import (
	"danlu/chat"
	"danlu/data"
	"danlu/tokenizer"
)

// template renders the conversations of a dataset in the recipe's prompt format.
type template struct {
	*chat.Format
	lastOnly bool // mask_history
}

// template opens the prompt format that `template:` names.
func (j *job) template(t *tokenizer.Tokenizer) (*template, error) {
	d := &j.Data
	if d.Template == "" {
		return nil, j.Errorf("template", "is missing; it says how conversations are written")
	}
	f, err := chat.Lookup(d.Template, t)
	if err != nil {
		return nil, j.Errorf("template", "%v", err)
	}
	if d.DefaultSystem != nil {
		f.DefaultSystem = *d.DefaultSystem
	}
	if d.ToolFormat != "" {
		f.ToolFormat = d.ToolFormat
	}
	f.Thinking = d.EnableThinking == nil || *d.EnableThinking
	f.PreserveThinking, f.Trusted = d.PreserveThinking, !j.Model.SplitSpecial
	return &template{f, d.MaskHistory}, nil
}

// EncodePairs implements data.Template.
func (t *template) EncodePairs(system, tools string, turns []data.Turn) ([]data.Pair, error) {
	said := make([]chat.Turn, len(turns))
	for i, turn := range turns {
		said[i] = chat.Turn{Role: turn.Role, Content: turn.Content}
		if turn.Reasoning != "" {
			said[i].Content = chat.Thought(turn.Reasoning) + turn.Content
		}
	}
	rounds, err := t.Pairs(system, tools, said, t.lastOnly)
	if err != nil {
		return nil, err
	}
	pairs := make([]data.Pair, len(rounds))
	for i, r := range rounds {
		pairs[i] = data.Pair(r)
	}
	return pairs, nil
}
