package cpu

import (
	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// adamW updates in place, after copying where the plan gave results other places.
func (b *binder) adamW(n *node, op graph.AdamW) error {
	total := n.out[0].typ.Len()
	var copies []func()
	for i, from := range op.Aliases() {
		copies = append(copies, b.copying(n.out[i].ptr, n.in[from].ptr, bytesIn(n.out[i].typ)))
	}
	var o kernel.AdamW
	run := b.chunks(total, taskElements, func(i, j int) {
		o.Update(of[float32](n.out[0])[i:j], of[float32](n.out[1])[i:j], of[float32](n.out[2])[i:j], of[float32](n.in[1])[i:j])
	})
	scalar := func(i int) float64 { return float64(of[float32](n.in[i])[0]) }
	b.do(n, func() {
		for _, f := range copies {
			f()
		}
		o = kernel.AdamW{LR: scalar(4), Beta1: op.Beta1, Beta2: op.Beta2, Eps: op.Eps, WeightDecay: op.WeightDecay, GradScale: scalar(5), Step: int(scalar(6))}
		run()
	})
	return nil
}

// sumSquares adds blocks of a fixed size in order.
func (b *binder) sumSquares(n *node) error {
	type block struct{ operand, from, to int }
	var blocks []block
	for k, v := range n.in {
		for i := 0; i < v.typ.Len(); i += kernel.SumSquaresChunk {
			blocks = append(blocks, block{k, i, min(i+kernel.SumSquaresChunk, v.typ.Len())})
		}
	}
	sums := make([]float64, len(blocks))
	run := b.parallel(len(blocks), func(_, i int) {
		k := blocks[i]
		if v := n.in[k.operand]; v.typ.DType == dtype.BF16 {
			sums[i] = kernel.SumSquares(of[uint16](v)[k.from:k.to])
		} else {
			sums[i] = kernel.SumSquares(of[float32](v)[k.from:k.to])
		}
	})
	b.do(n, func() {
		run()
		s := 0.0
		for _, x := range sums {
			s += x
		}
		of[float32](n.out[0])[0] = float32(s)
	})
	return nil
}
