package kernel

import "math"

// UnaryOp names a function of one number.
type UnaryOp uint8

// The functions of one number. Those from OpSiLU on are activation functions.
const (
	OpNeg UnaryOp = iota
	OpExp
	OpLog
	OpTanh
	OpErf
	OpSqrt
	OpRsqrt
	OpAbs
	OpSign
	OpFloor
	OpSin
	OpCos
	OpSigmoid
	OpSquare
	OpSiLU      // x·sigmoid(x)
	OpGELU      // with erf
	OpGELUTanh  // with the tanh approximation
	OpReLU      // max(x, 0)
	OpQuickGELU // x·sigmoid(1.702x)
)

// Unary applies op to each element: dst and x have one length and may be the same slice when of one type.
func Unary[Y, X Elem](op UnaryOp, dst []Y, x []X) {
	var in, out block
	for i := 0; i < len(dst); {
		j := next(i, len(dst))
		d := room(&out, dst[i:j])
		unaryRow(op, d, load(&in, x[i:j]))
		store(dst[i:j], d)
		i = j
	}
}

func unaryRow(op UnaryOp, d, x []float32) {
	switch op {
	case OpNeg:
		negRow(d, x)
	case OpExp:
		expRow(d, x)
	case OpLog:
		logRow(d, x)
	case OpTanh:
		tanhRow(d, x)
	case OpErf:
		erfRow(d, x)
	case OpSqrt:
		sqrtRow(d, x)
	case OpRsqrt:
		rsqrtRow(d, x)
	case OpAbs:
		absRow(d, x)
	case OpSign:
		mapRow(d, x, sign32)
	case OpFloor:
		mapRow(d, x, floor32)
	case OpSin:
		mapRow(d, x, sin32)
	case OpCos:
		mapRow(d, x, cos32)
	case OpSigmoid:
		sigmoidRow(d, x)
	case OpSquare:
		mulRow(d, x, x)
	case OpSiLU:
		siluRow(d, x)
	case OpGELU:
		geluRow(d, x)
	case OpGELUTanh:
		geluTanhRow(d, x)
	case OpReLU:
		mapRow(d, x, relu32)
	case OpQuickGELU:
		quickGeluRow(d, x)
	default:
		panic("kernel: unknown function of one number")
	}
}

func mapRow(d, x []float32, f func(float32) float32) {
	x = x[:len(d)]
	for i := range d {
		d[i] = f(x[i])
	}
}

func negRowPortable(d, x []float32)       { mapRow(d, x, neg32) }
func expRowPortable(d, x []float32)       { mapRow(d, x, exp32) }
func logRowPortable(d, x []float32)       { mapRow(d, x, log32) }
func tanhRowPortable(d, x []float32)      { mapRow(d, x, tanh32) }
func erfRowPortable(d, x []float32)       { mapRow(d, x, erf32) }
func sqrtRowPortable(d, x []float32)      { mapRow(d, x, sqrt32) }
func rsqrtRowPortable(d, x []float32)     { mapRow(d, x, rsqrt32) }
func absRowPortable(d, x []float32)       { mapRow(d, x, abs32) }
func sigmoidRowPortable(d, x []float32)   { mapRow(d, x, sigmoid32) }
func siluRowPortable(d, x []float32)      { mapRow(d, x, silu32) }
func geluRowPortable(d, x []float32)      { mapRow(d, x, gelu32) }
func geluTanhRowPortable(d, x []float32)  { mapRow(d, x, geluTanh32) }
func quickGeluRowPortable(d, x []float32) { mapRow(d, x, quickGelu32) }

// BinaryOp names a function of two numbers.
type BinaryOp uint8

// The functions of two numbers. Max and Min give NaN when either operand is NaN.
const (
	OpAdd BinaryOp = iota
	OpSub
	OpMul
	OpDiv
	OpMax
	OpMin
	OpPow
	OpRem // sign of the dividend
)

// Binary applies op to pairs of elements; dst may be a or b when of one type.
func Binary[Y, A, B Elem](op BinaryOp, dst []Y, a []A, b []B) {
	var ba, bb, out block
	for i := 0; i < len(dst); {
		j := next(i, len(dst))
		d := room(&out, dst[i:j])
		binaryRow(op, d, load(&ba, a[i:j]), load(&bb, b[i:j]))
		store(dst[i:j], d)
		i = j
	}
}

// BinaryScalar applies op to each element of a and the number b, or, when reversed, to b and each element of a.
func BinaryScalar[Y, A Elem](op BinaryOp, dst []Y, a []A, b float32, reversed bool) {
	var ba, bb, out block
	simple := op == OpMul || op == OpAdd || op == OpSub && !reversed
	if !simple {
		Fill(bb[:min(blockLen, len(dst))], b)
	}
	for i := 0; i < len(dst); {
		j := next(i, len(dst))
		d := room(&out, dst[i:j])
		x := load(&ba, a[i:j])
		switch {
		case op == OpMul:
			scaleRow(d, x, b)
		case op == OpAdd:
			addScalarRow(d, x, b)
		case simple:
			addScalarRow(d, x, -b)
		case reversed:
			binaryRow(op, d, bb[:j-i], x)
		default:
			binaryRow(op, d, x, bb[:j-i])
		}
		store(dst[i:j], d)
		i = j
	}
}

func binaryRow(op BinaryOp, d, a, b []float32) {
	switch op {
	case OpAdd:
		addRow(d, a, b)
	case OpSub:
		subRow(d, a, b)
	case OpMul:
		mulRow(d, a, b)
	case OpDiv:
		divRow(d, a, b)
	case OpMax:
		maxRow(d, a, b)
	case OpMin:
		minRow(d, a, b)
	case OpPow:
		for i := range d {
			d[i] = float32(math.Pow(float64(a[i]), float64(b[i])))
		}
	case OpRem:
		for i := range d {
			d[i] = float32(math.Mod(float64(a[i]), float64(b[i])))
		}
	default:
		panic("kernel: unknown function of two numbers")
	}
}

func addRowPortable(d, a, b []float32) {
	a, b = a[:len(d)], b[:len(d)]
	for i := range d {
		d[i] = a[i] + b[i]
	}
}

func subRowPortable(d, a, b []float32) {
	a, b = a[:len(d)], b[:len(d)]
	for i := range d {
		d[i] = a[i] - b[i]
	}
}

func mulRowPortable(d, a, b []float32) {
	a, b = a[:len(d)], b[:len(d)]
	for i := range d {
		d[i] = a[i] * b[i]
	}
}

func divRowPortable(d, a, b []float32) {
	a, b = a[:len(d)], b[:len(d)]
	for i := range d {
		d[i] = a[i] / b[i]
	}
}

func maxRowPortable(d, a, b []float32) {
	a, b = a[:len(d)], b[:len(d)]
	for i := range d {
		d[i] = max(a[i], b[i])
	}
}

func minRowPortable(d, a, b []float32) {
	a, b = a[:len(d)], b[:len(d)]
	for i := range d {
		d[i] = min(a[i], b[i])
	}
}

func scaleRowPortable(d, x []float32, c float32) {
	x = x[:len(d)]
	for i := range d {
		d[i] = x[i] * c
	}
}

func addScalarRowPortable(d, x []float32, c float32) {
	x = x[:len(d)]
	for i := range d {
		d[i] = x[i] + c
	}
}

func axpyRowPortable(y, x []float32, a float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += a * x[i]
	}
}

// Axpy adds a·x to y.
func Axpy[X Elem](y []float32, x []X, a float32) {
	var bx block
	for i := 0; i < len(y); {
		j := next(i, len(y))
		axpyRow(y[i:j], load(&bx, x[i:j]), a)
		i = j
	}
}

// CompareOp names a comparison. A comparison with NaN is false, except CmpNotEqual.
type CompareOp uint8

// The comparisons.
const (
	CmpEqual CompareOp = iota
	CmpNotEqual
	CmpLess
	CmpLessEqual
	CmpGreater
	CmpGreaterEqual
)

// Compare writes 1 where the comparison holds and 0 elsewhere. It takes any numeric storage of numbers: float32 and
// integers; bfloat16 must be widened before.
func Compare[T float32 | float64 | int32 | int64 | uint8 | uint32](op CompareOp, dst []byte, a, b []T) {
	a, b = a[:len(dst)], b[:len(dst)]
	switch op {
	case CmpEqual:
		for i := range dst {
			dst[i] = bit(a[i] == b[i])
		}
	case CmpNotEqual:
		for i := range dst {
			dst[i] = bit(a[i] != b[i])
		}
	case CmpLess:
		for i := range dst {
			dst[i] = bit(a[i] < b[i])
		}
	case CmpLessEqual:
		for i := range dst {
			dst[i] = bit(a[i] <= b[i])
		}
	case CmpGreater:
		for i := range dst {
			dst[i] = bit(a[i] > b[i])
		}
	case CmpGreaterEqual:
		for i := range dst {
			dst[i] = bit(a[i] >= b[i])
		}
	default:
		panic("kernel: unknown comparison")
	}
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Select writes a where cond is not 0 and b elsewhere.
func Select[T any](dst []T, cond []byte, a, b []T) {
	cond, a, b = cond[:len(dst)], a[:len(dst)], b[:len(dst)]
	for i := range dst {
		if cond[i] != 0 {
			dst[i] = a[i]
		} else {
			dst[i] = b[i]
		}
	}
}

// Clamp limits x to [lo, hi]; NaN stays NaN.
func Clamp(dst, x []float32, lo, hi float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = min(max(x[i], lo), hi)
	}
}
