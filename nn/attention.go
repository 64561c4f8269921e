package nn

import (
	"fmt"
	"math"

	"danlu/dtype"
	"danlu/graph"
)

// Attention is what attention itself needs besides q, k and v.
type Attention struct {
	Name    string  // of the cache state
	Scale   float64 // 0: 1/sqrt(K)
	Window  int     // 0: none
	Softcap float64 // 0: none
	// Unmasked attention sees everything that the build's mask allows (encoders); otherwise it is causal.
	Unmasked bool
}

// Build attends with q [B, T, H, K], k [B, T, G, K], v [B, T, G, W] → [B, T, H·W], through the cache when the build has
// one.
func (a Attention) Build(b *Build, l *graph.Graph, q, k, v *graph.Value) *graph.Value {
	scale := a.Scale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(q.Last()))
	}
	var y *graph.Value
	if b.Cache != nil {
		y = a.cached(b, l, q, k, v, scale)
	} else {
		y = graph.Attend(graph.Attention{Scale: scale, Causal: !a.Unmasked, Window: a.Window, Softcap: a.Softcap, Compute: b.Policy.Compute}, q, k, v, b.Mask)
	}
	return graph.ReshapeTo(y, y.Shape[0], y.Shape[1], y.Shape[2]*y.Shape[3])
}

func (a Attention) cached(b *Build, l *graph.Graph, q, k, v *graph.Value, scale float64) *graph.Value {
	if a.Unmasked {
		graph.Failf("attention %s: a cache needs causal attention", a.Name)
	}
	spec := b.Cache.Spec
	spec.KVHeads, spec.KeyDim, spec.ValueDim = k.Shape[2], k.Shape[3], v.Shape[3]
	return a.through(b, l, &spec, q, k, v, scale)
}

// latent attends to keys k [N, 1, 1, K] whose first view elements are the values too; only keys are kept.
func (a Attention) latent(b *Build, l *graph.Graph, q, k *graph.Value, view int, scale float64) *graph.Value {
	spec := b.Cache.Spec
	spec.KVHeads, spec.KeyDim, spec.ValueDim, spec.ValueView = 1, k.Shape[3], 0, view
	return a.through(b, l, &spec, q, k, nil, scale)
}

// through writes the new keys and values to the layer's cache and attends over it.
func (a Attention) through(b *Build, l *graph.Graph, spec *graph.CacheSpec, q, k, v *graph.Value, scale float64) *graph.Value {
	cache := l.State(graph.StateSpec{Label: a.Name + ".cache", Type: graph.Of(dtype.Opaque), Role: graph.CacheRole, Cache: spec})
	written := l.Apply(graph.CacheWrite{}, cache, k, v, b.Cache.Slots)[0]
	l.Update(cache, written)
	op := graph.CachedAttention{Spec: spec, Scale: scale, Window: a.Window, Softcap: a.Softcap}
	return graph.Apply(op, q, written, b.Cache.Pages, b.Cache.Seqs, b.Cache.At, b.Mask.Prefix, b.Mask.Slopes)[0]
}

// Heads splits the last axis into n heads: [B, T, n·K] → [B, T, n, K].
func Heads(x *graph.Value, n int) *graph.Value {
	if x.Last()%n != 0 {
		graph.Failf("%d features do not split into %d heads", x.Last(), n)
	}
	return graph.ReshapeTo(x, x.Shape[0], x.Shape[1], n, x.Last()/n)
}

// Inputs declares the inputs of a graph without a cache, for batch rows of T tokens, and returns the build. Padding and
// packed documents are told apart by segments; rows are the position rows of the family.
func Inputs(g *graph.Graph, policy Policy, rows, batch, t int) *Build {
	b := &Build{G: g, Policy: policy}
	b.IDs = g.Input("ids", graph.Of(dtype.I32, batch, t))
	b.Positions = g.Input("positions", graph.Of(dtype.I32, rows, batch, t))
	b.Mask.Segments = g.Input("segments", graph.Of(dtype.I32, batch, t))
	return b
}

// CachedInputs declares the inputs of a graph with a cache for at most tokens new tokens of at most seqs sequences with
// pagesPerSeq pages each.
func CachedInputs(g *graph.Graph, policy Policy, rows, tokens, seqs, pagesPerSeq int, spec graph.CacheSpec) (*Build, error) {
	if spec.Pages <= 0 || spec.PageLen <= 0 {
		return nil, fmt.Errorf("nn: a cache of %d pages of %d tokens", spec.Pages, spec.PageLen)
	}
	byToken := func(name string, shape ...int) *graph.Value {
		t := graph.Of(dtype.I32, shape...)
		t.Rows = true
		return g.Input(name, t)
	}
	b := &Build{G: g, Policy: policy, Cache: &Cache{Spec: spec}}
	b.IDs = byToken("ids", tokens, 1)
	b.Lengths = byToken("lengths", tokens, 1)
	// Positions of new tokens lead with the token axis, so that a run can have fewer of them.
	b.Positions = graph.Permute(byToken("positions", tokens, 1, rows), 2, 0, 1)
	b.Cache.Seqs = byToken("seqs", tokens)
	b.Cache.At = byToken("at", tokens)
	b.Cache.Slots = byToken("slots", tokens)
	b.Cache.Pages = g.Input("pages", graph.Of(dtype.I32, seqs, pagesPerSeq))
	return b, nil
}
