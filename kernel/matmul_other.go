//go:build !amd64

package kernel

func pairs() bool { return false }

func multiply(c, a, b []float32, depth int, accumulate bool) {
	multiplyPortable(c, a, b, depth, accumulate)
}

func multiplyPairs(c, a, b []float32, depth int, accumulate bool) { panic("kernel: no pairs here") }

func packFast(dst []float32, m Matrix, n, width, depth, line, step int, asPairs bool) int { return 0 }
