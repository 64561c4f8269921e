package quant

import "math"

// The encoders of the K-quants search, for each sub-block, the real scale (and minimum) of least squared error, store these
// as small integers relative to the block's largest, and then choose each value's level for the scale as it was stored.

// tries is how many starting scales a search refines on either side of the plain one.
const tries = 10

// fitSymmetric returns the scale s of least squared error of s*q, q from -mid to mid-1.
func fitSymmetric(x []float32, mid int) float32 {
	far := float64(farthest(x))
	if far == 0 {
		return 0
	}
	best, scale := math.Inf(-1), 0.0
	for t := -tries; t <= tries; t++ {
		inv := -(float64(mid) + 0.1*float64(t)) / far
		var xq, qq float64
		for _, v := range x {
			q := clampRound(float64(v)*inv, -mid, mid-1)
			xq += float64(v) * q
			qq += q * q
		}
		// With s = xq/qq the error is |x|^2 - xq^2/qq.
		if qq > 0 && xq*xq/qq > best {
			best, scale = xq*xq/qq, xq/qq
		}
	}
	return float32(scale)
}

// fitAffine returns the scale s >= 0 and minimum m >= 0 of least squared error of s*q - m, q from 0 to top.
func fitAffine(x []float32, top int) (s, m float32) {
	l, h := bounds(x)
	lo, hi := min(float64(l), 0), float64(h)
	if !(hi > lo) {
		return 0, float32(-lo)
	}
	var sx, sxx float64
	for _, v := range x {
		sx += float64(v)
		sxx += float64(v) * float64(v)
	}
	n := float64(len(x))
	best := math.Inf(1)
	for t := -tries; t <= tries; t++ {
		inv := (float64(top) + 0.1*float64(t)*float64(top)/16 + 0.05*float64(t)) / (hi - lo)
		offset := lo
		for range 2 { // levels for the scale, then the best scale and minimum for those levels
			var sq, sqq, sxq float64
			for _, v := range x {
				q := clampRound((float64(v)-offset)*inv, 0, top)
				sq += q
				sqq += q * q
				sxq += q * float64(v)
			}
			if sqq == 0 {
				break
			}
			scale, low := sxq/sqq, 0.0
			if det := n*sqq - sq*sq; det > 0 {
				scale = (n*sxq - sx*sq) / det
				low = (sqq*sx - sq*sxq) / det
				if low > 0 {
					scale, low = sxq/sqq, 0
				}
			}
			if !(scale > 0) {
				break
			}
			e := sxx + scale*scale*sqq + n*low*low - 2*scale*sxq - 2*low*sx + 2*scale*low*sq
			if e < best {
				best, s, m = e, float32(scale), float32(-low)
			}
			inv, offset = 1/scale, low
		}
	}
	return s, m
}

func clampRound(x float64, lo, hi int) float64 {
	return min(max(math.RoundToEven(x), float64(lo)), float64(hi))
}

// level is clampRound as an integer; NaN becomes lo.
func level(x float64, lo, hi int) int {
	if x != x {
		return lo
	}
	return int(clampRound(x, lo, hi))
}

// affineBlock quantizes 256 values in sub-blocks of sub: levels up to top, scales and minima up to scaleTop.
func affineBlock(levels *[superLen]byte, x []float32, sub, top, scaleTop int) (d, dmin uint16, scales, mins [16]byte) {
	n := superLen / sub
	var s, m [16]float32
	var sMax, mMax float32
	for j := range n {
		s[j], m[j] = fitAffine(x[sub*j:sub*j+sub], top)
		sMax, mMax = max(sMax, s[j]), max(mMax, m[j])
	}
	d, dmin = F32ToHalf(sMax/float32(scaleTop)), F32ToHalf(mMax/float32(scaleTop))
	fd, fm := float64(HalfToF32(d)), float64(HalfToF32(dmin))
	for j := range n {
		v := x[sub*j : sub*j+sub]
		// The neighbours of the rounded pair are tried: scale and minimum are correlated, so rounding each alone is not best.
		best := math.Inf(1)
		bs, bm := stored(s[j], fd, scaleTop), stored(m[j], fm, scaleTop)
		for ts := max(bs-1, 0); ts <= min(bs+1, scaleTop); ts++ {
			for tm := max(bm-1, 0); tm <= min(bm+1, scaleTop); tm++ {
				scale, low := fd*float64(ts), fm*float64(tm)
				inv := 0.0
				if scale > 0 {
					inv = 1 / scale
				}
				e := 0.0
				for _, f := range v {
					r := clampRound((float64(f)+low)*inv, 0, top)*scale - low - float64(f)
					e += r * r
				}
				if e < best {
					best, scales[j], mins[j] = e, byte(ts), byte(tm)
				}
			}
		}
		scale, low := fd*float64(scales[j]), fm*float64(mins[j])
		for i, f := range v {
			levels[sub*j+i] = 0
			if scale > 0 {
				levels[sub*j+i] = byte(level((float64(f)+low)/scale, 0, top))
			}
		}
	}
	return d, dmin, scales, mins
}

func stored(v float32, unit float64, top int) int {
	if unit == 0 {
		return 0
	}
	return level(float64(v)/unit, 0, top)
}

// symmetricBlock quantizes 256 values in sub-blocks of 16: levels from -mid to mid-1, stored from 0, scales from -scaleMid
// to scaleMid-1.
func symmetricBlock(levels *[superLen]byte, x []float32, mid, scaleMid int) (d uint16, scales [16]int) {
	var s [16]float32
	for j := range s {
		s[j] = fitSymmetric(x[16*j:16*j+16], mid)
	}
	d = F32ToHalf(farthest(s[:]) / float32(-scaleMid))
	fd := float64(HalfToF32(d))
	for j := range s {
		v := x[16*j : 16*j+16]
		if fd != 0 {
			best, at := math.Inf(1), level(float64(s[j])/fd, -scaleMid, scaleMid-1)
			for t := max(at-1, -scaleMid); t <= min(at+1, scaleMid-1); t++ {
				scale, inv, e := fd*float64(t), 0.0, 0.0
				if t != 0 {
					inv = 1 / scale
				}
				for _, f := range v {
					r := clampRound(float64(f)*inv, -mid, mid-1)*scale - float64(f)
					e += r * r
				}
				if e < best {
					best, scales[j] = e, t
				}
			}
		}
		scale := fd * float64(scales[j])
		for i, f := range v {
			levels[16*j+i] = byte(mid)
			if scale != 0 {
				levels[16*j+i] = byte(level(float64(f)/scale, -mid, mid-1) + mid)
			}
		}
	}
	return d, scales
}

func encodeQ2K(dst []byte, src []float32) {
	var q [superLen]byte
	for ; len(src) > 0; dst, src = dst[84:], src[superLen:] {
		d, dmin, scales, mins := affineBlock(&q, src[:superLen], 16, 3, 15)
		for j := range 16 {
			dst[j] = scales[j] | mins[j]<<4
		}
		packPairs(dst[16:80], &q)
		put16(dst[80:], d)
		put16(dst[82:], dmin)
	}
}

// packPairs stores the low two bits of the levels: a byte holds the values at distances of 32 within a half.
func packPairs(qs []byte, q *[superLen]byte) {
	for i := range 64 {
		v := q[i>>5*128+i&31:]
		qs[i] = v[0]&3 | v[32]&3<<2 | v[64]&3<<4 | v[96]&3<<6
	}
}

func encodeQ3K(dst []byte, src []float32) {
	var q [superLen]byte
	for ; len(src) > 0; dst, src = dst[110:], src[superLen:] {
		d, scales := symmetricBlock(&q, src[:superLen], 4, 32)
		clear(dst[:32])
		for i, v := range q {
			dst[i&31] |= v >> 2 << (i >> 5)
		}
		packPairs(dst[32:96], &q)
		clear(dst[96:108])
		for j, s := range scales {
			v := byte(s + 32)
			dst[96+j&7] |= v & 15 << (j >> 3 * 4)
			dst[104+j&3] |= v >> 4 << (j >> 2 * 2)
		}
		put16(dst[108:], d)
	}
}

// packScales is the inverse of q4Scale.
func packScales(s []byte, scales, mins *[16]byte) {
	for j := range 4 {
		s[j] = scales[j] | scales[j+4]>>4<<6
		s[j+4] = mins[j] | mins[j+4]>>4<<6
		s[j+8] = scales[j+4]&15 | mins[j+4]&15<<4
	}
}

func encodeQ4K(dst []byte, src []float32) {
	var q [superLen]byte
	for ; len(src) > 0; dst, src = dst[144:], src[superLen:] {
		d, dmin, scales, mins := affineBlock(&q, src[:superLen], 32, 15, 63)
		put16(dst, d)
		put16(dst[2:], dmin)
		packScales(dst[4:16], &scales, &mins)
		for i := range 128 {
			v := q[i>>5*64+i&31:]
			dst[16+i] = v[0] | v[32]<<4
		}
	}
}

func encodeQ5K(dst []byte, src []float32) {
	var q [superLen]byte
	for ; len(src) > 0; dst, src = dst[176:], src[superLen:] {
		d, dmin, scales, mins := affineBlock(&q, src[:superLen], 32, 31, 63)
		put16(dst, d)
		put16(dst[2:], dmin)
		packScales(dst[4:16], &scales, &mins)
		clear(dst[16:48])
		for i, v := range q {
			dst[16+i&31] |= v >> 4 << (i >> 5)
		}
		for i := range 128 {
			v := q[i>>5*64+i&31:]
			dst[48+i] = v[0]&15 | v[32]&15<<4
		}
	}
}

func encodeQ6K(dst []byte, src []float32) {
	var q [superLen]byte
	for ; len(src) > 0; dst, src = dst[210:], src[superLen:] {
		d, scales := symmetricBlock(&q, src[:superLen], 32, 128)
		for i := range 64 {
			v := q[i>>5*128+i&31:]
			low := dst[i>>5*64+i&31:]
			low[0] = v[0]&15 | v[64]&15<<4
			low[32] = v[32]&15 | v[96]&15<<4
			dst[128+i] = v[0]>>4 | v[32]>>4<<2 | v[64]>>4<<4 | v[96]>>4<<6
		}
		for j, s := range scales {
			dst[192+j] = byte(int8(s))
		}
		put16(dst[208:], d)
	}
}

// encodeQ8K also stores the sums of 16 levels each, which dot products with minima need.
func encodeQ8K(dst []byte, src []float32) {
	for ; len(src) > 0; dst, src = dst[292:], src[superLen:] {
		d := farthest(src[:superLen]) / -127
		id := inverse(d)
		put32(dst, math.Float32bits(d))
		var sums [16]int
		for i, v := range src[:superLen] {
			q := level(float64(v*id), -127, 127)
			dst[4+i] = byte(int8(q))
			sums[i/16] += q
		}
		for j, s := range sums {
			put16(dst[260+2*j:], uint16(int16(s)))
		}
	}
}
