package cpu

import (
	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// Logits are formed for some rows and a part of the vocabulary at a time, so that they stay in the last-level cache and
// each row of W is packed and each row of dW written only once per logProbRows rows. Both sizes are fixed: sums over rows
// or over the vocabulary are formed in the same order for any batch.
const (
	logProbRows = 1024
	vocabPart   = 4096
)

// logProbs is what LinearLogProb and its gradient share: parts of scaled and capped logits.
type logProbs struct {
	graph.LinearLogProb
	n          *node
	x, w       *value
	rows, v, d int
	product    *product
	z          func() []float32 // [m, vm]
	most       int              // rows that may be in work
	from, m    int              // rows in work
	part, vm   int              // logits in work
	targets    *value
}

// sharing gives products that run one after the other the scratch of the largest.
func (b *binder) sharing(n *node, compute dtype.DType, sizes ...[3]int) []*product {
	most := 0
	for _, s := range sizes {
		most = max(most, kernel.ScratchMatMul(s[0], s[1], s[2], b.engine.pool.Workers(), compute == dtype.BF16))
	}
	scratch := b.floats(n, most)
	products := make([]*product, len(sizes))
	for i, s := range sizes {
		products[i] = &product{b: b, scratch: scratch}
		products[i].M, products[i].N, products[i].K, products[i].Round = s[0], s[1], s[2], compute == dtype.BF16
	}
	return products
}

func (b *binder) logProbs(n *node, op graph.LinearLogProb) *logProbs {
	x, w := n.in[graph.LogProbX], n.in[graph.LogProbW]
	l := &logProbs{LinearLogProb: op, n: n, x: x, w: w, targets: n.in[graph.LogProbTargets], most: logProbRows}
	l.rows, l.v, l.d = x.typ.Shape[0], w.typ.Shape[0], w.typ.Shape[1]
	l.z = b.floats(n, min(l.rows, logProbRows)*min(l.v, vocabPart))
	return l
}

// each calls f for each part of the logits of each run of rows, and begin and end around the parts of a run.
func (l *logProbs) each(begin func(), f func() error, end func()) error {
	for l.from = 0; l.from < l.rows; l.from += l.m {
		l.m = min(l.most, l.rows-l.from)
		begin()
		for l.part = 0; l.part < l.v; l.part += l.vm {
			l.vm = min(vocabPart, l.v-l.part)
			l.product.M, l.product.N = l.m, l.vm
			l.product.run(matrix(l.x, l.from*l.d, l.d, 1), matrix(l.w, l.part*l.d, 1, l.d), kernel.Matrix{F32: l.z(), Row: l.vm, Col: 1})
			if err := f(); err != nil {
				return err
			}
		}
		end()
	}
	return nil
}

// row is a row of the part's logits, scaled and capped, and its target's place in the part, which may lie outside.
func (l *logProbs) row(i int) (z []float32, target int, err error) {
	z = l.z()[i*l.vm : (i+1)*l.vm]
	if l.Scale != 0 && l.Scale != 1 {
		kernel.BinaryScalar(kernel.OpMul, z, z, float32(l.Scale), false)
	}
	if l.Softcap != 0 {
		kernel.Softcap(z, z, float32(l.Softcap))
	}
	t := of[int32](l.targets)[l.from+i]
	if int(t) >= l.v {
		err = indexFault(t, l.v)
	}
	return z, int(t) - l.part, err
}

func (b *binder) logProb(n *node, op graph.LinearLogProb) error {
	l := b.logProbs(n, op)
	chunk := min(l.rows, logProbRows)
	l.product = b.sharing(n, op.Compute, [3]int{chunk, min(l.v, vocabPart), l.d})[0]
	sums := make([]kernel.LogSum, chunk)
	score := b.checked(chunk, func(i int) error {
		if i >= l.m {
			return nil
		}
		z, target, err := l.row(i)
		if err != nil {
			return err
		}
		sums[i].Add(z, op.Entropy)
		if 0 <= target && target < l.vm {
			of[float32](n.out[0])[l.from+i] = z[target]
		}
		return nil
	})
	begin := func() { clear(sums) }
	end := func() {
		l.finish(sums, n.out[0], n.out[1])
		if op.Entropy {
			for i := range l.m {
				of[float32](n.out[2])[l.from+i] = sums[i].Entropy()
			}
		}
	}
	b.try(n, func() error { return l.each(begin, score, end) })
	return nil
}

// finish turns the sums, and the targets' logits in logp, into logsumexps and log-probabilities.
func (l *logProbs) finish(sums []kernel.LogSum, logp, lse *value) {
	for i := range l.m {
		r := l.from + i
		z := sums[i].LSE()
		of[float32](lse)[r] = z
		if p := of[float32](logp); of[int32](l.targets)[r] >= 0 {
			p[r] -= z
		} else {
			p[r] = 0
		}
	}
}

// at is element r of an operand; those that are absent are zero.
func (l *logProbs) at(operand, r int) float32 {
	if v := l.n.in[operand]; v != nil {
		return of[float32](v)[r]
	}
	return 0
}

// gradients adds a part's share to the gradients by x and W; dz is the gradient by the part's logits.
func (l *logProbs) gradients(gradX, gradW *product, dz kernel.Matrix, sumX []float32, dw *value) {
	gradX.M, gradX.K, gradX.Accumulate = l.m, l.vm, l.part > 0
	gradX.run(dz, matrix(l.w, l.part*l.d, l.d, 1), kernel.Matrix{F32: sumX, Row: l.d, Col: 1})
	dz.Row, dz.Col = dz.Col, dz.Row
	gradW.M, gradW.K, gradW.Accumulate = l.vm, l.m, l.from > 0
	gradW.run(dz, matrix(l.x, l.from*l.d, l.d, 1), matrix(dw, l.part*l.d, l.d, 1))
}

func (b *binder) logProbGrad(n *node, op graph.LinearLogProbGrad) error {
	l := b.logProbs(n, op.LinearLogProb)
	dx, dw := n.out[0], n.out[1]
	if l.rows == 0 {
		b.do(n, func() { clear(of[float32](dw)) })
		return nil
	}
	chunk, part := min(l.rows, logProbRows), min(l.v, vocabPart)
	products := b.sharing(n, op.Compute, [3]int{chunk, part, l.d}, [3]int{chunk, l.d, part}, [3]int{part, l.d, chunk})
	l.product = products[0]
	sumX := b.floats(n, chunk*l.d)
	derive := b.checked(chunk, func(i int) error {
		if i >= l.m {
			return nil
		}
		z, target, err := l.row(i)
		if err != nil {
			return err
		}
		r := l.from + i
		dlogp := l.at(graph.LogProbD, r)
		if target+l.part < 0 {
			dlogp = 0
		}
		var entropy, dentropy float32
		if n.in[graph.LogProbDEntropy] != nil {
			dentropy, entropy = l.at(graph.LogProbDEntropy, r), l.at(graph.LogProbEntropy, r)
		}
		kernel.LogProbGrad(z, z, target, l.at(graph.LogProbLSE, r), dlogp, l.at(graph.LogProbDLSE, r), dentropy, entropy, float32(op.Softcap))
		if op.Scale != 0 && op.Scale != 1 {
			kernel.BinaryScalar(kernel.OpMul, z, z, float32(op.Scale), false)
		}
		return nil
	})
	step := func() error {
		if err := derive(); err != nil {
			return err
		}
		l.gradients(products[1], products[2], kernel.Matrix{F32: l.z(), Row: l.vm, Col: 1}, sumX(), dw)
		return nil
	}
	turn := b.chunks(chunk, logitRows, func(i, j int) {
		if j = min(j, l.m); i < j {
			put(dx, (l.from+i)*l.d, sumX()[i*l.d:j*l.d])
		}
	})
	b.try(n, func() error { return l.each(func() {}, step, turn) })
	return nil
}
