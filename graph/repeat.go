package graph

import (
	"fmt"
	"slices"
)

// Repeat runs Body N times, from iteration 0 up or, when Reverse, from N-1 down. Operands and Body's arguments come in
// the same order: Carry values that each iteration hands to the next, Captured values that all iterations see, and
// stacked values with a leading axis of N, of which iteration i sees part i. Results are the last carries, then one
// stacked value for each further result of Body, to which iteration i contributes part i.
type Repeat struct {
	N               int
	Reverse         bool
	Carry, Captured int
	Body            *Body
}

// Body is the graph that a Repeat runs. It can grow results while gradients are built.
type Body struct {
	Graph   *Graph
	Args    []*Value // carries, captured, stacked
	Results []*Value // carries, stacked
}

// Arg is an argument of a Repeat's body.
type Arg struct{ Type Type }

// Name implements Op.
func (Arg) Name() string { return "arg" }

// Infer implements Op.
func (o Arg) Infer([]Type) ([]Type, error) { return []Type{o.Type}, nil }

// Name implements Op.
func (o Repeat) Name() string { return fmt.Sprintf("repeat %d", o.N) }

// Infer implements Op.
func (o Repeat) Infer(in []Type) ([]Type, error) {
	var out []Type
	for i, r := range o.Body.Results {
		if i < o.Carry {
			if !r.Type.Equal(in[i]) {
				return nil, fmt.Errorf("carry %d starts as %v and is handed on as %v", i, in[i], r.Type)
			}
			out = append(out, r.Type)
		} else {
			out = append(out, stacked(o.N, r.Type))
		}
	}
	return out, nil
}

func stacked(n int, t Type) Type {
	return Type{DType: t.DType, Shape: append([]int{n}, t.Shape...)}
}

type tap struct {
	name  string
	first int
	v     *Value
}

// region is the building state of a body.
type region struct {
	n          int
	prefix     string // put before the names of states declared inside; holds one %d
	first      int
	carry      []*Value // arguments
	captured   []*Value // arguments
	outer      []*Value // what captured arguments stand for, in the parent
	stacked    []*Value // arguments
	outerStack []*Value // what stacked arguments are parts of, in the parent
	outputs    []tap
	updates    []Update
}

// Layers describes the names in a run of equal layers: states declared in the body are called Prefix + their own name,
// where Prefix holds one %d that counts from First.
type Layers struct {
	N      int
	Prefix string
	First  int
}

// ForEach adds a Repeat over layers: body gets the graph to build in and the carried values, and returns the next ones.
func (g *Graph) ForEach(layers Layers, carry []*Value, body func(l *Graph, carry []*Value) []*Value) []*Value {
	if layers.N == 0 {
		return carry
	}
	r := &region{n: layers.N, prefix: layers.Prefix, first: layers.First}
	l := &Graph{parent: g, repeat: r}
	start := make([]*Value, len(carry))
	for i, v := range carry {
		start[i] = g.capture(v)
		r.carry = append(r.carry, l.Apply(Arg{v.Type})[0])
	}
	results := body(l, slices.Clone(r.carry))
	if len(results) != len(carry) {
		Failf("repeat %q: the body returns %d values for %d carried ones", layers.Prefix, len(results), len(carry))
	}
	for i := range results {
		results[i] = l.capture(results[i])
	}
	for _, u := range r.updates {
		results = append(results, u.Value)
	}
	for _, t := range r.outputs {
		results = append(results, t.v)
	}
	n := g.closeRepeat(l, start, results, false)
	for i, u := range r.updates {
		k := slices.Index(r.stacked, u.State)
		if k < 0 {
			Failf("repeat %q: update of a value that is not a state of the body", layers.Prefix)
		}
		g.Update(r.outerStack[k], n.Out[len(carry)+i])
	}
	for i, t := range r.outputs {
		out := Output{Name: t.name, Value: n.Out[len(carry)+len(r.updates)+i], First: t.first, Count: r.n}
		if g.repeat != nil {
			Failf("repeat %q: outputs of nested repeats are not supported", layers.Prefix)
		}
		g.Outputs = append(g.Outputs, out)
	}
	return slices.Clone(n.Out[:len(carry)])
}

// closeRepeat adds the Repeat node for a finished body.
func (g *Graph) closeRepeat(l *Graph, start, results []*Value, reverse bool) *Node {
	r := l.repeat
	body := &Body{Graph: l, Args: slices.Concat(r.carry, r.captured, r.stacked), Results: results}
	op := Repeat{N: r.n, Reverse: reverse, Carry: len(r.carry), Captured: len(r.captured), Body: body}
	return g.Apply(op, slices.Concat(start, r.outer, r.outerStack)...)[0].Node
}

// capture returns v as seen in g: v itself, or the argument of g that stands for the outer value v.
func (g *Graph) capture(v *Value) *Value {
	if v.Graph() == g {
		return v
	}
	if g.parent == nil || !g.within(v.Graph()) {
		Failf("%s %v belongs to another graph", v.Node.Op.Name(), v.Type)
	}
	r := g.repeat
	if i := slices.Index(r.outer, v); i >= 0 {
		return r.captured[i]
	}
	outer := g.parent.capture(v)
	if i := slices.Index(r.outer, outer); i >= 0 {
		return r.captured[i]
	}
	arg := g.Apply(Arg{v.Type})[0]
	r.captured, r.outer = append(r.captured, arg), append(r.outer, outer)
	return arg
}

// slice returns the argument of body g that is iteration i's part of the parent's value v.
func (g *Graph) slice(v *Value) *Value {
	r := g.repeat
	if i := slices.Index(r.outerStack, v); i >= 0 {
		return r.stacked[i]
	}
	t := Type{DType: v.DType, Shape: slices.Clone(v.Shape[1:])}
	arg := g.Apply(Arg{t})[0]
	r.stacked, r.outerStack = append(r.stacked, arg), append(r.outerStack, v)
	return arg
}

// state declares a body's state: stacked over the iterations in the parent.
func (r *region) state(g *Graph, spec StateSpec) *Value {
	return g.slice(g.parent.State(r.stack(spec)))
}

// stack is a body's state as its parent declares it.
func (r *region) stack(spec StateSpec) StateSpec {
	spec.Label = r.prefix + spec.Label
	spec.Stack = append([]Range{{r.first, r.n}}, spec.Stack...)
	spec.Type = stacked(r.n, spec.Type)
	if spec.Axes != nil {
		spec.Axes = append([]string{"layers"}, spec.Axes...)
	}
	return spec
}

// Qualified is the state that [Graph.State] declares for spec: named and stacked by the bodies around g.
func (g *Graph) Qualified(spec StateSpec) StateSpec {
	for ; g.repeat != nil; g = g.parent {
		spec = g.repeat.stack(spec)
	}
	return spec
}

// Each gives every iteration of body g its own part of what make builds in the parent, [n, ...] for n iterations. In
// the outermost graph it is the single part of one.
func (g *Graph) Each(make func(outer *Graph, n int) *Value) *Value {
	if g.repeat == nil {
		v := make(g, 1)
		return ReshapeTo(v, v.Shape[1:]...)
	}
	return g.slice(make(g.parent, g.repeat.n))
}
