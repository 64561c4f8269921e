package cpu

import (
	"context"
	"slices"
	"unsafe"

	"danlu/dtype"
	"danlu/graph"
)

// repeat runs a body's steps for each iteration after moving the windows of its values.
type repeat struct {
	n       int
	reverse bool
	start   []func()
	windows []*window
	carries []*carry
	steps   []step
}

// carry is a value that iterations hand on: it goes back and forth between two buffers, or stays in one that is
// updated in place, or, when every iteration's value is also kept, moves along the stacked buffer.
type carry struct {
	arg, result *storage
	buffers     [2]*storage
	stack       *storage // of the kept values, or nil
	stride      int
}

func (r *repeat) run(ctx context.Context) error {
	for _, f := range r.start {
		f()
	}
	if e, ok := ctx.Value(estimateKey{}).(*estimate); ok {
		return e.repeat(ctx, r)
	}
	for k := range r.n {
		if err := r.iterate(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// iterate moves the windows to an iteration and runs the body.
func (r *repeat) iterate(ctx context.Context, k int) error {
	at, next := k, k+1
	if r.reverse {
		at, next = r.n-1-k, r.n-2-k
	}
	for _, w := range r.windows {
		w.p = unsafe.Add(w.base.p, w.off+at*w.stride)
	}
	for _, c := range r.carries {
		switch {
		case c.stack == nil:
			c.arg.p, c.result.p = c.buffers[k&1].p, c.buffers[(k+1)&1].p
		case k == r.n-1:
			c.arg.p, c.result.p = unsafe.Add(c.stack.p, at*c.stride), c.buffers[0].p
		default:
			c.arg.p, c.result.p = unsafe.Add(c.stack.p, at*c.stride), unsafe.Add(c.stack.p, next*c.stride)
		}
	}
	seek := seeking(ctx)
	seek.enter(at)
	defer seek.leave()
	for i := range r.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.steps[i].run(ctx); err != nil {
			return err
		}
		seek.look(r.steps[i].node)
	}
	return nil
}

func (r *repeat) window(base *storage, off, bytes int) *storage {
	w := &window{base: base, off: off, stride: bytes}
	w.bytes = bytes
	r.windows = append(r.windows, w)
	return &w.storage
}

// repeat plans and binds a Repeat: outer values that the body reads or writes live until its end, values of the body for
// a part of one iteration.
func (b *binder) repeat(n *node, op graph.Repeat) error {
	r := &repeat{n: op.N, reverse: op.Reverse}
	args, results := n.body.args, n.body.results
	inside := map[*node]bool{}
	for _, m := range n.body.nodes {
		inside[m] = true
	}
	// A result can be computed where it is wanted when it is computed here, once, and is not a view.
	eligible := func(v *value) bool {
		if v.node == nil || !inside[v.node] || v.dest != nil || v.typ.DType == dtype.Opaque {
			return false
		}
		if nested, ok := v.node.op.(graph.Repeat); ok {
			return v.out >= nested.Carry
		}
		switch v.node.op.(type) {
		case graph.Const, graph.State, graph.Input:
			return false
		}
		_, view := isView(v.node)
		return !view
	}
	for i := op.Carry + op.Captured; i < len(args); i++ {
		if a, v := args[i], n.in[i]; a != nil {
			bytes := bytesIn(a.typ)
			if a.typ.DType == dtype.Opaque || a.packed {
				bytes = v.st.bytes / op.N
			}
			w := r.window(v.st, v.off, bytes)
			w.cache = v.st.cache
			attach(a, w, 0)
			a.label = v.label
		}
	}
	stacks := make([]*storage, len(results))
	for i := op.Carry; i < len(results); i++ {
		if res, out := results[i], n.out[i]; res != nil && res.typ.DType != dtype.Opaque {
			if stacks[i] = out.dest; stacks[i] == nil {
				stacks[i] = b.place(bytesIn(out.typ), n.pos, n.end)
			}
			attach(out, stacks[i], 0)
		}
	}
	var copies []func()
	done := make([]bool, len(results))
	for i := range op.Carry {
		v, a, res, out := n.in[i], args[i], results[i], n.out[i]
		c := &carry{arg: &storage{bytes: bytesIn(a.typ)}, stride: bytesIn(a.typ)}
		c.result = &storage{bytes: c.stride}
		r.carries = append(r.carries, c)
		kept := -1
		for j := op.Carry; j < len(results); j++ {
			if results[j] == a && stacks[j] != nil && !done[j] {
				kept = j
				break
			}
		}
		place := func() *storage { return b.place(c.stride, n.pos, n.end) }
		if kept >= 0 {
			done[kept] = true
			c.stack, c.buffers[0] = stacks[kept], place()
			first := 0
			if op.Reverse {
				first = (op.N - 1) * c.stride
			}
			stack := c.stack
			r.start = append(r.start, b.copying(func() unsafe.Pointer { return unsafe.Add(stack.p, first) }, v.ptr, c.stride))
			attach(out, c.buffers[0], 0)
		} else {
			shared := slices.ContainsFunc(n.in, func(u *value) bool { return u != nil && u != v && u.st == v.st })
			if overwritable(v, n.end) && !shared && count(n.in, v) == 1 && v.st.bytes == c.stride {
				c.buffers[0] = v.st
			} else {
				c.buffers[0] = place()
				buffer := c.buffers[0]
				r.start = append(r.start, b.copying(func() unsafe.Pointer { return buffer.p }, v.ptr, c.stride))
			}
			if res == a || eligible(res) && a.last <= res.node.pos && overwrites(res, a) {
				c.buffers[1], c.result = c.buffers[0], c.arg
			} else {
				c.buffers[1] = place()
			}
			attach(out, c.buffers[op.N&1], 0)
		}
		attach(a, c.arg, 0)
		switch {
		case res == a && c.result == c.arg:
		case eligible(res):
			res.dest = c.result
		default:
			to := c.result
			copies = append(copies, b.copying(func() unsafe.Pointer { return to.p }, res.ptr, c.stride))
		}
	}
	for i := op.Carry; i < len(results); i++ {
		res := results[i]
		if stacks[i] == nil || done[i] {
			continue
		}
		w := r.window(stacks[i], 0, bytesIn(res.typ))
		if eligible(res) {
			res.dest = w
		} else {
			copies = append(copies, b.copying(func() unsafe.Pointer { return w.p }, res.ptr, w.bytes))
		}
	}
	outer := b.steps
	b.steps = nil
	if err := b.bind(n.body.nodes); err != nil {
		return err
	}
	for _, f := range copies {
		b.do(&node{op: named("repeat")}, f)
	}
	r.steps = b.steps
	b.steps = append(outer, step{n, r.run})
	for i := op.Carry; i < len(results); i++ {
		if res := results[i]; res != nil && res.typ.DType == dtype.Opaque {
			for _, w := range r.windows {
				if &w.storage == res.st {
					attach(n.out[i], w.base, w.off)
				}
			}
		}
	}
	return nil
}

// overwrites reports whether res can be computed over a, which its node reads.
func overwrites(res, a *value) bool {
	at := slices.Index(res.node.in, a)
	return at >= 0 && count(res.node.in, a) == 1 && slices.Contains(inPlace(res.node, res.out), at)
}
