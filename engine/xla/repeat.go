package xla

import (
	"slices"
	"strings"

	"danlu/dtype"
	"danlu/graph"
)

// loop is a Repeat as a while loop in the making. Its values are a counter, the operands, of which carries and caches
// change, and the stacked results so far.
type loop struct {
	op     graph.Repeat
	start  []*value
	inside []*value // the same as arguments of the body
	next   []*value // what the body hands on
	place  []int    // of each live operand's first value; -1: not live
	body   writer   // the body's text, written before the loop itself
	at     *value   // the iteration, inside
}

// repeat writes a Repeat.
func (l *lowering) repeat(n *graph.Node, op graph.Repeat, in []*value) error {
	lp := l.newLoop(op, in)
	inner := *l
	inner.writer = lp.body
	for i, a := range op.Body.Args {
		if lp.place[i] >= 0 {
			l.env[a] = lp.argument(i, in[i])
		}
	}
	if err := inner.graph(op.Body.Graph); err != nil {
		return err
	}
	lp.next = slices.Clone(lp.inside)
	lp.next[0] = lp.body.add(lp.inside[0], lp.body.scalar(dtype.I32, 1))
	for i := range op.Carry {
		copy(lp.next[lp.place[i]:], l.env[op.Body.Results[i]].flat())
	}
	stacked := map[int]int{} // result → its place
	for r := op.Carry; r < len(op.Body.Results); r++ {
		if !l.live[n.Out[r]] {
			continue
		}
		v := l.env[op.Body.Results[r]]
		if v.parts != nil { // a cache is written in place
			stacked[r] = lp.place[v.parts.operand]
			copy(lp.next[stacked[r]:], v.parts.arrays)
			continue
		}
		stacked[r] = len(lp.start)
		lp.stack(l.writer, v)
	}
	out := lp.write(l.writer)
	for i := range op.Carry {
		l.env[n.Out[i]] = in[i].like(out[lp.place[i]:])
	}
	for r, at := range stacked {
		l.env[n.Out[r]] = out[at]
		if v := l.env[op.Body.Results[r]]; v.parts != nil {
			l.env[n.Out[r]] = in[v.parts.operand].like(out[at:])
		}
	}
	return nil
}

func (l *lowering) newLoop(op graph.Repeat, in []*value) *loop {
	lp := &loop{op: op, place: make([]int, len(in)), body: l.writer}
	lp.body.text = new(strings.Builder)
	lp.body.indent++
	lp.start = []*value{l.scalar(dtype.I32, 0)}
	for i, v := range in {
		if lp.place[i] = -1; v != nil {
			lp.place[i] = len(lp.start)
			lp.start = append(lp.start, v.flat()...)
		}
	}
	for _, v := range lp.start {
		lp.inside = append(lp.inside, l.writer.argument(v.typ))
	}
	lp.at = lp.inside[0]
	if op.Reverse {
		lp.at = lp.body.binary(graph.BinarySub, lp.body.scalar(dtype.I32, float64(op.N-1)), lp.at)
	}
	return lp
}

// argument is operand i as the body sees it.
func (lp *loop) argument(i int, v *value) *value {
	here := v.like(lp.inside[lp.place[i]:])
	switch {
	case i < lp.op.Carry+lp.op.Captured:
		return here
	case here.parts != nil:
		parts := *here.parts
		parts.layer, parts.operand = lp.at, i
		return &value{typ: graph.Of(dtype.Opaque), parts: &parts}
	}
	return lp.body.part(here, lp.at)
}

// stack adds a stacked result, to which the body adds v.
func (lp *loop) stack(outside writer, v *value) {
	start := outside.full(graph.Of(v.typ.DType, append([]int{lp.op.N}, v.typ.Shape...)...), 0)
	arg := outside.argument(start.typ)
	lp.start, lp.inside = append(lp.start, start), append(lp.inside, arg)
	lp.next = append(lp.next, lp.body.put(arg, v, lp.at))
}

// write writes the loop and gives its values at the end.
func (lp *loop) write(w writer) []*value {
	types, tests := make([]graph.Type, len(lp.start)), make([]*value, len(lp.start))
	for i, v := range lp.start {
		types[i], tests[i] = v.typ, w.argument(v.typ)
	}
	condition := region{tests, func(w writer) []*value {
		return []*value{w.compare("LT", tests[0], w.scalar(dtype.I32, float64(lp.op.N)))}
	}}
	body := region{lp.inside, func(w writer) []*value {
		w.text.WriteString(lp.body.text.String())
		return lp.next
	}}
	return w.apply("stablehlo.while", "", types, []region{condition, body}, lp.start...)
}

// at are the indices of a part of a stacked value.
func (w writer) at(x, index *value) []*value {
	zero := w.scalar(dtype.I32, 0)
	return append([]*value{index}, slices.Repeat([]*value{zero}, x.typ.Rank()-1)...)
}

// part is the part of a stacked value at an index.
func (w writer) part(x, index *value) *value {
	shape := append([]int{1}, x.typ.Shape[1:]...)
	y := w.one("stablehlo.dynamic_slice", "slice_sizes = "+numbers(shape...), graph.Of(x.typ.DType, shape...), append([]*value{x}, w.at(x, index)...)...)
	return w.reshape(y, shape[1:]...)
}

// put is a stacked value with another part at an index.
func (w writer) put(x, part, index *value) *value {
	part = w.reshape(part, append([]int{1}, part.typ.Shape...)...)
	return w.one("stablehlo.dynamic_update_slice", "", x.typ, append([]*value{x, part}, w.at(x, index)...)...)
}

// flat are the arrays that a value is made of: one, but for a cache.
func (v *value) flat() []*value {
	if v.parts != nil {
		return v.parts.arrays
	}
	return []*value{v}
}

// like is v with its arrays replaced by the first of a list.
func (v *value) like(arrays []*value) *value {
	if v.parts == nil {
		return arrays[0]
	}
	parts := *v.parts
	parts.arrays = arrays[:len(v.parts.arrays)]
	return &value{typ: v.typ, parts: &parts}
}
