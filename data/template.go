package data

import (
	"fmt"

	"danlu/chat"
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
