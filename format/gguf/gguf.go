// Package gguf reads GGUF files, versions 2 and 3, whole or split, and writes version 3: typed metadata and tensors, the
// latter read straight from the mapping.
// See https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf8"

	"danlu/dtype"
	"danlu/internal/mmap"
	"danlu/tensor"
)

// Limits on what a header may ask for, well above what any model has.
const (
	maxDims      = 4
	maxName      = 1 << 16
	maxAlignment = 1 << 20
)

var types = map[uint32]dtype.DType{
	0: dtype.F32, 1: dtype.F16, 2: dtype.Q4_0, 3: dtype.Q4_1, 6: dtype.Q5_0, 7: dtype.Q5_1, 8: dtype.Q8_0,
	10: dtype.Q2_K, 11: dtype.Q3_K, 12: dtype.Q4_K, 13: dtype.Q5_K, 14: dtype.Q6_K, 15: dtype.Q8_K,
	24: dtype.I8, 25: dtype.I16, 26: dtype.I32, 27: dtype.I64, 28: dtype.F64, 30: dtype.BF16,
}

// File is an open file. Its tensors alias the mapping and hold until Close; shapes are row-major, the reverse of the file's.
type File struct {
	path    string
	mapped  []*mmap.File // one for each part of a split file
	keys    []string
	values  map[string]any
	names   []string
	tensors map[string]*tensor.Tensor
}

// Open maps a file, and where it is the first part of a split one the other parts, and checks header, metadata, and that
// every tensor lies within the data.
func Open(path string) (*File, error) {
	f, err := openPart(path)
	if err != nil {
		return nil, err
	}
	if err := f.openRest(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func openPart(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	f := &File{path: path, mapped: []*mmap.File{m}}
	if err := m.Guard(func() error { return f.parse(m.Data) }); err != nil {
		m.Close()
		return nil, fmt.Errorf("gguf: %s: %w", filepath.Base(path), err)
	}
	return f, nil
}

// openRest adds the tensors of the other parts of a split file.
func (f *File) openRest() error {
	if _, ok := f.values[splitCount]; !ok {
		return nil
	}
	count, err := f.Int(splitCount)
	if err != nil || count == 1 {
		return err
	}
	no, err := f.Int(splitNo)
	if err != nil {
		return err
	}
	base := filepath.Base(f.path)
	stem, ok := strings.CutSuffix(f.path, fmt.Sprintf("-%05d-of-%05d.gguf", no+1, count))
	if !ok || count < 1 || no < 0 || no >= count {
		return fmt.Errorf("gguf: %s: %s: is part %d of %d, which the name does not say (NAME-00001-of-0000N.gguf)", base, splitNo, no+1, count)
	}
	if no > 0 {
		return fmt.Errorf("gguf: %s: %s: is part %d of %d; give the first, %s", base, splitNo, no+1, count, filepath.Base(SplitName(stem, 0, count)))
	}
	for i := 1; i < count; i++ {
		p, err := openPart(SplitName(stem, i, count))
		if err != nil {
			return err
		}
		f.mapped = append(f.mapped, p.mapped...)
		if n, err := p.Int(splitNo); err != nil || n != i {
			return fmt.Errorf("gguf: %s: %s: want %d, got %v", filepath.Base(p.path), splitNo, i, p.values[splitNo])
		}
		for _, name := range p.names {
			if f.tensors[name] != nil {
				return fmt.Errorf("gguf: %s: tensor %q: is in an earlier part too", filepath.Base(p.path), name)
			}
			f.tensors[name] = p.tensors[name]
		}
		f.names = append(f.names, p.names...)
	}
	if _, ok := f.values[splitTensors]; ok {
		if n, err := f.Int(splitTensors); err != nil || n != len(f.names) {
			return fmt.Errorf("gguf: %s: %s: want the %d of all parts, got %v", base, splitTensors, len(f.names), f.values[splitTensors])
		}
	}
	return nil
}

// reader walks the header; the first error sticks.
type reader struct {
	data []byte
	at   uint64
	err  error
}

func (r *reader) fail(format string, a ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, a...)
	}
}

func (r *reader) bytes(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.data))-r.at {
		r.fail("header: want %d bytes at %d, the file has %d", n, r.at, len(r.data))
	}
	if r.err != nil {
		return nil
	}
	b := r.data[r.at : r.at+n]
	r.at += n
	return b
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) text() string { return string(r.bytes(r.u64())) }

func (r *reader) name(what string) string {
	n := r.u64()
	if n > maxName {
		r.fail("%s: a name of %d bytes exceeds %d", what, n, maxName)
		return ""
	}
	s := string(r.bytes(n))
	if !utf8.ValidString(s) {
		r.fail("%s: name %q is not valid UTF-8", what, s)
	}
	return s
}

func (f *File) parse(data []byte) error {
	r := &reader{data: data}
	if magic := r.bytes(4); r.err == nil && string(magic) != "GGUF" {
		return fmt.Errorf("magic: want \"GGUF\", got %q", magic)
	}
	if v := r.u32(); r.err == nil && v != 2 && v != 3 {
		return fmt.Errorf("version: want 2 or 3, got %d", v)
	}
	nTensors, nKeys := r.u64(), r.u64()
	// A tensor takes at least 24 bytes of header and a key 12, so counts beyond the file cannot be true.
	if r.err == nil && (nTensors > uint64(len(data))/24 || nKeys > uint64(len(data))/12) {
		return fmt.Errorf("header: %d tensors and %d keys do not fit the file of %d bytes", nTensors, nKeys, len(data))
	}
	f.values, f.tensors = map[string]any{}, map[string]*tensor.Tensor{}
	for range nKeys {
		key := r.name("metadata")
		if _, twice := f.values[key]; twice {
			r.fail("metadata: key %q is given twice", key)
		}
		v := r.value(key, r.u32())
		if r.err != nil {
			return r.err
		}
		f.keys, f.values[key] = append(f.keys, key), v
	}
	return f.parseTensors(r, nTensors)
}

func (f *File) parseTensors(r *reader, n uint64) error {
	alignment := uint64(32)
	if v, ok := f.values["general.alignment"]; ok {
		a, ok := v.(uint32)
		if !ok || a == 0 || a&(a-1) != 0 || a > maxAlignment {
			return fmt.Errorf("general.alignment: want a u32 power of two up to %d, got %v", maxAlignment, v)
		}
		alignment = uint64(a)
	}
	var offsets []uint64
	for range n {
		name := r.name("tensor")
		if f.tensors[name] != nil {
			r.fail("tensor %q: is described twice", name)
		}
		dims := r.u32()
		if dims > maxDims {
			r.fail("tensor %q: want at most %d dimensions, got %d", name, maxDims, dims)
			dims = 0
		}
		shape := make([]int, dims)
		for i := range shape {
			d := r.u64()
			if d > math.MaxInt64/8 {
				r.fail("tensor %q: shape: dimension %d overflows", name, d)
			}
			shape[len(shape)-1-i] = int(d)
		}
		code, offset := r.u32(), r.u64()
		d, known := types[code]
		if !known {
			r.fail("tensor %q: type %d is not supported", name, code)
		}
		if r.err == nil && offset%alignment != 0 {
			r.fail("tensor %q: offset %d is not a multiple of %d", name, offset, alignment)
		}
		if r.err != nil {
			return r.err
		}
		f.tensors[name] = &tensor.Tensor{DType: d, Shape: shape}
		f.names, offsets = append(f.names, name), append(offsets, offset)
	}
	if r.err != nil {
		return r.err
	}
	return f.place(r.data, (r.at+alignment-1)/alignment*alignment, offsets)
}

// place points every tensor at its bytes, offsets[i] after start, and makes sure that no two share any.
func (f *File) place(data []byte, start uint64, offsets []uint64) error {
	type span struct {
		name     string
		from, to uint64
	}
	var spans []span
	for i, name := range f.names {
		t := f.tensors[name]
		size, err := tensor.CheckedLen(t.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		if k := len(t.Shape); t.DType.BlockLen() > 1 && (k == 0 || t.Shape[k-1]%t.DType.BlockLen() != 0) {
			return fmt.Errorf("tensor %q: shape %v: want rows of a multiple of %d for %v", name, t.Shape, t.DType.BlockLen(), t.DType)
		}
		from, c1 := bits.Add64(start, offsets[i], 0)
		to, c2 := bits.Add64(from, uint64(t.DType.Bytes(size)), 0)
		if c1+c2 != 0 || to > uint64(len(data)) {
			return fmt.Errorf("tensor %q: its %d bytes at %d end beyond the file of %d", name, t.DType.Bytes(size), from, len(data))
		}
		t.Data = data[from:to:to]
		if from < to {
			spans = append(spans, span{name, from, to})
		}
	}
	sort.Slice(spans, func(i, j int) bool { return spans[i].from < spans[j].from })
	for i := 1; i < len(spans); i++ {
		if a, b := spans[i-1], spans[i]; b.from < a.to {
			return fmt.Errorf("tensor %q: overlaps tensor %q", b.name, a.name)
		}
	}
	return nil
}

// Path is where the file was opened.
func (f *File) Path() string { return f.path }

// Names lists the tensors in the order of the file.
func (f *File) Names() []string { return f.names }

// Tensor returns a tensor without copying it.
func (f *File) Tensor(name string) (*tensor.Tensor, error) {
	t, ok := f.tensors[name]
	if !ok {
		return nil, fmt.Errorf("gguf: %s: tensor %q: is missing", filepath.Base(f.path), name)
	}
	return t, nil
}

// Guard runs read and turns a fault of a mapped file into an error.
func (f *File) Guard(read func() error) error {
	for _, m := range f.mapped {
		inner := read
		read = func() error { return m.Guard(inner) }
	}
	return read()
}

// Close unmaps the file.
func (f *File) Close() error {
	var err error
	for _, m := range f.mapped {
		err = errors.Join(err, m.Close())
	}
	return err
}
