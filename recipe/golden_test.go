package recipe

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/data"
	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
	"danlu/train"
	"danlu/weights"
)

func readGolden(t *testing.T, path string, v any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// near compares within abs + rel times the largest wanted magnitude; NaN fails.
func near(t *testing.T, name string, got, want []float32, abs, rel float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: want %d values, got %d", name, len(want), len(got))
		return
	}
	most := 0.0
	for _, w := range want {
		most = max(most, math.Abs(float64(w)))
	}
	for i := range want {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= abs+rel*most) {
			t.Errorf("%s[%d]: want %v, got %v (off by %.2g, largest %.2g)", name, i, want[i], got[i], d, most)
			return
		}
	}
}

// nearLoss compares a loss: relative to its size, or absolute when that is larger.
func nearLoss(t *testing.T, name string, got float32, want, abs, rel float64) {
	t.Helper()
	if d := math.Abs(float64(got) - want); !(d <= max(abs, rel*math.Abs(want))) {
		t.Errorf("%s: want %v, got %v", name, want, got)
	}
}

// goldenModel is a model of the reference data in a store.
type goldenModel struct {
	t     *testing.T
	eng   engine.Engine
	store engine.Store
	model family.Model
	dir   string
}

func openGolden(t *testing.T, dir string) *goldenModel {
	t.Helper()
	m, _, err := family.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	eng := openEngine(t)
	g := &goldenModel{t: t, eng: eng, store: eng.NewStore(), model: m, dir: dir}
	t.Cleanup(func() { g.store.Close() })
	return g
}

func openEngine(t *testing.T) engine.Engine {
	t.Helper()
	eng, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

// load fills the parameters from model.safetensors and, where heads is a file, from there under other names.
func (g *goldenModel) load(specs []*graph.StateSpec, heads string, rename func(string) string) {
	g.t.Helper()
	for _, s := range specs {
		if err := g.store.Declare(s); err != nil {
			g.t.Fatal(err)
		}
	}
	src, err := weights.Open(filepath.Join(g.dir, "model.safetensors"), weights.OpenOptions{})
	if err != nil {
		g.t.Fatal(err)
	}
	defer src.Close()
	opts := weights.LoadOptions{Ignored: append(g.model.Info().Ignored, "lm_head.weight")}
	if heads != "" {
		opts.Optional = func(name string) bool { return rename(name) != "" }
	}
	if err := weights.Load(g.store, specs, src, opts); err != nil {
		g.t.Fatal(err)
	}
	if heads == "" {
		return
	}
	f, err := safetensors.Open(heads)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	for _, s := range specs {
		if name := rename(s.Label); name != "" {
			x, err := f.Tensor(name)
			if err == nil {
				err = g.store.Set(s.Label, x)
			}
			if err != nil {
				g.t.Fatal(err)
			}
		}
	}
}

// outcome is what an objective reported, and the gradients of the parameters by name.
type outcome struct {
	report map[string]*tensor.Tensor
	grads  map[string][]float32
}

func (o outcome) scalar(name string) float32 { return o.report[name].F32()[0] }

// run evaluates an objective and its gradients on a batch, after loading the model's weights.
func (g *goldenModel) run(obj train.Objective, x *data.Batch, norm float64, heads string, rename func(string) string) outcome {
	g.t.Helper()
	var specs []*graph.StateSpec
	built, err := graph.Build(func(gr *graph.Graph) {
		b := nn.Inputs(gr, nn.Float32, x.P, x.B, x.T)
		loss, report := obj(b, g.model, gr.Input("targets", graph.Of(dtype.I32, x.B, x.T)), gr.Input("norm", graph.Of(dtype.F32)))
		for name, v := range report {
			gr.Output(name, v)
		}
		var params []*graph.Value
		for _, v := range gr.States() {
			if s := v.Node.Op.(graph.State).StateSpec; s.Role == graph.Param {
				params, specs = append(params, gr.State(*s)), append(specs, s)
			}
		}
		for i, d := range graph.Grad(loss, params, graph.GradOptions{}) {
			gr.Output("grad."+specs[i].Label, d)
		}
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.load(specs, heads, rename)
	p, err := g.eng.Compile(built, g.store, engine.Options{})
	if err != nil {
		g.t.Fatal(err)
	}
	defer p.Close()
	in := engine.Tensors(x.Tensors())
	delete(in, "labels")
	in["norm"] = scalarTensor(norm)
	out, err := p.Run(context.Background(), in)
	if err != nil {
		g.t.Fatal(err)
	}
	res := outcome{report: map[string]*tensor.Tensor{}, grads: map[string][]float32{}}
	for name, v := range out {
		if !strings.HasPrefix(name, "grad.") {
			res.report[name] = cloned(v)
		}
	}
	for _, s := range specs {
		all := out["grad."+s.Label].F32()
		n := len(all) / s.Parts()
		for i := range s.Parts() {
			res.grads[s.PartName(i)] = append([]float32(nil), all[i*n:(i+1)*n]...)
		}
	}
	return res
}

func cloned(v *tensor.Tensor) *tensor.Tensor {
	c := tensor.New(v.DType, v.Shape...)
	copy(c.Data, v.Data)
	return c
}

func scalarTensor(v float64) *tensor.Tensor {
	x := tensor.New(dtype.F32)
	x.F32()[0] = float32(v)
	return x
}

// scores gives the log-probabilities of the targets [B, T] under a model.
func (g *goldenModel) scores(x *data.Batch) []float32 {
	g.t.Helper()
	plain := *x
	plain.Extra = nil
	out := g.run(func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		s := b.Score(m.Hidden(b), m.Head(b), targets, false)
		return nn.CrossEntropy(s, norm), map[string]*graph.Value{"logp": s.LogProb}
	}, &plain, 1, "", nil)
	return out.report["logp"].F32()
}

// checkGrads compares every reference gradient with this prefix, and fails when there is none.
func checkGrads(t *testing.T, f *safetensors.File, prefix string, got map[string][]float32, abs, rel float64) {
	t.Helper()
	n := 0
	for _, name := range f.Names() {
		param, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n++
		want, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		near(t, name, got[param], want.F32(), abs, rel)
	}
	if n == 0 {
		t.Errorf("%s: no reference gradient", prefix)
	}
}

func openTensors(t *testing.T, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// maskedRows lays rows out as a batch; completion says which tokens are scored, attention which are no padding.
func maskedRows(ids, attention, completion [][]int32) *data.Batch {
	var rows []data.Sequence
	for i := range ids {
		var s data.Sequence
		for k, id := range ids[i] {
			if attention[i][k] == 0 {
				continue
			}
			label := id
			if completion[i][k] == 0 {
				label = data.Ignore
			}
			s.IDs, s.Labels = append(s.IDs, id), append(s.Labels, label)
		}
		rows = append(rows, s)
	}
	return data.PadBatch(rows, len(ids[0]), 0)
}

// rowSums adds up the rows of [B, T].
func rowSums(x []float32, rows int) []float32 {
	sums, t := make([]float32, rows), len(x)/rows
	for i := range sums {
		for _, v := range x[i*t : (i+1)*t] {
			sums[i] += v
		}
	}
	return sums
}

func vector(x []float32) *tensor.Tensor { return tensor.FromF32(x, len(x)) }
