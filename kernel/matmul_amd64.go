package kernel

import "danlu/internal/cpu"

// matmulAVX512 is multiplyPortable with AVX-512F.
//
//go:noescape
func matmulAVX512(c, a, b *float32, depth int, accumulate bool)

func multiply(c, a, b []float32, depth int, accumulate bool) {
	if cpu.Active() < cpu.AVX512 || depth == 0 {
		multiplyPortable(c, a, b, depth, accumulate)
		return
	}
	_, _, _ = c[(microM-1)*tileN+microN-1], a[depth*microM-1], b[depth*microN-1]
	matmulAVX512(&c[0], &a[0], &b[0], depth, accumulate)
}
