package graph

import (
	"danlu/dtype"
)

// logits are the scaled, capped logits [N, V] in float32, and the derivative of the cap (nil: one).
func (o LinearLogProb) logits(x, w *Value) (z, slope *Value) {
	z = Dot(factor(x, o.Compute), factor(w, o.Compute), false, true, dtype.F32)
	if o.Scale != 0 && o.Scale != 1 {
		z = MulScalar(z, o.Scale)
	}
	if o.Softcap != 0 {
		t := Tanh(MulScalar(z, 1/o.Softcap))
		return MulScalar(t, o.Softcap), AddScalar(Neg(Mul(t, t)), 1)
	}
	return z, nil
}

// logSumExp of rows [N, V] → [N, 1].
func logSumExp(z *Value) *Value {
	top := MaxOf(z, -1)
	return Add(top, Log(SumKeep(Exp(Sub(z, top)), -1)))
}

// scored is 1 where a target counts, [N, 1] float32.
func scored(targets *Value) *Value {
	return Convert(GreaterEqual(ReshapeTo(targets, targets.Len(), 1), ConstLike(targets, 0)), dtype.F32)
}

// Decompose implements Decomposer.
func (o LinearLogProb) Decompose(in []*Value) []*Value {
	n := in[0].Shape[0]
	z, _ := o.logits(in[0], in[1])
	lse := logSumExp(z)
	index := Max(ReshapeTo(in[2], n, 1), ConstLike(in[2], 0))
	logp := Mul(Sub(Take(z, index), lse), scored(in[2]))
	out := []*Value{ReshapeTo(logp, n), ReshapeTo(lse, n)}
	if o.Entropy {
		p := Exp(Sub(z, lse))
		out = append(out, Sub(out[1], Sum(Mul(p, z), 1)))
	}
	return out
}

// VJP implements Differentiable.
func (o LinearLogProb) VJP(b *Backward) []*Value {
	in := make([]*Value, LogProbEntropy+1)
	in[LogProbX], in[LogProbW], in[LogProbTargets], in[LogProbLSE] = b.In(0), b.In(1), b.In(2), b.Out(1)
	in[LogProbD], in[LogProbDLSE] = b.DOutOrZero(0), b.DOut(1)
	if o.Entropy && b.DOut(2) != nil {
		in[LogProbDEntropy], in[LogProbEntropy] = b.DOut(2), b.Out(2)
	}
	g := Apply(LinearLogProbGrad{o}, in...)
	return []*Value{g[0], Convert(g[1], b.InType(1).DType), nil}
}

// Decompose implements Decomposer: dz = (onehot - p)·d + p·dlse - p·(z - lse + entropy)·dentropy.
func (o LinearLogProbGrad) Decompose(in []*Value) []*Value {
	x, w, targets := in[LogProbX], in[LogProbW], in[LogProbTargets]
	n, v := x.Shape[0], w.Shape[0]
	z, slope := o.logits(x, w)
	column := func(c *Value) *Value { return ReshapeTo(c, n, 1) }
	lse := column(in[LogProbLSE])
	p := Exp(Sub(z, lse))
	d := Mul(column(in[LogProbD]), scored(targets))
	hot := Convert(Equal(column(targets), x.Graph().Count(Of(dtype.I32, 1, v), 1)), dtype.F32)
	dz := Mul(Sub(hot, p), d)
	if c := in[LogProbDLSE]; c != nil {
		dz = Add(dz, Mul(p, column(c)))
	}
	if c := in[LogProbDEntropy]; c != nil {
		surprise := Add(Sub(z, lse), column(in[LogProbEntropy]))
		dz = Sub(dz, Mul(Mul(p, surprise), column(c)))
	}
	if slope != nil {
		dz = Mul(dz, slope)
	}
	if o.Scale != 0 && o.Scale != 1 {
		dz = MulScalar(dz, o.Scale)
	}
	dz = factor(dz, o.Compute)
	dx := Dot(dz, factor(w, o.Compute), false, false, dtype.F32)
	dw := Dot(dz, factor(x, o.Compute), true, false, dtype.F32)
	return []*Value{Convert(dx, x.DType), dw}
}

// distributions are the log-probabilities of student and teacher, [N, V].
func (o LinearKL) distributions(in []*Value) (student, teacher *Value) {
	of := func(x, w *Value) *Value {
		z := MulScalar(Dot(factor(x, o.Compute), factor(w, o.Compute), false, true, dtype.F32), 1/o.Temperature)
		return Sub(z, logSumExp(z))
	}
	return of(in[0], in[1]), of(in[2], in[3])
}

// Decompose implements Decomposer.
func (o LinearKL) Decompose(in []*Value) []*Value {
	s, t := o.distributions(in)
	kl := func(p, q *Value) *Value { return Sum(Mul(Exp(p), Sub(p, q)), 1) }
	switch o.Beta {
	case 0:
		return []*Value{kl(t, s)}
	case 1:
		return []*Value{kl(s, t)}
	}
	m := Log(Add(MulScalar(Exp(t), o.Beta), MulScalar(Exp(s), 1-o.Beta)))
	return []*Value{Add(MulScalar(kl(t, m), o.Beta), MulScalar(kl(s, m), 1-o.Beta))}
}

// VJP implements Differentiable. The fused gradient is the student's; a teacher that learns takes the decomposition.
func (o LinearKL) VJP(b *Backward) []*Value {
	if b.Needs(2) || b.Needs(3) {
		return b.Decomposed(o)
	}
	if b.DOut(0) == nil {
		return make([]*Value, 4)
	}
	g := Apply(LinearKLGrad{o}, b.In(0), b.In(1), b.In(2), b.In(3), b.DOut(0))
	return []*Value{g[0], Convert(g[1], b.InType(1).DType), nil, nil}
}

// Decompose implements Decomposer. For a divergence whose derivative by the student's probability is f, the gradient by
// the student's logits is s·(f - Σ s·f)/Temperature.
func (o LinearKLGrad) Decompose(in []*Value) []*Value {
	ls, lt := o.distributions(in[:4])
	s, t := Exp(ls), Exp(lt)
	var dz *Value
	switch o.Beta {
	case 0: // Σ t·(lt - ls): the derivative by the logits is s - t
		dz = Sub(s, t)
	case 1:
		f := Sub(ls, lt)
		dz = Mul(s, Sub(f, SumKeep(Mul(s, f), 1)))
	default:
		m := Log(Add(MulScalar(t, o.Beta), MulScalar(s, 1-o.Beta)))
		f := MulScalar(Sub(ls, m), 1-o.Beta) // the other terms cancel, since Σ m = 1
		dz = Mul(s, Sub(f, SumKeep(Mul(s, f), 1)))
	}
	dz = MulScalar(Mul(dz, ReshapeTo(in[4], in[4].Len(), 1)), 1/o.Temperature)
	dz = factor(dz, o.Compute)
	return []*Value{Convert(Dot(dz, factor(in[1], o.Compute), false, false, dtype.F32), in[0].DType), Dot(dz, factor(in[0], o.Compute), true, false, dtype.F32)}
}

// Decompose implements Decomposer.
func (SumSquares) Decompose(in []*Value) []*Value {
	var sum *Value
	for _, x := range in {
		x = Convert(x, dtype.F32)
		s := Sum(Mul(x, x))
		if sum == nil {
			sum = s
		} else {
			sum = Add(sum, s)
		}
	}
	return []*Value{sum}
}

// VJP implements Differentiable.
func (SumSquares) VJP(b *Backward) []*Value {
	out := make([]*Value, b.Len())
	for i := range out {
		if b.DOut(0) != nil && b.Needs(i) {
			x := b.In(i)
			out[i] = Mul(x, Convert(MulScalar(b.DOut(0), 2), x.DType))
		}
	}
	return out
}

// Decompose implements Decomposer.
func (o AdamW) Decompose(in []*Value) []*Value {
	p, g, m, v, lr, scale, step := in[0], in[1], in[2], in[3], in[4], in[5], in[6]
	g = Mul(g, scale)
	m = Add(MulScalar(m, o.Beta1), MulScalar(g, 1-o.Beta1))
	v = Add(MulScalar(v, o.Beta2), MulScalar(Mul(g, g), 1-o.Beta2))
	correction := func(beta float64) *Value { // 1 - beta^step
		return AddScalar(Neg(Pow(ConstLike(step, beta), step)), 1)
	}
	if o.WeightDecay != 0 {
		p = Sub(p, Mul(p, MulScalar(lr, o.WeightDecay)))
	}
	root := AddScalar(Div(Sqrt(v), Sqrt(correction(o.Beta2))), o.Eps)
	p = Sub(p, Div(Mul(m, Div(lr, correction(o.Beta1))), root))
	return []*Value{p, m, v}
}
