package xla

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/xla/pjrt"
	"danlu/graph"
	"danlu/tensor"
)

// program is a compiled graph: one executable for each bucket of rows and of cache pages that it was run with.
type program struct {
	engine   *Engine
	g        *graph.Graph
	opts     engine.Options
	store    *store
	states   []*state
	rows     int // declared rows of Rows inputs; -1: there are none
	variants map[bucket]*variant
	closed   bool
}

// bucket are the sizes that a variant is compiled for.
type bucket struct {
	rows  int // of Rows inputs; -1: there are none
	pages int // of each sequence that attention looks at; 0: as declared
}

// variant is one executable of a program.
type variant struct {
	executable *pjrt.Executable
	inputs     []graph.Input // with the bucket's shapes
	cuts       []sharding    // of the inputs
	states     []*state      // in the order of the arguments after the inputs
	outputs    []boundOutput
	updates    []*state // whose arrays are the results after the outputs
	donated    []int    // arguments
}

// boundOutput is a result of an executable and the tensors that it gives.
type boundOutput struct {
	graph.Output
	typ  graph.Type
	rows int // the axis that counts rows; -1: none
}

// Compile implements engine.Engine.
func (e *Engine) Compile(g *graph.Graph, st engine.Store, opts engine.Options) (engine.Program, error) {
	s, ok := st.(*store)
	if !ok || s.engine != e {
		return nil, errors.New("xla: the store belongs to another engine")
	}
	p := &program{engine: e, g: g, opts: opts, store: s, rows: -1, variants: map[bucket]*variant{}}
	for _, v := range g.States() {
		if err := s.Declare(v.Node.Op.(graph.State).StateSpec); err != nil {
			return nil, err
		}
	}
	for _, v := range g.Inputs() {
		if v.Rows {
			if p.rows >= 0 && p.rows != v.Shape[0] {
				return nil, fmt.Errorf("xla: compile: inputs declare %d and %d rows", p.rows, v.Shape[0])
			}
			p.rows = v.Shape[0]
		}
	}
	if p.rows < 0 { // programs with buckets are compiled for those that come
		if _, err := p.variant(bucket{rows: -1}); err != nil {
			return nil, err
		}
	} else if _, _, err := opts.Wanted(g); err != nil {
		return nil, fmt.Errorf("xla: compile: %w", err)
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

// variant compiles the graph for a bucket, unless that was done.
func (p *program) variant(k bucket) (*variant, error) {
	if v := p.variants[k]; v != nil {
		return v, nil
	}
	text, v, err := p.text(k)
	if err == nil {
		v.executable, err = p.engine.compile(text)
	}
	if err != nil {
		return nil, fmt.Errorf("xla: compile: %w", err)
	}
	p.variants[k] = v
	return v, nil
}

// rowBucket is the number of rows that a program is compiled for to run with n: one, or a power of two from 8 up.
func (p *program) rowBucket(n int) int {
	if n <= 1 {
		return min(n, p.rows)
	}
	return min(p.rows, max(8, 1<<bits.Len(uint(n-1))))
}

// Run implements engine.Program.
func (p *program) Run(ctx context.Context, in engine.Tensors) (engine.Tensors, error) {
	if p.closed {
		return nil, errors.New("xla: run: the program is closed")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows, err := p.givenRows(in)
	if err != nil {
		return nil, err
	}
	k := bucket{rows: -1}
	if p.rows >= 0 {
		k = bucket{p.rowBucket(rows), p.pageBucket(in)}
	}
	v, err := p.variant(k)
	if err != nil {
		return nil, err
	}
	if err := v.check(in, rows); err != nil {
		return nil, err
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	results, err := v.run(p.store, in)
	if err != nil {
		return nil, err
	}
	return v.read(results, rows)
}

// check compares the inputs with what the graph declares.
func (v *variant) check(in engine.Tensors, rows int) error {
	for _, op := range v.inputs {
		t := in[op.Label]
		if t == nil {
			return fmt.Errorf("xla: input %s: is missing", op.Label)
		}
		want := graph.Of(op.Type.DType, op.Type.Shape...)
		if op.Type.Rows {
			want.Shape[0] = rows
		}
		if pages := op.Label == pagesInput; !pages && (t.DType != want.DType || !slices.Equal(t.Shape, want.Shape) || len(t.Data) != want.Bytes()) {
			return fmt.Errorf("xla: input %s: want %v, got %v", op.Label, want, t)
		}
	}
	return nil
}

// run brings inputs and states to the devices, starts the executable and gives the states what they hold then. Outputs are
// the same on all devices: those of the first are returned.
func (v *variant) run(s *store, in engine.Tensors) (outputs []*pjrt.Buffer, err error) {
	e := s.engine
	args := make([][]*pjrt.Buffer, len(e.devices))
	defer func() {
		for _, list := range args {
			for _, b := range list[:min(len(list), len(v.inputs))] {
				err = errors.Join(err, b.Close())
			}
		}
	}()
	for i, op := range v.inputs {
		data := fitted(in[op.Label], op)
		for d := range e.devices {
			b, err := e.put(d, data, op.Type, v.cuts[i])
			if err != nil {
				return nil, fmt.Errorf("xla: input %s: %w", op.Label, err)
			}
			args[d] = append(args[d], b)
		}
	}
	for _, st := range v.states {
		if err := s.toDevices(st); err != nil {
			return nil, err
		}
		for d := range args {
			args[d] = append(args[d], st.device[d]...)
		}
	}
	results, err := v.executable.Run(args, v.donated)
	if err != nil {
		return nil, fmt.Errorf("xla: %w", err)
	}
	return v.take(results)
}

// take gives the states what the results hold for them.
func (v *variant) take(results [][]*pjrt.Buffer) (outputs []*pjrt.Buffer, err error) {
	at := len(v.outputs)
	for _, st := range v.updates {
		n := len(st.types)
		st.device, st.host = make([][]*pjrt.Buffer, len(results)), nil
		for d, list := range results {
			st.device[d] = slices.Clone(list[at : at+n])
		}
		at += n
	}
	for _, list := range results[1:] {
		for _, b := range list[:len(v.outputs)] {
			err = errors.Join(err, b.Close())
		}
	}
	return results[0][:len(v.outputs)], err
}

// fitted is an input's data in the shape of the bucket. Rows that are not there are filled with zeros, integers with -1:
// such a slot of a cache is not written, such a sequence sees nothing, and nothing real depends on the rest.
func fitted(t *tensor.Tensor, op graph.Input) []byte {
	if slices.Equal(t.Shape, op.Type.Shape) {
		return t.Data
	}
	out := make([]byte, op.Type.Bytes())
	if !op.Type.Rows {
		return columns(out, t, op.Type)
	}
	if op.Type.DType == dtype.I32 {
		for i := copy(out, t.Data); i < len(out); i++ {
			out[i] = 0xff
		}
		return out
	}
	copy(out, t.Data)
	return out
}

// columns copies the first columns of a matrix.
func columns(out []byte, t *tensor.Tensor, to graph.Type) []byte {
	wide, narrow := t.DType.Bytes(t.Shape[1]), to.DType.Bytes(to.Shape[1])
	for r := range to.Shape[0] {
		copy(out[r*narrow:(r+1)*narrow], t.Data[r*wide:])
	}
	return out
}

// read copies the outputs to the host, without rows that were not given.
func (v *variant) read(results []*pjrt.Buffer, rows int) (engine.Tensors, error) {
	out := engine.Tensors{}
	var err error
	for i, o := range v.outputs {
		whole := tensor.New(o.typ.DType, o.typ.Shape...)
		err = errors.Join(err, results[i].Get(whole.Data), results[i].Close())
		if o.rows == 0 {
			whole = first(whole, rows)
		}
		if o.Count == 0 {
			out[o.Name] = whole
			continue
		}
		n := len(whole.Data) / o.Count
		for k := range o.Count {
			t := &tensor.Tensor{DType: whole.DType, Shape: slices.Clone(whole.Shape[1:]), Data: whole.Data[k*n : (k+1)*n]}
			if o.rows == 1 {
				t = first(t, rows)
			}
			out[fmt.Sprintf(o.Name, o.First+k)] = t
		}
	}
	if err != nil {
		return nil, fmt.Errorf("xla: run: %w", err)
	}
	return out, nil
}

// first is the first n rows of a tensor.
func first(t *tensor.Tensor, n int) *tensor.Tensor {
	shape := append([]int{n}, t.Shape[1:]...)
	return &tensor.Tensor{DType: t.DType, Shape: shape, Data: t.Data[:t.DType.Bytes(tensor.Len(shape))]}
}

// givenRows is the number of rows of the inputs that may have fewer than declared.
func (p *program) givenRows(in engine.Tensors) (int, error) {
	rows := -1
	for _, v := range p.g.Inputs() {
		op := v.Node.Op.(graph.Input)
		t := in[op.Label]
		if !op.Type.Rows || t == nil || len(t.Shape) != len(op.Type.Shape) {
			continue // what is missing is reported when it is needed
		}
		if t.Shape[0] > p.rows || rows >= 0 && rows != t.Shape[0] {
			return 0, fmt.Errorf("xla: input %s: want %d rows, got %v", op.Label, max(rows, p.rows), t)
		}
		rows = t.Shape[0]
	}
	if rows < 0 {
		rows = p.rows
	}
	return rows, nil
}

// Memory implements engine.Program: that of the largest variant.
func (p *program) Memory() engine.Memory {
	var m engine.Memory
	for _, v := range p.variants {
		used, err := v.executable.Memory()
		if err != nil {
			continue // not every plugin tells
		}
		m.Activations = max(m.Activations, used.Temporary)
		m.Outputs = max(m.Outputs, used.Outputs-used.Aliased)
	}
	return m
}

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
	var err error
	for _, v := range p.variants {
		err = errors.Join(err, v.executable.Close())
	}
	return err
}
