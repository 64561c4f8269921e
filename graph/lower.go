package graph

import "slices"

// Lower rewrites g with fused operations replaced by their decompositions, in bodies too, except those that keep takes
// (nil: none). CacheWrite and CachedAttention have no decomposition and stay. g is not changed.
func Lower(g *Graph, keep func(Op) bool) *Graph {
	out := New()
	m := map[*Value]*Value{}
	lower(g, out, m, keep)
	for _, o := range g.Outputs {
		o.Value = m[o.Value]
		out.Outputs = append(out.Outputs, o)
	}
	for _, u := range g.Updates {
		out.Updates = append(out.Updates, Update{m[u.State], m[u.Value]})
	}
	return out
}

func lower(from, to *Graph, m map[*Value]*Value, keep func(Op) bool) {
	for _, n := range from.Nodes {
		in := make([]*Value, len(n.In))
		for i, v := range n.In {
			if v != nil {
				in[i] = m[v]
			}
		}
		var out []*Value
		switch op := n.Op.(type) {
		case Arg: // made with its body
			continue
		case Repeat:
			out = lowerRepeat(op, to, m, keep, in)
		case Decomposer:
			if keep != nil && keep(op) {
				out = to.Apply(op, in...)
			} else {
				out = expand(op, to, in, keep)
			}
		default:
			out = to.Apply(op, in...)
		}
		for i, v := range n.Out {
			m[v] = out[i]
		}
	}
}

// expand adds op's decomposition to the graph, and those of fused operations within it.
func expand(op Decomposer, to *Graph, in []*Value, keep func(Op) bool) []*Value {
	scratch := New()
	args := make([]*Value, len(in))
	m := map[*Value]*Value{}
	for i, v := range in {
		if v != nil {
			args[i] = scratch.Apply(Arg{v.Type})[0]
			m[args[i]] = v
		}
	}
	results := op.Decompose(args)
	lower(scratch, to, m, keep)
	out := make([]*Value, len(results))
	for i, r := range results {
		out[i] = m[r]
	}
	return out
}

func lowerRepeat(op Repeat, to *Graph, m map[*Value]*Value, keep func(Op) bool, in []*Value) []*Value {
	body := &Body{Graph: &Graph{parent: to, repeat: &region{n: op.N}}}
	for _, a := range op.Body.Args {
		arg := body.Graph.Apply(Arg{a.Type})[0]
		body.Args, m[a] = append(body.Args, arg), arg
	}
	lower(op.Body.Graph, body.Graph, m, keep)
	for _, r := range op.Body.Results {
		body.Results = append(body.Results, m[r])
	}
	return to.Apply(Repeat{N: op.N, Reverse: op.Reverse, Carry: op.Carry, Captured: op.Captured, Body: body}, slices.Clone(in)...)
}
