package enginetest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/graph"
	"danlu/tensor"
)

// Options of a run of the suite.
type Options struct {
	// Supports reports whether the engine takes a case; nil: all. What is left out is logged by name.
	Supports func(name string) bool
	// Threads makes an engine with a number of threads; nil when the engine has no threads. Results must be the same
	// bytes for any number.
	Threads func(n int) engine.Engine
}

// Run checks an engine against engine/ref.
//
// Tolerances. A float32 engine that adds K products in any order errs by at most γ = K·u/(1-K·u) of the sum of their
// magnitudes, u = 2^-24 (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1). That sum is not
// seen here; with operands of unit variance it is below K, while the largest result is about √K, so the bound used is
// (K+16)·u·√K·max(1, largest |want|), 16 standing for the elementary functions. bfloat16 results are rounded once more
// (2^-8 of the element), and where factors or cotangents were rounded before a sum a different last bit of each moves
// the sum by 2^-8·√K of its terms: in all 2^-8·|want| + 2^-8·√K·largest/√K, that is 2^-7 of the largest.
func Run(t *testing.T, newEngine func() engine.Engine, opts Options) {
	for _, group := range []struct {
		name  string
		cases []Case
	}{{"primitives", Primitives()}, {"fused", Fused()}} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				if opts.Supports != nil && !opts.Supports(c.Name) {
					t.Logf("%s: the engine does not take it", c.Name)
					continue
				}
				t.Run(c.Name, func(t *testing.T) { runCase(t, newEngine, c) })
			}
		})
	}
	t.Run("repeat", func(t *testing.T) { testRepeat(t, newEngine) })
	t.Run("states", func(t *testing.T) { testStates(t, newEngine) })
	t.Run("errors", func(t *testing.T) { testErrors(t, newEngine) })
	t.Run("training", func(t *testing.T) { testTraining(t, newEngine) })
	t.Run("cache", func(t *testing.T) { testCache(t, newEngine) })
	t.Run("storage", func(t *testing.T) { testStorage(t, newEngine, opts.Supports) })
	if opts.Threads != nil {
		t.Run("threads", func(t *testing.T) { testThreads(t, opts.Threads) })
	}
}

// build makes the graph of a case: results y0, y1, ..., and the gradients d0, d1, ... of the results' products with
// fixed random cotangents.
func (c Case) build() (*graph.Graph, error) {
	return graph.Build(func(g *graph.Graph) {
		in := make([]*graph.Value, len(c.In))
		for i, o := range c.In {
			if !o.Type.IsZero() {
				in[i] = g.Input(fmt.Sprintf("x%d", i), o.Type)
			}
		}
		out := c.Build(in)
		for i, y := range out {
			g.Output(fmt.Sprintf("y%d", i), y)
		}
		loss, wrt := c.loss(g, in, out)
		if loss == nil {
			return
		}
		values := make([]*graph.Value, len(wrt))
		for k, i := range wrt {
			values[k] = in[i]
		}
		for k, d := range graph.Grad(loss, values, graph.GradOptions{}) {
			g.Output(fmt.Sprintf("d%d", wrt[k]), d)
		}
	})
}

// loss is a weighted sum of the float results, and which operands need a gradient; nil without any.
func (c Case) loss(g *graph.Graph, in, out []*graph.Value) (loss *graph.Value, wrt []int) {
	if c.NoGrad {
		return nil, nil
	}
	for i, o := range c.In {
		if o.Type.DType.IsFloat() && !o.NoGrad {
			wrt = append(wrt, i)
		}
	}
	for i, y := range out {
		if !y.DType.IsFloat() {
			continue
		}
		w := Operand{Type: graph.Of(dtype.F32, y.Shape...), Fill: Values, Values: weights(y.Len(), i)}.tensor(rand.New(rand.NewPCG(0, 0)))
		term := graph.Sum(graph.Mul(graph.Convert(y, dtype.F32), g.Const(w)))
		if loss == nil {
			loss = term
		} else {
			loss = graph.Add(loss, term)
		}
	}
	if len(wrt) == 0 {
		return nil, nil
	}
	return loss, wrt
}

// weights are n numbers of both signs around one.
func weights(n, salt int) []float64 {
	w := make([]float64, n)
	for k := range w {
		w[k] = 1.25 * math.Sin(float64(3*k+salt)+0.5)
	}
	return w
}

// inputs names a case's operands.
func (c Case) inputs(seed uint64) engine.Tensors {
	in := engine.Tensors{}
	for i, x := range c.tensors(seed) {
		if x != nil {
			in[fmt.Sprintf("x%d", i)] = x
		}
	}
	return in
}

// execute compiles and runs a graph once on a new store.
func execute(t testing.TB, e engine.Engine, g *graph.Graph, in engine.Tensors) engine.Tensors {
	t.Helper()
	store := e.NewStore()
	p, err := e.Compile(g, store, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); store.Close() })
	out, err := p.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func runCase(t *testing.T, newEngine func() engine.Engine, c Case) {
	g, err := c.build()
	if err != nil {
		t.Fatal(err)
	}
	in := c.inputs(1)
	e := newEngine()
	defer e.Close()
	got := execute(t, e, g, in)
	want := execute(t, ref.New(), g, in)
	low := false // bfloat16 takes part
	for _, n := range g.Nodes {
		for _, v := range n.Out {
			low = low || v.DType == dtype.BF16
		}
		if o, ok := n.Op.(graph.Linear); ok && o.Compute == dtype.BF16 {
			low = true
		}
	}
	compareAll(t, got, want, c.Terms, low)
}

func compareAll(t testing.TB, got, want engine.Tensors, terms int, low bool) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d outputs, want %d", len(got), len(want))
	}
	for name, w := range want {
		g := got[name]
		if g == nil {
			t.Errorf("%s: is missing", name)
			continue
		}
		Compare(t, name, g, w, tolerance(terms, low))
	}
}

// tolerance is relative to the largest magnitude, as [Run] derives it.
func tolerance(terms int, low bool) float64 {
	k := float64(max(terms, 1))
	tol := (k + 16) * 0x1p-24 * math.Sqrt(k)
	if low {
		tol += 0x1p-7
	}
	return tol
}

// Compare fails unless got has want's type, equal integers, infinities in the same places, and every float within tol of
// the largest finite magnitude of want, or of one if that is larger. NaN fails.
func Compare(t testing.TB, name string, got, want *tensor.Tensor, tol float64) {
	t.Helper()
	if got.DType != want.DType || fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) {
		t.Errorf("%s: got %v, want %v", name, got, want)
		return
	}
	g, w := floats(got), floats(want)
	top := 1.0
	for _, x := range w {
		if !math.IsInf(x, 0) {
			top = max(top, math.Abs(x))
		}
	}
	limit := tol * top
	if !want.DType.IsFloat() {
		limit = 0
	}
	for k := range w {
		if diff := math.Abs(g[k] - w[k]); !(diff <= limit) && g[k] != w[k] {
			t.Errorf("%s: element %d of %v is %v, want %v (off by %g, allowed %g)", name, k, want, g[k], w[k], diff, limit)
			return
		}
	}
}
