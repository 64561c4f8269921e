package adapter

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/engine"
	"danlu/engine/ref"
	"danlu/family"
	"danlu/graph"
	"danlu/tensor"
)

const tiny = `{"architectures": ["LlamaForCausalLM"], "vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3,
	"num_attention_heads": 2, "max_position_embeddings": 16, "tie_word_embeddings": %v}`

func model(t testing.TB, tied bool) family.Model {
	t.Helper()
	m, _, err := family.Parse("config.json", []byte(fmt.Sprintf(tiny, tied)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func resolve(m family.Model, keys string) (*Set, error) {
	c, err := ParseConfig([]byte(`{"peft_type": "LORA", "r": 4, "lora_alpha": 8, ` + keys + `}`))
	if err != nil {
		return nil, err
	}
	return Resolve(c, m)
}

// What PEFT's keys mean, module by module.
func TestResolve(t *testing.T) {
	for _, c := range []struct{ keys, want string }{
		{`"target_modules": "all-linear"`, "21 modules, rank 4, scale 2"},
		{`"target_modules": "all-linear", "use_rslora": true`, "21 modules, rank 4, scale 4"},
		{`"target_modules": ["q_proj"]`, "3 modules, rank 4, scale 2"},
		{`"target_modules": ["model.layers.1.mlp.up_proj", "q_proj"]`, "4 modules, rank 4, scale 2"},
		{`"target_modules": ".*layers\\.[01]\\.mlp\\..*_proj"`, "6 modules, rank 4, scale 2"},
		{`"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 2`, "2 modules, rank 4, scale 2"},
		{`"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 2], "layers_pattern": "layers"`, "4 modules, rank 4, scale 2"},
		{`"target_modules": "all-linear", "exclude_modules": ["mlp.up_proj"]`, "18 modules, rank 4, scale 2"},
		{`"target_modules": ["q_proj", "lm_head", "embed_tokens"]`, "5 modules, rank 4, scale 2"},
		{`"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["lm_head"]`, "3 modules, rank 4, scale 2"},
		{`"target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 2, "q_proj": 3}, "alpha_pattern": {"q_proj": 6}`, "3 modules, rank 3, scale 2"},
		{`"target_modules": ["proj"]`, "error target_modules"},
		{`"target_modules": ["q_proj", "k_porj"]`, "error target_modules: k_porj"},
		{`"target_modules": ["q_proj"], "modules_to_save": ["score"]`, "error modules_to_save: score"},
		{`"target_modules": ["q_proj"], "bias": "all"`, "error bias"},
		{`"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj"]`, "error target_parameters"},
		{`"target_modules": ["q_proj"], "rank_pattern": {"q_proj": 0}`, "error rank_pattern"},
		{`"target_modules": ["q_proj"], "init_lora_weights": "pissa"`, "error init_lora_weights"},
		{`"target_modules": ["q_proj"], "use_dora": true, "layers_to_transform": 1`, "error use_dora"},
		{`"target_modules": "(?=x)"`, "error target_modules"},
		{`"target_modules": null`, "error target_modules"},
		{`"target_modules": 3`, "error json"},
	} {
		s, err := resolve(model(t, false), c.keys)
		if want, ok := strings.CutPrefix(c.want, "error "); ok {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: want an error with %q, got %v", c.keys, want, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.keys, err)
			continue
		}
		n, rank, scale := 0, 0, 0.0
		for _, x := range s.Targets {
			for i, r := range x.Ranks {
				if r > 0 {
					n, rank, scale = n+1, r, x.Scales[i]
				}
			}
		}
		if got := fmt.Sprintf("%d modules, rank %d, scale %v", n, rank, scale); got != c.want {
			t.Errorf("%s: want %s, got %s", c.keys, c.want, got)
		}
	}
	if s, err := resolve(model(t, true), `"target_modules": ["lm_head"]`); err == nil {
		t.Errorf("a tied head was adapted: %v", s.Targets)
	}
}

// declare makes a store with the model's and the set's parameters, all of the model's being numbers of their names.
func declare(t testing.TB, s *Set) engine.Store {
	t.Helper()
	store := ref.New().NewStore()
	specs, err := family.Params(s.Model, s.Prepare)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs {
		if err := store.Declare(spec); err != nil {
			t.Fatal(err)
		}
		for i := range spec.Parts() {
			typ := spec.PartType()
			x := tensor.New(typ.DType, typ.Shape...)
			graph.Fill(x, float64(len(spec.PartName(i))))
			if err := store.Set(spec.PartName(i), x); err != nil {
				t.Fatal(err)
			}
		}
	}
	return store
}

// An adapter with ranks of its own per layer, an embedding and a module as a whole goes through its files unchanged.
func TestFiles(t *testing.T) {
	m := model(t, false)
	s, err := resolve(m, `"target_modules": ["q_proj", "embed_tokens"], "rank_pattern": {"layers.1.self_attn.q_proj": 2}, "modules_to_save": ["lm_head"]`)
	if err != nil {
		t.Fatal(err)
	}
	store := declare(t, s)
	if err := s.Init(store, 7); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := s.Save(dir, store); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir, m)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := f.file.Tensor(filePrefix + "model.layers.1.self_attn.q_proj.lora_A.weight")
	if err != nil || !slices.Equal(a.Shape, []int{2, 8}) {
		t.Fatalf("%v %v", a, err)
	}
	again := declare(t, s)
	if err := f.Load(again); err != nil {
		t.Fatal(err)
	}
	for _, spec := range store.Specs() {
		if !s.Trains(spec) {
			continue
		}
		for i := range spec.Parts() {
			x, err1 := store.Get(spec.PartName(i))
			y, err2 := again.Get(spec.PartName(i))
			if err1 != nil || err2 != nil || !slices.Equal(x.Data, y.Data) {
				t.Errorf("%s: %v %v: differs", spec.PartName(i), err1, err2)
			}
		}
	}
	n, err := s.Params()
	if want := int64(2*4*(8+8) + 2*(8+8) + 4*(8+11) + 11*8); err != nil || n != want {
		t.Errorf("want %d trained numbers, got %d (%v)", want, n, err)
	}
}

// Files that do not fit are one error that names the tensor.
func TestBadFiles(t *testing.T) {
	m := model(t, false)
	save := func(keys string) string {
		s, err := resolve(m, keys)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := s.Save(dir, declare(t, s)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	const q, qk = `"target_modules": ["q_proj"]`, `"target_modules": ["q_proj", "k_proj"]`
	for _, c := range []struct{ config, tensors, want string }{
		{q, qk, "6 tensors belong to no part"},
		{qk, q, "k_proj.lora_A.weight"},
		{q + `, "rank_pattern": {"q_proj": 3}`, q, "want shape [3 8], got [4 8]"},
	} {
		dir := save(c.config)
		data, err := os.ReadFile(filepath.Join(save(c.tensors), WeightsFile))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, WeightsFile), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if f, err := Open(dir, m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error with %q, got %v", c.want, err)
			if err == nil {
				f.Close()
			}
		}
	}
	if _, err := Open(t.TempDir(), m); err == nil {
		t.Error("an empty folder was opened")
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "rank_pattern": {"a": 1}, "layers_to_transform": 3}`))
	f.Add([]byte(`{"peft_type": "LORA", "target_modules": ".*", "alpha_pattern": {"(": 1}}`))
	m := model(f, false)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseConfig(data); err == nil {
			if s, err := Resolve(c, m); err == nil && len(s.Targets) == 0 {
				t.Error("a set of nothing")
			}
		}
	})
}
