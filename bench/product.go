package bench

import (
	"math/rand/v2"
	"time"

	"danlu/dtype"
	"danlu/internal/parallel"
	"danlu/kernel"
	"danlu/quant"
)

// randomRows are n numbers around zero.
func randomRows(n int) []float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, n)
	for i := range x {
		x[i] = rng.Float32() - 0.5
	}
	return x
}

// Product is the best rate of at least half a second of X·Wᵀ with a weight matrix [N, K] of type d, in GFLOP/s. Weights
// other than float32 and bfloat16 are kept packed; beside block types activations are rounded to 8 bits.
func Product(pool *parallel.Pool, m, k, n int, d dtype.DType) (float64, error) {
	if d.IsQuantized() || d == dtype.F16 {
		return packedProduct(pool, m, k, n, d)
	}
	x, w, c := randomRows(m*k), randomRows(n*k), make([]float32, m*n)
	g := kernel.MatMul{M: m, N: n, K: k, Round: d == dtype.BF16}
	scratch := make([]float32, kernel.ScratchMatMul(m, n, k, pool.Workers(), g.Round))
	return bestRate(m, k, n, func() {
		g.Run(pool, kernel.Matrix{F32: x, Row: k, Col: 1}, kernel.Matrix{F32: w, Row: 1, Col: k}, kernel.Matrix{F32: c, Row: n, Col: 1}, scratch)
	}), nil
}

func packedProduct(pool *parallel.Pool, m, k, n int, d dtype.DType) (float64, error) {
	if err := kernel.CheckPack(d, k); err != nil {
		return 0, err
	}
	x, c := randomRows(m*k), make([]float32, m*n)
	stored := make([]byte, d.Bytes(n*k))
	if err := quant.Quantize(d, stored, randomRows(n*k)); err != nil {
		return 0, err
	}
	w := make([]byte, kernel.PackedBytes(d, n, k))
	kernel.Pack(d, w, stored, n, k, 0, kernel.Panels(n))
	scratch := make([]float32, kernel.ScratchPacked(m, k, pool.Workers()))
	g := kernel.PackedMul{Type: d, In: k, Out: n, M: m, Levels: true}
	return bestRate(m, k, n, func() {
		g.Run(pool, kernel.Matrix{F32: x, Row: k, Col: 1}, w, kernel.Matrix{F32: c, Row: n, Col: 1}, scratch)
	}), nil
}

// bestRate is the best rate of a product in at least half a second, in GFLOP/s.
func bestRate(m, k, n int, product func()) float64 {
	best := 0.0
	for start := time.Now(); best == 0 || time.Since(start) < time.Second/2; {
		t := time.Now()
		product()
		best = max(best, 2*float64(m)*float64(n)*float64(k)/time.Since(t).Seconds()/1e9)
	}
	return best
}
