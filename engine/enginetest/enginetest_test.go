package enginetest

import (
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/graph"
	"danlu/tensor"
)

// smooth reports whether central differences make sense for the case.
func smooth(c Case) bool {
	for _, o := range c.In {
		if o.Type.DType == dtype.BF16 {
			return false // rounding is a staircase
		}
	}
	return !c.NoGrad && !strings.Contains(c.Name, "mixed") && !strings.Contains(c.Name, "bf16")
}

func TestGradients(t *testing.T) {
	n := 0
	for _, c := range append(Primitives(), Fused()...) {
		if !smooth(c) {
			continue
		}
		probe := graph.New()
		in := make([]*graph.Value, len(c.In))
		for i, o := range c.In {
			if !o.Type.IsZero() {
				in[i] = probe.Input(string(rune('a'+i)), o.Type)
			}
		}
		loss, wrt := c.loss(probe, in, c.Build(in))
		if loss == nil {
			continue
		}
		n++
		CheckGradient(t, c.Name, c.In, c.tensors(2), wrt, func(g *graph.Graph, in []*graph.Value) *graph.Value {
			loss, _ := c.loss(g, in, c.Build(in))
			return loss
		}, graph.GradOptions{})
	}
	t.Logf("%d cases against central differences", n)
	if n < 200 {
		t.Errorf("only %d cases have gradients", n)
	}
}

func TestRepeatGradients(t *testing.T) {
	policies := map[string]graph.GradOptions{
		"keep all": {Recompute: func(*graph.Node) bool { return false }}, "cheap": {}, "layers": {Recompute: graph.RecomputeLayers},
	}
	for policy, opts := range policies {
		for _, c := range repeatBodies() {
			values := make([]*tensor.Tensor, len(c.in))
			for i, o := range c.in {
				values[i] = Case{In: []Operand{o}}.tensors(uint64(10 + i))[0]
			}
			CheckGradient(t, c.name+", "+policy, c.in, values, c.wrt, c.loss, opts)
		}
	}
}

func TestReference(t *testing.T) {
	Run(t, func() engine.Engine { return ref.New() }, Options{})
}

// TestLower runs every fused case as the primitives of its decomposition.
func TestLower(t *testing.T) {
	for _, c := range Fused() {
		g, err := c.build()
		if err != nil {
			t.Fatal(err)
		}
		low := graph.Lower(g, nil)
		for _, n := range low.Nodes {
			if _, ok := n.Op.(graph.Decomposer); ok {
				t.Fatalf("%s: %s is left", c.Name, n.Op.Name())
			}
		}
		in := c.inputs(1)
		compareAll(t, execute(t, ref.New(), low, in), execute(t, ref.New(), g, in), 1, false)
	}
}

func TestCompareCatchesErrors(t *testing.T) {
	nan := float32(0)
	nan /= nan
	for _, bad := range []float32{1.001, nan} {
		probe := &recorder{TB: t}
		Compare(probe, "x", tensor.FromF32([]float32{bad}, 1), tensor.FromF32([]float32{1}, 1), 1e-6)
		if !probe.failed {
			t.Errorf("%v passed for 1", bad)
		}
	}
}

// recorder notes a failure instead of failing.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
