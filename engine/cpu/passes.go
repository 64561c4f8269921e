package cpu

import "danlu/graph"

// readers counts the operands, and the results of bodies, that each value is.
func readers(nodes []*node, count map[*value]int) {
	for _, n := range nodes {
		for _, v := range n.in {
			if v != nil {
				count[v]++
			}
		}
		if n.body != nil {
			readers(n.body.nodes, count)
			for _, r := range n.body.results {
				if r != nil {
					count[r]++
				}
			}
		}
	}
}

// fuseAddRows turns a + (zeros with rows added) into a with rows added, so that of the two gradients of a tied embedding
// only one takes memory. Wanted values (outputs and updates) stay.
func fuseAddRows(nodes []*node, wanted []*value) []*node {
	count := map[*value]int{}
	readers(nodes, count)
	for _, v := range wanted {
		count[v]++
	}
	gone := map[*node]bool{}
	drop := func(n *node) {
		gone[n] = true
		for _, v := range n.in {
			if v != nil {
				count[v]--
			}
		}
	}
	for _, n := range nodes {
		if b, ok := n.op.(graph.Binary); !ok || b.Kind != graph.BinaryAdd {
			continue
		}
		for i, v := range n.in {
			other := n.in[1-i]
			if v.node == nil || count[v] != 1 || !v.typ.Equal(n.out[0].typ) || !other.typ.Equal(v.typ) {
				continue
			}
			if _, ok := v.node.op.(graph.ScatterAdd); !ok || !isZero(v.node.in[0]) {
				continue
			}
			s := v.node
			n.op, n.in = s.op, []*value{other, s.in[1], s.in[2]}
			zero := s.in[0]
			gone[s] = true
			for count[zero]--; count[zero] == 0 && zero.node != nil; {
				drop(zero.node)
				if len(zero.node.in) == 0 {
					break
				}
				zero = zero.node.in[0]
			}
			break
		}
	}
	kept := nodes[:0:0]
	for _, n := range nodes {
		if !gone[n] {
			kept = append(kept, n)
		}
	}
	return kept
}
