package generate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Defaults is what a model's publisher says about generating with it: generation_config.json.
type Defaults struct {
	Sampling Sampling
	Sampled  bool    // the file says whether to sample (do_sample)
	End      []int32 // eos_token_id
}

// ReadDefaults reads generation_config.json of a model folder. A folder without one, and a single file, have none.
func ReadDefaults(path string) (Defaults, error) {
	var d Defaults
	if strings.HasSuffix(path, ".safetensors") {
		path = filepath.Dir(path)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return d, err
	}
	file := filepath.Join(path, "generation_config.json")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, fmt.Errorf("generate: %w", err)
	}
	// Left-out values are transformers' own defaults.
	var c struct {
		Sample     *bool           `json:"do_sample"`
		Temp       *float64        `json:"temperature"`
		TopK       *int            `json:"top_k"`
		TopP       *float64        `json:"top_p"`
		MinP       *float64        `json:"min_p"`
		Typical    *float64        `json:"typical_p"`
		Repetition *float64        `json:"repetition_penalty"`
		NGram      *int            `json:"no_repeat_ngram_size"`
		EOS        json.RawMessage `json:"eos_token_id"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return d, fmt.Errorf("generate: %s: %w", file, err)
	}
	var one int32
	switch {
	case len(c.EOS) == 0 || string(c.EOS) == "null":
	case json.Unmarshal(c.EOS, &one) == nil:
		d.End = []int32{one}
	case json.Unmarshal(c.EOS, &d.End) != nil:
		return d, fmt.Errorf("generate: %s: eos_token_id: want a number or a list, got %s", file, c.EOS)
	}
	s := &d.Sampling
	s.RepetitionPenalty, s.NoRepeatNGram = or(c.Repetition, 0), or(c.NGram, 0)
	if d.Sampled = c.Sample != nil; d.Sampled && *c.Sample {
		s.Temperature, s.TopK, s.TopP = or(c.Temp, 1), or(c.TopK, 50), or(c.TopP, 1)
		s.MinP, s.Typical = or(c.MinP, 0), or(c.Typical, 0)
	}
	if err := s.Validate(); err != nil {
		return d, fmt.Errorf("generate: %s: %w", file, err)
	}
	return d, nil
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
