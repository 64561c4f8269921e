package cpu

import (
	"context"
	"fmt"
	"slices"
	"unsafe"

	"danlu/engine"
	"danlu/graph"
	"danlu/tensor"
)

// binder gives lowered nodes their places and their kernel calls.
type binder struct {
	planner
	engine *Engine
	store  *store
	plan   *plan
	steps  []step
	states map[string]*storage
}

// bind plans and binds nodes in order.
func (b *binder) bind(nodes []*node) error {
	for _, n := range nodes {
		if err := b.node(n); err != nil {
			return fmt.Errorf("%s: %w", n.op.Name(), err)
		}
	}
	return nil
}

func (b *binder) node(n *node) error {
	switch op := n.op.(type) {
	case graph.Input:
		s := &storage{bytes: bytesIn(n.out[0].typ)}
		b.plan.inputs = append(b.plan.inputs, boundInput{op.Label, n.out[0].typ, s})
		attach(n.out[0], s, 0)
		return nil
	case graph.State:
		attach(n.out[0], b.stateStorage(op), 0)
		n.out[0].label = op.Label
		return nil
	case graph.Const:
		// A copy keeps the element alignment, whatever the tensor's memory.
		data := bytesOf(make([]float64, (len(op.Tensor.Data)+7)/8))
		copy(data, op.Tensor.Data)
		attach(n.out[0], &storage{bytes: len(op.Tensor.Data), p: unsafe.Pointer(unsafe.SliceData(data))}, 0)
		return nil
	case graph.Repeat:
		return b.repeat(n, op)
	}
	if off, ok := isView(n); ok {
		v, out := n.in[0], n.out[0]
		if out.dest == nil {
			attach(out, v.st, v.off+off)
			return nil
		}
		attach(out, out.dest, 0)
		b.do(n, b.copying(out.ptr, func() unsafe.Pointer { return unsafe.Add(v.ptr(), off) }, bytesIn(out.typ)))
		return nil
	}
	b.put(n)
	return b.kernel(n)
}

// stateStorage is the store's buffer of a state.
func (b *binder) stateStorage(op graph.State) *storage {
	if s := b.states[op.Key()]; s != nil {
		return s
	}
	data := b.store.byKey[op.Key()].data
	s := &storage{bytes: len(data), p: unsafe.Pointer(unsafe.SliceData(data)), cache: op.Cache}
	if b.states == nil {
		b.states = map[string]*storage{}
	}
	b.states[op.Key()] = s
	return s
}

// do adds a kernel call that cannot fail.
func (b *binder) do(n *node, f func()) {
	b.steps = append(b.steps, step{n, func(context.Context) error { f(); return nil }})
}

// try adds a kernel call that checks its operands.
func (b *binder) try(n *node, f func() error) {
	b.steps = append(b.steps, step{n, func(context.Context) error { return f() }})
}

// parallel is a loop over [0, n) on the engine's threads. It allocates when it is made, not when it runs.
func (b *binder) parallel(n int, body func(worker, i int)) func() {
	l, pool := &loop{body: body}, b.engine.pool
	return func() { pool.Run(n, l) }
}

// chunks is parallel over ranges of [0, n) that start at multiples of size.
func (b *binder) chunks(n, size int, body func(from, to int)) func() {
	return b.parallel((n+size-1)/size, func(_, i int) { body(i*size, min((i+1)*size, n)) })
}

// checked is parallel for a body that checks its operands: of the errors, the one of the first index is returned.
func (b *binder) checked(n int, body func(i int) error) func() error {
	errs := make([]error, n)
	run := b.parallel(n, func(_, i int) { errs[i] = body(i) })
	return func() error {
		run()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// temp is memory for the time of node n.
func (b *binder) temp(n *node, bytes int) *storage {
	s := b.place(bytes, n.pos, n.end)
	s.scratch = true
	return s
}

// floats is temp as float32 values, to be called when running.
func (b *binder) floats(n *node, count int) func() []float32 {
	s := b.temp(n, 4*count)
	return func() []float32 { return view[float32](s.p, count) }
}

const copyChunk = 1 << 18

// copying copies bytes unless both places are the same.
func (b *binder) copying(dst, src func() unsafe.Pointer, bytes int) func() {
	var d, s []byte
	run := b.chunks(bytes, copyChunk, func(from, to int) { copy(d[from:to], s[from:to]) })
	return func() {
		if to, from := dst(), src(); to != from {
			d, s = view[byte](to, bytes), view[byte](from, bytes)
			run()
		}
	}
}

// updates copies values into states at the end of a run. Values that lie in a state themselves are read before any is
// written.
func (b *binder) updates(pending []graph.Update, env map[*graph.Value]*value, end int) {
	if len(pending) == 0 {
		return
	}
	n := &node{op: named("update"), pos: end, end: end}
	var later []func()
	for _, u := range pending {
		v, s := env[u.Value], b.stateStorage(u.State.Node.Op.(graph.State))
		bytes := bytesIn(v.typ)
		from := v.ptr
		if slices.Contains(sorted(b.states), v.st) {
			t := b.temp(n, bytes)
			t.scratch = false
			from = func() unsafe.Pointer { return t.p }
			b.do(n, b.copying(from, v.ptr, bytes))
		}
		later = append(later, b.copying(func() unsafe.Pointer { return s.p }, from, bytes))
	}
	for _, f := range later {
		b.do(n, f)
	}
}

func sorted(m map[string]*storage) []*storage {
	var list []*storage
	for _, s := range m {
		list = append(list, s)
	}
	return list
}

// output makes the tensors of an output; a stacked one has one for each iteration. What lies in a state or input is
// copied, since it may change before the next run.
func (b *binder) output(o graph.Output, v *value, end int) {
	if !v.st.planned {
		c := &value{typ: v.typ, last: maxPos}
		attach(c, b.place(bytesIn(v.typ), end, maxPos), 0)
		// Before the states are updated: the copy goes in front of everything that could write them, which for a value
		// that is a state itself is the start of the run.
		n := &node{op: named("output"), pos: end, end: end}
		c.st.first = 0
		early := len(b.steps)
		b.do(n, b.copying(c.ptr, v.ptr, bytesIn(v.typ)))
		if v.node == nil || isSource(v) {
			last := b.steps[early]
			b.steps = slices.Insert(b.steps[:early], 0, last)
		}
		v = c
	}
	if o.Count == 0 {
		b.tensor(o.Name, v, v.typ, 0)
		return
	}
	part := graph.Of(v.typ.DType, v.typ.Shape[1:]...)
	for i := range o.Count {
		b.tensor(fmt.Sprintf(o.Name, o.First+i), v, part, i*part.Bytes())
	}
}

// isSource reports whether v is a state, input or constant, or a view of one.
func isSource(v *value) bool {
	for v.node != nil {
		switch v.node.op.(type) {
		case graph.State, graph.Input, graph.Const:
			return true
		}
		if _, ok := isView(v.node); !ok {
			return false
		}
		v = v.node.in[0]
	}
	return true
}

func (b *binder) tensor(name string, v *value, t graph.Type, off int) {
	r := &tensor.Tensor{DType: t.DType, Shape: t.Shape}
	b.plan.results[name] = r
	b.plan.outputs = append(b.plan.outputs, boundOutput{v, r, off, t.Bytes()})
}

const maxPos = 1<<63 - 1

// named is a step of the engine's own.
type named string

// Name implements graph.Op.
func (n named) Name() string { return string(n) }

// Infer implements graph.Op.
func (named) Infer([]graph.Type) ([]graph.Type, error) { return nil, nil }

var _ engine.Engine = (*Engine)(nil)
