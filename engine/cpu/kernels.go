package cpu

import (
	"fmt"

	"danlu/dtype"
	"danlu/graph"
)

// native reports whether a fused operation has a kernel for operands of these types; others run as their decompositions.
func native(op graph.Op, in []graph.Type) bool {
	plain := func(i int) bool { return i >= len(in) || in[i].IsZero() || elem(in[i].DType) }
	f32 := func(i int) bool { return i >= len(in) || in[i].IsZero() || in[i].DType == dtype.F32 }
	switch op := op.(type) {
	case graph.Linear:
		return plain(0) && plain(1) && f32(2) && (op.Out == dtype.Invalid || elem(op.Out))
	case graph.LinearGradX:
		return plain(0) && plain(1) && elem(op.Out)
	case graph.LinearGradW:
		return plain(0) && plain(1)
	case graph.GroupedLinear:
		return plain(0) && plain(1) && elem(op.Out)
	case graph.GroupedLinearGradX:
		return plain(0) && plain(1) && elem(op.Out)
	case graph.GroupedLinearGradW:
		return plain(0) && plain(1)
	case graph.Embedding:
		return plain(0) && elem(op.Out)
	case graph.RMSNorm:
		return plain(0) && f32(1) && elem(op.Out)
	case graph.RMSNormGrad, graph.LayerNormGrad:
		return plain(0) && plain(1) && f32(2)
	case graph.LayerNorm:
		return plain(0) && f32(1) && f32(2) && elem(op.Out)
	case graph.Softmax, graph.Activation, graph.GLU, graph.GLUGrad, graph.RoPE:
		return plain(0) && plain(1)
	case graph.Attention:
		return plain(0) && cappedPlainly(op, in)
	case graph.AttentionGrad:
		return plain(0) && plain(1) && plain(3) && cappedPlainly(op.Attention, in[3:])
	case graph.ActivationGrad:
		return plain(1) && in[0].DType == in[1].DType
	case graph.LinearLogProb, graph.LinearLogProbGrad:
		return plain(0) && plain(1)
	case graph.LinearKL, graph.LinearKLGrad:
		return plain(0) && plain(1) && plain(2) && plain(3)
	case graph.AdamW:
		return f32(0)
	case graph.SumSquares:
		for i := range in {
			if !plain(i) {
				return false
			}
		}
		return true
	case graph.Dropout:
		return plain(0)
	case graph.RotaryTable, graph.GroupRows:
		return true
	}
	return false
}

// cappedPlainly reports whether scores are capped without anything added after the cap: the gradient's kernel finds the
// cap's derivative from the final scores.
func cappedPlainly(op graph.Attention, in []graph.Type) bool {
	return op.Softcap == 0 || in[graph.AttnSlopes].IsZero() && in[graph.AttnBias].IsZero()
}

// elem reports whether d is one of the element types of activations.
func elem(d dtype.DType) bool { return d == dtype.F32 || d == dtype.BF16 }

// kernel adds the call that computes n.
func (b *binder) kernel(n *node) error {
	switch op := n.op.(type) {
	case graph.Unary:
		return b.unary(n, op.Kind)
	case graph.Binary:
		return b.binary(n, op.Kind)
	case graph.Select:
		return b.selecting(n)
	case graph.Cast:
		return b.cast(n, op.To)
	case graph.Random:
		return b.random(n, op)
	case graph.Transpose:
		return b.transpose(n, op)
	case graph.Broadcast:
		return b.strided(n, aligned(n.in[0].typ.Shape, n.out[0].typ.Shape))
	case graph.Slice:
		return b.slice(n, op)
	case graph.Concat:
		return b.concat(n, op)
	case graph.Iota:
		return b.iota(n, op)
	case graph.Reduce:
		return b.reduce(n, op)
	case graph.ArgMax:
		return b.argMax(n)
	case graph.CumSum:
		return b.cumSum(n)
	case graph.TopK:
		return b.order(n, op.K, true)
	case graph.Sort:
		return b.order(n, n.in[0].typ.Last(), op.Descending)
	case graph.MatMul:
		return b.matMul(n, op)
	case graph.Gather:
		return b.gather(n)
	case unpacked:
		return b.unpacked(n)
	case graph.Embedding:
		return b.embedding(n)
	case graph.ScatterAdd:
		return b.scatterAdd(n)
	case graph.TakeAlong:
		return b.takeAlong(n)
	case graph.Linear:
		return b.linear(n, op)
	case graph.LinearGradX:
		return b.linearGradX(n, op)
	case graph.LinearGradW:
		return b.linearGradW(n, op)
	case graph.GroupedLinear:
		return b.grouped(n, op.Compute, false)
	case graph.GroupedLinearGradX:
		return b.grouped(n, op.Compute, true)
	case graph.GroupedLinearGradW:
		return b.groupedGradW(n, op.Compute)
	case graph.GroupRows:
		return b.groupRows(n, op)
	case graph.RMSNorm:
		return b.rmsNorm(n, op.Eps)
	case graph.RMSNormGrad:
		return b.normGrad(n, op.Eps, false)
	case graph.LayerNorm:
		return b.layerNorm(n, op.Eps)
	case graph.LayerNormGrad:
		return b.normGrad(n, op.Eps, true)
	case graph.Softmax:
		return b.softmax(n)
	case graph.Activation:
		return b.activation(n, op.Kind)
	case graph.ActivationGrad:
		return b.activationGrad(n, op.Kind)
	case graph.GLU:
		return b.glu(n, op)
	case graph.GLUGrad:
		return b.gluGrad(n, op)
	case graph.RoPE:
		return b.rope(n, op)
	case graph.RotaryTable:
		return b.rotaryTable(n, op)
	case graph.Attention:
		return b.attention(n, op)
	case graph.AttentionGrad:
		return b.attentionGrad(n, op)
	case graph.Dropout:
		return b.dropout(n, op)
	case graph.CacheWrite:
		return b.cacheWrite(n)
	case graph.CachedAttention:
		return b.cachedAttention(n, op)
	case graph.LinearLogProb:
		return b.logProb(n, op)
	case graph.LinearLogProbGrad:
		return b.logProbGrad(n, op)
	case logProbBoth:
		return b.logProbBoth(n, op)
	case graph.LinearKL:
		return b.linearKL(n, op)
	case graph.LinearKLGrad:
		return b.linearKLGrad(n, op)
	case graph.AdamW:
		return b.adamW(n, op)
	case graph.SumSquares:
		return b.sumSquares(n)
	}
	return fmt.Errorf("has neither a kernel nor a decomposition")
}
