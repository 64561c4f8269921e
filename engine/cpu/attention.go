package cpu

import (
	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
)

// attending is what Attention and its gradient share. in holds q, k, v, segments, prefix, slopes and bias.
type attending struct {
	kernel.Attention
	in      []*value
	b, t, s int
	scratch func(worker int) []float32
}

func (b *binder) attending(n *node, op graph.Attention, in []*value) *attending {
	q, k, v := in[graph.AttnQ].typ.Shape, in[graph.AttnK].typ.Shape, in[graph.AttnV].typ.Shape
	a := &attending{in: in, b: q[0], t: q[1], s: k[1]}
	a.Attention = kernel.Attention{Heads: q[2], KVHeads: k[2], KeyDim: q[3], ValueDim: v[3], Scale: float32(op.Scale), Softcap: float32(op.Softcap),
		Causal: op.Causal, Window: op.Window, Round: op.Compute == dtype.BF16}
	size := a.ScratchAttention(a.s)
	all := b.floats(n, size*b.engine.pool.Workers())
	a.scratch = func(worker int) []float32 { return all()[worker*size : (worker+1)*size] }
	return a
}

// row is one sequence of the batch.
func (a *attending) row(batch int) kernel.AttentionRow {
	r := kernel.AttentionRow{T: a.t, S: a.s, Q: a.matrix(a.in[graph.AttnQ], batch), K: a.matrix(a.in[graph.AttnK], batch), V: a.matrix(a.in[graph.AttnV], batch),
		Slopes: weights(a.in[graph.AttnSlopes])}
	if v := a.in[graph.AttnSegments]; v != nil {
		r.Segments = of[int32](v)[batch*a.t : (batch+1)*a.t]
	}
	if v := a.in[graph.AttnPrefix]; v != nil {
		r.Prefix = int(of[int32](v)[batch])
	}
	if v := a.in[graph.AttnBias]; v != nil {
		s := v.typ.Shape
		r.Bias = of[float32](v)[min(batch, s[0]-1)*s[1]*a.t*a.s:]
		if s[1] > 1 {
			r.BiasStride = a.t * a.s
		}
	}
	return r
}

// matrix is one sequence of v, [B, T, H, K], with a row per token.
func (a *attending) matrix(v *value, batch int) kernel.Matrix {
	s := v.typ.Shape
	width := s[2] * s[3]
	return matrix(v, batch*s[1]*width, width, 1)
}

// attention has a task for each tile of queries of each KV head.
func (b *binder) attention(n *node, op graph.Attention) error {
	a := b.attending(n, op, n.in)
	out, lse := n.out[0], n.out[1]
	blocks := kernel.QueryBlocks(a.t)
	b.do(n, b.parallel(a.b*a.KVHeads*blocks, func(worker, task int) {
		block := blocks - 1 - task%blocks // the longest rows first
		batch, group := task/blocks/a.KVHeads, task/blocks%a.KVHeads
		r := a.row(batch)
		size := a.Heads * a.t
		a.Forward(&r, group, block, a.matrix(out, batch), of[float32](lse)[batch*size:(batch+1)*size], a.scratch(worker))
	}))
	return nil
}

// attentionGrad has a task for each KV head, whose query heads' contributions are added in order.
func (b *binder) attentionGrad(n *node, op graph.AttentionGrad) error {
	a := b.attending(n, op.Attention, n.in[3:])
	dout, out, lse := n.in[0], n.in[1], n.in[2]
	b.do(n, b.parallel(a.b*a.KVHeads, func(worker, task int) {
		batch, group := task/a.KVHeads, task%a.KVHeads
		r := a.row(batch)
		size := a.Heads * a.t
		a.Backward(&r, group, a.matrix(out, batch), a.matrix(dout, batch), of[float32](lse)[batch*size:(batch+1)*size],
			a.matrix(n.out[0], batch), a.matrix(n.out[1], batch), a.matrix(n.out[2], batch), a.scratch(worker))
	}))
	return nil
}

// put writes float32 values to a float32 or bfloat16 value.
func put(v *value, at int, x []float32) {
	if v.typ.DType == dtype.BF16 {
		kernel.F32ToBF16(of[uint16](v)[at:at+len(x)], x)
	} else {
		copy(of[float32](v)[at:at+len(x)], x)
	}
}
