package kernel

import "math"

// NormChunk is the number of rows whose parameter gradients one call of RMSNormGrad or LayerNormGrad should add up: the
// caller gives each chunk a buffer of its own and adds the buffers in order, so that bytes do not depend on threads.
const NormChunk = 64

// RMSNorm is x / sqrt(mean(x²) + eps) · w for rows of d (Zhang & Sennrich, arXiv:1910.07467); w may be nil. dst may be x.
func RMSNorm[Y, X Elem](dst []Y, x []X, w []float32, d int, eps float32) {
	for ; len(x) > 0; dst, x = dst[d:], x[d:] {
		scaleWeight(dst[:d], x[:d], w, rstdOf(float32(SumSquares(x[:d])), d, eps))
	}
}

func rstdOf(sumSq float32, d int, eps float32) float32 {
	return float32(1 / math.Sqrt(float64(sumSq)/float64(d)+float64(eps)))
}

// scaleWeight is dst = x·r·w.
func scaleWeight[Y, X Elem](dst []Y, x []X, w []float32, r float32) {
	var in, out block
	for i := 0; i < len(x); {
		j := next(i, len(x))
		d := room(&out, dst[i:j])
		if w == nil {
			scaleRow(d, load(&in, x[i:j]), r)
		} else {
			scaleMulRow(d, load(&in, x[i:j]), w[i:j], r)
		}
		store(dst[i:j], d)
		i = j
	}
}

// RMSNormGrad is the gradient of RMSNorm for rows of d: dx is written, dw [d] is added to (both w and dw may be nil).
// dx may be dy or x.
func RMSNormGrad[X, Y Elem](dx []X, dw []float32, dy []Y, x []X, w []float32, d int, eps float32) {
	var bx, by, out block
	for ; len(x) > 0; dx, dy, x = dx[d:], dy[d:], x[d:] {
		var dot float32
		r := rstdOf(float32(SumSquares(x[:d])), d, eps)
		for i := 0; i < d; {
			j := next(i, d)
			xb, yb := load(&bx, x[i:j]), load(&by, dy[i:j])
			if w == nil {
				dot += dotRow(yb, xb)
			} else {
				dot += dot3Row(yb, xb, w[i:j])
			}
			if dw != nil {
				mulAccRow(dw[i:j], yb, xb, r)
			}
			i = j
		}
		c := -dot * r * r * r / float32(d)
		for i := 0; i < d; {
			j := next(i, d)
			xb, yb := load(&bx, x[i:j]), load(&by, dy[i:j])
			o := room(&out, dx[i:j])
			if w == nil {
				axpbyRow(o, yb, xb, r, c)
			} else {
				mulAxpbyRow(o, yb, w[i:j], xb, r, c)
			}
			store(dx[i:j], o)
			i = j
		}
	}
}

// LayerNorm is (x - mean) / sqrt(var + eps) · w + b for rows of d; w and b may be nil. dst may be x.
func LayerNorm[Y, X Elem](dst []Y, x []X, w, b []float32, d int, eps float32) {
	var in, out block
	for ; len(x) > 0; dst, x = dst[d:], x[d:] {
		mean, r := moments(x[:d], eps)
		for i := 0; i < d; {
			j := next(i, d)
			o := room(&out, dst[i:j])
			addScalarRow(o, load(&in, x[i:j]), -mean)
			if w == nil {
				scaleRow(o, o, r)
			} else {
				scaleMulRow(o, o, w[i:j], r)
			}
			if b != nil {
				addRow(o, o, b[i:j])
			}
			store(dst[i:j], o)
			i = j
		}
	}
}

// moments is the mean and 1/sqrt(variance + eps) of a row, in two passes.
func moments[X Elem](x []X, eps float32) (mean, r float32) {
	var in, c block
	mean = Sum(x) / float32(len(x))
	var s float64
	for i := 0; i < len(x); {
		j := next(i, len(x))
		addScalarRow(c[:j-i], load(&in, x[i:j]), -mean)
		s += float64(sumSqRow(c[:j-i]))
		i = j
	}
	return mean, rstdOf(float32(s), len(x), eps)
}

// LayerNormGrad is the gradient of LayerNorm for rows of d: dx is written; dw and db [d] are added to (w, dw and db may
// be nil). dx may be dy or x.
func LayerNormGrad[X, Y Elem](dx []X, dw, db []float32, dy []Y, x []X, w []float32, d int, eps float32) {
	var bx, by, bh, out block
	for ; len(x) > 0; dx, dy, x = dx[d:], dy[d:], x[d:] {
		mean, r := moments(x[:d], eps)
		var sum, dot float32
		for i := 0; i < d; {
			j := next(i, d)
			h, yb := bh[:j-i], load(&by, dy[i:j])
			addScalarRow(h, load(&bx, x[i:j]), -mean)
			if dw != nil {
				mulAccRow(dw[i:j], yb, h, r)
			}
			if db != nil {
				addRow(db[i:j], db[i:j], yb)
			}
			if w == nil {
				sum += sumRow(yb)
				dot += dotRow(yb, h)
			} else {
				sum += dotRow(yb, w[i:j])
				dot += dot3Row(yb, h, w[i:j])
			}
			i = j
		}
		c := -dot * r * r * r / float32(d)
		shift := -sum * r / float32(d)
		for i := 0; i < d; {
			j := next(i, d)
			h, yb := bh[:j-i], load(&by, dy[i:j])
			addScalarRow(h, load(&bx, x[i:j]), -mean)
			o := room(&out, dx[i:j])
			if w == nil {
				axpbyRow(o, yb, h, r, c)
			} else {
				mulAxpbyRow(o, yb, w[i:j], h, r, c)
			}
			addScalarRow(o, o, shift)
			store(dx[i:j], o)
			i = j
		}
	}
}

// L2Norm divides rows of d by their length, at least eps: dst = x / max(|x|, eps). dst may be x.
func L2Norm[Y, X Elem](dst []Y, x []X, d int, eps float32) {
	for ; len(x) > 0; dst, x = dst[d:], x[d:] {
		n := float32(math.Sqrt(SumSquares(x[:d])))
		scaleWeight(dst[:d], x[:d], nil, 1/max(n, eps))
	}
}

// L2NormGrad is the gradient of L2Norm. dx may be dy or x.
func L2NormGrad[X, Y Elem](dx []X, dy []Y, x []X, d int, eps float32) {
	var bx, by, out block
	for ; len(x) > 0; dx, dy, x = dx[d:], dy[d:], x[d:] {
		n := float32(math.Sqrt(SumSquares(x[:d])))
		r := 1 / max(n, eps)
		var c float32
		if !(n <= eps) {
			c = -Dot(dy[:d], x[:d]) * r * r * r
		}
		for i := 0; i < d; {
			j := next(i, d)
			o := room(&out, dx[i:j])
			axpbyRow(o, load(&by, dy[i:j]), load(&bx, x[i:j]), r, c)
			store(dx[i:j], o)
			i = j
		}
	}
}

func scaleMulRowPortable(d, x, w []float32, r float32) {
	x, w = x[:len(d)], w[:len(d)]
	for i := range d {
		d[i] = x[i] * r * w[i]
	}
}

// mulAccRowPortable is acc += a·b·r.
func mulAccRowPortable(acc, a, b []float32, r float32) {
	a, b = a[:len(acc)], b[:len(acc)]
	for i := range acc {
		acc[i] += a[i] * r * b[i]
	}
}

// axpbyRowPortable is d = r·x + c·y.
func axpbyRowPortable(d, x, y []float32, r, c float32) {
	x, y = x[:len(d)], y[:len(d)]
	for i := range d {
		d[i] = r*x[i] + c*y[i]
	}
}

// mulAxpbyRowPortable is d = r·x·w + c·y.
func mulAxpbyRowPortable(d, x, w, y []float32, r, c float32) {
	x, w, y = x[:len(d)], w[:len(d)], y[:len(d)]
	for i := range d {
		d[i] = r*x[i]*w[i] + c*y[i]
	}
}
