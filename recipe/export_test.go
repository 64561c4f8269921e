package recipe

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/family"
)

// firstLoss is the loss before anything has changed much.
func firstLoss(t *testing.T, words []string) float64 {
	t.Helper()
	_, lines := runRecipe(t, t.Context(), append(words, "learning_rate=1e-9", "max_steps=1")...)
	return lines[0]["loss"].(float64)
}

// A merged model computes what its base did with the adapter, also where the base was quantized.
func TestMerge(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	base, data := trainedBase(t), writeRows(t, questions(24)...)
	for _, keys := range [][]string{{"lora_rank=4"}, {"use_dora=true"}, {"pissa_init=true"}, {"quantization_bit=4"}, {"quantization_bit=8"}} {
		quantized := strings.HasPrefix(keys[0], "quantization")
		run, _ := runRecipe(t, t.Context(), sftOn(base, data, t.TempDir(), keys...)...)
		words := []string{"adapter_name_or_path=" + run}
		out := filepath.Join(t.TempDir(), "merged")
		export := append([]string{"model_name_or_path=" + base, "export_dir=" + out}, words...)
		if quantized {
			words, export = append(words, keys[0]), append(export, keys[0])
		}
		r, err := LoadExport("", export)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Merge(r, ExportOptions{}); err != nil {
			t.Fatal(err)
		}
		beside := firstLoss(t, sftOn(base, data, t.TempDir(), words...))
		merged := firstLoss(t, sftOn(out, data, t.TempDir(), "finetuning_type=full"))
		if !(math.Abs(beside-merged) < 1e-4) {
			t.Errorf("%v: loss %v with the adapter beside the base, %v merged", keys, beside, merged)
		}
		for _, name := range []string{"config.json", "tokenizer.json"} {
			if _, err := os.Stat(filepath.Join(out, name)); err != nil {
				t.Error(err)
			}
		}
		r.Export.Dir = filepath.Join(t.TempDir(), "merged.gguf")
		if _, err := Merge(r, ExportOptions{}); err != nil {
			t.Fatal(err)
		}
		c, err := family.Open(r.Export.Dir)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	for _, c := range [][]string{
		{"export_dir"}, {"model_name_or_path", "export_dir=" + t.TempDir()},
		{"adapter_name_or_path", "model_name_or_path=" + base, "export_dir=" + filepath.Join(t.TempDir(), "x"), "adapter_name_or_path=" + t.TempDir()},
	} {
		words := c[1:]
		if c[0] == "export_dir" {
			words = []string{"model_name_or_path=" + base}
		}
		r, err := LoadExport("", words)
		if err == nil {
			_, err = Merge(r, ExportOptions{})
		}
		if err == nil || !strings.Contains(err.Error(), c[0]) {
			t.Errorf("want an error that names %s, got %v", c[0], err)
		}
	}
}
