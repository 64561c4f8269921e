package kernel

import "math"

// RoPE rotates pairs of elements of each head (Su et al., arXiv:2104.09864): pairs (i, i+Half), or (2i, 2i+1) when
// Interleaved; elements from 2·Half on pass. Inverse rotates back, which is also the gradient.
type RoPE struct {
	Heads, HeadDim, Half int
	Interleaved, Inverse bool
}

// ApplyRoPE rotates tokens: token t's heads lie side by side from x[t·xStride] and go to dst[t·dstStride]; its angles are
// cos and sin [t·Half, (t+1)·Half). The number of tokens is len(cos)/Half. dst may be x.
func ApplyRoPE[T Elem](o RoPE, dst []T, dstStride int, x []T, xStride int, cos, sin []float32) {
	var in, out block
	// Long heads are rotated in parts of a block's half.
	for t := 0; (t+1)*o.Half <= len(cos) && o.Half > 0; t++ {
		c, s := cos[t*o.Half:(t+1)*o.Half], sin[t*o.Half:(t+1)*o.Half]
		for h := range o.Heads {
			xh := x[t*xStride+h*o.HeadDim:][:o.HeadDim]
			dh := dst[t*dstStride+h*o.HeadDim:][:o.HeadDim]
			for i := 0; i < o.Half; {
				j := min(i+blockLen/2, o.Half)
				n := j - i
				if o.Interleaved {
					d := room(&out, dh[2*i:2*j])
					rotatePairsRow(d, load(&in, xh[2*i:2*j]), c[i:j], s[i:j], sign(o.Inverse))
					store(dh[2*i:2*j], d)
				} else {
					lo, hi := xh[i:j], xh[o.Half+i:o.Half+j]
					dlo, dhi := dh[i:j], dh[o.Half+i:o.Half+j]
					if isF32[T]() {
						rotateHalvesRow(asF32(dlo), asF32(dhi), asF32(lo), asF32(hi), c[i:j], s[i:j], sign(o.Inverse))
					} else {
						a, b := in[:n], in[blockLen/2:][:n]
						bf16ToF32(a, asBF16(lo))
						bf16ToF32(b, asBF16(hi))
						rotateHalvesRow(a, b, a, b, c[i:j], s[i:j], sign(o.Inverse))
						f32ToBF16(asBF16(dlo), a)
						f32ToBF16(asBF16(dhi), b)
					}
				}
				i = j
			}
			copy(dh[2*o.Half:], xh[2*o.Half:])
		}
	}
}

func sign(inverse bool) float32 {
	if inverse {
		return -1
	}
	return 1
}

// RotaryTable fills cos and sin [len(positions)][len(invFreq)] with scale·cos and scale·sin of position·frequency. Angles
// are float64, so tables are exact to 1e-6 for positions of a million and more.
func RotaryTable(cos, sin []float32, positions []int32, invFreq []float32, scale float64) {
	n := len(invFreq)
	for t, p := range positions {
		c, s := cos[t*n:][:n], sin[t*n:][:n]
		for i, f := range invFreq {
			sn, cs := math.Sincos(float64(p) * float64(f))
			c[i], s[i] = float32(scale*cs), float32(scale*sn)
		}
	}
}

func rotateHalvesRowPortable(dlo, dhi, lo, hi, c, s []float32, sign float32) {
	n := len(dlo)
	dhi, lo, hi, c, s = dhi[:n], lo[:n], hi[:n], c[:n], s[:n]
	for i := range dlo {
		a, b, sn := lo[i], hi[i], s[i]*sign
		dlo[i] = a*c[i] - b*sn
		dhi[i] = b*c[i] + a*sn
	}
}

// rotatePairsRowPortable rotates pairs (2i, 2i+1) of x, of twice c's length.
func rotatePairsRowPortable(d, x, c, s []float32, sign float32) {
	for i := range c {
		a, b, sn := x[2*i], x[2*i+1], s[i]*sign
		d[2*i] = a*c[i] - b*sn
		d[2*i+1] = b*c[i] + a*sn
	}
}
