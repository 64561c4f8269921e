package kernel

import "math"

// BF16ToF32 widens bfloat16 to float32; exact. dst and src have one length.
func BF16ToF32(dst []float32, src []uint16) { bf16ToF32(dst, src) }

// F32ToBF16 rounds float32 to bfloat16, ties to even; NaN stays NaN.
func F32ToBF16(dst []uint16, src []float32) { f32ToBF16(dst, src) }

// F16ToF32 widens IEEE half precision to float32; exact.
func F16ToF32(dst []float32, src []uint16) { f16ToF32(dst, src) }

// F32ToF16 rounds float32 to IEEE half precision, ties to even; what is too large becomes infinite, NaN stays NaN.
func F32ToF16(dst []uint16, src []float32) { f32ToF16(dst, src) }

// Fill sets all elements.
func Fill[T any](dst []T, v T) {
	const start = 16 // a copy costs more than this many elements
	for i := range dst[:min(start, len(dst))] {
		dst[i] = v
	}
	for n := start; n < len(dst); n *= 2 {
		copy(dst[n:], dst[:n])
	}
}

func bf16ToF32Portable(dst []float32, src []uint16) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(src[i]) << 16)
	}
}

func f32ToBF16Portable(dst []uint16, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = RoundBF16(src[i])
	}
}

// RoundBF16 is x as bfloat16 bits, rounded to nearest, ties to even.
func RoundBF16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// roundToBF16 is x rounded to a bfloat16 value.
func roundToBF16(x float32) float32 { return math.Float32frombits(uint32(RoundBF16(x)) << 16) }

// HalfToF32 is the value of IEEE half-precision bits.
func HalfToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	e, m := uint32(h>>10)&31, uint32(h)&0x3ff
	switch {
	case e == 31:
		if m != 0 {
			m |= 0x200 // quiet
		}
		return math.Float32frombits(sign | 0x7f800000 | m<<13)
	case e == 0:
		f := float32(m) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	}
	return math.Float32frombits(sign | (e+112)<<23 | m<<13)
}

// RoundHalf is x as IEEE half-precision bits, rounded to nearest, ties to even.
func RoundHalf(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x477ff000: // 65520, half-way to the first value beyond the largest
		return sign | 0x7c00
	case b < 0x38800000: // subnormal: the sum's unit in the last place is 2^-24
		f := math.Float32frombits(b) + 0.5
		return sign | uint16(math.Float32bits(f)-0x3f000000)
	}
	b += 0xfff + b>>13&1
	return sign | uint16((b-0x38000000)>>13)
}

func f16ToF32Portable(dst []float32, src []uint16) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = HalfToF32(src[i])
	}
}

func f32ToF16Portable(dst []uint16, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = RoundHalf(src[i])
	}
}
