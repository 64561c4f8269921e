package graph

import (
	"fmt"
	"slices"

	"danlu/dtype"
)

// RMSNorm is x / sqrt(mean(x²) + Eps) * w over the last axis (Zhang & Sennrich, arXiv:1910.07467), computed in float32:
// x [..., D], w [D] or absent → [..., D] in element type Out.
type RMSNorm struct {
	Eps float64
	Out dtype.DType
}

// Name implements Op.
func (o RMSNorm) Name() string { return "rms_norm" }

// Infer implements Op.
func (o RMSNorm) Infer(in []Type) ([]Type, error) { return inferNorm(o.Out, in, 1) }

// Cheap implements Cheap.
func (RMSNorm) Cheap() bool { return true }

// FLOPs implements Coster.
func (RMSNorm) FLOPs(in, out []Type) float64 { return 4 * float64(out[0].Len()) }

// RMSNormGrad is the gradient of RMSNorm: dy, x [..., D], w [D] or absent → dx (x's type) and dw [D] float32 (summed
// over rows in chunks of a fixed size; absent w: no second result).
type RMSNormGrad struct{ Eps float64 }

// Name implements Op.
func (o RMSNormGrad) Name() string { return "rms_norm_grad" }

// Infer implements Op.
func (o RMSNormGrad) Infer(in []Type) ([]Type, error) {
	dx := Of(in[1].DType, in[1].Shape...)
	if in[2].IsZero() {
		return []Type{dx}, nil
	}
	return []Type{dx, Of(dtype.F32, in[1].Last())}, nil
}

// FLOPs implements Coster.
func (RMSNormGrad) FLOPs(in, out []Type) float64 { return 8 * float64(out[0].Len()) }

// LayerNorm is (x - mean) / sqrt(var + Eps) * w + b over the last axis: x [..., D], w [D] or absent, b [D] or absent.
type LayerNorm struct {
	Eps float64
	Out dtype.DType
}

// Name implements Op.
func (o LayerNorm) Name() string { return "layer_norm" }

// Infer implements Op.
func (o LayerNorm) Infer(in []Type) ([]Type, error) { return inferNorm(o.Out, in, 2) }

// Cheap implements Cheap.
func (LayerNorm) Cheap() bool { return true }

// FLOPs implements Coster.
func (LayerNorm) FLOPs(in, out []Type) float64 { return 7 * float64(out[0].Len()) }

// LayerNormGrad is the gradient of LayerNorm: dy, x [..., D], w [D] or absent → dx (x's type), dw [D], db [D] float32.
type LayerNormGrad struct{ Eps float64 }

// Name implements Op.
func (o LayerNormGrad) Name() string { return "layer_norm_grad" }

// Infer implements Op.
func (o LayerNormGrad) Infer(in []Type) ([]Type, error) {
	p := Of(dtype.F32, in[1].Last())
	return []Type{Of(in[1].DType, in[1].Shape...), p, p}, nil
}

// FLOPs implements Coster.
func (LayerNormGrad) FLOPs(in, out []Type) float64 { return 14 * float64(out[0].Len()) }

func inferNorm(out dtype.DType, in []Type, params int) ([]Type, error) {
	if in[0].Rank() == 0 {
		return nil, fmt.Errorf("want at least one axis")
	}
	for _, p := range in[1 : 1+params] {
		if !p.IsZero() && !slices.Equal(p.Shape, []int{in[0].Last()}) {
			return nil, fmt.Errorf("want parameters of %d", in[0].Last())
		}
	}
	return []Type{Of(out, in[0].Shape...)}, nil
}

// Softmax normalises the last axis, in float32 at least.
type Softmax struct{}

// Name implements Op.
func (Softmax) Name() string { return "softmax" }

// Infer implements Op.
func (Softmax) Infer(in []Type) ([]Type, error) { return []Type{Of(in[0].DType, in[0].Shape...)}, nil }

// FLOPs implements Coster.
func (Softmax) FLOPs(in, out []Type) float64 { return 5 * float64(out[0].Len()) }

// ActivationKind names an activation function.
type ActivationKind uint8

// The activation functions.
const (
	SiLU     ActivationKind = iota // x·sigmoid(x)
	GELU                           // with erf
	GELUTanh                       // with the tanh approximation
	ReLU
	QuickGELU // x·sigmoid(1.702x)
)

var activationNames = [...]string{"silu", "gelu", "gelu_tanh", "relu", "quick_gelu"}

func (k ActivationKind) String() string { return activationNames[k] }

// Activation applies an activation function to each element, in float32 at least.
type Activation struct{ Kind ActivationKind }

// Name implements Op.
func (o Activation) Name() string { return o.Kind.String() }

// Infer implements Op.
func (o Activation) Infer(in []Type) ([]Type, error) {
	return []Type{Of(in[0].DType, in[0].Shape...)}, nil
}

// Cheap implements Cheap.
func (Activation) Cheap() bool { return true }

// FLOPs implements Coster.
func (Activation) FLOPs(in, out []Type) float64 { return 8 * float64(out[0].Len()) }

// ActivationGrad is dy times the derivative: dy, x → dx in x's type.
type ActivationGrad struct{ Kind ActivationKind }

// Name implements Op.
func (o ActivationGrad) Name() string { return o.Kind.String() + "_grad" }

// Infer implements Op.
func (o ActivationGrad) Infer(in []Type) ([]Type, error) {
	return []Type{Of(in[1].DType, in[1].Shape...)}, nil
}

// FLOPs implements Coster.
func (ActivationGrad) FLOPs(in, out []Type) float64 { return 12 * float64(out[0].Len()) }

// GLU is a gated unit (Shazeer, arXiv:2002.05202): act(gate) * up. Operands are gate and up [..., F], or one fused
// [..., 2F] whose halves are gate and up; UpFirst swaps the roles of the halves.
type GLU struct {
	Kind    ActivationKind
	UpFirst bool
}

// Name implements Op.
func (o GLU) Name() string { return "glu " + o.Kind.String() }

// Infer implements Op.
func (o GLU) Infer(in []Type) ([]Type, error) {
	t := Of(in[0].DType, in[0].Shape...)
	if len(in) == 2 {
		if !in[0].Equal(in[1]) || o.UpFirst {
			return nil, fmt.Errorf("want gate and up of one type")
		}
		return []Type{t}, nil
	}
	if t.Last()%2 != 0 {
		return nil, fmt.Errorf("want an even last axis")
	}
	t.Shape[len(t.Shape)-1] /= 2
	return []Type{t}, nil
}

// Cheap implements Cheap.
func (GLU) Cheap() bool { return true }

// FLOPs implements Coster.
func (GLU) FLOPs(in, out []Type) float64 { return 9 * float64(out[0].Len()) }

// GLUGrad is the gradient of GLU: dy, then GLU's operands → one cotangent for each of those.
type GLUGrad struct {
	Kind    ActivationKind
	UpFirst bool
}

// Name implements Op.
func (o GLUGrad) Name() string { return "glu_grad " + o.Kind.String() }

// Infer implements Op.
func (o GLUGrad) Infer(in []Type) ([]Type, error) {
	var out []Type
	for _, t := range in[1:] {
		out = append(out, Of(t.DType, t.Shape...))
	}
	return out, nil
}

// FLOPs implements Coster.
func (GLUGrad) FLOPs(in, out []Type) float64 { return 16 * float64(in[0].Len()) }
