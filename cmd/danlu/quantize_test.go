package main

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/engine/ref"
	"danlu/family"
	"danlu/generate"
	"danlu/weights"
)

// tiny writes a small random model whose rows are whole blocks of 32 and returns its folder.
func tiny(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	config := `{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
		"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 128,
		"rms_norm_eps": 1e-6, "initializer_range": 0.2, "tie_word_embeddings": false}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	m, _, err := family.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	specs, err := family.Params(m)
	if err != nil {
		t.Fatal(err)
	}
	store := ref.New().NewStore()
	for _, s := range specs {
		if err := store.Declare(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := weights.Init(store, specs, 1); err != nil {
		t.Fatal(err)
	}
	if err := weights.Save(dir, store, specs, weights.SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestQuantize(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "tiny.gguf")
	dir := tiny(t)
	status, out, errs := execute(t, "quantize", dir, dst, "--type", "q8_0", "--json", "-q")
	if status != exitOK {
		t.Fatalf("status %d: %s", status, errs)
	}
	var report struct {
		Bytes  int64            `json:"bytes"`
		DTypes map[string]int64 `json:"dtypes"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Bytes == 0 || report.DTypes["q8_0"] == 0 {
		t.Fatalf("report %s: %v", out, err)
	}
	ids := make([]int32, 64)
	for i := range ids {
		ids[i] = int32(i * 7 % 100)
	}
	how := inference{quant: "keep", precision: "f32"}
	source, _ := openRunner(t, how, dir, generate.Options{Context: 32})
	o := generate.PerplexityOptions{Window: 32, BOS: -1}
	same, err := generate.Compare(context.Background(), source, source, ids, o)
	if err != nil {
		t.Fatal(err)
	}
	if !(same.KL < 1e-9) || same.Top1 != 1 || same.Model.Value() != same.Source.Value() || same.Source.Scored != 30 {
		t.Errorf("a model differs from itself: %+v", same)
	}
	stored, _ := openRunner(t, how, dst, generate.Options{Context: 32})
	f, err := generate.Compare(context.Background(), source, stored, ids, o)
	if err != nil {
		t.Fatal(err)
	}
	if !(f.KL > 0 && f.KL < 1e-2) || !(math.Abs(f.Model.Value()/f.Source.Value()-1) < 0.03) {
		t.Errorf("q8_0 is far from its source: KL %v, perplexities %v and %v", f.KL, f.Source.Value(), f.Model.Value())
	}
	// Quantizing on load gives the file's weights.
	onLoad, _ := openRunner(t, inference{quant: "q8_0", precision: "f32"}, dir, generate.Options{Context: 32})
	if a, b := prefillAll(t, stored, ids[:20]), prefillAll(t, onLoad, ids[:20]); !slices.Equal(a, b) {
		t.Error("quantizing on load and in a file differ")
	}
}

func TestQuantizeRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"quantize", tiny(t), filepath.Join(t.TempDir(), "x.gguf"), "--type", "q9"},
		{"quantize", tiny(t), filepath.Join(t.TempDir(), "x.safetensors"), "--type", "q8_0"},
		{"quantize", filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "x.gguf"), "--type", "q8_0"},
		{"perplexity", tiny(t)},
		{"bench", "infer", tiny(t), "--quant", "q9"},
		{"bench", "infer", tiny(t), "--dtype", "q4_0"},
		{"bench", "infer", tiny(t), "--cache", "q4_0"},
		{"bench", "infer", tiny(t), "-p", "0", "-n", "0"},
	} {
		if status, _, errs := execute(t, args...); status != exitInput || errs == "" {
			t.Errorf("%v: status %d, %q", args, status, errs)
		}
	}
}

func TestBenchInfer(t *testing.T) {
	status, out, errs := execute(t, "bench", "infer", tiny(t), "-p", "20", "-n", "5", "--reps", "2", "--json")
	var report struct {
		Prefill []float64 `json:"prefill_tokens_per_s"`
		Decode  []float64 `json:"decode_tokens_per_s"`
	}
	if err := json.Unmarshal([]byte(out), &report); status != exitOK || err != nil || len(report.Prefill) != 2 || len(report.Decode) != 2 || report.Decode[0] <= 0 {
		t.Errorf("status %d, %q, %q: %v", status, out, errs, err)
	}
}
