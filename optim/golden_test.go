package optim

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/tensor"
)

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestGoldenSchedules(t *testing.T) {
	var g struct {
		Total    int64   `json:"total"`
		Warmup   int64   `json:"warmup"`
		MinRatio float64 `json:"min_ratio"`
		WSD      struct {
			Stable   int64   `json:"stable"`
			Decay    int64   `json:"decay"`
			MinRatio float64 `json:"min_ratio"`
		} `json:"wsd"`
		Factors map[string][]float64 `json:"factor_at_step"`
	}
	readJSON(t, filepath.Join(numtest.Goldens(t, "training/adamw_trajectory"), "schedules.json"), &g)
	for name, want := range g.Factors {
		s := Schedule{Name: name, Warmup: g.Warmup, Total: g.Total}
		switch {
		case name == "cosine_min":
			s.Name, s.MinRatio = "cosine_with_min_lr", g.MinRatio
		case strings.HasPrefix(name, "cosine_restarts_"):
			s.Name = "cosine_with_restarts"
			fmt.Sscanf(name, "cosine_restarts_%g", &s.Cycles)
		case strings.HasPrefix(name, "polynomial_"):
			s.Name = "polynomial"
			power, end, _ := strings.Cut(strings.TrimPrefix(name, "polynomial_p"), "_end")
			s.Power, _ = strconv.ParseFloat(power, 64)
			s.End, _ = strconv.ParseFloat(end, 64)
		case strings.HasPrefix(name, "wsd_"):
			s.Name, s.Shape = "wsd", strings.TrimPrefix(name, "wsd_")
			s.Stable, s.Decay, s.MinRatio = g.WSD.Stable, g.WSD.Decay, g.WSD.MinRatio
		}
		if err := s.Validate(); err != nil {
			t.Error(err)
			continue
		}
		for i, w := range want {
			if got := s.Factor(int64(i)); !(math.Abs(got-w) <= 1e-9) {
				t.Errorf("%s step %d: factor %v, want %v", name, i, got, w)
			}
		}
	}
	numtest.Count(t, "training/adamw_trajectory schedules", len(g.Factors))
}

// unit is an optimiser's entry in optimizer_units.json.
type unit struct {
	LR          float64   `json:"lr"`
	Betas       []float64 `json:"betas"`
	Eps         any       `json:"eps"`
	WeightDecay float64   `json:"weight_decay"`
	Momentum    float64   `json:"momentum"`
	Nesterov    bool      `json:"nesterov"`
	Beta2Decay  float64   `json:"beta2_decay"`
	DecayRate   float64   `json:"decay_rate"`
	D           float64   `json:"d"`
	Clip        float64   `json:"clip_threshold"`
}

// eps reads one or two numbers; null stands for def.
func (u unit) eps(def float64) (a, b float64) {
	switch e := u.Eps.(type) {
	case float64:
		return e, 0
	case []any:
		a = def
		if x, ok := e[0].(float64); ok {
			a = x
		}
		b, _ = e[1].(float64)
	}
	return a, b
}

func (u unit) optimizer(t *testing.T, name string) Optimizer {
	e1, e2 := u.eps(Float32Eps)
	switch name {
	case "adamw":
		return AdamW{Beta1: u.Betas[0], Beta2: u.Betas[1], Eps: e1, WeightDecay: u.WeightDecay, DecayAll: true}
	case "adam_l2":
		return Adam{Beta1: u.Betas[0], Beta2: u.Betas[1], Eps: e1, WeightDecay: u.WeightDecay, DecayAll: true}
	case "sgd_momentum":
		return SGD{Momentum: u.Momentum, Nesterov: u.Nesterov, WeightDecay: u.WeightDecay, DecayAll: true}
	case "adafactor_torch":
		return Adafactor{Decay: u.Beta2Decay, Eps1: e1, Eps2: e2, ClipThreshold: u.D, WeightDecay: u.WeightDecay, DecayAll: true}
	case "adafactor_hf":
		return Adafactor{HF: true, Decay: u.DecayRate, Eps1: e1, Eps2: e2, ClipThreshold: u.Clip, WeightDecay: u.WeightDecay, DecayAll: true}
	case "muon":
		return Muon{Momentum: u.Momentum, Nesterov: u.Nesterov, Eps: e1, WeightDecay: u.WeightDecay}
	}
	t.Fatalf("optimiser %q is not known", name)
	return nil
}

func TestGoldenOptimizerUnits(t *testing.T) {
	dir := numtest.Goldens(t, "training/adamw_trajectory")
	var g struct {
		Hyper map[string]unit `json:"hyper"`
		Steps int             `json:"steps"`
	}
	readJSON(t, filepath.Join(dir, "optimizer_units.json"), &g)
	f, err := safetensors.Open(filepath.Join(dir, "optimizer_units.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, u := range g.Hyper {
		t.Run(name, func(t *testing.T) {
			for _, p := range f.Names() {
				param, ok := strings.CutPrefix(p, "param.")
				if !ok {
					continue
				}
				start, err := f.Tensor(p)
				if err != nil {
					t.Fatal(err)
				}
				if name == "muon" && len(start.Shape) != 2 {
					continue
				}
				runUnit(t, u.optimizer(t, name), u, f, name, param, start, g.Steps)
			}
		})
	}
	numtest.Count(t, "training/adamw_trajectory optimizers", len(g.Hyper))
}

// runUnit drives one parameter, stored as the second part of a stack of two to see that parts do not mix.
func runUnit(t *testing.T, o Optimizer, u unit, f *safetensors.File, name, param string, start *tensor.Tensor, steps int) {
	eng := ref.New()
	store := eng.NewStore()
	shape := append([]int{2}, start.Shape...)
	g, err := graph.Build(func(g *graph.Graph) {
		p := g.State(graph.StateSpec{Label: "w%d", Stack: []graph.Range{{First: 0, Count: 2}}, Type: graph.Of(dtype.F32, shape...)})
		d := g.Input("grad", graph.Of(dtype.F32, shape...))
		in := func(n string) *graph.Value { return g.Input(n, graph.Of(dtype.F32)) }
		o.Update(g, []*graph.Value{p}, []*graph.Value{d}, in("lr"), in("scale"), in("step"))
	})
	if err != nil {
		t.Fatal(err)
	}
	program, err := eng.Compile(g, store, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Set("w1", start); err != nil {
		t.Fatal(err)
	}
	one := func(x float64) *tensor.Tensor { return tensor.FromF32([]float32{float32(x)}) }
	tol := 2e-6
	if name == "muon" {
		tol = 2e-2 * u.LR // the reference iterates in bfloat16; an update's elements are at most about lr
	}
	for i := range steps {
		d, err := f.Tensor(fmt.Sprintf("grad.%d.%s", i, param))
		if err != nil {
			t.Fatal(err)
		}
		both := tensor.New(dtype.F32, shape...)
		for k, x := range d.F32() {
			both.F32()[k], both.F32()[d.Len()+k] = 7*x+1, x
		}
		if _, err := program.Run(context.Background(), engine.Tensors{"grad": both, "lr": one(u.LR), "scale": one(1), "step": one(float64(i + 1))}); err != nil {
			t.Fatal(err)
		}
		want, err := f.Tensor(fmt.Sprintf("%s.after%d.%s", name, i, param))
		if err != nil {
			t.Fatal(err)
		}
		got, err := store.Get("w1")
		if err != nil {
			t.Fatal(err)
		}
		limit := tol * float64(i+1)
		if name != "muon" {
			limit = tol
		}
		for k, w := range want.F32() {
			if diff := math.Abs(float64(got.F32()[k]) - float64(w)); !(diff <= limit) {
				t.Fatalf("%s step %d element %d: %v, want %v (off by %g)", param, i, k, got.F32()[k], w, diff)
			}
		}
	}
}
