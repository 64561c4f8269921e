package graph

import (
	"slices"

	"danlu/tensor"
)

// Backward is what a gradient rule sees: the forward operands and results as values of the graph in which the backward
// pass is being built, and the cotangents of the results.
//
// Reverse-mode differentiation as in Griewank & Walther, "Evaluating Derivatives" (2008), ch. 3; the treatment of
// Repeat follows the scan rule of Radul et al., "You Only Linearize Once" (arXiv:2204.10923).
type Backward struct {
	node *Node
	d    *differ
	dout []*Value
}

// Op is the forward operation.
func (b *Backward) Op() Op { return b.node.Op }

// In returns forward operand i (nil when absent). Only operands asked for are kept for the backward pass.
func (b *Backward) In(i int) *Value {
	if b.node.In[i] == nil {
		return nil
	}
	return b.d.resolve(b.node.In[i])
}

// Out returns forward result i.
func (b *Backward) Out(i int) *Value { return b.d.resolve(b.node.Out[i]) }

// InType is the type of forward operand i; asking for it keeps nothing.
func (b *Backward) InType(i int) Type {
	if b.node.In[i] == nil {
		return Type{}
	}
	return b.node.In[i].Type
}

// OutType is the type of forward result i.
func (b *Backward) OutType(i int) Type { return b.node.Out[i].Type }

// Len is the number of forward operands.
func (b *Backward) Len() int { return len(b.node.In) }

// DOut returns the cotangent of result i, nil when the loss does not depend on it.
func (b *Backward) DOut(i int) *Value { return b.dout[i] }

// DOutOrZero returns the cotangent of result i, zeros when the loss does not depend on it.
func (b *Backward) DOutOrZero(i int) *Value {
	if b.dout[i] == nil {
		b.dout[i] = Zeros(b.d.target, b.node.Out[i].Type)
	}
	return b.dout[i]
}

// Needs reports whether operand i's cotangent is wanted.
func (b *Backward) Needs(i int) bool { return b.node.In[i] != nil && b.d.needs[b.node.In[i]] }

// Decomposed differentiates op through its decomposition, for rules that cover only the usual case.
func (b *Backward) Decomposed(op Decomposer) []*Value {
	return b.d.reverseDecomposed(b.node, op, b.dout)
}

// Graph is where the backward pass is being built.
func (b *Backward) Graph() *Graph { return b.d.target }

// Zeros is a broadcast zero of type t, its rows included.
func Zeros(g *Graph, t Type) *Value {
	z := g.Const(tensor.New(t.DType))
	if len(t.Shape) == 0 {
		return z
	}
	return one(Broadcast{Shape: slices.Clone(t.Shape), Rows: t.Rows}, z)
}

// GradOptions chooses what the backward pass keeps and what it computes again.
type GradOptions struct {
	// Recompute reports whether a forward node runs again in the backward pass instead of its results being kept.
	// Nil keeps all but the results of Cheap operations.
	Recompute func(n *Node) bool
}

// RecomputeCheap is the default policy: results of Cheap operations are computed again.
func RecomputeCheap(n *Node) bool {
	c, ok := n.Op.(Cheap)
	return ok && c.Cheap()
}

// RecomputeLayers keeps only what goes in and out of each Repeat iteration (Chen et al., arXiv:1604.06174).
func RecomputeLayers(n *Node) bool { return n.Graph.repeat != nil || RecomputeCheap(n) }

// Grad returns the gradients of the scalar loss with respect to wrt, which must be values of the loss's graph (the
// stacked state itself for weights inside a Repeat). A value on which the loss does not depend has gradient zero.
func Grad(loss *Value, wrt []*Value, opts GradOptions) []*Value {
	if len(loss.Shape) != 0 {
		Failf("grad: the loss has shape %v, want a scalar", loss.Shape)
	}
	g := loss.Graph()
	if opts.Recompute == nil {
		opts.Recompute = RecomputeCheap
	}
	d := &differ{target: g, recompute: opts.Recompute, needs: needs(g, wrt), cot: map[*Value]*Value{}, again: map[*Value]*Value{}}
	d.resolve = d.resolveFlat
	one := tensor.New(loss.DType)
	Fill(one, 1)
	d.cot[loss] = g.Const(one)
	d.reverse(g.Nodes[:loss.Node.ID+1])
	grads := make([]*Value, len(wrt))
	for i, v := range wrt {
		if grads[i] = d.cot[v]; grads[i] == nil {
			grads[i] = Zeros(g, v.Type)
		}
	}
	return grads
}

// differ builds the backward pass of one graph (or body) in target.
type differ struct {
	target    *Graph
	recompute func(*Node) bool
	needs     map[*Value]bool
	cot       map[*Value]*Value // forward value → cotangent, in target
	again     map[*Value]*Value // forward value → its copy in target
	resolve   func(*Value) *Value
}

// needs is the set of values through which the loss can depend on wrt, within g and its bodies.
func needs(g *Graph, wrt []*Value) map[*Value]bool {
	set := map[*Value]bool{}
	for _, v := range wrt {
		set[v] = true
	}
	spread(g, set)
	return set
}

func spread(g *Graph, set map[*Value]bool) {
	for _, n := range g.Nodes {
		if op, ok := n.Op.(Repeat); ok {
			spreadRepeat(n, op, set)
			continue
		}
		if _, stop := n.Op.(StopGradient); stop {
			continue
		}
		for _, v := range n.In {
			if v != nil && set[v] {
				for _, o := range n.Out {
					if o.DType.IsFloat() {
						set[o] = true
					}
				}
				break
			}
		}
	}
}

// spreadRepeat iterates to a fixed point, since a carry can come to need a gradient through another one.
func spreadRepeat(n *Node, op Repeat, set map[*Value]bool) {
	for i, v := range n.In {
		if set[v] {
			set[op.Body.Args[i]] = true
		}
	}
	for changed := true; changed; {
		changed = false
		spread(op.Body.Graph, set)
		for i := range op.Carry {
			if set[op.Body.Results[i]] && !set[op.Body.Args[i]] {
				set[op.Body.Args[i]] = true
				changed = true
			}
		}
	}
	for i, r := range op.Body.Results {
		if set[r] || i < op.Carry && set[op.Body.Args[i]] {
			set[n.Out[i]] = true
		}
	}
}

// reverse walks the forward nodes backwards and adds up cotangents.
func (d *differ) reverse(nodes []*Node) {
	for _, n := range slices.Backward(nodes) {
		dout := make([]*Value, len(n.Out))
		any, needed := false, false
		for i, o := range n.Out {
			dout[i] = d.cot[o]
			any = any || dout[i] != nil
		}
		for _, v := range n.In {
			needed = needed || v != nil && d.needs[v]
		}
		if !any || !needed {
			continue
		}
		var din []*Value
		switch op := n.Op.(type) {
		case Repeat:
			din = d.reverseRepeat(n, op, dout)
		case Differentiable:
			din = op.VJP(&Backward{n, d, dout})
		case Decomposer:
			din = d.reverseDecomposed(n, op, dout)
		default:
			Failf("%s has no gradient", n.Op.Name())
		}
		for i, c := range din {
			if c != nil && n.In[i] != nil && d.needs[n.In[i]] {
				if !c.Type.Equal(n.In[i].Type) {
					Failf("%s: cotangent of operand %d is %v, want %v", n.Op.Name(), i, c.Type, n.In[i].Type)
				}
				d.add(n.In[i], c)
			}
		}
	}
}

func (d *differ) add(v, c *Value) {
	if old := d.cot[v]; old != nil {
		c = Add(old, c)
	}
	d.cot[v] = c
}

// reverseDecomposed differentiates a fused operation without a rule through its decomposition, computed again.
func (d *differ) reverseDecomposed(n *Node, op Decomposer, dout []*Value) []*Value {
	in := make([]*Value, len(n.In))
	var wrt []*Value
	for i, v := range n.In {
		if v != nil {
			// A copy of the operand's identity, so that contributions of this operation alone are collected.
			in[i] = d.target.Apply(Same{}, d.resolve(v))[0]
			if d.needs[v] {
				wrt = append(wrt, in[i])
			}
		}
	}
	start := len(d.target.Nodes)
	outs := op.Decompose(in)
	inner := &differ{target: d.target, recompute: func(*Node) bool { return false }, needs: map[*Value]bool{}, cot: map[*Value]*Value{}, again: map[*Value]*Value{}}
	inner.resolve = func(v *Value) *Value { return d.target.capture(v) }
	for _, v := range wrt {
		inner.needs[v] = true
	}
	nodes := slices.Clone(d.target.Nodes[start:])
	for _, m := range nodes {
		if slices.ContainsFunc(m.In, func(v *Value) bool { return v != nil && inner.needs[v] }) {
			for _, o := range m.Out {
				inner.needs[o] = o.DType.IsFloat()
			}
		}
	}
	for i, o := range outs {
		if dout[i] != nil {
			inner.add(o, dout[i])
		}
	}
	inner.reverse(nodes)
	din := make([]*Value, len(in))
	for i, v := range in {
		if v != nil {
			din[i] = inner.cot[v]
		}
	}
	return din
}

// resolveFlat returns a forward value for use in the backward pass of the same graph: itself, or computed again.
func (d *differ) resolveFlat(v *Value) *Value {
	if v.Graph() != d.target {
		return d.target.capture(v)
	}
	if !d.recompute(v.Node) || isLeaf(v.Node.Op) {
		return v
	}
	return d.computeAgain(v)
}

func (d *differ) computeAgain(v *Value) *Value {
	if c := d.again[v]; c != nil {
		return c
	}
	in := make([]*Value, len(v.Node.In))
	for i, u := range v.Node.In {
		if u != nil {
			in[i] = d.resolve(u)
		}
	}
	for i, c := range d.target.Apply(v.Node.Op, in...) {
		d.again[v.Node.Out[i]] = c
	}
	return d.again[v]
}

func isLeaf(op Op) bool {
	switch op.(type) {
	case Input, State, Const, Arg, Repeat:
		return true
	}
	return false
}

// reverseRepeat builds the backward Repeat: it runs the other way, carries the cotangents of the carries and the sums
// of those of captured values, sees what the forward pass kept as stacked values, and stacks the cotangents of the
// forward stacked operands.
func (d *differ) reverseRepeat(n *Node, op Repeat, dout []*Value) []*Value {
	g, body := d.target, op.Body
	r := &region{n: op.N}
	bb := &Graph{parent: g, repeat: r}
	inner := &differ{target: bb, recompute: d.recompute, needs: d.needs, cot: map[*Value]*Value{}, again: map[*Value]*Value{}}
	kept := map[*Value]*Value{}
	inner.resolve = func(v *Value) *Value {
		if i := slices.Index(body.Args, v); i >= op.Carry {
			outer := d.resolve(n.In[i])
			if i < op.Carry+op.Captured {
				return bb.capture(outer)
			}
			return bb.slice(outer)
		} else if i < 0 {
			if c, ok := v.Node.Op.(Const); ok {
				if inner.again[v] == nil {
					inner.again[v] = bb.Const(c.Tensor)
				}
				return inner.again[v]
			}
			if d.recompute(v.Node) && !isLeaf(v.Node.Op) {
				return inner.computeAgain(v)
			}
		}
		if kept[v] == nil {
			kept[v] = n.keep(v)
		}
		return bb.slice(d.resolve(kept[v]))
	}

	// Carried cotangents: of the carries, then the running sums for captured operands.
	var start []*Value
	var carried []int // operand index of each carried cotangent
	for i := range op.Carry {
		if !d.needs[body.Args[i]] {
			continue
		}
		c := dout[i]
		if c == nil {
			c = Zeros(g, n.Out[i].Type)
		}
		start, carried = append(start, c), append(carried, i)
		arg := bb.Apply(Arg{c.Type})[0]
		r.carry = append(r.carry, arg)
		inner.add(body.Results[i], arg)
	}
	for i := op.Carry; i < op.Carry+op.Captured; i++ {
		if d.needs[body.Args[i]] {
			z := Zeros(g, n.In[i].Type)
			start, carried = append(start, z), append(carried, i)
			arg := bb.Apply(Arg{z.Type})[0]
			r.carry = append(r.carry, arg)
			inner.add(body.Args[i], arg) // a body may hand a captured value on as a carry
		}
	}
	for i := op.Carry; i < len(dout); i++ {
		if dout[i] != nil {
			inner.add(body.Results[i], bb.slice(dout[i]))
		}
	}
	inner.reverse(slices.Clone(body.Graph.Nodes))

	var results []*Value
	for k, i := range carried {
		c := inner.cot[body.Args[i]]
		if c == nil {
			c = Zeros(bb, start[k].Type)
		}
		results = append(results, c)
	}
	var stackedIn []int
	for i := op.Carry + op.Captured; i < len(n.In); i++ {
		if c := inner.cot[body.Args[i]]; c != nil && d.needs[body.Args[i]] {
			results, stackedIn = append(results, c), append(stackedIn, i)
		}
	}
	back := g.closeRepeat(bb, start, results, !op.Reverse)
	din := make([]*Value, len(n.In))
	for k, i := range carried {
		din[i] = back.Out[k]
	}
	for k, i := range stackedIn {
		din[i] = back.Out[len(carried)+k]
	}
	return din
}

// keep makes the forward Repeat n stack the body's value v and returns the stacked result.
func (n *Node) keep(v *Value) *Value {
	op := n.Op.(Repeat)
	for i := op.Carry; i < len(op.Body.Results); i++ {
		if op.Body.Results[i] == v {
			return n.Out[i]
		}
	}
	op.Body.Results = append(op.Body.Results, v)
	out := &Value{Type: stacked(op.N, v.Type), Node: n, Index: len(n.Out)}
	n.Out = append(n.Out, out)
	return out
}
