package graph

import (
	"fmt"

	"danlu/dtype"
)

// Dropout zeroes each element of x with probability Rate and divides the others by 1-Rate (Srivastava et al., JMLR 15,
// 2014): element i stays where the uniform number i of [Random] with this key (U32 [2]) and Stream is at least Rate. The
// mask is never kept; the backward pass makes it again.
type Dropout struct {
	Rate   float64
	Stream uint32
}

// Cheap implements Cheap.
func (Dropout) Cheap() bool { return true }

// Name implements Op.
func (o Dropout) Name() string { return fmt.Sprintf("dropout %g", o.Rate) }

// Infer implements Op.
func (o Dropout) Infer(in []Type) ([]Type, error) {
	if !in[1].Equal(Of(dtype.U32, 2)) {
		return nil, fmt.Errorf("want x and a u32[2] key of seed and step")
	}
	if !(o.Rate >= 0 && o.Rate < 1) {
		return nil, fmt.Errorf("want a rate of at least 0 and below 1, got %v", o.Rate)
	}
	return []Type{Of(in[0].DType, in[0].Shape...)}, nil
}

// Decompose implements Decomposer.
func (o Dropout) Decompose(in []*Value) []*Value {
	x := Convert(in[0], dtype.F32)
	u := NewRandom(RandomUniform, in[1], o.Stream, x.Shape...)
	kept := MulScalar(x, 1/(1-o.Rate))
	return []*Value{Convert(Where(GreaterEqual(u, ConstLike(u, o.Rate)), kept, ConstLike(kept, 0)), in[0].DType)}
}

// VJP implements Differentiable: the same mask on the cotangent.
func (o Dropout) VJP(b *Backward) []*Value {
	out := []*Value{nil, nil}
	if d := b.DOut(0); d != nil && b.Needs(0) {
		out[0] = one(o, d, b.In(1))
	}
	return out
}

// Drop is Dropout.
func Drop(x, key *Value, rate float64, stream uint32) *Value {
	return one(Dropout{rate, stream}, x, key)
}
