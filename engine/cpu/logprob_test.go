package cpu

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/graph"
	"danlu/tensor"
)

// TestLogProbParts scores more rows and a larger vocabulary than are in work at a time, against the reference engine.
func TestLogProbParts(t *testing.T) {
	const rows, vocab, d = logProbRows + 9, vocabPart + 21, 3
	g, err := graph.Build(func(g *graph.Graph) {
		x, w := g.Input("x", graph.Of(dtype.F32, rows, d)), g.Input("w", graph.Of(dtype.F32, vocab, d))
		r := graph.LogProbs(graph.LinearLogProb{Compute: dtype.F32, Entropy: true}, x, w, g.Input("targets", graph.Of(dtype.I32, rows)))
		loss := graph.Sum(graph.Add(graph.Mul(r[0], g.Input("weights", graph.Of(dtype.F32, rows))), graph.Add(graph.MulScalar(r[1], 0.3), graph.MulScalar(r[2], 0.2))))
		grads := graph.Grad(loss, []*graph.Value{x, w}, graph.GradOptions{})
		for i, name := range []string{"logp", "lse", "entropy"} {
			g.Output(name, r[i])
		}
		g.Output("dx", grads[0])
		g.Output("dw", grads[1])
	})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	random := func(shape ...int) *tensor.Tensor {
		x := tensor.New(dtype.F32, shape...)
		for i := range x.F32() {
			x.F32()[i] = float32(rng.NormFloat64())
		}
		return x
	}
	in := engine.Tensors{"x": random(rows, d), "w": random(vocab, d), "weights": random(rows), "targets": tensor.New(dtype.I32, rows)}
	for i := range rows {
		in["targets"].I32()[i] = int32(rng.IntN(vocab+50)) - 50
	}
	run := func(e engine.Engine) engine.Tensors {
		st := e.NewStore()
		p, err := e.Compile(g, st, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := p.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := run(ref.New())
	e, err := New(Options{Threads: 2, Poison: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for name, got := range run(e) {
		// Sums over up to vocab numbers of magnitude 1 in float32.
		const limit = 2e-5
		for i, w := range want[name].F32() {
			if g := got.F32()[i]; !(math.Abs(float64(g-w)) <= limit*(1+math.Abs(float64(w)))) {
				t.Fatalf("%s[%d]: want %v, got %v", name, i, w, g)
			}
		}
	}
}
