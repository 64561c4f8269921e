package nn

import (
	"math"

	"danlu/dtype"
	"danlu/graph"
)

// MLA is multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): keys and values are projected from
// one compressed latent per token, and all heads share one rotated key part. With a cache only the latent and that key
// part are kept, and the up-projections are absorbed into the query and the output.
type MLA struct {
	Name                       string
	Heads                      int
	QRank                      int // 0: the query is not compressed
	KVRank                     int
	NopeDim, RopeDim, ValueDim int
	NormEps                    float64 // of the latents' norms
	Bias                       bool
	Scale                      float64
	Std                        float64
	Cos, Sin                   *graph.Value
}

// Build adds the block: x [B, T, D] → [B, T, D].
func (p MLA) Build(b *Build, l *graph.Graph, x *graph.Value) *graph.Value {
	linear := func(name string, x *graph.Value, out int, axis string, bias bool) *graph.Value {
		return Linear{Name: p.Name + "." + name, Out: out, Bias: bias, OutAxis: axis, InAxis: "embed", Std: p.Std}.Build(b, l, x)
	}
	q := x
	if p.QRank > 0 {
		q = b.RMSNorm(l, p.Name+".q_a_layernorm", linear("q_a_proj", x, p.QRank, "", p.Bias), p.NormEps)
		q = linear("q_b_proj", q, p.Heads*(p.NopeDim+p.RopeDim), "heads", false)
	} else {
		q = linear("q_proj", x, p.Heads*(p.NopeDim+p.RopeDim), "heads", false)
	}
	q = Heads(q, p.Heads)
	qNope, qRope := graph.Cut(q, 3, 0, p.NopeDim), graph.Rotate(graph.Cut(q, 3, p.NopeDim, q.Last()), p.Cos, p.Sin, true)
	kv := linear("kv_a_proj_with_mqa", x, p.KVRank+p.RopeDim, "", p.Bias)
	latent := b.RMSNorm(l, p.Name+".kv_a_layernorm", graph.Cut(kv, 2, 0, p.KVRank), p.NormEps)
	kRope := graph.Rotate(Heads(graph.Cut(kv, 2, p.KVRank, kv.Last()), 1), p.Cos, p.Sin, true)
	up := b.effective(l, b.module(l, LinearModule, b.weightSpec(p.Name+".kv_b_proj"+weightSuffix, graph.Init{Std: p.Std}, []string{"heads", ""}, p.Heads*(p.NopeDim+p.ValueDim), p.KVRank)))
	var y *graph.Value
	if b.Cache != nil {
		y = p.absorbed(b, l, qNope, qRope, latent, kRope, up)
	} else {
		y = p.expanded(b, l, qNope, qRope, latent, kRope, up)
	}
	return Linear{Name: p.Name + ".o_proj", Out: x.Last(), Bias: p.Bias, OutAxis: "embed", InAxis: "heads", Std: p.Std}.Build(b, l, y)
}

// expanded forms every head's keys and values.
func (p MLA) expanded(b *Build, l *graph.Graph, qNope, qRope, latent, kRope, up *graph.Value) *graph.Value {
	kv := Heads(graph.Project(latent, up, nil, b.Policy.Compute, b.Policy.Act), p.Heads)
	shared := graph.BroadcastTo(kRope, kRope.Shape[0], kRope.Shape[1], p.Heads, p.RopeDim)
	q := graph.Join(3, qNope, qRope)
	k := graph.Join(3, graph.Cut(kv, 3, 0, p.NopeDim), shared)
	return Attention{Name: p.Name, Scale: p.Scale}.Build(b, l, q, k, graph.Cut(kv, 3, p.NopeDim, kv.Last()))
}

// absorbed attends in the latent space: the query goes through the keys' up-projection instead of the keys, and the
// result through the values'.
func (p MLA) absorbed(b *Build, l *graph.Graph, qNope, qRope, latent, kRope, up *graph.Value) *graph.Value {
	n := qNope.Shape[0]
	w := graph.ReshapeTo(graph.Convert(up, dtype.F32), p.Heads, p.NopeDim+p.ValueDim, p.KVRank)
	perHead := func(x *graph.Value) *graph.Value { // [N, 1, H, K] → [N, H, 1, K] float32
		return graph.ReshapeTo(graph.Convert(x, dtype.F32), n, p.Heads, 1, x.Last())
	}
	q := graph.Dot(perHead(qNope), graph.Cut(w, 1, 0, p.NopeDim), false, false, dtype.F32)
	q = graph.Join(3, graph.Convert(graph.ReshapeTo(q, n, 1, p.Heads, p.KVRank), qRope.DType), qRope)
	k := graph.Join(3, graph.ReshapeTo(latent, n, 1, 1, p.KVRank), kRope)
	scale := p.Scale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(p.NopeDim+p.RopeDim))
	}
	y := Attention{Name: p.Name}.latent(b, l, q, k, p.KVRank, scale)
	y = graph.Dot(perHead(y), graph.Cut(w, 1, p.NopeDim, p.NopeDim+p.ValueDim), false, true, dtype.F32)
	return graph.Convert(graph.ReshapeTo(y, n, 1, p.Heads*p.ValueDim), b.Policy.Act)
}
