package kernel

import "danlu/internal/cpu"

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
func expSumRowAVX512(x *float32, n int, m float32) float32

//go:noescape
func siluMulRowAVX512(d, gate, up *float32, n int)

//go:noescape
func rotateHalvesRowAVX512(dlo, dhi, lo, hi, c, s *float32, n int, sign float32)

// vectors reports whether a row of n values goes to the vector kernels.
func vectors(n int) bool { return n > 0 && cpu.Active() >= cpu.AVX512 }

func addRow(d, a, b []float32) {
	if n := len(d); vectors(n) {
		_, _ = a[n-1], b[n-1]
		addRowAVX512(&d[0], &a[0], &b[0], n)
		return
	}
	addRowPortable(d, a, b)
}

func mulRow(d, a, b []float32) {
	if n := len(d); vectors(n) {
		_, _ = a[n-1], b[n-1]
		mulRowAVX512(&d[0], &a[0], &b[0], n)
		return
	}
	mulRowPortable(d, a, b)
}

func scaleRow(d, x []float32, c float32) {
	if n := len(d); vectors(n) {
		_ = x[n-1]
		scaleRowAVX512(&d[0], &x[0], n, c)
		return
	}
	scaleRowPortable(d, x, c)
}

func scaleMulRow(d, x, w []float32, r float32) {
	if n := len(d); vectors(n) {
		_, _ = x[n-1], w[n-1]
		scaleMulRowAVX512(&d[0], &x[0], &w[0], n, r)
		return
	}
	scaleMulRowPortable(d, x, w, r)
}

func axpyRow(y, x []float32, a float32) {
	if n := len(x); vectors(n) {
		_ = y[n-1]
		axpyRowAVX512(&y[0], &x[0], n, a)
		return
	}
	axpyRowPortable(y, x, a)
}

func dotRow(a, b []float32) float32 {
	if n := len(a); vectors(n) {
		_ = b[n-1]
		return dotRowAVX512(&a[0], &b[0], n)
	}
	return dotRowPortable(a, b)
}

func sumSqRow(x []float32) float32 {
	if n := len(x); vectors(n) {
		return dotRowAVX512(&x[0], &x[0], n)
	}
	return sumSqRowPortable(x)
}

func maxOfRow(x []float32) float32 {
	if n := len(x); vectors(n) {
		return maxOfRowAVX512(&x[0], n)
	}
	return maxOfRowPortable(x)
}

func expSubRow(d, x []float32, m float32) float32 {
	if n := len(d); vectors(n) {
		_ = x[n-1]
		return expSubRowAVX512(&d[0], &x[0], n, m)
	}
	return expSubRowPortable(d, x, m)
}

func siluMulRow(d, g, u []float32) {
	if n := len(d); vectors(n) {
		_, _ = g[n-1], u[n-1]
		siluMulRowAVX512(&d[0], &g[0], &u[0], n)
		return
	}
	siluMulRowPortable(d, g, u)
}

func rotateHalvesRow(dlo, dhi, lo, hi, c, s []float32, sign float32) {
	if n := len(dlo); vectors(n) {
		_, _, _, _, _ = dhi[n-1], lo[n-1], hi[n-1], c[n-1], s[n-1]
		rotateHalvesRowAVX512(&dlo[0], &dhi[0], &lo[0], &hi[0], &c[0], &s[0], n, sign)
		return
	}
	rotateHalvesRowPortable(dlo, dhi, lo, hi, c, s, sign)
}

func expSumRow(x []float32, m float32) float32 {
	if n := len(x); vectors(n) {
		return expSumRowAVX512(&x[0], n, m)
	}
	return expSumRowPortable(x, m)
}
