package cpu

import (
	"fmt"
	"math"
	"unsafe"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

var unaryOps = map[graph.UnaryKind]kernel.UnaryOp{
	graph.UnaryNeg: kernel.OpNeg, graph.UnaryExp: kernel.OpExp, graph.UnaryLog: kernel.OpLog, graph.UnaryTanh: kernel.OpTanh,
	graph.UnaryErf: kernel.OpErf, graph.UnarySqrt: kernel.OpSqrt, graph.UnaryRsqrt: kernel.OpRsqrt, graph.UnaryAbs: kernel.OpAbs,
	graph.UnarySign: kernel.OpSign, graph.UnaryFloor: kernel.OpFloor, graph.UnarySin: kernel.OpSin, graph.UnaryCos: kernel.OpCos,
	graph.UnarySigmoid: kernel.OpSigmoid,
}

func unsupported(d dtype.DType) error { return fmt.Errorf("element type %v is not supported", d) }

func (b *binder) unary(n *node, kind graph.UnaryKind) error {
	x, y := n.in[0], n.out[0]
	total := y.typ.Len()
	op, ok := unaryOps[kind]
	switch d := x.typ.DType; {
	case d == dtype.F32 && ok:
		b.do(n, b.chunks(total, taskElements, func(i, j int) { kernel.Unary(op, of[float32](y)[i:j], of[float32](x)[i:j]) }))
	case d == dtype.BF16 && ok:
		b.do(n, b.chunks(total, taskElements, func(i, j int) { kernel.Unary(op, of[uint16](y)[i:j], of[uint16](x)[i:j]) }))
	case d == dtype.F64 && ok:
		f := unary64[kind]
		b.do(n, b.chunks(total, taskElements, func(i, j int) {
			for k := i; k < j; k++ {
				of[float64](y)[k] = f(of[float64](x)[k])
			}
		}))
	case d == dtype.Bool && kind == graph.UnaryNot:
		b.do(n, b.chunks(total, taskElements, func(i, j int) {
			for k := i; k < j; k++ {
				of[uint8](y)[k] = 1 - of[uint8](x)[k]
			}
		}))
	case d == dtype.I32:
		return integerUnary[int32](b, n, kind)
	case d == dtype.I64:
		return integerUnary[int64](b, n, kind)
	default:
		return unsupported(d)
	}
	return nil
}

var unary64 = map[graph.UnaryKind]func(float64) float64{
	graph.UnaryNeg: func(x float64) float64 { return -x }, graph.UnaryExp: math.Exp, graph.UnaryLog: math.Log, graph.UnaryTanh: math.Tanh,
	graph.UnaryErf: math.Erf, graph.UnarySqrt: math.Sqrt, graph.UnaryRsqrt: func(x float64) float64 { return 1 / math.Sqrt(x) },
	graph.UnaryAbs: math.Abs, graph.UnaryFloor: math.Floor, graph.UnarySin: math.Sin, graph.UnaryCos: math.Cos,
	graph.UnarySigmoid: func(x float64) float64 { return 1 / (1 + math.Exp(-x)) },
	graph.UnarySign: func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return x
	},
}

func integerUnary[T int32 | int64](b *binder, n *node, kind graph.UnaryKind) error {
	var f func(T) T
	switch kind {
	case graph.UnaryNeg:
		f = func(x T) T { return -x }
	case graph.UnaryAbs:
		f = func(x T) T { return max(x, -x) }
	case graph.UnarySign:
		f = func(x T) T { return min(max(x, -1), 1) }
	default:
		return unsupported(n.in[0].typ.DType)
	}
	b.do(n, b.chunks(n.out[0].typ.Len(), taskElements, func(i, j int) {
		x, y := of[T](n.in[0]), of[T](n.out[0])
		for k := i; k < j; k++ {
			y[k] = f(x[k])
		}
	}))
	return nil
}

// operands is a walk over the result and operands of n.
func operands(n *node) *walk {
	shape := n.out[0].typ.Shape
	s := [][]int{strides(shape)}
	for _, v := range n.in {
		s = append(s, aligned(v.typ.Shape, shape))
	}
	return newWalk(shape, s...)
}

func (b *binder) binary(n *node, kind graph.BinaryKind) error {
	w := operands(n)
	switch d := n.in[0].typ.DType; {
	case kind.Compares():
		switch d {
		case dtype.F32:
			compareLoop[float32](b, n, w, kind)
		case dtype.F64:
			compareLoop[float64](b, n, w, kind)
		case dtype.I32:
			compareLoop[int32](b, n, w, kind)
		case dtype.I64:
			compareLoop[int64](b, n, w, kind)
		case dtype.U32:
			compareLoop[uint32](b, n, w, kind)
		case dtype.U8, dtype.Bool:
			compareLoop[uint8](b, n, w, kind)
		case dtype.BF16:
			f := comparison[float32](kind)
			b.do(n, b.parallel(w.tasks(), func(_, i int) {
				y, p, q := of[uint8](n.out[0]), of[uint16](n.in[0]), of[uint16](n.in[1])
				w.task(i, func(at [4]int, m int) {
					for k := range m {
						y[at[0]+k*w.step[0]] = bit(f(wide(p[at[1]+k*w.step[1]]), wide(q[at[2]+k*w.step[2]])))
					}
				})
			}))
		default:
			return unsupported(d)
		}
	case d == dtype.F32:
		floatBinary[float32](b, n, w, kernel.BinaryOp(kind))
	case d == dtype.BF16:
		floatBinary[uint16](b, n, w, kernel.BinaryOp(kind))
	case d == dtype.F64:
		f, err := real64(kind)
		if err != nil {
			return err
		}
		b.do(n, b.parallel(w.tasks(), func(_, i int) {
			y, p, q := of[float64](n.out[0]), of[float64](n.in[0]), of[float64](n.in[1])
			w.task(i, func(at [4]int, m int) {
				for k := range m {
					y[at[0]+k*w.step[0]] = f(p[at[1]+k*w.step[1]], q[at[2]+k*w.step[2]])
				}
			})
		}))
	case d == dtype.I32:
		return integerBinary[int32](b, n, w, kind)
	case d == dtype.I64:
		return integerBinary[int64](b, n, w, kind)
	case d == dtype.U32:
		return integerBinary[uint32](b, n, w, kind)
	default:
		return unsupported(d)
	}
	return nil
}

func wide(x uint16) float32 { return math.Float32frombits(uint32(x) << 16) }

func real64(kind graph.BinaryKind) (func(a, b float64) float64, error) {
	switch kind {
	case graph.BinaryAdd:
		return func(a, b float64) float64 { return a + b }, nil
	case graph.BinarySub:
		return func(a, b float64) float64 { return a - b }, nil
	case graph.BinaryMul:
		return func(a, b float64) float64 { return a * b }, nil
	case graph.BinaryDiv:
		return func(a, b float64) float64 { return a / b }, nil
	case graph.BinaryMax:
		return math.Max, nil
	case graph.BinaryMin:
		return math.Min, nil
	case graph.BinaryPow:
		return math.Pow, nil
	case graph.BinaryRem:
		return math.Mod, nil
	}
	return nil, fmt.Errorf("%v of real numbers", kind)
}

func comparison[T numeric](kind graph.BinaryKind) func(a, b T) bool {
	switch kind {
	case graph.BinaryEqual:
		return func(a, b T) bool { return a == b }
	case graph.BinaryNotEqual:
		return func(a, b T) bool { return a != b }
	case graph.BinaryLess:
		return func(a, b T) bool { return a < b }
	case graph.BinaryLessEqual:
		return func(a, b T) bool { return a <= b }
	case graph.BinaryGreater:
		return func(a, b T) bool { return a > b }
	case graph.BinaryGreaterEqual:
		return func(a, b T) bool { return a >= b }
	case graph.BinaryAnd:
		return func(a, b T) bool { return a != 0 && b != 0 }
	default:
		return func(a, b T) bool { return a != 0 || b != 0 }
	}
}

func compareLoop[T numeric](b *binder, n *node, w *walk, kind graph.BinaryKind) {
	f := comparison[T](kind)
	b.do(n, b.parallel(w.tasks(), func(_, i int) {
		y, p, q := of[uint8](n.out[0]), of[T](n.in[0]), of[T](n.in[1])
		w.task(i, func(at [4]int, m int) {
			for k := range m {
				y[at[0]+k*w.step[0]] = bit(f(p[at[1]+k*w.step[1]], q[at[2]+k*w.step[2]]))
			}
		})
	}))
}

// floatBinary runs the vector kernels where operands are contiguous or a single number along the inner axis, which
// joined axes always are.
func floatBinary[T kernel.Elem](b *binder, n *node, w *walk, op kernel.BinaryOp) {
	b.do(n, b.parallel(w.tasks(), func(_, i int) {
		y, p, q := of[T](n.out[0]), of[T](n.in[0]), of[T](n.in[1])
		w.task(i, func(at [4]int, m int) {
			d := y[at[0] : at[0]+m]
			switch {
			case w.step[1] == 1 && w.step[2] == 1:
				kernel.Binary(op, d, p[at[1]:at[1]+m], q[at[2]:at[2]+m])
			case w.step[1] == 1:
				kernel.BinaryScalar(op, d, p[at[1]:at[1]+m], single(q[at[2]]), false)
			case w.step[2] == 1:
				kernel.BinaryScalar(op, d, q[at[2]:at[2]+m], single(p[at[1]]), true)
			default:
				// Both are one number: the result's axis is repeated from both.
				var one [1]T
				kernel.Binary(op, one[:], p[at[1]:at[1]+1], q[at[2]:at[2]+1])
				kernel.Fill(d, one[0])
			}
		})
	}))
}

func single[T kernel.Elem](x T) float32 {
	if unsafe.Sizeof(x) == 2 {
		return wide(*(*uint16)(unsafe.Pointer(&x)))
	}
	return *(*float32)(unsafe.Pointer(&x))
}

// divisionFault is an integer division by zero.
type divisionFault struct{}

func (divisionFault) Error() string { return "division of an integer by zero" }

func integerBinary[T int32 | int64 | uint32](b *binder, n *node, w *walk, kind graph.BinaryKind) error {
	var f func(a, b T) T
	switch kind {
	case graph.BinaryAdd:
		f = func(a, b T) T { return a + b }
	case graph.BinarySub:
		f = func(a, b T) T { return a - b }
	case graph.BinaryMul:
		f = func(a, b T) T { return a * b }
	case graph.BinaryDiv:
		f = func(a, b T) T { return a / b }
	case graph.BinaryRem:
		f = func(a, b T) T { return a % b }
	case graph.BinaryMax:
		f = func(a, b T) T { return max(a, b) }
	case graph.BinaryMin:
		f = func(a, b T) T { return min(a, b) }
	default:
		return fmt.Errorf("%v of integers is not supported", kind)
	}
	divides := kind == graph.BinaryDiv || kind == graph.BinaryRem
	b.try(n, b.checked(w.tasks(), func(i int) (err error) {
		y, p, q := of[T](n.out[0]), of[T](n.in[0]), of[T](n.in[1])
		w.task(i, func(at [4]int, m int) {
			for k := range m {
				v := q[at[2]+k*w.step[2]]
				if divides && v == 0 {
					err = divisionFault{}
					continue
				}
				y[at[0]+k*w.step[0]] = f(p[at[1]+k*w.step[1]], v)
			}
		})
		return err
	}))
	return nil
}

// sized runs f with an unsigned type of the element's size, for operations that only move elements.
func sized(d dtype.DType, f1, f2, f4, f8 func()) error {
	if d.IsQuantized() {
		return unsupported(d)
	}
	switch d.BlockBytes() {
	case 1:
		f1()
	case 2:
		f2()
	case 4:
		f4()
	case 8:
		f8()
	default:
		return unsupported(d)
	}
	return nil
}

func (b *binder) selecting(n *node) error {
	w := operands(n)
	return sized(n.out[0].typ.DType, func() { selectLoop[uint8](b, n, w) }, func() { selectLoop[uint16](b, n, w) },
		func() { selectLoop[uint32](b, n, w) }, func() { selectLoop[uint64](b, n, w) })
}

func selectLoop[T any](b *binder, n *node, w *walk) {
	b.do(n, b.parallel(w.tasks(), func(_, i int) {
		y, c, p, q := of[T](n.out[0]), of[uint8](n.in[0]), of[T](n.in[1]), of[T](n.in[2])
		w.task(i, func(at [4]int, m int) {
			for k := range m {
				if c[at[1]+k*w.step[1]] != 0 {
					y[at[0]+k*w.step[0]] = p[at[2]+k*w.step[2]]
				} else {
					y[at[0]+k*w.step[0]] = q[at[3]+k*w.step[3]]
				}
			}
		})
	}))
}

// strided copies an operand's elements to the result in the order that the strides give.
func (b *binder) strided(n *node, from []int) error {
	shape := n.out[0].typ.Shape
	w := newWalk(shape, strides(shape), from)
	return sized(n.out[0].typ.DType, func() { stridedLoop[uint8](b, n, w) }, func() { stridedLoop[uint16](b, n, w) },
		func() { stridedLoop[uint32](b, n, w) }, func() { stridedLoop[uint64](b, n, w) })
}

func stridedLoop[T any](b *binder, n *node, w *walk) {
	b.do(n, b.parallel(w.tasks(), func(_, i int) {
		y, x := of[T](n.out[0]), of[T](n.in[0])
		w.task(i, func(at [4]int, m int) {
			switch s := w.step[1]; s {
			case 1:
				copy(y[at[0]:at[0]+m], x[at[1]:])
			case 0:
				kernel.Fill(y[at[0]:at[0]+m], x[at[1]])
			default:
				for k := range m {
					y[at[0]+k*w.step[0]] = x[at[1]+k*s]
				}
			}
		})
	}))
}

func (b *binder) cast(n *node, to dtype.DType) error {
	x, y := n.in[0], n.out[0]
	from := x.typ.DType
	if x.packed {
		return b.unpacked(n)
	}
	if !castable(from) || !castable(to) {
		return fmt.Errorf("from %v to %v is not supported", from, to)
	}
	b.do(n, b.chunks(y.typ.Len(), taskElements, func(i, j int) {
		castRow(to, unsafe.Add(y.ptr(), to.Bytes(i)), from, unsafe.Add(x.ptr(), from.Bytes(i)), j-i)
	}))
	return nil
}

func (b *binder) random(n *node, op graph.Random) error {
	y, key := n.out[0], n.in[0]
	b.do(n, b.chunks(y.typ.Len(), taskElements, func(i, j int) {
		k := of[uint32](key)
		p := kernel.Philox{Seed: k[0], Step: k[1], Stream: op.Stream}
		switch op.Kind {
		case graph.RandomUniform:
			p.Uniform(of[float32](y)[i:j], uint64(i))
		case graph.RandomNormal:
			p.Normal(of[float32](y)[i:j], uint64(i))
		default:
			p.Bits(of[uint32](y)[i:j], uint64(i))
		}
	}))
	return nil
}
