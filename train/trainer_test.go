package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"danlu/data"
	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
	"danlu/optim"
	"danlu/tensor"
	"danlu/weights"
)

// letters maps each byte to an id below 64.
type letters struct{}

func (letters) Encode(text string) []int32 {
	ids := make([]int32, len(text))
	for i := range text {
		ids[i] = int32(text[i]) % 64
	}
	return ids
}

// textSet is a set of n documents of different lengths.
func textSet(t testing.TB, n int) *data.Set {
	t.Helper()
	var b strings.Builder
	for k := range n {
		fmt.Fprintf(&b, "%s\n", strings.Repeat(string(rune('a'+k%26))+" sat on a mat ", 1+(k*7)%4))
	}
	path := filepath.Join(t.TempDir(), "docs.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	attrs, err := data.Find([]string{path}, "")
	if err != nil {
		t.Fatal(err)
	}
	store, err := data.Build(context.Background(), data.BuildOptions{Datasets: attrs, Encoder: &data.TextEncoder{Tokenizer: letters{}, BOS: 1, EOS: 2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &data.Set{Store: store}
}

func newLoader(t testing.TB, set *data.Set, o data.LoaderOptions) *data.Loader {
	t.Helper()
	if o.CutoffLen == 0 {
		o.CutoffLen = 32
	}
	o.BatchSize = max(o.BatchSize, 2)
	if o.Packing == "" {
		o.Packing, o.FixedShape = data.PackWrap, true
	}
	o.Shuffle, o.Seed = true, 7
	l, err := data.NewLoader(set, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const tinyConfig = `{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":4,
"num_key_value_heads":2,"rms_norm_eps":1e-5,"rope_theta":10000,"vocab_size":64,"max_position_embeddings":64,"tie_word_embeddings":true,"initializer_range":0.05}`

// fixture is a tiny model that is ready to be trained.
type fixture struct {
	store   engine.Store
	stepper *Stepper
	specs   []*graph.StateSpec
}

func newFixture(t testing.TB, threads int, change func(*StepConfig)) *fixture {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	eng, err := cpu.New(cpu.Options{Threads: threads})
	must(err)
	m, _, err := family.Parse("tiny", []byte(tinyConfig))
	must(err)
	f := &fixture{store: eng.NewStore()}
	c := StepConfig{Engine: eng, Store: f.store, Model: m, Policy: nn.Float32, Objective: CrossEntropy(0), Updater: optim.AdamW{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1}}
	if change != nil {
		change(&c)
	}
	f.stepper, err = NewStepper(c)
	must(err)
	f.specs, err = family.Params(m)
	must(err)
	must(weights.Init(f.store, f.specs, 3))
	t.Cleanup(func() {
		f.stepper.Close()
		f.store.Close()
		eng.Close()
	})
	return f
}

func (f *fixture) save(dir string) error {
	return weights.Save(dir, f.store, f.specs, weights.SaveOptions{})
}

func (f *fixture) load(dir string) error {
	src, err := weights.Open(dir, weights.OpenOptions{Skip: []string{OptimizerFile}})
	if err != nil {
		return err
	}
	defer src.Close()
	return weights.Load(f.store, f.specs, src, weights.LoadOptions{})
}

// options are those of a run of 8 steps over the fixture.
func (f *fixture) options(l *data.Loader, dir string) Options {
	return Options{Stepper: f.stepper, Loader: l, Rate: func(step int64) float64 { return 1e-2 / float64(step+1) }, MaxGradNorm: 1, Steps: 8, LogEvery: 1,
		SaveLast: true, SaveModel: f.save, LoadModel: f.load, Dir: dir}
}

// params are all parameters and optimiser states as bytes.
func (f *fixture) params(t testing.TB) []byte {
	t.Helper()
	var all []byte
	for _, s := range f.store.Specs() {
		if s.Role == graph.CacheRole {
			continue
		}
		for i := range s.Parts() {
			x, err := f.store.Get(s.PartName(i))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, x.Data...)
		}
	}
	return all
}

// losses are the logged losses, which must be bit-equal to be equal.
func losses(t testing.TB, dir string) []any {
	t.Helper()
	var list []any
	for _, r := range readMetrics(t, dir) {
		list = append(list, r["loss"])
	}
	return list
}

func TestResumeIsExact(t *testing.T) {
	set := textSet(t, 60)
	for _, rounded := range []bool{false, true} {
		whole, parts := t.TempDir(), t.TempDir()
		options := func(f *fixture, l *data.Loader, dir string) Options {
			o := f.options(l, dir)
			if rounded { // model files in bfloat16, float32 beside them
				o.SaveModel = func(dir string) error {
					return weights.Save(dir, f.store, f.specs, weights.SaveOptions{DType: func(string) dtype.DType { return dtype.BF16 }})
				}
				o.Rounded = func(*graph.StateSpec) bool { return true }
			}
			return o
		}
		a := newFixture(t, 2, nil)
		if _, err := Run(context.Background(), options(a, newLoader(t, set, data.LoaderOptions{}), whole)); err != nil {
			t.Fatal(err)
		}
		b := newFixture(t, 2, nil)
		o := options(b, newLoader(t, set, data.LoaderOptions{}), parts)
		o.SaveEvery = 3
		ctx, cancel := context.WithCancel(context.Background())
		o.Watch.Step = func(s Status) {
			if s.Step == 5 {
				cancel() // after the fifth step: saved although 5 is no multiple of 3
			}
		}
		res, err := Run(ctx, o)
		if err != nil || !res.Stopped || res.Steps != 5 {
			t.Fatalf("%v, %+v", err, res)
		}
		for _, from := range []string{"checkpoint-3", "checkpoint-5"} {
			c := newFixture(t, 2, nil)
			o := options(c, newLoader(t, set, data.LoaderOptions{}), parts)
			o.Resume = filepath.Join(parts, from)
			if _, err := Run(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			if got, want := losses(t, parts), losses(t, whole); !reflect.DeepEqual(got, want) {
				t.Errorf("rounded %v, from %s: losses %v, want %v", rounded, from, got, want)
			}
			if !bytes.Equal(c.params(t), a.params(t)) {
				t.Errorf("rounded %v, from %s: the weights differ from those of a run without a break", rounded, from)
			}
		}
	}
}

func TestBytesDoNotDependOnThreads(t *testing.T) {
	set := textSet(t, 60)
	var first []byte
	var want []any
	for _, threads := range []int{1, 2, 3, 5} {
		f, dir := newFixture(t, threads, nil), t.TempDir()
		if _, err := Run(context.Background(), f.options(newLoader(t, set, data.LoaderOptions{}), dir)); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first, want = f.params(t), losses(t, dir)
		}
		if got := losses(t, dir); !reflect.DeepEqual(got, want) || !bytes.Equal(f.params(t), first) {
			t.Errorf("%d threads: losses %v, want %v", threads, got, want)
		}
	}
}

// gradients are those of a step over the set, whatever the batches.
func gradients(t testing.TB, set *data.Set, o data.LoaderOptions) []float32 {
	t.Helper()
	f := newFixture(t, 2, func(c *StepConfig) { c.Accumulates = o.Accumulation > 1 })
	st, err := newLoader(t, set, o).Next()
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range st.Batches {
		if _, err := f.stepper.Accumulate(context.Background(), x, 1/float64(st.Scored), i == 0); err != nil {
			t.Fatal(err)
		}
	}
	var all []float32
	for _, s := range f.stepper.Params() {
		for i := range s.Parts() {
			x, err := f.store.Get(gradPrefix + s.PartName(i))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, x.F32()...)
		}
	}
	return all
}

func TestGradientsDoNotDependOnBatches(t *testing.T) {
	set := textSet(t, 24) // one step holds them all
	want := gradients(t, set, data.LoaderOptions{Packing: data.PackNone, CutoffLen: 64, BatchSize: 24})
	largest := 0.0
	for _, x := range want {
		largest = max(largest, math.Abs(float64(x)))
	}
	for name, o := range map[string]data.LoaderOptions{
		"8 micro-batches":                 {Packing: data.PackNone, CutoffLen: 64, BatchSize: 3, Accumulation: 8},
		"5 micro-batches, the last short": {Packing: data.PackNone, CutoffLen: 64, BatchSize: 5, Accumulation: 5},
		"packed":                          {Packing: data.PackFit, CutoffLen: 64, BatchSize: 24},
		"packed, in micro-batches":        {Packing: data.PackFit, CutoffLen: 64, BatchSize: 4, Accumulation: 6},
		"padded to a fixed shape":         {Packing: data.PackNone, CutoffLen: 64, BatchSize: 32, FixedShape: true},
	} {
		got := gradients(t, set, o)
		worst := 0.0
		for i := range want {
			worst = max(worst, math.Abs(float64(got[i]-want[i])))
		}
		if !(worst <= 2e-6*largest) {
			t.Errorf("%s: gradients differ by %.1e of the largest", name, worst/largest)
		}
	}
}

// poisoned is cross-entropy times an input, by which a test makes a step's loss infinite.
func poisoned(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
	loss, report := CrossEntropy(0)(b, m, targets, norm)
	loss = graph.Mul(loss, b.G.Input("poison", graph.Of(dtype.F32)))
	report["loss"] = loss
	return loss, report
}

func TestStepsThatAreNotFiniteAreSkipped(t *testing.T) {
	set := textSet(t, 60)
	run := func(bad func(step int) bool) (*fixture, Result, []string, error) {
		f := newFixture(t, 2, func(c *StepConfig) { c.Objective = poisoned })
		o := f.options(newLoader(t, set, data.LoaderOptions{}), t.TempDir())
		o.SaveEvery, o.MaxBadSteps = 2, 3
		step := 0
		o.Prepare = func(_ context.Context, st *data.Step) ([]*data.Step, error) {
			step++
			factor := float32(1)
			if bad(step) {
				factor = float32(math.Inf(1))
			}
			for _, x := range st.Batches {
				x.Extra = map[string]*tensor.Tensor{"poison": tensor.FromF32([]float32{factor})}
			}
			return []*data.Step{st}, nil
		}
		var notes []string
		o.Watch.Note = func(text string) { notes = append(notes, text) }
		res, err := Run(context.Background(), o)
		if err != nil {
			if newest, damaged, err := Newest(o.Dir); err != nil || len(damaged) > 0 || newest == "" {
				t.Errorf("the last checkpoint is not intact: %q %v %v", newest, damaged, err)
			}
		}
		return f, res, notes, err
	}
	f, res, notes, err := run(func(step int) bool { return step == 3 || step == 4 || step == 7 })
	if err != nil || res.Skipped != 3 || len(notes) != 3 || !strings.Contains(notes[0], "step 3 skipped") || !strings.Contains(notes[0], "first in mul") {
		t.Errorf("%v, %+v, %q", err, res, notes)
	}
	if x, err := f.store.Get("model.norm.weight"); err != nil || slices.ContainsFunc(x.F32(), func(v float32) bool { return !finite(float64(v)) }) {
		t.Errorf("the weights are not finite: %v", err)
	}
	if _, res, _, err := run(func(step int) bool { return step >= 4 }); !errors.Is(err, ErrDiverged) || res.Steps != 5 {
		t.Errorf("%v after %d steps, want ErrDiverged in step 6", err, res.Steps)
	}
}

func TestFullDiskKeepsTheLastCheckpoint(t *testing.T) {
	set := textSet(t, 60)
	f, dir := newFixture(t, 2, nil), t.TempDir()
	o := f.options(newLoader(t, set, data.LoaderOptions{}), dir)
	o.SaveEvery = 3
	o.SaveModel = func(d string) error {
		if _, err := os.Stat(filepath.Join(dir, "checkpoint-3")); err == nil {
			if err := os.WriteFile(filepath.Join(d, "model.safetensors"), []byte("half"), 0o644); err != nil {
				return err
			}
			return fmt.Errorf("weights: model.safetensors: %w", syscall.ENOSPC)
		}
		return f.save(d)
	}
	_, err := Run(context.Background(), o)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "checkpoint at step 6") || !strings.Contains(err.Error(), "earlier checkpoints are intact") {
		t.Fatalf("%v", err)
	}
	newest, damaged, err := Newest(dir)
	if err != nil || len(damaged) > 0 || filepath.Base(newest) != "checkpoint-3" {
		t.Fatalf("%s, %v, %v", newest, damaged, err)
	}
	if names, err := readNames(dir); err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, ".") }) {
		t.Errorf("something half written was left: %v %v", names, err)
	}
	o = f.options(newLoader(t, set, data.LoaderOptions{}), dir)
	o.Resume = newest
	if res, err := Run(context.Background(), o); err != nil || res.Steps != 8 {
		t.Errorf("%v, %+v", err, res)
	}
}

func TestDamagedCheckpointsAreNotTaken(t *testing.T) {
	set := textSet(t, 60)
	f, dir := newFixture(t, 2, nil), t.TempDir()
	o := f.options(newLoader(t, set, data.LoaderOptions{}), dir)
	o.SaveEvery = 3
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	damage := func(path string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 4
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	damage(filepath.Join(dir, "checkpoint-8", OptimizerFile))
	if err := os.Remove(filepath.Join(dir, "checkpoint-6", "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	newest, damaged, err := Newest(dir)
	if err != nil || filepath.Base(newest) != "checkpoint-3" || len(damaged) != 2 {
		t.Errorf("%s, %v, %v", newest, damaged, err)
	}
	o.Resume = filepath.Join(dir, "checkpoint-8")
	if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), OptimizerFile) {
		t.Errorf("a damaged checkpoint was resumed: %v", err)
	}
}

func TestSaveOnlyModelCannotBeResumed(t *testing.T) {
	set := textSet(t, 60)
	f, dir := newFixture(t, 2, nil), t.TempDir()
	o := f.options(newLoader(t, set, data.LoaderOptions{}), dir)
	o.SaveOnlyModel = true
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	o.Resume = filepath.Join(dir, "checkpoint-8")
	if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), "save_only_model") {
		t.Errorf("%v", err)
	}
}

func TestEvaluationBestAndLimit(t *testing.T) {
	set, held := textSet(t, 60), textSet(t, 10)
	f, dir := newFixture(t, 2, nil), t.TempDir()
	o := f.options(newLoader(t, set, data.LoaderOptions{}), dir)
	o.Steps, o.EvalEvery, o.SaveEvery, o.SaveLimit, o.LoadBest, o.EvalFirst = 9, 2, 2, 2, true, true
	o.Validation = []Validation{{Open: func() (*data.Loader, error) {
		return data.NewLoader(held, data.LoaderOptions{CutoffLen: 64, BatchSize: 4})
	}}}
	// The rate ruins the model after step 4, which therefore stays the best.
	o.Rate = func(step int64) float64 {
		if step >= 4 {
			return 1
		}
		return 1e-2
	}
	res, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	names, err := Checkpoints(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	if want := []string{"checkpoint-4", "checkpoint-8", "checkpoint-9"}; !slices.Equal(names, want) {
		t.Errorf("checkpoints %v, want %v: the best and the last two", names, want)
	}
	var seen []any
	for _, r := range readMetrics(t, dir) {
		if r["eval_loss"] != nil {
			seen = append(seen, r["step"])
		}
	}
	if want := []any{0.0, 2.0, 4.0, 6.0, 8.0, 9.0}; !reflect.DeepEqual(seen, want) {
		t.Errorf("evaluations at %v, want %v", seen, want)
	}
	best := newFixture(t, 2, nil)
	if err := best.load(filepath.Join(dir, "checkpoint-4")); err != nil {
		t.Fatal(err)
	}
	a, b := must(f.store.Get("model.norm.weight")), must(best.store.Get("model.norm.weight"))
	if !bytes.Equal(a.Data, b.Data) {
		t.Error("at the end the store does not hold the best checkpoint's model")
	}
	if res.EvalLoss < *bestMetric(t, dir) {
		t.Errorf("last validation loss %v is below the best", res.EvalLoss)
	}

	o.Patience, o.Dir, o.EvalFirst = 2, t.TempDir(), false
	if err := weights.Init(f.store, f.specs, 3); err != nil {
		t.Fatal(err)
	}
	o.Loader = newLoader(t, set, data.LoaderOptions{})
	if res, err := Run(context.Background(), o); err != nil || res.Steps != 8 {
		t.Errorf("%v, stopped at step %d, want 8: two evaluations after the best at 4", err, res.Steps)
	}
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

func bestMetric(t *testing.T, dir string) *float64 {
	t.Helper()
	var s stateJSON
	readJSON(t, filepath.Join(dir, stateFile), &s)
	if s.Best == nil || s.BestStep != 4 || s.BestDir == nil || filepath.Base(*s.BestDir) != "checkpoint-4" {
		t.Fatalf("%+v", s)
	}
	return s.Best
}
