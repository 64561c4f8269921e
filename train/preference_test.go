package train

import (
	"context"
	"math"
	"sort"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/graph"
	"danlu/tensor"
)

// evaluate runs a small graph on float32 vectors and returns its outputs.
func evaluate(t *testing.T, in map[string][]float32, build func(g *graph.Graph, v map[string]*graph.Value)) engine.Tensors {
	t.Helper()
	tensors := engine.Tensors{}
	g, err := graph.Build(func(g *graph.Graph) {
		values := map[string]*graph.Value{}
		for name, x := range in {
			values[name] = g.Input(name, graph.Of(dtype.F32, len(x)))
			tensors[name] = tensor.FromF32(x, len(x))
		}
		build(g, values)
	})
	if err != nil {
		t.Fatal(err)
	}
	eng := ref.New()
	p, err := eng.Compile(g, eng.NewStore(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), tensors)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sigmoid(x float64) float64      { return 1 / (1 + math.Exp(-x)) }
func logSigmoid64(x float64) float64 { return -math.Log1p(math.Exp(-x)) }

// The losses without reference data against their formulas, written out.
func TestPairLossFormulas(t *testing.T) {
	chosen, rejected := []float32{0.8, -1.5, 2.2, 0}, []float32{-0.4, 0.6, 2.0, 0}
	beta, smooth := 0.3, 0.1
	mean := func(x []float32) float64 {
		s := 0.0
		for _, v := range x {
			s += float64(v)
		}
		return s / float64(len(x))
	}
	sorted := func(x []float32) []float64 {
		y := make([]float64, len(x))
		for i := range x {
			y[i] = float64(x[i])
		}
		sort.Float64s(y)
		return y
	}
	klChosen, klRejected := max(0, mean(chosen)), max(0, mean(rejected))
	for name, want := range map[string]func(c, r float64, i int) float64{
		"apo_down": func(c, r float64, _ int) float64 { return sigmoid(beta*c) + 1 - sigmoid(beta*(c-r)) },
		"exo_pair": func(c, r float64, _ int) float64 {
			z := beta * (c - r)
			return sigmoid(z)*(logSigmoid64(z)-math.Log(1-smooth)) + sigmoid(-z)*(logSigmoid64(-z)-math.Log(smooth))
		},
		"nca_pair": func(c, r float64, _ int) float64 {
			return -logSigmoid64(beta*c) - 0.5*logSigmoid64(-beta*c) - 0.5*logSigmoid64(-beta*r)
		},
		"sppo_hard": func(c, r float64, _ int) float64 { return math.Pow(c-0.5/beta, 2) + math.Pow(r+0.5/beta, 2) },
		"aot_unpaired": func(_, _ float64, i int) float64 {
			z := beta * (sorted(chosen)[i] - sorted(rejected)[i])
			return -(1-smooth)*logSigmoid64(z) - smooth*logSigmoid64(-z)
		},
		"discopop": func(c, r float64, _ int) float64 {
			z := beta * (c - r)
			m := sigmoid(z / 0.05)
			return -logSigmoid64(z)*(1-m) + math.Exp(-z)*m
		},
		"kto_pair": func(c, r float64, _ int) float64 {
			return (1 - sigmoid(beta*(c-klRejected)) + 1 - sigmoid(beta*(klChosen-r))) / 2
		},
	} {
		p := Preference{Loss: name, Beta: beta, Smoothing: smooth}
		out := evaluate(t, map[string][]float32{"c": chosen, "r": rejected, "n": {3, 4, 5, 6}}, func(g *graph.Graph, v map[string]*graph.Value) {
			g.Output("loss", pairLosses[name].loss(p, pairs{v["c"], v["r"], v["n"], v["n"]}))
		})
		for i, got := range out["loss"].F32() {
			if w := want(float64(chosen[i]), float64(rejected[i]), i); !(math.Abs(float64(got)-w) <= 2e-6*max(1, math.Abs(w))) {
				t.Errorf("%s pair %d: want %v, got %v", name, i, w, got)
			}
		}
	}
}

// log-sigmoid neither overflows nor loses its slope where policy and reference are still the same.
func TestLogSigmoid(t *testing.T) {
	x := []float32{-200, -1, 0, 1, 200}
	out := evaluate(t, map[string][]float32{"x": x}, func(g *graph.Graph, v map[string]*graph.Value) {
		y := logSigmoid(v["x"])
		g.Output("y", y)
		g.Output("slope", graph.Grad(graph.Sum(y), []*graph.Value{v["x"]}, graph.GradOptions{})[0])
	})
	for i, z := range x {
		want, slope := logSigmoid64(float64(z)), sigmoid(-float64(z))
		if z == -200 {
			want = -200
		}
		if got := float64(out["y"].F32()[i]); !(math.Abs(got-want) <= 1e-5*max(1, math.Abs(want))) {
			t.Errorf("at %v: want %v, got %v", z, want, got)
		}
		if got := float64(out["slope"].F32()[i]); !(math.Abs(got-slope) <= 1e-6) {
			t.Errorf("slope at %v: want %v, got %v", z, slope, got)
		}
	}
}

func TestGroupAdvantages(t *testing.T) {
	if _, err := GroupAdvantages(make([]float64, 7), 4, "group"); err == nil {
		t.Error("7 rewards in groups of 4: want an error")
	}
	if _, err := GroupAdvantages(make([]float64, 8), 4, "other"); err == nil {
		t.Error("an unknown kind: want an error")
	}
	for _, kind := range []string{"group", "batch", "none", "rloo", "reinforce_pp_baseline"} {
		a, err := GroupAdvantages([]float64{1, 1, 1, 1, 0, 2, 0, 2}, 4, kind)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range a[:4] {
			if v != 0 {
				t.Errorf("%s: advantage %d of equal rewards is %v", kind, i, v)
			}
		}
		if !(a[4] < 0 && a[5] > 0 && math.Abs(a[4]+a[5]) < 1e-9) {
			t.Errorf("%s: %v", kind, a)
		}
	}
}
