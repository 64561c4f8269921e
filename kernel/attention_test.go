package kernel

import "testing"

// BenchmarkAttention runs one sequence of 512 tokens with 9 query and 3 key heads of 64.
func BenchmarkAttention(b *testing.B) {
	const t, d = 512, 64
	a := Attention{Heads: 9, KVHeads: 3, KeyDim: d, ValueDim: d, Scale: 0.125, Causal: true, Round: true}
	token := func(heads int) Matrix { return Matrix{BF16: make([]uint16, t*heads*d), Row: heads * d, Col: 1} }
	r := AttentionRow{T: t, S: t, Q: token(9), K: token(3), V: token(3)}
	out, dout, dq, dk, dv := token(9), token(9), token(9), token(3), token(3)
	lse, scratch := make([]float32, 9*t), make([]float32, a.ScratchAttention(t))
	b.Run("forward", func(b *testing.B) {
		for b.Loop() {
			for g := range 3 {
				for block := range QueryBlocks(t) {
					a.Forward(&r, g, block, out, lse, scratch)
				}
			}
		}
	})
	b.Run("backward", func(b *testing.B) {
		for b.Loop() {
			for g := range 3 {
				a.Backward(&r, g, out, dout, lse, dq, dk, dv, scratch)
			}
		}
	})
}
