package xla

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"danlu/dtype"
	"danlu/engine/xla/pjrt"
	"danlu/graph"
	"danlu/kernel"
	"danlu/tensor"
)

// state is a buffer of the store. What it holds is on the device, on the host, or both; nowhere means zeros.
type state struct {
	spec   *graph.StateSpec
	types  []graph.Type     // of its arrays: one, but for a cache
	cut    sharding         // of the only array
	device [][]*pjrt.Buffer // [devices][arrays]
	host   []byte
	used   int // live programs bound to it
}

type part struct {
	key   string
	index int
}

type store struct {
	mu     sync.Mutex
	engine *Engine
	byKey  map[string]*state
	order  []string
	parts  map[string]part
}

// arraysOf are the types of a state's arrays, or why the engine does not keep it.
func arraysOf(spec *graph.StateSpec) ([]graph.Type, error) {
	if c := spec.Cache; c != nil {
		switch c.Store {
		case dtype.F32, dtype.F16, dtype.BF16:
			return cacheTypes(c, spec.Type.Shape), nil
		case dtype.Q8_0:
			if c.KeyDim%scaleBlock == 0 && c.ValueDim%scaleBlock == 0 {
				return cacheTypes(c, spec.Type.Shape), nil
			}
			return nil, fmt.Errorf("a cache kept as q8_0 takes heads of a multiple of %d, got %d and %d", scaleBlock, c.KeyDim, c.ValueDim)
		}
		return nil, fmt.Errorf("a cache cannot be kept as %v", c.Store)
	}
	if spec.Type.DType.IsQuantized() {
		return nil, fmt.Errorf("weights kept as %v are for engine: cpu; give float weights", spec.Type.DType)
	}
	if elementNames[spec.Type.DType] == "" {
		return nil, fmt.Errorf("devices have no %v", spec.Type.DType)
	}
	return []graph.Type{spec.Type}, nil
}

// Declare implements engine.Store.
func (s *store) Declare(spec *graph.StateSpec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	types, err := arraysOf(spec)
	if err != nil {
		return fmt.Errorf("xla: state %s: %w", spec.Key(), err)
	}
	if old := s.byKey[spec.Key()]; old != nil {
		if !slices.EqualFunc(old.types, types, graph.Type.Equal) {
			return fmt.Errorf("xla: state %s: declared as %v and as %v", spec.Key(), old.spec.Type, spec.Type)
		}
		return nil
	}
	for i := range spec.Parts() {
		if p, ok := s.parts[spec.PartName(i)]; ok {
			return fmt.Errorf("xla: state %s: part %s belongs to state %s", spec.Key(), spec.PartName(i), p.key)
		}
	}
	cut, err := s.engine.mesh.stateSharding(spec)
	if err != nil {
		return err
	}
	s.byKey[spec.Key()] = &state{spec: spec, types: types, cut: cut}
	s.order = append(s.order, spec.Key())
	for i := range spec.Parts() {
		s.parts[spec.PartName(i)] = part{spec.Key(), i}
	}
	return nil
}

// find is the state and the place in it of a part that has a host form.
func (s *store) find(name string) (st *state, from, to int, err error) {
	p, ok := s.parts[name]
	if !ok {
		return nil, 0, 0, fmt.Errorf("xla: state %q: is not declared", name)
	}
	st = s.byKey[p.key]
	if st.spec.Cache != nil {
		return nil, 0, 0, fmt.Errorf("xla: state %q: has no host form", name)
	}
	n := st.spec.PartType().Bytes()
	return st, p.index * n, (p.index + 1) * n, nil
}

// Set implements engine.Store.
func (s *store) Set(name string, t *tensor.Tensor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, from, to, err := s.find(name)
	if err != nil {
		return err
	}
	want := st.spec.PartType()
	if !slices.Equal(want.Shape, t.Shape) || len(t.Data) != t.DType.Bytes(t.Len()) {
		return fmt.Errorf("xla: state %q: want %v, got %v", name, want, t)
	}
	data, err := converted(t, want.DType)
	if err != nil {
		return fmt.Errorf("xla: state %q: want %v, got %v", name, want, t)
	}
	if err := s.toHost(st); err != nil {
		return fmt.Errorf("xla: state %q: %w", name, err)
	}
	copy(st.host[from:to], data)
	return st.drop()
}

// converted is a tensor's bytes in another float type.
func converted(t *tensor.Tensor, to dtype.DType) ([]byte, error) {
	if t.DType == to {
		return t.Data, nil
	}
	wide := make([]float32, t.Len())
	switch t.DType {
	case dtype.F32:
		wide = t.F32()
	case dtype.BF16:
		kernel.BF16ToF32(wide, t.U16())
	case dtype.F16:
		kernel.F16ToF32(wide, t.U16())
	default:
		return nil, errors.New("not a plain float type")
	}
	out := tensor.New(to, t.Shape...)
	switch to {
	case dtype.F32:
		copy(out.F32(), wide)
	case dtype.BF16:
		kernel.F32ToBF16(out.U16(), wide)
	case dtype.F16:
		kernel.F32ToF16(out.U16(), wide)
	default:
		return nil, errors.New("not a plain float type")
	}
	return out.Data, nil
}

// Get implements engine.Store.
func (s *store) Get(name string) (*tensor.Tensor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, from, to, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if err := s.toHost(st); err != nil {
		return nil, fmt.Errorf("xla: state %q: %w", name, err)
	}
	t := st.spec.PartType()
	return &tensor.Tensor{DType: t.DType, Shape: slices.Clone(t.Shape), Data: slices.Clone(st.host[from:to])}, nil
}

// toHost brings what a state holds to the host, where it stays until a program changes it.
func (s *store) toHost(st *state) error {
	if st.host != nil {
		return nil
	}
	t := st.types[0]
	host := make([]byte, t.Bytes())
	seen := map[string]bool{} // blocks that are here: copies of them are the same
	for d, arrays := range st.device {
		b := s.engine.mesh.block(st.cut, t.Shape, d)
		if seen[fmt.Sprint(b.from)] {
			continue
		}
		seen[fmt.Sprint(b.from)] = true
		own := host
		if !b.whole(t.Shape) {
			own = make([]byte, t.DType.Bytes(tensor.Len(b.shape)))
		}
		if err := arrays[0].Get(own); err != nil {
			return err
		}
		if !b.whole(t.Shape) {
			b.move(host, t.Shape, own, t.DType, false)
		}
	}
	st.host = host
	return nil
}

// drop frees the state's buffers on the devices.
func (st *state) drop() error {
	var err error
	for _, arrays := range st.device {
		for _, b := range arrays {
			err = errors.Join(err, b.Close())
		}
	}
	st.device = nil
	return err
}

// toDevices brings what a state holds to the devices.
func (s *store) toDevices(st *state) error {
	if st.device != nil {
		return nil
	}
	st.device = make([][]*pjrt.Buffer, len(s.engine.devices))
	for i, t := range st.types {
		data := st.host
		if i > 0 || data == nil {
			data = make([]byte, t.Bytes())
		}
		for d := range s.engine.devices {
			b, err := s.engine.put(d, data, t, st.cut)
			if err != nil {
				return errors.Join(fmt.Errorf("xla: state %s: %w", st.spec.Key(), err), st.drop())
			}
			st.device[d] = append(st.device[d], b)
		}
	}
	return nil
}

// put brings a device's block of an array to it.
func (e *Engine) put(d int, data []byte, t graph.Type, cut sharding) (*pjrt.Buffer, error) {
	b := e.mesh.block(cut, t.Shape, d)
	if !b.whole(t.Shape) {
		own := make([]byte, t.DType.Bytes(tensor.Len(b.shape)))
		b.move(data, t.Shape, own, t.DType, true)
		data = own
	}
	return e.client.Put(e.devices[d], data, t.DType, b.shape)
}

// Specs implements engine.Store.
func (s *store) Specs() []*graph.StateSpec {
	s.mu.Lock()
	defer s.mu.Unlock()
	specs := make([]*graph.StateSpec, len(s.order))
	for i, k := range s.order {
		specs[i] = s.byKey[k].spec
	}
	return specs
}

// Bytes implements engine.Store.
func (s *store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(0)
	for _, st := range s.byKey {
		for _, t := range st.types {
			n += int64(t.Bytes())
		}
	}
	return n
}

// Free implements engine.Store.
func (s *store) Free(label string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.byKey {
		if st.spec.Label == label && st.used > 0 {
			return fmt.Errorf("xla: state %s: is used by %d programs", label, st.used)
		}
	}
	s.order = slices.DeleteFunc(s.order, func(k string) bool { return s.byKey[k].spec.Label == label })
	var err error
	for k, st := range s.byKey {
		if st.spec.Label != label {
			continue
		}
		for i := range st.spec.Parts() {
			delete(s.parts, st.spec.PartName(i))
		}
		delete(s.byKey, k)
		err = errors.Join(err, st.drop())
	}
	return err
}

// Close implements engine.Store.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, st := range s.byKey {
		if st.used > 0 {
			return fmt.Errorf("xla: store: state %s is used by %d programs", st.spec.Key(), st.used)
		}
		err = errors.Join(err, st.drop())
	}
	s.byKey, s.parts, s.order = map[string]*state{}, map[string]part{}, nil
	return err
}
