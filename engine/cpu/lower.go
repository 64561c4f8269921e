package cpu

import (
	"fmt"
	"slices"

	"danlu/graph"
)

// value is a result of a node, with the shape of the run for which the graph is being lowered.
type value struct {
	typ  graph.Type
	node *node // nil: an argument of a body
	out  int
	last int      // position of the last reader
	st   *storage // where it is
	off  int      // bytes from the storage's start
	dest *storage // where it has to be written, when that is decided before it is computed
	// packed says that it is a state whose matrices are packed, or a part of one.
	packed bool
	label  string // of the state that it is or is a part of
}

// node is an operation of a lowered graph.
type node struct {
	op       graph.Op
	in, out  []*value
	body     *body
	pos, end int // place in the order of execution; a Repeat's body lies between
}

// body is the lowered graph of a Repeat.
type body struct {
	nodes         []*node
	args, results []*value // as graph.Body; results that are not wanted are nil
}

// lowering turns a graph into nodes: without what is not needed, with the shapes of the run, and with operations that
// have no kernel expanded.
type lowering struct {
	rows  int // of Rows values; -1: as declared
	env   map[*graph.Value]*value
	live  map[*graph.Value]bool
	nodes []*node
	// decomposed collects the names of the operations that were expanded.
	decomposed map[string]bool
}

// lower adds the live nodes of g.
func (l *lowering) lower(g *graph.Graph) error {
	for _, n := range g.Nodes {
		if _, arg := n.Op.(graph.Arg); arg || !slices.ContainsFunc(n.Out, func(v *graph.Value) bool { return l.live[v] }) {
			continue
		}
		if err := l.add(n); err != nil {
			return fmt.Errorf("%s: %w", n.Op.Name(), err)
		}
	}
	return nil
}

func (l *lowering) add(n *graph.Node) error {
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
	if err := l.unpack(n.Op, in); err != nil {
		return err
	}
	switch op := n.Op.(type) {
	case graph.Same, graph.StopGradient:
		l.env[n.Out[0]] = in[0]
		return nil
	case graph.Repeat:
		return l.repeat(n, op, in)
	case graph.Decomposer:
		if !native(op, types) && !nativePacked(op, in) {
			return l.decompose(n, op, in)
		}
	}
	op := l.adapt(n, types)
	var out []graph.Type
	if l.rows < 0 {
		for _, v := range n.Out {
			out = append(out, v.Type)
		}
	} else {
		var err error
		if out, err = op.Infer(types); err != nil {
			return fmt.Errorf("with %d rows: %w", l.rows, err)
		}
	}
	m := l.emit(op, in, out)
	for i, v := range n.Out {
		l.env[v] = m.out[i]
	}
	return nil
}

func (l *lowering) emit(op graph.Op, in []*value, out []graph.Type) *node {
	m := &node{op: op, in: in}
	for i, t := range out {
		m.out = append(m.out, &value{typ: t, node: m, out: i})
	}
	if s, ok := op.(graph.State); ok {
		m.out[0].packed = packs(s.StateSpec)
	}
	l.nodes = append(l.nodes, m)
	return m
}

// isZero reports whether v is a constant zero or a broadcast one.
func isZero(v *value) bool {
	for v.node != nil {
		switch op := v.node.op.(type) {
		case graph.Broadcast:
			v = v.node.in[0]
		case graph.Const:
			for _, b := range op.Tensor.Data {
				if b != 0 {
					return false
				}
			}
			return true
		default:
			return false
		}
	}
	return false
}

// adapt gives operations whose attributes hold shapes the shapes of this run.
func (l *lowering) adapt(n *graph.Node, in []graph.Type) graph.Op {
	if l.rows < 0 {
		return n.Op
	}
	return n.WithRows(l.rows, in)
}

// decompose lowers a fused operation's definition by primitives.
func (l *lowering) decompose(n *graph.Node, op graph.Decomposer, in []*value) error {
	l.decomposed[op.Name()] = true
	g := graph.New()
	args := make([]*graph.Value, len(in))
	inner := &lowering{rows: -1, env: map[*graph.Value]*value{}, nodes: l.nodes, decomposed: l.decomposed}
	for i, v := range in {
		if v != nil {
			args[i] = g.Apply(graph.Arg{Type: v.typ})[0]
			inner.env[args[i]] = v
		}
	}
	outs := op.Decompose(args)
	inner.live = graph.Needed(g, outs...)
	err := inner.lower(g)
	l.nodes = inner.nodes
	if err != nil {
		return err
	}
	for i, v := range outs {
		l.env[n.Out[i]] = inner.env[v]
	}
	return nil
}

// repeat lowers a Repeat and its body.
func (l *lowering) repeat(n *graph.Node, op graph.Repeat, in []*value) error {
	inner := &lowering{rows: l.rows, env: l.env, live: l.live, decomposed: l.decomposed}
	b := &body{args: make([]*value, len(in)), results: make([]*value, len(op.Body.Results))}
	for i, a := range op.Body.Args {
		switch {
		case in[i] == nil:
			continue
		case i < op.Carry:
			b.args[i] = &value{typ: in[i].typ}
		case i < op.Carry+op.Captured:
			b.args[i] = in[i] // the same memory in every iteration
		default:
			t := in[i].typ
			t.Shape = t.Shape[1:]
			b.args[i] = &value{typ: t, packed: in[i].packed}
		}
		l.env[a] = b.args[i]
	}
	if err := inner.lower(op.Body.Graph); err != nil {
		return err
	}
	b.nodes = inner.nodes
	m := &node{op: op, in: in, body: b}
	for i, r := range op.Body.Results {
		out := &value{node: m, out: i, typ: n.Out[i].Type}
		if l.live[r] && (i < op.Carry || l.live[n.Out[i]]) {
			b.results[i] = l.env[r]
			out.typ = b.results[i].typ
			if i >= op.Carry {
				out.typ = graph.Type{DType: out.typ.DType, Shape: append([]int{op.N}, out.typ.Shape...)}
			}
		}
		m.out = append(m.out, out)
		l.env[n.Out[i]] = out
	}
	l.nodes = append(l.nodes, m)
	return nil
}

// number gives every node its place in the order of execution and every value its last reader.
func number(nodes []*node, at int) int {
	for _, n := range nodes {
		n.pos, n.end = at, at
		at++
		if n.body != nil {
			at = number(n.body.nodes, at)
			for _, r := range n.body.results {
				if r != nil {
					r.last = max(r.last, at)
				}
			}
			n.end = at
			at++
		}
		for _, v := range n.in {
			if v != nil {
				v.last = max(v.last, n.end)
			}
		}
	}
	return at
}

// extend lets the operand of a view live as long as the view.
func extend(nodes []*node) {
	for _, n := range slices.Backward(nodes) {
		if n.body != nil {
			extend(n.body.nodes)
		} else if _, ok := isView(n); ok {
			n.in[0].last = max(n.in[0].last, n.out[0].last)
		}
	}
}
