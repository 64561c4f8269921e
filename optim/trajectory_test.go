package optim_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/family"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/nn"
	"danlu/optim"
	"danlu/tensor"
	"danlu/weights"
)

type trajectory struct {
	Hyper struct {
		LR          float64   `json:"lr"`
		Betas       []float64 `json:"betas"`
		Eps         float64   `json:"eps"`
		WeightDecay float64   `json:"weight_decay"`
		Clip        float64   `json:"clip"`
		ZLoss       float64   `json:"z_loss"`
		AccumNorm   string    `json:"accum_norm"`
		Schedule    struct {
			Name      string  `json:"name"`
			Warmup    int64   `json:"warmup"`
			MinRatio  float64 `json:"min_ratio"`
			Stable    int64   `json:"stable"`
			Decay     int64   `json:"decay"`
			DecayType string  `json:"decay_type"`
		} `json:"schedule"`
	} `json:"hyper"`
	Batches [][]struct {
		IDs    [][]int32 `json:"ids"`
		Labels [][]int32 `json:"labels"`
		Pos    [][]int32 `json:"pos"`
		Docs   [][]int32 `json:"doc_ids"`
	} `json:"batches"`
	Steps []struct {
		Loss float64 `json:"loss"`
		Z    float64 `json:"z_loss"`
		LR   float64 `json:"lr"`
		Norm float64 `json:"grad_norm_before_clip"`
	} `json:"steps"`
}

func (r *trajectory) schedule() optim.Schedule {
	h := r.Hyper.Schedule
	s := optim.Schedule{Name: h.Name, Warmup: h.Warmup, Total: int64(len(r.Steps)), MinRatio: h.MinRatio, Stable: h.Stable, Decay: h.Decay, Shape: h.DecayType}
	if s.Name == "cosine_min" {
		s.Name = "cosine_with_min_lr"
	}
	return s
}

// inputs lays a step's micro-batches below each other. Each scored target weighs one over those of the step, or one over
// those of its micro-batch and their number.
func (r *trajectory) inputs(step int) engine.Tensors {
	var ids, positions, segments, targets []int32
	var share []float32
	for _, m := range r.Batches[step] {
		scored := 0
		for b, row := range m.IDs {
			for t, id := range row {
				ids = append(ids, id)
				pos, doc, target := int32(t), int32(0), int32(-100)
				if m.Pos != nil {
					pos, doc = m.Pos[b][t], m.Docs[b][t]
				}
				if t+1 < len(row) {
					target = m.Labels[b][t+1]
				}
				if target >= 0 {
					scored++
				}
				positions, segments, targets = append(positions, pos), append(segments, doc), append(targets, target)
			}
		}
		for range len(m.IDs) * len(m.IDs[0]) {
			share = append(share, float32(scored)) // made a weight below
		}
	}
	total := 0
	for _, t := range targets {
		if t >= 0 {
			total++
		}
	}
	for i := range share {
		if r.Hyper.AccumNorm == "means" {
			share[i] = 1 / (share[i] * float32(len(r.Batches[step])))
		} else {
			share[i] = 1 / float32(total)
		}
	}
	t := len(r.Batches[step][0].IDs[0])
	b := len(ids) / t
	return engine.Tensors{
		"ids": tensor.FromI32(ids, b, t), "positions": tensor.FromI32(positions, 1, b, t), "segments": tensor.FromI32(segments, b, t),
		"targets": tensor.FromI32(targets, b, t), "share": tensor.FromF32(share, b*t),
		"step": tensor.FromF32([]float32{float32(step + 1)}),
		"lr":   tensor.FromF32([]float32{float32(r.Hyper.LR * r.schedule().Factor(int64(step)))}),
	}
}

// build is the whole training step as one graph: loss, gradients, clipping and AdamW.
func (r *trajectory) build(m family.Model, b, t int) (*graph.Graph, error) {
	return graph.Build(func(g *graph.Graph) {
		build := nn.Inputs(g, nn.Float32, 1, b, t)
		targets, share := g.Input("targets", graph.Of(dtype.I32, b, t)), g.Input("share", graph.Of(dtype.F32, b*t))
		s := build.Score(m.Hidden(build), m.Head(build), targets, false)
		flat := graph.ReshapeTo(targets, b*t)
		scored := graph.Convert(graph.GreaterEqual(flat, graph.ConstLike(flat, 0)), dtype.F32)
		weight := graph.Mul(scored, share)
		loss := graph.Neg(graph.Sum(graph.Mul(s.LogProb, weight)))
		z := graph.MulScalar(graph.Sum(graph.Mul(graph.Mul(s.LogSumExp, s.LogSumExp), weight)), r.Hyper.ZLoss)
		params := g.States()
		grads := graph.Grad(graph.Add(loss, z), params, graph.GradOptions{})
		norm := graph.Sqrt(graph.Squares(grads...))
		g.Output("loss", loss)
		g.Output("z", z)
		g.Output("norm", norm)
		o := optim.AdamW{Beta1: r.Hyper.Betas[0], Beta2: r.Hyper.Betas[1], Eps: r.Hyper.Eps, WeightDecay: r.Hyper.WeightDecay}
		o.Update(g, params, grads, g.Input("lr", graph.Of(dtype.F32)), optim.ClipScale(norm, r.Hyper.Clip), g.Input("step", graph.Of(dtype.F32)))
	})
}

func TestGoldenAdamWTrajectory(t *testing.T) {
	dir := numtest.Goldens(t, "training/adamw_trajectory")
	finals, err := filepath.Glob(filepath.Join(dir, "*.final.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, final := range finals {
		name := strings.TrimSuffix(filepath.Base(final), ".final.safetensors")
		t.Run(name, func(t *testing.T) { runTrajectory(t, dir, name) })
	}
	numtest.Count(t, "training/adamw_trajectory runs", len(finals))
}

func runTrajectory(t *testing.T, dir, name string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var r trajectory
	text, err := os.ReadFile(filepath.Join(dir, name+".json"))
	must(err)
	must(json.Unmarshal(text, &r))
	m, _, err := family.Load(filepath.Join(dir, "config.json"))
	must(err)
	specs, err := family.Params(m)
	must(err)
	first := r.inputs(0)["ids"]
	g, err := r.build(m, first.Shape[0], first.Shape[1])
	must(err)
	eng := ref.New()
	store := eng.NewStore()
	p, err := eng.Compile(g, store, engine.Options{})
	must(err)
	src, err := weights.Open(filepath.Join(dir, "model.safetensors"), weights.OpenOptions{})
	must(err)
	defer src.Close()
	must(weights.Load(store, specs, src, weights.LoadOptions{}))
	steps := len(r.Steps)
	if testing.Short() {
		steps = 3
	}
	for i, want := range r.Steps[:steps] {
		in := r.inputs(i)
		out, err := p.Run(context.Background(), in)
		must(err)
		check := func(what string, got float32, want float64) {
			if diff := math.Abs(float64(got) - want); !(diff <= 2e-5*math.Abs(want)) && float64(got) != want {
				t.Errorf("step %d: %s %v, want %v", i, what, got, want)
			}
		}
		check("lr", in["lr"].F32()[0], want.LR)
		check("loss", out["loss"].F32()[0], want.Loss)
		check("z_loss", out["z"].F32()[0], want.Z)
		check("gradient norm", out["norm"].F32()[0], want.Norm)
	}
	if steps < len(r.Steps) {
		return
	}
	final, err := safetensors.Open(filepath.Join(dir, name+".final.safetensors"))
	must(err)
	defer final.Close()
	worst := 0.0
	for _, n := range final.Names() {
		want, err := final.Tensor(n)
		must(err)
		got, err := store.Get(n)
		must(err)
		for k, w := range want.F32() {
			diff := math.Abs(float64(got.F32()[k]) - float64(w))
			if !(diff <= 1e-4) {
				t.Fatalf("%s element %d: %v, want %v", n, k, got.F32()[k], w)
			}
			worst = max(worst, diff)
		}
	}
	t.Logf("%d steps, weights within %.1e", steps, worst)
}
