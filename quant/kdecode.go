package quant

import "math"

// The K-quants (ggml: block_q2_K and its kin) hold 256 values: sub-blocks of 16 or 32 have small integer scales, and
// minima in Q2_K, Q4_K and Q5_K, which half-precision factors d and dmin turn into real ones.
const superLen = 256

func decodeQ2K(dst []float32, src []byte) {
	for ; len(src) > 0; dst, src = dst[superLen:], src[84:] {
		scales, qs, d, dmin := src[:16], src[16:80], half(src[80:]), half(src[82:])
		for j, s := range scales {
			scale, lo := d*float32(s&15), dmin*float32(s>>4)
			y := dst[16*j : 16*j+16]
			// A byte holds the values at distances of 32 within a half of the block.
			q, shift := qs[j>>3*32+j&1*16:], j>>1&3*2
			for i := range y {
				y[i] = float32(scale*float32(q[i]>>shift&3)) - lo
			}
		}
	}
}

// q3Scale is the 6-bit scale j of Q3_K: low nibbles in eight bytes, then the high bit pairs in four.
func q3Scale(scales []byte, j int) int {
	return int(scales[j&7]>>(j>>3*4)&15|scales[8+j&3]>>(j>>2*2)&3<<4) - 32
}

func decodeQ3K(dst []float32, src []byte) {
	for ; len(src) > 0; dst, src = dst[superLen:], src[110:] {
		high, qs, scales, d := src[:32], src[32:96], src[96:108], half(src[108:])
		for j := range 16 {
			scale := d * float32(q3Scale(scales, j))
			y := dst[16*j : 16*j+16]
			q, h, shift, bit := qs[j>>3*32+j&1*16:], high[j&1*16:], j>>1&3*2, j>>1
			for i := range y {
				y[i] = scale * float32(int(q[i]>>shift&3|h[i]>>bit&1<<2)-4)
			}
		}
	}
}

// q4Scale is the 6-bit scale and minimum j of Q4_K and Q5_K, packed in twelve bytes.
func q4Scale(s []byte, j int) (scale, lo byte) {
	if j < 4 {
		return s[j] & 63, s[j+4] & 63
	}
	return s[j+4]&15 | s[j-4]>>6<<4, s[j+4]>>4 | s[j]>>6<<4
}

func decodeQ4K(dst []float32, src []byte) {
	for ; len(src) > 0; dst, src = dst[superLen:], src[144:] {
		d, dmin, scales, qs := half(src), half(src[2:]), src[4:16], src[16:144]
		for j := range 4 {
			s1, m1 := q4Scale(scales, 2*j)
			s2, m2 := q4Scale(scales, 2*j+1)
			d1, lo1, d2, lo2 := d*float32(s1), dmin*float32(m1), d*float32(s2), dmin*float32(m2)
			y := dst[64*j : 64*j+64]
			for i, q := range qs[32*j : 32*j+32] {
				y[i] = float32(d1*float32(q&15)) - lo1
				y[i+32] = float32(d2*float32(q>>4)) - lo2
			}
		}
	}
}

func decodeQ5K(dst []float32, src []byte) {
	for ; len(src) > 0; dst, src = dst[superLen:], src[176:] {
		d, dmin, scales, high, qs := half(src), half(src[2:]), src[4:16], src[16:48], src[48:176]
		for j := range 4 {
			s1, m1 := q4Scale(scales, 2*j)
			s2, m2 := q4Scale(scales, 2*j+1)
			d1, lo1, d2, lo2 := d*float32(s1), dmin*float32(m1), d*float32(s2), dmin*float32(m2)
			y := dst[64*j : 64*j+64]
			for i, q := range qs[32*j : 32*j+32] {
				h := high[i] >> (2 * j)
				y[i] = float32(d1*float32(q&15|h&1<<4)) - lo1
				y[i+32] = float32(d2*float32(q>>4|h>>1&1<<4)) - lo2
			}
		}
	}
}

func decodeQ6K(dst []float32, src []byte) {
	for ; len(src) > 0; dst, src = dst[superLen:], src[210:] {
		low, high, scales, d := src[:128], src[128:192], src[192:208], half(src[208:])
		for j, s := range scales {
			scale := d * float32(int8(s))
			y := dst[16*j : 16*j+16]
			// Within a half of 128 values, quarter k has nibbles in bytes k%2*32.. and bit pairs 2k.
			k := j >> 1 & 3
			ql, qh := low[j>>3*64+k&1*32+j&1*16:], high[j>>3*32+j&1*16:]
			for i := range y {
				y[i] = scale * float32(int(ql[i]>>(k>>1*4)&15|qh[i]>>(2*k)&3<<4)-32)
			}
		}
	}
}

func decodeQ8K(dst []float32, src []byte) {
	for ; len(src) > 0; dst, src = dst[superLen:], src[292:] {
		d := math.Float32frombits(u32(src))
		for i, q := range src[4 : 4+superLen] {
			dst[i] = d * float32(int8(q))
		}
	}
}
