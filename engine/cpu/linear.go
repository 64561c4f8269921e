package cpu

import (
	"fmt"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
	"danlu/tensor"
)

// matrix views a value from an element on.
func matrix(v *value, at, row, col int) kernel.Matrix {
	if v.typ.DType == dtype.BF16 {
		return kernel.Matrix{BF16: of[uint16](v)[at:], Row: row, Col: col}
	}
	return kernel.Matrix{F32: of[float32](v)[at:], Row: row, Col: col}
}

// product is a matrix product on the engine's threads with scratch of its own; the sizes may be changed, downwards,
// between runs.
type product struct {
	kernel.MatMul
	scratch func() []float32
	b       *binder
}

func (b *binder) product(n *node, m, cols, k int, compute dtype.DType) *product {
	round := compute == dtype.BF16
	p := &product{b: b, scratch: b.floats(n, kernel.ScratchMatMul(m, cols, k, b.engine.pool.Workers(), round))}
	p.M, p.N, p.K, p.Round = m, cols, k, round
	return p
}

func (p *product) run(a, b, c kernel.Matrix) {
	if p.M > 0 && p.N > 0 {
		p.Run(p.b.engine.pool, a, b, c, p.scratch())
	}
}

// leading is the number of rows of x as a matrix.
func leading(t graph.Type) int { return tensor.Len(t.Shape[:t.Rank()-1]) }

func (b *binder) linear(n *node, op graph.Linear) error {
	if n.in[1].packed {
		return b.packedLinear(n, op)
	}
	x, w, y := n.in[0], n.in[1], n.out[0]
	in, out := x.typ.Last(), w.typ.Shape[0]
	var bias *value
	if len(n.in) > 2 {
		bias = n.in[2]
	}
	p := b.product(n, leading(x.typ), out, in, op.Compute)
	b.do(n, func() {
		if bias != nil {
			p.Bias = of[float32](bias)
		}
		p.run(matrix(x, 0, in, 1), matrix(w, 0, 1, in), matrix(y, 0, out, 1))
	})
	return nil
}

func (b *binder) linearGradX(n *node, op graph.LinearGradX) error {
	if n.in[1].packed {
		return b.packedGradX(n, op.Compute)
	}
	dy, w, dx := n.in[0], n.in[1], n.out[0]
	out, in := w.typ.Shape[0], w.typ.Shape[1]
	p := b.product(n, leading(dy.typ), in, out, op.Compute)
	b.do(n, func() { p.run(matrix(dy, 0, out, 1), matrix(w, 0, in, 1), matrix(dx, 0, in, 1)) })
	return nil
}

func (b *binder) linearGradW(n *node, op graph.LinearGradW) error {
	dy, x, dw := n.in[0], n.in[1], n.out[0]
	out, in := dy.typ.Last(), x.typ.Last()
	p := b.product(n, out, in, leading(dy.typ), op.Compute)
	b.do(n, func() { p.run(matrix(dy, 0, 1, out), matrix(x, 0, in, 1), matrix(dw, 0, in, 1)) })
	return nil
}

// matMul multiplies each pair of matrices of the broadcast leading axes.
func (b *binder) matMul(n *node, op graph.MatMul) error {
	x, w, y := n.in[0], n.in[1], n.out[0]
	if !elem(x.typ.DType) || !elem(w.typ.DType) || !elem(y.typ.DType) {
		return fmt.Errorf("%v times %v is not supported", x.typ, w.typ)
	}
	xs, ws, ys := x.typ.Shape, w.typ.Shape, y.typ.Shape
	r := len(ys) - 2
	m, cols := ys[r], ys[r+1]
	k := xs[len(xs)-1]
	aRow, aCol := k, 1
	if op.TransA {
		k = xs[len(xs)-2]
		aRow, aCol = 1, m
	}
	bRow, bCol := cols, 1
	if op.TransB {
		bRow, bCol = 1, k
	}
	batch := ys[:r]
	walk := newWalk(batch, strides(batch), aligned(xs[:len(xs)-2], batch), aligned(ws[:len(ws)-2], batch))
	walk.size, walk.cut = walk.outer, walk.inner // one task
	p := b.product(n, m, cols, k, dtype.F32)
	b.do(n, func() {
		if walk.tasks() == 0 {
			return
		}
		walk.task(0, func(at [4]int, count int) {
			for i := range count {
				p.run(matrix(x, (at[1]+i*walk.step[1])*m*k, aRow, aCol), matrix(w, (at[2]+i*walk.step[2])*k*cols, bRow, bCol),
					matrix(y, (at[0]+i*walk.step[0])*m*cols, cols, 1))
			}
		})
	})
	return nil
}

// groups calls f for each group of rows that is not empty.
func groups(offsets []int32, rows int, f func(e, from, to int)) error {
	for e := 0; e+1 < len(offsets); e++ {
		from, to := int(offsets[e]), int(offsets[e+1])
		if from < 0 || to < from || to > rows {
			return fmt.Errorf("group %d: rows %d to %d are not within %d", e, from, to, rows)
		}
		if to > from {
			f(e, from, to)
		}
	}
	return nil
}

// grouped is x·Wᵀ, or dy·W, for each group of rows with the group's own W.
func (b *binder) grouped(n *node, compute dtype.DType, back bool) error {
	if n.in[1].packed {
		return b.packedGroups(n, compute, back)
	}
	x, w, off, y := n.in[0], n.in[1], n.in[2], n.out[0]
	rows, k, cols := x.typ.Shape[0], x.typ.Shape[1], y.typ.Shape[1]
	p := b.product(n, rows, cols, k, compute)
	row, col := 1, k
	if back {
		row, col = cols, 1
	}
	size := bytesIn(y.typ)
	b.try(n, func() error {
		o := of[int32](off)
		if int(o[len(o)-1]) < rows {
			clear(view[byte](y.ptr(), size)) // rows of no group
		}
		return groups(o, rows, func(e, from, to int) {
			p.M = to - from
			p.run(matrix(x, from*k, k, 1), matrix(w, e*k*cols, row, col), matrix(y, from*cols, cols, 1))
		})
	})
	return nil
}

func (b *binder) groupedGradW(n *node, compute dtype.DType) error {
	dy, x, off, dw := n.in[0], n.in[1], n.in[2], n.out[0]
	rows, out, in := dy.typ.Shape[0], dy.typ.Shape[1], x.typ.Shape[1]
	p := b.product(n, out, in, rows, compute)
	clearing := b.chunks(dw.typ.Len(), copyChunk, func(i, j int) { clear(of[float32](dw)[i:j]) })
	b.try(n, func() error {
		clearing()
		return groups(of[int32](off), rows, func(e, from, to int) {
			p.K = to - from
			p.run(matrix(dy, from*out, 1, out), matrix(x, from*in, in, 1), matrix(dw, e*out*in, in, 1))
		})
	})
	return nil
}

// groupRows sorts choices by expert by counting.
func (b *binder) groupRows(n *node, op graph.GroupRows) error {
	ids, order, off := n.in[0], n.out[0], n.out[1]
	next := make([]int32, op.Experts)
	b.try(n, func() error {
		choices, offsets, rows := of[int32](ids), of[int32](off), of[int32](order)
		clear(offsets)
		for _, e := range choices {
			if e < 0 || int(e) >= op.Experts {
				return indexFault(e, op.Experts)
			}
			offsets[e+1]++
		}
		for e := range op.Experts {
			next[e] = offsets[e]
			offsets[e+1] += offsets[e]
		}
		for i, e := range choices {
			rows[next[e]] = int32(i)
			next[e]++
		}
		return nil
	})
	return nil
}

// cutRows are ranges of rows of about equal work for one task each.
func cutRows(rows, width int) int { return max(1, min(rows, taskElements/max(width, 1))) }
