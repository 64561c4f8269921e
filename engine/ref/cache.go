package ref

import (
	"math"
	"slices"

	"danlu/graph"
)

// cache is one layer's KV cache: keys and values by slot.
type cache struct {
	spec *graph.CacheSpec
	k, v []float64
}

func newCache(spec *graph.CacheSpec) *cache {
	n := spec.Pages * spec.PageLen * spec.KVHeads
	return &cache{spec: spec, k: make([]float64, n*spec.KeyDim), v: make([]float64, n*spec.ValueDim)}
}

// cacheWrite stores new tokens' keys and values in a copy of the cache.
func cacheWrite(in []*array) *array {
	old := in[0].pages[0]
	c := &cache{spec: old.spec, k: slices.Clone(old.k), v: slices.Clone(old.v)}
	kd, vd := c.spec.KVHeads*c.spec.KeyDim, c.spec.KVHeads*c.spec.ValueDim
	for t, slot := range in[3].i {
		if slot < 0 {
			continue
		}
		s := index(slot, c.spec.Pages*c.spec.PageLen)
		copy(c.k[s*kd:(s+1)*kd], in[1].f[t*kd:])
		if vd > 0 {
			copy(c.v[s*vd:(s+1)*vd], in[2].f[t*vd:])
		}
	}
	round(c.k, c.spec.Store)
	round(c.v, c.spec.Store)
	return &array{pages: []*cache{c}}
}

// cachedAttention attends from each token to its sequence's cached tokens.
func cachedAttention(op graph.CachedAttention, in []*array, out graph.Type) *array {
	q, c, pages, seqs, at, prefix, slopes := in[0], in[1].pages[0], in[2], in[3], in[4], in[5], in[6]
	spec := op.Spec
	n, h, kd := q.shape[0], q.shape[2], q.shape[3]
	vd := spec.ValueDim
	if vd == 0 {
		vd = spec.ValueView
	}
	y := newArray(graph.Of(out.DType, n, 1, h, vd))
	for t := range n {
		seq := seqs.i[t]
		if seq < 0 {
			continue
		}
		last := int(at.i[t])
		if prefix != nil {
			last = max(last, int(prefix.i[seq])-1)
		}
		for head := range h {
			group := head / (h / spec.KVHeads)
			var scores []float64
			var slots []int
			top := math.Inf(-1)
			for s := 0; s <= last; s++ {
				if op.Window > 0 && s <= int(at.i[t])-op.Window {
					continue
				}
				slot := int(pages.i[int(seq)*pages.shape[1]+s/spec.PageLen])*spec.PageLen + s%spec.PageLen
				x := 0.0
				for d := range kd {
					x += q.f[(t*h+head)*kd+d] * c.k[(slot*spec.KVHeads+group)*spec.KeyDim+d]
				}
				x *= op.Scale
				if op.Softcap != 0 {
					x = op.Softcap * math.Tanh(x/op.Softcap)
				}
				if slopes != nil {
					x += slopes.f[head] * float64(s-int(at.i[t]))
				}
				scores, slots, top = append(scores, x), append(slots, slot), max(top, x)
			}
			sum := 0.0
			for i := range scores {
				scores[i] = math.Exp(scores[i] - top)
				sum += scores[i]
			}
			for i, p := range scores {
				values, width := c.v, spec.ValueDim
				if spec.ValueDim == 0 {
					values, width = c.k, spec.KeyDim
				}
				for d := range vd {
					y.f[(t*h+head)*vd+d] += p / sum * values[(slots[i]*spec.KVHeads+group)*width+d]
				}
			}
		}
	}
	return y
}
