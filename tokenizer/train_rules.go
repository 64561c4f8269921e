package tokenizer

import "fmt"

// normalizationRule returns SentencePiece's precompiled map of a rule, nil for identity.
func normalizationRule(name string) (*charsmap, error) {
	if name == "identity" {
		return nil, nil
	}
	return nil, fmt.Errorf("tokenizer: train: normalization_rule_name: want identity, got %q", clip(name))
}
