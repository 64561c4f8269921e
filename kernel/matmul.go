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

// Panels of a packed factor hold microM rows of A or microN columns of B, for each value of the inner index in turn. On
// machines with bfloat16 products a panel's elements are pairs of bfloat16 values of neighbouring inner indices.
const (
	microM = 12
	microN = 32
	blockK = 192  // elements: a panel pair of A and B stays in the first-level cache
	tileM  = 96   // rows of A in one task: its packed block stays in the second-level cache
	tileN  = 512  // columns of B in one task
	chunkM = 1536 // rows of A and columns of B that are packed at a time: they stay in the last-level cache
	chunkN = 4096
)

// MatMul computes C[M,N] = A[M,K]·B[K,N], or adds it to C, with sums in float32. The inner index is summed in blocks of
// a fixed size at fixed places, so an element's bytes depend on its own row and column only, never on threads or sizes.
type MatMul struct {
	M, N, K    int
	Accumulate bool
	// Round rounds both factors to bfloat16 before they are multiplied.
	Round bool
	// Bias [N] is added to each row; nil: none.
	Bias []float32

	a, b, c        Matrix
	m0, m1, n0, n1 int // the rows and columns in work
	depth          int // elements of a panel: K, or half of it rounded up
	depthB         int // of a panel of B as it is packed, which may be deeper
	asPairs        bool
	packedA        []float32
	packedB        []float32
	tiles          []float32 // of each worker
	packA          packTask
	packB          packTask
	tiling         tileTask
}

// ScratchMatMul is the number of float32 values that Run needs as scratch for products of at most this size, whose
// factors are rounded to bfloat16 or not.
func ScratchMatMul(m, n, k, workers int, round bool) int {
	g := MatMul{K: k}
	g.layout(round)
	return (ceilTo(min(m, chunkM), microM)+ceilTo(min(n, chunkN), microN))*g.depth + workers*tileM*tileN
}

func ceilTo(n, to int) int { return (n + to - 1) / to * to }

// runner runs a task's indices: a pool, or the calling goroutine.
type runner interface {
	Run(n int, task parallel.Task)
	Workers() int
}

// alone runs tasks on the calling goroutine.
type alone struct{}

// Run implements runner.
func (alone) Run(n int, task parallel.Task) {
	for i := range n {
		task.Do(0, i)
	}
}

// Workers implements runner.
func (alone) Workers() int { return 1 }

// Run multiplies with the pool's workers. It allocates nothing.
func (g *MatMul) Run(pool *parallel.Pool, a, b, c Matrix, scratch []float32) {
	g.run(pool, a, b, c, scratch)
}

// RunAlone multiplies on the calling goroutine; scratch is as for one worker.
func (g *MatMul) RunAlone(a, b, c Matrix, scratch []float32) { g.run(alone{}, a, b, c, scratch) }

func (g *MatMul) run(r runner, a, b, c Matrix, scratch []float32) {
	g.a, g.b, g.c = a, b, c
	g.layout(g.Round || a.BF16 != nil && b.BF16 != nil)
	g.packA, g.packB = packTask{g: g}, packTask{g: g, ofB: true}
	for g.n0 = 0; g.n0 < g.N; g.n0 = g.n1 {
		g.n1 = min(g.n0+chunkN, g.N)
		sizeB := ceilTo(g.n1-g.n0, microN) * g.depth
		g.packedB = scratch[:sizeB]
		r.Run((g.n1-g.n0+microN-1)/microN, &g.packB)
		for g.m0 = 0; g.m0 < g.M; g.m0 = g.m1 {
			g.m1 = min(g.m0+chunkM, g.M)
			sizeA := ceilTo(g.m1-g.m0, microM) * g.depth
			g.packedA, g.tiles = scratch[sizeB:sizeB+sizeA], scratch[sizeB+sizeA:]
			r.Run((g.m1-g.m0+microM-1)/microM, &g.packA)
			g.tiling = newTiling(g, r.Workers())
			r.Run(g.tiling.rows*g.tiling.columns, &g.tiling)
		}
	}
}

// layout decides how factors are packed that are bfloat16 numbers, or not.
func (g *MatMul) layout(halves bool) {
	g.asPairs, g.depth = false, g.K
	if halves && pairs() {
		g.asPairs, g.depth = true, (g.K+1)/2
	}
	g.depthB = g.depth
}

// packLeft packs A, of M rows, for products of factors that are packed apart: layout has been called.
func (g *MatMul) packLeft(dst []float32, a Matrix) {
	for m := 0; m < g.M; m += microM {
		g.pack(dst[m*g.depth:], view(a, m*a.Row), min(microM, g.M-m), microM, a.Row, a.Col)
	}
}

// packRight packs B, of N columns.
func (g *MatMul) packRight(dst []float32, b Matrix) {
	for n := 0; n < g.N; n += microN {
		g.pack(dst[n*g.depth:], view(b, n*b.Col), min(microN, g.N-n), microN, b.Col, b.Row)
	}
}

// deepRight says that B was packed for an inner index of k values, of which the product takes the first K.
func (g *MatMul) deepRight(k int) {
	g.depthB = k
	if g.asPairs {
		g.depthB = (k + 1) / 2
	}
}

// add adds the product of packed factors to C, whose rows follow each other.
func (g *MatMul) add(c, a, b, tile []float32) {
	for m0 := 0; m0 < g.M; m0 += tileM {
		for n0 := 0; n0 < g.N; n0 += tileN {
			m1, n1 := min(m0+tileM, g.M), min(n0+tileN, g.N)
			g.tile(tile, a[m0*g.depth:], b[n0*g.depthB:], m1-m0, n1-n0)
			for m := m0; m < m1; m++ {
				row := c[m*g.N+n0 : m*g.N+n1]
				addRow(row, row, tile[(m-m0)*tileN:])
			}
		}
	}
}

// packTask packs panels of one factor.
type packTask struct {
	g   *MatMul
	ofB bool
}

// Do implements parallel.Task.
func (t *packTask) Do(_, panel int) {
	g := t.g
	if t.ofB {
		n := g.n0 + panel*microN
		g.pack(g.packedB[panel*microN*g.depth:], view(g.b, n*g.b.Col), min(microN, g.n1-n), microN, g.b.Col, g.b.Row)
		return
	}
	m := g.m0 + panel*microM
	g.pack(g.packedA[panel*microM*g.depth:], view(g.a, m*g.a.Row), min(microM, g.m1-m), microM, g.a.Row, g.a.Col)
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

// pack writes a panel of n lines (stride line) of K values (stride step) as groups of width elements; missing lines are
// zero.
func (g *MatMul) pack(dst []float32, m Matrix, n, width, line, step int) {
	done := 0
	if g.asPairs || !g.Round {
		done = packFast(dst, m, n, width, g.K, line, step, g.asPairs)
	}
	if g.asPairs {
		packPairs(dst, m, done, n, width, g.K, line, step)
		return
	}
	for i := range width {
		for k := done; k < g.K; k++ {
			x := float32(0)
			if i < n {
				x = m.value(i*line + k*step)
				if g.Round {
					x = roundToBF16(x)
				}
			}
			dst[k*width+i] = x
		}
	}
}

// packPairs packs values from on as bfloat16 pairs; an odd last one has zero beside it.
func packPairs(dst []float32, m Matrix, from, n, width, depth, line, step int) {
	for i := range width {
		for k := from; k < depth; k += 2 {
			var pair uint32
			if i < n {
				pair = uint32(RoundBF16(m.value(i*line + k*step)))
				if k+1 < depth {
					pair |= uint32(RoundBF16(m.value(i*line+(k+1)*step))) << 16
				}
			}
			dst[k/2*width+i] = math.Float32frombits(pair)
		}
	}
}

// value is an element as float32.
func (m Matrix) value(at int) float32 {
	if m.BF16 != nil {
		return bf16Value(m.BF16[at])
	}
	return m.F32[at]
}

// tileTask computes tiles of C. The panels of A are divided into so many rows of tiles, those of B into columns, as evenly
// as whole panels allow.
type tileTask struct {
	g             *MatMul
	rows, columns int
}

// newTiling cuts the rows and columns in work into the fewest tiles that every worker gets the same number of, where that
// takes no more rows of tiles than there are panels.
func newTiling(g *MatMul, workers int) tileTask {
	rows, columns := (g.m1-g.m0+tileM-1)/tileM, (g.n1-g.n0+tileN-1)/tileN
	t := tileTask{g: g, rows: rows, columns: columns}
	for r := rows; r < rows+workers && r <= (g.m1-g.m0+microM-1)/microM; r++ {
		if r*columns%workers == 0 {
			t.rows = r
			break
		}
	}
	return t
}

// Do implements parallel.Task.
func (t *tileTask) Do(worker, i int) {
	g := t.g
	m0, m1 := even(g.m0, g.m1, microM, i/t.columns, t.rows)
	n0, n1 := even(g.n0, g.n1, microN, i%t.columns, t.columns)
	c := g.tiles[worker*tileM*tileN : (worker+1)*tileM*tileN]
	g.tile(c, g.packedA[(m0-g.m0)*g.depth:], g.packedB[(n0-g.n0)*g.depth:], m1-m0, n1-n0)
	for m := m0; m < m1; m++ {
		g.write(c[(m-m0)*tileN:(m-m0)*tileN+n1-n0], m, n0)
	}
}

// even is part i of n parts of [from, to), which begin at whole panels of the given width.
func even(from, to, width, i, n int) (int, int) {
	panels := (to - from + width - 1) / width
	return from + i*panels/n*width, min(from+(i+1)*panels/n*width, to)
}

// tile sets c, whose rows are tileN apart, to a product of panels, of which the first rows and columns count.
func (g *MatMul) tile(c, packedA, packedB []float32, rows, columns int) {
	for k := 0; k < g.depth; k += blockK {
		depth := min(g.depth-k, blockK)
		for n := 0; n < columns; n += microN {
			b := packedB[n*g.depthB+k*microN:]
			for m := 0; m < rows; m += microM {
				a := packedA[m*g.depth+k*microM:]
				if g.asPairs {
					multiplyPairs(c[m*tileN+n:], a, b, depth, k > 0)
				} else {
					multiply(c[m*tileN+n:], a, b, depth, k > 0)
				}
			}
		}
	}
	if g.depth == 0 {
		clear(c)
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
		if step == 1 && !g.Accumulate {
			f32ToBF16(c[:len(row)], row)
			return
		}
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
