// Package dtype names the element types of tensors: plain numbers and the block-quantized storage forms of weights.
package dtype

import "fmt"

// DType is an element type. Plain types hold one value per element; block types hold BlockLen values in BlockBytes bytes.
type DType uint8

// The element types. The order is stable within a build only; files name types by their own codes.
const (
	Invalid DType = iota
	Bool          // one byte, 0 or 1
	U8
	I8
	U16
	I16
	I32
	I64
	U32
	U64
	F8E4M3 // OCP e4m3fn: no infinity, one NaN pattern
	F8E5M2
	F16
	BF16
	F32
	F64
	Q4_0 // the GGUF block types
	Q4_1
	Q5_0
	Q5_1
	Q8_0
	Q2_K
	Q3_K
	Q4_K
	Q5_K
	Q6_K
	Q8_K
	NF4       // bitsandbytes 4-bit NormalFloat, blocks of 64 with a float32 absmax
	NF4Double // the same with an 8-bit absmax; the few scales of those are a tensor's, not a block's
	Opaque    // engine-private state without a host form, such as a KV cache
	count
)

type info struct {
	name             string
	blockLen, nbytes int
	float            bool
}

var infos = [count]info{
	Invalid: {"invalid", 0, 0, false},
	Bool:    {"bool", 1, 1, false}, U8: {"u8", 1, 1, false}, I8: {"i8", 1, 1, false}, U16: {"u16", 1, 2, false}, I16: {"i16", 1, 2, false},
	I32: {"i32", 1, 4, false}, I64: {"i64", 1, 8, false}, U32: {"u32", 1, 4, false}, U64: {"u64", 1, 8, false},
	F8E4M3: {"f8e4m3", 1, 1, true}, F8E5M2: {"f8e5m2", 1, 1, true}, F16: {"f16", 1, 2, true}, BF16: {"bf16", 1, 2, true},
	F32: {"f32", 1, 4, true}, F64: {"f64", 1, 8, true},
	Q4_0: {"q4_0", 32, 18, true}, Q4_1: {"q4_1", 32, 20, true}, Q5_0: {"q5_0", 32, 22, true}, Q5_1: {"q5_1", 32, 24, true}, Q8_0: {"q8_0", 32, 34, true},
	Q2_K: {"q2_k", 256, 84, true}, Q3_K: {"q3_k", 256, 110, true}, Q4_K: {"q4_k", 256, 144, true}, Q5_K: {"q5_k", 256, 176, true},
	Q6_K: {"q6_k", 256, 210, true}, Q8_K: {"q8_k", 256, 292, true},
	NF4:       {"nf4", 64, 36, true},
	NF4Double: {"nf4_double", 64, 33, true},
	Opaque:    {"opaque", 1, 0, false},
}

func (d DType) info() info {
	if d >= count {
		return infos[Invalid]
	}
	return infos[d]
}

// String is the lower-case name, as flags and recipes spell it.
func (d DType) String() string { return d.info().name }

// IsFloat reports whether d holds real numbers (plain or quantized).
func (d DType) IsFloat() bool { return d.info().float }

// IsQuantized reports whether d stores values in blocks that share a scale.
func (d DType) IsQuantized() bool { return d.info().blockLen > 1 }

// IgnoresRows reports whether d's blocks run over a tensor's values in order, whatever its rows.
func (d DType) IgnoresRows() bool { return d == NF4 || d == NF4Double }

// IsInteger reports whether d holds plain integers.
func (d DType) IsInteger() bool { return d >= U8 && d <= U64 }

// BlockLen is the number of values in a block, 1 for plain types.
func (d DType) BlockLen() int { return d.info().blockLen }

// BlockBytes is the number of bytes of a block, the element size for plain types.
func (d DType) BlockBytes() int { return d.info().nbytes }

// Bytes is the storage in bytes of n values laid out in whole blocks; n must be a multiple of BlockLen.
func (d DType) Bytes(n int) int {
	i := d.info()
	if i.blockLen == 0 {
		return 0
	}
	return n / i.blockLen * i.nbytes
}

// Parse finds a type by its name (as String prints it) or by one of the usual long names (float32, bfloat16, fp16, ...).
func Parse(name string) (DType, error) {
	switch name {
	case "float32", "fp32", "float":
		return F32, nil
	case "bfloat16":
		return BF16, nil
	case "float16", "fp16", "half":
		return F16, nil
	case "float64", "double":
		return F64, nil
	}
	for d := Bool; d < count; d++ {
		if infos[d].name == name {
			return d, nil
		}
	}
	return Invalid, fmt.Errorf("dtype: %q is not a known element type", name)
}
