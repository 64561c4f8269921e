package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"danlu/dtype"
	"danlu/internal/cpu"
)

// TestPagedAttention holds attention over pages against its definition in float64, and a query's bytes against what they
// are without other queries.
func TestPagedAttention(t *testing.T) {
	tolerances := map[dtype.DType]float64{dtype.F32: 2e-6, dtype.F16: 1e-3, dtype.BF16: 8e-3, dtype.Q8_0: 2e-2}
	for _, level := range cpu.Levels() {
		undo := cpu.SetLevel(level)
		for store, tolerance := range tolerances {
			for _, sizes := range [][3]int{{64, 64, 64}, {32, 96, 160}, {16, 32, 32}} {
				a := PagedAttention{Store: store, PageLen: sizes[0], KVHeads: 2, KeyDim: sizes[1], ValueDim: sizes[2]}
				t.Run(fmt.Sprintf("%v/%v/%v", level, store, sizes), func(t *testing.T) { testPaged(t, a, tolerance) })
			}
		}
		undo()
	}
}

func testPaged(t *testing.T, a PagedAttention, tolerance float64) {
	if !a.Fits() {
		t.Fatal("does not fit")
	}
	rng := rand.New(rand.NewPCG(7, 8))
	random := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	const tokens, head = 150, 1
	count := (tokens + a.PageLen - 1) / a.PageLen
	pages := make([]int32, count)
	for i, p := range rng.Perm(count) {
		pages[i] = int32(p)
	}
	mem := make([]byte, count*a.PageBytes())
	keys, values := random(tokens*2*a.KeyDim), random(tokens*2*a.ValueDim)
	for i := range tokens {
		slot := int(pages[i/a.PageLen])*a.PageLen + i%a.PageLen
		a.Write(mem, slot, keys[i*2*a.KeyDim:(i+1)*2*a.KeyDim], values[i*2*a.ValueDim:(i+1)*2*a.ValueDim])
	}
	attend := func(q []float32, rows []PagedRow) []float32 {
		out, scratch := make([]float32, len(rows)*a.ValueDim), make([]float32, a.ScratchPaged(len(rows), tokens))
		a.Attend(mem, pages, head, q, rows, out, scratch)
		return out
	}
	for n := range 26 {
		q, rows := random((n+1)*a.KeyDim), make([]PagedRow, n+1)
		for i := range q {
			q[i] *= 0.1
		}
		for i := range rows {
			last := rng.IntN(tokens)
			rows[i] = PagedRow{First: rng.IntN(last + 1), Last: last, At: last, Slope: float32(i%2) * 0.05}
		}
		got := attend(q, rows)
		for i, r := range rows {
			own, query := got[i*a.ValueDim:(i+1)*a.ValueDim], q[i*a.KeyDim:(i+1)*a.KeyDim]
			near(t, fmt.Sprintf("query %d of %d", i, n+1), own, plainQuery(a, query, r, keys, values, head), tolerance)
			// The first page decides where sums begin, which a query that is alone may start later.
			if alone := attend(query, []PagedRow{r}); !slices.Equal(own, alone) {
				t.Fatalf("query %d of %d differs from the same alone", i, n+1)
			}
		}
	}
}

// plainQuery is one query's attention as defined.
func plainQuery(a PagedAttention, q []float32, r PagedRow, keys, values []float32, head int) []float64 {
	weights, sum := make([]float64, r.Last+1), 0.0
	for s := r.First; s <= r.Last; s++ {
		x := float64(r.Slope) * float64(s-r.At)
		for i, y := range q {
			x += float64(y) * float64(keys[(2*s+head)*a.KeyDim+i])
		}
		weights[s] = math.Exp(x)
		sum += weights[s]
	}
	out := make([]float64, a.ValueDim)
	for s := r.First; s <= r.Last; s++ {
		for i := range out {
			out[i] += weights[s] / sum * float64(values[(2*s+head)*a.ValueDim+i])
		}
	}
	return out
}
