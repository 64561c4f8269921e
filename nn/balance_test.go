package nn

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/engine/ref"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/tensor"
)

type moeCase struct {
	Aux struct {
		TopK   int       `json:"top_k"`
		Loss   float64   `json:"loss"`
		Masked float64   `json:"loss_masked"`
		Switch float64   `json:"switch_normalised"`
		Mask   [][]int32 `json:"attention_mask"`
	} `json:"aux"`
	ZLoss struct {
		Coef   float64 `json:"coef"`
		Loss   float64 `json:"loss_f64"`
		Logits string  `json:"logits"`
	} `json:"router_z_loss"`
	Gate struct {
		TopK      int       `json:"top_k"`
		Groups    int       `json:"n_group"`
		TopGroups int       `json:"topk_group"`
		Scale     float64   `json:"routed_scaling_factor"`
		Normalise bool      `json:"norm_topk_prob"`
		Indices   [][]int32 `json:"indices_sorted_by_biased_score"`
	} `json:"gate"`
	Softmax struct {
		Indices    [][]int32   `json:"indices"`
		Normalised [][]float32 `json:"weights_norm_topk"`
		Raw        [][]float32 `json:"weights_raw"`
	} `json:"softmax_topk"`
	Greedy  choices `json:"group_limited_greedy_v2"`
	Mixtral choices `json:"mixtral_softmax_after_topk"`
	Bias    struct {
		Speed float64 `json:"speed"`
		Steps []struct {
			Step      int       `json:"step"`
			Before    []float32 `json:"bias_before"`
			Load      []float32 `json:"load"`
			After     []float32 `json:"bias_after"`
			Violation float64   `json:"max_violation"`
		} `json:"steps"`
	} `json:"bias_update"`
	Sequence struct {
		Alpha float64   `json:"alpha"`
		TopK  int       `json:"top_k"`
		Each  []float32 `json:"loss_per_sequence"`
		Mean  float64   `json:"loss_mean"`
	} `json:"sequence_balance"`
	Capacity struct {
		Capacity int        `json:"capacity"`
		Kept     [][4]int32 `json:"token_slot_expert_kept"`
	} `json:"capacity_drop"`
}

type choices struct {
	Indices [][]int32   `json:"indices"`
	Weights [][]float32 `json:"weights"`
}

// moeGolden evaluates small graphs on the reference tensors.
type moeGolden struct {
	*testing.T
	eng  engine.Engine
	file *safetensors.File
	in   engine.Tensors
}

// value declares a reference tensor as an input of the graph.
func (m *moeGolden) value(g *graph.Graph, name string) *graph.Value {
	x, err := m.file.Tensor(name)
	if err != nil {
		m.Fatal(err)
	}
	m.in[name] = x
	return g.Input(name, graph.Of(x.DType, x.Shape...))
}

func (m *moeGolden) run(build func(g *graph.Graph)) engine.Tensors {
	m.Helper()
	m.in = engine.Tensors{}
	g, err := graph.Build(build)
	if err != nil {
		m.Fatal(err)
	}
	p, err := m.eng.Compile(g, m.eng.NewStore(), engine.Options{})
	if err != nil {
		m.Fatal(err)
	}
	defer p.Close()
	out, err := p.Run(context.Background(), m.in)
	if err != nil {
		m.Fatal(err)
	}
	kept := engine.Tensors{}
	for name, v := range out {
		c := tensor.New(v.DType, v.Shape...)
		copy(c.Data, v.Data)
		kept[name] = c
	}
	return kept
}

// moeTolerance is the README's.
const moeTolerance = 2e-6

func (m *moeGolden) near(name string, got, want []float32) {
	m.Helper()
	if len(got) != len(want) {
		m.Errorf("%s: want %d values, got %d", name, len(want), len(got))
		return
	}
	for i := range want {
		if !(math.Abs(float64(got[i]-want[i])) <= moeTolerance*max(1, math.Abs(float64(want[i])))) {
			m.Errorf("%s[%d]: want %v, got %v", name, i, want[i], got[i])
			return
		}
	}
}

func (m *moeGolden) reference(name string) []float32 {
	x, err := m.file.Tensor(name)
	if err != nil {
		m.Fatal(err)
	}
	return x.F32()
}

func flat[T any](rows [][]T) []T { return slices.Concat(rows...) }

func TestGoldenMoE(t *testing.T) {
	dir := numtest.Goldens(t, "training/moe")
	raw, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c moeCase
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	file, err := safetensors.Open(filepath.Join(dir, "tensors.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fast, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer fast.Close()
	for _, eng := range []engine.Engine{fast, ref.New()} {
		t.Run(eng.Name(), func(t *testing.T) {
			m := &moeGolden{T: t, eng: eng, file: file}
			m.auxiliary(c)
			m.gate(c)
			m.routings(c)
			m.bias(c)
			m.sequence(c)
		})
	}
	numtest.Count(t, "training/moe", 8+len(c.Bias.Steps))
}

func (m *moeGolden) auxiliary(c moeCase) {
	var names []string
	for _, n := range m.file.Names() {
		if strings.HasPrefix(n, "aux.router_logits.") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for _, masked := range []bool{false, true} {
		name, want := "aux", c.Aux.Loss
		if masked {
			name, want = "aux_masked", c.Aux.Masked
		}
		out := m.run(func(g *graph.Graph) {
			var layers []Routing
			var logits []*graph.Value
			for _, n := range names {
				z := m.value(g, n)
				logits, layers = append(logits, z), append(layers, SoftmaxRouting(z, c.Aux.TopK, false))
			}
			var mask *graph.Value
			if masked {
				ones := flat(c.Aux.Mask)
				m.in["mask"] = tensor.FromI32(ones, len(ones))
				mask = graph.Convert(g.Input("mask", graph.Of(dtype.I32, len(ones))), dtype.F32)
			}
			loss := BalanceLoss(layers, mask)
			g.Output("loss", loss)
			for i, d := range graph.Grad(loss, logits, graph.GradOptions{}) {
				g.Output("grad."+strconv.Itoa(i), d)
			}
		})
		m.near(name, out["loss"].F32(), []float32{float32(want)})
		for i := range names {
			m.near(name+".grad", out["grad."+strconv.Itoa(i)].F32(), m.reference(name+".grad."+strconv.Itoa(i)))
		}
		if !masked {
			m.near("switch", []float32{out["loss"].F32()[0] / float32(c.Aux.TopK)}, []float32{float32(c.Aux.Switch)})
		}
	}
	out := m.run(func(g *graph.Graph) { g.Output("z", RouterZLoss(m.value(g, c.ZLoss.Logits))) })
	m.near("router z-loss", []float32{out["z"].F32()[0] * float32(c.ZLoss.Coef)}, []float32{float32(c.ZLoss.Loss)})
}

// limited is the reference data's gate.
func (c moeCase) limited() GroupLimited {
	return GroupLimited{K: c.Gate.TopK, Groups: c.Gate.Groups, TopGroups: c.Gate.TopGroups, Normalise: c.Gate.Normalise, Scale: c.Gate.Scale}
}

func (m *moeGolden) gate(c moeCase) {
	out := m.run(func(g *graph.Graph) {
		x, w := m.value(g, "gate.x"), m.value(g, "gate.weight")
		r := c.limited().Route(graph.Project(x, w, nil, dtype.F32, dtype.F32), m.value(g, "gate.bias"))
		g.Output("ids", r.IDs)
		g.Output("weights", r.Weights)
		loss := graph.Sum(graph.Mul(r.Weights, m.value(g, "gate.cotangent")))
		d := graph.Grad(loss, []*graph.Value{x, w}, graph.GradOptions{})
		g.Output("dx", d[0])
		g.Output("dw", d[1])
	})
	if got := out["ids"].I32(); !slices.Equal(got, flat(c.Gate.Indices)) {
		m.Errorf("gate: indices %v", got)
	}
	m.near("gate weights", out["weights"].F32(), m.reference("gate.weights_sorted"))
	m.near("gate x gradient", out["dx"].F32(), m.reference("gate.grad_x"))
	m.near("gate weight gradient", out["dw"].F32(), m.reference("gate.grad_weight"))
}

func (m *moeGolden) routings(c moeCase) {
	// The same tokens under the other rules: their logits are those of the gate.
	logits := func(g *graph.Graph) *graph.Value {
		return graph.Project(m.value(g, "gate.x"), m.value(g, "gate.weight"), nil, dtype.F32, dtype.F32)
	}
	k := c.Gate.TopK
	for _, r := range []struct {
		name    string
		route   func(z *graph.Value) Routing
		ids     [][]int32
		weights [][]float32
	}{
		{"softmax", func(z *graph.Value) Routing { return SoftmaxRouting(z, k, false) }, c.Softmax.Indices, c.Softmax.Raw},
		{"softmax normalised", func(z *graph.Value) Routing { return SoftmaxRouting(z, k, true) }, c.Softmax.Indices, c.Softmax.Normalised},
		{"mixtral", func(z *graph.Value) Routing { return TopSoftmaxRouting(z, k) }, c.Mixtral.Indices, c.Mixtral.Weights},
		{"greedy", func(z *graph.Value) Routing { return GroupGreedyRouting(z, k, c.Gate.Groups, c.Gate.TopGroups, 1) }, c.Greedy.Indices, c.Greedy.Weights},
	} {
		out := m.run(func(g *graph.Graph) {
			x := r.route(logits(g))
			g.Output("ids", x.IDs)
			g.Output("weights", x.Weights)
			g.Output("kept", KeptWithin(x.IDs, x.Scores.Last(), c.Capacity.Capacity))
		})
		if got := out["ids"].I32(); !slices.Equal(got, flat(r.ids)) {
			m.Errorf("%s: want %v, got %v", r.name, flat(r.ids), got)
		}
		m.near(r.name, out["weights"].F32(), flat(r.weights))
		if r.name != "mixtral" {
			continue
		}
		for _, row := range c.Capacity.Kept {
			at := int(row[0])*k + int(row[1])
			if out["ids"].I32()[at] != row[2] || out["kept"].F32()[at] != float32(row[3]) {
				m.Errorf("capacity: token %d choice %d: want expert %d kept %d, got %d %v", row[0], row[1], row[2], row[3], out["ids"].I32()[at], out["kept"].F32()[at])
			}
		}
	}
}

func (m *moeGolden) bias(c moeCase) {
	for _, s := range c.Bias.Steps {
		out := m.run(func(g *graph.Graph) {
			m.in["before"] = tensor.FromF32(s.Before, len(s.Before))
			before := g.Input("before", graph.Of(dtype.F32, len(s.Before)))
			z := graph.Project(m.value(g, "bias.x."+strconv.Itoa(s.Step)), m.value(g, "gate.weight"), nil, dtype.F32, dtype.F32)
			load := ExpertLoad(c.limited().Route(z, before).IDs, len(s.Before), nil)
			g.Output("load", load)
			g.Output("after", BalancedBias(before, load, c.Bias.Speed))
			g.Output("violation", Violation(load))
		})
		if got := out["load"].F32(); !slices.Equal(got, s.Load) {
			m.Errorf("step %d: load: want %v, got %v", s.Step, s.Load, got)
		}
		m.near("bias", out["after"].F32(), s.After)
		m.near("violation", out["violation"].F32(), []float32{float32(s.Violation)})
	}
}

func (m *moeGolden) sequence(c moeCase) {
	out := m.run(func(g *graph.Graph) {
		z := m.value(g, "seq.router_logits")
		b, t, e := z.Shape[0], z.Shape[1], z.Shape[2]
		r := GroupLimited{K: c.Sequence.TopK, Groups: 1, TopGroups: 1, Normalise: true, Scale: 1}.Route(graph.ReshapeTo(z, b*t, e), m.value(g, "seq.bias"))
		each := graph.MulScalar(SequenceBalanceLoss(r, b), c.Sequence.Alpha)
		g.Output("each", each)
		mean := graph.MulScalar(graph.Sum(each), 1/float64(b))
		g.Output("mean", mean)
		g.Output("grad", graph.Grad(mean, []*graph.Value{z}, graph.GradOptions{})[0])
	})
	m.near("sequence balance", out["each"].F32(), c.Sequence.Each)
	m.near("sequence balance mean", out["mean"].F32(), []float32{float32(c.Sequence.Mean)})
	m.near("sequence balance gradient", out["grad"].F32(), m.reference("seq.grad"))
}
