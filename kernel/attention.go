package kernel

import "math"

// Attention is scaled dot-product attention with grouped keys and values; graph.Attention says what the fields mean.
// Scores are formed in tiles of tokensQ queries and tokensK keys at fixed places, with the softmax carried from tile to
// tile, so a query's bytes depend on its own keys only.
type Attention struct {
	Heads, KVHeads, KeyDim, ValueDim int
	Scale, Softcap                   float32
	Causal                           bool
	Window                           int  // 0: none
	Round                            bool // factors are rounded to bfloat16
}

// AttentionRow is one sequence of a batch. Matrices have a row per token; head h starts at column h·KeyDim (or ValueDim).
type AttentionRow struct {
	T, S       int
	Q, K, V    Matrix
	Segments   []int32   // nil: all tokens see each other
	Prefix     int       // keys before it are visible to all
	Slopes     []float32 // nil: no ALiBi
	Bias       []float32 // nil: none; of head h from h·BiasStride, [T, S]
	BiasStride int
}

const (
	tokensQ = 96
	tokensK = 256
)

// QueryBlocks is the number of tiles of t queries.
func QueryBlocks(t int) int { return (t + tokensQ - 1) / tokensQ }

// ScratchAttention is the number of float32 values that one call of Forward or Backward needs.
func (a *Attention) ScratchAttention(s int) int {
	tiles := 3 * tileM * tileN
	rows := a.Heads / a.KVHeads * tokensQ * (a.ValueDim + a.KeyDim + 2)
	factors := ceilTo(tokensK, microM)*tokensQ + (tokensK+2*tokensQ)*ceilTo(a.KeyDim, microN) + (tokensK+2*tokensQ)*ceilTo(a.ValueDim, microN)
	keys := ceilTo(s, tokensK) * (2*ceilTo(a.KeyDim, microN) + a.ValueDim)
	return tiles + rows + factors + keys + s*(a.KeyDim+a.ValueDim) + tokensQ*(a.KeyDim+a.ValueDim+1) + a.ValueDim
}

// cut takes n values off the scratch.
func cut(scratch *[]float32, n int) []float32 {
	x := (*scratch)[:n]
	*scratch = (*scratch)[n:]
	return x
}

// head is a matrix's columns of one head, from a token on.
func head(m Matrix, token, column int) Matrix { return view(m, token*m.Row+column*m.Col) }

func dense(x []float32, columns int) Matrix { return Matrix{F32: x, Row: columns, Col: 1} }

func flip(m Matrix) Matrix { m.Row, m.Col = m.Col, m.Row; return m }

// keys is the range of keys that queries [q0, q1) can see.
func (a *Attention) keys(r *AttentionRow, q0, q1 int) (lo, hi int) {
	hi = r.S
	if a.Causal {
		hi = min(r.S, max(q1+r.S-r.T, r.Prefix))
	}
	if a.Window > 0 {
		lo = max(0, q0+r.S-r.T-a.Window+1)
	}
	return lo / tokensK * tokensK, hi
}

// product is a product of factors that are packed apart from it. Those of queries and keys may be bfloat16 both.
func (a *Attention) product(m, n, k int, halves bool) MatMul {
	g := MatMul{M: m, N: n, K: k, Round: a.Round}
	g.layout(a.Round || halves)
	return g
}

// scores is the product of queries and keys.
func (a *Attention) scores(r *AttentionRow, nq, nk int) MatMul {
	return a.product(nq, nk, a.KeyDim, r.Q.BF16 != nil && r.K.BF16 != nil)
}

// seen finishes a row of products of query q with keys k0, k0+1, ...: it returns the leading ones, behind which no key is
// seen; hidden ones among them are -Inf. Multiplied by factor, which is positive, they are scores.
func (a *Attention) seen(r *AttentionRow, h, q, k0 int, row []float32) (scores []float32, factor float32) {
	if a.Causal {
		row = row[:min(max(0, max(q+r.S-r.T+1, r.Prefix)-k0), len(row))]
	}
	factor = a.Scale
	if !(a.Scale > 0) || a.Softcap != 0 || r.Slopes != nil || r.Bias != nil {
		scaleRow(row, row, a.Scale)
		factor = 1
	}
	if a.Softcap != 0 {
		Softcap(row, row, a.Softcap)
	}
	a.mask(r, h, q, k0, row)
	return row, factor
}

// mask adds biases to a row of scores of keys k0, k0+1, ... and hides what lies outside of query q's window or segment.
func (a *Attention) mask(r *AttentionRow, h, q, k0 int, row []float32) {
	at := q + r.S - r.T
	if r.Slopes != nil {
		s := r.Slopes[h]
		for j := range row {
			row[j] += s * float32(k0+j-at)
		}
	}
	if r.Bias != nil {
		addRow(row, row, r.Bias[h*r.BiasStride+q*r.S+k0:][:len(row)])
	}
	hidden := float32(math.Inf(-1))
	if a.Window > 0 {
		Fill(row[:min(max(0, at-a.Window+1-k0), len(row))], hidden)
	}
	if r.Segments != nil {
		if own := r.Segments[q]; own < 0 {
			Fill(row, hidden)
		} else {
			maskRow(row, r.Segments[k0:], own)
		}
	}
}

func maskRowPortable(x []float32, segments []int32, own int32) {
	for j := range x {
		if segments[j] != own {
			x[j] = float32(math.Inf(-1))
		}
	}
}

// Forward attends from the queries of a tile of the heads that share KV head g: out gets a row of ValueDim per query and
// head and lse, [Heads, T], the logsumexp of each. A query that sees nothing gets zeros and -Inf.
func (a *Attention) Forward(r *AttentionRow, g, block int, out Matrix, lse []float32, scratch []float32) {
	q0 := block * tokensQ
	q1 := min(q0+tokensQ, r.T)
	nq, kd, vd := q1-q0, a.KeyDim, a.ValueDim
	share := a.Heads / a.KVHeads
	tile, sums := cut(&scratch, tileM*tileN), cut(&scratch, tileM*tileN)
	acc := cut(&scratch, share*nq*vd)
	top, sum := cut(&scratch, share*nq), cut(&scratch, share*nq)
	queries, probs := cut(&scratch, share*tokensQ*kd), cut(&scratch, tokensQ*tokensK)
	keys, values := cut(&scratch, tokensK*kd), cut(&scratch, tokensK*ceilTo(vd, microN))
	Fill(acc, 0)
	Fill(sum, 0)
	Fill(top, float32(math.Inf(-1)))
	for i := range share {
		mm := a.scores(r, nq, tokensK)
		mm.packLeft(queries[i*tokensQ*kd:], head(r.Q, q0, (g*share+i)*kd))
	}
	lo, hi := a.keys(r, q0, q1)
	for k0 := lo; k0 < hi; k0 += tokensK {
		nk := min(k0+tokensK, hi) - k0
		qk, pv := a.scores(r, nq, nk), a.product(nq, vd, nk, false)
		qk.packRight(keys, flip(head(r.K, k0, g*kd)))
		pv.packRight(values, head(r.V, k0, g*vd))
		for i := range share {
			h := g*share + i
			qk.tile(tile, queries[i*tokensQ*kd:], keys, nq, nk)
			for j := range nq {
				at := i*nq + j
				row := tile[j*tileN:][:nk]
				scores, c := a.seen(r, h, q0+j, k0, row)
				m := max32(top[at], c*maxOfRow(scores))
				if math.IsInf(float64(m), -1) {
					Fill(row, 0)
					continue
				}
				if m > top[at] {
					keep := exp32(top[at] - m) // 0 at first
					sum[at] *= keep
					scaleRow(acc[at*vd:(at+1)*vd], acc[at*vd:(at+1)*vd], keep)
					top[at] = m
				}
				sum[at] += expScaledRow(scores, c, m)
				Fill(row[len(scores):], 0)
			}
			pv.packLeft(probs, dense(tile, tileN))
			pv.add(acc[i*nq*vd:], probs, values, sums)
		}
	}
	for i := range share {
		h := g*share + i
		for j := range nq {
			at := i*nq + j
			row := acc[at*vd : (at+1)*vd]
			l := float32(math.Inf(-1))
			if sum[at] != 0 { // NaN too
				scaleRow(row, row, 1/sum[at])
				l = top[at] + log32(sum[at])
			}
			lse[h*r.T+q0+j] = l
			putRow(out, q0+j, h*vd, row)
		}
	}
}

// putRow writes a row into columns of a matrix.
func putRow(m Matrix, row, column int, x []float32) {
	at := row*m.Row + column
	if m.BF16 != nil {
		f32ToBF16(m.BF16[at:at+len(x)], x)
	} else {
		copy(m.F32[at:], x)
	}
}

// getRow reads columns of a row into x.
func getRow(x []float32, m Matrix, row, column int) {
	at := row*m.Row + column
	if m.BF16 != nil {
		bf16ToF32(x, m.BF16[at:at+len(x)])
	} else {
		copy(x, m.F32[at:])
	}
}

// Backward is the gradient of Forward for all queries of the heads that share KV head g: dq, dk and dv are laid out like
// q, k and v; out and dout like Forward's out; lse is [Heads, T].
func (a *Attention) Backward(r *AttentionRow, g int, out, dout Matrix, lse []float32, dq, dk, dv Matrix, scratch []float32) {
	kd, vd := a.KeyDim, a.ValueDim
	p, ds, sums := cut(&scratch, tileM*tileN), cut(&scratch, tileM*tileN), cut(&scratch, tileM*tileN)
	sumQ, do := cut(&scratch, tokensQ*kd), cut(&scratch, tokensQ*vd)
	o, delta := cut(&scratch, vd), cut(&scratch, tokensQ)
	sumK, sumV := cut(&scratch, r.S*kd), cut(&scratch, r.S*vd)
	queries, queriesRight := cut(&scratch, tokensQ*kd), cut(&scratch, tokensQ*ceilTo(kd, microN))
	dos, dosRight := cut(&scratch, tokensQ*vd), cut(&scratch, tokensQ*ceilTo(vd, microN))
	left := cut(&scratch, ceilTo(tokensK, microM)*tokensQ)
	keys, keysRight, values := scratch, scratch[ceilTo(r.S, tokensK)*kd:], scratch[ceilTo(r.S, tokensK)*(kd+ceilTo(kd, microN)):]
	for k0 := 0; k0 < r.S; k0 += tokensK {
		nk := min(tokensK, r.S-k0)
		qk, dov, dsk := a.scores(r, tokensQ, nk), a.product(tokensQ, nk, vd, false), a.product(tokensQ, kd, nk, false)
		k, v := head(r.K, k0, g*kd), head(r.V, k0, g*vd)
		qk.packRight(keys[k0*kd:], flip(k))
		dov.packRight(values[k0*vd:], flip(v))
		dsk.packRight(keysRight[k0*ceilTo(kd, microN):], k)
	}
	Fill(sumK, 0)
	Fill(sumV, 0)
	share := a.Heads / a.KVHeads
	for h := g * share; h < (g+1)*share; h++ {
		for q0 := 0; q0 < r.T; q0 += tokensQ {
			q1 := min(q0+tokensQ, r.T)
			nq := q1 - q0
			for i := range nq {
				row := do[i*vd : (i+1)*vd]
				getRow(row, dout, q0+i, h*vd)
				getRow(o, out, q0+i, h*vd)
				delta[i] = dotRow(row, o)
			}
			Fill(sumQ[:nq*kd], 0)
			q := head(r.Q, q0, h*kd)
			qk, dov := a.scores(r, nq, tokensK), a.product(nq, tokensK, vd, false)
			dsq, pdo := a.product(tokensK, kd, nq, false), a.product(tokensK, vd, nq, false)
			qk.packLeft(queries, q)
			dov.packLeft(dos, dense(do, vd))
			dsq.packRight(queriesRight, q)
			pdo.packRight(dosRight, dense(do, vd))
			lo, hi := a.keys(r, q0, q1)
			for k0 := lo; k0 < hi; k0 += tokensK {
				nk := min(k0+tokensK, hi) - k0
				qk.tile(p, queries, keys[k0*kd:], nq, nk)
				dov.tile(ds, dos, values[k0*vd:], nq, nk)
				for i := range nq {
					a.gradRow(r, h, q0+i, k0, p[i*tileN:][:nk], ds[i*tileN:][:nk], lse[h*r.T+q0+i], delta[i])
				}
				dsk := a.product(nq, kd, nk, false)
				dsk.packLeft(left, dense(ds, tileN))
				dsk.deepRight(min(tokensK, r.S-k0))
				dsk.add(sumQ, left, keysRight[k0*ceilTo(kd, microN):], sums)
				dsq.M, pdo.M = nk, nk
				dsq.packLeft(left, flip(dense(ds, tileN)))
				dsq.add(sumK[k0*kd:], left, queriesRight, sums)
				pdo.packLeft(left, flip(dense(p, tileN)))
				pdo.add(sumV[k0*vd:], left, dosRight, sums)
			}
			for i := range nq {
				putRow(dq, q0+i, h*kd, sumQ[i*kd:(i+1)*kd])
			}
		}
	}
	for s := range r.S {
		putRow(dk, s, g*kd, sumK[s*kd:(s+1)*kd])
		putRow(dv, s, g*vd, sumV[s*vd:(s+1)*vd])
	}
}

// gradRow turns products of query q with keys k0, k0+1, ... into probabilities and the cotangents of probabilities into
// those of the products.
func (a *Attention) gradRow(r *AttentionRow, h, q, k0 int, p, ds []float32, lse, delta float32) {
	scores, c := a.seen(r, h, q, k0, p)
	n := len(scores)
	if math.IsInf(float64(lse), -1) {
		n = 0
	}
	Fill(p[n:], 0)
	Fill(ds[n:], 0)
	if a.Softcap == 0 {
		probGradRow(p[:n], ds[:n], c, lse, delta, a.Scale)
		return
	}
	for j, s := range p[:n] {
		t := s / a.Softcap
		prob := exp32(s - lse)
		p[j] = prob
		ds[j] = prob * (ds[j] - delta) * a.Scale * (1 - t*t)
		if prob == 0 {
			ds[j] = 0 // hidden keys, whose score is -Inf
		}
	}
}

// expScaledRowPortable replaces x by exp(c·x - m) and returns the sum.
func expScaledRowPortable(x []float32, c, m float32) float32 {
	scaleRow(x, x, c)
	return expSubRow(x, x, m)
}

// probGradRowPortable replaces p by exp(c·p - lse) and ds by p·(ds - delta)·scale.
func probGradRowPortable(p, ds []float32, c, lse, delta, scale float32) {
	expScaledRowPortable(p, c, lse)
	addScalarRow(ds, ds, -delta)
	mulRow(ds, ds, p)
	scaleRow(ds, ds, scale)
}
