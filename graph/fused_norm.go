package graph

import (
	"math"

	"danlu/dtype"
)

// rms is 1/sqrt(mean(x²) + eps) over the last axis, kept.
func rms(x *Value, eps float64) *Value {
	return Rsqrt(AddScalar(MeanKeep(Mul(x, x), -1), eps))
}

// Decompose implements Decomposer.
func (o RMSNorm) Decompose(in []*Value) []*Value {
	x := Convert(in[0], dtype.F32)
	y := Mul(x, rms(x, o.Eps))
	if in[1] != nil {
		y = Mul(y, Convert(in[1], dtype.F32))
	}
	return []*Value{Convert(y, o.Out)}
}

// VJP implements Differentiable.
func (o RMSNorm) VJP(b *Backward) []*Value {
	if b.DOut(0) == nil {
		return []*Value{nil, nil}
	}
	out := Apply(RMSNormGrad{o.Eps}, b.DOut(0), b.In(0), b.In(1))
	if len(out) == 1 {
		return []*Value{out[0], nil}
	}
	return []*Value{out[0], Convert(out[1], b.InType(1).DType)}
}

// Decompose implements Decomposer. With r the reciprocal root and n = x·r: dx = r·(g - n·mean(g·n)), g = dy·w.
func (o RMSNormGrad) Decompose(in []*Value) []*Value {
	dy, x := Convert(in[0], dtype.F32), Convert(in[1], dtype.F32)
	r := rms(x, o.Eps)
	n := Mul(x, r)
	g := dy
	if in[2] != nil {
		g = Mul(dy, Convert(in[2], dtype.F32))
	}
	dx := Convert(Mul(r, Sub(g, Mul(n, MeanKeep(Mul(g, n), -1)))), in[1].DType)
	if in[2] == nil {
		return []*Value{dx}
	}
	return []*Value{dx, Sum(rows(Mul(dy, n)), 0)}
}

// standardised is (x - mean)/sqrt(var + eps) and the reciprocal root.
func standardised(x *Value, eps float64) (n, r *Value) {
	c := Sub(x, MeanKeep(x, -1))
	r = rms(c, eps)
	return Mul(c, r), r
}

// Decompose implements Decomposer.
func (o LayerNorm) Decompose(in []*Value) []*Value {
	y, _ := standardised(Convert(in[0], dtype.F32), o.Eps)
	if in[1] != nil {
		y = Mul(y, Convert(in[1], dtype.F32))
	}
	if in[2] != nil {
		y = Add(y, Convert(in[2], dtype.F32))
	}
	return []*Value{Convert(y, o.Out)}
}

// VJP implements Differentiable.
func (o LayerNorm) VJP(b *Backward) []*Value {
	if b.DOut(0) == nil {
		return []*Value{nil, nil, nil}
	}
	g := Apply(LayerNormGrad{o.Eps}, b.DOut(0), b.In(0), b.In(1))
	out := []*Value{g[0], nil, nil}
	for i := 1; i < 3; i++ {
		if b.Needs(i) {
			out[i] = Convert(g[i], b.InType(i).DType)
		}
	}
	return out
}

// Decompose implements Decomposer: dx = r·(g - mean(g) - n·mean(g·n)), g = dy·w.
func (o LayerNormGrad) Decompose(in []*Value) []*Value {
	dy, x := Convert(in[0], dtype.F32), Convert(in[1], dtype.F32)
	n, r := standardised(x, o.Eps)
	g := dy
	if in[2] != nil {
		g = Mul(dy, Convert(in[2], dtype.F32))
	}
	dx := Mul(r, Sub(Sub(g, MeanKeep(g, -1)), Mul(n, MeanKeep(Mul(g, n), -1))))
	return []*Value{Convert(dx, in[1].DType), Sum(rows(Mul(dy, n)), 0), Sum(rows(dy), 0)}
}

// Decompose implements Decomposer.
func (Softmax) Decompose(in []*Value) []*Value {
	x := Convert(in[0], dtype.F32)
	e := Exp(Sub(x, MaxOf(x, -1)))
	return []*Value{Convert(Div(e, SumKeep(e, -1)), in[0].DType)}
}

// VJP implements Differentiable: dx = y·(dy - Σ dy·y).
func (Softmax) VJP(b *Backward) []*Value {
	d := b.DOut(0)
	if d == nil {
		return []*Value{nil}
	}
	y := b.Out(0)
	return []*Value{Mul(y, Sub(d, SumKeep(Mul(d, y), -1)))}
}

const (
	geluTanhScale = 0.7978845608028654 // sqrt(2/pi)
	geluTanhCube  = 0.044715
	quickGELU     = 1.702
)

// activate is the function and its derivative at float32 x.
func activate(kind ActivationKind, x *Value) (y, dydx *Value) {
	switch kind {
	case SiLU:
		s := Sigmoid(x)
		y = Mul(x, s)
		return y, Add(s, Mul(y, AddScalar(Neg(s), 1)))
	case QuickGELU:
		s := Sigmoid(MulScalar(x, quickGELU))
		y = Mul(x, s)
		return y, Add(s, MulScalar(Mul(y, AddScalar(Neg(s), 1)), quickGELU))
	case GELU:
		phi := MulScalar(AddScalar(Erf(MulScalar(x, 1/math.Sqrt2)), 1), 0.5)
		density := MulScalar(Exp(MulScalar(Mul(x, x), -0.5)), 1/math.Sqrt(2*math.Pi))
		return Mul(x, phi), Add(phi, Mul(x, density))
	case GELUTanh:
		x2 := Mul(x, x)
		t := Tanh(MulScalar(Mul(x, AddScalar(MulScalar(x2, geluTanhCube), 1)), geluTanhScale))
		half := MulScalar(AddScalar(t, 1), 0.5)
		inner := MulScalar(AddScalar(MulScalar(x2, 3*geluTanhCube), 1), geluTanhScale)
		return Mul(x, half), Add(half, Mul(MulScalar(Mul(x, AddScalar(Neg(Mul(t, t)), 1)), 0.5), inner))
	}
	positive := Convert(Greater(x, ConstLike(x, 0)), x.DType)
	return Mul(x, positive), positive
}

// Decompose implements Decomposer.
func (o Activation) Decompose(in []*Value) []*Value {
	y, _ := activate(o.Kind, Convert(in[0], dtype.F32))
	return []*Value{Convert(y, in[0].DType)}
}

// VJP implements Differentiable.
func (o Activation) VJP(b *Backward) []*Value {
	if b.DOut(0) == nil {
		return []*Value{nil}
	}
	return []*Value{one(ActivationGrad(o), b.DOut(0), b.In(0))}
}

// Decompose implements Decomposer.
func (o ActivationGrad) Decompose(in []*Value) []*Value {
	_, d := activate(o.Kind, Convert(in[1], dtype.F32))
	return []*Value{Convert(Mul(Convert(in[0], dtype.F32), d), in[1].DType)}
}

// halves are gate and up of a fused operand.
func halves(x *Value, upFirst bool) (gate, up *Value) {
	f := x.Last() / 2
	first, second := Cut(x, -1, 0, f), Cut(x, -1, f, 2*f)
	if upFirst {
		return second, first
	}
	return first, second
}

// Decompose implements Decomposer.
func (o GLU) Decompose(in []*Value) []*Value {
	gate, up := in[0], (*Value)(nil)
	if len(in) == 2 {
		up = in[1]
	} else {
		gate, up = halves(in[0], o.UpFirst)
	}
	y, _ := activate(o.Kind, Convert(gate, dtype.F32))
	return []*Value{Convert(Mul(y, Convert(up, dtype.F32)), in[0].DType)}
}

// VJP implements Differentiable.
func (o GLU) VJP(b *Backward) []*Value {
	if b.DOut(0) == nil {
		return make([]*Value, b.Len())
	}
	in := []*Value{b.DOut(0)}
	for i := range b.Len() {
		in = append(in, b.In(i))
	}
	return Apply(GLUGrad(o), in...)
}

// Decompose implements Decomposer.
func (o GLUGrad) Decompose(in []*Value) []*Value {
	dy, gate, up := Convert(in[0], dtype.F32), in[1], (*Value)(nil)
	if len(in) == 3 {
		up = in[2]
	} else {
		gate, up = halves(in[1], o.UpFirst)
	}
	y, d := activate(o.Kind, Convert(gate, dtype.F32))
	dGate := Convert(Mul(Mul(dy, Convert(up, dtype.F32)), d), in[1].DType)
	dUp := Convert(Mul(dy, y), in[1].DType)
	if len(in) == 3 {
		return []*Value{dGate, dUp}
	}
	if o.UpFirst {
		return []*Value{Join(-1, dUp, dGate)}
	}
	return []*Value{Join(-1, dGate, dUp)}
}
