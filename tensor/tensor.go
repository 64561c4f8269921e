// Package tensor holds host tensors: an element type, a shape and bytes in row-major order.
package tensor

import (
	"fmt"
	"math"
	"unsafe"

	"danlu/dtype"
)

// Tensor is a dense row-major host tensor. Data may alias a mapped file and then must not be written.
type Tensor struct {
	DType dtype.DType
	Shape []int
	Data  []byte // little-endian, DType.Bytes(Len()) bytes
}

// New allocates a zeroed tensor.
func New(d dtype.DType, shape ...int) *Tensor {
	return &Tensor{DType: d, Shape: append([]int(nil), shape...), Data: make([]byte, d.Bytes(Len(shape)))}
}

// Len is the number of values of a shape; a scalar (empty shape) has one.
func Len(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// CheckedLen is Len with overflow and sign checks, for shapes that come from files.
func CheckedLen(shape []int) (int, error) {
	n := 1
	for _, d := range shape {
		if d < 0 || d != 0 && n > math.MaxInt/8/d {
			return 0, fmt.Errorf("tensor: shape %v: size overflows", shape)
		}
		n *= d
	}
	return n, nil
}

// Len is the number of values in t.
func (t *Tensor) Len() int { return Len(t.Shape) }

// slice views data as values of type T without copying.
func slice[T any](data []byte) []T {
	var z T
	n := len(data) / int(unsafe.Sizeof(z))
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(data))), n)
}

func (t *Tensor) want(d ...dtype.DType) {
	for _, x := range d {
		if t.DType == x {
			return
		}
	}
	panic(fmt.Sprintf("tensor: a %v tensor read as %v", t.DType, d[0]))
}

// F32 views the values of a float32 tensor.
func (t *Tensor) F32() []float32 { t.want(dtype.F32); return slice[float32](t.Data) }

// F64 views the values of a float64 tensor.
func (t *Tensor) F64() []float64 { t.want(dtype.F64); return slice[float64](t.Data) }

// I32 views the values of an int32 tensor.
func (t *Tensor) I32() []int32 { t.want(dtype.I32); return slice[int32](t.Data) }

// I64 views the values of an int64 tensor.
func (t *Tensor) I64() []int64 { t.want(dtype.I64); return slice[int64](t.Data) }

// U32 views the values of a uint32 tensor.
func (t *Tensor) U32() []uint32 { t.want(dtype.U32); return slice[uint32](t.Data) }

// U16 views the bits of a bfloat16, float16 or 16-bit integer tensor.
func (t *Tensor) U16() []uint16 {
	t.want(dtype.U16, dtype.BF16, dtype.F16, dtype.I16)
	return slice[uint16](t.Data)
}

// FromF32 wraps values (not copied) as a float32 tensor.
func FromF32(values []float32, shape ...int) *Tensor {
	return wrap(dtype.F32, values, shape)
}

// FromI32 wraps values (not copied) as an int32 tensor.
func FromI32(values []int32, shape ...int) *Tensor {
	return wrap(dtype.I32, values, shape)
}

// FromF64 wraps values (not copied) as a float64 tensor.
func FromF64(values []float64, shape ...int) *Tensor {
	return wrap(dtype.F64, values, shape)
}

// FromU32 wraps values (not copied) as a uint32 tensor.
func FromU32(values []uint32, shape ...int) *Tensor {
	return wrap(dtype.U32, values, shape)
}

func wrap[T any](d dtype.DType, values []T, shape []int) *Tensor {
	if Len(shape) != len(values) {
		panic(fmt.Sprintf("tensor: %d values for shape %v", len(values), shape))
	}
	var data []byte
	if len(values) > 0 {
		data = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), d.Bytes(len(values)))
	}
	return &Tensor{DType: d, Shape: append([]int(nil), shape...), Data: data}
}

// String describes t without its values.
func (t *Tensor) String() string { return fmt.Sprintf("%v%v", t.DType, t.Shape) }
