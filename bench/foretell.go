package bench

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/optim"
	"danlu/plan"
	"danlu/tensor"
)

// process is what the program itself takes: code, tables, the runtime's own heap. It was measured as 28 to 39 MB, by how much
// of the binary the system maps at once.
const process = 34 << 20

// Memory is what the run takes, known from its compiled programs before a weight is touched.
func (r *Run) Memory() plan.Memory {
	m := plan.Memory{Weights: r.store.Bytes(), Activations: r.program, Reserved: process}
	for _, s := range r.store.Specs() {
		bytes := int64(s.Type.Bytes())
		switch {
		case s.Role == graph.OptState:
			m.Optimizer += bytes
		case strings.HasPrefix(s.Label, "grad."):
			m.Gradients += bytes
		}
	}
	m.Weights -= m.Optimizer + m.Gradients
	m.Total = m.Weights + m.Gradients + m.Optimizer + m.Activations + m.Reserved
	return m
}

// StepTime foretells how long a step takes, from one of each run of equal layers and a part of the update: only these are
// computed, so that it takes little memory and a fraction of a step.
func (r *Run) StepTime(ctx context.Context) (time.Duration, error) {
	trained := 0
	for _, p := range r.stepper.Params() {
		trained += p.Type.Len()
	}
	// The update comes first: its sample is gone before activations are touched.
	update, err := updateTime(ctx, r.engine, trained)
	if err != nil {
		return 0, err
	}
	debug.FreeOSMemory()
	forward, err := r.stepper.Estimate(ctx, r.batch)
	return forward + update, err
}

// updateSample is how many values the timed update has at most: enough that they do not stay in any cache.
const updateSample = 16 << 20

// updateTime is how long the norm of n gradients and AdamW's update of n parameters take, in proportion to a sample.
func updateTime(ctx context.Context, e engine.Engine, n int) (time.Duration, error) {
	size := min(n, updateSample)
	store := e.NewStore()
	defer store.Close()
	g, err := graph.Build(func(g *graph.Graph) {
		state := func(label string, role graph.Role) *graph.Value {
			return g.State(graph.StateSpec{Label: label, Type: graph.Of(dtype.F32, size), Role: role})
		}
		scalar := func(name string) *graph.Value { return g.Input(name, graph.Of(dtype.F32)) }
		p, d := state("p", graph.Param), state("d", graph.CacheRole)
		g.Output("squares", graph.Squares(d))
		optim.AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}.Update(g, []*graph.Value{p}, []*graph.Value{d}, scalar("lr"), scalar("scale"), scalar("step"))
	})
	if err != nil {
		return 0, err
	}
	program, err := e.Compile(g, store, engine.Options{})
	if err != nil {
		return 0, err
	}
	defer program.Close()
	d := tensor.New(dtype.F32, size)
	for i := range d.F32() {
		d.F32()[i] = 1e-3
	}
	if err := store.Set("d", d); err != nil {
		return 0, err
	}
	one := tensor.FromF32([]float32{1})
	best := time.Duration(0)
	for range 3 {
		start := time.Now()
		if _, err := program.Run(ctx, engine.Tensors{"lr": one, "scale": one, "step": one}); err != nil {
			return 0, fmt.Errorf("bench: update: %w", err)
		}
		if t := time.Since(start); best == 0 || t < best {
			best = t
		}
	}
	return time.Duration(float64(best) / float64(size) * float64(n)), nil
}
