package pickle

import (
	"fmt"
	"math"
	"slices"

	"danlu/dtype"
	"danlu/tensor"
)

// storage is a run of values that tensors are views of.
type storage struct {
	key   string
	dtype dtype.DType // Invalid: bytes, whose type the views say
	count int
	data  []byte // nil until an old file's storages are read
}

// view is a tensor: a part of a storage in some order.
type view struct {
	of             *storage
	dtype          dtype.DType
	offset         int
	shape, strides []int
}

// storages are the classes of typed storages, dtypes the names of element types.
var (
	storages = map[string]dtype.DType{
		"FloatStorage": dtype.F32, "DoubleStorage": dtype.F64, "HalfStorage": dtype.F16, "BFloat16Storage": dtype.BF16, "LongStorage": dtype.I64, "IntStorage": dtype.I32,
		"ShortStorage": dtype.I16, "CharStorage": dtype.I8, "ByteStorage": dtype.U8, "BoolStorage": dtype.Bool, "UntypedStorage": dtype.Invalid,
	}
	dtypes = map[string]dtype.DType{
		"float32": dtype.F32, "float64": dtype.F64, "float16": dtype.F16, "bfloat16": dtype.BF16, "int64": dtype.I64, "int32": dtype.I32, "int16": dtype.I16, "int8": dtype.I8,
		"uint8": dtype.U8, "uint16": dtype.U16, "uint32": dtype.U32, "uint64": dtype.U64, "bool": dtype.Bool, "float8_e4m3fn": dtype.F8E4M3, "float8_e5m2": dtype.F8E5M2,
	}
)

// known reports whether a name of Python is one that tensors are built with.
func known(g global) bool {
	switch g.module {
	case "collections":
		return g.name == "OrderedDict"
	case "torch._utils":
		return slices.Contains([]string{"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"}, g.name)
	case "torch", "torch.storage":
		if _, ok := storages[g.name]; ok {
			return true
		}
		_, ok := dtypes[g.name]
		return ok && g.module == "torch" || g == global{"torch", "Size"}
	}
	return false
}

// build does what a constructor of PyTorch does.
func (m *machine) build(g global, args tuple) (any, error) {
	switch g.name {
	case "OrderedDict":
		return m.orderedDict(args)
	case "Size":
		if len(args) == 1 {
			return args[0], nil
		}
	case "_rebuild_parameter":
		if len(args) > 0 {
			if v, ok := args[0].(*view); ok {
				return v, nil
			}
		}
	case "_rebuild_tensor", "_rebuild_tensor_v2":
		if len(args) >= 4 {
			return rebuild(args, dtype.Invalid)
		}
	case "_rebuild_tensor_v3":
		if len(args) >= 7 {
			if t, ok := args[6].(global); ok && dtypes[t.name] != dtype.Invalid {
				return rebuild(args, dtypes[t.name])
			}
		}
	}
	return nil, fmt.Errorf("pickle: calls %s in a way that builds no tensor", g)
}

// orderedDict is a dictionary of a list of pairs, which old pickles give, or an empty one.
func (m *machine) orderedDict(args tuple) (any, error) {
	d := &dict{}
	if len(args) == 0 {
		return d, nil
	}
	l, ok := args[0].(*list)
	if !ok {
		return nil, fmt.Errorf("pickle: calls collections.OrderedDict in a way that builds no tensor")
	}
	if m.budget -= len(l.items); m.budget < 0 {
		return nil, fmt.Errorf("pickle: copies more items than it holds")
	}
	for _, item := range l.items {
		pair, ok := item.(tuple)
		if p, isList := item.(*list); isList {
			pair, ok = p.items, true
		}
		if !ok || len(pair) != 2 {
			return nil, fmt.Errorf("pickle: collections.OrderedDict: want pairs")
		}
		d.keys, d.values = append(d.keys, pair[0]), append(d.values, pair[1])
	}
	return d, nil
}

// rebuild makes a view of (storage, offset, shape, strides, ...).
func rebuild(args tuple, d dtype.DType) (*view, error) {
	s, ok := args[0].(*storage)
	offset, okOffset := args[1].(int64)
	shape, okShape := numbers(args[2])
	strides, okStrides := numbers(args[3])
	if !ok || !okOffset || !okShape || !okStrides || len(shape) != len(strides) {
		return nil, fmt.Errorf("pickle: a tensor's storage, offset, shape or strides are not such")
	}
	if d == dtype.Invalid {
		d = s.dtype
	}
	if d == dtype.Invalid {
		return nil, fmt.Errorf("pickle: storage %q: has no element type", s.key)
	}
	v := &view{of: s, dtype: d, shape: shape, strides: strides}
	n, err := tensor.CheckedLen(shape)
	if err != nil {
		return nil, err
	}
	if offset < 0 || offset > math.MaxInt32<<16 {
		return nil, fmt.Errorf("pickle: storage %q: offset %d is not valid", s.key, offset)
	}
	v.offset = int(offset)
	last := v.offset // the largest index
	for i, size := range shape {
		if size == 0 {
			break
		}
		if strides[i] < 0 || strides[i] > math.MaxInt/8/size {
			return nil, fmt.Errorf("pickle: storage %q: strides %v are not valid", s.key, strides)
		}
		if last += (size - 1) * strides[i]; last < 0 || last > math.MaxInt/16 {
			return nil, fmt.Errorf("pickle: storage %q: strides %v are not valid", s.key, strides)
		}
	}
	count := s.count
	if s.dtype == dtype.Invalid {
		count /= d.BlockBytes()
	}
	if n > 0 && last >= count {
		return nil, fmt.Errorf("pickle: storage %q: shape %v with strides %v at %d ends beyond its %d values", s.key, shape, strides, v.offset, count)
	}
	if n > count {
		return nil, fmt.Errorf("pickle: storage %q: shape %v repeats its %d values", s.key, shape, count)
	}
	return v, nil
}

// numbers reads a tuple of non-negative integers.
func numbers(v any) ([]int, bool) {
	t, ok := v.(tuple)
	if !ok || len(t) > 16 {
		return nil, false
	}
	out := make([]int, len(t))
	for i, x := range t {
		n, ok := x.(int64)
		if !ok || n < 0 {
			return nil, false
		}
		out[i] = int(n)
	}
	return out, true
}

// contiguous reports whether the view's values lie behind each other.
func (v *view) contiguous() bool {
	step := 1
	for i := len(v.shape) - 1; i >= 0; i-- {
		if v.shape[i] != 1 && v.strides[i] != step {
			return false
		}
		step *= v.shape[i]
	}
	return true
}

// tensor returns the values: a part of the storage where they lie behind each other, else a copy.
func (v *view) tensor() (*tensor.Tensor, error) {
	size, n := v.dtype.BlockBytes(), tensor.Len(v.shape)
	if n > 0 && v.of.data == nil {
		return nil, fmt.Errorf("pickle: storage %q: is missing", v.of.key)
	}
	t := &tensor.Tensor{DType: v.dtype, Shape: v.shape}
	if n == 0 {
		return t, nil
	}
	if v.contiguous() {
		t.Data = v.of.data[v.offset*size : (v.offset+n)*size]
		return t, nil
	}
	t.Data = make([]byte, n*size)
	index := make([]int, len(v.shape))
	at := v.offset
	for i := range n {
		copy(t.Data[i*size:(i+1)*size], v.of.data[at*size:])
		for k := len(index) - 1; k >= 0; k-- {
			index[k]++
			at += v.strides[k]
			if index[k] < v.shape[k] {
				break
			}
			at -= v.shape[k] * v.strides[k]
			index[k] = 0
		}
	}
	return t, nil
}
