package enginetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/graph"
	"danlu/quant"
	"danlu/tensor"
)

// storages are the types in which weights can be kept.
var storages = []dtype.DType{dtype.F16, dtype.BF16, dtype.Q8_0, dtype.Q4_0, dtype.Q4_1, dtype.Q5_0, dtype.Q5_1,
	dtype.Q2_K, dtype.Q3_K, dtype.Q4_K, dtype.Q5_K, dtype.Q6_K}

// testStorage runs a small model whose weights are kept in each type, and its gradient by the input: a tied embedding,
// layers with a bias, experts, and a weight that is cast.
func testStorage(t *testing.T, newEngine func() engine.Engine, supports func(string) bool) {
	for _, d := range storages {
		for _, compute := range []dtype.DType{dtype.F32, dtype.BF16, dtype.Q8_0} {
			name := fmt.Sprintf("storage %v %v", d, compute)
			if supports != nil && !supports(name) {
				t.Logf("%s: the engine does not take it", name)
				continue
			}
			t.Run(name, func(t *testing.T) { runStorage(t, newEngine, d, compute) })
		}
	}
}

func runStorage(t *testing.T, newEngine func() engine.Engine, d, compute dtype.DType) {
	const n, width, vocab, experts, hidden, layers = 7, 256, 37, 3, 40, 2
	weight := func(l *graph.Graph, name string, stack []graph.Range, shape ...int) *graph.Value {
		return l.State(graph.StateSpec{Label: name, Stack: stack, Type: graph.Of(d, shape...), Role: graph.Param})
	}
	g, err := graph.Build(func(g *graph.Graph) {
		x := g.Input("x", graph.Of(dtype.F32, n, width))
		table := weight(g, "table", nil, vocab, width)
		y := graph.Add(x, graph.Embed(table, g.Input("ids", graph.Of(dtype.I32, n)), dtype.F32))
		y = g.ForEach(graph.Layers{N: layers, Prefix: "l%d."}, []*graph.Value{y}, func(l *graph.Graph, c []*graph.Value) []*graph.Value {
			bias := l.State(graph.StateSpec{Label: "bias", Type: graph.Of(dtype.F32, width), Role: graph.Param})
			y := graph.Project(c[0], weight(l, "w", nil, width, width), bias, compute, dtype.F32)
			up := weight(l, "e%d.up", []graph.Range{{First: 0, Count: experts}}, experts, hidden, width)
			e := graph.Apply(graph.GroupedLinear{Compute: compute, Out: dtype.F32}, y, up, g.Input("offsets", graph.Of(dtype.I32, experts+1)))[0]
			return []*graph.Value{graph.Add(graph.MulScalar(y, 0.5), graph.SumKeep(e, 1))}
		})[0]
		g.Output("logits", graph.Project(y, table, nil, compute, dtype.F32))
		g.Output("cast", graph.Sum(graph.Convert(table, dtype.F32), 0))
		loss := graph.Sum(graph.Mul(graph.Project(y, table, nil, compute, dtype.F32), graph.Project(x, table, nil, compute, dtype.F32)))
		g.Output("dx", graph.Grad(loss, []*graph.Value{x}, graph.GradOptions{})[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(uint64(d), 1))
	random := func(shape ...int) *tensor.Tensor {
		x := make([]float32, tensor.Len(shape))
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return tensor.FromF32(x, shape...)
	}
	in := engine.Tensors{"x": random(n, width), "ids": tensor.FromI32([]int32{0, 36, 5, 16, 15, 36, 1}, n), "offsets": tensor.FromI32([]int32{0, 3, 3, 7}, experts+1)}
	e := newEngine()
	defer e.Close()
	var results []engine.Tensors
	var weights map[string]*tensor.Tensor
	for _, eng := range []engine.Engine{ref.New(), e} {
		store := eng.NewStore()
		p, err := eng.Compile(g, store, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if weights == nil {
			weights = randomWeights(t, store.Specs(), random)
		}
		for name, w := range weights {
			if err := store.Set(name, w); err != nil {
				t.Fatal(err)
			}
		}
		out, err := p.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, out)
	}
	tol := 4 * tolerance(width, compute == dtype.BF16)
	if compute == dtype.Q8_0 && d.IsQuantized() {
		tol = 2e-2 // a level that falls the other way moves a product by 1/127 of its block's largest term
	}
	compareAllWithin(t, results[1], results[0], tol)
}

// randomWeights makes values for every part of specs, small enough that layers keep the size of their input.
func randomWeights(t *testing.T, specs []*graph.StateSpec, random func(shape ...int) *tensor.Tensor) map[string]*tensor.Tensor {
	t.Helper()
	out := map[string]*tensor.Tensor{}
	for _, s := range specs {
		for i := range s.Parts() {
			typ := s.PartType()
			x := random(typ.Shape...)
			for k := range x.F32() {
				x.F32()[k] *= 0.06
			}
			if typ.DType != dtype.F32 {
				y := tensor.New(typ.DType, typ.Shape...)
				if err := quant.Quantize(typ.DType, y.Data, x.F32()); err != nil {
					t.Fatal(err)
				}
				x = y
			}
			out[s.PartName(i)] = x
		}
	}
	return out
}

func compareAllWithin(t testing.TB, got, want engine.Tensors, tol float64) {
	t.Helper()
	for name, w := range want {
		if got[name] == nil {
			t.Errorf("%s: is missing", name)
			continue
		}
		Compare(t, name, got[name], w, tol)
	}
}
