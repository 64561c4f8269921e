package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"danlu/dtype"
	"danlu/internal/cpu"
	"danlu/internal/parallel"
	"danlu/quant"
)

var packedTypes = []dtype.DType{dtype.Q8_0, dtype.Q4_0, dtype.Q4_1, dtype.Q5_0, dtype.Q5_1, dtype.Q4_K, dtype.Q5_K, dtype.Q6_K, dtype.Q3_K, dtype.Q2_K, dtype.F16, dtype.BF16}

// randomWeights are the bytes of a random matrix [out, in] of type d and its values.
func randomWeights(t testing.TB, rng *rand.Rand, d dtype.DType, out, in int) (data []byte, values []float32) {
	x := make([]float32, out*in)
	for i := range x {
		x[i] = float32(rng.NormFloat64()) * 0.1
	}
	data = make([]byte, d.Bytes(len(x)))
	values = make([]float32, len(x))
	if err := quant.Quantize(d, data, x); err != nil {
		t.Fatal(err)
	}
	if err := quant.Dequantize(d, values, data); err != nil {
		t.Fatal(err)
	}
	return data, values
}

func packed(d dtype.DType, data []byte, out, in int) []byte {
	w := make([]byte, PackedBytes(d, out, in))
	Pack(d, w, data, out, in, 0, Panels(out))
	return w
}

func TestUnpackIsExact(t *testing.T) {
	for _, level := range cpu.Levels() {
		undo := cpu.SetLevel(level)
		rng := rand.New(rand.NewPCG(3, 4))
		for _, d := range packedTypes {
			const out, in = 37, 512
			data, want := randomWeights(t, rng, d, out, in)
			w := packed(d, data, out, in)
			got, scratch := make([]float32, out*in), make([]float32, ScratchUnpack(in))
			for p := range Panels(out) {
				UnpackPanel(d, got[p*PanelRows*in:], w, in, p, min(PanelRows, out-p*PanelRows), scratch)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%v %v: value %d: want %v, got %v", level, d, i, want[i], got[i])
				}
			}
			row := make([]float32, in)
			UnpackRow(d, row, w, in, 33, scratch)
			if !slices.Equal(row, want[33*in:34*in]) {
				t.Errorf("%v %v: row 33 differs", level, d)
			}
		}
		undo()
	}
}

// rounded is a row as the levels of its blocks stand for it.
func rounded(x []float32) []float32 {
	y := slices.Clone(x)
	for b := 0; b < len(x); b += blockVals {
		top := float32(0)
		for _, v := range x[b : b+blockVals] {
			top = max(top, abs32(v))
		}
		for i := b; i < b+blockVals && top > 0; i++ {
			y[i] = float32(math.RoundToEven(float64(x[i]*(127/top)))) * (top / 127)
		}
	}
	return y
}

func TestPackedMul(t *testing.T) {
	pool := parallel.NewPool(2)
	defer pool.Close()
	for _, level := range cpu.Levels() {
		undo := cpu.SetLevel(level)
		rng := rand.New(rand.NewPCG(5, 6))
		for _, d := range packedTypes {
			for _, s := range [][3]int{{1, 16, 256}, {1, 37, 512}, {7, 48, 256}, {32, 35, 512}, {147, 17, 256}} {
				for variant := range 4 {
					checkPacked(t, pool, rng, d, s[0], s[1], s[2], variant&1 != 0, variant&2 != 0)
				}
			}
		}
		undo()
	}
}

func checkPacked(t *testing.T, pool *parallel.Pool, rng *rand.Rand, d dtype.DType, m, out, in int, levels, half bool) {
	t.Helper()
	data, values := randomWeights(t, rng, d, out, in)
	x, bias := make([]float32, m*in), make([]float32, out)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for i := range bias {
		bias[i] = rng.Float32()
	}
	given := Matrix{F32: x, Row: in, Col: 1}
	if half {
		b := make([]uint16, len(x))
		F32ToBF16(b, x)
		BF16ToF32(x, b)
		given = Matrix{BF16: b, Row: in, Col: 1}
	}
	g := PackedMul{Type: d, In: in, Out: out, M: m, Levels: levels, Bias: bias}
	y := make([]float32, m*out)
	g.Run(pool, given, packed(d, data, out, in), Matrix{F32: y, Row: out, Col: 1}, make([]float32, ScratchPacked(m, in, pool.Workers())))
	for r := range m {
		row := x[r*in : (r+1)*in]
		if levels && d.IsQuantized() {
			row = rounded(row)
		}
		for j := range out {
			sum, size := float64(bias[j]), 0.0
			for k, v := range row {
				p := float64(v) * float64(values[j*in+k])
				sum, size = sum+p, size+math.Abs(p)
			}
			// Blocks of an affine type are summed as levels and minima apart, each larger than their difference.
			if diff := math.Abs(float64(y[r*out+j]) - sum); !(diff <= 3e-6*size+1e-6) {
				t.Fatalf("%v %v %dx%dx%d levels %v half %v: [%d, %d]: want %v, got %v", cpu.Active(), d, m, out, in, levels, half, r, j, sum, y[r*out+j])
			}
		}
	}
}

// TestPackedRowsAreAlone holds that a row's result does not depend on the rows beside it, to the bit.
func TestPackedRowsAreAlone(t *testing.T) {
	pool := parallel.NewPool(2)
	defer pool.Close()
	for _, level := range cpu.Levels() {
		undo := cpu.SetLevel(level)
		rng := rand.New(rand.NewPCG(7, 8))
		for _, d := range packedTypes {
			for _, levels := range []bool{false, true} {
				const m, out, in = 151, 40, 512
				data, _ := randomWeights(t, rng, d, out, in)
				w := packed(d, data, out, in)
				x := make([]float32, m*in)
				for i := range x {
					x[i] = float32(rng.NormFloat64())
				}
				run := func(from, rows int) []float32 {
					g := PackedMul{Type: d, In: in, Out: out, M: rows, Levels: levels}
					y := make([]float32, rows*out)
					g.Run(pool, Matrix{F32: x[from*in:], Row: in, Col: 1}, w, Matrix{F32: y, Row: out, Col: 1}, make([]float32, ScratchPacked(rows, in, 2)))
					return y
				}
				all := run(0, m)
				for from := 0; from < m; {
					n := min(m-from, []int{1, 7, 32, 2, 1}[from%5])
					if got := run(from, n); !slices.Equal(got, all[from*out:(from+n)*out]) {
						t.Fatalf("%v %v levels %v: rows %d to %d depend on the others", level, d, levels, from, from+n)
					}
					from += n
				}
			}
		}
		undo()
	}
}

func TestQuantizeRow(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	x := make([]float32, 8*blockVals)
	for i := range x {
		x[i] = float32(rng.NormFloat64()) * float32(math.Exp(rng.NormFloat64()*5))
	}
	clear(x[32:64])
	x[64], x[97] = 0.5, float32(math.NaN())
	want := make([]byte, 8*actBlock)
	quantizePortable(want, x, 8)
	if s := floats(want)[3*actBlock/4+actScale/4]; s == s {
		t.Error("the scale of a block with a NaN is a number")
	}
	for _, level := range cpu.Levels() {
		undo := cpu.SetLevel(level)
		got := make([]byte, len(want))
		quantizeRow(got, x, 8)
		for b := range 8 {
			if b != 3 && !slices.Equal(got[b*actBlock:(b+1)*actBlock], want[b*actBlock:(b+1)*actBlock]) {
				t.Errorf("%v: block %d: want %v, got %v", level, b, want[b*actBlock:(b+1)*actBlock], got[b*actBlock:(b+1)*actBlock])
			}
		}
		if s := floats(got)[3*actBlock/4+actScale/4]; s == s {
			t.Errorf("%v: the scale of a block with a NaN is a number", level)
		}
		undo()
	}
}

func BenchmarkPackedMul(b *testing.B) {
	pool := parallel.NewPool(1)
	defer pool.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, d := range packedTypes {
		for _, m := range []int{1, 144} {
			b.Run(fmt.Sprintf("%v/%d", d, m), func(b *testing.B) {
				const out, in = 1536, 1536
				data, _ := randomWeights(b, rng, d, out, in)
				w := packed(d, data, out, in)
				x, y := make([]float32, m*in), make([]float32, m*out)
				for i := range x {
					x[i] = rng.Float32()
				}
				g := PackedMul{Type: d, In: in, Out: out, M: m, Levels: true}
				scratch := make([]float32, ScratchPacked(m, in, 1))
				for b.Loop() {
					g.Run(pool, Matrix{F32: x, Row: in, Col: 1}, w, Matrix{F32: y, Row: out, Col: 1}, scratch)
				}
				b.ReportMetric(2*float64(m*out*in)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GOP/s")
				b.ReportMetric(float64(len(w))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
			})
		}
	}
}
