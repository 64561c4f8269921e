//go:build !noxla

package train

import (
	"context"
	"fmt"
	"testing"
	"time"

	"danlu/engine/xla"
	"danlu/engine/xla/pjrt"
	"danlu/family"
	"danlu/nn"
	"danlu/optim"
	"danlu/weights"
)

// layeredConfig is a model of 135M's shape with some layers and a small vocabulary.
func layeredConfig(layers int) string {
	return fmt.Sprintf(`{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":576,"intermediate_size":1536,"num_hidden_layers":%d,"num_attention_heads":9,
"num_key_value_heads":3,"rms_norm_eps":1e-5,"rope_theta":10000,"vocab_size":512,"max_position_embeddings":512,"tie_word_embeddings":true,"initializer_range":0.05}`, layers)
}

// BenchmarkXLACompile times the compilation of a training step of 32 layers, which are rolled into a loop. It fails from
// 20 seconds on.
func BenchmarkXLACompile(b *testing.B) {
	kind, err := pjrt.KindOf("cpu")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := kind.Find(); err != nil {
		b.Skip(err)
	}
	eng, err := xla.New(xla.Options{Plugin: "cpu"}) // nothing compiled before is loaded
	if err != nil {
		b.Fatal(err)
	}
	defer eng.Close()
	m, _, err := family.Parse("layers", []byte(layeredConfig(32)))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		store := eng.NewStore()
		s, err := NewStepper(StepConfig{Engine: eng, Store: store, Model: m, Policy: nn.Float32, Objective: CrossEntropy(0), Updater: optim.AdamW{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if _, err := s.Reserve(Largest{B: 2, T: 512, P: 1}, nil); err != nil {
			b.Fatal(err)
		}
		if d := time.Since(start); d > 20*time.Second {
			b.Errorf("compiling 32 layers took %v", d)
		}
		s.Close()
		store.Close()
	}
}

// BenchmarkXLABF16 guards against the slow loops that products of bfloat16 matrices take without the flags of the engine:
// nine times the time of float32. It fails when a step in bfloat16 takes twice that of float32.
func BenchmarkXLABF16(b *testing.B) {
	eng := newXLA(b, xla.Options{})
	m, _, err := family.Parse("layers", []byte(layeredConfig(2)))
	if err != nil {
		b.Fatal(err)
	}
	step := func(p nn.Policy) func() {
		store := eng.NewStore()
		s, err := NewStepper(StepConfig{Engine: eng, Store: store, Model: m, Policy: p, Objective: CrossEntropy(0), Updater: optim.AdamW{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close(); store.Close() })
		if err := weights.Init(store, store.Specs(), 1); err != nil {
			b.Fatal(err)
		}
		x, n := batchOf(0, 512), int64(0)
		return func() {
			n++
			if _, _, err := s.Step(context.Background(), x, 1/float64(x.Scored), Update{Rate: 1e-4, Step: n}); err != nil {
				b.Fatal(err)
			}
		}
	}
	single, half := step(nn.Float32), step(nn.BFloat16)
	single() // compiles
	half()
	best := [2]time.Duration{time.Hour, time.Hour}
	for b.Loop() {
		for i, f := range []func(){single, half} {
			start := time.Now()
			f()
			best[i] = min(best[i], time.Since(start))
		}
	}
	ratio := float64(best[1]) / float64(best[0])
	b.ReportMetric(ratio, "bf16/f32")
	if ratio > 2 {
		b.Errorf("a step in bfloat16 takes %.1f times that in float32", ratio)
	}
}
