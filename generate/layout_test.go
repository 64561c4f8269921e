package generate

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/internal/numtest"
	"danlu/weights"
)

// runnerOf runs a model with weights of a source, random ones where it is nil.
func runnerOf(t *testing.T, m family.Model, src weights.Source, opts Options) *Runner {
	t.Helper()
	eng, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	specs, err := family.Params(m)
	if err != nil {
		t.Fatal(err)
	}
	store := eng.NewStore()
	for _, s := range specs {
		if err := store.Declare(s); err != nil {
			t.Fatal(err)
		}
	}
	if src != nil {
		err = weights.Load(store, specs, src, weights.LoadOptions{Ignored: m.Info().Ignored})
	} else {
		err = weights.Init(store, specs, 3)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRunner(eng, store, m, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Shut(); store.Close(); eng.Close() })
	return r
}

// holdBatch holds the answers of a batch to those that each prompt gets alone. The batch's passes are too small for all
// prompts at once.
func holdBatch(t *testing.T, m family.Model, src weights.Source, prompts [][]int32) {
	t.Helper()
	opts := Options{Context: 40, PageLen: 8, Store: dtype.F32}
	alone := runnerOf(t, m, src, opts)
	var requests []Request
	var want [][]int32
	longest := 0
	for _, p := range prompts {
		requests = append(requests, Request{Prompt: p, MaxNew: 8})
		longest = max(longest, len(p))
		seq, err := alone.Open()
		if err != nil {
			t.Fatal(err)
		}
		res, err := alone.Generate(context.Background(), seq, requests[len(want)])
		if err != nil {
			t.Fatal(err)
		}
		alone.Close(seq)
		var ids []int32
		for _, x := range res.Tokens {
			ids = append(ids, x.ID)
		}
		want = append(want, ids)
	}
	opts.Sequences, opts.Chunk = 3, longest+1
	got, err := runnerOf(t, m, src, opts).Batch(context.Background(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if !slices.Equal(got[i].IDs, want[i]) {
			t.Errorf("prompt %v: alone %v, in a batch %v", prompts[i], want[i], got[i].IDs)
		}
	}
}

// tails are the prompts that end as ids do, from one token to all of them.
func tails(ids []int32) (prompts [][]int32) {
	for from := range ids {
		prompts = append(prompts, ids[len(ids)-1-from:])
	}
	return prompts
}

// glmConfigs are small shapes of the families whose first tokens see each other: mask 50, gmask 51, start of piece 52.
var glmConfigs = map[string]string{
	"chatglm-6b": `{"architectures":["ChatGLMModel"],"model_type":"chatglm","vocab_size":60,"hidden_size":32,"inner_hidden_size":40,"num_attention_heads":2,
		"num_layers":2,"initializer_range":0.4,"max_sequence_length":64,"position_encoding_2d":true,"bos_token_id":52,"eos_token_id":53,"mask_token_id":50,"gmask_token_id":51,"pad_token_id":3}`,
	"glm-130b": `{"model_class":"GLM130B","model_type":"glm-130b","vocab_size":60,"hidden_size":32,"inner_hidden_size":40,"num_attention_heads":2,"num_layers":2,"initializer_range":0.4,
		"max_sequence_length":64,"layernorm_order":"post","position_encoding_2d":false,"no_glu":false,"mask_token_id":50,"gmask_token_id":51,"sop_token_id":52}`,
	"glm": `{"architectures":["GLMModel"],"model_type":"glm","vocab_size":60,"hidden_size":32,"num_attention_heads":2,"num_layers":2,"initializer_range":0.4,"max_sequence_length":64,
		"block_position_encoding":true,"relative_encoding":false,"mask_token_id":50,"gmask_token_id":51,"sop_token_id":52}`,
}

func parseModel(t *testing.T, where string, config []byte) family.Model {
	t.Helper()
	m, _, err := family.Parse(where, config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Prompts whose tokens see each other both ways are numbered and masked in a batch as they are alone.
func TestBatchLaysOutAsGenerate(t *testing.T) {
	for name, config := range glmConfigs {
		t.Run(name, func(t *testing.T) {
			m := parseModel(t, "config.json", []byte(config))
			rng := rand.New(rand.NewPCG(4, 4))
			var text []int32
			for range 12 {
				text = append(text, int32(4+rng.IntN(40)))
			}
			prompts := tails(append(slices.Clone(text), 51, 52))
			holdBatch(t, m, nil, append(prompts, append([]int32{7, 50, 9}, 52), text)) // a blank to fill; no start of piece
		})
	}
}

// A prefix is read in one pass, whose size by default is enough for it and is never exceeded silently.
func TestPrefixGoesInOnePass(t *testing.T) {
	m := parseModel(t, "config.json", []byte(glmConfigs["chatglm-6b"]))
	text := append(slices.Repeat([]int32{5, 6, 7}, 6), 51, 52)
	if r := runnerOf(t, m, nil, Options{Context: 1000}); r.Chunk() != 1000 {
		t.Errorf("want passes of the whole context, got %d", r.Chunk())
	}
	r := runnerOf(t, m, nil, Options{Context: 40, Chunk: 8, Sequences: 2})
	_, err := r.Batch(context.Background(), []Request{{Prompt: text, MaxNew: 2}}, nil)
	if want := "first 19 tokens"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("want an error with %q, got %v", want, err)
	}
	seq, err := r.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Generate(context.Background(), seq, Request{Prompt: text, MaxNew: 2}); err == nil {
		t.Error("a prefix was read in parts")
	}
}

// goldenModel is the model of a folder, with the ids and settings that its reference data name.
func goldenModel(t *testing.T, dir string) (m family.Model, src weights.Source, prompt []int32) {
	t.Helper()
	var golden struct {
		Overrides map[string]json.RawMessage
		Tokens    map[string]int
		Greedy    *struct {
			Prompt []int32 `json:"prompt_ids"`
		}
	}
	config := map[string]json.RawMessage{}
	for name, to := range map[string]any{"golden.json": &golden, "config.json": &config} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = json.Unmarshal(data, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, id := range golden.Tokens {
		config[name+"_token_id"] = fmt.Append(nil, id)
	}
	for name, v := range golden.Overrides {
		config[name] = v
	}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	m = parseModel(t, filepath.Join(dir, "config.json"), data)
	if src, err = weights.Open(dir, weights.OpenOptions{Skip: []string{"golden.safetensors", "golden_video.safetensors"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	if src, err = weights.Dequantized(src, data); err != nil {
		t.Fatal(err)
	}
	if prompt = []int32{1, 2, 3, 4, 5}; golden.Greedy != nil {
		prompt = golden.Greedy.Prompt
	}
	return m, src, slices.DeleteFunc(prompt, func(id int32) bool { return id < 0 }) // places of pictures
}

func TestGoldenBatch(t *testing.T) {
	dir := numtest.Goldens(t, "models")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "golden.json")); err != nil {
			continue
		}
		cases++
		t.Run(e.Name(), func(t *testing.T) {
			m, src, prompt := goldenModel(t, filepath.Join(dir, e.Name()))
			holdBatch(t, m, src, tails(prompt[:min(len(prompt), 24)]))
		})
	}
	numtest.Count(t, "batches", cases)
}
