package graph

import (
	"fmt"
	"math"
	"slices"

	"danlu/dtype"
	"danlu/tensor"
)

// Reshape gives the elements, in order, another shape.
type Reshape struct{ Shape []int }

// Cheap implements Cheap: what is kept is the operand.
func (Reshape) Cheap() bool { return true }

// Name implements Op.
func (o Reshape) Name() string { return fmt.Sprintf("reshape %v", o.Shape) }

// Infer implements Op.
func (o Reshape) Infer(in []Type) ([]Type, error) {
	if tensor.Len(o.Shape) != in[0].Len() {
		return nil, fmt.Errorf("%d elements do not fit %v", in[0].Len(), o.Shape)
	}
	return []Type{Of(in[0].DType, o.Shape...)}, nil
}

// Transpose reorders axes: result axis i is operand axis Perm[i].
type Transpose struct{ Perm []int }

// Name implements Op.
func (o Transpose) Name() string { return fmt.Sprintf("transpose %v", o.Perm) }

// Infer implements Op.
func (o Transpose) Infer(in []Type) ([]Type, error) {
	sorted := slices.Sorted(slices.Values(o.Perm))
	shape := make([]int, len(o.Perm))
	for i, p := range o.Perm {
		if len(o.Perm) != in[0].Rank() || sorted[i] != i {
			return nil, fmt.Errorf("%v is not an order of %d axes", o.Perm, in[0].Rank())
		}
		shape[i] = in[0].Shape[p]
	}
	return []Type{Of(in[0].DType, shape...)}, nil
}

// Broadcast repeats axes of size one and adds leading axes until the shape is Shape. Rows marks the result's axis 0 as
// counting tokens (Type.Rows).
type Broadcast struct {
	Shape []int
	Rows  bool
}

// Cheap implements Cheap.
func (Broadcast) Cheap() bool { return true }

// Name implements Op.
func (o Broadcast) Name() string { return fmt.Sprintf("broadcast %v", o.Shape) }

// Infer implements Op.
func (o Broadcast) Infer(in []Type) ([]Type, error) {
	shape, err := BroadcastShapes(in[0].Shape, o.Shape)
	if err != nil || !slices.Equal(shape, o.Shape) {
		return nil, fmt.Errorf("does not broadcast to %v", o.Shape)
	}
	t := Of(in[0].DType, o.Shape...)
	t.Rows = o.Rows
	return []Type{t}, nil
}

// ReduceKind says how Reduce combines elements.
type ReduceKind uint8

// The reductions. Floats are summed in float32 at least, in blocks whose order depends on the axis length only.
const (
	ReduceSum ReduceKind = iota
	ReduceMax
	ReduceMin
)

// Reduce combines the elements along Axes, which keep size one when Keep and vanish otherwise.
type Reduce struct {
	Kind ReduceKind
	Axes []int
	Keep bool
}

// Name implements Op.
func (o Reduce) Name() string {
	return fmt.Sprintf("reduce_%s %v", [...]string{"sum", "max", "min"}[o.Kind], o.Axes)
}

// Infer implements Op.
func (o Reduce) Infer(in []Type) ([]Type, error) {
	var shape []int
	for _, a := range o.Axes {
		if a < 0 || a >= in[0].Rank() {
			return nil, fmt.Errorf("axis %d of %d", a, in[0].Rank())
		}
	}
	for i, d := range in[0].Shape {
		if !slices.Contains(o.Axes, i) {
			shape = append(shape, d)
		} else if o.Keep {
			shape = append(shape, 1)
		}
	}
	return []Type{Of(in[0].DType, shape...)}, nil
}

// ArgMax gives the index (int32) of the first largest element along the last axis, which vanishes.
type ArgMax struct{}

// Name implements Op.
func (ArgMax) Name() string { return "argmax" }

// Infer implements Op.
func (ArgMax) Infer(in []Type) ([]Type, error) {
	if in[0].Rank() == 0 {
		return nil, fmt.Errorf("want at least one axis")
	}
	return []Type{Of(dtype.I32, in[0].Shape[:in[0].Rank()-1]...)}, nil
}

// CumSum is the running sum along the last axis.
type CumSum struct{}

// Name implements Op.
func (CumSum) Name() string { return "cumsum" }

// Infer implements Op.
func (CumSum) Infer(in []Type) ([]Type, error) { return []Type{Of(in[0].DType, in[0].Shape...)}, nil }

// MatMul multiplies matrices in the last two axes, either of which can be transposed; leading axes broadcast. Sums are
// accumulated in float32 at least; the result has the operands' type, or Out where that is set.
type MatMul struct {
	TransA, TransB bool
	Out            dtype.DType
}

// Name implements Op.
func (o MatMul) Name() string { return "matmul" }

// Infer implements Op.
func (o MatMul) Infer(in []Type) ([]Type, error) {
	a, b := in[0], in[1]
	if a.Rank() < 2 || b.Rank() < 2 {
		return nil, fmt.Errorf("want matrices")
	}
	m, k := a.Shape[a.Rank()-2], a.Last()
	if o.TransA {
		m, k = k, m
	}
	k2, n := b.Shape[b.Rank()-2], b.Last()
	if o.TransB {
		k2, n = n, k2
	}
	if k != k2 {
		return nil, fmt.Errorf("inner sizes %d and %d differ", k, k2)
	}
	batch, err := BroadcastShapes(a.Shape[:a.Rank()-2], b.Shape[:b.Rank()-2])
	if err != nil {
		return nil, err
	}
	d := o.Out
	if d == dtype.Invalid {
		if d = a.DType; a.DType != b.DType {
			return nil, fmt.Errorf("element types differ and no result type is given")
		}
	}
	return []Type{Of(d, append(batch, m, n)...)}, nil
}

// FLOPs implements Coster.
func (o MatMul) FLOPs(in, out []Type) float64 {
	k := in[0].Last()
	if o.TransA {
		k = in[0].Shape[in[0].Rank()-2]
	}
	return 2 * float64(k) * float64(out[0].Len())
}

// Gather takes rows (axis 0) of the first operand by the indices (int32) in the second: [R, ...], [I...] → [I..., ...].
// An index out of range is a fault at run time.
type Gather struct{}

// Name implements Op.
func (Gather) Name() string { return "gather" }

// Infer implements Op.
func (Gather) Infer(in []Type) ([]Type, error) {
	if in[1].DType != dtype.I32 || in[0].Rank() == 0 {
		return nil, fmt.Errorf("want a table and int32 indices")
	}
	d := in[0].DType
	if d.IsQuantized() {
		d = dtype.F32
	}
	return []Type{Of(d, append(slices.Clone(in[1].Shape), in[0].Shape[1:]...)...)}, nil
}

// ScatterAdd adds rows to the rows of a base that the indices name, in the order of the rows:
// base [R, ...], indices [I...] (int32), rows [I..., ...] → [R, ...]. Negative indices are skipped.
type ScatterAdd struct{}

// Name implements Op.
func (ScatterAdd) Name() string { return "scatter_add" }

// Infer implements Op.
func (ScatterAdd) Infer(in []Type) ([]Type, error) {
	want := append(slices.Clone(in[1].Shape), in[0].Shape[1:]...)
	if in[1].DType != dtype.I32 || !slices.Equal(in[2].Shape, want) {
		return nil, fmt.Errorf("want int32 indices and rows of shape %v", want)
	}
	return []Type{Of(in[0].DType, in[0].Shape...)}, nil
}

// Aliases implements Aliaser.
func (ScatterAdd) Aliases() []int { return []int{0} }

// TakeAlong picks elements of the last axis: x [..., N], indices [..., K] (int32) → [..., K].
type TakeAlong struct{}

// Name implements Op.
func (TakeAlong) Name() string { return "take_along" }

// Infer implements Op.
func (TakeAlong) Infer(in []Type) ([]Type, error) {
	if in[1].DType != dtype.I32 || in[0].Rank() != in[1].Rank() || !slices.Equal(in[0].Shape[:in[0].Rank()-1], in[1].Shape[:in[1].Rank()-1]) {
		return nil, fmt.Errorf("want int32 indices with the same leading axes")
	}
	return []Type{Of(in[0].DType, in[1].Shape...)}, nil
}

// Slice takes [Start, End) along Axis.
type Slice struct{ Axis, Start, End int }

// Name implements Op.
func (o Slice) Name() string { return fmt.Sprintf("slice %d[%d:%d]", o.Axis, o.Start, o.End) }

// Infer implements Op.
func (o Slice) Infer(in []Type) ([]Type, error) {
	if o.Axis < 0 || o.Axis >= in[0].Rank() || o.Start < 0 || o.End < o.Start || o.End > in[0].Shape[o.Axis] {
		return nil, fmt.Errorf("out of range")
	}
	t := Of(in[0].DType, in[0].Shape...)
	t.Shape[o.Axis] = o.End - o.Start
	return []Type{t}, nil
}

// Concat joins operands along Axis.
type Concat struct{ Axis int }

// Name implements Op.
func (o Concat) Name() string { return fmt.Sprintf("concat %d", o.Axis) }

// Infer implements Op.
func (o Concat) Infer(in []Type) ([]Type, error) {
	if o.Axis < 0 || o.Axis >= in[0].Rank() {
		return nil, fmt.Errorf("axis out of range")
	}
	t := Of(in[0].DType, in[0].Shape...)
	for _, u := range in[1:] {
		v := Of(u.DType, u.Shape...)
		if u.Rank() != t.Rank() {
			return nil, fmt.Errorf("ranks differ")
		}
		v.Shape[o.Axis] = t.Shape[o.Axis]
		if !v.Equal(t) {
			return nil, fmt.Errorf("other axes differ")
		}
		t.Shape[o.Axis] += u.Shape[o.Axis]
	}
	return []Type{t}, nil
}

// TopK gives the K largest elements of the last axis, largest first, and their indices (int32); of equal elements the
// one with the lower index comes first.
type TopK struct{ K int }

// Name implements Op.
func (o TopK) Name() string { return fmt.Sprintf("top_k %d", o.K) }

// Infer implements Op.
func (o TopK) Infer(in []Type) ([]Type, error) {
	if in[0].Rank() == 0 || o.K > in[0].Last() {
		return nil, fmt.Errorf("fewer than %d elements", o.K)
	}
	shape := slices.Clone(in[0].Shape)
	shape[len(shape)-1] = o.K
	return []Type{Of(in[0].DType, shape...), Of(dtype.I32, shape...)}, nil
}

// Sort orders the last axis, stably, and gives the values and their old indices (int32).
type Sort struct{ Descending bool }

// Name implements Op.
func (o Sort) Name() string { return "sort" }

// Infer implements Op.
func (o Sort) Infer(in []Type) ([]Type, error) {
	return []Type{Of(in[0].DType, in[0].Shape...), Of(dtype.I32, in[0].Shape...)}, nil
}

// Iota counts along Axis: 0, 1, 2, ...
type Iota struct {
	Type Type
	Axis int
}

// Cheap implements Cheap.
func (Iota) Cheap() bool { return true }

// Name implements Op.
func (o Iota) Name() string { return "iota" }

// Infer implements Op.
func (o Iota) Infer([]Type) ([]Type, error) { return []Type{o.Type}, nil }

// ReshapeTo gives x another shape; one size may be -1 and is worked out.
func ReshapeTo(x *Value, shape ...int) *Value {
	shape = slices.Clone(shape)
	if i := slices.Index(shape, -1); i >= 0 {
		shape[i] = 1
		shape[i] = x.Len() / max(1, tensor.Len(shape))
	}
	if slices.Equal(shape, x.Shape) {
		return x
	}
	return one(Reshape{shape}, x)
}

// Permute reorders axes.
func Permute(x *Value, perm ...int) *Value { return one(Transpose{slices.Clone(perm)}, x) }

// BroadcastTo repeats x to shape.
func BroadcastTo(x *Value, shape ...int) *Value {
	if slices.Equal(x.Shape, shape) {
		return x
	}
	return one(Broadcast{Shape: slices.Clone(shape)}, x)
}

// Sum adds along axes (all when none is given); negative axes count from the last.
func Sum(x *Value, axes ...int) *Value { return one(Reduce{ReduceSum, normAxes(x, axes), false}, x) }

// SumKeep is Sum with the summed axes kept at size one.
func SumKeep(x *Value, axes ...int) *Value { return one(Reduce{ReduceSum, normAxes(x, axes), true}, x) }

// MaxOf is the largest along axes, kept at size one.
func MaxOf(x *Value, axes ...int) *Value { return one(Reduce{ReduceMax, normAxes(x, axes), true}, x) }

// MinOf is the smallest along axes, kept at size one.
func MinOf(x *Value, axes ...int) *Value { return one(Reduce{ReduceMin, normAxes(x, axes), true}, x) }

// MeanKeep is the mean along axes, kept at size one.
func MeanKeep(x *Value, axes ...int) *Value {
	s := SumKeep(x, axes...)
	return MulScalar(s, float64(s.Len())/float64(x.Len()))
}

func normAxes(x *Value, axes []int) []int {
	if len(axes) == 0 {
		axes = make([]int, x.Rank())
		for i := range axes {
			axes[i] = i
		}
		return axes
	}
	axes = slices.Clone(axes)
	for i := range axes {
		if axes[i] < 0 {
			axes[i] += x.Rank()
		}
	}
	slices.Sort(axes)
	return axes
}

// Dot multiplies matrices, transposed as asked; out is the result type, Invalid for the operands'.
func Dot(a, b *Value, transA, transB bool, out dtype.DType) *Value {
	return one(MatMul{transA, transB, out}, a, b)
}

// Rows takes rows of table by index.
func Rows(table, index *Value) *Value { return one(Gather{}, table, index) }

// AddRows adds rows to base at index.
func AddRows(base, index, rows *Value) *Value { return one(ScatterAdd{}, base, index, rows) }

// Take picks elements of the last axis.
func Take(x, index *Value) *Value { return one(TakeAlong{}, x, index) }

// Cut takes [start, end) along axis; negative axes count from the last.
func Cut(x *Value, axis, start, end int) *Value {
	if axis < 0 {
		axis += x.Rank()
	}
	if start == 0 && end == x.Shape[axis] {
		return x
	}
	return one(Slice{axis, start, end}, x)
}

// Join concatenates along axis; negative axes count from the last.
func Join(axis int, xs ...*Value) *Value {
	if axis < 0 {
		axis += xs[0].Rank()
	}
	if len(xs) == 1 {
		return xs[0]
	}
	return one(Concat{axis}, xs...)
}

// Top gives the k largest of the last axis and their indices.
func Top(x *Value, k int) (values, indices *Value) {
	out := Apply(TopK{k}, x)
	return out[0], out[1]
}

// Sorted orders the last axis.
func Sorted(x *Value, descending bool) (values, indices *Value) {
	out := Apply(Sort{descending}, x)
	return out[0], out[1]
}

// Count is 0, 1, 2, ... along axis.
func (g *Graph) Count(t Type, axis int) *Value { return g.Apply(Iota{t, axis})[0] }

// Fill sets every element of a plain tensor to c.
func Fill(t *tensor.Tensor, c float64) {
	switch t.DType {
	case dtype.F32:
		fill(t.F32(), float32(c))
	case dtype.F64:
		fill(t.F64(), c)
	case dtype.I32:
		fill(t.I32(), int32(c))
	case dtype.I64:
		fill(t.I64(), int64(c))
	case dtype.U32:
		fill(t.U32(), uint32(c))
	case dtype.BF16:
		b := math.Float32bits(float32(c))
		fill(t.U16(), uint16((b+0x7fff+b>>16&1)>>16))
	case dtype.Bool:
		b := byte(0)
		if c != 0 {
			b = 1
		}
		fill(t.Data, b)
	default:
		Failf("cannot fill a %v tensor", t.DType)
	}
}

func fill[T any](s []T, x T) {
	for i := range s {
		s[i] = x
	}
}

func scalar(d dtype.DType, c float64) *tensor.Tensor {
	t := tensor.New(d)
	Fill(t, c)
	return t
}
