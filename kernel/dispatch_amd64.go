package kernel

import (
	"math"
	"unsafe"

	"danlu/internal/cpu"
)

//go:noescape
func addRowAVX512(d, a, b *float32, n int)

//go:noescape
func mulRowAVX512(d, a, b *float32, n int)

//go:noescape
func scaleRowAVX512(d, x *float32, n int, c float32)

//go:noescape
func scaleMulRowAVX512(d, x, w *float32, n int, c float32)

//go:noescape
func axpyRowAVX512(y, x *float32, n int, c float32)

//go:noescape
func dotRowAVX512(a, b *float32, n int) float32

//go:noescape
func maxOfRowAVX512(x *float32, n int) float32

//go:noescape
func expSubRowAVX512(d, x *float32, n int, m float32) float32

//go:noescape
func siluMulRowAVX512(d, gate, up *float32, n int)

//go:noescape
func rotateHalvesRowAVX512(dlo, dhi, lo, hi, c, s *float32, n int, sign float32)

//go:noescape
func subRowAVX512(d, a, b *float32, n int)

//go:noescape
func divRowAVX512(d, a, b *float32, n int)

//go:noescape
func addScalarRowAVX512(d, x *float32, n int, c float32)

//go:noescape
func mulAccRowAVX512(acc, a, b *float32, n int, r float32)

//go:noescape
func axpbyRowAVX512(d, x, y *float32, n int, r, c float32)

//go:noescape
func mulAxpbyRowAVX512(d, x, w, y *float32, n int, r, c float32)

//go:noescape
func sumRowAVX512(x *float32, n int) float32

//go:noescape
func dot3RowAVX512(a, b, c *float32, n int) float32

//go:noescape
func dotBF16RowAVX512(halfA *uint16, b *float32, n int) float32

//go:noescape
func bf16ToF32AVX512(d *float32, half *uint16, n int)

//go:noescape
func f32ToBF16AVX512(half *uint16, x *float32, n int)

//go:noescape
func dotF16RowAVX512(halfA *uint16, b *float32, n int) float32

//go:noescape
func f16ToF32AVX512(d *float32, half *uint16, n int)

//go:noescape
func f32ToF16AVX512(half *uint16, x *float32, n int)

//go:noescape
func expRowAVX512(d, x *float32, n int)

//go:noescape
func sigmoidRowAVX512(d, x *float32, n int)

//go:noescape
func expSumRowAVX512(x *float32, n int, m float32) float32

//go:noescape
func expLinearRowAVX512(d, x *float32, n int, m, a, b float32)

//go:noescape
func siluMulGradRowAVX512(dgate, dup, dy, gate, up *float32, n int)

//go:noescape
func adamWRowAVX512(p, m, v, grad *float32, n int, scale, decay, omBeta1, beta2, omBeta2, invSqrtBC2, eps, negStep float32)

//go:noescape
func maskRowAVX512(x, segments *float32, n int, own float32)

//go:noescape
func expScaledRowAVX512(x *float32, n int, c, m float32) float32

//go:noescape
func probGradRowAVX512(p, ds *float32, n int, c, lse, delta, scale float32)

//go:noescape
func addRowAVX2(d, a, b *float32, n int)

//go:noescape
func mulRowAVX2(d, a, b *float32, n int)

//go:noescape
func scaleRowAVX2(d, x *float32, n int, c float32)

//go:noescape
func addScalarRowAVX2(d, x *float32, n int, c float32)

//go:noescape
func scaleMulRowAVX2(d, x, w *float32, n int, c float32)

//go:noescape
func axpyRowAVX2(y, x *float32, n int, c float32)

//go:noescape
func dotRowAVX2(a, b *float32, n int) float32

//go:noescape
func sumRowAVX2(x *float32, n int) float32

//go:noescape
func maxOfRowAVX2(x *float32, n int) float32

//go:noescape
func expSubRowAVX2(d, x *float32, n int, m float32) float32

//go:noescape
func expSumRowAVX2(x *float32, n int, m float32) float32

//go:noescape
func siluMulRowAVX2(d, gate, up *float32, n int)

// vectors reports whether a row of n values goes to a kernel that there is for AVX2 and AVX-512.
func vectors(n int) bool { return n > 0 && cpu.Active() >= cpu.AVX2 }

// wide reports whether a row of n values goes to an AVX-512 kernel.
func wide(n int) bool { return n > 0 && cpu.Active() >= cpu.AVX512 }

func addRow(d, a, b []float32) {
	if n := len(d); vectors(n) {
		_, _ = a[n-1], b[n-1]
		if wide(n) {
			addRowAVX512(&d[0], &a[0], &b[0], n)
		} else {
			addRowAVX2(&d[0], &a[0], &b[0], n)
		}
		return
	}
	addRowPortable(d, a, b)
}

func mulRow(d, a, b []float32) {
	if n := len(d); vectors(n) {
		_, _ = a[n-1], b[n-1]
		if wide(n) {
			mulRowAVX512(&d[0], &a[0], &b[0], n)
		} else {
			mulRowAVX2(&d[0], &a[0], &b[0], n)
		}
		return
	}
	mulRowPortable(d, a, b)
}

func scaleRow(d, x []float32, c float32) {
	if n := len(d); vectors(n) {
		_ = x[n-1]
		if wide(n) {
			scaleRowAVX512(&d[0], &x[0], n, c)
		} else {
			scaleRowAVX2(&d[0], &x[0], n, c)
		}
		return
	}
	scaleRowPortable(d, x, c)
}

func scaleMulRow(d, x, w []float32, r float32) {
	if n := len(d); vectors(n) {
		_, _ = x[n-1], w[n-1]
		if wide(n) {
			scaleMulRowAVX512(&d[0], &x[0], &w[0], n, r)
		} else {
			scaleMulRowAVX2(&d[0], &x[0], &w[0], n, r)
		}
		return
	}
	scaleMulRowPortable(d, x, w, r)
}

func axpyRow(y, x []float32, a float32) {
	if n := len(x); vectors(n) {
		_ = y[n-1]
		if wide(n) {
			axpyRowAVX512(&y[0], &x[0], n, a)
		} else {
			axpyRowAVX2(&y[0], &x[0], n, a)
		}
		return
	}
	axpyRowPortable(y, x, a)
}

func dotRow(a, b []float32) float32 {
	if n := len(a); vectors(n) {
		_ = b[n-1]
		if wide(n) {
			return dotRowAVX512(&a[0], &b[0], n)
		}
		return dotRowAVX2(&a[0], &b[0], n)
	}
	return dotRowPortable(a, b)
}

func sumSqRow(x []float32) float32 {
	if n := len(x); vectors(n) {
		if wide(n) {
			return dotRowAVX512(&x[0], &x[0], n)
		}
		return dotRowAVX2(&x[0], &x[0], n)
	}
	return sumSqRowPortable(x)
}

func maxOfRow(x []float32) float32 {
	if n := len(x); vectors(n) {
		if wide(n) {
			return maxOfRowAVX512(&x[0], n)
		}
		return maxOfRowAVX2(&x[0], n)
	}
	return maxOfRowPortable(x)
}

func expSubRow(d, x []float32, m float32) float32 {
	if n := len(d); vectors(n) {
		_ = x[n-1]
		if wide(n) {
			return expSubRowAVX512(&d[0], &x[0], n, m)
		}
		return expSubRowAVX2(&d[0], &x[0], n, m)
	}
	return expSubRowPortable(d, x, m)
}

func siluMulRow(d, g, u []float32) {
	if n := len(d); vectors(n) {
		_, _ = g[n-1], u[n-1]
		if wide(n) {
			siluMulRowAVX512(&d[0], &g[0], &u[0], n)
		} else {
			siluMulRowAVX2(&d[0], &g[0], &u[0], n)
		}
		return
	}
	siluMulRowPortable(d, g, u)
}

func rotateHalvesRow(dlo, dhi, lo, hi, c, s []float32, sign float32) {
	if n := len(dlo); wide(n) {
		_, _, _, _, _ = dhi[n-1], lo[n-1], hi[n-1], c[n-1], s[n-1]
		rotateHalvesRowAVX512(&dlo[0], &dhi[0], &lo[0], &hi[0], &c[0], &s[0], n, sign)
		return
	}
	rotateHalvesRowPortable(dlo, dhi, lo, hi, c, s, sign)
}

func subRow(d, a, b []float32) {
	if n := len(d); wide(n) {
		_, _ = a[n-1], b[n-1]
		subRowAVX512(&d[0], &a[0], &b[0], n)
		return
	}
	subRowPortable(d, a, b)
}

func divRow(d, a, b []float32) {
	if n := len(d); wide(n) {
		_, _ = a[n-1], b[n-1]
		divRowAVX512(&d[0], &a[0], &b[0], n)
		return
	}
	divRowPortable(d, a, b)
}

func addScalarRow(d, x []float32, c float32) {
	if n := len(d); vectors(n) {
		_ = x[n-1]
		if wide(n) {
			addScalarRowAVX512(&d[0], &x[0], n, c)
		} else {
			addScalarRowAVX2(&d[0], &x[0], n, c)
		}
		return
	}
	addScalarRowPortable(d, x, c)
}

func mulAccRow(acc, a, b []float32, r float32) {
	if n := len(acc); wide(n) {
		_, _ = a[n-1], b[n-1]
		mulAccRowAVX512(&acc[0], &a[0], &b[0], n, r)
		return
	}
	mulAccRowPortable(acc, a, b, r)
}

func axpbyRow(d, x, y []float32, r, c float32) {
	if n := len(d); wide(n) {
		_, _ = x[n-1], y[n-1]
		axpbyRowAVX512(&d[0], &x[0], &y[0], n, r, c)
		return
	}
	axpbyRowPortable(d, x, y, r, c)
}

func mulAxpbyRow(d, x, w, y []float32, r, c float32) {
	if n := len(d); wide(n) {
		_, _, _ = x[n-1], w[n-1], y[n-1]
		mulAxpbyRowAVX512(&d[0], &x[0], &w[0], &y[0], n, r, c)
		return
	}
	mulAxpbyRowPortable(d, x, w, y, r, c)
}

func sumRow(x []float32) float32 {
	if n := len(x); vectors(n) {
		if wide(n) {
			return sumRowAVX512(&x[0], n)
		}
		return sumRowAVX2(&x[0], n)
	}
	return sumRowPortable(x)
}

func dot3Row(a, b, c []float32) float32 {
	if n := len(a); wide(n) {
		_, _ = b[n-1], c[n-1]
		return dot3RowAVX512(&a[0], &b[0], &c[0], n)
	}
	return dot3RowPortable(a, b, c)
}

func dotBF16Row(a []uint16, b []float32) float32 {
	if n := len(a); wide(n) {
		_ = b[n-1]
		return dotBF16RowAVX512(&a[0], &b[0], n)
	}
	return dotBF16RowPortable(a, b)
}

func bf16ToF32(dst []float32, src []uint16) {
	if n := len(dst); wide(n) {
		_ = src[n-1]
		bf16ToF32AVX512(&dst[0], &src[0], n)
		return
	}
	bf16ToF32Portable(dst, src)
}

func f32ToBF16(dst []uint16, src []float32) {
	if n := len(src); wide(n) {
		_ = dst[n-1]
		f32ToBF16AVX512(&dst[0], &src[0], n)
		return
	}
	f32ToBF16Portable(dst, src)
}

func dotF16Row(a []uint16, b []float32) float32 {
	if n := len(a); wide(n) {
		_ = b[n-1]
		return dotF16RowAVX512(&a[0], &b[0], n)
	}
	return dotF16RowPortable(a, b)
}

func f16ToF32(dst []float32, src []uint16) {
	if n := len(dst); wide(n) {
		_ = src[n-1]
		f16ToF32AVX512(&dst[0], &src[0], n)
		return
	}
	f16ToF32Portable(dst, src)
}

func f32ToF16(dst []uint16, src []float32) {
	if n := len(src); wide(n) {
		_ = dst[n-1]
		f32ToF16AVX512(&dst[0], &src[0], n)
		return
	}
	f32ToF16Portable(dst, src)
}

func expRow(d, x []float32) {
	if n := len(d); wide(n) {
		_ = x[n-1]
		expRowAVX512(&d[0], &x[0], n)
		return
	}
	expRowPortable(d, x)
}

func sigmoidRow(d, x []float32) {
	if n := len(d); wide(n) {
		_ = x[n-1]
		sigmoidRowAVX512(&d[0], &x[0], n)
		return
	}
	sigmoidRowPortable(d, x)
}

func expSumRow(x []float32, m float32) float32 {
	if n := len(x); vectors(n) {
		if wide(n) {
			return expSumRowAVX512(&x[0], n, m)
		}
		return expSumRowAVX2(&x[0], n, m)
	}
	return expSumRowPortable(x, m)
}

func expLinearRow(d, x []float32, m, a, b float32) {
	if n := len(d); wide(n) {
		_ = x[n-1]
		expLinearRowAVX512(&d[0], &x[0], n, m, a, b)
		return
	}
	expLinearRowPortable(d, x, m, a, b)
}

func siluMulGradRow(dg, du, dy, g, u []float32) {
	if n := len(dg); wide(n) {
		_, _, _, _ = du[n-1], dy[n-1], g[n-1], u[n-1]
		siluMulGradRowAVX512(&dg[0], &du[0], &dy[0], &g[0], &u[0], n)
		return
	}
	siluMulGradRowPortable(dg, du, dy, g, u)
}

func adamWRow(p, m, v, g []float32, c *adamWConst) {
	if n := len(p); wide(n) {
		_, _, _ = m[n-1], v[n-1], g[n-1]
		adamWRowAVX512(&p[0], &m[0], &v[0], &g[0], n, c.scale, c.decay, c.omBeta1, c.beta2, c.omBeta2, c.invSqrtBC2, c.eps, c.negStep)
		return
	}
	adamWRowPortable(p, m, v, g, c)
}

// maskRow hides the scores of keys of other segments.
func maskRow(x []float32, segments []int32, own int32) {
	if n := len(x); wide(n) {
		_ = segments[n-1]
		maskRowAVX512(&x[0], (*float32)(unsafe.Pointer(&segments[0])), n, math.Float32frombits(uint32(own)))
		return
	}
	maskRowPortable(x, segments, own)
}

func expScaledRow(x []float32, c, m float32) float32 {
	if n := len(x); wide(n) {
		return expScaledRowAVX512(&x[0], n, c, m)
	}
	return expScaledRowPortable(x, c, m)
}

func probGradRow(p, ds []float32, c, lse, delta, scale float32) {
	if n := len(p); wide(n) {
		_ = ds[n-1]
		probGradRowAVX512(&p[0], &ds[0], n, c, lse, delta, scale)
		return
	}
	probGradRowPortable(p, ds, c, lse, delta, scale)
}
