package graph

import (
	"slices"

	"danlu/dtype"
)

// factor is a matrix factor as Compute rounds it, in float32.
func factor(x *Value, compute dtype.DType) *Value {
	if compute == dtype.BF16 {
		x = Convert(x, dtype.BF16)
	}
	return Convert(x, dtype.F32)
}

// activations are the factor beside weights w: with Compute Q8_0 rounded in blocks if w's storage has blocks.
func activations(x, w *Value, compute dtype.DType) *Value {
	if compute != dtype.Q8_0 || !w.DType.IsQuantized() {
		return factor(x, compute)
	}
	const block = 32
	blocks := ReshapeTo(Convert(x, dtype.F32), x.Len()/block, block)
	scale := MulScalar(MaxOf(Abs(blocks), 1), 1.0/127)
	levels := Floor(AddScalar(Div(blocks, Max(scale, ConstLike(scale, 1e-38))), 0.5))
	return ReshapeTo(Mul(levels, scale), x.Shape...)
}

// rows is x [..., D] as a matrix [N, D].
func rows(x *Value) *Value {
	if x.Rank() == 2 {
		return x
	}
	return ReshapeTo(x, x.Len()/max(1, x.Last()), x.Last())
}

// Decompose implements Decomposer.
func (o Linear) Decompose(in []*Value) []*Value {
	x, w := in[0], in[1]
	y := Dot(activations(rows(x), w, o.Compute), factor(w, o.Compute), false, true, dtype.F32)
	if len(in) > 2 && in[2] != nil {
		y = Add(y, Convert(in[2], dtype.F32))
	}
	shape := slices.Clone(x.Shape)
	shape[len(shape)-1] = w.Shape[0]
	d := o.Out
	if d == dtype.Invalid {
		d = x.DType
	}
	return []*Value{Convert(ReshapeTo(y, shape...), d)}
}

// VJP implements Differentiable.
func (o Linear) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	out := make([]*Value, b.Len())
	if d == nil {
		return out
	}
	if b.Needs(0) {
		out[0] = one(LinearGradX{Compute: o.Compute, Out: b.InType(0).DType}, d, b.In(1))
	}
	if b.Needs(1) {
		out[1] = Convert(one(LinearGradW{Compute: o.Compute}, d, b.In(0)), b.InType(1).DType)
	}
	if b.Len() > 2 && b.Needs(2) {
		out[2] = Convert(Sum(Convert(rows(d), dtype.F32), 0), b.InType(2).DType)
	}
	return out
}

// Decompose implements Decomposer.
func (o LinearGradX) Decompose(in []*Value) []*Value {
	dx := Dot(factor(rows(in[0]), o.Compute), factor(in[1], o.Compute), false, false, dtype.F32)
	shape := slices.Clone(in[0].Shape)
	shape[len(shape)-1] = in[1].Shape[1]
	return []*Value{Convert(ReshapeTo(dx, shape...), o.Out)}
}

// Decompose implements Decomposer.
func (o LinearGradW) Decompose(in []*Value) []*Value {
	return []*Value{Dot(factor(rows(in[0]), o.Compute), factor(rows(in[1]), o.Compute), true, false, dtype.F32)}
}

// Decompose implements Decomposer.
func (o Embedding) Decompose(in []*Value) []*Value {
	return []*Value{Convert(Rows(in[0], in[1]), o.Out)}
}

// VJP implements Differentiable.
func (Embedding) VJP(b *Backward) []*Value {
	out := []*Value{nil, nil}
	if d := b.DOut(0); d != nil && b.Needs(0) {
		t := b.InType(0)
		out[0] = AddRows(Zeros(b.Graph(), t), b.In(1), Convert(d, t.DType))
	}
	return out
}

// groupOf gives the group of each of n sorted rows: the number of offsets, but the first, that are at most the row.
func groupOf(offsets *Value, n int) *Value {
	g := offsets.Graph()
	row := g.Count(Of(dtype.I32, n, 1), 0)
	ends := Cut(offsets, 0, 1, offsets.Shape[0])
	past := Convert(GreaterEqual(row, ReshapeTo(ends, 1, ends.Shape[0])), dtype.I32)
	return Min(Sum(past, 1), ConstLike(past, float64(ends.Shape[0]-1)))
}

// oneHotGroups is [E, N] float32: 1 where row n belongs to group e.
func oneHotGroups(offsets *Value, n int) *Value {
	e := offsets.Shape[0] - 1
	group := ReshapeTo(groupOf(offsets, n), 1, n)
	return Convert(Equal(offsets.Graph().Count(Of(dtype.I32, e, 1), 0), group), dtype.F32)
}

// Decompose implements Decomposer: every group's product with all rows, of which each row takes its own.
func (o GroupedLinear) Decompose(in []*Value) []*Value {
	x, w, offsets := in[0], in[1], in[2]
	n, e := x.Shape[0], w.Shape[0]
	all := Dot(ReshapeTo(activations(x, w, o.Compute), 1, n, x.Shape[1]), factor(w, o.Compute), false, true, dtype.F32) // [E, N, Out]
	mine := ReshapeTo(oneHotGroups(offsets, n), e, n, 1)
	return []*Value{Convert(Sum(Mul(all, mine), 0), o.Out)}
}

// VJP implements Differentiable.
func (o GroupedLinear) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	out := []*Value{nil, nil, nil}
	if d == nil {
		return out
	}
	if b.Needs(0) {
		out[0] = one(GroupedLinearGradX{Compute: o.Compute, Out: b.InType(0).DType}, d, b.In(1), b.In(2))
	}
	if b.Needs(1) {
		out[1] = Convert(one(GroupedLinearGradW{Compute: o.Compute}, d, b.In(0), b.In(2)), b.InType(1).DType)
	}
	return out
}

// Decompose implements Decomposer.
func (o GroupedLinearGradX) Decompose(in []*Value) []*Value {
	dy, w, offsets := in[0], in[1], in[2]
	n, e := dy.Shape[0], w.Shape[0]
	all := Dot(ReshapeTo(factor(dy, o.Compute), 1, n, dy.Shape[1]), factor(w, o.Compute), false, false, dtype.F32)
	return []*Value{Convert(Sum(Mul(all, ReshapeTo(oneHotGroups(offsets, n), e, n, 1)), 0), o.Out)}
}

// Decompose implements Decomposer.
func (o GroupedLinearGradW) Decompose(in []*Value) []*Value {
	dy, x, offsets := in[0], in[1], in[2]
	n, e := dy.Shape[0], offsets.Shape[0]-1
	mine := Mul(ReshapeTo(factor(dy, o.Compute), 1, n, dy.Shape[1]), ReshapeTo(oneHotGroups(offsets, n), e, n, 1))
	return []*Value{Dot(mine, BroadcastTo(ReshapeTo(factor(x, o.Compute), 1, n, x.Shape[1]), e, n, x.Shape[1]), true, false, dtype.F32)}
}

// Decompose implements Decomposer.
func (o GroupRows) Decompose(in []*Value) []*Value {
	ids := ReshapeTo(in[0], in[0].Len())
	_, order := Sorted(ids, false)
	expert := ids.Graph().Count(Of(dtype.I32, o.Experts+1, 1), 0)
	below := Convert(Less(ReshapeTo(ids, 1, ids.Len()), expert), dtype.I32)
	return []*Value{order, Sum(below, 1)}
}

// VJP implements Differentiable: choices have no gradient.
func (GroupRows) VJP(b *Backward) []*Value { return []*Value{nil} }
