package recipe

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

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
	config, err := family.SavedConfig(j.source.config, changes)
	if err != nil {
		return err
	}
	generation, err := j.generationConfig(config)
	if err != nil {
		return err
	}
	if err := t.Save(dir); err != nil {
		return err
	}
	for name, data := range map[string][]byte{"config.json": config, "generation_config.json": generation} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("recipe: %w", err)
		}
	}
	return nil
}

// generationConfig is the model's own generation_config.json, or one with the token ids of its config.
func (j *job) generationConfig(config []byte) ([]byte, error) {
	if j.source.files != nil {
		if data, err := os.ReadFile(filepath.Join(j.source.path, "generation_config.json")); err == nil {
			return data, nil
		}
	}
	var c map[string]any
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("recipe: config.json: %w", err)
	}
	g := map[string]any{"_from_model_config": true}
	for _, key := range []string{"bos_token_id", "eos_token_id", "pad_token_id"} {
		if c[key] != nil {
			g[key] = c[key]
		}
	}
	out, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("recipe: generation_config.json: %w", err)
	}
	return append(out, '\n'), nil
}
