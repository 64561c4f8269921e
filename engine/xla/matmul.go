package xla

import (
	"fmt"
	"slices"

	"danlu/graph"
)

// matMul writes a product of matrices. Factors that were rounded to bfloat16 and widened again are taken as bfloat16:
// products of those are exact in float32. A leading axis that one operand repeats is one more axis of rows or columns of the
// other, so nothing is copied.
func (w writer) matMul(op graph.MatMul, a, b *value, out graph.Type) *value {
	if a.exact != nil && b.exact != nil {
		a, b = a.exact, b.exact
	}
	rank := out.Rank()
	a, b = w.leading(a, rank), w.leading(b, rank)
	inner, innerB := rank-1, rank-2
	if op.TransA {
		inner = rank - 2
	}
	if op.TransB {
		innerB = rank - 1
	}
	var shared, freeA, freeB []int
	for i := range rank - 2 {
		switch {
		case a.typ.Shape[i] == b.typ.Shape[i]:
			shared = append(shared, i)
		case a.typ.Shape[i] != 1:
			freeA = append(freeA, i)
		default:
			freeB = append(freeB, i)
		}
	}
	// Axes of size one that the other operand has in full would be one more axis of the result.
	x, axesX := w.without(a, freeB)
	y, axesY := w.without(b, freeA)
	d := accumulated(out.DType)
	result := slices.Concat(shared, freeA, []int{rank - 2}, freeB, []int{rank - 1})
	shape := make([]int, rank)
	for i, axis := range result {
		shape[i] = out.Shape[axis]
	}
	attributes := fmt.Sprintf("dot_dimension_numbers = #stablehlo.dot<lhs_batching_dimensions = %s, rhs_batching_dimensions = %s, lhs_contracting_dimensions = %s, rhs_contracting_dimensions = %s>",
		list(places(axesX, shared)...), list(places(axesY, shared)...), list(places(axesX, []int{inner})...), list(places(axesY, []int{innerB})...))
	if x.typ.DType != y.typ.DType {
		x, y = w.convert(x, d), w.convert(y, d)
	}
	product := w.one("stablehlo.dot_general", attributes, graph.Of(d, shape...), x, y)
	return w.convert(w.transpose(product, places(result, ints(0, rank))...), out.DType)
}

// leading gives x leading axes of size one up to a rank.
func (w writer) leading(x *value, rank int) *value {
	shape := slices.Repeat([]int{1}, rank-x.typ.Rank())
	return w.reshape(x, append(shape, x.typ.Shape...)...)
}

// without drops axes of size one, and says which axes are left.
func (w writer) without(x *value, drop []int) (*value, []int) {
	var shape, axes []int
	for i, n := range x.typ.Shape {
		if !slices.Contains(drop, i) {
			shape, axes = append(shape, n), append(axes, i)
		}
	}
	return w.reshape(x, shape...), axes
}

// places says where each of some axes is in a list.
func places(in, axes []int) []int {
	p := make([]int, len(axes))
	for i, a := range axes {
		p[i] = slices.Index(in, a)
	}
	return p
}
