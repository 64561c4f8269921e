package cpu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/internal/parallel"
	"danlu/tensor"
)

// program is a compiled graph: one plan for each number of rows that it was run with.
type program struct {
	engine  *Engine
	g       *graph.Graph
	opts    engine.Options
	store   *store
	states  []*state
	rows    int // declared rows of Rows inputs; -1: there are none
	plans   map[int]*plan
	arena   []byte
	current *plan // whose storages point into arena
	memory  engine.Memory
	closed  bool
}

// maxPlans bounds the plans kept for different numbers of rows.
const maxPlans = 64

// plan is a list of kernel calls for one number of rows.
type plan struct {
	steps    []step
	inputs   []boundInput
	storages []*storage
	bytes    int
	scratch  int
	results  engine.Tensors
	outputs  []boundOutput
	// decomposed lists the operations that run as their decompositions.
	decomposed map[string]bool
}

// step is one kernel call.
type step struct {
	node *node
	run  func(ctx context.Context) error
}

func (s *step) name() string { return s.node.op.Name() }

type boundInput struct {
	label string
	typ   graph.Type
	st    *storage
}

type boundOutput struct {
	v *value
	t *tensor.Tensor
	// off and bytes are the part of v that t shows.
	off, bytes int
}

// Compile implements engine.Engine.
func (e *Engine) Compile(g *graph.Graph, st engine.Store, opts engine.Options) (_ engine.Program, err error) {
	s, ok := st.(*store)
	if !ok {
		return nil, errors.New("cpu: the store belongs to another engine")
	}
	p := &program{engine: e, g: g, opts: opts, store: s, rows: -1, plans: map[int]*plan{}}
	for _, v := range g.States() {
		spec := v.Node.Op.(graph.State).StateSpec
		if err := s.Declare(spec); err != nil {
			return nil, err
		}
	}
	first, err := p.build(-1)
	if err != nil {
		return nil, fmt.Errorf("cpu: compile: %w", err)
	}
	for _, v := range g.Inputs() {
		if v.Rows {
			if p.rows >= 0 && p.rows != v.Shape[0] {
				return nil, fmt.Errorf("cpu: compile: inputs declare %d and %d rows", p.rows, v.Shape[0])
			}
			p.rows = v.Shape[0]
		}
	}
	p.plans[p.rows] = first
	if err := p.activate(first); err != nil {
		return nil, err
	}
	s.mu.Lock()
	for _, v := range g.States() {
		st := s.byKey[v.Node.Op.(graph.State).Key()]
		st.used++
		p.states = append(p.states, st)
	}
	s.mu.Unlock()
	return p, nil
}

// build lowers, plans and binds the graph for a number of rows.
func (p *program) build(rows int) (_ *plan, err error) {
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(*graph.Fault)
			if !ok {
				panic(r)
			}
			err = fault
		}
	}()
	outputs, updates, err := p.opts.Wanted(p.g)
	if err != nil {
		return nil, err
	}
	l := &lowering{rows: rows, env: map[*graph.Value]*value{}, live: graph.Needed(p.g, engine.Results(outputs, updates)...), decomposed: map[string]bool{}}
	if err := l.lower(p.g); err != nil {
		return nil, err
	}
	var keep []*value
	for _, o := range outputs {
		keep = append(keep, l.env[o.Value])
	}
	for _, u := range updates {
		keep = append(keep, l.env[u.Value], l.env[u.State])
	}
	nodes := fuseAddRows(mergeLogProb(l.nodes), keep)
	end := number(nodes, 1)
	for _, o := range outputs {
		l.env[o.Value].last = maxPos
	}
	for _, u := range updates {
		l.env[u.Value].last = max(l.env[u.Value].last, end)
	}
	extend(nodes)
	b := &binder{engine: p.engine, store: p.store, plan: &plan{results: engine.Tensors{}, decomposed: l.decomposed}}
	var pending []graph.Update
	for _, u := range updates {
		s, v := l.env[u.State], l.env[u.Value]
		if s.packed {
			return nil, fmt.Errorf("state %s: weights kept as %v cannot be updated", s.node.op.(graph.State).Label, s.typ.DType)
		}
		switch {
		case s.typ.DType == dtype.Opaque:
		case v == s:
		case b.direct(s, v, keep):
			v.dest = b.stateStorage(s.node.op.(graph.State))
		default:
			pending = append(pending, u)
		}
	}
	if err := b.bind(nodes); err != nil {
		return nil, err
	}
	b.updates(pending, l.env, end)
	for _, o := range outputs {
		b.output(o, l.env[o.Value], end)
	}
	b.plan.storages = b.storages
	b.plan.bytes = layout(b.storages)
	b.plan.steps = b.steps
	for _, s := range b.storages {
		if s.scratch {
			b.plan.scratch = max(b.plan.scratch, s.bytes)
		}
	}
	return b.plan, nil
}

// direct reports whether v can be computed straight into the state: nobody reads the old value after v's node began.
func (b *binder) direct(s, v *value, keep []*value) bool {
	if v.node == nil || v.dest != nil || s.node == nil {
		return false
	}
	if _, view := isView(v.node); view {
		return false
	}
	switch op := v.node.op.(type) {
	case graph.State, graph.Input, graph.Const:
		return false
	case graph.Repeat:
		if v.out < op.Carry {
			return false
		}
	}
	if count(keep, s) > 1 || s.last > v.node.pos {
		return false
	}
	if s.last < v.node.pos {
		return true
	}
	at := slices.Index(v.node.in, s)
	return at >= 0 && count(v.node.in, s) == 1 && slices.Contains(inPlace(v.node, v.out), at)
}

// activate points the plan's storages into an arena that is large enough.
func (p *program) activate(pl *plan) error {
	if p.current == pl {
		return nil
	}
	if len(p.arena) < pl.bytes {
		p.current = nil
		if err := release(p.arena); err != nil {
			return fmt.Errorf("cpu: arena: %w", err)
		}
		var err error
		if p.arena, err = allocate(pl.bytes); err != nil {
			p.arena = nil
			return err
		}
		largePages(p.arena)
	}
	for _, s := range pl.storages {
		s.p = unsafe.Pointer(unsafe.SliceData(p.arena))
		if len(p.arena) > 0 {
			s.p = unsafe.Add(s.p, s.offset)
		}
	}
	p.current = pl
	p.memory = engine.Memory{Activations: int64(len(p.arena) - pl.scratch), Scratch: int64(pl.scratch)}
	return nil
}

// Memory implements engine.Program.
func (p *program) Memory() engine.Memory { return p.memory }

// Close implements engine.Program.
func (p *program) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	p.store.mu.Lock()
	for _, s := range p.states {
		s.used--
	}
	p.store.mu.Unlock()
	p.current, p.plans = nil, nil
	return release(p.arena)
}

// Decomposed lists the operations of a program that have no kernel and run as their decompositions.
func Decomposed(p engine.Program) []string {
	var names []string
	if q, ok := p.(*program); ok {
		for name := range q.plans[q.rows].decomposed {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Run implements engine.Program.
func (p *program) Run(ctx context.Context, in engine.Tensors) (_ engine.Tensors, err error) {
	if p.closed {
		return nil, errors.New("cpu: run: the program is closed")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows := p.rows
	if rows >= 0 {
		if rows, err = p.givenRows(in); err != nil {
			return nil, err
		}
	}
	pl := p.plans[rows]
	if pl == nil {
		if pl, err = p.build(rows); err != nil {
			return nil, fmt.Errorf("cpu: run with %d rows: %w", rows, err)
		}
		if len(p.plans) >= maxPlans {
			for k := range p.plans {
				if k != p.rows {
					delete(p.plans, k)
					break
				}
			}
		}
		p.plans[rows] = pl
	}
	if err := p.activate(pl); err != nil {
		return nil, err
	}
	for _, b := range pl.inputs {
		t := in[b.label]
		if t == nil {
			return nil, fmt.Errorf("cpu: input %s: is missing", b.label)
		}
		if t.DType != b.typ.DType || !slices.Equal(t.Shape, b.typ.Shape) || len(t.Data) != b.typ.Bytes() {
			return nil, fmt.Errorf("cpu: input %s: want %v, got %v", b.label, b.typ, t)
		}
		b.st.p = unsafe.Pointer(unsafe.SliceData(t.Data))
	}
	if p.engine.opts.Poison {
		for i := range p.arena {
			p.arena[i] = 0xff
		}
	}
	p.engine.pool.Lock()
	defer p.engine.pool.Unlock()
	if err := execute(ctx, pl.steps); err != nil {
		return nil, err
	}
	for _, o := range pl.outputs {
		o.t.Data = nil
		if o.bytes > 0 {
			o.t.Data = view[byte](unsafe.Add(o.v.ptr(), o.off), o.bytes)
		}
	}
	return pl.results, nil
}

func execute(ctx context.Context, steps []step) error {
	seek := seeking(ctx)
	for i := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := steps[i].run(ctx); err != nil {
			return fmt.Errorf("cpu: %s: %w", steps[i].name(), err)
		}
		seek.look(steps[i].node)
	}
	return nil
}

// givenRows is the number of rows of the inputs that may have fewer than declared.
func (p *program) givenRows(in engine.Tensors) (int, error) {
	rows := -1
	for _, n := range p.g.Nodes {
		op, ok := n.Op.(graph.Input)
		if !ok || !op.Type.Rows {
			continue
		}
		t := in[op.Label]
		if t == nil || len(t.Shape) != len(op.Type.Shape) {
			continue // reported when inputs are bound, if it is needed
		}
		if t.Shape[0] > p.rows || rows >= 0 && rows != t.Shape[0] {
			return 0, fmt.Errorf("cpu: input %s: want %d rows, got %v", op.Label, max(rows, p.rows), t)
		}
		rows = t.Shape[0]
	}
	if rows < 0 {
		rows = p.rows
	}
	return rows, nil
}

// loop is a parallel loop; it implements parallel.Task without allocating when it runs.
type loop struct {
	body func(worker, i int)
}

// Do implements parallel.Task.
func (l *loop) Do(worker, i int) { l.body(worker, i) }

var _ parallel.Task = (*loop)(nil)
