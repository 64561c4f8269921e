package weights

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine/ref"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/tensor"
)

// writeFile writes float32 tensors that count up from first.
func writeFile(t *testing.T, path string, shapes map[string][]int, first float32) {
	t.Helper()
	var infos []safetensors.Info
	for name, shape := range shapes {
		infos = append(infos, safetensors.Info{Name: name, DType: dtype.F32, Shape: shape})
	}
	err := safetensors.Write(path, infos, map[string]string{"format": "pt"}, func(i safetensors.Info) (*tensor.Tensor, error) {
		x := tensor.New(i.DType, i.Shape...)
		for k := range x.F32() {
			x.F32()[k] = first + float32(k)
		}
		return x, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var specs = []*graph.StateSpec{
	{Label: "layers.%d.w", Stack: []graph.Range{{First: 0, Count: 2}}, Type: graph.Of(dtype.F32, 2, 3, 4)},
	{Label: "norm", Type: graph.Of(dtype.F32, 4)},
	{Label: "cache", Type: graph.Of(dtype.F32, 4), Role: graph.CacheRole},
}

func TestLoad(t *testing.T) {
	good := map[string][]int{"layers.0.w": {3, 4}, "layers.1.w": {3, 4}, "norm": {4}, "inv_freq": {2}}
	with := func(change func(m map[string][]int)) map[string][]int {
		m := map[string][]int{}
		for k, v := range good {
			m[k] = v
		}
		change(m)
		return m
	}
	for _, c := range []struct {
		name   string
		shapes map[string][]int
		want   string // of the error; "" for none
	}{
		{"good", good, ""},
		{"missing", with(func(m map[string][]int) { delete(m, "layers.1.w") }), "1 tensors are missing: layers.1.w"},
		{"extra", with(func(m map[string][]int) { m["stray"] = []int{1} }), "1 tensors belong to no part of the model: stray"},
		{"shape", with(func(m map[string][]int) { m["norm"] = []int{5} }), `tensor "norm"`},
	} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "model.safetensors"), c.shapes, 1)
		src, err := Open(dir, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		store := ref.New().NewStore()
		for _, s := range specs {
			if err := store.Declare(s); err != nil {
				t.Fatal(err)
			}
		}
		err = Load(store, specs, src, LoadOptions{Ignored: []string{"inv_freq"}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if c.want == "" {
			x, err := store.Get("layers.1.w")
			if err != nil || x.F32()[11] != 12 {
				t.Errorf("%s: %v %v", c.name, x, err)
			}
		}
		src.Close()
	}
}

func TestShards(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "model-00001-of-00002.safetensors"), map[string][]int{"a": {2}}, 0)
	writeFile(t, filepath.Join(dir, "model-00002-of-00002.safetensors"), map[string][]int{"b": {2}}, 5)
	index := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, indexFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index(`{"metadata":{"total_size":16},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`)
	src, err := Open(dir, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := src.Tensor("b")
	if err != nil || b.F32()[1] != 6 {
		t.Errorf("%v %v", b, err)
	}
	src.Close()
	for _, bad := range []string{
		`{"weight_map":{"a":"../model-00001-of-00002.safetensors"}}`,
		`{"weight_map":{"a":"/etc/passwd"}}`,
		`{"weight_map":{"a":"sub\\x"}}`,
		`{"weight_map":{"a":".."}}`,
		`{"weight_map":{"c":"model-00001-of-00002.safetensors"}}`,
		`{"weight_map":{}}`,
		`{"weight_map":`,
		`{"weight_map":{"a":"none.safetensors"}}`,
	} {
		index(bad)
		if src, err := Open(dir, OpenOptions{}); err == nil {
			src.Close()
			t.Errorf("%s was opened", bad)
		}
	}
}

// TestCutWhileMapped cuts a checkpoint short after it was opened and checked: loading it is an error, not a fault.
func TestCutWhileMapped(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model.safetensors")
	writeFile(t, path, map[string][]int{"big": {1 << 20}}, 1)
	specs := []*graph.StateSpec{{Label: "big", Type: graph.Of(dtype.F32, 1<<20)}}
	src, err := Open(dir, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := Check(specs, src, LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<12); err != nil {
		t.Skip("SKIPPED: the system does not cut mapped files: ", err)
	}
	store := ref.New().NewStore()
	if err := store.Declare(specs[0]); err != nil {
		t.Fatal(err)
	}
	if err := Load(store, specs, src, LoadOptions{}); err == nil || !strings.Contains(err.Error(), "model.safetensors: became shorter while it was read") {
		t.Errorf("a file that was cut short was loaded: %v", err)
	}
}

func TestInitDependsOnNames(t *testing.T) {
	fill := func(specs []*graph.StateSpec) []float32 {
		store := ref.New().NewStore()
		for _, s := range specs {
			if err := store.Declare(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := Init(store, specs, 7); err != nil {
			t.Fatal(err)
		}
		x, err := store.Get("b")
		if err != nil {
			t.Fatal(err)
		}
		return x.F32()
	}
	a := &graph.StateSpec{Label: "a", Type: graph.Of(dtype.F32, 64), Init: graph.Init{Std: 1}}
	b := &graph.StateSpec{Label: "b", Type: graph.Of(dtype.F32, 64), Init: graph.Init{Mean: 1, Std: 0.5}}
	alone, beside := fill([]*graph.StateSpec{b}), fill([]*graph.StateSpec{a, b})
	mean := float32(0)
	for i := range alone {
		if alone[i] != beside[i] {
			t.Fatalf("element %d depends on other tensors", i)
		}
		mean += alone[i] / 64
	}
	if !(mean > 0.7 && mean < 1.3) { // 1 ± 0.5/8, five standard errors
		t.Errorf("mean %v, want about 1", mean)
	}
}
