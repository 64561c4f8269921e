package train

import (
	"context"
	"slices"

	"danlu/data"
	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
)

// Reading is what is computed of a batch without gradients: named values.
type Reading func(b *nn.Build, m family.Model, targets *graph.Value) map[string]*graph.Value

// LogProbs reads the log-probability of each target [B, T], 0 where there is none, as logp.
func LogProbs(b *nn.Build, m family.Model, targets *graph.Value) map[string]*graph.Value {
	return map[string]*graph.Value{"logp": complete(b, m, targets, false).logp}
}

// LogProbsAndValues reads logp, as LogProbs does, and the values of a head at the same places [B, T].
func LogProbsAndValues(head ScalarHead) Reading {
	return func(b *nn.Build, m family.Model, targets *graph.Value) map[string]*graph.Value {
		hidden := m.Hidden(b)
		c := completionsOf(b, hidden, m.Head(b), targets, false)
		return map[string]*graph.Value{"logp": c.logp, "values": graph.Mul(head.Build(b, hidden), c.mask)}
	}
}

// HiddenRows reads the final hidden rows [B, T, D] as hidden.
func HiddenRows(b *nn.Build, m family.Model, targets *graph.Value) map[string]*graph.Value {
	return map[string]*graph.Value{"hidden": graph.Convert(m.Hidden(b), dtype.F32)}
}

// BestTokens reads a model's k most probable next tokens at each place among the first vocabulary ids: ids [B, T, k] and
// their probabilities probs, which add up to one.
func BestTokens(k, vocabulary int, temperature float64) Reading {
	return func(b *nn.Build, m family.Model, targets *graph.Value) map[string]*graph.Value {
		z := graph.Cut(b.Logits(m.Hidden(b), m.Head(b)), 2, 0, vocabulary)
		best, ids := graph.Top(z, k)
		return map[string]*graph.Value{"ids": ids, "probs": graph.SoftmaxOf(graph.MulScalar(best, 1/temperature))}
	}
}

// Forward reads batches with a model: a second model, or the one that is trained as it is now.
type Forward struct {
	Engine  engine.Engine
	Store   engine.Store
	Model   family.Model
	Policy  nn.Policy
	Reading Reading
	// Prepare, if set, says what every build is to have: adapters, storage of weights.
	Prepare func(b *nn.Build)

	programs map[shape]engine.Program
	used     []shape
	largest  int64 // memory of the largest program so far, within which the others are kept
}

// Run reads a batch. The tensors hold until the next Run.
func (f *Forward) Run(ctx context.Context, x *data.Batch) (engine.Tensors, error) {
	p, err := f.program(shapeOf(x))
	if err != nil {
		return nil, err
	}
	in := engine.Tensors{}
	for name, t := range x.Tensors() {
		if _, extra := x.Extra[name]; !extra && name != "labels" {
			in[name] = t
		}
	}
	return p.Run(ctx, in)
}

// States lists what the reading needs of the store.
func (f *Forward) States() ([]*graph.StateSpec, error) {
	g, err := f.build(shape{b: 2, t: 2, p: f.Model.Info().PositionRows})
	if err != nil {
		return nil, err
	}
	var specs []*graph.StateSpec
	for _, v := range g.States() {
		specs = append(specs, v.Node.Op.(graph.State).StateSpec)
	}
	return specs, nil
}

// Reserve compiles the program of the largest batch and returns its memory in bytes.
func (f *Forward) Reserve(l Largest) (int64, error) {
	_, err := f.program(shape{b: l.B, t: l.T, p: l.P, prefix: l.Prefix})
	return f.largest, err
}

func (f *Forward) build(k shape) (*graph.Graph, error) {
	return graph.Build(func(g *graph.Graph) {
		b := nn.Inputs(g, f.Policy, k.p, k.b, k.t)
		if f.Prepare != nil {
			f.Prepare(b)
		}
		if k.prefix {
			b.Mask.Prefix = g.Input("prefix", graph.Of(dtype.I32, k.b))
		}
		for name, v := range f.Reading(b, f.Model, g.Input("targets", graph.Of(dtype.I32, k.b, k.t))) {
			g.Output(name, v)
		}
	})
}

func (f *Forward) program(k shape) (engine.Program, error) {
	f.used = append(slices.DeleteFunc(f.used, func(u shape) bool { return u == k }), k)
	if p := f.programs[k]; p != nil {
		return p, nil
	}
	g, err := f.build(k)
	if err != nil {
		return nil, err
	}
	p, err := f.Engine.Compile(g, f.Store, engine.Options{})
	if err != nil {
		return nil, err
	}
	if f.programs == nil {
		f.programs = map[shape]engine.Program{}
	}
	f.programs[k] = p
	f.largest = max(f.largest, bytesOf(p))
	for len(f.used) > 1 && f.memory() > f.largest {
		old := f.used[0]
		f.used = f.used[1:]
		if err := f.programs[old].Close(); err != nil {
			return nil, err
		}
		delete(f.programs, old)
	}
	return p, nil
}

func (f *Forward) memory() (sum int64) {
	for _, p := range f.programs {
		sum += bytesOf(p)
	}
	return sum
}

// Close frees the programs.
func (f *Forward) Close() error {
	var first error
	for _, p := range f.programs {
		if err := p.Close(); first == nil {
			first = err
		}
	}
	f.programs, f.used = nil, nil
	return first
}
