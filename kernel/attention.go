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
	tile := 2 * tokensQ * tokensK
	rows := tokensQ * (2*a.ValueDim + a.KeyDim + 4)
	side := max(tokensK, a.KeyDim, a.ValueDim)
	product := ScratchMatMul(side, side, side, 1)
	return tile + rows + product + s*(a.KeyDim+a.ValueDim)
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

// scores fills the tile [q1-q0, k1-k0] with masked scores; unseen keys get -Inf.
func (a *Attention) scores(r *AttentionRow, h, q0, q1, k0, k1 int, tile, scratch []float32) {
	g := h / (a.Heads / a.KVHeads)
	nq, nk := q1-q0, k1-k0
	mm := MatMul{M: nq, N: nk, K: a.KeyDim, Round: a.Round}
	mm.RunAlone(head(r.Q, q0, h*a.KeyDim), flip(head(r.K, k0, g*a.KeyDim)), dense(tile, nk), scratch)
	for i := range nq {
		row := tile[i*nk : (i+1)*nk]
		if a.Scale != 1 {
			scaleRow(row, row, a.Scale)
		}
		if a.Softcap != 0 {
			Softcap(row, row, a.Softcap)
		}
		a.mask(r, h, q0+i, k0, row)
	}
}

// mask adds biases to a row of scores of keys k0, k0+1, ... and hides what query q does not see.
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
	if a.Causal {
		if from := max(0, max(at+1, r.Prefix)-k0); from < len(row) {
			Fill(row[from:], hidden)
		}
	}
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

// Forward attends from the queries of tile block of head h: out gets a row of ValueDim per query (rows outRow apart) and
// lse the logsumexp of each query of the head, [T]. A query that sees nothing gets zeros and -Inf.
func (a *Attention) Forward(r *AttentionRow, h, block int, out Matrix, lse []float32, scratch []float32) {
	q0 := block * tokensQ
	q1 := min(q0+tokensQ, r.T)
	nq, vd := q1-q0, a.ValueDim
	tile := cut(&scratch, tokensQ*tokensK)
	acc := cut(&scratch, tokensQ*vd)[:nq*vd]
	top, sum := cut(&scratch, tokensQ)[:nq], cut(&scratch, tokensQ)[:nq]
	Fill(acc, 0)
	Fill(sum, 0)
	Fill(top, float32(math.Inf(-1)))
	g := h / (a.Heads / a.KVHeads)
	lo, hi := a.keys(r, q0, q1)
	for k0 := lo; k0 < hi; k0 += tokensK {
		k1 := min(k0+tokensK, hi)
		nk := k1 - k0
		a.scores(r, h, q0, q1, k0, k1, tile, scratch)
		for i := range nq {
			row := tile[i*nk : (i+1)*nk]
			m := max32(top[i], maxOfRow(row))
			if math.IsInf(float64(m), -1) {
				Fill(row, 0)
				continue
			}
			if m > top[i] {
				keep := exp32(top[i] - m) // 0 at first
				sum[i] *= keep
				scaleRow(acc[i*vd:(i+1)*vd], acc[i*vd:(i+1)*vd], keep)
				top[i] = m
			}
			sum[i] += expSubRow(row, row, m)
		}
		mm := MatMul{M: nq, N: vd, K: nk, Accumulate: true, Round: a.Round}
		mm.RunAlone(dense(tile, nk), head(r.V, k0, g*vd), dense(acc, vd), scratch)
	}
	for i := range nq {
		row := acc[i*vd : (i+1)*vd]
		if sum[i] > 0 {
			scaleRow(row, row, 1/sum[i])
			lse[q0+i] = top[i] + log32(sum[i])
		} else {
			lse[q0+i] = float32(math.Inf(-1))
		}
		putRow(out, q0+i, h*vd, row)
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
	p, ds := cut(&scratch, tokensQ*tokensK), cut(&scratch, tokensQ*tokensK)
	sumQ, do := cut(&scratch, tokensQ*kd), cut(&scratch, tokensQ*vd)
	o, delta := cut(&scratch, vd), cut(&scratch, tokensQ)
	sumK, sumV := cut(&scratch, r.S*kd), cut(&scratch, r.S*vd)
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
			lo, hi := a.keys(r, q0, q1)
			for k0 := lo; k0 < hi; k0 += tokensK {
				k1 := min(k0+tokensK, hi)
				nk := k1 - k0
				a.scores(r, h, q0, q1, k0, k1, p, scratch)
				mm := MatMul{M: nq, N: nk, K: vd, Round: a.Round}
				mm.RunAlone(dense(do, vd), flip(head(r.V, k0, g*vd)), dense(ds, nk), scratch)
				for i := range nq {
					a.gradRow(p[i*nk:(i+1)*nk], ds[i*nk:(i+1)*nk], lse[h*r.T+q0+i], delta[i])
				}
				q := head(r.Q, q0, h*kd)
				mm = MatMul{M: nq, N: kd, K: nk, Accumulate: true, Round: a.Round}
				mm.RunAlone(dense(ds, nk), head(r.K, k0, g*kd), dense(sumQ, kd), scratch)
				mm = MatMul{M: nk, N: kd, K: nq, Accumulate: true, Round: a.Round}
				mm.RunAlone(flip(dense(ds, nk)), q, dense(sumK[k0*kd:], kd), scratch)
				mm = MatMul{M: nk, N: vd, K: nq, Accumulate: true, Round: a.Round}
				mm.RunAlone(flip(dense(p, nk)), dense(do, vd), dense(sumV[k0*vd:], vd), scratch)
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

// gradRow turns scores into probabilities and the cotangents of probabilities into those of raw scores.
func (a *Attention) gradRow(p, ds []float32, lse, delta float32) {
	if math.IsInf(float64(lse), -1) {
		Fill(p, 0)
		Fill(ds, 0)
		return
	}
	if a.Softcap != 0 {
		for j, s := range p {
			t := s / a.Softcap
			prob := exp32(s - lse)
			p[j] = prob
			ds[j] = prob * (ds[j] - delta) * a.Scale * (1 - t*t)
			if prob == 0 {
				ds[j] = 0 // hidden keys, whose score is -Inf
			}
		}
		return
	}
	expSubRow(p, p, lse)
	addScalarRow(ds, ds, -delta)
	mulRow(ds, ds, p)
	scaleRow(ds, ds, a.Scale)
}
