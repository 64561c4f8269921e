package graph

import "danlu/dtype"

// The functions below add one fused operation each; optional operands may be nil.

// Project is Linear.
func Project(x, w, bias *Value, compute, out dtype.DType) *Value {
	return one(Linear{Compute: compute, Out: out}, x, w, bias)
}

// Embed is Embedding.
func Embed(w, ids *Value, out dtype.DType) *Value { return one(Embedding{out}, w, ids) }

// NormRMS is RMSNorm.
func NormRMS(x, w *Value, eps float64, out dtype.DType) *Value {
	return one(RMSNorm{Eps: eps, Out: out}, x, w)
}

// NormLayer is LayerNorm.
func NormLayer(x, w, b *Value, eps float64, out dtype.DType) *Value {
	return one(LayerNorm{Eps: eps, Out: out}, x, w, b)
}

// SoftmaxOf is Softmax.
func SoftmaxOf(x *Value) *Value { return one(Softmax{}, x) }

// Activate is Activation.
func Activate(x *Value, kind ActivationKind) *Value { return one(Activation{kind}, x) }

// Gated is GLU of two operands.
func Gated(gate, up *Value, kind ActivationKind) *Value { return one(GLU{Kind: kind}, gate, up) }

// GatedFused is GLU of one operand with two halves.
func GatedFused(x *Value, kind ActivationKind, upFirst bool) *Value {
	return one(GLU{Kind: kind, UpFirst: upFirst}, x)
}

// Rotate is RoPE.
func Rotate(x, cos, sin *Value, interleaved bool) *Value {
	return one(RoPE{Interleaved: interleaved}, x, cos, sin)
}

// RotaryTables is RotaryTable.
func RotaryTables(positions, invFreq *Value, sections []int, scale float64) (cos, sin *Value) {
	out := Apply(RotaryTable{Sections: sections, Scale: scale}, positions, invFreq)
	return out[0], out[1]
}

// AttentionMask is what limits attention besides its attributes; every field may be nil.
type AttentionMask struct {
	Segments, Prefix, Slopes, Bias *Value
}

// Attend is Attention.
func Attend(op Attention, q, k, v *Value, mask AttentionMask) *Value {
	return Apply(op, q, k, v, mask.Segments, mask.Prefix, mask.Slopes, mask.Bias)[0]
}

// LogProbs is LinearLogProb.
func LogProbs(op LinearLogProb, x, w, targets *Value) []*Value { return Apply(op, x, w, targets) }

// Square sums of all operands.
func Squares(xs ...*Value) *Value { return one(SumSquares{}, xs...) }
