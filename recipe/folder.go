package recipe

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"danlu/chat"
	"danlu/dtype"
	"danlu/family"
	"danlu/tokenizer"
)

// writeFolder writes what a model folder holds beside the weights.
func (j *job) writeFolder(dir string, t *tokenizer.Tokenizer, kind dtype.DType) error {
	changes := map[string]any{"torch_dtype": configNames[kind]}
	if j.source.files == nil {
		for key, id := range map[string]int32{"bos_token_id": t.BOS(), "eos_token_id": t.EOS(), "pad_token_id": t.PAD()} {
			if id >= 0 {
				changes[key] = id
			}
		}
	}
	if f, ok := j.source.model.(family.BlankFiller); ok {
		maps.Copy(changes, family.BlankConfig(f.Blanks()))
	}
	config, err := family.SavedConfig(j.source.config, changes)
	if err != nil {
		return err
	}
	if err := t.Save(dir); err != nil {
		return err
	}
	tokens, err := readObject(filepath.Join(dir, "tokenizer_config.json"))
	if err != nil {
		return err
	}
	files := map[string]any{}
	if j.addFormat(tokens, t) {
		files["tokenizer_config.json"] = tokens
	}
	if t.Original()["special_tokens_map.json"] == nil || files["tokenizer_config.json"] != nil {
		files["special_tokens_map.json"] = specialTokens(tokens)
	}
	if files["generation_config.json"], err = j.generationConfig(config); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644); err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	for name, v := range files {
		if err := writeJSON(filepath.Join(dir, name), v); err != nil {
			return err
		}
	}
	if err := j.copySettings(dir); err != nil {
		return err
	}
	return j.copyTexts(dir)
}

func readObject(path string) (map[string]any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	var o map[string]any
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("recipe: %s: %w", path, err)
	}
	return o, nil
}

// addFormat puts the prompt format that the model was trained with into its tokenizer_config.json: the end token of its
// answers, and a chat template where the model carries none. It reports whether anything changed.
func (j *job) addFormat(config map[string]any, t *tokenizer.Tokenizer) (changed bool) {
	if j.format == nil || j.format.Format == nil {
		return false
	}
	f := j.format.Format
	if id := f.EOS(); id >= 0 && id != t.EOS() {
		config["eos_token"], changed = t.Piece(id), true
	}
	if t.PAD() < 0 && f.EOS() >= 0 {
		config["pad_token"], changed = t.Piece(f.EOS()), true
	}
	if _, err := chat.FromModel(j.source.path, t); j.source.files == nil || errors.Is(err, chat.ErrNoTemplate) {
		config["chat_template"], changed = f.Jinja(), true
	}
	return changed
}

// specialTokens is special_tokens_map.json: the tokens of a tokenizer_config.json that have a role.
func specialTokens(config map[string]any) map[string]any {
	m := map[string]any{}
	for _, key := range []string{"bos_token", "eos_token", "pad_token", "unk_token", "additional_special_tokens"} {
		if config[key] != nil {
			m[key] = config[key]
		}
	}
	return m
}

// copyTexts copies what goes with the model wherever it goes: its licence.
func (j *job) copyTexts(dir string) error {
	if j.source.files == nil {
		return nil
	}
	for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE"} {
		data, err := os.ReadFile(filepath.Join(j.source.path, name))
		if err != nil {
			continue // there is none
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("recipe: %w", err)
		}
	}
	return nil
}

// generationConfig is the model's own generation_config.json, or one with the token ids of its config. Answers of the
// format that was trained end the text.
func (j *job) generationConfig(config []byte) (map[string]any, error) {
	g := map[string]any{"_from_model_config": true}
	if own, err := readObject(filepath.Join(j.source.path, "generation_config.json")); err == nil && j.source.files != nil {
		g = own
	} else {
		var c map[string]any
		if err := json.Unmarshal(config, &c); err != nil {
			return nil, fmt.Errorf("recipe: config.json: %w", err)
		}
		for _, key := range []string{"bos_token_id", "eos_token_id", "pad_token_id"} {
			if c[key] != nil {
				g[key] = c[key]
			}
		}
	}
	if j.format == nil {
		return g, nil
	}
	ends := idList(g["eos_token_id"])
	stops, _ := j.format.Stop()
	for _, id := range stops {
		if !slices.Contains(ends, id) {
			ends = append(ends, id)
		}
	}
	if len(ends) > 0 {
		g["eos_token_id"] = ends
	}
	return g, nil
}

// idList reads one id or a list of them.
func idList(v any) []int32 {
	switch x := v.(type) {
	case float64:
		return []int32{int32(x)}
	case []any:
		var ids []int32
		for _, e := range x {
			if id, ok := e.(float64); ok {
				ids = append(ids, int32(id))
			}
		}
		return ids
	}
	return nil
}
