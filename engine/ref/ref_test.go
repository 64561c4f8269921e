package ref

import (
	"math"
	"slices"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/tensor"
)

// Known answers of Philox4x32-10 from the authors' Random123 library (kat_vectors).
func TestPhilox(t *testing.T) {
	const f = math.MaxUint32
	for _, c := range []struct {
		counter, want [4]uint32
		key           [2]uint32
	}{
		{[4]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}, [2]uint32{}},
		{[4]uint32{f, f, f, f}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}, [2]uint32{f, f}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}, [2]uint32{0xa4093822, 0x299f31d0}},
	} {
		if got := philox(c.counter, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.counter, c.key, got, c.want)
		}
	}
}

func TestRoundTo(t *testing.T) {
	for _, c := range []struct {
		x    float64
		d    dtype.DType
		want float64
	}{
		{1 + 0x1p-8, dtype.BF16, 1}, {1 + 3*0x1p-8, dtype.BF16, 1 + 0x1p-6}, {1 + 0x1p-8 + 0x1p-20, dtype.BF16, 1 + 0x1p-7},
		{0x1.ffp127, dtype.BF16, math.Inf(1)}, {0x1p-133, dtype.BF16, 0x1p-133}, {0x1p-135, dtype.BF16, 0},
		{65519, dtype.F16, 65504}, {65520, dtype.F16, math.Inf(1)}, {-65520, dtype.F16, math.Inf(-1)}, {0x1p-24, dtype.F16, 0x1p-24}, {1 + 0x1p-11, dtype.F16, 1},
	} {
		if got := roundTo(c.x, c.d); got != c.want {
			t.Errorf("roundTo(%x, %v) = %x, want %x", c.x, c.d, got, c.want)
		}
	}
}

// TestPrimitives holds results worked out by hand, since the compliance suite compares engines with this one.
func TestPrimitives(t *testing.T) {
	f := func(x []float32, shape ...int) *tensor.Tensor { return tensor.FromF32(x, shape...) }
	i := func(x []int32, shape ...int) *tensor.Tensor { return tensor.FromI32(x, shape...) }
	seq := []float32{1, 2, 3, 4, 5, 6}
	m := f(seq, 2, 3)
	for _, c := range []struct {
		name string
		op   graph.Op
		in   []*tensor.Tensor
		want []float32
	}{
		{"add broadcast", graph.Binary{Kind: graph.BinaryAdd}, []*tensor.Tensor{f([]float32{10, 20}, 2, 1), f([]float32{1, 2, 3}, 3)}, []float32{11, 12, 13, 21, 22, 23}},
		{"rem", graph.Binary{Kind: graph.BinaryRem}, []*tensor.Tensor{f([]float32{-7, 7}, 2), f([]float32{4, -4}, 2)}, []float32{-3, 3}},
		{"transpose", graph.Transpose{Perm: []int{1, 0}}, []*tensor.Tensor{m}, []float32{1, 4, 2, 5, 3, 6}},
		{"sum rows", graph.Reduce{Axes: []int{0}}, []*tensor.Tensor{m}, []float32{5, 7, 9}},
		{"max columns", graph.Reduce{Kind: graph.ReduceMax, Axes: []int{1}}, []*tensor.Tensor{m}, []float32{3, 6}},
		{"cumsum", graph.CumSum{}, []*tensor.Tensor{m}, []float32{1, 3, 6, 4, 9, 15}},
		{"matmul", graph.MatMul{}, []*tensor.Tensor{m, f(seq, 3, 2)}, []float32{22, 28, 49, 64}},
		{"matmul a transposed", graph.MatMul{TransA: true}, []*tensor.Tensor{m, f([]float32{1, 1}, 2, 1)}, []float32{5, 7, 9}},
		{"matmul b transposed", graph.MatMul{TransB: true}, []*tensor.Tensor{m, m}, []float32{14, 32, 32, 77}},
		{"matmul batched", graph.MatMul{}, []*tensor.Tensor{f([]float32{1, 2, 3, 4}, 2, 1, 2), f([]float32{1, 10}, 2, 1)}, []float32{21, 43}},
		{"gather", graph.Gather{}, []*tensor.Tensor{m, i([]int32{1, 0, 1}, 3)}, []float32{4, 5, 6, 1, 2, 3, 4, 5, 6}},
		{"scatter", graph.ScatterAdd{}, []*tensor.Tensor{m, i([]int32{1, -1, 1}, 3), f([]float32{1, 1, 1, 9, 9, 9, 2, 2, 2}, 3, 3)}, []float32{1, 2, 3, 7, 8, 9}},
		{"take", graph.TakeAlong{}, []*tensor.Tensor{m, i([]int32{2, 0, 1, 1}, 2, 2)}, []float32{3, 1, 5, 5}},
		{"slice", graph.Slice{Axis: 1, Start: 1, End: 3}, []*tensor.Tensor{m}, []float32{2, 3, 5, 6}},
		{"concat", graph.Concat{Axis: 1}, []*tensor.Tensor{m, f([]float32{7, 8}, 2, 1)}, []float32{1, 2, 3, 7, 4, 5, 6, 8}},
		{"top", graph.TopK{K: 2}, []*tensor.Tensor{f([]float32{3, 9, 9, 1}, 1, 4)}, []float32{9, 9}},
		{"sort", graph.Sort{Descending: true}, []*tensor.Tensor{f([]float32{3, 9, 1}, 3)}, []float32{9, 3, 1}},
		{"group", graph.GroupedLinear{Compute: dtype.F32, Out: dtype.F32}, []*tensor.Tensor{f([]float32{1, 2, 3}, 3, 1), f([]float32{10, 100}, 2, 1, 1), i([]int32{0, 1, 3}, 3)}, []float32{10, 200, 300}},
		{"rope", graph.RoPE{}, []*tensor.Tensor{f([]float32{1, 2, 3, 4, 5}, 1, 1, 1, 5), f([]float32{0, 1}, 1, 1, 2), f([]float32{1, 0}, 1, 1, 2)}, []float32{-3, 2, 1, 4, 5}},
	} {
		in := engine.Tensors{}
		g, err := graph.Build(func(g *graph.Graph) {
			var args []*graph.Value
			for k, x := range c.in {
				name := string(rune('a' + k))
				in[name] = x
				args = append(args, g.Input(name, graph.Of(x.DType, x.Shape...)))
			}
			g.Output("y", graph.Apply(c.op, args...)[0])
		})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		e := New()
		p, err := e.Compile(g, e.NewStore(), engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := p.Run(t.Context(), in)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := out["y"].F32(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestIndexFaults sees that an index out of range is an error of the run, not a panic.
func TestIndexFaults(t *testing.T) {
	g, err := graph.Build(func(g *graph.Graph) {
		g.Output("y", graph.Rows(g.Input("x", graph.Of(dtype.F32, 2, 1)), g.Input("i", graph.Of(dtype.I32, 1))))
	})
	if err != nil {
		t.Fatal(err)
	}
	e := New()
	p, err := e.Compile(g, e.NewStore(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []int32{-1, 2} {
		if _, err := p.Run(t.Context(), engine.Tensors{"x": tensor.FromF32([]float32{1, 2}, 2, 1), "i": tensor.FromI32([]int32{k}, 1)}); err == nil {
			t.Errorf("index %d: no error", k)
		}
	}
}
