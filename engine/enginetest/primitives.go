package enginetest

import (
	"fmt"

	"danlu/dtype"
	"danlu/graph"
)

// Primitives are the cases of primitive operations.
func Primitives() []Case {
	var cases []Case
	add := func(c Case) { cases = append(cases, c) }
	both := func(c Case) { add(c); add(inBF16(c)) }
	for _, n := range []int{1, 7, 33} {
		for k := graph.UnaryNeg; k <= graph.UnarySigmoid; k++ {
			x := spread(3, n)
			if k == graph.UnaryLog || k == graph.UnarySqrt || k == graph.UnaryRsqrt || k == graph.UnaryExp {
				x = positive(3, n)
			}
			both(Case{Name: fmt.Sprintf("%v %d", k, n), In: []Operand{x}, Build: one(graph.Unary{Kind: k})})
		}
	}
	add(Case{Name: "not", In: []Operand{bools(5)}, Build: one(graph.Unary{Kind: graph.UnaryNot})})
	shapes := []struct{ a, b []int }{{[]int{3, 5}, []int{3, 5}}, {[]int{3, 17}, []int{17}}, {[]int{4, 1, 3}, []int{2, 1}}, {[]int{}, []int{9}}, {[]int{2, 3, 1}, []int{1, 3, 33}}}
	for k := graph.BinaryAdd; k <= graph.BinaryGreaterEqual; k++ {
		for _, s := range shapes {
			a, b := spread(s.a...), positive(s.b...)
			if k == graph.BinaryPow {
				a = positive(s.a...)
			}
			if k == graph.BinaryRem {
				b = fixed(b)
			}
			both(Case{Name: fmt.Sprintf("%v %v %v", k, s.a, s.b), In: []Operand{a, b}, Build: one(graph.Binary{Kind: k}), Terms: 66})
		}
		if k != graph.BinaryPow {
			add(Case{Name: fmt.Sprintf("%v i32", k), In: []Operand{ids(9, 2, 5), ints([]float64{-3, 1, 2, 4, 9}, 5)}, Build: one(graph.Binary{Kind: k})})
		}
	}
	for _, k := range []graph.BinaryKind{graph.BinaryAnd, graph.BinaryOr} {
		add(Case{Name: k.String(), In: []Operand{bools(4, 1), bools(7)}, Build: one(graph.Binary{Kind: k})})
	}
	both(Case{Name: "select", In: []Operand{bools(4, 1), f32(4, 5), f32(5)}, Build: one(graph.Select{}), Terms: 4})
	add(Case{Name: "cast f32 bf16", In: []Operand{f32(3, 33)}, Build: one(graph.Cast{To: dtype.BF16})})
	add(Case{Name: "cast i32 f32", In: []Operand{ids(1000, 9)}, Build: one(graph.Cast{To: dtype.F32})})
	add(Case{Name: "cast f32 i32", In: []Operand{spread(40)}, Build: one(graph.Cast{To: dtype.I32})})
	add(Case{Name: "cast bool f32", In: []Operand{bools(9)}, Build: one(graph.Cast{To: dtype.F32})})
	both(Case{Name: "reshape", In: []Operand{f32(4, 6)}, Build: one(graph.Reshape{Shape: []int{3, 8}})})
	for _, p := range [][]int{{1, 0, 2}, {2, 1, 0}, {0, 2, 1}} {
		both(Case{Name: fmt.Sprintf("transpose %v", p), In: []Operand{f32(3, 5, 17)}, Build: one(graph.Transpose{Perm: p})})
	}
	both(Case{Name: "broadcast", In: []Operand{f32(3, 1)}, Build: one(graph.Broadcast{Shape: []int{2, 3, 5}}), Terms: 10})
	for kind := graph.ReduceSum; kind <= graph.ReduceMin; kind++ {
		for _, axes := range [][]int{{0}, {1}, {2}, {0, 2}, {1, 2}, {0, 1, 2}} {
			for _, keep := range []bool{false, true} {
				both(Case{Name: fmt.Sprintf("reduce %d %v %v", kind, axes, keep), In: []Operand{spread(3, 5, 19)}, Build: one(graph.Reduce{Kind: kind, Axes: axes, Keep: keep}), Terms: 285})
			}
		}
	}
	add(Case{Name: "reduce long", In: []Operand{f32(3, 4099)}, Build: one(graph.Reduce{Axes: []int{1}}), Terms: 4099})
	add(Case{Name: "reduce i32", In: []Operand{ids(99, 3, 7)}, Build: one(graph.Reduce{Axes: []int{1}})})
	both(Case{Name: "argmax", In: []Operand{spread(3, 17)}, Build: one(graph.ArgMax{}), NoGrad: true})
	both(Case{Name: "cumsum", In: []Operand{f32(3, 17)}, Build: one(graph.CumSum{}), Terms: 17})
	add(Case{Name: "cumsum i32", In: []Operand{ids(9, 3, 17)}, Build: one(graph.CumSum{})})
	for _, mkn := range [][3]int{{1, 1, 1}, {3, 5, 7}, {17, 33, 19}, {2, 70, 65}} {
		for t := range 4 {
			ta, tb := t&1 != 0, t&2 != 0
			a, b := []int{mkn[0], mkn[1]}, []int{mkn[1], mkn[2]}
			if ta {
				a = []int{mkn[1], mkn[0]}
			}
			if tb {
				b = []int{mkn[2], mkn[1]}
			}
			both(Case{Name: fmt.Sprintf("matmul %v %v %v", mkn, ta, tb), In: []Operand{f32(a...), f32(b...)}, Build: one(graph.MatMul{TransA: ta, TransB: tb}), Terms: mkn[1] + mkn[0] + mkn[2]})
			both(Case{Name: fmt.Sprintf("matmul batched %v %v %v", mkn, ta, tb), In: []Operand{f32(append([]int{2, 3}, a...)...), f32(append([]int{3}, b...)...)},
				Build: one(graph.MatMul{TransA: ta, TransB: tb}), Terms: 2 * (mkn[1] + mkn[0] + mkn[2])})
		}
	}
	both(Case{Name: "gather", In: []Operand{f32(9, 5), ids(9, 2, 7)}, Build: one(graph.Gather{}), Terms: 14})
	both(Case{Name: "scatter_add", In: []Operand{f32(6, 5), ints([]float64{0, 5, -1, 3, 3, 0}, 6), f32(6, 5)}, Build: one(graph.ScatterAdd{}), Terms: 7})
	both(Case{Name: "take_along", In: []Operand{f32(4, 9), ids(9, 4, 3)}, Build: one(graph.TakeAlong{}), Terms: 3})
	for axis, n := range []int{4, 5, 6} {
		both(Case{Name: fmt.Sprintf("slice %d", axis), In: []Operand{f32(4, 5, 6)}, Build: one(graph.Slice{Axis: axis, Start: 1, End: n - 1})})
		s := []int{4, 5, 6}
		s[axis] = 2
		both(Case{Name: fmt.Sprintf("concat %d", axis), In: []Operand{f32(4, 5, 6), f32(s...), f32(4, 5, 6)}, Build: one(graph.Concat{Axis: axis})})
	}
	both(Case{Name: "top_k", In: []Operand{spread(3, 11)}, Build: one(graph.TopK{K: 4})})
	add(Case{Name: "top_k ties", In: []Operand{{Type: graph.Of(dtype.F32, 1, 6), Fill: Values, Values: []float64{1, 3, 3, 2, 3, 1}, NoGrad: true}}, Build: one(graph.TopK{K: 5}), NoGrad: true})
	for _, down := range []bool{false, true} {
		both(Case{Name: fmt.Sprintf("sort %v", down), In: []Operand{spread(3, 11)}, Build: one(graph.Sort{Descending: down})})
		add(Case{Name: fmt.Sprintf("sort i32 %v", down), In: []Operand{ids(4, 2, 19)}, Build: one(graph.Sort{Descending: down})})
	}
	for axis := range 2 {
		add(Case{Name: fmt.Sprintf("iota %d", axis), In: []Operand{ids(3, 4, 5)}, Build: func(in []*graph.Value) []*graph.Value {
			return []*graph.Value{graph.Add(in[0], in[0].Graph().Count(graph.Of(dtype.I32, 4, 5), axis))}
		}})
	}
	for k := graph.RandomUniform; k <= graph.RandomBits; k++ {
		key := Operand{Type: graph.Of(dtype.U32, 2), Fill: Values, Values: []float64{42, 7}}
		add(Case{Name: fmt.Sprintf("random %d", k), In: []Operand{key}, Build: one(graph.Random{Kind: k, Shape: []int{3, 11}, Stream: 5}), NoGrad: true})
	}
	return cases
}
