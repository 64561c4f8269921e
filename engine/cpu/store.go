package cpu

import (
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
	"danlu/tensor"
)

// state is a buffer of the store: the parts of a stacked state lie one after another.
type state struct {
	spec *graph.StateSpec
	data []byte
	used int // live programs bound to it
}

// partBytes is the storage of one part.
func (s *state) partBytes() int { return len(s.data) / max(s.spec.Parts(), 1) }

type part struct {
	key   string
	index int
}

type store struct {
	mu    sync.Mutex
	byKey map[string]*state
	order []string
	parts map[string]part
}

// stateBytes is the storage of a whole state.
func stateBytes(spec *graph.StateSpec) int {
	if c := spec.Cache; c != nil {
		return spec.Type.Len() * c.Pages * c.PageLen * c.BytesPerToken()
	}
	if packs(spec) {
		return packedBytes(spec)
	}
	return spec.Type.Bytes()
}

// Declare implements engine.Store.
func (s *store) Declare(spec *graph.StateSpec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byKey[spec.Key()]; old != nil {
		if !old.spec.Type.Equal(spec.Type) || stateBytes(old.spec) != stateBytes(spec) {
			return fmt.Errorf("cpu: state %s: declared as %v and as %v", spec.Key(), old.spec.Type, spec.Type)
		}
		return nil
	}
	for i := range spec.Parts() {
		if p, ok := s.parts[spec.PartName(i)]; ok {
			return fmt.Errorf("cpu: state %s: part %s belongs to state %s", spec.Key(), spec.PartName(i), p.key)
		}
	}
	data, err := allocate(stateBytes(spec))
	if err != nil {
		return fmt.Errorf("cpu: state %s: %w", spec.Key(), err)
	}
	if spec.Cache == nil { // of which most are filled in part only
		largePages(data)
	}
	s.byKey[spec.Key()] = &state{spec: spec, data: data}
	s.order = append(s.order, spec.Key())
	for i := range spec.Parts() {
		s.parts[spec.PartName(i)] = part{spec.Key(), i}
	}
	return nil
}

// View implements engine.Viewer.
func (s *store) View(name string) (*tensor.Tensor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.parts[name]
	if !ok {
		return nil, fmt.Errorf("cpu: state %q: is not declared", name)
	}
	st := s.byKey[p.key]
	if st.spec.Type.DType == dtype.Opaque {
		return nil, fmt.Errorf("cpu: state %q: has no host form", name)
	}
	if packs(st.spec) {
		return nil, fmt.Errorf("cpu: state %q: is packed for computing and cannot be written in place", name)
	}
	n, t := st.partBytes(), st.spec.PartType()
	return &tensor.Tensor{DType: t.DType, Shape: t.Shape, Data: st.data[p.index*n : (p.index+1)*n]}, nil
}

// Set implements engine.Store.
func (s *store) Set(name string, t *tensor.Tensor) error {
	if m := s.packed(name); m != nil {
		return m.set(name, t)
	}
	v, err := s.View(name)
	if err != nil {
		return err
	}
	if !slices.Equal(v.Shape, t.Shape) || len(t.Data) != t.DType.Bytes(t.Len()) {
		return fmt.Errorf("cpu: state %q: want %v, got %v", name, v, t)
	}
	if v.DType == t.DType {
		copy(v.Data, t.Data)
		return nil
	}
	if !castable(t.DType) || !castable(v.DType) || !t.DType.IsFloat() || !v.DType.IsFloat() {
		return fmt.Errorf("cpu: state %q: want %v, got %v", name, v, t)
	}
	castRow(v.DType, unsafe.Pointer(unsafe.SliceData(v.Data)), t.DType, unsafe.Pointer(unsafe.SliceData(t.Data)), v.Len())
	return nil
}

// Get implements engine.Store.
func (s *store) Get(name string) (*tensor.Tensor, error) {
	if m := s.packed(name); m != nil {
		return m.get(name)
	}
	v, err := s.View(name)
	if err != nil {
		return nil, err
	}
	return &tensor.Tensor{DType: v.DType, Shape: slices.Clone(v.Shape), Data: slices.Clone(v.Data)}, nil
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
		n += int64(len(st.data))
	}
	return n
}

// Free implements engine.Store.
func (s *store) Free(label string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.byKey {
		if st.spec.Label == label && st.used > 0 {
			return fmt.Errorf("cpu: state %s: is used by %d programs", label, st.used)
		}
	}
	s.order = slices.DeleteFunc(s.order, func(k string) bool { return s.byKey[k].spec.Label == label })
	for k, st := range s.byKey {
		if st.spec.Label != label {
			continue
		}
		for i := range st.spec.Parts() {
			delete(s.parts, st.spec.PartName(i))
		}
		delete(s.byKey, k)
		if err := release(st.data); err != nil {
			return fmt.Errorf("cpu: state %s: %w", label, err)
		}
	}
	return nil
}

// Close implements engine.Store.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.byKey {
		if st.used > 0 {
			return fmt.Errorf("cpu: store: state %s is used by %d programs", st.spec.Key(), st.used)
		}
	}
	var first error
	for _, st := range s.byKey {
		if err := release(st.data); err != nil && first == nil {
			first = fmt.Errorf("cpu: store: %w", err)
		}
	}
	s.byKey, s.parts, s.order = map[string]*state{}, map[string]part{}, nil
	return first
}

// view is memory as n values of type T.
func view[T any](p unsafe.Pointer, n int) []T { return unsafe.Slice((*T)(p), n) }

func bytesOf[T any](s []T) []byte {
	var z T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(z)))
}

type numeric interface {
	~uint8 | ~int8 | ~uint16 | ~int16 | ~int32 | ~int64 | ~uint32 | ~uint64 | ~float32 | ~float64
}

func castable(d dtype.DType) bool {
	switch d {
	case dtype.F32, dtype.F64, dtype.BF16, dtype.F16, dtype.I32, dtype.I64, dtype.U32, dtype.U8, dtype.Bool:
		return true
	}
	return false
}

// castRow converts n values. Types that are not castable are refused when the program is compiled.
func castRow(to dtype.DType, dst unsafe.Pointer, from dtype.DType, src unsafe.Pointer, n int) {
	switch {
	case to == from:
		copy(view[byte](dst, to.Bytes(n)), view[byte](src, to.Bytes(n)))
	case from == dtype.BF16 || from == dtype.F16:
		var wide [512]float32
		for i := 0; i < n; i += len(wide) {
			w := wide[:min(len(wide), n-i)]
			if from == dtype.BF16 {
				kernel.BF16ToF32(w, view[uint16](src, n)[i:i+len(w)])
			} else {
				kernel.F16ToF32(w, view[uint16](src, n)[i:i+len(w)])
			}
			castFrom(to, unsafe.Add(dst, to.Bytes(i)), w)
		}
	default:
		switch from {
		case dtype.F32:
			castFrom(to, dst, view[float32](src, n))
		case dtype.F64:
			castFrom(to, dst, view[float64](src, n))
		case dtype.I32:
			castFrom(to, dst, view[int32](src, n))
		case dtype.I64:
			castFrom(to, dst, view[int64](src, n))
		case dtype.U32:
			castFrom(to, dst, view[uint32](src, n))
		default:
			castFrom(to, dst, view[uint8](src, n))
		}
	}
}

func castFrom[T numeric](to dtype.DType, dst unsafe.Pointer, src []T) {
	n := len(src)
	switch to {
	case dtype.F32:
		castTo(view[float32](dst, n), src)
	case dtype.F64:
		castTo(view[float64](dst, n), src)
	case dtype.I32:
		castTo(view[int32](dst, n), src)
	case dtype.I64:
		castTo(view[int64](dst, n), src)
	case dtype.U32:
		castTo(view[uint32](dst, n), src)
	case dtype.U8:
		castTo(view[uint8](dst, n), src)
	case dtype.Bool:
		for i, x := range src {
			view[uint8](dst, n)[i] = bit(x != 0)
		}
	default:
		var wide [512]float32
		half := view[uint16](dst, n)
		for i := 0; i < n; i += len(wide) {
			w := wide[:min(len(wide), n-i)]
			castTo(w, src[i:i+len(w)])
			if to == dtype.BF16 {
				kernel.F32ToBF16(half[i:i+len(w)], w)
			} else {
				kernel.F32ToF16(half[i:i+len(w)], w)
			}
		}
	}
}

func castTo[D, S numeric](dst []D, src []S) {
	for i, x := range src {
		dst[i] = D(x)
	}
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
