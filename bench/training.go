// Package bench times and foretells work with random weights on the engine at hand.
package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"

	"danlu/adapter"
	"danlu/data"
	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/kernel"
	"danlu/nn"
	"danlu/optim"
	"danlu/train"
	"danlu/weights"
)

// Training is a training run whose steps are timed or foretold.
type Training struct {
	Model      family.Model
	Policy     nn.Policy
	Batch, Seq int
	Rank       int         // of LoRA adapters on all linear layers; 0: all weights are trained
	Frozen     dtype.DType // with adapters: how linear layers are kept
	Recompute  bool        // keep each layer's input only
}

// Run is an opened Training: programs are compiled, weights are zero.
type Run struct {
	Training
	engine  engine.Engine
	store   engine.Store
	stepper *train.Stepper
	lora    *adapter.Set
	batch   *data.Batch
	program int64 // bytes of the compiled programs
}

// Open compiles the programs of a training run.
func (t Training) Open(e engine.Engine) (_ *Run, err error) {
	r := &Run{Training: t, engine: e, store: e.NewStore()}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	c := train.StepConfig{Engine: e, Store: r.store, Model: t.Model, Policy: t.Policy, Objective: train.CrossEntropy(0),
		Updater: optim.AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}}
	if t.Recompute {
		c.Recompute = func(*graph.Node) bool { return true }
	}
	if t.Rank > 0 {
		if r.lora, err = adapter.Resolve(adapter.AllLinear(t.Rank), t.Model); err != nil {
			return nil, err
		}
		if t.Frozen != dtype.F32 && t.Frozen != dtype.BF16 && !kernel.IsCoded(t.Frozen) {
			return nil, fmt.Errorf("bench: frozen weights: want f32, bf16, nf4 or nf4_double, got %v", t.Frozen)
		}
		storage, err := r.lora.Storage(t.Frozen)
		if err != nil {
			return nil, err
		}
		c.Trainable, c.Prepare = r.lora.Trains, func(b *nn.Build) {
			b.Storage, b.Plain = storage, true
			r.lora.Prepare(b)
		}
	}
	specs, err := family.Params(t.Model, func(b *nn.Build) {
		if c.Prepare != nil {
			c.Prepare(b)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, s := range specs { // those too that next-token training leaves alone
		if err := r.store.Declare(s); err != nil {
			return nil, err
		}
	}
	if r.stepper, err = train.NewStepper(c); err != nil {
		return nil, err
	}
	info := t.Model.Info()
	r.batch = randomBatch(t.Batch, t.Seq, info.VocabSize, info.PositionRows)
	r.program, err = r.stepper.Reserve(train.Largest{B: r.batch.B, T: r.batch.T, P: r.batch.P, Prefix: r.batch.Prefix != nil}, nil)
	return r, err
}

// Init fills the weights.
func (r *Run) Init() error {
	err := weights.Init(r.store, r.store.Specs(), 0)
	if err == nil && r.lora != nil {
		err = r.lora.Init(r.store, 0)
	}
	debug.FreeOSMemory() // what compiling and drawing left would otherwise stay beside the activations
	return err
}

// Step is a whole optimiser step, counted from 1: gradients, norm, clipping to 1, update. It returns the loss.
func (r *Run) Step(ctx context.Context, step int64) (float64, error) {
	if r.stepper.Whole() {
		report, _, err := r.stepper.Step(ctx, r.batch, 1/float64(r.batch.Scored), train.Update{Rate: 1e-4, MaxNorm: 1, Step: step})
		return report["loss"], err
	}
	report, err := r.stepper.Accumulate(ctx, r.batch, 1/float64(r.batch.Scored), true)
	if err != nil {
		return 0, err
	}
	norm, err := r.stepper.GradNorm(ctx)
	if err != nil {
		return 0, err
	}
	return report["loss"], r.stepper.Apply(ctx, 1e-4, min(1, 1/(norm+1e-6)), step)
}

// Close frees the run.
func (r *Run) Close() error {
	var err error
	if r.stepper != nil {
		err = r.stepper.Close()
	}
	if err2 := r.store.Close(); err == nil {
		err = err2
	}
	return err
}

// randomBatch is one document per row.
func randomBatch(b, t, vocab, rows int) *data.Batch {
	rng := rand.New(rand.NewPCG(1, 2))
	var sequences []data.Sequence
	for range b {
		ids := make([]int32, t)
		for i := range ids {
			ids[i] = int32(rng.IntN(min(vocab, 4000)))
		}
		sequences = append(sequences, data.Sequence{IDs: ids})
	}
	x := data.PadBatch(sequences, t, 0)
	for x.P < rows {
		x.Positions = append(x.Positions, x.Positions[:b*t]...)
		x.P++
	}
	return x
}
