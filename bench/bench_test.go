package bench

import (
	"context"
	"math"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/nn"
	"danlu/plan"
)

func open(t *testing.T, model string, rank int, frozen dtype.DType) *Run {
	t.Helper()
	m, _, err := family.Shape(model)
	if err != nil {
		t.Fatal(err)
	}
	e, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	r, err := Training{Model: m, Policy: nn.BFloat16, Batch: 2, Seq: 32, Rank: rank, Frozen: frozen}.Open(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// TestForetoldMemory holds what is said before a weight is touched against what the store and the programs have after
// steps were made.
func TestForetoldMemory(t *testing.T) {
	for _, model := range []string{"llama-tiny", "glm-tiny", "qwen3-moe-tiny", "deepseek-v3-tiny"} {
		for _, rank := range []int{0, 4} {
			r := open(t, model, rank, dtype.NF4Double)
			m := r.Memory()
			if err := r.Init(); err != nil {
				t.Fatal(err)
			}
			if took, err := r.StepTime(context.Background()); err != nil || took <= 0 {
				t.Fatalf("%s: a step takes %v: %v", model, took, err)
			}
			for step := range int64(2) {
				if loss, err := r.Step(context.Background(), step+1); err != nil || math.IsNaN(loss) {
					t.Fatalf("%s: step %d: loss %v: %v", model, step+1, loss, err)
				}
			}
			if got := m.Weights + m.Gradients + m.Optimizer; got != r.store.Bytes() {
				t.Errorf("%s rank %d: %d bytes of states, the store has %d", model, rank, got, r.store.Bytes())
			}
			if got := r.stepper.Memory(); m.Activations < got {
				t.Errorf("%s rank %d: %d bytes of programs, they have %d", model, rank, m.Activations, got)
			}
		}
	}
}

// TestStepAfterEstimate makes sure that timing samples leaves the weights alone.
func TestStepAfterEstimate(t *testing.T) {
	loss := func(estimate bool) float64 {
		r := open(t, "llama-tiny", 0, dtype.F32)
		if err := r.Init(); err != nil {
			t.Fatal(err)
		}
		if estimate {
			if _, err := r.StepTime(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		var loss float64
		for step := range int64(2) {
			var err error
			if loss, err = r.Step(context.Background(), step+1); err != nil {
				t.Fatal(err)
			}
		}
		return loss
	}
	if a, b := loss(false), loss(true); a != b {
		t.Errorf("second loss %v, after an estimate %v", a, b)
	}
}

func TestHost(t *testing.T) {
	card, err := Card(2)
	if err != nil {
		t.Fatal(err)
	}
	if !(card.Bandwidth > 0 && card.TFLOPS16 > 0 && card.TFLOPS32 > 0 && card.MemoryGiB > 0) {
		t.Fatalf("the machine has %+v", card)
	}
	e, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	q := plan.Request{Model: "llama-tiny", Task: plan.Full, Context: 64, GPU: card, Host: Host{context.Background(), e}, Tokens: 1e6}
	p, err := plan.New(q)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Fits || p.GPUs != 1 || !(p.TokensPerS > 0 && p.Hours > 0) || p.Memory.Total != p.Whole.Total {
		t.Errorf("planned %+v", p)
	}
	small := *card
	small.MemoryGiB = 0.001
	q.GPU = &small
	if p, err = plan.New(q); err != nil || p.Fits || len(p.Advice) == 0 || p.TokensPerS != 0 {
		t.Errorf("with no memory: %+v, %v", p, err)
	}
	q.GPU = card
	for want, change := range map[string]func(q *plan.Request){
		"task":      func(q *plan.Request) { q.Task = plan.RLHF },
		"precision": func(q *plan.Request) { q.Precision = plan.FP16 },
		"int4":      func(q *plan.Request) { q.Task, q.Precision = plan.QLoRA, plan.INT8 },
		"gpus":      func(q *plan.Request) { q.GPUs = 2 },
	} {
		bad := q
		change(&bad)
		if _, err := plan.New(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
