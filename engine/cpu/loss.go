package cpu

import (
	"danlu/graph"
	"danlu/kernel"
)

// logitBytes bounds the logits held at a time; at least logitRows rows are.
const (
	logitBytes = 64 << 20
	logitRows  = 32
	// vocabPart is the number of logits whose contributions to dx are summed at a time.
	vocabPart = 4096
)

// logitChunk is the number of rows whose logits are held at a time. It depends on the vocabulary only, so that sums over
// rows are formed in the same order for any number of rows.
func logitChunk(vocab int) int {
	return max(logitRows, logitBytes/(4*max(vocab, 1))/logitRows*logitRows)
}

// logits computes scaled and capped logits of a chunk of rows.
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

func (b *binder) logProb(n *node, op graph.LinearLogProb) error {
	x, w, targets := n.in[0], n.in[1], n.in[2]
	rows := x.typ.Shape[0]
	chunk := min(rows, logitChunk(w.typ.Shape[0]))
	if chunk == 0 {
		return nil
	}
	l := b.logits(n, op, x, w, chunk)
	score := b.checked(chunk, func(i int) error {
		if i >= l.m {
			return nil
		}
		r := l.from + i
		target := of[int32](targets)[r]
		if int(target) >= l.v {
			return indexFault(target, l.v)
		}
		logp, lse, entropy := kernel.LogProb(l.z()[i*l.v:(i+1)*l.v], int(target), op.Entropy)
		of[float32](n.out[0])[r], of[float32](n.out[1])[r] = logp, lse
		if op.Entropy {
			of[float32](n.out[2])[r] = entropy
		}
		return nil
	})
	b.try(n, func() error {
		for from := 0; from < rows; from += chunk {
			l.compute(from, min(chunk, rows-from))
			if err := score(); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}

func (b *binder) logProbGrad(n *node, op graph.LinearLogProbGrad) error {
	x, w, targets, lse := n.in[graph.LogProbX], n.in[graph.LogProbW], n.in[graph.LogProbTargets], n.in[graph.LogProbLSE]
	dx, dw := n.out[0], n.out[1]
	rows := x.typ.Shape[0]
	chunk := min(rows, logitChunk(w.typ.Shape[0]))
	if chunk == 0 {
		b.do(n, func() { clear(of[float32](dw)) })
		return nil
	}
	l := b.logits(n, op.LinearLogProb, x, w, chunk)
	// The sum over the vocabulary goes in parts, whose packed panels take less memory than the whole head's.
	part := min(l.v, vocabPart)
	gradX := b.product(n, chunk, l.d, part, op.Compute)
	sumX := b.floats(n, chunk*l.d)
	turn := b.chunks(chunk, logitRows, func(i, j int) {
		if j = min(j, l.m); i < j {
			put(dx, (l.from+i)*l.d, sumX()[i*l.d:j*l.d])
		}
	})
	gradW := b.product(n, l.v, l.d, chunk, op.Compute)
	at := func(i, r int) float32 {
		if v := n.in[i]; v != nil {
			return of[float32](v)[r]
		}
		return 0
	}
	derive := b.checked(chunk, func(i int) error {
		if i >= l.m {
			return nil
		}
		r := l.from + i
		target := of[int32](targets)[r]
		if int(target) >= l.v {
			return indexFault(target, l.v)
		}
		z := l.z()[i*l.v : (i+1)*l.v]
		dlogp := at(graph.LogProbD, r)
		if target < 0 {
			dlogp = 0
		}
		var entropy, dentropy float32
		if n.in[graph.LogProbDEntropy] != nil {
			dentropy, entropy = at(graph.LogProbDEntropy, r), at(graph.LogProbEntropy, r)
		}
		kernel.LogProbGrad(z, z, int(target), of[float32](lse)[r], dlogp, at(graph.LogProbDLSE, r), dentropy, entropy, float32(op.Softcap))
		if op.Scale != 0 && op.Scale != 1 {
			kernel.BinaryScalar(kernel.OpMul, z, z, float32(op.Scale), false)
		}
		return nil
	})
	b.try(n, func() error {
		for from := 0; from < rows; from += chunk {
			m := min(chunk, rows-from)
			l.compute(from, m)
			if err := derive(); err != nil {
				return err
			}
			z := l.z()
			gradX.M = m
			for v := 0; v < l.v; v += part {
				gradX.K, gradX.Accumulate = min(part, l.v-v), v > 0
				gradX.run(kernel.Matrix{F32: z[v:], Row: l.v, Col: 1}, matrix(w, v*l.d, l.d, 1), kernel.Matrix{F32: sumX(), Row: l.d, Col: 1})
			}
			turn()
			gradW.K, gradW.Accumulate = m, from > 0
			gradW.run(kernel.Matrix{F32: z, Row: 1, Col: l.v}, matrix(x, from*l.d, l.d, 1), matrix(dw, 0, l.d, 1))
		}
		return nil
	})
	return nil
}
