// Package ref is the reference engine: it interprets graphs one primitive at a time in float64 and is slow on purpose.
// Fused operations run as their decompositions, so that what they mean is decided in one place. Results typed bfloat16
// or float16 are rounded to those types; float32 results are kept in float64.
package ref

import (
	"context"
	"fmt"
	"math"
	"slices"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/kernel"
	"danlu/quant"
	"danlu/tensor"
)

// Engine interprets graphs.
type Engine struct{}

// New returns the engine.
func New() *Engine { return &Engine{} }

// Name implements engine.Engine.
func (*Engine) Name() string { return "ref" }

// Close implements engine.Engine.
func (*Engine) Close() error { return nil }

// NewStore implements engine.Engine.
func (*Engine) NewStore() engine.Store {
	return &store{byKey: map[string]*state{}, parts: map[string]part{}}
}

// array is a value: floats in f, integers and booleans in i, a KV cache in pages.
type array struct {
	shape []int
	f     []float64
	i     []int64
	pages []*cache // of a stack of caches; one for a single cache
}

func newArray(t graph.Type) *array {
	a := &array{shape: t.Shape}
	switch {
	case t.DType == dtype.Opaque:
		a.pages = make([]*cache, t.Len())
	case t.DType.IsFloat():
		a.f = make([]float64, t.Len())
	default:
		a.i = make([]int64, t.Len())
	}
	return a
}

// part slices iteration i off a stacked value.
func (a *array) part(i int) *array {
	p := &array{shape: a.shape[1:]}
	n := tensor.Len(p.shape)
	switch {
	case a.f != nil:
		p.f = a.f[i*n : (i+1)*n]
	case a.i != nil:
		p.i = a.i[i*n : (i+1)*n]
	default:
		p.pages = a.pages[i*n : (i+1)*n]
	}
	return p
}

// put copies part i of a stacked value.
func (a *array) put(i int, p *array) {
	n := tensor.Len(a.shape[1:])
	copy(a.f[min(i*n, len(a.f)):], p.f)
	copy(a.i[min(i*n, len(a.i)):], p.i)
	copy(a.pages[min(i*n, len(a.pages)):], p.pages)
}

// state is a buffer of the store.
type state struct {
	spec  *graph.StateSpec
	value *array
	// blocks are the parts as they were set, of block-quantized states: their values do not tell the bytes.
	blocks []*tensor.Tensor
}

type part struct {
	key   string
	index int
}

type store struct {
	byKey map[string]*state
	order []string
	parts map[string]part
}

// Declare implements engine.Store.
func (s *store) Declare(spec *graph.StateSpec) error {
	if old := s.byKey[spec.Key()]; old != nil {
		if !old.spec.Type.Equal(spec.Type) {
			return fmt.Errorf("ref: state %s: declared as %v and as %v", spec.Key(), old.spec.Type, spec.Type)
		}
		return nil
	}
	st := &state{spec: spec, value: newArray(spec.Type)}
	if spec.Type.DType.IsQuantized() {
		st.blocks = make([]*tensor.Tensor, spec.Parts())
	}
	if spec.Cache != nil {
		for i := range st.value.pages {
			st.value.pages[i] = newCache(spec.Cache)
		}
	}
	s.byKey[spec.Key()] = st
	s.order = append(s.order, spec.Key())
	for i := range spec.Parts() {
		s.parts[spec.PartName(i)] = part{spec.Key(), i}
	}
	return nil
}

func (s *store) find(name string) (*state, int, error) {
	p, ok := s.parts[name]
	if !ok {
		return nil, 0, fmt.Errorf("ref: state %q: is not declared", name)
	}
	return s.byKey[p.key], p.index, nil
}

// Set implements engine.Store.
func (s *store) Set(name string, t *tensor.Tensor) error {
	st, i, err := s.find(name)
	if err != nil {
		return err
	}
	want := st.spec.PartType()
	if !graph.Of(want.DType, t.Shape...).Equal(want) {
		return fmt.Errorf("ref: state %q: want %v, got %v", name, want, t)
	}
	a, err := fromTensor(t)
	if err != nil {
		return fmt.Errorf("ref: state %q: %w", name, err)
	}
	if want.DType.IgnoresRows() {
		if a, err = coded(want.DType, a); err != nil {
			return fmt.Errorf("ref: state %q: %w", name, err)
		}
	} else if want.DType.IsQuantized() {
		if t.DType != want.DType {
			return fmt.Errorf("ref: state %q: want %v, got %v", name, want, t)
		}
		st.blocks[i] = &tensor.Tensor{DType: t.DType, Shape: slices.Clone(t.Shape), Data: slices.Clone(t.Data)}
	}
	n := want.Len()
	if st.value.f != nil {
		copy(st.value.f[i*n:], a.f)
		round(st.value.f[i*n:(i+1)*n], want.DType)
	} else {
		copy(st.value.i[i*n:], a.i)
	}
	return nil
}

// coded is what codes of type d make of a matrix.
func coded(d dtype.DType, a *array) (*array, error) {
	x := make([]float32, len(a.f))
	for i, v := range a.f {
		x[i] = float32(v)
	}
	codes := make([]byte, kernel.CodedBytes(d, len(x)))
	if err := kernel.Encode(d, codes, x); err != nil {
		return nil, err
	}
	kernel.Decode(d, x, codes, 0)
	for i, v := range x {
		a.f[i] = float64(v)
	}
	return a, nil
}

// Get implements engine.Store.
func (s *store) Get(name string) (*tensor.Tensor, error) {
	st, i, err := s.find(name)
	if err != nil {
		return nil, err
	}
	t, n := st.spec.PartType(), st.spec.PartType().Len()
	if t.DType.IgnoresRows() {
		t.DType = dtype.F32
	} else if t.DType.IsQuantized() {
		if st.blocks[i] == nil {
			return nil, fmt.Errorf("ref: state %q: was never set", name)
		}
		return st.blocks[i], nil
	}
	a := &array{shape: t.Shape}
	if st.value.f != nil {
		a.f = st.value.f[i*n : (i+1)*n]
	} else if st.value.i != nil {
		a.i = st.value.i[i*n : (i+1)*n]
	} else {
		return nil, fmt.Errorf("ref: state %q: has no host form", name)
	}
	return toTensor(a, t.DType)
}

// Specs implements engine.Store.
func (s *store) Specs() []*graph.StateSpec {
	var specs []*graph.StateSpec
	for _, k := range s.order {
		specs = append(specs, s.byKey[k].spec)
	}
	return specs
}

// Bytes implements engine.Store.
func (s *store) Bytes() int64 {
	n := int64(0)
	for _, st := range s.byKey {
		n += 8 * int64(len(st.value.f)+len(st.value.i))
	}
	return n
}

// Free implements engine.Store.
func (s *store) Free(label string) error {
	for i := 0; i < len(s.order); i++ {
		st := s.byKey[s.order[i]]
		if st.spec.Label != label {
			continue
		}
		for k := range st.spec.Parts() {
			delete(s.parts, st.spec.PartName(k))
		}
		delete(s.byKey, s.order[i])
		s.order = append(s.order[:i], s.order[i+1:]...)
		i--
	}
	return nil
}

// Close implements engine.Store.
func (s *store) Close() error { return nil }

// program is a graph with the store it runs on.
type program struct {
	g     *graph.Graph
	store *store
	opts  engine.Options
}

// Compile implements engine.Engine.
func (*Engine) Compile(g *graph.Graph, st engine.Store, opts engine.Options) (engine.Program, error) {
	s, ok := st.(*store)
	if !ok {
		return nil, fmt.Errorf("ref: the store belongs to another engine")
	}
	for _, v := range g.States() {
		if err := s.Declare(v.Node.Op.(graph.State).StateSpec); err != nil {
			return nil, err
		}
	}
	return &program{g: g, store: s, opts: opts}, nil
}

// Memory implements engine.Program; the interpreter plans nothing.
func (p *program) Memory() engine.Memory { return engine.Memory{} }

// Close implements engine.Program.
func (p *program) Close() error { return nil }

// Run implements engine.Program.
func (p *program) Run(ctx context.Context, in engine.Tensors) (out engine.Tensors, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(fault)
			if !ok {
				panic(r)
			}
			out, err = nil, fmt.Errorf("ref: %s", string(f))
		}
	}()
	e := &env{ctx: ctx, store: p.store, inputs: in, rows: -1, values: map[*graph.Value]*array{}}
	var wanted []*graph.Value
	for _, o := range p.g.Outputs {
		if p.opts.Outputs == nil || contains(p.opts.Outputs, o.Name) {
			wanted = append(wanted, o.Value)
		}
	}
	if !p.opts.NoUpdates {
		for _, u := range p.g.Updates {
			wanted = append(wanted, u.Value)
		}
	}
	e.run(p.g.Nodes, live(p.g, wanted))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	out = engine.Tensors{}
	for _, o := range p.g.Outputs {
		if p.opts.Outputs != nil && !contains(p.opts.Outputs, o.Name) {
			continue
		}
		if err := e.output(out, o); err != nil {
			return nil, err
		}
	}
	if !p.opts.NoUpdates {
		next := make([]*array, len(p.g.Updates))
		for i, u := range p.g.Updates {
			next[i] = e.value(u.Value)
		}
		for i, u := range p.g.Updates {
			p.store.byKey[u.State.Node.Op.(graph.State).Key()].value = next[i]
		}
	}
	return out, nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// output converts a result, cut to the rows of this run; a stacked one gives a tensor for each iteration.
func (e *env) output(out engine.Tensors, o graph.Output) error {
	a := e.value(o.Value)
	if o.Count == 0 {
		t, err := toTensor(a, o.Value.DType)
		out[o.Name] = t
		return err
	}
	for i := range o.Count {
		t, err := toTensor(a.part(i), o.Value.DType)
		if err != nil {
			return err
		}
		out[fmt.Sprintf(o.Name, o.First+i)] = t
	}
	return nil
}

// fault is a run-time error, such as an index out of range.
type fault string

func failf(format string, args ...any) { panic(fault(fmt.Sprintf(format, args...))) }

func fromTensor(t *tensor.Tensor) (*array, error) {
	a := &array{shape: t.Shape}
	switch t.DType {
	case dtype.F32:
		a.f = make([]float64, t.Len())
		for i, x := range t.F32() {
			a.f[i] = float64(x)
		}
	case dtype.F64:
		a.f = append(make([]float64, 0, t.Len()), t.F64()...)
	case dtype.BF16:
		a.f = make([]float64, t.Len())
		for i, x := range t.U16() {
			a.f[i] = float64(math.Float32frombits(uint32(x) << 16))
		}
	case dtype.I32:
		a.i = make([]int64, t.Len())
		for i, x := range t.I32() {
			a.i[i] = int64(x)
		}
	case dtype.U32:
		a.i = make([]int64, t.Len())
		for i, x := range t.U32() {
			a.i[i] = int64(x)
		}
	case dtype.I64:
		a.i = append(make([]int64, 0, t.Len()), t.I64()...)
	case dtype.Bool, dtype.U8:
		a.i = make([]int64, t.Len())
		for i, x := range t.Data {
			a.i[i] = int64(x)
		}
	default:
		if !quant.CanDequantize(t.DType) {
			return nil, fmt.Errorf("a %v tensor cannot be given", t.DType)
		}
		x := make([]float32, t.Len())
		if err := quant.Dequantize(t.DType, x, t.Data); err != nil {
			return nil, err
		}
		a.f = make([]float64, len(x))
		for i, v := range x {
			a.f[i] = float64(v)
		}
	}
	return a, nil
}

func toTensor(a *array, d dtype.DType) (*tensor.Tensor, error) {
	t := tensor.New(d, a.shape...)
	switch d {
	case dtype.F32:
		for i, x := range a.f {
			t.F32()[i] = float32(x)
		}
	case dtype.F64:
		copy(t.F64(), a.f)
	case dtype.BF16:
		for i, x := range a.f {
			t.U16()[i] = uint16(math.Float32bits(float32(x)) >> 16) // already rounded
		}
	case dtype.F16:
		for i, x := range a.f {
			t.U16()[i] = quant.F32ToHalf(float32(x))
		}
	case dtype.I32:
		for i, x := range a.i {
			t.I32()[i] = int32(x)
		}
	case dtype.U32:
		for i, x := range a.i {
			t.U32()[i] = uint32(x)
		}
	case dtype.I64:
		copy(t.I64(), a.i)
	case dtype.Bool, dtype.U8:
		for i, x := range a.i {
			t.Data[i] = byte(x)
		}
	default:
		return nil, fmt.Errorf("ref: a %v result cannot be given out", d)
	}
	return t, nil
}

// round rounds values to a 16-bit float type; other types are left alone.
func round(x []float64, d dtype.DType) {
	if d != dtype.BF16 && d != dtype.F16 {
		return
	}
	for i, v := range x {
		x[i] = roundTo(v, d)
	}
}

// roundTo rounds to nearest even with the type's precision, overflow and subnormals.
func roundTo(v float64, d dtype.DType) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	bits, low, top := 8, -126, 0x1.fep127 // significant bits, lowest exponent, largest value of bfloat16
	if d == dtype.F16 {
		bits, low, top = 11, -14, 65504
	}
	_, e := math.Frexp(v) // v = f·2^e, f in [0.5, 1)
	unit := math.Ldexp(1, max(e, low+1)-bits)
	r := math.RoundToEven(v/unit) * unit
	if math.Abs(r) > top {
		return math.Copysign(math.Inf(1), v)
	}
	return r
}
