package graph

import (
	"math"

	"danlu/dtype"
)

// Decompose implements Decomposer.
func (o RoPE) Decompose(in []*Value) []*Value {
	x := Convert(in[0], dtype.F32)
	b, t, h, k := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	half := in[1].Last()
	r := 2 * half
	cos, sin := ReshapeTo(in[1], b, t, 1, half), ReshapeTo(in[2], b, t, 1, half)
	if o.Inverse {
		sin = Neg(sin)
	}
	turned := Cut(x, 3, 0, r)
	var first, second *Value
	if o.Interleaved {
		pairs := ReshapeTo(turned, b, t, h, half, 2)
		first = ReshapeTo(Cut(pairs, 4, 0, 1), b, t, h, half)
		second = ReshapeTo(Cut(pairs, 4, 1, 2), b, t, h, half)
	} else {
		first, second = Cut(turned, 3, 0, half), Cut(turned, 3, half, r)
	}
	a := Sub(Mul(first, cos), Mul(second, sin))
	c := Add(Mul(second, cos), Mul(first, sin))
	if o.Interleaved {
		turned = ReshapeTo(Join(4, ReshapeTo(a, b, t, h, half, 1), ReshapeTo(c, b, t, h, half, 1)), b, t, h, r)
	} else {
		turned = Join(3, a, c)
	}
	if r < k {
		turned = Join(3, turned, Cut(x, 3, r, k))
	}
	return []*Value{Convert(turned, in[0].DType)}
}

// VJP implements Differentiable. The transpose of a rotation (times a factor in cos and sin) is its inverse.
func (o RoPE) VJP(b *Backward) []*Value {
	if b.Needs(1) || b.Needs(2) {
		return b.Decomposed(o)
	}
	if b.DOut(0) == nil {
		return []*Value{nil, nil, nil}
	}
	return []*Value{one(RoPE{Interleaved: o.Interleaved, Inverse: !o.Inverse}, b.DOut(0), b.In(1), b.In(2)), nil, nil}
}

// Decompose implements Decomposer. Here angles are formed in float32; engines form them in float64.
func (o RotaryTable) Decompose(in []*Value) []*Value {
	pos, inv := in[0], in[1]
	b, t := pos.Shape[1], pos.Shape[2]
	row := func(i int) *Value {
		return ReshapeTo(Convert(Cut(pos, 0, i, i+1), dtype.F32), b, t, 1)
	}
	var angle *Value
	if o.Sections == nil {
		angle = Mul(row(0), inv)
	} else {
		var parts []*Value
		at := 0
		for i, n := range o.Sections {
			parts = append(parts, Mul(row(i), Cut(inv, 0, at, at+n)))
			at += n
		}
		angle = Join(2, parts...)
	}
	return []*Value{MulScalar(Cos(angle), o.Scale), MulScalar(Sin(angle), o.Scale)}
}

// VJP implements Differentiable: tables have no gradient.
func (RotaryTable) VJP(b *Backward) []*Value { return []*Value{nil, nil} }

// expandKV is keys or values [B, S, G, K] as [B, G, 1, S, K], for queries [B, G, H/G, T, K].
func expandKV(x *Value) *Value {
	x = Permute(x, 0, 2, 1, 3)
	return ReshapeTo(x, x.Shape[0], x.Shape[1], 1, x.Shape[2], x.Shape[3])
}

func groupQ(x *Value, g int) *Value {
	x = Permute(x, 0, 2, 1, 3)
	return ReshapeTo(x, x.Shape[0], g, x.Shape[1]/g, x.Shape[2], x.Shape[3])
}

// ungroupQ undoes groupQ.
func ungroupQ(x *Value) *Value {
	return Permute(ReshapeTo(x, x.Shape[0], x.Shape[1]*x.Shape[2], x.Shape[3], x.Shape[4]), 0, 2, 1, 3)
}

// masked is the scaled, biased scores [B, G, H/G, T, S] with -inf where a query does not see a key.
func (o Attention) masked(in []*Value) *Value {
	q, k := in[AttnQ], in[AttnK]
	b, t, h := q.Shape[0], q.Shape[1], q.Shape[2]
	s, g := k.Shape[1], k.Shape[2]
	scores := MulScalar(Dot(groupQ(factor(q, o.Compute), g), expandKV(factor(k, o.Compute)), false, true, dtype.F32), o.Scale)
	if o.Softcap != 0 {
		scores = MulScalar(Tanh(MulScalar(scores, 1/o.Softcap)), o.Softcap)
	}
	gr := q.Graph()
	query := AddScalar(gr.Count(Of(dtype.I32, t, 1), 0), float64(s-t))
	key := gr.Count(Of(dtype.I32, 1, s), 1)
	if x := in[AttnSlopes]; x != nil {
		distance := Convert(Sub(key, query), dtype.F32)
		scores = Add(scores, Mul(ReshapeTo(x, 1, g, h/g, 1, 1), distance))
	}
	if x := in[AttnBias]; x != nil {
		shape := []int{x.Shape[0], 1, 1, t, s}
		if x.Shape[1] == h {
			shape[1], shape[2] = g, h/g
		}
		scores = Add(scores, ReshapeTo(x, shape...))
	}
	var sees *Value // [T, S] or [B, 1, 1, T, S]
	also := func(v *Value) {
		if sees == nil {
			sees = v
		} else {
			sees = And(sees, v)
		}
	}
	if o.Causal {
		visible := LessEqual(key, query)
		if p := in[AttnPrefix]; p != nil {
			visible = Or(visible, Less(key, ReshapeTo(p, b, 1, 1, 1, 1)))
		}
		also(visible)
	}
	if o.Window > 0 {
		also(Greater(key, AddScalar(query, -float64(o.Window))))
	}
	if x := in[AttnSegments]; x != nil {
		of, to := ReshapeTo(x, b, 1, 1, t, 1), ReshapeTo(x, b, 1, 1, 1, t)
		also(And(Equal(of, to), GreaterEqual(of, ConstLike(of, 0))))
	}
	if sees != nil {
		scores = Where(sees, scores, ConstLike(scores, math.Inf(-1)))
	}
	return scores
}

// Decompose implements Decomposer. A row without a visible key gets probabilities zero and logsumexp -inf.
func (o Attention) Decompose(in []*Value) []*Value {
	q := in[AttnQ]
	scores := o.masked(in)
	top := MaxOf(scores, -1)
	none := Equal(top, ConstLike(top, math.Inf(-1)))
	p := Exp(Sub(scores, Where(none, ConstLike(top, 0), top)))
	sum := SumKeep(p, -1)
	safe := Where(none, ConstLike(sum, 1), sum)
	out := Dot(factor(Div(p, safe), o.Compute), expandKV(factor(in[AttnV], o.Compute)), false, false, dtype.F32)
	lse := Add(top, Log(safe))
	return []*Value{Convert(ungroupQ(out), q.DType), ReshapeTo(lse, q.Shape[0], q.Shape[2], q.Shape[1])}
}

// VJP implements Differentiable.
func (o Attention) VJP(b *Backward) []*Value {
	out := make([]*Value, attnOperands)
	if b.DOut(1) != nil || b.Needs(AttnBias) || b.Needs(AttnSlopes) {
		return b.Decomposed(o)
	}
	if b.DOut(0) == nil {
		return out
	}
	in := []*Value{b.DOut(0), b.Out(0), b.Out(1)}
	for i := range attnOperands {
		in = append(in, b.In(i))
	}
	copy(out, Apply(AttentionGrad{o}, in...))
	return out
}

// Decompose implements Decomposer: with p the probabilities and δ = Σ dout·out, ds = p·(dout·vᵀ - δ), times the
// soft cap's derivative where there is one.
func (o AttentionGrad) Decompose(in []*Value) []*Value {
	dout, out, lse, operands := in[0], in[1], in[2], in[3:]
	q, k, v := operands[AttnQ], operands[AttnK], operands[AttnV]
	b, t, h := q.Shape[0], q.Shape[1], q.Shape[2]
	g := k.Shape[2]
	scores := o.Attention.masked(operands)
	l := ReshapeTo(lse, b, g, h/g, t, 1)
	none := Equal(l, ConstLike(l, math.Inf(-1)))
	p := Where(none, ConstLike(scores, 0), Exp(Sub(scores, Where(none, ConstLike(l, 0), l))))
	do := groupQ(factor(dout, o.Compute), g)
	delta := SumKeep(Mul(groupQ(Convert(dout, dtype.F32), g), groupQ(Convert(out, dtype.F32), g)), -1)
	dp := Dot(do, expandKV(factor(v, o.Compute)), false, true, dtype.F32)
	ds := Mul(p, Sub(dp, delta))
	if o.Softcap != 0 {
		raw := MulScalar(Dot(groupQ(factor(q, o.Compute), g), expandKV(factor(k, o.Compute)), false, true, dtype.F32), o.Scale/o.Softcap)
		th := Tanh(raw)
		ds = Mul(ds, AddScalar(Neg(Mul(th, th)), 1))
	}
	ds = MulScalar(ds, o.Scale)
	dq := Dot(factor(ds, o.Compute), expandKV(factor(k, o.Compute)), false, false, dtype.F32)
	// Keys and values of a group collect from its query heads.
	toKV := func(x *Value, like *Value) *Value {
		return Convert(Permute(Sum(x, 2), 0, 2, 1, 3), like.DType)
	}
	dk := Dot(factor(ds, o.Compute), groupQ(factor(q, o.Compute), g), true, false, dtype.F32)
	dv := Dot(factor(p, o.Compute), do, true, false, dtype.F32)
	return []*Value{Convert(ungroupQ(dq), q.DType), toKV(dk, k), toKV(dv, v)}
}
