package cpu

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/graph"
	"danlu/tensor"
)

// TestLogProbParts scores more rows and a larger vocabulary than are in work at a time, against the reference engine.
func TestLogProbParts(t *testing.T) {
	// Sums over up to vocab numbers of magnitude 1 in float32.
	testLogProb(t, graph.LinearLogProb{Compute: dtype.F32, Entropy: true}, logProbRows+9, vocabPart+21, 2e-5)
}

// TestLogProbBoth does so without the entropy, which merges the gradient into it, and with more rows than are kept.
func TestLogProbBoth(t *testing.T) {
	const rows, vocab = 77, 12*vocabPart + 5
	if keptRows(vocab, 4) >= logProbRows {
		t.Fatal("all rows are kept")
	}
	testLogProb(t, graph.LinearLogProb{Compute: dtype.F32, Scale: 0.7}, keptRows(vocab, 4)+rows, vocab, 2e-5)
	// Exponentials and gradients by logits, at most one, are rounded to 8 bits; the sums have up to rows of them.
	testLogProb(t, graph.LinearLogProb{Compute: dtype.BF16}, rows, vocabPart+21, 8.0/256)
}

func testLogProb(t *testing.T, op graph.LinearLogProb, rows, vocab int, limit float64) {
	const d = 3
	g, err := graph.Build(func(g *graph.Graph) {
		x, w := g.Input("x", graph.Of(dtype.F32, rows, d)), g.Input("w", graph.Of(dtype.F32, vocab, d))
		r := graph.LogProbs(op, x, w, g.Input("targets", graph.Of(dtype.I32, rows)))
		loss := graph.Sum(graph.Add(graph.Mul(r[0], g.Input("weights", graph.Of(dtype.F32, rows))), graph.MulScalar(r[1], 0.3)))
		if op.Entropy {
			loss = graph.Add(loss, graph.MulScalar(graph.Sum(r[2]), 0.2))
		}
		grads := graph.Grad(loss, []*graph.Value{x, w}, graph.GradOptions{})
		for i, name := range []string{"logp", "lse", "entropy"}[:len(r)] {
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
		if own, ok := p.(*program); ok && !op.Entropy && !slices.ContainsFunc(own.plans[own.rows].steps, func(s step) bool { return s.name() == logProbBoth{}.Name() }) {
			t.Error("score and gradient run apart")
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
		for i, w := range want[name].F32() {
			if g := got.F32()[i]; !(math.Abs(float64(g-w)) <= limit*(1+math.Abs(float64(w)))) {
				t.Fatalf("%s[%d]: want %v, got %v", name, i, w, g)
			}
		}
	}
}
