//go:build !noxla

package train

import (
	"context"
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

// trainedSteps trains a model from a seed on batches that depend on the step alone, with clipping, as the trainer does.
func trainedSteps(t *testing.T, eng engine.Engine, config string, steps int) trace {
	t.Helper()
	m, _, err := family.Parse("tiny", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	store := eng.NewStore()
	c := StepConfig{Engine: eng, Store: store, Model: m, Policy: nn.Float32, Objective: CrossEntropy(1e-3), Updater: optim.AdamW{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1}}
	s, err := NewStepper(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := weights.Init(store, store.Specs(), 3); err != nil {
		t.Fatal(err)
	}
	const rate, limit = 3e-3, 0.5
	var out trace
	for i := range steps {
		x := batchOf(i, m.Info().VocabSize)
		norm := 1 / float64(x.Scored)
		var r map[string]float64
		var gradNorm float64
		if s.Whole() {
			r, gradNorm, err = s.Step(context.Background(), x, norm, Update{Rate: rate, MaxNorm: limit, Step: int64(i + 1)})
		} else {
			if r, err = s.Accumulate(context.Background(), x, norm, true); err == nil {
				gradNorm, err = s.GradNorm(context.Background())
			}
			if err == nil {
				err = s.Apply(context.Background(), rate, min(1, limit/(gradNorm+1e-6)), int64(i+1))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		out.loss, out.norm = append(out.loss, r["loss"]), append(out.norm, gradNorm)
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
