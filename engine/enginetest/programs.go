package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/graph"
	"danlu/tensor"
)

// repeatBody is a loss over operands that runs a Repeat; stacked operands enter it as parts.
type repeatBody struct {
	name string
	in   []Operand
	wrt  []int
	loss func(g *graph.Graph, in []*graph.Value) *graph.Value
}

func repeatBodies() []repeatBody {
	sum := func(v *graph.Value) *graph.Value { return graph.Sum(graph.Mul(v, graph.Sin(v))) }
	return []repeatBody{
		{"captured", []Operand{f32(3), f32(3, 3)}, []int{0, 1}, func(g *graph.Graph, in []*graph.Value) *graph.Value {
			out := g.ForEach(graph.Layers{N: 3, Prefix: "l%d."}, in[:1], func(l *graph.Graph, c []*graph.Value) []*graph.Value {
				x := graph.ReshapeTo(c[0], 1, 3)
				y := graph.Tanh(graph.Add(graph.Dot(x, in[1], false, false, dtype.F32), graph.MulScalar(x, 0.5)))
				return []*graph.Value{graph.ReshapeTo(y, 3)}
			})
			return sum(out[0])
		}},
		{"swap", []Operand{f32(4), f32(4)}, []int{0, 1}, func(g *graph.Graph, in []*graph.Value) *graph.Value {
			out := g.ForEach(graph.Layers{N: 5, Prefix: "l%d."}, in, func(l *graph.Graph, c []*graph.Value) []*graph.Value {
				return []*graph.Value{graph.Mul(c[1], graph.Cos(c[0])), c[0]}
			})
			return graph.Add(sum(out[0]), graph.MulScalar(sum(out[1]), 3))
		}},
		{"captured handed on", []Operand{f32(4), f32(4)}, []int{0, 1}, func(g *graph.Graph, in []*graph.Value) *graph.Value {
			out := g.ForEach(graph.Layers{N: 3, Prefix: "l%d."}, []*graph.Value{in[0], in[0]}, func(l *graph.Graph, c []*graph.Value) []*graph.Value {
				return []*graph.Value{graph.Mul(c[0], graph.Sin(c[1])), graph.Apply(graph.Same{}, c[1])[0].Graph().Apply(graph.Same{}, in[1])[0]}
			})
			direct := g.ForEach(graph.Layers{N: 2, Prefix: "m%d."}, []*graph.Value{in[0]}, func(l *graph.Graph, c []*graph.Value) []*graph.Value {
				return []*graph.Value{in[1]}
			})
			return graph.Add(graph.Add(sum(out[0]), sum(out[1])), graph.MulScalar(sum(direct[0]), 2))
		}},
		{"unused and integer carries", []Operand{f32(4), ids(4, 4), f32(4)}, []int{0, 2}, func(g *graph.Graph, in []*graph.Value) *graph.Value {
			out := g.ForEach(graph.Layers{N: 3, Prefix: "l%d."}, in, func(l *graph.Graph, c []*graph.Value) []*graph.Value {
				x := graph.Rows(graph.ReshapeTo(c[0], 4, 1), c[1])
				next := graph.Rem(graph.AddScalar(c[1], 1), graph.ConstLike(c[1], 4))
				return []*graph.Value{graph.Sin(graph.Add(graph.ReshapeTo(x, 4), graph.Mul(c[0], c[0]))), next, c[2]}
			})
			return sum(out[0])
		}},
		{"nested", []Operand{f32(3), f32(3), f32(3)}, []int{0, 1, 2}, func(g *graph.Graph, in []*graph.Value) *graph.Value {
			out := g.ForEach(graph.Layers{N: 2, Prefix: "l%d."}, in[:1], func(l *graph.Graph, c []*graph.Value) []*graph.Value {
				d := graph.Mul(c[0], in[1])
				return l.ForEach(graph.Layers{N: 3, Prefix: "m%d."}, []*graph.Value{d}, func(m *graph.Graph, e []*graph.Value) []*graph.Value {
					return []*graph.Value{graph.Add(graph.Sin(graph.Mul(e[0], in[2])), graph.Mul(d, graph.Tanh(e[0])))}
				})
			})
			return sum(out[0])
		}},
		{"fused", []Operand{f32(5, 8), f32(8), f32(12, 8), f32(8, 6)}, []int{0, 1, 2, 3}, func(g *graph.Graph, in []*graph.Value) *graph.Value {
			out := g.ForEach(graph.Layers{N: 3, Prefix: "l%d."}, in[:1], func(l *graph.Graph, c []*graph.Value) []*graph.Value {
				x := graph.NormRMS(c[0], in[1], 1e-5, dtype.F32)
				h := graph.GatedFused(graph.Project(x, in[2], nil, dtype.F32, dtype.F32), graph.SiLU, false)
				return []*graph.Value{graph.Add(c[0], graph.Project(h, in[3], nil, dtype.F32, dtype.F32))}
			})
			return sum(out[0])
		}},
	}
}

// model is a small pre-norm transformer with grouped attention, tied embeddings and packed documents, and its training
// step: T tokens a row, one row a batch.
type model struct {
	layers, d, heads, kv, k, f, vocab, b, t int
	compute                                 dtype.DType
}

func small(compute dtype.DType) model {
	return model{layers: 3, d: 12, heads: 4, kv: 2, k: 4, f: 20, vocab: 29, b: 2, t: 9, compute: compute}
}

func (m model) param(g *graph.Graph, label string, shape ...int) *graph.Value {
	return g.State(graph.StateSpec{Label: label, Type: graph.Of(dtype.F32, shape...)})
}

// build is forward, backward and AdamW; opts are the checkpointing policy.
func (m model) build(opts graph.GradOptions) (*graph.Graph, error) {
	return graph.Build(func(g *graph.Graph) {
		ids := g.Input("ids", graph.Of(dtype.I32, m.b, m.t))
		targets := g.Input("targets", graph.Of(dtype.I32, m.b*m.t))
		segments := g.Input("segments", graph.Of(dtype.I32, m.b, m.t))
		positions := g.Input("positions", graph.Of(dtype.I32, 1, m.b, m.t))
		freq := g.Const(tensor.FromF32([]float32{1, 0.1}, 2))
		cos, sin := graph.RotaryTables(positions, freq, nil, 1)
		act := m.compute
		embed := m.param(g, "embed", m.vocab, m.d)
		out := g.ForEach(graph.Layers{N: m.layers, Prefix: "layers.%d."}, []*graph.Value{graph.Embed(embed, ids, act)}, func(l *graph.Graph, c []*graph.Value) []*graph.Value {
			linear := func(label string, x *graph.Value, n int) *graph.Value {
				return graph.Project(x, m.param(l, label, n, x.Last()), nil, m.compute, act)
			}
			heads := func(x *graph.Value) *graph.Value { return graph.ReshapeTo(x, m.b, m.t, -1, m.k) }
			x := graph.NormRMS(c[0], m.param(l, "norm1", m.d), 1e-5, act)
			q, k := graph.Rotate(heads(linear("q", x, m.heads*m.k)), cos, sin, false), graph.Rotate(heads(linear("k", x, m.kv*m.k)), cos, sin, false)
			a := graph.Attend(graph.Attention{Scale: 0.5, Causal: true, Compute: m.compute}, q, k, heads(linear("v", x, m.kv*m.k)), graph.AttentionMask{Segments: segments})
			h := graph.Add(c[0], linear("o", graph.ReshapeTo(a, m.b, m.t, m.heads*m.k), m.d))
			x = graph.NormRMS(h, m.param(l, "norm2", m.d), 1e-5, act)
			y := graph.Gated(linear("gate", x, m.f), linear("up", x, m.f), graph.SiLU)
			h = graph.Add(h, linear("down", y, m.d))
			l.Output("hidden.%d", h)
			return []*graph.Value{h}
		})
		x := graph.NormRMS(out[0], m.param(g, "norm", m.d), 1e-5, act)
		score := graph.LogProbs(graph.LinearLogProb{Compute: m.compute}, graph.ReshapeTo(x, m.b*m.t, m.d), embed, targets)
		loss := graph.MulScalar(graph.Sum(score[0]), -1/float64(m.b*m.t))
		z := graph.MulScalar(graph.Sum(graph.Mul(score[1], score[1])), 1e-3/float64(m.b*m.t))
		loss = graph.Add(loss, z)
		params := g.States()
		grads := graph.Grad(loss, params, opts)
		norm := graph.Sqrt(graph.Squares(grads...))
		g.Output("loss", loss)
		g.Output("norm", norm)
		scale := graph.Min(g.Scalar(1), graph.Div(g.Scalar(1), graph.AddScalar(norm, 1e-6)))
		lr, step := g.Input("lr", graph.Of(dtype.F32)), g.Input("step", graph.Of(dtype.F32))
		for i, p := range params {
			spec := *p.Node.Op.(graph.State).StateSpec
			moment := func(prefix string) *graph.Value {
				s := spec
				s.Label, s.Role = prefix+s.Label, graph.OptState
				return g.State(s)
			}
			mm, v := moment("m."), moment("v.")
			next := graph.Apply(graph.AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-3, WeightDecay: 0.1}, p, grads[i], mm, v, lr, scale, step)
			g.Update(p, next[0])
			g.Update(mm, next[1])
			g.Update(v, next[2])
		}
	})
}

func (m model) batch(step int) engine.Tensors {
	n := m.b * m.t
	ids, targets, segments, positions := make([]int32, n), make([]int32, n), make([]int32, n), make([]int32, n)
	for i := range n {
		ids[i] = int32((i*7 + step*3) % m.vocab)
		targets[i] = int32((i*5 + step) % m.vocab)
		if i%8 == 0 {
			targets[i] = -100
		}
		segments[i] = int32(i % m.t / 5)
		positions[i] = int32(i % m.t % 5)
	}
	return engine.Tensors{
		"ids": tensor.FromI32(ids, m.b, m.t), "targets": tensor.FromI32(targets, n), "segments": tensor.FromI32(segments, m.b, m.t), "positions": tensor.FromI32(positions, 1, m.b, m.t),
		"lr": tensor.FromF32([]float32{0.01}), "step": tensor.FromF32([]float32{float32(step + 1)}),
	}
}

// train runs steps and returns every output and, at the end, every state.
func (m model) train(t testing.TB, e engine.Engine, opts graph.GradOptions, steps int) []engine.Tensors {
	t.Helper()
	g, err := m.build(opts)
	if err != nil {
		t.Fatal(err)
	}
	store := e.NewStore()
	p, err := e.Compile(g, store, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { p.Close(); store.Close() }()
	for _, v := range g.States() {
		spec := v.Node.Op.(graph.State).StateSpec
		for i := range spec.Parts() {
			if spec.Role != graph.Param {
				continue
			}
			o := Operand{Type: spec.PartType()}
			x := Case{In: []Operand{o}}.tensors(uint64(v.Node.ID*100 + i))[0]
			for k := range x.F32() {
				x.F32()[k] *= 0.3
			}
			if err := store.Set(spec.PartName(i), x); err != nil {
				t.Fatal(err)
			}
		}
	}
	var history []engine.Tensors
	for s := range steps {
		out, err := p.Run(context.Background(), m.batch(s))
		if err != nil {
			t.Fatal(err)
		}
		copied := engine.Tensors{}
		for name, x := range out {
			copied[name] = &tensor.Tensor{DType: x.DType, Shape: x.Shape, Data: bytes.Clone(x.Data)}
		}
		history = append(history, copied)
	}
	final := engine.Tensors{}
	for _, spec := range store.Specs() {
		for i := range spec.Parts() {
			name := spec.PartName(i)
			if final[name], err = store.Get(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return append(history, final)
}

// testTraining compares four steps of the small transformer. Errors of a step feed the next ones, so the bound is a
// model-level one: 1e-4 of the largest element in float32. In bfloat16 activations carry 2^-8 each; through the layers
// and four clipped Adam steps of size lr = 0.01 they may move a weight by a share of the steps, so 4% of the outputs.
func testTraining(t *testing.T, newEngine func() engine.Engine) {
	for compute, tol := range map[dtype.DType]float64{dtype.F32: 1e-4, dtype.BF16: 4e-2} {
		t.Run(compute.String(), func(t *testing.T) {
			want := small(compute).train(t, ref.New(), graph.GradOptions{}, 4)
			first, last := want[0]["loss"].F32()[0], want[3]["loss"].F32()[0]
			if !(last < first) {
				t.Errorf("the reference's loss does not fall: %v, %v", first, last)
			}
			for policy, opts := range map[string]graph.GradOptions{"cheap": {}, "layers": {Recompute: graph.RecomputeLayers}} {
				e := newEngine()
				got := small(compute).train(t, e, opts, 4)
				for i := range want {
					if len(got[i]) != len(want[i]) {
						t.Errorf("%s step %d: %d tensors, want %d", policy, i, len(got[i]), len(want[i]))
					}
					for name, w := range want[i] {
						if got[i][name] == nil {
							t.Errorf("%s step %d: %s is missing", policy, i, name)
							continue
						}
						Compare(t, fmt.Sprintf("%s step %d %s", policy, i, name), got[i][name], w, tol)
					}
				}
				e.Close()
			}
		})
	}
}

// testThreads trains with 1, 2 and 3 threads and wants the same bytes.
func testThreads(t *testing.T, threads func(int) engine.Engine) {
	for _, compute := range []dtype.DType{dtype.F32, dtype.BF16} {
		var first []engine.Tensors
		for _, n := range []int{1, 2, 3} {
			e := threads(n)
			got := small(compute).train(t, e, graph.GradOptions{}, 3)
			e.Close()
			if first == nil {
				first = got
				continue
			}
			for i := range first {
				for name, w := range first[i] {
					if !bytes.Equal(got[i][name].Data, w.Data) {
						t.Errorf("%v: step %d: %s differs between 1 and %d threads", compute, i, name, n)
					}
				}
			}
		}
	}
}

// testRepeat compares values and gradients of repeats.
func testRepeat(t *testing.T, newEngine func() engine.Engine) {
	for _, c := range repeatBodies() {
		for policy, opts := range map[string]graph.GradOptions{"cheap": {}, "layers": {Recompute: graph.RecomputeLayers}} {
			g, err := graph.Build(func(g *graph.Graph) {
				in := make([]*graph.Value, len(c.in))
				for i, o := range c.in {
					in[i] = g.Input(fmt.Sprintf("x%d", i), o.Type)
				}
				loss := c.loss(g, in)
				g.Output("loss", loss)
				var wrt []*graph.Value
				for _, i := range c.wrt {
					wrt = append(wrt, in[i])
				}
				for i, d := range graph.Grad(loss, wrt, opts) {
					g.Output(fmt.Sprintf("d%d", i), d)
				}
			})
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			in := Case{In: c.in}.inputs(5)
			t.Run(c.name+" "+policy, func(t *testing.T) {
				e := newEngine()
				defer e.Close()
				compareAll(t, execute(t, e, g, in), execute(t, ref.New(), g, in), 64, false)
			})
		}
	}
}
