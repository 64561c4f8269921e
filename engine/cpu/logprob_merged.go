package cpu

import (
	"math"
	"slices"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// logProbBoth is LinearLogProb together with its gradient: operands as of the gradient, without the logsumexp → dx, dW,
// log-probability and logsumexp. Every logit is computed once, where the two apart compute it twice.
type logProbBoth struct{ graph.LinearLogProbGrad }

// Name implements graph.Op.
func (logProbBoth) Name() string { return "linear_log_prob_both" }

// mergeLogProb turns a LinearLogProb and its gradient into one operation, where the cotangents do not depend on the
// scores: those of cross-entropy are known before.
func mergeLogProb(nodes []*node) []*node {
	for at, n := range nodes {
		op, ok := n.op.(graph.LinearLogProbGrad)
		if !ok || op.Entropy || op.Softcap != 0 {
			continue
		}
		score := n.in[graph.LogProbLSE].node
		from := slices.Index(nodes, score)
		if from < 0 || from > at || score.op != graph.Op(op.LinearLogProb) || !slices.Equal(score.in, n.in[:graph.LogProbLSE]) {
			continue
		}
		before, after := independent(nodes[from+1:at], score.out)
		m := &node{op: logProbBoth{op}, in: slices.Clone(n.in), out: slices.Concat(n.out, score.out)}
		m.in[graph.LogProbLSE] = nil
		if slices.ContainsFunc(m.in, func(v *value) bool {
			return v != nil && v.node != nil && (v.node == score || slices.Contains(after, v.node))
		}) {
			continue
		}
		for i, v := range m.out {
			v.node, v.out = m, i
		}
		return slices.Concat(nodes[:from], before, []*node{m}, after, nodes[at+1:])
	}
	return nodes
}

// independent divides nodes into those that do not depend on the values and those that do.
func independent(nodes []*node, values []*value) (free, bound []*node) {
	reached := map[*value]bool{}
	for _, v := range values {
		reached[v] = true
	}
	for _, n := range nodes {
		if !slices.ContainsFunc(n.in, func(v *value) bool { return v != nil && reached[v] }) {
			free = append(free, n)
			continue
		}
		bound = append(bound, n)
		for _, v := range n.out {
			reached[v] = true
		}
	}
	return free, bound
}

// keptBytes bounds the exponentials that are kept of some rows and the whole vocabulary.
const keptBytes = 80 << 20

// keptRows is the number of rows for which keptBytes suffice: a power of two, by the vocabulary alone.
func keptRows(vocab, size int) int {
	rows := logProbRows
	for rows > 1 && rows*vocab*size > keptBytes {
		rows /= 2
	}
	return rows
}

// logProbBoth forms the logits of some rows part by part. What it keeps of a part are the exponentials relative to the
// greatest logit so far; when the logsumexp is known, they become the gradient by the logits.
func (b *binder) logProbBoth(n *node, op logProbBoth) error {
	l := b.logProbs(n, op.LinearLogProb)
	dx, dw, logp, lse := n.out[0], n.out[1], n.out[2], n.out[3]
	if l.rows == 0 {
		b.do(n, func() { clear(of[float32](dw)) })
		return nil
	}
	kept := dtype.F32
	if op.Compute == dtype.BF16 {
		kept = dtype.BF16
	}
	size := kept.Bytes(1)
	l.most = keptRows(l.v, size)
	chunk, part := min(l.rows, l.most), min(l.v, vocabPart)
	products := b.sharing(n, op.Compute, [3]int{chunk, part, l.d}, [3]int{chunk, l.d, part}, [3]int{part, l.d, chunk})
	l.product = products[0]
	e := &value{typ: graph.Of(kept, chunk, l.v)}
	attach(e, b.temp(n, bytesIn(e.typ)), 0)
	sumX := b.floats(n, chunk*l.d)
	sums := make([]kernel.LogSum, chunk)
	tops := make([]float32, chunk*((l.v+part-1)/part)) // of each row and part
	top := func(i int) *float32 { return &tops[l.part/part*chunk+i] }
	score := b.checked(chunk, func(i int) error {
		if i >= l.m {
			return nil
		}
		z, target, err := l.row(i)
		if err != nil {
			return err
		}
		if 0 <= target && target < l.vm {
			of[float32](logp)[l.from+i] = z[target]
		}
		*top(i) = sums[i].Exp(z)
		put(e, i*l.v+l.part, z)
		return nil
	})
	derive := b.parallel(chunk, func(_, i int) {
		if i < l.m {
			l.exponentialsToGrad(n, e, i, *top(i))
		}
	})
	turn := b.chunks(chunk, logitRows, func(i, j int) {
		if j = min(j, l.m); i < j {
			put(dx, (l.from+i)*l.d, sumX()[i*l.d:j*l.d])
		}
	})
	begin := func() { clear(sums) }
	end := func() {
		l.finish(sums, logp, lse)
		for l.part = 0; l.part < l.v; l.part += l.vm {
			l.vm = min(vocabPart, l.v-l.part)
			derive()
			l.gradients(products[1], products[2], matrix(e, l.part, l.v, 1), sumX(), dw)
		}
		turn()
	}
	b.try(n, func() error { return l.each(begin, score, end) })
	return nil
}

// exponentialsToGrad turns row i of a part, exponentials relative to top, into the gradient by the logits: with
// p = exp(logits - lse), that of the log-probability is onehot(target) - p and that of the logsumexp p.
func (l *logProbs) exponentialsToGrad(n *node, e *value, i int, top float32) {
	r := l.from + i
	target := int(of[int32](l.targets)[r])
	dlogp, dlse := l.at(graph.LogProbD, r), l.at(graph.LogProbDLSE, r)
	if target < 0 {
		dlogp = 0
	}
	scale := float32(1)
	if l.Scale != 0 {
		scale = float32(l.Scale)
	}
	lse := of[float32](n.out[3])[r]
	c := exp(top-lse) * (dlse - dlogp) * scale
	at, inside := i*l.v+l.part, l.part <= target && target < l.part+l.vm
	var hit float32
	if inside { // in float32, since p may be close to one
		hit = (dlogp + exp(of[float32](n.out[2])[r])*(dlse-dlogp)) * scale
	}
	if e.typ.DType == dtype.BF16 {
		row := of[uint16](e)[at : at+l.vm]
		kernel.BinaryScalar(kernel.OpMul, row, row, c, false)
		if inside {
			row[target-l.part] = kernel.RoundBF16(hit)
		}
		return
	}
	row := of[float32](e)[at : at+l.vm]
	kernel.BinaryScalar(kernel.OpMul, row, row, c, false)
	if inside {
		row[target-l.part] = hit
	}
}

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }
