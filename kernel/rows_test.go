package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"danlu/internal/cpu"
)

// rowsOf calls every row kernel with a vector form on rows of the same values and returns what they made.
func rowsOf(x, y, z, w []float32, c float32) map[string][]float32 {
	out := map[string][]float32{}
	n := len(x)
	made := func(name string) []float32 {
		out[name] = make([]float32, n)
		return out[name]
	}
	addRow(made("add"), x, y)
	mulRow(made("mul"), x, y)
	scaleRow(made("scale"), x, c)
	scaleMulRow(made("scale_mul"), x, y, c)
	copy(made("axpy"), y)
	axpyRow(out["axpy"], x, c)
	subRow(made("sub"), x, y)
	divRow(made("div"), x, y)
	addScalarRow(made("add_scalar"), x, c)
	copy(made("mul_acc"), z)
	mulAccRow(out["mul_acc"], x, y, c)
	axpbyRow(made("axpby"), x, y, c, -2)
	mulAxpbyRow(made("mul_axpby"), x, y, z, c, -2)
	expRow(made("exp"), x)
	sigmoidRow(made("sigmoid"), x)
	expLinearRow(made("exp_linear"), x, c, 1, -0.5)
	siluMulGradRow(made("silu_mul_grad"), made("silu_mul_grad_up"), y, x, z)
	copy(made("mask"), x)
	segments := make([]int32, n)
	for i := range segments {
		if !(x[i] < 0) {
			segments[i] = 3
		}
	}
	maskRow(out["mask"], segments, 3)
	bf, half := make([]uint16, n), make([]uint16, n)
	f32ToBF16(bf, x)
	bf16ToF32(made("bf16"), bf)
	f32ToF16(half, x)
	f16ToF32(made("f16"), half)
	squares := made("adamw_v")
	mulRow(squares, z, z)
	copy(made("adamw_p"), x)
	copy(made("adamw_m"), y)
	consts := AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1, GradScale: 0.5, Step: 3}.constants()
	adamWRow(out["adamw_p"], out["adamw_m"], squares, w, &consts)
	out["sums"] = []float32{dotRow(x, y), sumSqRow(x), maxOfRow(x), expSubRow(made("exp_sub"), x, c), sumRow(x), dot3Row(x, y, z), dotBF16Row(bf, y), dotF16Row(half, y), expSumRow(x, c)}
	copy(made("exp_scaled"), x)
	out["sums"] = append(out["sums"], expScaledRow(out["exp_scaled"], 0.5, c))
	copy(made("prob"), x)
	copy(made("prob_grad"), y)
	probGradRow(out["prob"], out["prob_grad"], 0.5, c, 0.3, 2)
	siluMulRow(made("silu_mul"), x, y)
	lo, hi := made("lo"), made("hi")
	rotateHalvesRow(lo, hi, x, y, z, w, -1)
	return out
}

func TestRowsAgreeWithPortable(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, n := range []int{1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 511, 512} {
		rows := make([][]float32, 4)
		for i := range rows {
			rows[i] = make([]float32, n)
			for k := range rows[i] {
				rows[i][k] = float32(rng.NormFloat64()) * float32(math.Exp(rng.NormFloat64()*2))
			}
		}
		if n > 40 {
			copy(rows[0][20:], []float32{200, -200, 88, -90, -103, -87.5, 0, float32(math.Inf(-1))})
		}
		undo := cpu.SetLevel(cpu.Portable)
		want := rowsOf(rows[0], rows[1], rows[2], rows[3], 0.7)
		undo()
		for _, level := range cpu.Levels() {
			undo := cpu.SetLevel(level)
			got := rowsOf(rows[0], rows[1], rows[2], rows[3], 0.7)
			undo()
			for name, w := range want {
				for i := range w {
					g := float64(got[name][i])
					bound := 4e-7*math.Abs(float64(w[i])) + 1e-37
					if name == "exp_sub" || name == "exp_scaled" || name == "prob" || name == "prob_grad" { // the difference is rounded before its exponential
						bound += 6e-8 * (math.Abs(float64(rows[0][i])) + 1) * math.Abs(float64(w[i]))
					}
					x, y, z := math.Abs(float64(rows[0][i%n])), math.Abs(float64(rows[1][i%n])), math.Abs(float64(rows[2][i%n]))
					switch name {
					case "exp_linear": // the same, and the sum of its two terms may cancel
						e := math.Exp(float64(rows[0][i]) - 0.7)
						bound += 6e-8 * (x + 1) * (1 + (x+1)/2) * e
					case "silu_mul_grad": // 1 - sigmoid is rounded, times x
						bound += 1.2e-7 * (x + 1) * y * z
					case "mul_acc", "axpby", "mul_axpby", "adamw_p", "adamw_m": // one rounding less where product and sum are one
						bound += 3e-7 * (x*y + 2*x + 2*y + z + x*y*z)
					}
					if name == "sums" || name == "axpy" {
						bound = 2e-6 * (math.Abs(float64(w[i])) + 10*math.Sqrt(float64(n)))
					}
					if name == "sums" && i == 9 { // exponents may be products and sums in one
						bound += 6e-8 * float64(max(maxOfRow(rows[0]), 0)) * math.Abs(float64(w[i]))
					}
					if same := g == float64(w[i]) || g != g && w[i] != w[i]; !same && !(math.Abs(g-float64(w[i])) <= bound) {
						t.Errorf("%v n %d: %s[%d]: want %v, got %v (of %v)", level, n, name, i, w[i], g, rows[0][i%n])
					}
				}
			}
		}
	}
}

// TestRowsAreCutFreely holds that an element's bytes do not depend on its place in the row.
func TestRowsAreCutFreely(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	const n = 200
	rows := make([][]float32, 4)
	for i := range rows {
		rows[i] = make([]float32, n)
		for k := range rows[i] {
			rows[i][k] = float32(rng.NormFloat64())
		}
	}
	whole := rowsOf(rows[0], rows[1], rows[2], rows[3], 0.3)
	for from := 0; from < n; {
		to := min(n, from+1+rng.IntN(40))
		part := rowsOf(rows[0][from:to], rows[1][from:to], rows[2][from:to], rows[3][from:to], 0.3)
		for name, p := range part {
			if name != "sums" && !slices.Equal(p, whole[name][from:to]) {
				t.Errorf("%s: elements %d to %d differ when cut off", name, from, to)
			}
		}
		from = to
	}
}

func TestRowsNaN(t *testing.T) {
	nan := float32(math.NaN())
	for _, level := range cpu.Levels() {
		undo := cpu.SetLevel(level)
		for at := range 40 { // before and behind the last whole registers
			x := make([]float32, 40)
			x[at] = nan
			out := rowsOf(x, x, x, x, 1)
			for name, y := range out {
				if v := y[at%len(y)]; v == v && name != "sums" {
					t.Errorf("%v: %s of NaN at %d is %v", level, name, at, v)
				}
			}
			if s := out["sums"]; s[0] == s[0] || s[1] == s[1] || s[2] == s[2] || s[3] == s[3] {
				t.Errorf("%v: sums of NaN at %d are %v", level, at, s)
			}
		}
		undo()
	}
}

func BenchmarkRows(b *testing.B) {
	x := make([]float32, 1536)
	y, z := slices.Clone(x), slices.Clone(x)
	for name, f := range map[string]func(){"silu_mul": func() { GLU(OpSiLU, z, x, y) }, "exp_sub": func() { expSubRow(z, x, 0) }, "norm": func() { RMSNorm(z, x, y, len(x), 1e-6) },
		"layer_norm": func() { LayerNorm(z, x, y, y, len(x), 1e-6) }} {
		b.Run(fmt.Sprintf("%s/%d", name, len(x)), func(b *testing.B) {
			for b.Loop() {
				f()
			}
		})
	}
}
