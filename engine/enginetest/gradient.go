package enginetest

import (
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

// CheckGradient compares the gradient rules of the operations that f builds with central differences in float64, on
// engine/ref (which keeps float32 values in float64). in are float32 operands' values, consts the other operands.
// The step is 2^-16 times the operand's scale, so that truncation (h² times a third derivative) and rounding (2^-53/h) both
// stay below 1e-8 of the function's size; 1e-6 is allowed.
func CheckGradient(t testing.TB, name string, operands []Operand, values []*tensor.Tensor, wrt []int, f func(g *graph.Graph, in []*graph.Value) *graph.Value, opts graph.GradOptions) {
	t.Helper()
	g, err := graph.Build(func(g *graph.Graph) {
		in := make([]*graph.Value, len(operands))
		for i, o := range operands {
			if o.Type.IsZero() {
				continue
			}
			if o.Type.DType.IsFloat() {
				in[i] = graph.Convert(g.Input(fmt.Sprintf("x%d", i), graph.Of(dtype.F64, o.Type.Shape...)), dtype.F32)
			} else {
				in[i] = g.Input(fmt.Sprintf("x%d", i), o.Type)
			}
		}
		loss := f(g, in)
		g.Output("loss", graph.Convert(loss, dtype.F64))
		targets := make([]*graph.Value, len(wrt))
		for k, i := range wrt {
			targets[k] = in[i]
		}
		for k, d := range graph.Grad(loss, targets, opts) {
			g.Output(fmt.Sprintf("d%d", wrt[k]), graph.Convert(d, dtype.F64))
		}
	})
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	in := engine.Tensors{}
	for i, o := range operands {
		switch {
		case o.Type.IsZero():
		case o.Type.DType.IsFloat():
			in[fmt.Sprintf("x%d", i)] = tensor.FromF64(floats(values[i]), o.Type.Shape...)
		default:
			in[fmt.Sprintf("x%d", i)] = values[i]
		}
	}
	eng := ref.New()
	got := execute(t, eng, g, in)
	only, err := eng.Compile(g, eng.NewStore(), engine.Options{Outputs: []string{"loss"}})
	if err != nil {
		t.Fatal(err)
	}
	at := func() float64 {
		out, err := only.Run(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return out["loss"].F64()[0]
	}
	r := rand.New(rand.NewPCG(3, 4))
	for _, i := range wrt {
		x, d := in[fmt.Sprintf("x%d", i)].F64(), got[fmt.Sprintf("d%d", i)].F64()
		places := r.Perm(len(x))
		if len(places) > 12 {
			places = places[:12] // a sample: each costs two runs
		}
		for _, k := range places {
			old := x[k]
			h := 0x1p-16 * max(1, math.Abs(old))
			x[k] = old + h
			up := at()
			x[k] = old - h
			down := at()
			x[k] = old
			want := (up - down) / (2 * h)
			if diff := math.Abs(d[k] - want); !(diff <= 1e-6*max(1, math.Abs(want), math.Abs(up))) {
				t.Errorf("%s: operand %d element %d: gradient %v, difference quotient %v", name, i, k, d[k], want)
				return
			}
		}
	}
}
