package recipe_test

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"danlu/adapter"
	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/nn"
	"danlu/tensor"
	"danlu/weights"
)

// In every family an adapter beside the weights computes what the merged weights do: fused projections, latent
// attention, experts and heads included.
func TestAdaptersOfFamilies(t *testing.T) {
	dir := numtest.Goldens(t, "models")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "model.safetensors")); err == nil {
			t.Run(e.Name(), func(t *testing.T) { besideAndMerged(t, filepath.Join(dir, e.Name())) })
			n++
		}
	}
	if n == 0 {
		t.Fatal("no model was tried")
	}
}

func besideAndMerged(t *testing.T, dir string) {
	skip := []string{"golden.safetensors", "golden_video.safetensors"}
	base, err := family.Open(dir, skip...)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	c := adapter.AllLinear(3)
	set, err := adapter.Resolve(c, base.Model)
	if err != nil {
		t.Fatal(err)
	}
	eng, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	load := func(src weights.Source, prepare func(b *nn.Build)) (engine.Store, []*graph.StateSpec) {
		store := eng.NewStore()
		specs, err := family.Params(base.Model, prepare)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range specs {
			if err := store.Declare(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := weights.Load(store, specs, src, weights.LoadOptions{Ignored: ignored(base.Model), Optional: func(n string) bool { return adapter.IsFactor(n) }}); err != nil {
			t.Fatal(err)
		}
		return store, specs
	}
	beside, specs := load(base.Weights, set.Prepare)
	defer beside.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, s := range specs {
		if !adapter.IsFactor(s.Label) {
			continue
		}
		for i := range s.Parts() {
			x := tensor.New(dtype.F32, s.PartType().Shape...)
			for k := range x.F32() {
				x.F32()[k] = float32(rng.NormFloat64() * 0.1)
			}
			if err := beside.Set(s.PartName(i), x); err != nil {
				t.Fatal(err)
			}
		}
	}
	files := t.TempDir()
	if err := set.Save(files, beside); err != nil {
		t.Fatal(err)
	}
	f, err := adapter.Open(files, base.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	src, err := f.Merge(base.Weights)
	if err != nil {
		t.Fatal(err)
	}
	merged, _ := load(src, func(*nn.Build) {})
	defer merged.Close()
	plain, _ := load(base.Weights, func(*nn.Build) {})
	defer plain.Close()
	with, without, never := textLogits(t, eng, beside, base.Model, set.Prepare), textLogits(t, eng, merged, base.Model, nil), textLogits(t, eng, plain, base.Model, nil)
	most, apart, changed := 0.0, 0.0, 0.0
	for i := range with {
		most = max(most, math.Abs(float64(without[i])))
		apart = max(apart, math.Abs(float64(with[i]-without[i])))
		changed = max(changed, math.Abs(float64(with[i]-never[i])))
	}
	if !(apart < 1e-4*most) || !(changed > 1e-2*most) {
		t.Errorf("logits of at most %v are %v apart with the adapter beside and merged, %v from the base", most, apart, changed)
	}
}

// ignored are tensors of a checkpoint that a text alone does not need.
func ignored(m family.Model) []string { return m.Info().Ignored }

// textLogits runs a model on one text.
func textLogits(t *testing.T, eng engine.Engine, store engine.Store, m family.Model, prepare func(b *nn.Build)) []float32 {
	t.Helper()
	const n = 7
	rows := m.Info().PositionRows
	g, err := graph.Build(func(g *graph.Graph) {
		b := nn.Inputs(g, nn.Float32, rows, 1, n)
		if prepare != nil {
			prepare(b)
		}
		g.Output("logits", b.Logits(m.Hidden(b), m.Head(b)))
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := eng.Compile(g, store, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ids, segments, positions := make([]int32, n), make([]int32, n), make([]int32, rows*n)
	for i := range n {
		ids[i], segments[i] = int32(3+i), 1
		for r := range rows {
			positions[r*n+i] = int32(i)
		}
	}
	out, err := p.Run(context.Background(), engine.Tensors{"ids": tensor.FromI32(ids, 1, n), "segments": tensor.FromI32(segments, 1, n), "positions": tensor.FromI32(positions, rows, 1, n)})
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), out["logits"].F32()...)
}
