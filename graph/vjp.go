package graph

import (
	"math"
	"slices"

	"danlu/dtype"
)

// unbroadcast sums a cotangent over the axes along which its operand of type t was repeated.
func unbroadcast(c *Value, t Type) *Value {
	if slices.Equal(c.Shape, t.Shape) {
		return c
	}
	lead := len(c.Shape) - len(t.Shape)
	var gone, kept []int
	for i := range c.Shape {
		switch {
		case i < lead:
			gone = append(gone, i)
		case t.Shape[i-lead] == 1 && c.Shape[i] != 1:
			kept = append(kept, i)
		}
	}
	if len(kept) > 0 {
		c = SumKeep(c, kept...)
	}
	if len(gone) > 0 {
		c = Sum(c, gone...)
	}
	return c
}

// VJP implements Differentiable.
func (o Unary) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	if d == nil {
		return []*Value{nil}
	}
	var dx *Value
	switch o.Kind {
	case UnaryNeg:
		dx = Neg(d)
	case UnaryExp:
		dx = Mul(d, b.Out(0))
	case UnaryLog:
		dx = Div(d, b.In(0))
	case UnaryTanh:
		y := b.Out(0)
		dx = Sub(d, Mul(d, Mul(y, y)))
	case UnaryErf: // 2/sqrt(pi) exp(-x²)
		x := b.In(0)
		dx = Mul(d, MulScalar(Exp(Neg(Mul(x, x))), 2/math.Sqrt(math.Pi)))
	case UnarySqrt:
		dx = Div(MulScalar(d, 0.5), b.Out(0))
	case UnaryRsqrt: // -y³/2
		y := b.Out(0)
		dx = Mul(MulScalar(d, -0.5), Mul(y, Mul(y, y)))
	case UnaryAbs:
		dx = Mul(d, Sign(b.In(0)))
	case UnarySin:
		dx = Mul(d, Cos(b.In(0)))
	case UnaryCos:
		dx = Neg(Mul(d, Sin(b.In(0))))
	case UnarySigmoid:
		y := b.Out(0)
		dx = Mul(d, Sub(y, Mul(y, y)))
	case UnarySign, UnaryFloor, UnaryNot:
		return []*Value{nil}
	}
	return []*Value{dx}
}

// VJP implements Differentiable. At a tie of Max or Min each operand gets half.
func (o Binary) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	out := []*Value{nil, nil}
	if d == nil || o.Kind.Compares() || o.Kind == BinaryAnd || o.Kind == BinaryOr {
		return out
	}
	give := func(i int, c func() *Value) {
		if b.Needs(i) {
			out[i] = unbroadcast(c(), b.InType(i))
		}
	}
	switch o.Kind {
	case BinaryAdd:
		give(0, func() *Value { return d })
		give(1, func() *Value { return d })
	case BinarySub:
		give(0, func() *Value { return d })
		give(1, func() *Value { return Neg(d) })
	case BinaryMul:
		give(0, func() *Value { return Mul(d, b.In(1)) })
		give(1, func() *Value { return Mul(d, b.In(0)) })
	case BinaryDiv:
		give(0, func() *Value { return Div(d, b.In(1)) })
		give(1, func() *Value { y := b.In(1); return Neg(Div(Mul(d, b.In(0)), Mul(y, y))) })
	case BinaryMax, BinaryMin:
		share := func(x, y *Value) *Value {
			wins := Greater(x, y)
			if o.Kind == BinaryMin {
				wins = Less(x, y)
			}
			return Mul(d, Add(Convert(wins, d.DType), MulScalar(Convert(Equal(x, y), d.DType), 0.5)))
		}
		give(0, func() *Value { return share(b.In(0), b.In(1)) })
		give(1, func() *Value { return share(b.In(1), b.In(0)) })
	case BinaryPow:
		give(0, func() *Value { x, y := b.In(0), b.In(1); return Mul(d, Mul(y, Pow(x, AddScalar(y, -1)))) })
		give(1, func() *Value { return Mul(d, Mul(b.Out(0), Log(b.In(0)))) })
	case BinaryRem:
		give(0, func() *Value { return d })
	}
	return out
}

// VJP implements Differentiable.
func (Select) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	out := []*Value{nil, nil, nil}
	if d == nil {
		return out
	}
	cond, zero := b.In(0), ConstLike(d, 0)
	if b.Needs(1) {
		out[1] = unbroadcast(Where(cond, d, zero), b.InType(1))
	}
	if b.Needs(2) {
		out[2] = unbroadcast(Where(cond, zero, d), b.InType(2))
	}
	return out
}

// VJP implements Differentiable.
func (Cast) VJP(b *Backward) []*Value {
	if d := b.DOut(0); d != nil && b.InType(0).DType.IsFloat() && !b.InType(0).DType.IsQuantized() {
		return []*Value{Convert(d, b.InType(0).DType)}
	}
	return []*Value{nil}
}

// VJP implements Differentiable.
func (Same) VJP(b *Backward) []*Value { return []*Value{b.DOut(0)} }

// VJP implements Differentiable.
func (StopGradient) VJP(b *Backward) []*Value { return []*Value{nil} }

// VJP implements Differentiable.
func (Reshape) VJP(b *Backward) []*Value {
	if b.DOut(0) == nil {
		return []*Value{nil}
	}
	return []*Value{ReshapeTo(b.DOut(0), b.InType(0).Shape...)}
}

// VJP implements Differentiable.
func (o Transpose) VJP(b *Backward) []*Value {
	if b.DOut(0) == nil {
		return []*Value{nil}
	}
	inverse := make([]int, len(o.Perm))
	for i, p := range o.Perm {
		inverse[p] = i
	}
	return []*Value{Permute(b.DOut(0), inverse...)}
}

// VJP implements Differentiable.
func (Broadcast) VJP(b *Backward) []*Value {
	if b.DOut(0) == nil {
		return []*Value{nil}
	}
	return []*Value{unbroadcast(b.DOut(0), b.InType(0))}
}

// VJP implements Differentiable. Elements that tie for an extremum share its cotangent evenly.
func (o Reduce) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	if d == nil {
		return []*Value{nil}
	}
	t := b.InType(0)
	keep := slices.Clone(t.Shape)
	for _, a := range o.Axes {
		keep[a] = 1
	}
	d = ReshapeTo(d, keep...)
	if o.Kind == ReduceSum {
		return []*Value{BroadcastTo(d, t.Shape...)}
	}
	x := b.In(0)
	hit := Convert(Equal(x, ReshapeTo(b.Out(0), keep...)), x.DType)
	return []*Value{Mul(hit, Div(d, SumKeep(hit, o.Axes...)))}
}

// VJP implements Differentiable: the sum of the cotangents from each place on.
func (CumSum) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	if d == nil {
		return []*Value{nil}
	}
	last := len(d.Shape) - 1
	return []*Value{Add(Sub(SumKeep(d, last), one(CumSum{}, d)), d)}
}

// VJP implements Differentiable.
func (o MatMul) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	out := []*Value{nil, nil}
	if d == nil {
		return out
	}
	if b.Needs(0) {
		t := b.InType(0)
		if o.TransA {
			out[0] = unbroadcast(Dot(b.In(1), d, o.TransB, true, t.DType), t)
		} else {
			out[0] = unbroadcast(Dot(d, b.In(1), false, !o.TransB, t.DType), t)
		}
	}
	if b.Needs(1) {
		t := b.InType(1)
		if o.TransB {
			out[1] = unbroadcast(Dot(d, b.In(0), true, o.TransA, t.DType), t)
		} else {
			out[1] = unbroadcast(Dot(b.In(0), d, !o.TransA, false, t.DType), t)
		}
	}
	return out
}

// VJP implements Differentiable.
func (Gather) VJP(b *Backward) []*Value {
	out := []*Value{nil, nil}
	if d := b.DOut(0); d != nil && b.Needs(0) {
		out[0] = AddRows(Zeros(b.Graph(), b.InType(0)), b.In(1), Convert(d, b.InType(0).DType))
	}
	return out
}

// VJP implements Differentiable. Rows with a negative index had no effect and get zero.
func (ScatterAdd) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	out := []*Value{nil, nil, nil}
	if d == nil {
		return out
	}
	out[0] = d
	if b.Needs(2) {
		index := b.In(1)
		zero := ConstLike(index, 0)
		rows := Rows(d, Max(index, zero))
		shape := append(slices.Clone(index.Shape), make([]int, len(rows.Shape)-len(index.Shape))...)
		for i := len(index.Shape); i < len(shape); i++ {
			shape[i] = 1
		}
		out[2] = Where(ReshapeTo(GreaterEqual(index, zero), shape...), rows, ConstLike(rows, 0))
	}
	return out
}

// VJP implements Differentiable, by comparing every place of the axis with the index.
func (TakeAlong) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	out := []*Value{nil, nil}
	if d == nil || !b.Needs(0) {
		return out
	}
	out[0] = scatterLast(d, b.In(1), b.InType(0).Last())
	return out
}

// VJP implements Differentiable.
func (o Slice) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	if d == nil {
		return []*Value{nil}
	}
	t := b.InType(0)
	var parts []*Value
	zeros := func(n int) {
		if n > 0 {
			s := Of(d.DType, t.Shape...)
			s.Shape[o.Axis] = n
			parts = append(parts, Zeros(b.Graph(), s))
		}
	}
	zeros(o.Start)
	parts = append(parts, d)
	zeros(t.Shape[o.Axis] - o.End)
	return []*Value{Join(o.Axis, parts...)}
}

// VJP implements Differentiable.
func (o Concat) VJP(b *Backward) []*Value {
	out := make([]*Value, b.Len())
	d := b.DOut(0)
	if d == nil {
		return out
	}
	at := 0
	for i := range out {
		n := b.InType(i).Shape[o.Axis]
		if b.Needs(i) {
			out[i] = Cut(d, o.Axis, at, at+n)
		}
		at += n
	}
	return out
}

// scatterLast puts cotangents [..., K] back to the places index [..., K] of an axis of size n.
func scatterLast(d, index *Value, n int) *Value {
	r := len(index.Shape)
	place := make([]int, r+1)
	for i := range place {
		place[i] = 1
	}
	place[r] = n
	count := d.Graph().Count(Of(dtype.I32, place...), r)
	hit := Equal(ReshapeTo(index, append(slices.Clone(index.Shape), 1)...), count)
	return Sum(Where(hit, ReshapeTo(d, append(slices.Clone(d.Shape), 1)...), ConstLike(d, 0)), r-1)
}

// VJP implements Differentiable.
func (TopK) VJP(b *Backward) []*Value {
	if b.DOut(0) == nil {
		return []*Value{nil}
	}
	return []*Value{scatterLast(b.DOut(0), b.Out(1), b.InType(0).Last())}
}

// VJP implements Differentiable.
func (Sort) VJP(b *Backward) []*Value {
	if b.DOut(0) == nil {
		return []*Value{nil}
	}
	return []*Value{scatterLast(b.DOut(0), b.Out(1), b.InType(0).Last())}
}
