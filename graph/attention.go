package graph

import (
	"fmt"
	"slices"

	"danlu/dtype"
)

// RoPE rotates pairs of elements of each head by angles given as tables (Su et al., arXiv:2104.09864):
// x [B, T, H, K], cos and sin [B, T, R/2] float32 → x's type. The first R elements of a head are rotated, as pairs
// (i, i+R/2), or (2i, 2i+1) when Interleaved; the others pass. Inverse rotates back (the gradient).
type RoPE struct {
	Interleaved, Inverse bool
}

// Name implements Op.
func (o RoPE) Name() string { return "rope" }

// Infer implements Op.
func (o RoPE) Infer(in []Type) ([]Type, error) {
	x, c := in[0], in[1]
	if x.Rank() != 4 || c.Rank() != 3 || !c.Equal(in[2]) || !slices.Equal(x.Shape[:2], c.Shape[:2]) || 2*c.Last() > x.Last() || c.DType != dtype.F32 {
		return nil, fmt.Errorf("want x [B, T, H, K] and float32 tables [B, T, R/2] with R at most K")
	}
	return []Type{Of(x.DType, x.Shape...)}, nil
}

// FLOPs implements Coster.
func (RoPE) FLOPs(in, out []Type) float64 { return 3 * float64(out[0].Len()) }

// Aliases implements Aliaser.
func (RoPE) Aliases() []int { return []int{0} }

// RotaryTable makes RoPE's tables: positions [P, B, T] (int32), inverse frequencies [R/2] (float32) → cos and sin
// [B, T, R/2] float32, times Scale. Sections (M-RoPE) says how many consecutive frequencies take each of the P
// position rows; nil: all take row 0. Angles are formed in float64.
type RotaryTable struct {
	Sections []int
	Scale    float64
}

// Name implements Op.
func (o RotaryTable) Name() string { return "rotary_table" }

// Infer implements Op.
func (o RotaryTable) Infer(in []Type) ([]Type, error) {
	p, f := in[0], in[1]
	if p.DType != dtype.I32 || p.Rank() != 3 || f.DType != dtype.F32 || f.Rank() != 1 {
		return nil, fmt.Errorf("want int32 positions [P, B, T] and float32 frequencies [R/2]")
	}
	n := 0
	for _, s := range o.Sections {
		n += s
	}
	if o.Sections != nil && (n != f.Shape[0] || len(o.Sections) > p.Shape[0]) {
		return nil, fmt.Errorf("sections %v do not fit %d frequencies and %d position rows", o.Sections, f.Shape[0], p.Shape[0])
	}
	t := Of(dtype.F32, p.Shape[1], p.Shape[2], f.Shape[0])
	return []Type{t, t}, nil
}

// Attention is scaled dot-product attention with grouped keys and values. Head h of H uses key head h/(H/G).
//
//	q [B, T, H, K], k [B, S, G, K], v [B, S, G, W]
//	segments [B, T] int32 or absent: a query sees keys of its own segment only (packing; T = S); negative: padding, sees nothing
//	prefix [B] int32 or absent: with Causal, keys before prefix[b] are visible to all queries (GLM)
//	slopes [H] float32 or absent: ALiBi (arXiv:2108.12409), adds slopes[h] * (key index - query index)
//	bias [B or 1, H or 1, T, S] float32 or absent: added to the scaled scores
//
// → out [B, T, H, W] in q's type, and the scores' logsumexp [B, H, T] float32. A query that sees nothing has out 0 and
// logsumexp -inf. Query t stands at key index t + S - T.
type Attention struct {
	Scale   float64
	Causal  bool
	Window  int         // 0: none; a query sees the last Window keys up to its own
	Softcap float64     // 0: none; scores become Softcap * tanh(score / Softcap)
	Compute dtype.DType // F32, or BF16: factors are rounded to bfloat16, sums and softmax are float32
}

// Operand positions of Attention.
const (
	AttnQ = iota
	AttnK
	AttnV
	AttnSegments
	AttnPrefix
	AttnSlopes
	AttnBias
	attnOperands
)

// Name implements Op.
func (o Attention) Name() string { return "attention" }

// Infer implements Op.
func (o Attention) Infer(in []Type) ([]Type, error) {
	if len(in) != attnOperands {
		return nil, fmt.Errorf("want %d operands", attnOperands)
	}
	q, k, v := in[AttnQ], in[AttnK], in[AttnV]
	if q.Rank() != 4 || k.Rank() != 4 || v.Rank() != 4 || q.Shape[0] != k.Shape[0] || q.Shape[3] != k.Shape[3] ||
		!slices.Equal(k.Shape[:3], v.Shape[:3]) || q.Shape[2]%k.Shape[2] != 0 || q.DType != k.DType || q.DType != v.DType {
		return nil, fmt.Errorf("want q [B, T, H, K], k [B, S, G, K], v [B, S, G, W] with H a multiple of G")
	}
	b, t, h, s := q.Shape[0], q.Shape[1], q.Shape[2], k.Shape[1]
	if x := in[AttnSegments]; !x.IsZero() && (!x.Equal(Of(dtype.I32, b, t)) || t != s) {
		return nil, fmt.Errorf("want segments i32[%d %d]", b, t)
	}
	if x := in[AttnPrefix]; !x.IsZero() && !x.Equal(Of(dtype.I32, b)) {
		return nil, fmt.Errorf("want prefix lengths i32[%d]", b)
	}
	if x := in[AttnSlopes]; !x.IsZero() && !x.Equal(Of(dtype.F32, h)) {
		return nil, fmt.Errorf("want slopes f32[%d]", h)
	}
	if x := in[AttnBias]; !x.IsZero() && (x.DType != dtype.F32 || x.Rank() != 4 || x.Shape[0] != b && x.Shape[0] != 1 || x.Shape[1] != h && x.Shape[1] != 1 || x.Shape[2] != t || x.Shape[3] != s) {
		return nil, fmt.Errorf("want a bias f32[%d %d %d %d]", b, h, t, s)
	}
	return []Type{Of(q.DType, b, t, h, v.Shape[3]), Of(dtype.F32, b, h, t)}, nil
}

// FLOPs implements Coster. A causal mask halves the work.
func (o Attention) FLOPs(in, out []Type) float64 {
	q, s, w := in[AttnQ], float64(in[AttnK].Shape[1]), float64(in[AttnV].Shape[3])
	f := 2 * s * float64(q.Shape[0]*q.Shape[1]*q.Shape[2]) * (float64(q.Shape[3]) + w)
	if o.Causal {
		f /= 2
	}
	return f
}

// AttentionGrad is the gradient of Attention by recomputation (Dao, arXiv:2307.08691): dout, out, logsumexp, then
// Attention's operands → dq, dk, dv in the operands' types. The bias has no gradient here: Attention with a bias that
// needs one is differentiated through its decomposition.
type AttentionGrad struct{ Attention }

// Name implements Op.
func (o AttentionGrad) Name() string { return "attention_grad" }

// Infer implements Op.
func (o AttentionGrad) Infer(in []Type) ([]Type, error) {
	q, k, v := in[3+AttnQ], in[3+AttnK], in[3+AttnV]
	return []Type{Of(q.DType, q.Shape...), Of(k.DType, k.Shape...), Of(v.DType, v.Shape...)}, nil
}

// FLOPs implements Coster.
func (o AttentionGrad) FLOPs(in, out []Type) float64 { return 2.5 * o.Attention.FLOPs(in[3:], nil) }

// CacheWrite stores the keys and values of new tokens: cache (opaque), k [N, 1, G, K], v [N, 1, G, W] (absent when the
// cache's values are a view of its keys), slots [N] int32 (page*PageLen + place in the page; negative: not stored)
// → the cache.
type CacheWrite struct{}

// Name implements Op.
func (CacheWrite) Name() string { return "cache_write" }

// Infer implements Op.
func (CacheWrite) Infer(in []Type) ([]Type, error) {
	if in[0].DType != dtype.Opaque || !in[3].Equal(Of(dtype.I32, in[1].Shape[0])) {
		return nil, fmt.Errorf("want a cache, k [N, 1, G, K], v [N, 1, G, W] and int32 slots [N]")
	}
	return []Type{Of(dtype.Opaque)}, nil
}

// Aliases implements Aliaser.
func (CacheWrite) Aliases() []int { return []int{0} }

// CachedAttention is Attention of new tokens of several sequences over a paged cache.
//
//	q [N, 1, H, K], cache (opaque), pages [Q, P] int32 (page table of each sequence),
//	seqs [N] int32 (the sequence of each token; negative: none, out is 0), at [N] int32 (its index in the sequence:
//	keys 0 to at are visible), prefix [Q] int32 or absent (keys before it are visible to all tokens), slopes [H] or absent
//
// → out [N, 1, H, W] in q's type. Spec must be the cache's.
type CachedAttention struct {
	Spec    *CacheSpec
	Scale   float64
	Window  int
	Softcap float64
}

// Name implements Op.
func (CachedAttention) Name() string { return "cached_attention" }

// Infer implements Op.
func (o CachedAttention) Infer(in []Type) ([]Type, error) {
	q := in[0]
	if len(in) != 7 || q.Rank() != 4 || q.Shape[1] != 1 || in[1].DType != dtype.Opaque || q.Shape[3] != o.Spec.KeyDim {
		return nil, fmt.Errorf("want q [N, 1, H, %d] and a cache", o.Spec.KeyDim)
	}
	w := o.Spec.ValueDim
	if w == 0 {
		w = o.Spec.ValueView
	}
	return []Type{Of(q.DType, q.Shape[0], 1, q.Shape[2], w)}, nil
}

// FLOPs implements Coster, at full context.
func (o CachedAttention) FLOPs(in, out []Type) float64 {
	return 2 * float64(in[2].Shape[1]*o.Spec.PageLen) * float64(in[0].Len()+out[0].Len())
}
