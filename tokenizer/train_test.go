package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/internal/numtest"
)

func TestGoldenByteTraining(t *testing.T) {
	root := numtest.Goldens(t, "tokenizer_training")
	dirs, _ := filepath.Glob(filepath.Join(root, "*"))
	cases := 0
	for _, dir := range dirs {
		var o struct {
			Trainer   string
			Input     []string
			VocabSize int      `json:"vocab_size"`
			MinFreq   int64    `json:"min_frequency"`
			Special   []string `json:"special_tokens"`
			Pattern   []string
			Norm      *string `json:"normalizer"`
		}
		b, err := os.ReadFile(filepath.Join(dir, "options.json"))
		if err != nil {
			continue
		}
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		if o.Trainer != "HF tokenizers BpeTrainer" {
			continue
		}
		tr := &ByteTrainer{VocabSize: o.VocabSize, MinFrequency: o.MinFreq, SpecialTokens: o.Special, NFC: o.Norm != nil && *o.Norm == "NFC"}
		if o.Pattern[0] != "GPT2" {
			tr.Pattern = o.Pattern[0]
		}
		for _, in := range o.Input {
			f, err := os.Open(filepath.Join(root, "corpus", in))
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.AddReader(f); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		got, err := tr.Train()
		if err != nil {
			t.Fatal(err)
		}
		want, err := Load(filepath.Join(dir, "tokenizer.json"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.pieces, want.pieces) {
			for i := range want.pieces {
				if i >= len(got.pieces) || got.pieces[i] != want.pieces[i] {
					t.Errorf("%s: first difference at id %d: want %q", filepath.Base(dir), i, want.pieces[i])
					break
				}
			}
		}
		for _, c := range readLines[goldenCase](t, filepath.Join(dir, "cases.jsonl")) {
			if ids := got.Encode(c.Text, Options{ParseSpecial: true}); !slices.Equal(ids, c.IDs) {
				t.Errorf("%s: encode %q: got %v, want %v", filepath.Base(dir), clip(c.Text), ids, c.IDs)
			}
			cases++
		}
	}
	numtest.Count(t, "tokenizer_training byte-level", cases)
}
