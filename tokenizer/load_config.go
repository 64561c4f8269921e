package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// readConfig takes the special tokens by role from special_tokens_map.json and tokenizer_config.json (which wins)
// beside the vocabulary.
func (t *Tokenizer) readConfig(dir, vocabulary string) error {
	for _, name := range []string{"special_tokens_map.json", "tokenizer_config.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("tokenizer: %w", err)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(data, &keys); err != nil {
			return fmt.Errorf("tokenizer: %s: %s: %w", t.Source, name, err)
		}
		t.original[name] = data
		for key, id := range map[string]*int32{"bos_token": &t.bos, "eos_token": &t.eos, "pad_token": &t.pad} {
			if found, ok := t.ID(tokenText(keys[key])); ok {
				*id = found
			}
		}
		if strings.HasSuffix(vocabulary, ".json") {
			continue // its post-processor says what is added
		}
		var add bool
		if json.Unmarshal(keys["add_bos_token"], &add) == nil {
			t.prefix = only(t.bos, add)
		}
		if json.Unmarshal(keys["add_eos_token"], &add) == nil {
			t.suffix = only(t.eos, add)
		}
	}
	return nil
}

// tokenText reads a token that is written as a string or as {"content": ...}; null and others are "".
func tokenText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var o struct {
		Content string `json:"content"`
	}
	if json.Unmarshal(raw, &o) == nil {
		return o.Content
	}
	return ""
}

// only is a list of one id, or none.
func only(id int32, add bool) []int32 {
	if !add || id < 0 {
		return nil
	}
	return []int32{id}
}
