// Package enginetest is the compliance suite of engines: every primitive and every fused operation, forward and
// backward, over tables of shapes, then states, repeats, a training step and cached attention, against engine/ref.
package enginetest

import (
	"fmt"
	"math"
	"math/rand/v2"

	"danlu/dtype"
	"danlu/graph"
	"danlu/tensor"
)

// Fill says what an operand holds.
type Fill uint8

// The fills. All are deterministic.
const (
	Normal   Fill = iota // floats: standard normal; integers: below Limit
	Positive             // in [0.5, 2): logarithms, roots, divisors
	Spread               // a shuffled arithmetic progression without zero: no ties, and kinks are far away
	Bits                 // booleans
	Values               // exactly Operand.Values
)

// Operand is one operand of a case; the zero Operand is an absent one.
type Operand struct {
	Type   graph.Type
	Fill   Fill
	Limit  int
	Values []float64
	NoGrad bool // a float operand without a gradient
}

// Case applies operations to operands. Float operands get gradients when the results are floats.
type Case struct {
	Name   string
	In     []Operand
	Build  func(in []*graph.Value) []*graph.Value
	Terms  int  // the longest sum that makes a result or a cotangent
	NoGrad bool // the operation has no gradient
}

// tensors makes the operands' values.
func (c Case) tensors(seed uint64) []*tensor.Tensor {
	out := make([]*tensor.Tensor, len(c.In))
	for i, o := range c.In {
		if !o.Type.IsZero() {
			out[i] = o.tensor(rand.New(rand.NewPCG(seed, uint64(i))))
		}
	}
	return out
}

func (o Operand) tensor(r *rand.Rand) *tensor.Tensor {
	n := o.Type.Len()
	x := make([]float64, n)
	perm := r.Perm(n)
	for k := range x {
		switch {
		case o.Fill == Values:
			x[k] = o.Values[k]
		case o.Fill == Bits:
			x[k] = float64(r.IntN(2))
		case !o.Type.DType.IsFloat():
			x[k] = float64(r.IntN(max(1, o.Limit)))
		case o.Fill == Positive:
			x[k] = 0.5 + 1.5*r.Float64()
		case o.Fill == Spread:
			x[k] = (float64(perm[k]) - float64(n)/2 + 0.25) / 4
		default:
			x[k] = r.NormFloat64()
		}
	}
	return fromFloats(o.Type, x)
}

// fromFloats makes a host tensor, rounding to bfloat16 by truncated bits: any value of the type serves.
func fromFloats(t graph.Type, x []float64) *tensor.Tensor {
	y := tensor.New(t.DType, t.Shape...)
	for k, v := range x {
		switch t.DType {
		case dtype.F32:
			y.F32()[k] = float32(v)
		case dtype.BF16:
			y.U16()[k] = uint16(math.Float32bits(float32(v)) >> 16)
		case dtype.I32:
			y.I32()[k] = int32(v)
		case dtype.U32:
			y.U32()[k] = uint32(v)
		case dtype.Bool:
			y.Data[k] = byte(v)
		default:
			panic(fmt.Sprintf("enginetest: no %v operands", t.DType))
		}
	}
	return y
}

// floats reads a host tensor.
func floats(t *tensor.Tensor) []float64 {
	out := make([]float64, t.Len())
	for k := range out {
		switch t.DType {
		case dtype.F32:
			out[k] = float64(t.F32()[k])
		case dtype.F64:
			out[k] = t.F64()[k]
		case dtype.BF16:
			out[k] = float64(math.Float32frombits(uint32(t.U16()[k]) << 16))
		case dtype.I32:
			out[k] = float64(t.I32()[k])
		case dtype.U32:
			out[k] = float64(t.U32()[k])
		default:
			out[k] = float64(t.Data[k])
		}
	}
	return out
}

func f32(shape ...int) Operand { return Operand{Type: graph.Of(dtype.F32, shape...)} }
func positive(shape ...int) Operand {
	return Operand{Type: graph.Of(dtype.F32, shape...), Fill: Positive}
}
func spread(shape ...int) Operand { return Operand{Type: graph.Of(dtype.F32, shape...), Fill: Spread} }
func bools(shape ...int) Operand  { return Operand{Type: graph.Of(dtype.Bool, shape...), Fill: Bits} }

func ids(limit int, shape ...int) Operand {
	return Operand{Type: graph.Of(dtype.I32, shape...), Limit: limit}
}

func ints(values []float64, shape ...int) Operand {
	return Operand{Type: graph.Of(dtype.I32, shape...), Fill: Values, Values: values}
}

// fixed is a float operand that needs no gradient.
func fixed(o Operand) Operand { o.NoGrad = true; return o }

// inBF16 is the case with its matrix-like float operands in bfloat16.
func inBF16(c Case) Case {
	c.Name += " bf16"
	in := make([]Operand, len(c.In))
	for i, o := range c.In {
		if o.Type.DType == dtype.F32 {
			o.Type.DType = dtype.BF16
		}
		in[i] = o
	}
	c.In = in
	return c
}

// one makes a case's Build from an operation.
func one(op graph.Op) func([]*graph.Value) []*graph.Value {
	return func(in []*graph.Value) []*graph.Value { return graph.Apply(op, in...) }
}
