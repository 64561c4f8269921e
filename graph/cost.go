package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Cost is what an operation does at full sizes: floating-point operations and the bytes of its operands and results.
type Cost struct {
	FLOPs, BytesRead, BytesWritten float64
}

func (c Cost) plus(d Cost, times float64) Cost {
	return Cost{c.FLOPs + times*d.FLOPs, c.BytesRead + times*d.BytesRead, c.BytesWritten + times*d.BytesWritten}
}

// Cost is the node's cost; a Repeat costs its body times its iterations. Names for other values (arguments, inputs,
// constants, states, reshapes) cost nothing.
func (n *Node) Cost() Cost {
	var c Cost
	switch op := n.Op.(type) {
	case Repeat:
		for _, m := range op.Body.Graph.Nodes {
			c = c.plus(m.Cost(), float64(op.N))
		}
		return c
	case Input, State, Const, Arg, Reshape, Same, StopGradient:
		return c
	case Transpose, Broadcast, Slice, Concat, Gather, TakeAlong, Cast, Iota, Select: // move elements
	case Coster:
		in, out := make([]Type, len(n.In)), make([]Type, len(n.Out))
		for i, v := range n.In {
			if v != nil {
				in[i] = v.Type
			}
		}
		for i, v := range n.Out {
			out[i] = v.Type
		}
		c.FLOPs = op.FLOPs(in, out)
	case Reduce:
		c.FLOPs = float64(n.In[0].Len())
	default:
		for _, v := range n.Out {
			c.FLOPs += float64(v.Len())
		}
	}
	for i, v := range n.In {
		if v == nil {
			continue
		}
		read := float64(v.Bytes())
		switch n.Op.(type) {
		case Gather, Embedding, TakeAlong, Slice: // read no more of it than they give
			if i == 0 {
				read = min(read, float64(v.DType.BlockBytes())/float64(max(1, v.DType.BlockLen()))*float64(n.Out[0].Len()))
			}
		}
		c.BytesRead += read
	}
	for _, v := range n.Out {
		c.BytesWritten += float64(v.Bytes())
	}
	return c
}

// OpCost is the cost of all nodes of one kind.
type OpCost struct {
	Name  string // the operation's name without attributes
	Count int    // runs, iterations of bodies counted
	Cost
}

// Costs adds up the costs of the live nodes by kind of operation, bodies included, costliest first; live nil means all.
func (g *Graph) Costs(live map[*Node]bool) []OpCost {
	byName := map[string]*OpCost{}
	g.addCosts(live, 1, byName)
	var list []OpCost
	for _, c := range byName {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b OpCost) int {
		return cmp.Or(cmp.Compare(b.FLOPs, a.FLOPs), cmp.Compare(b.BytesRead, a.BytesRead), strings.Compare(a.Name, b.Name))
	})
	return list
}

func (g *Graph) addCosts(live map[*Node]bool, times int, byName map[string]*OpCost) {
	for _, n := range g.Nodes {
		if live != nil && !live[n] {
			continue
		}
		if op, ok := n.Op.(Repeat); ok {
			op.Body.Graph.addCosts(live, times*op.N, byName)
			continue
		}
		cost := n.Cost()
		if cost == (Cost{}) {
			continue
		}
		name, _, _ := strings.Cut(n.Op.Name(), " ")
		if byName[name] == nil {
			byName[name] = &OpCost{Name: name}
		}
		c := byName[name]
		c.Count += times
		c.Cost = c.Cost.plus(cost, float64(times))
	}
}

// TotalCost is the cost of the live nodes; live nil means all.
func (g *Graph) TotalCost(live map[*Node]bool) Cost {
	var total Cost
	for _, c := range g.Costs(live) {
		total = total.plus(c.Cost, 1)
	}
	return total
}

// Live marks the nodes, in bodies too, that the named outputs (nil: all) and, when updates, the state updates need.
func (g *Graph) Live(outputs []string, updates bool) map[*Node]bool {
	set := map[*Value]bool{}
	for _, o := range g.Outputs {
		if outputs == nil || slices.Contains(outputs, o.Name) {
			set[o.Value] = true
		}
	}
	if updates {
		for _, u := range g.Updates {
			set[u.Value] = true
		}
	}
	nodes := map[*Node]bool{}
	g.live(set, nodes)
	return nodes
}

// live extends wanted values to all that they need, and marks the nodes.
func (g *Graph) live(set map[*Value]bool, nodes map[*Node]bool) {
	for _, n := range slices.Backward(g.Nodes) {
		if !slices.ContainsFunc(n.Out, func(v *Value) bool { return set[v] }) {
			continue
		}
		nodes[n] = true
		op, ok := n.Op.(Repeat)
		if !ok {
			for _, v := range n.In {
				if v != nil {
					set[v] = true
				}
			}
			continue
		}
		for i, r := range op.Body.Results {
			if set[n.Out[i]] {
				set[r] = true
			}
		}
		for changed := true; changed; { // a carry that is read must be handed on
			op.Body.Graph.live(set, nodes)
			changed = false
			for i := range op.Carry {
				if set[op.Body.Args[i]] && !set[op.Body.Results[i]] {
					set[op.Body.Results[i]], changed = true, true
				}
			}
		}
		for i, arg := range op.Body.Args {
			if set[arg] {
				set[n.In[i]] = true
			}
		}
	}
}

// String lists the nodes, one a line, bodies indented.
func (g *Graph) String() string {
	var b strings.Builder
	g.print(&b, "")
	for _, o := range g.Outputs {
		fmt.Fprintf(&b, "output %s = %s\n", o.Name, o.Value.label())
	}
	for _, u := range g.Updates {
		fmt.Fprintf(&b, "update %s = %s\n", u.State.Node.Op.Name(), u.Value.label())
	}
	return b.String()
}

// label is a value's name in the listing: node number, and result number after the first.
func (v *Value) label() string {
	switch {
	case v == nil:
		return "-"
	case v.Index == 0:
		return fmt.Sprintf("%%%d", v.Node.ID)
	}
	return fmt.Sprintf("%%%d.%d", v.Node.ID, v.Index)
}

func labels(vs []*Value) string {
	s := make([]string, len(vs))
	for i, v := range vs {
		s[i] = v.label()
	}
	return strings.Join(s, ", ")
}

func (g *Graph) print(b *strings.Builder, indent string) {
	for _, n := range g.Nodes {
		types := make([]string, len(n.Out))
		for i, v := range n.Out {
			types[i] = v.Type.String()
		}
		fmt.Fprintf(b, "%s%%%d = %s(%s) %s\n", indent, n.ID, n.Op.Name(), labels(n.In), strings.Join(types, ", "))
		if op, ok := n.Op.(Repeat); ok {
			op.Body.Graph.print(b, indent+"  ")
			fmt.Fprintf(b, "%s  return %s\n", indent, labels(op.Body.Results))
		}
	}
}
