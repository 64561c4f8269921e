package recipe_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/adapter"
	"danlu/data"
	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/nn"
	"danlu/optim"
	"danlu/tensor"
	"danlu/train"
	"danlu/weights"
)

// adapted is a base model with an adapter, both loaded.
type adapted struct {
	base  *family.Checkpoint
	file  *adapter.File
	eng   engine.Engine
	store engine.Store
	// prepare sets what every build is to have.
	prepare func(b *nn.Build)
}

func openAdapted(t *testing.T, base, dir string, storage nn.Storage) *adapted {
	t.Helper()
	a := &adapted{}
	var err error
	if a.base, err = family.Open(base); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.base.Close() })
	if a.file, err = adapter.Open(dir, a.base.Model); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.file.Close() })
	if a.eng, err = cpu.New(cpu.Options{Threads: 2}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.eng.Close() })
	a.store = a.eng.NewStore()
	a.prepare = func(b *nn.Build) {
		a.file.Set.Prepare(b)
		b.Storage = storage
	}
	specs, err := family.Params(a.base.Model, a.prepare)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		if err := a.store.Declare(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := weights.Load(a.store, specs, a.base.Weights, weights.LoadOptions{Optional: adapter.IsFactor}); err != nil {
		t.Fatal(err)
	}
	if err := a.file.Load(a.store); err != nil {
		t.Fatal(err)
	}
	return a
}

// logits runs the model on rows of ids.
func (a *adapted) logits(t *testing.T, ids [][]int32, prepare func(b *nn.Build)) []float32 {
	t.Helper()
	g, err := graph.Build(func(g *graph.Graph) {
		b := nn.Inputs(g, nn.Float32, 1, len(ids), len(ids[0]))
		if prepare != nil {
			prepare(b)
		}
		g.Output("logits", b.Logits(a.base.Model.Hidden(b), a.base.Model.Head(b)))
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.eng.Compile(g, a.store, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	in := engine.Tensors(batch(ids).Tensors())
	out, err := p.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(out["logits"].F32())
}

// batch is one document per row, of which every token but the first is a target.
func batch(ids [][]int32) *data.Batch {
	var rows []data.Sequence
	for _, r := range ids {
		rows = append(rows, data.Sequence{IDs: r})
	}
	return data.PadBatch(rows, len(ids[0]), 0)
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func openTensors(t *testing.T, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// within holds got against the reference tensor called name: |difference| at most tol, or tol times the largest value.
func within(t *testing.T, f *safetensors.File, name string, got []float32, tol float64, relative bool) {
	t.Helper()
	x, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	want := x.F32()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	most := 0.0
	for _, v := range want {
		most = max(most, math.Abs(float64(v)))
	}
	if relative {
		tol *= most
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - float64(v)); !(d <= tol) {
			t.Fatalf("%s: value %d is %v, want %v, off by %.2g of at most %.2g", name, i, got[i], v, d, tol)
		}
	}
}

func get(t *testing.T, store engine.Store, name string) []float32 {
	t.Helper()
	x, err := store.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	return x.F32()
}

const filePrefix = "base_model.model."

// checkGradients holds the gradients in the store against the file's.
func checkGradients(t *testing.T, f *safetensors.File, store engine.Store, tol float64) {
	t.Helper()
	n := 0
	for _, name := range f.Names() {
		if rest, ok := strings.CutPrefix(name, "grad."+filePrefix); ok {
			within(t, f, name, get(t, store, "grad."+rest), tol, true)
			n++
		}
	}
	if n == 0 {
		t.Fatal("there is no gradient in the reference data")
	}
}

type loraCase struct {
	Scaling   float64 `json:"scaling"`
	Loss      float64 `json:"loss_f64"`
	Optimizer struct {
		LR          float64   `json:"lr"`
		Betas       []float64 `json:"betas"`
		Eps         float64   `json:"eps"`
		WeightDecay float64   `json:"weight_decay"`
		Clip        *float64  `json:"clip"`
	} `json:"optimizer"`
	Trajectory []float64   `json:"trajectory_loss_f64"`
	Batches    [][][]int32 `json:"batches"`
}

// The tolerances of the reference data's README.
const (
	tolLoRALogits = 5e-5
	tolLoRAGrad   = 2e-5
	tolMerged     = 1e-6
	tolTrajectory = 2e-4
	tolFinal      = 3e-4
)

func TestGoldenLoRA(t *testing.T) {
	dir := numtest.Goldens(t, "training/lora")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "case.json")); err == nil {
			t.Run(e.Name(), func(t *testing.T) { testLoRA(t, filepath.Join(dir, "base"), filepath.Join(dir, e.Name())) })
			n++
		}
	}
	numtest.Count(t, "training/lora", n)
}

func testLoRA(t *testing.T, base, dir string) {
	var c loraCase
	readJSON(t, filepath.Join(dir, "case.json"), &c)
	want := openTensors(t, filepath.Join(dir, "expected.safetensors"))
	a := openAdapted(t, base, filepath.Join(dir, "adapter"), nil)
	for _, x := range a.file.Set.Targets {
		if !(math.Abs(x.Scales[0]-c.Scaling) < 1e-12) {
			t.Fatalf("%s: scale %v, want %v", x.Name(0), x.Scales[0], c.Scaling)
		}
	}
	within(t, want, "logits", a.logits(t, c.Batches[0], a.prepare), tolLoRALogits, false)
	checkMerged(t, a, dir)
	trainLoRA(t, a, &c, want)
	checkSaved(t, a, want)
}

// checkMerged holds the merged weights against the reference, and that a model that reads them needs no adapter.
func checkMerged(t *testing.T, a *adapted, dir string) {
	t.Helper()
	again, err := adapter.Open(filepath.Join(dir, "adapter"), a.base.Model)
	if err != nil {
		t.Fatal(err)
	}
	src, err := again.Merge(a.base.Weights)
	if err != nil {
		t.Fatal(err)
	}
	f := openTensors(t, filepath.Join(dir, "merged.safetensors"))
	for _, name := range f.Names() {
		x, err := src.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		within(t, f, name, x.F32(), tolMerged, false)
	}
}

// trainLoRA repeats the reference run.
func trainLoRA(t *testing.T, a *adapted, c *loraCase, want *safetensors.File) {
	t.Helper()
	o := c.Optimizer
	if o.Clip != nil {
		t.Fatal("the reference run clips gradients; this test does not")
	}
	s, err := train.NewStepper(train.StepConfig{Engine: a.eng, Store: a.store, Model: a.base.Model, Policy: nn.Float32, Objective: train.CrossEntropy(0),
		Updater:   optim.AdamW{Beta1: o.Betas[0], Beta2: o.Betas[1], Eps: o.Eps, WeightDecay: o.WeightDecay},
		Trainable: a.file.Set.Trains, Prepare: a.prepare})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, ids := range c.Batches {
		x := batch(ids)
		r, err := s.Accumulate(context.Background(), x, 1/float64(x.Scored), true)
		if err != nil {
			t.Fatal(err)
		}
		if !(math.Abs(r["loss"]-c.Trajectory[i]) <= tolTrajectory) {
			t.Fatalf("step %d: loss %v, want %v", i+1, r["loss"], c.Trajectory[i])
		}
		if i == 0 {
			checkGradients(t, want, a.store, tolLoRAGrad)
		}
		if err := s.Apply(context.Background(), o.LR, 1, int64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, spec := range a.store.Specs() {
		if strings.HasPrefix(spec.Label, "grad.") && !adapter.IsFactor(spec.Label) {
			t.Fatalf("frozen %s has a gradient buffer", spec.Label)
		}
	}
}

// checkSaved saves the trained adapter, reads the files back and holds them against the reference.
func checkSaved(t *testing.T, a *adapted, want *safetensors.File) {
	t.Helper()
	dir := t.TempDir()
	if err := a.file.Set.Save(dir, a.store); err != nil {
		t.Fatal(err)
	}
	got := openTensors(t, filepath.Join(dir, "adapter_model.safetensors"))
	n := 0
	for _, name := range want.Names() {
		rest, ok := strings.CutPrefix(name, "final.")
		if !ok {
			continue
		}
		x, err := got.Tensor(rest)
		if err != nil {
			t.Fatal(err)
		}
		within(t, want, name, x.F32(), tolFinal, false)
		n++
	}
	if n == 0 || n != len(got.Names()) {
		t.Fatalf("%d tensors are in the reference, %d were saved", n, len(got.Names()))
	}
	again, err := adapter.Open(dir, a.base.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, name := range got.Names() {
		x, err := got.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.store.Set(strings.TrimPrefix(name, filePrefix), tensor.New(dtype.F32, x.Shape...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := again.Load(a.store); err != nil {
		t.Fatal(err)
	}
	for _, name := range got.Names() {
		within(t, got, name, get(t, a.store, strings.TrimPrefix(name, filePrefix)), 0, false)
	}
}

type qloraCase struct {
	IDs  [][]int32 `json:"ids"`
	Loss float64   `json:"loss"`
}

const tolDequant = 1e-7

func TestGoldenQLoRA(t *testing.T) {
	dir := numtest.Goldens(t, "training/qlora")
	var c qloraCase
	readJSON(t, filepath.Join(dir, "case.json"), &c)
	want := openTensors(t, filepath.Join(dir, "expected.safetensors"))
	codes := openTensors(t, filepath.Join(dir, "quantized.safetensors"))
	model, _, err := family.Load(filepath.Join(dir, "base"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []dtype.DType{dtype.NF4, dtype.NF4Double} {
		storage := nn.Storage{}
		for _, name := range codes.Names() {
			if w, ok := strings.CutSuffix(name, ".packed"); ok {
				storage[w] = d
			}
		}
		a := openAdapted(t, filepath.Join(dir, "base"), dir, storage)
		a.base.Model = model
		for w := range storage {
			suffix := ".dequant"
			if d == dtype.NF4 {
				suffix = ".dequant_single"
			}
			within(t, codes, w+suffix, get(t, a.store, w), tolDequant, false)
		}
		if d == dtype.NF4Double {
			checkQLoRA(t, a, &c, want)
		}
	}
	numtest.Count(t, "training/qlora", 1)
}

// checkQLoRA holds logits, loss and gradients of an adapter on quantized weights against the reference.
func checkQLoRA(t *testing.T, a *adapted, c *qloraCase, want *safetensors.File) {
	t.Helper()
	storage := func(b *nn.Build) {
		a.prepare(b)
		b.Adapters = nil
	}
	within(t, want, "base_logits", a.logits(t, c.IDs, storage), tolLoRALogits, false)
	within(t, want, "lora_logits", a.logits(t, c.IDs, a.prepare), tolLoRALogits, false)
	s, err := train.NewStepper(train.StepConfig{Engine: a.eng, Store: a.store, Model: a.base.Model, Policy: nn.Float32, Objective: train.CrossEntropy(0),
		Trainable: a.file.Set.Trains, Prepare: a.prepare})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	x := batch(c.IDs)
	r, err := s.Accumulate(context.Background(), x, 1/float64(x.Scored), true)
	if err != nil {
		t.Fatal(err)
	}
	if !(math.Abs(r["loss"]-c.Loss) <= 1e-5*c.Loss) {
		t.Fatalf("loss %v, want %v", r["loss"], c.Loss)
	}
	checkGradients(t, want, a.store, tolLoRAGrad)
}
