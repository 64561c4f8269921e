package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"danlu/internal/cpu"
)

// plainAttention is attention in float64 as its definition says, with the gradients by q, k and v for dout.
type plainAttention struct {
	a                *Attention
	r                *AttentionRow
	q, k, v, dout    []float64 // [token][head][dim]
	out, lse         []float64
	dq, dk, dv       []float64
	visible          func(h, q, k int) bool
	score, scoreGrad func(h, q, k int, x float64) float64
}

func (p *plainAttention) run() {
	a, r := p.a, p.r
	kd, vd, share := a.KeyDim, a.ValueDim, a.Heads/a.KVHeads
	p.out, p.lse = make([]float64, len(p.dout)), make([]float64, a.Heads*r.T)
	p.dq, p.dk, p.dv = make([]float64, len(p.q)), make([]float64, len(p.k)), make([]float64, len(p.v))
	for h := range a.Heads {
		for t := range r.T {
			q, o, do := p.q[(t*a.Heads+h)*kd:][:kd], p.out[(t*a.Heads+h)*vd:][:vd], p.dout[(t*a.Heads+h)*vd:][:vd]
			dq := p.dq[(t*a.Heads+h)*kd:][:kd]
			kv := func(s int) (at, av int) { g := s*a.KVHeads + h/share; return g * kd, g * vd }
			raw, top := make([]float64, r.S), math.Inf(-1)
			for s := range raw {
				at, _ := kv(s)
				for i, x := range q {
					raw[s] += x * p.k[at+i] * float64(a.Scale)
				}
				if p.visible(h, t, s) {
					top = max(top, p.score(h, t, s, raw[s]))
				}
			}
			sum, prob := 0.0, make([]float64, r.S)
			for s := range prob {
				if p.visible(h, t, s) {
					prob[s] = math.Exp(p.score(h, t, s, raw[s]) - top)
					sum += prob[s]
				}
			}
			p.lse[h*r.T+t] = top + math.Log(sum)
			if sum == 0 {
				p.lse[h*r.T+t] = math.Inf(-1)
				continue
			}
			delta := 0.0
			for s := range prob {
				prob[s] /= sum
				_, av := kv(s)
				for i := range o {
					o[i] += prob[s] * p.v[av+i]
				}
			}
			for i := range o {
				delta += o[i] * do[i]
			}
			for s, w := range prob {
				at, av := kv(s)
				dw := 0.0
				for i := range do {
					dw += do[i] * p.v[av+i]
					p.dv[av+i] += w * do[i]
				}
				ds := w * (dw - delta) * p.scoreGrad(h, t, s, raw[s]) * float64(a.Scale)
				for i := range q {
					dq[i] += ds * p.k[at+i]
					p.dk[at+i] += ds * q[i]
				}
			}
		}
	}
}

// attentionCase is a variant of attention.
type attentionCase struct {
	name     string
	t, s     int
	causal   bool
	window   int
	prefix   int
	softcap  float32
	segments bool
	slopes   bool
	bias     bool
}

var attentionCases = []attentionCase{
	{name: "plain", t: 5, s: 7},
	{name: "causal", t: 130, s: 130, causal: true},
	{name: "longer keys", t: 33, s: 300, causal: true},
	{name: "window", t: 290, s: 290, causal: true, window: 40},
	{name: "prefix", t: 120, s: 120, causal: true, prefix: 50},
	{name: "softcap", t: 70, s: 70, causal: true, softcap: 1.5},
	{name: "segments", t: 200, s: 200, causal: true, segments: true},
	{name: "slopes", t: 100, s: 100, causal: true, slopes: true},
	{name: "bias", t: 65, s: 65, bias: true},
}

// TestAttention holds forward and backward against the definition in float64.
func TestAttention(t *testing.T) {
	for _, level := range cpu.Levels() {
		undo := cpu.SetLevel(level)
		for _, c := range attentionCases {
			for _, half := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/%s/bfloat16 %v", level, c.name, half), func(t *testing.T) { c.test(t, half) })
			}
		}
		undo()
	}
}

func (c *attentionCase) test(t *testing.T, half bool) {
	rng := rand.New(rand.NewPCG(5, 6))
	a := &Attention{Heads: 4, KVHeads: 2, KeyDim: 24, ValueDim: 20, Scale: 0.3, Softcap: c.softcap, Causal: c.causal, Window: c.window, Round: half}
	r := &AttentionRow{T: c.t, S: c.s, Prefix: c.prefix}
	random := func(rows, columns int) (Matrix, []float64) {
		m, wide := Matrix{F32: make([]float32, rows*columns), Row: columns, Col: 1}, make([]float64, rows*columns)
		for i := range wide {
			m.F32[i] = float32(rng.NormFloat64())
			if half {
				m.F32[i] = roundToBF16(m.F32[i])
			}
			wide[i] = float64(m.F32[i])
		}
		if half {
			m.BF16 = make([]uint16, len(wide))
			F32ToBF16(m.BF16, m.F32)
			m.F32 = nil
		}
		return m, wide
	}
	p := &plainAttention{a: a, r: r}
	var dout Matrix
	r.Q, p.q = random(c.t, a.Heads*a.KeyDim)
	r.K, p.k = random(c.s, a.KVHeads*a.KeyDim)
	r.V, p.v = random(c.s, a.KVHeads*a.ValueDim)
	dout, p.dout = random(c.t, a.Heads*a.ValueDim)
	c.masks(rng, a, r)
	p.visible, p.score, p.scoreGrad = c.rules(a, r)
	p.run()

	result := func(rows, columns int) Matrix {
		return Matrix{F32: make([]float32, rows*columns), Row: columns, Col: 1}
	}
	out, lse, scratch := result(c.t, a.Heads*a.ValueDim), make([]float32, a.Heads*c.t), make([]float32, a.ScratchAttention(c.s))
	dq, dk, dv := result(c.t, a.Heads*a.KeyDim), result(c.s, a.KVHeads*a.KeyDim), result(c.s, a.KVHeads*a.ValueDim)
	for g := range a.KVHeads {
		for block := range QueryBlocks(c.t) {
			a.Forward(r, g, block, out, lse, scratch)
		}
	}
	for g := range a.KVHeads {
		a.Backward(r, g, out, dout, lse, dq, dk, dv, scratch)
	}
	tolerance := 2e-6
	if half { // probabilities and their gradients are factors too
		tolerance = 1e-2
	}
	near(t, "out", out.F32, p.out, tolerance)
	near(t, "lse", lse, p.lse, tolerance)
	near(t, "dq", dq.F32, p.dq, 2*tolerance)
	near(t, "dk", dk.F32, p.dk, 2*tolerance)
	near(t, "dv", dv.F32, p.dv, 2*tolerance)
}

// masks adds what the case hides or adds to scores.
func (c *attentionCase) masks(rng *rand.Rand, a *Attention, r *AttentionRow) {
	if c.segments {
		r.Segments = make([]int32, c.s)
		for i := range r.Segments {
			r.Segments[i] = int32(i / 70)
			if i%50 == 49 {
				r.Segments[i] = -1 // padding
			}
		}
	}
	if c.slopes {
		r.Slopes = []float32{0.5, 0.25, 0.1, 0.01}
	}
	if c.bias {
		r.BiasStride, r.Bias = c.t*c.s, make([]float32, a.Heads*c.t*c.s)
		for i := range r.Bias {
			r.Bias[i] = float32(rng.NormFloat64())
		}
	}
}

// rules are the case's mask and scores as their definitions say.
func (c *attentionCase) rules(a *Attention, r *AttentionRow) (visible func(h, q, k int) bool, score, grad func(h, q, k int, x float64) float64) {
	visible = func(_, q, k int) bool {
		at := q + c.s - c.t
		return (!c.causal || k <= at || k < c.prefix) && (c.window == 0 || k > at-c.window) &&
			(!c.segments || r.Segments[q] >= 0 && r.Segments[q] == r.Segments[k])
	}
	score = func(h, q, k int, x float64) float64 {
		if c.softcap > 0 {
			x = float64(c.softcap) * math.Tanh(x/float64(c.softcap))
		}
		if c.slopes {
			x += float64(r.Slopes[h]) * float64(k-(q+c.s-c.t))
		}
		if c.bias {
			x += float64(r.Bias[h*r.BiasStride+q*c.s+k])
		}
		return x
	}
	grad = func(_, _, _ int, x float64) float64 {
		if c.softcap == 0 {
			return 1
		}
		y := math.Tanh(x / float64(c.softcap))
		return 1 - y*y
	}
	return visible, score, grad
}

// near compares with a tolerance relative to the largest magnitude.
func near(t *testing.T, name string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	top := 0.0
	for _, w := range want {
		if !math.IsInf(w, 0) {
			top = max(top, math.Abs(w))
		}
	}
	for i, w := range want {
		if g := float64(got[i]); g != w && !(math.Abs(g-w) <= tolerance*top) {
			t.Fatalf("%s[%d]: want %v, got %v", name, i, w, g)
		}
	}
}

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
