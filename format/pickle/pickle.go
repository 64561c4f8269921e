// Package pickle reads the tensors of PyTorch files (.bin, .pt, .pth): zip archives as torch.save writes them since 1.6,
// and the older single stream. A pickle is a program; the one here runs no Python and builds nothing but tensors, and
// every other name that a file refers to is an error.
package pickle

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"danlu/dtype"
	"danlu/internal/mmap"
	"danlu/tensor"
)

// File is an open file. Tensors alias the mapping where they can and hold until Close.
type File struct {
	path    string
	mapped  *mmap.File
	names   []string
	tensors map[string]*view
}

// Open maps a file and runs its pickle.
func Open(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("pickle: %w", err)
	}
	f := &File{path: path, mapped: m}
	if err := m.Guard(func() error { return f.parse(m.Data) }); err != nil {
		m.Close()
		return nil, fmt.Errorf("pickle: %s: %w", filepath.Base(path), err)
	}
	return f, nil
}

func (f *File) parse(data []byte) error {
	f.tensors = map[string]*view{}
	if bytes.HasPrefix(data, []byte("PK")) {
		return f.parseZip(data)
	}
	return f.parseStream(data)
}

// parseZip reads NAME/data.pkl and the storages NAME/data/KEY, which lie in the archive as they are.
func (f *File) parseZip(data []byte) error {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	entries := map[string][]byte{}
	root := ""
	for _, e := range z.File {
		dir, name, ok := strings.Cut(e.Name, "/")
		if !ok {
			continue
		}
		if name == "data.pkl" {
			root = dir
		}
		if e.Method != zip.Store {
			return fmt.Errorf("archive: %s: is compressed", e.Name)
		}
		at, err := e.DataOffset()
		if err != nil || at < 0 || at > int64(len(data)) || e.UncompressedSize64 > uint64(int64(len(data))-at) {
			return fmt.Errorf("archive: %s: its %d bytes do not lie within the file", e.Name, e.UncompressedSize64)
		}
		if entries[e.Name] != nil {
			return fmt.Errorf("archive: %s: is there twice", e.Name)
		}
		entries[e.Name] = data[at : at+int64(e.UncompressedSize64)]
	}
	program, ok := entries[root+"/data.pkl"]
	if !ok {
		return fmt.Errorf("archive: holds no data.pkl")
	}
	if order := strings.TrimSpace(string(entries[root+"/byteorder"])); order != "" && order != "little" {
		return fmt.Errorf("byteorder: want little, got %.20q", order)
	}
	if len(program) > maxPickle {
		return fmt.Errorf("data.pkl: %d bytes exceed %d", len(program), maxPickle)
	}
	found := map[string]*storage{}
	m := newMachine(program, func(id any) (any, error) {
		s, err := named(id, found)
		if err != nil || s.data != nil {
			return s, err
		}
		s.data = entries[root+"/data/"+s.key]
		if int64(len(s.data)) != s.bytes() {
			return nil, fmt.Errorf("storage %q: want %d bytes, got %d", s.key, s.bytes(), len(s.data))
		}
		return s, nil
	})
	v, err := m.run()
	if err != nil {
		return err
	}
	return f.collect(v)
}

// brief describes a value for an error. Values that hold others are named by kind alone: a small program can nest them
// beyond all bounds.
func brief(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%.40q", v)
	case global:
		return fmt.Sprintf("%.80s", v.String())
	case int64, float64, bool, nil:
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("a %T", v)
}

// bytes is the size of a storage.
func (s *storage) bytes() int64 {
	if s.dtype == dtype.Invalid {
		return int64(s.count)
	}
	return int64(s.dtype.Bytes(s.count))
}

// named finds the storage of a persistent id ("storage", class, key, place, values), or enters it.
func named(id any, found map[string]*storage) (*storage, error) {
	t, ok := id.(tuple)
	if !ok || len(t) < 5 || t[0] != "storage" {
		return nil, fmt.Errorf("pickle: a persistent id that names no storage")
	}
	class, isClass := t[1].(global)
	key, isKey := t[2].(string)
	count, isCount := t[4].(int64)
	d, known := storages[class.name]
	if !isClass || !isKey || !isCount || !known {
		return nil, fmt.Errorf("pickle: storage %s of class %s is not supported", brief(t[2]), brief(t[1]))
	}
	if len(t) > 5 && t[5] != nil {
		return nil, fmt.Errorf("pickle: storage %q: views of storages are not supported", key)
	}
	if count < 0 || count > 1<<50 {
		return nil, fmt.Errorf("pickle: storage %q: %d values", key, count)
	}
	if s := found[key]; s != nil {
		if s.dtype != d || s.count != int(count) {
			return nil, fmt.Errorf("pickle: storage %q: is named with two types or sizes", key)
		}
		return s, nil
	}
	s := &storage{key: key, dtype: d, count: int(count)}
	found[key] = s
	return s, nil
}

// magic is 0x1950a86a20f9469cfc6c, which begins files of the older kind.
const magic = bigNumber("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")

// parseStream reads the older kind: pickles of a magic number, a version, the system, the tensors and the storages' keys,
// then each storage's number of values and its bytes.
func (f *File) parseStream(data []byte) error {
	found := map[string]*storage{}
	rest := data
	next := func() (any, error) {
		m := newMachine(rest[:min(len(rest), maxPickle)], func(id any) (any, error) { return named(id, found) })
		v, err := m.run()
		rest = rest[m.at:]
		return v, err
	}
	if v, err := next(); err != nil || v != magic {
		return fmt.Errorf("want a zip archive or PyTorch's magic number")
	}
	if v, err := next(); err != nil || v != int64(1001) {
		return fmt.Errorf("version: want 1001, got %s", brief(v))
	}
	system, err := next()
	if err != nil {
		return err
	}
	if d, ok := system.(*dict); ok {
		for i, k := range d.keys {
			if k == "little_endian" && d.values[i] != true {
				return fmt.Errorf("little_endian: want true, got %s", brief(d.values[i]))
			}
		}
	}
	tensors, err := next()
	if err != nil {
		return err
	}
	v, err := next()
	if err != nil {
		return err
	}
	keys, ok := v.(*list)
	if !ok {
		return fmt.Errorf("want a list of storages")
	}
	for _, k := range keys.items {
		key, _ := k.(string)
		s := found[key]
		if s == nil || s.data != nil {
			return fmt.Errorf("storage %.40q: is used by no tensor, or is there twice", key)
		}
		if len(rest) < 8 || binary.LittleEndian.Uint64(rest) != uint64(s.count) || int64(len(rest)-8) < s.bytes() {
			return fmt.Errorf("storage %q: want %d values of %v, the file ends or says otherwise", key, s.count, s.dtype)
		}
		s.data = rest[8 : 8+s.bytes()]
		rest = rest[8+s.bytes():]
	}
	return f.collect(tensors)
}

// wrappers are the keys under which training programs keep a model's tensors.
var wrappers = []string{"state_dict", "model_state_dict", "model", "module"}

// collect finds the named tensors of a file's value: a dictionary of them, perhaps inside another.
func (f *File) collect(v any) error {
	d, ok := v.(*dict)
	if !ok {
		return fmt.Errorf("want a dictionary of tensors, got %T", v)
	}
	for i, k := range d.keys {
		t, isTensor := d.values[i].(*view)
		if !isTensor {
			continue
		}
		name, ok := k.(string)
		if !ok || !utf8.ValidString(name) {
			return fmt.Errorf("a tensor's name is %s, which is no text", brief(k))
		}
		if f.tensors[name] == nil {
			f.names = append(f.names, name)
		}
		f.tensors[name] = t
	}
	if len(f.names) > 0 {
		return nil
	}
	for _, w := range wrappers {
		for i, k := range d.keys {
			if inner, ok := d.values[i].(*dict); ok && k == w && inner != d {
				d.keys, d.values = nil, nil // no way back into it
				return f.collect(inner)
			}
		}
	}
	return fmt.Errorf("holds no tensors")
}

// Path is where the file was opened.
func (f *File) Path() string { return f.path }

// Names lists the tensors in the order of the file.
func (f *File) Names() []string { return f.names }

// Describe returns a tensor's type and shape.
func (f *File) Describe(name string) (dtype.DType, []int, error) {
	v := f.tensors[name]
	if v == nil {
		return dtype.Invalid, nil, fmt.Errorf("pickle: %s: tensor %q: is missing", filepath.Base(f.path), name)
	}
	return v.dtype, v.shape, nil
}

// Tensor returns a tensor, without copying where its values lie behind each other.
func (f *File) Tensor(name string) (*tensor.Tensor, error) {
	v := f.tensors[name]
	if v == nil {
		return nil, fmt.Errorf("pickle: %s: tensor %q: is missing", filepath.Base(f.path), name)
	}
	t, err := v.tensor()
	if err != nil {
		return nil, fmt.Errorf("pickle: %s: tensor %q: %w", filepath.Base(f.path), name, err)
	}
	return t, nil
}

// Guard runs read and turns a fault of the mapped file into an error.
func (f *File) Guard(read func() error) error { return f.mapped.Guard(read) }

// Close unmaps the file.
func (f *File) Close() error { return f.mapped.Close() }
