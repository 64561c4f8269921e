package graph

import (
	"slices"

	"danlu/tensor"
)

// WithRows is n's operation for a run of the given number of rows: attributes that hold shapes get the shapes of that
// run. The operands' types in that run are in.
func (n *Node) WithRows(rows int, in []Type) Op {
	first := func(shape []int, counts bool) []int {
		shape = slices.Clone(shape)
		if counts && len(shape) > 0 {
			shape[0] = rows
		}
		return shape
	}
	counts := n.Out[0].Rows
	switch op := n.Op.(type) {
	case Input:
		op.Type.Shape = first(op.Type.Shape, op.Type.Rows)
		return op
	case Broadcast:
		op.Shape = first(op.Shape, counts)
		return op
	case Random:
		op.Shape = first(op.Shape, counts)
		return op
	case Iota:
		op.Type.Shape = first(op.Type.Shape, counts)
		return op
	case Slice:
		if declared := n.In[0].Shape[op.Axis]; declared != in[0].Shape[op.Axis] {
			op.End = min(op.End, in[0].Shape[op.Axis])
		}
		return op
	case Reshape:
		have, declared := in[0].Len(), n.In[0].Len()
		if have == declared {
			return op
		}
		// The row axis may have been folded into another: the first axis that can shrink by the same ratio does.
		shape := slices.Clone(op.Shape)
		for i, d := range shape {
			if d > 0 && d*have%declared == 0 {
				if shape[i] = d * have / declared; tensor.Len(shape) == have {
					op.Shape = shape
					return op
				}
				shape[i] = d
			}
		}
		return op
	}
	return n.Op
}

// Needed is the set of values, in bodies too, on which the wanted values of g depend, themselves included.
func Needed(g *Graph, wanted ...*Value) map[*Value]bool {
	set := map[*Value]bool{}
	for _, v := range wanted {
		set[v] = true
	}
	g.need(set)
	return set
}

func (g *Graph) need(set map[*Value]bool) {
	for _, n := range slices.Backward(g.Nodes) {
		if !slices.ContainsFunc(n.Out, func(v *Value) bool { return set[v] }) {
			continue
		}
		op, ok := n.Op.(Repeat)
		if ok {
			for i, r := range op.Body.Results {
				if i < op.Carry || set[n.Out[i]] {
					set[r] = true
				}
			}
			op.Body.Graph.need(set)
		}
		for i, v := range n.In {
			if v != nil && (!ok || i < op.Carry || set[op.Body.Args[i]]) {
				set[v] = true
			}
		}
	}
}
