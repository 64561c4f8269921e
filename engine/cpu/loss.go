package cpu

import (
	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// logitBytes bounds the logits held at a time; at least logitRows rows are.
const (
	logitBytes = 64 << 20
	logitRows  = 32
)

// logitChunk is the number of rows whose logits are held at a time. It depends on the vocabulary only, so that sums over
// rows are formed in the same order for any number of rows.
func logitChunk(vocab int) int {
	return max(logitRows, logitBytes/(4*max(vocab, 1))/logitRows*logitRows)
}

// logits computes scaled logits of a chunk of rows.
type logits struct {
	*product
	x, w    *value
	v, d    int
	z       func() []float32
	finish  func()
	from, m int
}

func (b *binder) logits(n *node, op graph.LinearLogProb, x, w *value, chunk int) *logits {
	l := &logits{x: x, w: w, v: w.typ.Shape[0], d: w.typ.Shape[1]}
	l.product = b.product(n, chunk, l.v, l.d, op.Compute)
	l.z = b.floats(n, chunk*l.v)
	scale := float32(op.Scale)
	if (scale != 0 && scale != 1) || op.Softcap != 0 {
		l.finish = b.parallel(chunk, func(_, i int) {
			if i >= l.m {
				return
			}
			row := l.z()[i*l.v : (i+1)*l.v]
			if scale != 0 && scale != 1 {
				kernel.BinaryScalar(kernel.OpMul, row, row, scale, false)
			}
			if op.Softcap != 0 {
				kernel.Softcap(row, row, float32(op.Softcap))
			}
		})
	}
	return l
}

func (l *logits) compute(from, m int) {
	l.from, l.m, l.M = from, m, m
	l.run(matrix(l.x, from*l.d, l.d, 1), matrix(l.w, 0, 1, l.d), kernel.Matrix{F32: l.z(), Row: l.v, Col: 1})
	if l.finish != nil {
		l.finish()
	}
}

// logitGrad carries the gradient of a chunk's logits, which stands in their place, to x and W.
type logitGrad struct {
	*logits
	gradX, gradW *product
	sumX         func() []float32
	turn         func()
	part         int
	dw           *value
}

// logitGrad prepares the results dx (x's type) and dW of a node.
func (b *binder) logitGrad(n *node, l *logits, compute dtype.DType, chunk int, x, w *value) *logitGrad {
	// The sum over the vocabulary goes in parts, whose packed panels take less memory than the whole head's.
	g := &logitGrad{logits: l, part: min(l.v, vocabPart), dw: n.out[1]}
	g.gradX = b.product(n, chunk, l.d, g.part, compute)
	g.sumX = b.floats(n, chunk*l.d)
	g.turn = b.chunks(chunk, logitRows, func(i, j int) {
		if j = min(j, l.m); i < j {
			put(n.out[0], (l.from+i)*l.d, g.sumX()[i*l.d:j*l.d])
		}
	})
	g.gradW = b.product(n, l.v, l.d, chunk, compute)
	return g
}

// add takes in the chunk that was computed last.
func (g *logitGrad) add() {
	z, v, d := g.z(), g.v, g.d
	g.gradX.M = g.m
	for at := 0; at < v; at += g.part {
		g.gradX.K, g.gradX.Accumulate = min(g.part, v-at), at > 0
		g.gradX.run(kernel.Matrix{F32: z[at:], Row: v, Col: 1}, matrix(g.w, at*d, d, 1), kernel.Matrix{F32: g.sumX(), Row: d, Col: 1})
	}
	g.turn()
	g.gradW.K, g.gradW.Accumulate = g.m, g.from > 0
	g.gradW.run(kernel.Matrix{F32: z, Row: 1, Col: v}, matrix(g.x, g.from*d, d, 1), matrix(g.dw, 0, d, 1))
}

// teacherAndStudent computes the logits of both sides of a LinearKL, chunk by chunk.
func (b *binder) teacherAndStudent(n *node, op graph.LinearKL, chunk int) (student, teacher *logits) {
	scaled := graph.LinearLogProb{Compute: op.Compute, Scale: 1 / op.Temperature}
	return b.logits(n, scaled, n.in[0], n.in[1], chunk), b.logits(n, scaled, n.in[2], n.in[3], chunk)
}

func (b *binder) linearKL(n *node, op graph.LinearKL) error {
	rows := n.in[0].typ.Shape[0]
	chunk := min(rows, logitChunk(n.in[1].typ.Shape[0]))
	if chunk == 0 {
		return nil
	}
	s, t := b.teacherAndStudent(n, op, chunk)
	compare := b.parallel(chunk, func(_, i int) {
		if i < s.m {
			of[float32](n.out[0])[s.from+i] = kernel.Divergence(s.z()[i*s.v:(i+1)*s.v], t.z()[i*t.v:(i+1)*t.v], float32(op.Beta))
		}
	})
	b.do(n, func() {
		for from := 0; from < rows; from += chunk {
			m := min(chunk, rows-from)
			s.compute(from, m)
			t.compute(from, m)
			compare()
		}
	})
	return nil
}

func (b *binder) linearKLGrad(n *node, op graph.LinearKLGrad) error {
	x, w := n.in[0], n.in[1]
	rows := x.typ.Shape[0]
	chunk := min(rows, logitChunk(w.typ.Shape[0]))
	if chunk == 0 {
		b.do(n, func() { clear(of[float32](n.out[1])) })
		return nil
	}
	s, t := b.teacherAndStudent(n, op.LinearKL, chunk)
	grad := b.logitGrad(n, s, op.Compute, chunk, x, w)
	derive := b.parallel(chunk, func(_, i int) {
		if i < s.m {
			d := of[float32](n.in[4])[s.from+i] / float32(op.Temperature)
			kernel.DivergenceGrad(s.z()[i*s.v:(i+1)*s.v], t.z()[i*t.v:(i+1)*t.v], float32(op.Beta), d)
		}
	})
	b.do(n, func() {
		for from := 0; from < rows; from += chunk {
			m := min(chunk, rows-from)
			s.compute(from, m)
			t.compute(from, m)
			derive()
			grad.add()
		}
	})
	return nil
}
