package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// divergence64 is Divergence from its definition, in float64.
func divergence64(student, teacher []float64, beta float64) float64 {
	p := func(z []float64) []float64 {
		top, sum := slices.Max(z), 0.0
		out := make([]float64, len(z))
		for i, v := range z {
			out[i] = math.Exp(v - top)
			sum += out[i]
		}
		for i := range out {
			out[i] /= sum
		}
		return out
	}
	s, t := p(student), p(teacher)
	sum := 0.0
	for i := range s {
		m := beta*t[i] + (1-beta)*s[i]
		switch beta {
		case 0:
			sum += t[i] * math.Log(t[i]/s[i])
		case 1:
			sum += s[i] * math.Log(s[i]/t[i])
		default:
			sum += beta*t[i]*math.Log(t[i]/m) + (1-beta)*s[i]*math.Log(s[i]/m)
		}
	}
	return sum
}

func TestDivergence(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for _, n := range []int{1, 5, 63, 1000} {
		for _, beta := range []float64{0, 1, 0.3} {
			s64, t64 := make([]float64, n), make([]float64, n)
			for i := range s64 {
				s64[i], t64[i] = float64(float32(3*rng.NormFloat64())), float64(float32(3*rng.NormFloat64()))
			}
			narrow := func(x []float64) []float32 {
				y := make([]float32, len(x))
				for i := range x {
					y[i] = float32(x[i])
				}
				return y
			}
			want := divergence64(s64, t64, beta)
			if got := Divergence(narrow(s64), narrow(t64), float32(beta)); !(math.Abs(float64(got)-want) <= 2e-6*max(1, want)) {
				t.Errorf("n %d beta %v: want %v, got %v", n, beta, want, got)
			}
			grad := narrow(s64)
			DivergenceGrad(grad, narrow(t64), float32(beta), 2)
			for i := 0; i < n; i += 1 + n/20 {
				up, down := slices.Clone(s64), slices.Clone(s64)
				up[i] += 1e-5
				down[i] -= 1e-5
				slope := 2 * (divergence64(up, t64, beta) - divergence64(down, t64, beta)) / 2e-5
				if !(math.Abs(float64(grad[i])-slope) <= 2e-6*max(1, want)) {
					t.Errorf("n %d beta %v: slope %d: want %v, got %v", n, beta, i, slope, grad[i])
				}
			}
		}
	}
	// A token that the teacher cannot say costs nothing.
	if got := Divergence([]float32{0, 0}, []float32{0, float32(math.Inf(-1))}, 0); !(math.Abs(float64(got)-math.Ln2) < 1e-6) {
		t.Errorf("got %v, want log 2", got)
	}
}
