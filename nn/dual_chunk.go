package nn

import (
	"math"

	"danlu/dtype"
	"danlu/graph"
)

// DualChunk is dual chunk attention (An et al., arXiv:2402.17463) as Qwen2.5-1M uses it (arXiv:2501.15383): rotary
// distances never exceed what the model was trained on. Texts are cut into chunks of Size-Local tokens; keys are rotated
// by their place in their chunk, and queries by three positions, for keys of their own chunk, of the one before, and of
// older ones. Within the first chunk it is plain attention.
type DualChunk struct {
	Size, Local int
	Original    int // context of training, from which on logits are scaled; 0: never
}

// Len is the number of tokens of a chunk.
func (d DualChunk) Len() int { return d.Size - d.Local }

// Key is the position by which a key is rotated.
func (d DualChunk) Key(at int) int { return at % d.Len() }

// Query is the position by which a query is rotated for keys that are so many chunks before its own.
func (d DualChunk) Query(at, chunks int) int {
	own := at % d.Len()
	switch chunks {
	case 0:
		return own
	case 1:
		return min(own+d.Len(), d.Size)
	}
	return min(2*d.Len()-1, d.Size)
}

// Distance is the rotary distance between a query and a key at or before it.
func (d DualChunk) Distance(query, key int) int {
	return d.Query(query, query/d.Len()-key/d.Len()) - d.Key(key)
}

// Scale is the factor on the logits of a text of n tokens.
func (d DualChunk) Scale(n int) float64 {
	if d.Original == 0 || n <= d.Original {
		return 1
	}
	return max(1, 0.1*math.Log(float64(n)/float64(d.Original))+1)
}

// DualTables are the rotary tables and the mask of a graph without a cache, for SelfAttention.
type DualTables struct {
	cos, sin [4]*graph.Value // of keys, and of queries for keys of their own chunk, the one before, and older ones
	bias     *graph.Value    // [B, 1, T, 3·T]: of each way of rotating queries, the keys that are its
	scale    float64
}

// hidden is the score of a key that is not seen.
const hiddenScore = -1e30

// Tables builds them for texts that reach beyond the first chunk; nil where the graph's cannot.
func (d DualChunk) Tables(b *Build, r Rope) *DualTables {
	t := b.IDs.Shape[1]
	if b.Cache != nil || t <= d.Len() {
		return nil
	}
	g, batch, n := b.G, b.IDs.Shape[0], float64(d.Len())
	at := graph.Convert(graph.ReshapeTo(graph.Cut(b.Positions, 0, 0, 1), batch, t), dtype.F32)
	chunk := graph.Floor(graph.MulScalar(graph.AddScalar(at, 0.5), 1/n)) // half a token away from rounding
	own := graph.Sub(at, graph.MulScalar(chunk, n))
	atMost := func(x *graph.Value, most float64) *graph.Value { return graph.Min(x, graph.ConstLike(x, most)) }
	older := graph.ConstLike(at, float64(d.Query(0, 2)))
	x := &DualTables{scale: d.Scale(t)}
	inv, factor := r.InvFreq(0)
	for i, positions := range []*graph.Value{own, own, atMost(graph.AddScalar(own, n), float64(d.Size)), graph.BroadcastTo(older, batch, t)} {
		p := graph.ReshapeTo(graph.Convert(positions, dtype.I32), 1, batch, t)
		x.cos[i], x.sin[i] = graph.RotaryTables(p, g.Const(toFloat32(inv)), nil, factor)
	}
	column := func(v *graph.Value) *graph.Value { return graph.ReshapeTo(v, batch, 1, t, 1) }
	row := func(v *graph.Value) *graph.Value { return graph.ReshapeTo(v, batch, 1, 1, t) }
	seen := graph.And(graph.GreaterEqual(column(at), row(at)), graph.Equal(column(b.Mask.Segments), row(b.Mask.Segments)))
	apart := graph.Sub(column(chunk), row(chunk))
	zero, far := graph.ConstLike(apart, 0), graph.ConstLike(apart, hiddenScore)
	var ways []*graph.Value
	for _, mine := range []*graph.Value{graph.Equal(apart, zero), graph.Equal(apart, graph.ConstLike(apart, 1)), graph.GreaterEqual(apart, graph.ConstLike(apart, 2))} {
		ways = append(ways, graph.Where(graph.And(seen, mine), zero, far))
	}
	x.bias = graph.Join(3, ways...)
	return x
}

// attend attends with q [B, T, H, K], k and v [B, T, G, K] that are not rotated. Every key stands three times behind each
// other, with its elements in another third of a head of 3·K; the queries' thirds are rotated in the three ways.
func (x *DualTables) attend(b *Build, q, k, v *graph.Value) *graph.Value {
	k = graph.Rotate(k, x.cos[0], x.sin[0], false)
	none := graph.Zeros(k.Graph(), k.Type)
	keys := graph.Join(1, graph.Join(3, k, none, none), graph.Join(3, none, k, none), graph.Join(3, none, none, k))
	var thirds []*graph.Value
	for i := 1; i < 4; i++ {
		thirds = append(thirds, graph.Rotate(q, x.cos[i], x.sin[i], false))
	}
	op := graph.Attention{Scale: x.scale / math.Sqrt(float64(q.Last())), Compute: b.Policy.Compute}
	y := graph.Attend(op, graph.Join(3, thirds...), keys, graph.Join(1, v, v, v), graph.AttentionMask{Bias: x.bias})
	return graph.ReshapeTo(y, y.Shape[0], y.Shape[1], y.Shape[2]*y.Shape[3])
}

// CheckCache refuses a cache for texts that reach beyond the first chunk, whose keys would need more than one rotation.
func (d DualChunk) CheckCache(b *Build) {
	if b.Cache == nil {
		return
	}
	if n := b.Cache.Pages.Shape[1] * b.Cache.Spec.PageLen; n > d.Len()+b.Cache.Spec.PageLen-1 {
		graph.Failf("dual chunk attention: a context of %d tokens reaches beyond the first chunk of %d, which is as far as generation goes", n, d.Len())
	}
}
