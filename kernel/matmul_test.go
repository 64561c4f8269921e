package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"danlu/internal/cpu"
	"danlu/internal/parallel"
)

// matrix makes a random m x n matrix with guard values around it and returns a view, transposed in memory when flip.
func matrix(rng *rand.Rand, m, n int, flip, half bool) Matrix {
	row, col := n+3, 1
	size := m * (n + 3)
	if flip {
		row, col, size = 1, m+1, n*(m+1)
	}
	x := make([]float32, size+8)
	for i := range x {
		x[i] = rng.Float32()*2 - 1
	}
	if !half {
		return Matrix{F32: x, Row: row, Col: col}
	}
	b := make([]uint16, len(x))
	F32ToBF16(b, x)
	return Matrix{BF16: b, Row: row, Col: col}
}

func (m Matrix) at(i, j int) float64 {
	k := i*m.Row + j*m.Col
	if m.BF16 != nil {
		return float64(bf16Value(m.BF16[k]))
	}
	return float64(m.F32[k])
}

func TestMatMul(t *testing.T) {
	pool := parallel.NewPool(2)
	defer pool.Close()
	for _, level := range cpu.Levels() {
		undo := cpu.SetLevel(level)
		rng := rand.New(rand.NewPCG(1, 2))
		for _, s := range [][3]int{{1, 1, 1}, {13, 33, 7}, {12, 32, 256}, {25, 515, 261}, {13, 64, 64}, {24, 96, 129}, {5, 4100, 9}, {100, 1, 300}, {3, 5, 0}} {
			m, n, k := s[0], s[1], s[2]
			for variant := range 16 {
				a := matrix(rng, m, k, variant&1 != 0, variant&8 != 0)
				b := matrix(rng, k, n, variant&2 != 0, variant&4 != 0)
				c := matrix(rng, m, n, variant&4 != 0, variant&2 != 0)
				g := MatMul{M: m, N: n, K: k, Accumulate: variant&1 != 0, Round: variant&8 != 0}
				if variant&4 != 0 {
					g.Bias = make([]float32, n)
					for i := range g.Bias {
						g.Bias[i] = rng.Float32()
					}
				}
				before := Matrix{F32: append([]float32(nil), c.F32...), BF16: append([]uint16(nil), c.BF16...), Row: c.Row, Col: c.Col}
				if c.BF16 == nil {
					before.BF16 = nil
				}
				g.Run(pool, a, b, c, make([]float32, ScratchMatMul(m, n, k, pool.Workers(), g.Round)))
				for i := range m {
					for j := range n {
						want, size := 0.0, 0.0
						for l := range k {
							x, y := a.at(i, l), b.at(l, j)
							if g.Round {
								x, y = float64(roundToBF16(float32(x))), float64(roundToBF16(float32(y)))
							}
							want += x * y
							size += math.Abs(x * y)
						}
						if g.Bias != nil {
							want += float64(g.Bias[j])
						}
						if g.Accumulate {
							want += before.at(i, j)
						}
						// A sum of k products in float32 errs by at most k+2 roundings of the sum of magnitudes.
						limit := float64(k+2)*0x1p-24*(size+2) + 1e-7
						if c.BF16 != nil {
							limit += math.Abs(want) * 0x1p-8
						}
						if d := math.Abs(c.at(i, j) - want); !(d <= limit) {
							t.Fatalf("%v %v variant %d: C[%d,%d] = %v, want %v", level, s, variant, i, j, c.at(i, j), want)
						}
						before.put(i, j, c)
					}
				}
				for i := range before.F32 {
					if before.F32[i] != c.F32[i] {
						t.Fatalf("%v %v: a value outside of C was written", level, s)
					}
				}
			}
		}
		undo()
	}
}

// put copies an element of c.
func (m Matrix) put(i, j int, c Matrix) {
	if m.BF16 != nil {
		m.BF16[i*m.Row+j*m.Col] = c.BF16[i*m.Row+j*m.Col]
		return
	}
	m.F32[i*m.Row+j*m.Col] = c.F32[i*m.Row+j*m.Col]
}

func TestMatMulThreads(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const m, n, k = 150, 700, 520
	a, b := matrix(rng, m, k, false, false), matrix(rng, k, n, true, false)
	var first []float32
	for threads := 1; threads <= 3; threads++ {
		pool := parallel.NewPool(threads)
		c := Matrix{F32: make([]float32, m*n), Row: n, Col: 1}
		g := MatMul{M: m, N: n, K: k}
		g.Run(pool, a, b, c, make([]float32, ScratchMatMul(m, n, k, threads, false)))
		pool.Close()
		if first == nil {
			first = c.F32
			continue
		}
		for i := range first {
			if first[i] != c.F32[i] {
				t.Fatalf("%d threads: element %d is %v, with one thread %v", threads, i, c.F32[i], first[i])
			}
		}
	}
}

func BenchmarkMatMul(b *testing.B) {
	pool := parallel.NewPool(2)
	defer pool.Close()
	for _, s := range [][3]int{{1024, 1024, 1024}, {2048, 576, 1536}, {2048, 576, 49152}, {1024, 576, 192}, {1024, 576, 576}, {1024, 1536, 576}, {576, 1024, 576}} {
		m, k, n := s[0], s[1], s[2]
		x, w, c := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
		for _, round := range []bool{false, true} {
			name := "f32"
			if round {
				name = "bf16"
			}
			b.Run(fmt.Sprintf("%s/%dx%dx%d", name, m, k, n), func(b *testing.B) {
				g := MatMul{M: m, N: n, K: k, Round: round}
				scratch := make([]float32, ScratchMatMul(m, n, k, 2, round))
				for b.Loop() {
					g.Run(pool, Matrix{F32: x, Row: k, Col: 1}, Matrix{F32: w, Row: 1, Col: k}, Matrix{F32: c, Row: n, Col: 1}, scratch)
				}
				b.ReportMetric(2*float64(m)*float64(n)*float64(k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
