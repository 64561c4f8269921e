package family

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
)

// forward checks logits, hidden states, loss and gradients, and then the documented variants.
func (v *verification) forward(ctx context.Context) error {
	x, err := v.batch()
	if err != nil {
		return err
	}
	g, out, err := v.train(ctx, v.model, x)
	if err != nil {
		return err
	}
	if err := v.compareAll(out, g, x); err != nil {
		return err
	}
	if v.golden.Loss != nil {
		got := float64(out["loss"].F32()[0])
		v.res.LossErr = math.Abs(got-*v.golden.Loss) / math.Abs(*v.golden.Loss)
	}
	return v.variants(ctx, x)
}

// train runs the training graph of a model, with every tap.
func (v *verification) train(ctx context.Context, m Model, x *batch) (*graph.Graph, engine.Tensors, error) {
	g, err := graph.Build(func(g *graph.Graph) {
		b := x.inputs(g, v.opts.Policy)
		b.Taps = true
		hidden := m.Hidden(b)
		head := m.Head(b)
		g.Output("logits", b.Logits(hidden, head))
		targets := g.Input("targets", graph.Of(dtype.I32, x.b, x.t))
		loss := nn.CrossEntropy(b.Score(hidden, head, targets, false), g.Input("norm", graph.Of(dtype.F32)))
		if mt, ok := m.(MultiToken); ok {
			if ahead := mt.MTPHidden(b, hidden); ahead != nil {
				g.Output("mtp_logits", b.Logits(ahead, head))
				score := b.Score(ahead, head, graph.Cut(targets, 1, 1, x.t), false)
				mtp := nn.CrossEntropy(score, g.Input("norm_ahead", graph.Of(dtype.F32)))
				loss = graph.Add(loss, graph.MulScalar(mtp, v.golden.MTPLambda))
			}
		}
		g.Output("loss", loss)
		var params []*graph.Value
		for _, s := range g.States() {
			if spec := s.Node.Op.(graph.State); spec.Role == graph.Param {
				params = append(params, s)
			}
		}
		for i, d := range graph.Grad(loss, params, graph.GradOptions{}) {
			g.Output("grad."+params[i].Node.Op.(graph.State).Key(), d)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	program, err := v.opts.Engine.Compile(g, v.store, engine.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer program.Close()
	in := x.tensors()
	out, err := program.Run(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	// The program's tensors go with it.
	for name, t := range out {
		out[name] = &tensor.Tensor{DType: t.DType, Shape: t.Shape, Data: slices.Clone(t.Data)}
	}
	return g, out, nil
}

// variant is a documented variation of a family: a tensor of the reference data that a changed config must give.
type variant struct {
	prefix string // of the reference tensors
	change func(g *golden) map[string]json.RawMessage
	base   string // what stands for the prefix in the plain outputs
}

func setting(key, value string) func(*golden) map[string]json.RawMessage {
	return func(*golden) map[string]json.RawMessage {
		return map[string]json.RawMessage{key: json.RawMessage(value)}
	}
}

var variants = []variant{
	{"logits_inv_freq_fp16", setting("inv_freq_fp16", "true"), "logits"},
	{"logits_erf_gelu", setting("hidden_act", `"gelu"`), "logits"},
	{"grad_shrink.", func(g *golden) map[string]json.RawMessage {
		return map[string]json.RawMessage{"embedding_gradient_shrink": json.RawMessage(strconv.FormatFloat(g.Shrink, 'g', -1, 64))}
	}, "grad."},
}

// variants checks the tensors of documented variants.
func (v *verification) variants(ctx context.Context, x *batch) error {
	for _, k := range variants {
		var names []string
		for _, n := range v.file.Names() {
			if strings.HasPrefix(n, k.prefix) {
				names = append(names, n)
			}
		}
		if names == nil {
			continue
		}
		m, err := v.configured(k.change(&v.golden))
		if err != nil {
			return err
		}
		g, out, err := v.train(ctx, m, x)
		if err != nil {
			return err
		}
		grads := gradients(g, out)
		for _, n := range names {
			want, err := v.file.Tensor(n)
			if err != nil {
				return err
			}
			plain := k.base + strings.TrimPrefix(n, k.prefix)
			got, scale, limit := out[plain], v.golden.MaxAbsLogit, tolLogits
			if grads[plain] != nil {
				got, scale, limit = grads[plain], maxAbs(want.F32()), tolGrad
			}
			if got == nil {
				continue
			}
			// Reported in units of the logits' tolerance, whatever the tensor's own.
			e := relErr(got.F32(), want.F32(), scale, nil, 1) * tolLogits / limit
			v.res.ExtraErr = worse(v.res.ExtraErr, e)
			v.checked[n] = true
		}
	}
	return nil
}

// gradients are the gradient outputs by the names of single tensors.
func gradients(g *graph.Graph, out engine.Tensors) map[string]*tensor.Tensor {
	grads := map[string]*tensor.Tensor{}
	for _, s := range g.States() {
		spec := s.Node.Op.(graph.State)
		if d := out["grad."+spec.Key()]; d != nil {
			size := len(d.Data) / spec.Parts()
			for i := range spec.Parts() {
				grads["grad."+spec.PartName(i)] = &tensor.Tensor{DType: d.DType, Shape: spec.PartType().Shape, Data: d.Data[i*size : (i+1)*size]}
			}
		}
	}
	return grads
}
