//go:build !noxla

package train

import (
	"context"
	"fmt"
	"math"
	"testing"

	"danlu/data"
	"danlu/engine"
	"danlu/engine/xla"
	"danlu/engine/xla/pjrt"
	"danlu/family"
	"danlu/internal/numtest"
	"danlu/nn"
	"danlu/optim"
	"danlu/weights"
)

// newXLA starts the XLA engine on the plugin for processors.
func newXLA(t testing.TB, o xla.Options) engine.Engine {
	t.Helper()
	kind, err := pjrt.KindOf("cpu")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kind.Find(); err != nil {
		numtest.NoPlugin(t, err)
	}
	o.Plugin = "cpu"
	if o.CacheDir, err = pjrt.Home("compiled"); err != nil {
		t.Fatal(err)
	}
	eng, err := xla.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

// trace is the loss and the gradient's norm of each step.
type trace struct{ loss, norm []float64 }

// tinyRun is a run of steps that can be moved from one engine to another.
type tinyRun struct {
	store engine.Store
	s     *Stepper
	vocab int
	done  int
}

func newTinyRun(t *testing.T, eng engine.Engine, config string) *tinyRun {
	t.Helper()
	m, _, err := family.Parse("tiny", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	r := &tinyRun{store: eng.NewStore(), vocab: m.Info().VocabSize}
	c := StepConfig{Engine: eng, Store: r.store, Model: m, Policy: nn.Float32, Objective: CrossEntropy(1e-3), Updater: optim.AdamW{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1}}
	if r.s, err = NewStepper(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.s.Close(); err != nil {
			t.Error(err)
		}
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := weights.Init(r.store, r.store.Specs(), 3); err != nil {
		t.Fatal(err)
	}
	return r
}

// step trains one step, with clipping, as the trainer does.
func (r *tinyRun) step(t *testing.T) (loss, norm float64) {
	t.Helper()
	const rate, limit = 3e-3, 0.5
	x := batchOf(r.done, r.vocab)
	r.done++
	var values map[string]float64
	var err error
	share := 1 / float64(x.Scored)
	if r.s.Whole() {
		values, norm, err = r.s.Step(context.Background(), x, share, Update{Rate: rate, MaxNorm: limit, Step: int64(r.done)})
	} else {
		if values, err = r.s.Accumulate(context.Background(), x, share, true); err == nil {
			norm, err = r.s.GradNorm(context.Background())
		}
		if err == nil {
			err = r.s.Apply(context.Background(), rate, min(1, limit/(norm+1e-6)), int64(r.done))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return values["loss"], norm
}

// trainedSteps trains a model from a seed on batches that depend on the step alone, with clipping, as the trainer does.
func trainedSteps(t *testing.T, eng engine.Engine, config string, steps int) trace {
	t.Helper()
	r := newTinyRun(t, eng, config)
	var out trace
	for range steps {
		loss, norm := r.step(t)
		out.loss, out.norm = append(out.loss, loss), append(out.norm, norm)
	}
	return out
}

// batchOf is 8 rows of 16 tokens that a step after step repeats with a shift, so that there is something to learn.
func batchOf(step, vocab int) *data.Batch {
	var rows []data.Sequence
	for r := range 8 {
		ids := make([]int32, 16)
		for i := range ids {
			ids[i] = int32((3*i + 5*r + step%4) % (vocab / 2))
		}
		rows = append(rows, data.Sequence{IDs: ids[:16-r%3]})
	}
	return data.PadBatch(rows, 16, 0)
}

// agree fails unless the losses of two runs are equal to 1e-4 at each step, and fall.
func agree(t *testing.T, got, want trace) {
	t.Helper()
	worst := 0.0
	for i, w := range want.loss {
		d := math.Abs(got.loss[i] - w)
		worst = max(worst, d)
		if !(d <= 1e-4) || !(math.Abs(got.norm[i]-want.norm[i]) <= 1e-3*max(1, want.norm[i])) {
			t.Errorf("step %d: loss %v and norm %v, want %v and %v", i+1, got.loss[i], got.norm[i], w, want.norm[i])
		}
	}
	if first, last := want.loss[0], want.loss[len(want.loss)-1]; !(last < first) {
		t.Errorf("the loss does not fall: %v, %v", first, last)
	}
	t.Logf("losses of %d steps differ by at most %.1e", len(want.loss), worst)
}

// TestEnginesTrainAlike trains 30 steps on both engines.
func TestEnginesTrainAlike(t *testing.T) {
	for name, config := range map[string]string{"llama": tinyConfig, "deepseek_v3": sparseConfig} {
		t.Run(name, func(t *testing.T) {
			want := trainedSteps(t, newCPU(t), config, 30)
			eng := newXLA(t, xla.Options{})
			agree(t, trainedSteps(t, eng, config, 30), want)
		})
	}
}

// TestWholeStepSkips checks that a step whose gradient is not finite changes nothing.
func TestWholeStepSkips(t *testing.T) {
	eng := newXLA(t, xla.Options{})
	m, _, err := family.Parse("tiny", []byte(tinyConfig))
	if err != nil {
		t.Fatal(err)
	}
	store := eng.NewStore()
	s, err := NewStepper(StepConfig{Engine: eng, Store: store, Model: m, Policy: nn.Float32, Objective: CrossEntropy(0), Updater: optim.AdamW{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	specs, err := family.Params(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := weights.Init(store, specs, 3); err != nil {
		t.Fatal(err)
	}
	name := specs[0].PartName(0)
	before, err := store.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	x := batchOf(0, m.Info().VocabSize)
	if _, norm, err := s.Step(context.Background(), x, math.Inf(1), Update{Rate: 1, Step: 1}); err != nil || finite(norm) {
		t.Fatalf("norm %v, %v; want one that is not finite", norm, err)
	}
	after, err := store.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(after.Data) != string(before.Data) {
		t.Error("the parameters changed")
	}
	if _, norm, err := s.Step(context.Background(), x, 1, Update{Rate: 1e-3, Step: 1}); err != nil || !finite(norm) {
		t.Fatalf("the next step: norm %v, %v", norm, err)
	}
	if after, err = store.Get(name); err != nil || string(after.Data) == string(before.Data) {
		t.Errorf("a finite step changed nothing (%v)", err)
	}
}

// TestMeshesTrainAlike trains 20 steps on 4 and 8 virtual devices and on one.
func TestMeshesTrainAlike(t *testing.T) {
	single := map[string]trace{}
	for name, config := range map[string]string{"llama": tinyConfig, "deepseek_v3": sparseConfig} {
		single[name] = trainedSteps(t, newXLA(t, xla.Options{}), config, 20)
	}
	for _, c := range []struct {
		model string
		mesh  map[string]int
	}{
		{"llama", map[string]int{"dp": 4}}, {"llama", map[string]int{"fsdp": 4}}, {"llama", map[string]int{"tp": 2, "dp": 2}},
		{"llama", map[string]int{"fsdp": 4, "tp": 2}}, {"deepseek_v3", map[string]int{"ep": 4}}, {"deepseek_v3", map[string]int{"ep": 2, "fsdp": 2, "tp": 2}},
	} {
		t.Run(fmt.Sprint(c.model, c.mesh), func(t *testing.T) {
			config := map[string]string{"llama": tinyConfig, "deepseek_v3": sparseConfig}[c.model]
			agree(t, trainedSteps(t, newXLA(t, xla.Options{Mesh: c.mesh}), config, 20), single[c.model])
		})
	}
}

// TestMeshesResumeAlike trains on one mesh and goes on with what its store held on another: the losses are those of a run that was not
// cut.
func TestMeshesResumeAlike(t *testing.T) {
	want := trainedSteps(t, newXLA(t, xla.Options{}), tinyConfig, 10)
	first := newTinyRun(t, newXLA(t, xla.Options{Mesh: map[string]int{"fsdp": 4}}), tinyConfig)
	var got trace
	run := func(r *tinyRun) {
		for range 5 {
			loss, norm := r.step(t)
			got.loss, got.norm = append(got.loss, loss), append(got.norm, norm)
		}
	}
	run(first)
	second := newTinyRun(t, newXLA(t, xla.Options{Mesh: map[string]int{"fsdp": 2, "tp": 2}}), tinyConfig)
	for _, spec := range first.store.Specs() {
		if err := second.store.Declare(spec); err != nil {
			t.Fatal(err)
		}
		for i := range spec.Parts() {
			x, err := first.store.Get(spec.PartName(i))
			if err == nil {
				err = second.store.Set(spec.PartName(i), x)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	second.done = 5
	run(second)
	agree(t, got, want)
}
