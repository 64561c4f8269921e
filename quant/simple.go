package quant

import "math"

// The simple block types (ggml: block_q4_0 and its kin): 32 values share a half-precision scale d and, in the _1 types,
// a minimum m. Value i < 16 has its low four bits in the low nibble of byte i, value i+16 in the high one; the fifth bits
// of the Q5 types form a 32-bit word.
const simpleLen = 32

func decodeQ4_0(dst []float32, src []byte) {
	for len(src) >= 18 {
		d, qs, y := half(src), src[2:18], dst[:simpleLen]
		for i, q := range qs {
			y[i] = float32(int(q&15)-8) * d
			y[i+16] = float32(int(q>>4)-8) * d
		}
		dst, src = dst[simpleLen:], src[18:]
	}
}

func decodeQ4_1(dst []float32, src []byte) {
	for len(src) >= 20 {
		d, m, qs, y := half(src), half(src[2:]), src[4:20], dst[:simpleLen]
		for i, q := range qs {
			y[i] = float32(float32(q&15)*d) + m
			y[i+16] = float32(float32(q>>4)*d) + m
		}
		dst, src = dst[simpleLen:], src[20:]
	}
}

func decodeQ5_0(dst []float32, src []byte) {
	for len(src) >= 22 {
		d, h, qs, y := half(src), u32(src[2:]), src[6:22], dst[:simpleLen]
		for i, q := range qs {
			y[i] = float32(int(uint32(q&15)|h>>i&1<<4)-16) * d
			y[i+16] = float32(int(uint32(q>>4)|h>>(i+16)&1<<4)-16) * d
		}
		dst, src = dst[simpleLen:], src[22:]
	}
}

func decodeQ5_1(dst []float32, src []byte) {
	for len(src) >= 24 {
		d, m, h, qs, y := half(src), half(src[2:]), u32(src[4:]), src[8:24], dst[:simpleLen]
		for i, q := range qs {
			y[i] = float32(float32(uint32(q&15)|h>>i&1<<4)*d) + m
			y[i+16] = float32(float32(uint32(q>>4)|h>>(i+16)&1<<4)*d) + m
		}
		dst, src = dst[simpleLen:], src[24:]
	}
}

func decodeQ8_0(dst []float32, src []byte) {
	for len(src) >= 34 {
		d, qs, y := half(src), src[2:34], dst[:simpleLen]
		for i, q := range qs {
			y[i] = float32(int8(q)) * d
		}
		dst, src = dst[simpleLen:], src[34:]
	}
}

// farthest is the value with the largest magnitude, the first of equals.
func farthest(x []float32) float32 {
	var best, at float32
	for _, v := range x {
		if a := abs(v); a > best {
			best, at = a, v
		}
	}
	return at
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

func bounds(x []float32) (lo, hi float32) {
	lo, hi = x[0], x[0]
	for _, v := range x[1:] {
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
	}
	return lo, hi
}

func inverse(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// clampLevel truncates x to a level from 0 to top; NaN becomes 0.
func clampLevel(x float64, top int) byte {
	switch {
	case !(x > 0):
		return 0
	case x >= float64(top):
		return byte(top)
	}
	return byte(x)
}

// symmetricLevels quantizes a block whose farthest value takes level 0, the zero lying at level mid. The sum is formed in
// float64 because the reference's result is that of a fused multiply and add.
func symmetricLevels(levels *[simpleLen]byte, x []float32, mid int) (d float32) {
	d = farthest(x) / float32(-mid)
	id := inverse(d)
	for i, v := range x {
		levels[i] = clampLevel(float64(v)*float64(id)+(float64(mid)+0.5), 2*mid-1)
	}
	return d
}

// affineLevels quantizes a block between its bounds.
func affineLevels(levels *[simpleLen]byte, x []float32, top int) (d, m float32) {
	lo, hi := bounds(x)
	d = (hi - lo) / float32(top)
	id := inverse(d)
	for i, v := range x {
		levels[i] = clampLevel(float64(float32(float32(v-lo)*id)+0.5), top)
	}
	return d, lo
}

// packNibbles stores the low four bits of the levels and returns their fifth bits.
func packNibbles(qs []byte, levels *[simpleLen]byte) (high uint32) {
	for i := range 16 {
		qs[i] = levels[i]&15 | levels[i+16]<<4
		high |= uint32(levels[i]>>4)<<i | uint32(levels[i+16]>>4)<<(i+16)
	}
	return high
}

func encodeQ4_0(dst []byte, src []float32) {
	var levels [simpleLen]byte
	for ; len(src) > 0; dst, src = dst[18:], src[simpleLen:] {
		put16(dst, F32ToHalf(symmetricLevels(&levels, src[:simpleLen], 8)))
		packNibbles(dst[2:], &levels)
	}
}

func encodeQ4_1(dst []byte, src []float32) {
	var levels [simpleLen]byte
	for ; len(src) > 0; dst, src = dst[20:], src[simpleLen:] {
		d, m := affineLevels(&levels, src[:simpleLen], 15)
		put16(dst, F32ToHalf(d))
		put16(dst[2:], F32ToHalf(m))
		packNibbles(dst[4:], &levels)
	}
}

func encodeQ5_0(dst []byte, src []float32) {
	var levels [simpleLen]byte
	for ; len(src) > 0; dst, src = dst[22:], src[simpleLen:] {
		put16(dst, F32ToHalf(symmetricLevels(&levels, src[:simpleLen], 16)))
		put32(dst[2:], packNibbles(dst[6:], &levels))
	}
}

func encodeQ5_1(dst []byte, src []float32) {
	var levels [simpleLen]byte
	for ; len(src) > 0; dst, src = dst[24:], src[simpleLen:] {
		d, m := affineLevels(&levels, src[:simpleLen], 31)
		put16(dst, F32ToHalf(d))
		put16(dst[2:], F32ToHalf(m))
		put32(dst[4:], packNibbles(dst[8:], &levels))
	}
}

func encodeQ8_0(dst []byte, src []float32) {
	for ; len(src) > 0; dst, src = dst[34:], src[simpleLen:] {
		x := src[:simpleLen]
		d := abs(farthest(x)) / 127
		id := inverse(d)
		put16(dst, F32ToHalf(d))
		for i, v := range x {
			dst[2+i] = byte(roundInt8(v * id))
		}
	}
}

// roundInt8 rounds half away from zero, within [-128, 127]; NaN becomes 0.
func roundInt8(x float32) int8 {
	r := math.Round(float64(x))
	switch {
	case r != r:
		return 0
	case r > 127:
		return 127
	case r < -128:
		return -128
	}
	return int8(r)
}
