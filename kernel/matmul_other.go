//go:build !amd64

package kernel

func multiply(c, a, b []float32, depth int, accumulate bool) {
	multiplyPortable(c, a, b, depth, accumulate)
}
