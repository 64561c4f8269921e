package kernel

import "math"

// Reductions over one row. The order of summation depends on the row's length only.

// Sum adds up a row.
func Sum[X Elem](x []X) float32 {
	var b block
	var s float32
	for i := 0; i < len(x); {
		j := next(i, len(x))
		s += sumRow(load(&b, x[i:j]))
		i = j
	}
	return s
}

// Max is the largest element of a row, NaN when there is a NaN, -Inf for an empty row.
func Max[X Elem](x []X) float32 {
	var b block
	m := float32(math.Inf(-1))
	for i := 0; i < len(x); {
		j := next(i, len(x))
		m = max(m, maxOfRow(load(&b, x[i:j])))
		i = j
	}
	return m
}

// ArgMax is the index of the first largest element, or of the first NaN; -1 for an empty row.
func ArgMax[X Elem](x []X) int {
	if len(x) == 0 {
		return -1
	}
	m := Max(x)
	var b block
	for i := 0; i < len(x); {
		j := next(i, len(x))
		for k, v := range load(&b, x[i:j]) {
			if v == m || v != v {
				return i + k
			}
		}
		i = j
	}
	return -1
}

// Dot is the sum of products of two rows.
func Dot[A, B Elem](a []A, b []B) float32 {
	if !isF32[A]() && isF32[B]() {
		return dotBF16Row(asBF16(a), asF32(b))
	}
	if isF32[A]() && isF32[B]() {
		return dotRow(asF32(a), asF32(b))
	}
	var ba, bb block
	var s float32
	for i := 0; i < len(a); {
		j := next(i, len(a))
		s += dotRow(load(&ba, a[i:j]), load(&bb, b[i:j]))
		i = j
	}
	return s
}

// DotF16 is the sum of products of a half-precision row and a float32 row.
func DotF16(a []uint16, b []float32) float32 { return dotF16Row(a, b) }

// LogSumExp is log(sum(exp(x))) of a row; -Inf for an empty one.
func LogSumExp(x []float32) float32 {
	m := Max(x)
	if math.IsInf(float64(m), 0) {
		return m
	}
	return m + log32(expSumRow(x, m))
}

// SumSquaresChunk is the number of elements whose squares SumSquares adds up in one go. To spread a long slice over
// threads, call SumSquares on ranges that start at multiples of it and add the results in order.
const SumSquaresChunk = 1 << 16

// SumSquares is the sum of squares: float32 inside blocks, float64 between them.
func SumSquares[X Elem](x []X) float64 {
	var b block
	var s float64
	for i := 0; i < len(x); {
		j := next(i, len(x))
		s += float64(sumSqRow(load(&b, x[i:j])))
		i = j
	}
	return s
}

// HasNonFinite reports whether a row holds NaN or an infinity.
func HasNonFinite[X Elem](x []X) bool {
	var b block
	for i := 0; i < len(x); {
		j := next(i, len(x))
		if nonFiniteRow(load(&b, x[i:j])) != 0 {
			return true
		}
		i = j
	}
	return false
}

func sumRowPortable(x []float32) float32 {
	var s [8]float32
	for ; len(x) >= 8; x = x[8:] {
		for i := range s {
			s[i] += x[i]
		}
	}
	for i, v := range x {
		s[i] += v
	}
	return fold(&s)
}

// fold adds lanes in halves.
func fold(s *[8]float32) float32 {
	return (s[0] + s[4] + (s[2] + s[6])) + (s[1] + s[5] + (s[3] + s[7]))
}

func maxOfRowPortable(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		m = max(m, v)
	}
	return m
}

func sumSqRowPortable(x []float32) float32 { return dotRowPortable(x, x) }

func dotRowPortable(a, b []float32) float32 {
	var s [8]float32
	b = b[:len(a)]
	for ; len(a) >= 8; a, b = a[8:], b[8:] {
		for i := range s {
			s[i] += a[i] * b[i]
		}
	}
	for i, v := range a {
		s[i] += v * b[i]
	}
	return fold(&s)
}

func dot3RowPortable(a, b, c []float32) float32 {
	var s [8]float32
	b, c = b[:len(a)], c[:len(a)]
	for ; len(a) >= 8; a, b, c = a[8:], b[8:], c[8:] {
		for i := range s {
			s[i] += a[i] * b[i] * c[i]
		}
	}
	for i, v := range a {
		s[i] += v * b[i] * c[i]
	}
	return fold(&s)
}

func dotBF16RowPortable(a []uint16, b []float32) float32 {
	var s [8]float32
	b = b[:len(a)]
	for i, v := range a {
		s[i&7] += math.Float32frombits(uint32(v)<<16) * b[i]
	}
	return fold(&s)
}

func dotF16RowPortable(a []uint16, b []float32) float32 {
	var s [8]float32
	b = b[:len(a)]
	for i, v := range a {
		s[i&7] += HalfToF32(v) * b[i]
	}
	return fold(&s)
}

func expSumRowPortable(x []float32, m float32) float32 {
	var s float64
	for _, v := range x {
		s += exp64(float64(v) - float64(m))
	}
	return float32(s)
}

func expSubRowPortable(d, x []float32, m float32) float32 {
	var s float64
	x = x[:len(d)]
	for i := range d {
		e := exp64(float64(x[i]) - float64(m))
		d[i] = float32(e)
		s += e
	}
	return float32(s)
}

// expMomentRowPortable is the sum of exp(x-m)(x-m); a masked element, -Inf, adds 0.
func expMomentRowPortable(x []float32, m float32) float32 {
	var s float64
	for _, v := range x {
		t := max(float64(v)-float64(m), -1e30)
		s += exp64(t) * t
	}
	return float32(s)
}

func nonFiniteRowPortable(x []float32) int {
	for _, v := range x {
		if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
			return 1
		}
	}
	return 0
}
