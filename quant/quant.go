// Package quant converts between float32 and the storage forms of weights: 16-bit floats, the GGUF block types, FP8 and
// the 4-bit codes of bitsandbytes. Files store all of them little-endian.
package quant

import (
	"encoding/binary"
	"fmt"
	"math"

	"danlu/dtype"
)

// Dequantize expands src, whole blocks of type d, to float32: dst has d.BlockLen() values per block. Every value is exactly
// that of the type's definition in ggml (products and sums rounded to float32 one by one).
func Dequantize(d dtype.DType, dst []float32, src []byte) error {
	f := decoders[d]
	if f == nil {
		return fmt.Errorf("quant: dequantize: type %v cannot be expanded to float32", d)
	}
	if err := check("dequantize", d, len(dst), len(src)); err != nil {
		return err
	}
	f(dst, src)
	return nil
}

// Quantize stores src as whole blocks of type d in dst, which has d.BlockBytes() bytes per block. F16, BF16, Q8_0, Q4_0,
// Q4_1, Q5_0 and Q5_1 give the bytes of ggml's reference quantizers; the K-quants minimise the squared error.
// Values that are infinite or not numbers give blocks without meaning, never a panic.
func Quantize(d dtype.DType, dst []byte, src []float32) error {
	f := encoders[d]
	if f == nil {
		return fmt.Errorf("quant: quantize: type %v cannot be made from float32", d)
	}
	if err := check("quantize", d, len(src), len(dst)); err != nil {
		return err
	}
	f(dst, src)
	return nil
}

// CanDequantize reports whether Dequantize knows the type.
func CanDequantize(d dtype.DType) bool { return int(d) < len(decoders) && decoders[d] != nil }

// CanQuantize reports whether Quantize knows the type.
func CanQuantize(d dtype.DType) bool { return int(d) < len(encoders) && encoders[d] != nil }

func check(what string, d dtype.DType, values, bytes int) error {
	if values%d.BlockLen() != 0 {
		return fmt.Errorf("quant: %s: %v: want a multiple of %d values, got %d", what, d, d.BlockLen(), values)
	}
	if want := d.Bytes(values); bytes != want {
		return fmt.Errorf("quant: %s: %v: want %d bytes for %d values, got %d", what, d, want, values, bytes)
	}
	return nil
}

var decoders = [256]func([]float32, []byte){
	dtype.F32: decodeF32, dtype.F64: decodeF64, dtype.F16: decodeF16, dtype.BF16: decodeBF16,
	dtype.F8E4M3: decodeE4M3, dtype.F8E5M2: decodeE5M2,
	dtype.Q4_0: decodeQ4_0, dtype.Q4_1: decodeQ4_1, dtype.Q5_0: decodeQ5_0, dtype.Q5_1: decodeQ5_1, dtype.Q8_0: decodeQ8_0,
	dtype.Q2_K: decodeQ2K, dtype.Q3_K: decodeQ3K, dtype.Q4_K: decodeQ4K, dtype.Q5_K: decodeQ5K, dtype.Q6_K: decodeQ6K, dtype.Q8_K: decodeQ8K,
	dtype.NF4: decodeNF4,
}

var encoders = [256]func([]byte, []float32){
	dtype.F32: encodeF32, dtype.F64: encodeF64, dtype.F16: encodeF16, dtype.BF16: encodeBF16,
	dtype.F8E4M3: encodeE4M3, dtype.F8E5M2: encodeE5M2,
	dtype.Q4_0: encodeQ4_0, dtype.Q4_1: encodeQ4_1, dtype.Q5_0: encodeQ5_0, dtype.Q5_1: encodeQ5_1, dtype.Q8_0: encodeQ8_0,
	dtype.Q2_K: encodeQ2K, dtype.Q3_K: encodeQ3K, dtype.Q4_K: encodeQ4K, dtype.Q5_K: encodeQ5K, dtype.Q6_K: encodeQ6K, dtype.Q8_K: encodeQ8K,
	dtype.NF4: encodeNF4,
}

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func put16(b []byte, v uint16) { binary.LittleEndian.PutUint16(b, v) }
func put32(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }

func half(b []byte) float32 { return HalfToF32(u16(b)) }

func decodeF32(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(u32(src[4*i:]))
	}
}

func encodeF32(dst []byte, src []float32) {
	for i, x := range src {
		put32(dst[4*i:], math.Float32bits(x))
	}
}

func decodeF64(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
	}
}

func encodeF64(dst []byte, src []float32) {
	for i, x := range src {
		binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(float64(x)))
	}
}

func decodeF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = half(src[2*i:])
	}
}

func encodeF16(dst []byte, src []float32) {
	for i, x := range src {
		put16(dst[2*i:], F32ToHalf(x))
	}
}

func decodeBF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(u16(src[2*i:])) << 16)
	}
}

func encodeBF16(dst []byte, src []float32) {
	for i, x := range src {
		put16(dst[2*i:], F32ToBF16(x))
	}
}

// HalfToF32 is the value of IEEE half-precision bits.
func HalfToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	// Scaling by 2^112 moves the exponent's bias and normalises subnormals in one exact product.
	x := math.Float32frombits(uint32(h&0x7fff)<<13) * (1 << 112)
	if h&0x7c00 == 0x7c00 {
		return math.Float32frombits(sign | 0x7f800000 | uint32(h&0x3ff)<<13)
	}
	return math.Float32frombits(math.Float32bits(x) | sign)
}

// F32ToHalf rounds x to IEEE half-precision bits, ties to even; what is too large becomes infinite, NaN stays NaN.
func F32ToHalf(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x477ff000: // 65520 is half-way to the value after the largest
		return sign | 0x7c00
	case b < 0x38800000: // subnormal: adding 1/2 leaves units of 2^-24
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	return sign | uint16((b+0xfff+b>>13&1-0x38000000)>>13)
}

// F32ToBF16 rounds x to bfloat16 bits, ties to even; NaN stays NaN.
func F32ToBF16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
