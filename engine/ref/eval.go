package ref

import (
	"context"
	"math"
	"slices"

	"danlu/graph"
	"danlu/tensor"
)

// env is a run in progress. A Repeat's body has an environment of its own for each iteration, whose args are set.
type env struct {
	ctx    context.Context
	store  *store
	inputs map[string]*tensor.Tensor
	rows   int // real rows of axis 0 of Rows values; -1: not known yet, all
	values map[*graph.Value]*array
}

// live marks the nodes that wanted values need.
func live(g *graph.Graph, wanted []*graph.Value) map[*graph.Node]bool {
	set := map[*graph.Node]bool{}
	for _, v := range wanted {
		set[v.Node] = true
	}
	for _, n := range slices.Backward(g.Nodes) {
		if set[n] {
			for _, v := range n.In {
				if v != nil {
					set[v.Node] = true
				}
			}
		}
	}
	return set
}

func (e *env) value(v *graph.Value) *array {
	a := e.values[v]
	if a == nil {
		failf("%s was not computed", v.Node.Op.Name())
	}
	return a
}

// run computes the live nodes in order.
func (e *env) run(nodes []*graph.Node, live map[*graph.Node]bool) {
	for _, n := range nodes {
		if !live[n] || e.ctx.Err() != nil {
			continue
		}
		for i, a := range e.compute(n) {
			if v := n.Out[i]; e.values[v] == nil {
				if a.f != nil {
					round(a.f, v.DType)
				}
				e.values[v] = a
			}
		}
	}
}

// shape is a value's shape in this run: the declared one with the real number of rows.
func (e *env) shape(t graph.Type) []int {
	if !t.Rows || e.rows < 0 {
		return t.Shape
	}
	s := slices.Clone(t.Shape)
	s[0] = e.rows
	return s
}

func (e *env) typed(t graph.Type) graph.Type { return graph.Type{DType: t.DType, Shape: e.shape(t)} }

func (e *env) compute(n *graph.Node) []*array {
	in := make([]*array, len(n.In))
	for i, v := range n.In {
		if v != nil {
			in[i] = e.value(v)
		}
	}
	switch op := n.Op.(type) {
	case graph.Input:
		return []*array{e.input(op, n.Out[0].Type)}
	case graph.Arg:
		failf("an argument outside of its body")
	case graph.State:
		return []*array{e.store.byKey[op.Key()].value}
	case graph.Const:
		a, err := fromTensor(op.Tensor)
		if err != nil {
			failf("%v", err)
		}
		return []*array{a}
	case graph.Repeat:
		return e.repeat(n, op, in)
	case graph.CacheWrite:
		return []*array{cacheWrite(in)}
	case graph.CachedAttention:
		return []*array{cachedAttention(op, in, e.typed(n.Out[0].Type))}
	case graph.Decomposer:
		return e.decompose(n, op, in)
	}
	out := make([]graph.Type, len(n.Out))
	for i, v := range n.Out {
		out[i] = e.typed(v.Type)
	}
	return e.primitive(n, in, out)
}

// input converts what the caller gave, which may have fewer rows than declared.
func (e *env) input(op graph.Input, t graph.Type) *array {
	given := e.inputs[op.Label]
	if given == nil {
		failf("input %s: is missing", op.Label)
	}
	ok := given.DType == t.DType && len(given.Shape) == len(t.Shape)
	for i := range t.Shape {
		ok = ok && (given.Shape[i] == t.Shape[i] || i == 0 && t.Rows && given.Shape[0] <= t.Shape[0])
	}
	if ok && t.Rows {
		ok = e.rows < 0 || e.rows == given.Shape[0]
		e.rows = given.Shape[0]
	}
	if !ok {
		failf("input %s: want %v, got %v", op.Label, t, given)
	}
	a, err := fromTensor(given)
	if err != nil {
		failf("input %s: %v", op.Label, err)
	}
	return a
}

// decompose runs a fused operation as a small graph of its own, built for the shapes of this run.
func (e *env) decompose(n *graph.Node, op graph.Decomposer, in []*array) []*array {
	g := graph.New()
	inner := &env{ctx: e.ctx, store: e.store, inputs: e.inputs, rows: -1, values: map[*graph.Value]*array{}}
	args := make([]*graph.Value, len(in))
	for i, v := range n.In {
		if v != nil {
			args[i] = g.Apply(graph.Arg{Type: graph.Type{DType: v.DType, Shape: in[i].shape}})[0]
			inner.values[args[i]] = in[i]
		}
	}
	outs := op.Decompose(args)
	nodes := live(g, outs)
	for _, a := range args {
		if a != nil {
			delete(nodes, a.Node)
		}
	}
	inner.run(g.Nodes, nodes)
	result := make([]*array, len(outs))
	for i, v := range outs {
		result[i] = inner.value(v)
	}
	return result
}

// repeat runs a body for each iteration.
func (e *env) repeat(n *graph.Node, op graph.Repeat, in []*array) []*array {
	out := make([]*array, len(n.Out))
	for i := op.Carry; i < len(out); i++ {
		out[i] = newArray(n.Out[i].Type)
	}
	carry := slices.Clone(in[:op.Carry])
	nodes := live(op.Body.Graph, op.Body.Results)
	for k := range op.N {
		it := k
		if op.Reverse {
			it = op.N - 1 - k
		}
		inner := &env{ctx: e.ctx, store: e.store, inputs: e.inputs, rows: e.rows, values: map[*graph.Value]*array{}}
		for i, arg := range op.Body.Args {
			switch {
			case i < op.Carry:
				inner.values[arg] = carry[i]
			case i < op.Carry+op.Captured:
				inner.values[arg] = in[i]
			default:
				inner.values[arg] = in[i].part(it)
			}
			delete(nodes, arg.Node)
		}
		inner.run(op.Body.Graph.Nodes, nodes)
		if e.ctx.Err() != nil {
			failf("%v", e.ctx.Err())
		}
		for i, r := range op.Body.Results {
			a := inner.value(r)
			if i < op.Carry {
				carry[i] = a
			} else {
				if rows := len(a.shape) > 0 && len(out[i].shape) > 1 && a.shape[0] != out[i].shape[1]; rows {
					out[i].shape = append([]int{op.N}, a.shape...)
				}
				out[i].put(it, a)
			}
		}
	}
	copy(out, carry)
	return out
}

// strides of a row-major shape.
func strides(shape []int) []int {
	s := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		s[i] = n
		n *= shape[i]
	}
	return s
}

// aligned are the strides of an operand for walking over a broadcast result: zero along repeated axes.
func aligned(operand, result []int) []int {
	own := strides(operand)
	s := make([]int, len(result))
	lead := len(result) - len(operand)
	for i := range operand {
		if operand[i] != 1 || result[i+lead] == 1 {
			s[i+lead] = own[i]
		}
	}
	return s
}

// walk calls f with the offsets of each element of shape under several strides.
func walk(shape []int, f func(at []int), ss ...[]int) {
	n := tensor.Len(shape)
	index := make([]int, len(shape))
	at := make([]int, len(ss))
	for range n {
		f(at)
		for k := len(shape) - 1; k >= 0; k-- {
			index[k]++
			for j, s := range ss {
				at[j] += s[k]
			}
			if index[k] < shape[k] {
				break
			}
			for j, s := range ss {
				at[j] -= s[k] * shape[k]
			}
			index[k] = 0
		}
	}
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

var inf = math.Inf(1)
