package xla

import (
	"fmt"
	"slices"

	"danlu/dtype"
	"danlu/graph"
)

// lowering writes a graph as the text of a program.
type lowering struct {
	writer
	rows  int // of Rows values in this run; -1: as declared
	env   map[*graph.Value]*value
	live  map[*graph.Value]bool
	hosts bool // the program is of one of several processes
	// given makes an argument of the program for an input or a state.
	given func(op graph.Op) *value
}

// graph writes the live nodes of g.
func (l *lowering) graph(g *graph.Graph) error {
	for _, n := range g.Nodes {
		if _, arg := n.Op.(graph.Arg); arg || !slices.ContainsFunc(n.Out, func(v *graph.Value) bool { return l.live[v] }) {
			continue
		}
		if err := l.node(n); err != nil {
			return fmt.Errorf("%s: %w", n.Op.Name(), err)
		}
	}
	return nil
}

func (l *lowering) node(n *graph.Node) error {
	in := make([]*value, len(n.In))
	types := make([]graph.Type, len(n.In))
	for i, v := range n.In {
		if v == nil || !l.live[v] {
			continue
		}
		if in[i] = l.env[v]; in[i] == nil {
			return fmt.Errorf("operand %d was not computed", i)
		}
		types[i] = in[i].typ
	}
	op := n.Op
	if l.rows >= 0 {
		op = n.WithRows(l.rows, types)
	}
	var out []*value
	var err error
	switch op := op.(type) {
	case graph.Same, graph.StopGradient:
		out = in
	case graph.Input:
		out = []*value{l.given(op)}
	case graph.State:
		out = []*value{l.given(op)}
	case graph.Repeat:
		return l.repeat(n, op, in)
	case graph.CacheWrite:
		out = []*value{l.cacheWrite(in)}
	case graph.CachedAttention:
		out, err = l.cachedAttention(op, in)
	case graph.SumHosts:
		if out = in; l.hosts {
			out = l.sumHosts(in)
		}
	case graph.Decomposer:
		out, err = l.decompose(op, in)
	default:
		var results []graph.Type
		if results, err = op.Infer(types); err == nil {
			out, err = l.primitive(op, in, results)
		}
	}
	if err != nil {
		return err
	}
	for i, v := range n.Out {
		l.env[v] = out[i]
	}
	return nil
}

// decompose writes a fused operation as its definition by primitives.
func (l *lowering) decompose(op graph.Decomposer, in []*value) ([]*value, error) {
	return l.expand(in, func(args []*graph.Value) []*graph.Value { return definition(op, args) })
}

// expand writes what build makes of values.
func (l *lowering) expand(in []*value, build func(in []*graph.Value) []*graph.Value) ([]*value, error) {
	g := graph.New()
	inner := &lowering{writer: l.writer, rows: -1, env: map[*graph.Value]*value{}}
	args := make([]*graph.Value, len(in))
	for i, v := range in {
		if v != nil {
			args[i] = g.Apply(graph.Arg{Type: v.typ})[0]
			inner.env[args[i]] = v
		}
	}
	outs := build(args)
	inner.live = graph.Needed(g, outs...)
	if err := inner.graph(g); err != nil {
		return nil, err
	}
	results := make([]*value, len(outs))
	for i, v := range outs {
		results[i] = inner.env[v]
	}
	return results, nil
}

// definition is an operation's decomposition, but for those where another one is more exact here.
func definition(op graph.Decomposer, in []*graph.Value) []*graph.Value {
	switch op := op.(type) {
	case graph.RotaryTable: // angles in float64
		wide := slices.Clone(in)
		wide[1] = graph.Convert(in[1], dtype.F64)
		return rotaryTable(op, wide)
	case graph.SumSquares: // rows in float32, their sums in float64
		return []*graph.Value{sumSquares(in)}
	}
	return op.Decompose(in)
}

// rotaryTable is RotaryTable with frequencies in float64.
func rotaryTable(op graph.RotaryTable, in []*graph.Value) []*graph.Value {
	pos, freq := in[0], in[1]
	b, t := pos.Shape[1], pos.Shape[2]
	sections := op.Sections
	if sections == nil {
		sections = []int{freq.Shape[0]}
	}
	var angles []*graph.Value
	at := 0
	for i, n := range sections {
		row := graph.ReshapeTo(graph.Convert(graph.Cut(pos, 0, i, i+1), dtype.F64), b, t, 1)
		angles = append(angles, graph.Mul(row, graph.Cut(freq, 0, at, at+n)))
		at += n
	}
	angle := graph.Join(2, angles...)
	table := func(x *graph.Value) *graph.Value {
		return graph.MulScalar(graph.Convert(x, dtype.F32), op.Scale)
	}
	return []*graph.Value{table(graph.Cos(angle)), table(graph.Sin(angle))}
}

func sumSquares(in []*graph.Value) *graph.Value {
	var sum *graph.Value
	for _, x := range in {
		x = graph.Convert(x, dtype.F32)
		s := graph.Mul(x, x)
		if x.Rank() > 1 {
			s = graph.Sum(s, -1)
		}
		if s = graph.Sum(graph.Convert(s, dtype.F64)); sum != nil {
			s = graph.Add(sum, s)
		}
		sum = s
	}
	return graph.Convert(sum, dtype.F32)
}
