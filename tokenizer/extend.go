package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Extend adds tokens behind a vocabulary and returns how many it lacked. They are matched wherever their text stands;
// special ones are control tokens. Tokens that are there keep their ids, and become special where that is asked for. The
// masks of BlankTokens take the white space before them, which belongs to the piece that fills them, as in GLM.
func (t *Tokenizer) Extend(texts []string, special bool) (int, error) {
	var list []AddedToken
	added := 0
	for _, text := range texts {
		if text == "" {
			return 0, t.fail("added tokens", "want texts, got an empty one")
		}
		id, known := t.ID(text)
		switch {
		case known && (!special || t.kinds[id] == Control):
			continue
		case !known:
			id = int32(len(t.pieces) + added)
			added++
		}
		list = append(list, AddedToken{ID: id, Content: text, Special: special, LStrip: slices.Contains(BlankTokens[:3], text)})
	}
	if len(list) == 0 {
		return 0, nil
	}
	if data := t.original["tokenizer.json"]; data != nil {
		edited, err := addToJSON(data, list)
		if err != nil {
			return 0, t.fail("added_tokens", "%v", err)
		}
		t.original["tokenizer.json"] = edited
	}
	t.addTokens(list)
	return added, nil
}

// addToJSON puts tokens into the added_tokens of a tokenizer.json and leaves the rest as it is.
func addToJSON(data []byte, list []AddedToken) ([]byte, error) {
	var file map[string]json.RawMessage
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	var tokens []json.RawMessage
	if raw, ok := file["added_tokens"]; ok {
		if err := json.Unmarshal(raw, &tokens); err != nil {
			return nil, err
		}
	}
	for _, a := range list {
		raw, err := marshal(object{"id": a.ID, "content": a.Content, "single_word": false, "lstrip": a.LStrip, "rstrip": false, "normalized": false, "special": a.Special}, "")
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, raw)
	}
	raw, err := marshal(tokens, "")
	if err != nil {
		return nil, fmt.Errorf("added_tokens: %w", err)
	}
	file["added_tokens"] = raw
	return marshal(file, "  ")
}
