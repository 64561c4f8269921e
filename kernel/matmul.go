package kernel

import (
	"math"

	"danlu/internal/parallel"
)

// Matrix views float32 or bfloat16 numbers as rows and columns with any strides, in elements: a transposed matrix is a
// view with the strides swapped. Exactly one of F32 and BF16 is set.
type Matrix struct {
	F32      []float32
	BF16     []uint16
	Row, Col int
}

// Panels of a packed factor hold microM rows of A or microN columns of B, for blockK values of the inner index.
const (
	microM = 12
	microN = 32
	blockK = 256  // a panel pair of A and B stays in the first-level cache
	tileM  = 96   // rows of A in one task: its packed block stays in the second-level cache
	tileN  = 512  // columns of B in one task
	chunkN = 4096 // columns of B that are packed at a time: they stay in the last-level cache
)

// MatMul computes C[M,N] = A[M,K]·B[K,N], or adds it to C, with sums in float32. The inner index is summed in blocks of
// blockK at fixed places, so an element's bytes depend on its own row and column only, never on threads or sizes.
type MatMul struct {
	M, N, K    int
	Accumulate bool
	// Round rounds both factors to bfloat16 before they are multiplied.
	Round bool
	// Bias [N] is added to each row; nil: none.
	Bias []float32

	a, b, c Matrix
	n0, n1  int       // the columns in work
	packed  []float32 // panels of B
	private []float32 // of each worker: a packed block of A and a tile of C
	packing packTask
	tiling  tileTask
}

// ScratchMatMul is the number of float32 values that Run needs as scratch for products of at most this size.
func ScratchMatMul(n, k, workers int) int {
	return roundUp(min(n, chunkN), microN)*k + workers*(tileM*blockK+tileM*tileN)
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// Run multiplies with the pool's workers. It allocates nothing.
func (g *MatMul) Run(pool *parallel.Pool, a, b, c Matrix, scratch []float32) {
	g.a, g.b, g.c = a, b, c
	g.packing.g, g.tiling.g = g, g
	for g.n0 = 0; g.n0 < g.N; g.n0 = g.n1 {
		g.n1 = min(g.n0+chunkN, g.N)
		size := roundUp(g.n1-g.n0, microN) * g.K
		g.packed, g.private = scratch[:size], scratch[size:]
		pool.Run((g.n1-g.n0+microN-1)/microN, &g.packing)
		pool.Run(g.tiling.count(), &g.tiling)
	}
}

// RunAlone multiplies on the calling goroutine; scratch is as for one worker.
func (g *MatMul) RunAlone(a, b, c Matrix, scratch []float32) {
	g.a, g.b, g.c = a, b, c
	g.packing.g, g.tiling.g = g, g
	for g.n0 = 0; g.n0 < g.N; g.n0 = g.n1 {
		g.n1 = min(g.n0+chunkN, g.N)
		size := roundUp(g.n1-g.n0, microN) * g.K
		g.packed, g.private = scratch[:size], scratch[size:]
		for i := range (g.n1 - g.n0 + microN - 1) / microN {
			g.packing.Do(0, i)
		}
		for i := range g.tiling.count() {
			g.tiling.Do(0, i)
		}
	}
}

// packTask packs panels of B, each for the whole inner index.
type packTask struct{ g *MatMul }

// Do implements parallel.Task.
func (t *packTask) Do(_, panel int) {
	g := t.g
	n := g.n0 + panel*microN
	packPanel(g.packed[panel*microN*g.K:], view(g.b, n*g.b.Col), min(microN, g.n1-n), microN, g.K, g.b.Col, g.b.Row, g.Round)
}

// view is the matrix from an element on.
func view(m Matrix, at int) Matrix {
	if m.BF16 != nil {
		m.BF16 = m.BF16[at:]
	} else {
		m.F32 = m.F32[at:]
	}
	return m
}

// packPanel copies n lines (stride line) of depth values (stride step) as depth groups of width values; missing lines
// are zero.
func packPanel(dst []float32, m Matrix, n, width, depth, line, step int, roundBF16 bool) {
	for i := range width {
		if i >= n {
			for k := range depth {
				dst[k*width+i] = 0
			}
			continue
		}
		switch {
		case m.BF16 != nil:
			src := m.BF16[i*line:]
			for k := range depth {
				dst[k*width+i] = bf16Value(src[k*step])
			}
		case roundBF16:
			src := m.F32[i*line:]
			for k := range depth {
				dst[k*width+i] = roundToBF16(src[k*step])
			}
		default:
			src := m.F32[i*line:]
			for k := range depth {
				dst[k*width+i] = src[k*step]
			}
		}
	}
}

// tileTask computes tiles of C.
type tileTask struct{ g *MatMul }

func (t *tileTask) columns() int { return (t.g.n1 - t.g.n0 + tileN - 1) / tileN }

func (t *tileTask) count() int { return (t.g.M + tileM - 1) / tileM * t.columns() }

// Do implements parallel.Task.
func (t *tileTask) Do(worker, i int) {
	g := t.g
	m0, n0 := i/t.columns()*tileM, g.n0+i%t.columns()*tileN
	m1, n1 := min(m0+tileM, g.M), min(n0+tileN, g.n1)
	own := g.private[worker*(tileM*blockK+tileM*tileN):]
	a, c := own[:tileM*blockK], own[tileM*blockK:tileM*blockK+tileM*tileN]
	for k := 0; k < g.K; k += blockK {
		depth := min(g.K-k, blockK)
		for m := m0; m < m1; m += microM {
			packPanel(a[(m-m0)*depth:], view(g.a, m*g.a.Row+k*g.a.Col), min(microM, m1-m), microM, depth, g.a.Row, g.a.Col, g.Round)
		}
		for n := n0; n < n1; n += microN {
			b := g.packed[(n-g.n0)*g.K+k*microN:]
			for m := m0; m < m1; m += microM {
				multiply(c[(m-m0)*tileN+n-n0:], a[(m-m0)*depth:], b, depth, k > 0)
			}
		}
	}
	if g.K == 0 {
		clear(c)
	}
	for m := m0; m < m1; m++ {
		g.write(c[(m-m0)*tileN:(m-m0)*tileN+n1-n0], m, n0)
	}
}

// multiplyPortable sets a microtile of c, whose rows are tileN apart, to the product of a panel of A and a panel of B, or
// adds it.
func multiplyPortable(c, a, b []float32, depth int, accumulate bool) {
	var acc [microM * microN]float32
	for k := range depth {
		x, y := a[k*microM:(k+1)*microM], b[k*microN:(k+1)*microN]
		for i, xi := range x {
			row := acc[i*microN : (i+1)*microN]
			for j, yj := range y {
				row[j] += xi * yj
			}
		}
	}
	for i := range microM {
		row := c[i*tileN : i*tileN+microN]
		for j, x := range acc[i*microN : (i+1)*microN] {
			if accumulate {
				x += row[j]
			}
			row[j] = x
		}
	}
}

// write puts a row of results into C.
func (g *MatMul) write(row []float32, m, n int) {
	at, step := m*g.c.Row+n*g.c.Col, g.c.Col
	if g.Bias != nil {
		addRow(row, row, g.Bias[n:n+len(row)])
	}
	if g.c.BF16 != nil {
		c := g.c.BF16[at:]
		for j, x := range row {
			if g.Accumulate {
				x += bf16Value(c[j*step])
			}
			c[j*step] = RoundBF16(x)
		}
		return
	}
	c := g.c.F32[at:]
	switch {
	case step == 1 && g.Accumulate:
		addRow(c[:len(row)], c[:len(row)], row)
	case step == 1:
		copy(c, row)
	default:
		for j, x := range row {
			if g.Accumulate {
				x += c[j*step]
			}
			c[j*step] = x
		}
	}
}

func bf16Value(x uint16) float32 { return math.Float32frombits(uint32(x) << 16) }
