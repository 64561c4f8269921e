package graph

import (
	"fmt"
	"slices"

	"danlu/dtype"
)

// Linear is x·Wᵀ + bias: x [..., In], W [Out, In] in any storage, bias [Out] or absent → [..., Out] in Out's element
// type (x's when Invalid). With Compute BF16 both factors are rounded to bfloat16 before they are multiplied; with Q8_0
// and a block-quantized W, x is rounded in blocks of 32 to multiples of max|x|/127 and W is taken as it is, and with any
// other W it is F32. Sums are float32.
type Linear struct {
	Compute dtype.DType // F32, BF16 or Q8_0
	Out     dtype.DType
}

// Name implements Op.
func (o Linear) Name() string { return "linear" }

// Infer implements Op.
func (o Linear) Infer(in []Type) ([]Type, error) {
	x, w := in[0], in[1]
	if w.Rank() != 2 || x.Rank() < 1 || x.Last() != w.Shape[1] {
		return nil, fmt.Errorf("want x [..., In] and W [Out, In]")
	}
	if len(in) > 2 && !in[2].IsZero() && !slices.Equal(in[2].Shape, w.Shape[:1]) {
		return nil, fmt.Errorf("want a bias of %d", w.Shape[0])
	}
	if o.Compute != dtype.F32 && o.Compute != dtype.BF16 && o.Compute != dtype.Q8_0 {
		return nil, fmt.Errorf("cannot compute in %v", o.Compute)
	}
	if w.DType.IsQuantized() && !w.DType.IgnoresRows() && w.Last()%w.DType.BlockLen() != 0 {
		return nil, fmt.Errorf("rows of %d values are not whole blocks of %v", w.Last(), w.DType)
	}
	shape := slices.Clone(x.Shape)
	shape[len(shape)-1] = w.Shape[0]
	d := o.Out
	if d == dtype.Invalid {
		d = x.DType
	}
	return []Type{Of(d, shape...)}, nil
}

// FLOPs implements Coster.
func (o Linear) FLOPs(in, out []Type) float64 {
	return 2 * float64(in[0].Last()) * float64(out[0].Len())
}

// LinearGradX is the input gradient of Linear: dy [..., Out], W [Out, In] → dx [..., In] in element type Out.
type LinearGradX struct {
	Compute dtype.DType
	Out     dtype.DType
}

// Name implements Op.
func (o LinearGradX) Name() string { return "linear_grad_x" }

// Infer implements Op.
func (o LinearGradX) Infer(in []Type) ([]Type, error) {
	shape := slices.Clone(in[0].Shape)
	if in[1].Rank() != 2 || in[0].Last() != in[1].Shape[0] {
		return nil, fmt.Errorf("want dy [..., Out] and W [Out, In]")
	}
	shape[len(shape)-1] = in[1].Shape[1]
	return []Type{Of(o.Out, shape...)}, nil
}

// FLOPs implements Coster.
func (o LinearGradX) FLOPs(in, out []Type) float64 {
	return 2 * float64(in[0].Last()) * float64(out[0].Len())
}

// LinearGradW is the weight gradient of Linear: dy [..., Out], x [..., In] → dW [Out, In] float32, summed over rows in
// chunks of a fixed size.
type LinearGradW struct{ Compute dtype.DType }

// Name implements Op.
func (o LinearGradW) Name() string { return "linear_grad_w" }

// Infer implements Op.
func (o LinearGradW) Infer(in []Type) ([]Type, error) {
	if !slices.Equal(in[0].Shape[:in[0].Rank()-1], in[1].Shape[:in[1].Rank()-1]) {
		return nil, fmt.Errorf("leading axes of dy and x differ")
	}
	return []Type{Of(dtype.F32, in[0].Last(), in[1].Last())}, nil
}

// FLOPs implements Coster.
func (o LinearGradW) FLOPs(in, out []Type) float64 {
	return 2 * float64(in[0].Len()/in[0].Last()) * float64(out[0].Len())
}

// Embedding takes rows of W [V, D] (any storage) by ids [...] (int32) → [..., D] in element type Out.
type Embedding struct{ Out dtype.DType }

// Name implements Op.
func (o Embedding) Name() string { return "embedding" }

// Infer implements Op.
func (o Embedding) Infer(in []Type) ([]Type, error) {
	if in[0].Rank() != 2 || in[1].DType != dtype.I32 {
		return nil, fmt.Errorf("want W [V, D] and int32 ids")
	}
	return []Type{Of(o.Out, append(slices.Clone(in[1].Shape), in[0].Shape[1])...)}, nil
}

// GroupedLinear is one Linear per group of rows (the experts of a dropless MoE): x [R, In], W [E, Out, In],
// offsets [E+1] (int32; group e is rows offsets[e] to offsets[e+1]) → [R, Out].
type GroupedLinear struct {
	Compute dtype.DType
	Out     dtype.DType
}

// Name implements Op.
func (o GroupedLinear) Name() string { return "grouped_linear" }

// Infer implements Op.
func (o GroupedLinear) Infer(in []Type) ([]Type, error) {
	x, w, off := in[0], in[1], in[2]
	if x.Rank() != 2 || w.Rank() != 3 || x.Shape[1] != w.Shape[2] || !off.Equal(Of(dtype.I32, w.Shape[0]+1)) {
		return nil, fmt.Errorf("want x [R, In], W [E, Out, In] and int32 offsets [E+1]")
	}
	return []Type{Of(o.Out, x.Shape[0], w.Shape[1])}, nil
}

// FLOPs implements Coster.
func (o GroupedLinear) FLOPs(in, out []Type) float64 {
	return 2 * float64(in[0].Last()) * float64(out[0].Len())
}

// GroupedLinearGradX is the input gradient of GroupedLinear: dy [R, Out], W [E, Out, In], offsets → [R, In].
type GroupedLinearGradX struct {
	Compute dtype.DType
	Out     dtype.DType
}

// Name implements Op.
func (o GroupedLinearGradX) Name() string { return "grouped_linear_grad_x" }

// Infer implements Op.
func (o GroupedLinearGradX) Infer(in []Type) ([]Type, error) {
	return []Type{Of(o.Out, in[0].Shape[0], in[1].Shape[2])}, nil
}

// FLOPs implements Coster.
func (o GroupedLinearGradX) FLOPs(in, out []Type) float64 {
	return 2 * float64(in[0].Last()) * float64(out[0].Len())
}

// GroupedLinearGradW is the weight gradient of GroupedLinear: dy [R, Out], x [R, In], offsets [E+1] → [E, Out, In]
// float32; groups without rows get zero.
type GroupedLinearGradW struct{ Compute dtype.DType }

// Name implements Op.
func (o GroupedLinearGradW) Name() string { return "grouped_linear_grad_w" }

// Infer implements Op.
func (o GroupedLinearGradW) Infer(in []Type) ([]Type, error) {
	return []Type{Of(dtype.F32, in[2].Shape[0]-1, in[0].Shape[1], in[1].Shape[1])}, nil
}

// FLOPs implements Coster.
func (o GroupedLinearGradW) FLOPs(in, out []Type) float64 {
	return 2 * float64(in[0].Len()) * float64(in[1].Last())
}

// GroupRows sorts the choices of a router by expert, stably: ids [N, K] (int32, below Experts) → order [N*K] (int32;
// row r of the sorted rows is choice order[r], token order[r]/K) and offsets [Experts+1] (int32). Where a run has fewer
// rows than declared, the order ends with -1 in engines of fixed sizes.
type GroupRows struct{ Experts int }

// Name implements Op.
func (o GroupRows) Name() string { return "group_rows" }

// Infer implements Op.
func (o GroupRows) Infer(in []Type) ([]Type, error) {
	if in[0].DType != dtype.I32 || in[0].Rank() != 2 {
		return nil, fmt.Errorf("want int32 ids [N, K]")
	}
	return []Type{Of(dtype.I32, in[0].Len()), Of(dtype.I32, o.Experts+1)}, nil
}
