package generate

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestReadDefaults(t *testing.T) {
	for _, c := range []struct {
		config string
		want   Sampling
		sample bool
		end    []int32
		bad    bool
	}{
		{"", Sampling{}, false, nil, false},
		{`{"do_sample": true, "temperature": 0.6, "top_p": 0.95, "eos_token_id": [1, 2]}`, Sampling{Temperature: 0.6, TopK: 50, TopP: 0.95}, true, []int32{1, 2}, false},
		{`{"do_sample": false, "temperature": 0.6, "eos_token_id": 7}`, Sampling{}, true, []int32{7}, false},
		{`{"temperature": 0.6, "repetition_penalty": 1.1}`, Sampling{RepetitionPenalty: 1.1}, false, nil, false},
		{`{"do_sample": true, "top_p": 7}`, Sampling{}, false, nil, true},
		{`{"eos_token_id": "x"}`, Sampling{}, false, nil, true},
		{`{`, Sampling{}, false, nil, true},
	} {
		dir := t.TempDir()
		if c.config != "" {
			if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(c.config), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		d, err := ReadDefaults(dir)
		if (err != nil) != c.bad {
			t.Errorf("%s: %v", c.config, err)
			continue
		}
		s := d.Sampling
		if !c.bad && (s.Temperature != c.want.Temperature || s.TopK != c.want.TopK || s.TopP != c.want.TopP || s.RepetitionPenalty != c.want.RepetitionPenalty ||
			d.Sampled != c.sample || !slices.Equal(d.End, c.end)) {
			t.Errorf("%s: got %+v", c.config, d)
		}
	}
}
