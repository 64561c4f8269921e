// Package safetensors reads and writes the safetensors format: eight bytes of header length, a JSON header, and the
// tensors' bytes. See https://github.com/huggingface/safetensors, "Format".
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sort"
	"unicode/utf8"

	"danlu/dtype"
	"danlu/internal/mmap"
	"danlu/tensor"
)

// maxHeader is the original implementation's limit.
const maxHeader = 100_000_000

var dtypes = map[string]dtype.DType{
	"F64": dtype.F64, "F32": dtype.F32, "F16": dtype.F16, "BF16": dtype.BF16, "F8_E4M3": dtype.F8E4M3, "F8_E5M2": dtype.F8E5M2,
	"I64": dtype.I64, "I32": dtype.I32, "I16": dtype.I16, "I8": dtype.I8, "U64": dtype.U64, "U32": dtype.U32, "U16": dtype.U16, "U8": dtype.U8, "BOOL": dtype.Bool,
}

// File is an open file. Its tensors alias the mapping and hold until Close.
type File struct {
	path     string
	mapped   *mmap.File
	names    []string
	tensors  map[string]*tensor.Tensor
	metadata map[string]string
}

// entry is a tensor's description in the header.
type entry struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets []uint64 `json:"data_offsets"`
}

// Open maps a file and checks its header: types, shapes, and that the tensors fill the file without gap or overlap.
func Open(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	f := &File{path: path, mapped: m}
	if err := m.Guard(func() error { return f.parse(m.Data) }); err != nil {
		m.Close()
		return nil, fmt.Errorf("safetensors: %s: %w", filepath.Base(path), err)
	}
	return f, nil
}

// Parse reads a file in memory.
func Parse(data []byte) (*File, error) {
	f := &File{path: "memory", mapped: &mmap.File{}}
	if err := f.parse(data); err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	return f, nil
}

func (f *File) parse(data []byte) error {
	if len(data) < 8 {
		return fmt.Errorf("header: want at least 8 bytes, the file has %d", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader || n > uint64(len(data)-8) {
		return fmt.Errorf("header: its length %d exceeds the file of %d bytes or the limit of %d", n, len(data), maxHeader)
	}
	header, body := data[8:8+n], data[8+n:]
	names, entries, err := parseHeader(header)
	if err != nil {
		return err
	}
	f.metadata, f.tensors = map[string]string{}, make(map[string]*tensor.Tensor, len(names))
	var spans []span
	for _, name := range names {
		if name == "__metadata__" {
			if err := json.Unmarshal(entries[name], &f.metadata); err != nil {
				return fmt.Errorf("__metadata__: want texts by name: %w", err)
			}
			continue
		}
		t, from, err := decodeEntry(entries[name], body)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		f.tensors[name] = t
		f.names = append(f.names, name)
		spans = append(spans, span{name, from, from + uint64(len(t.Data))})
	}
	return checkCover(spans, len(body))
}

// parseHeader decodes the top level in order and refuses names given twice.
func parseHeader(header []byte) ([]string, map[string]json.RawMessage, error) {
	if !utf8.Valid(header) {
		return nil, nil, fmt.Errorf("header: is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(header))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, nil, fmt.Errorf("header: want a JSON object")
	}
	var names []string
	entries := map[string]json.RawMessage{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, nil, fmt.Errorf("header: %w", err)
		}
		name, ok := tok.(string)
		if !ok {
			return nil, nil, fmt.Errorf("header: want a name, got %v", tok)
		}
		if _, ok := entries[name]; ok {
			return nil, nil, fmt.Errorf("tensor %q: is described twice", name)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		names, entries[name] = append(names, name), raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	if rest := bytes.TrimSpace(header[dec.InputOffset():]); len(rest) > 0 {
		return nil, nil, fmt.Errorf("header: %d bytes follow the JSON object", len(rest))
	}
	return names, entries, nil
}

// decodeEntry reads a tensor's description: the tensor, a view of body, and where in body it starts.
func decodeEntry(raw json.RawMessage, body []byte) (*tensor.Tensor, uint64, error) {
	var e entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, 0, err
	}
	d, ok := dtypes[e.DType]
	if !ok {
		return nil, 0, fmt.Errorf("dtype: %q is not supported", e.DType)
	}
	if e.Shape == nil {
		return nil, 0, fmt.Errorf("shape: is missing")
	}
	if len(e.Offsets) != 2 || e.Offsets[0] > e.Offsets[1] || e.Offsets[1] > uint64(len(body)) {
		return nil, 0, fmt.Errorf("data_offsets: %v do not lie within the %d bytes of data", e.Offsets, len(body))
	}
	n, err := tensor.CheckedLen(e.Shape)
	if err != nil {
		return nil, 0, err
	}
	if got := e.Offsets[1] - e.Offsets[0]; got != uint64(d.Bytes(n)) {
		return nil, 0, fmt.Errorf("shape %v of %s: want %d bytes, got %d", e.Shape, e.DType, d.Bytes(n), got)
	}
	return &tensor.Tensor{DType: d, Shape: e.Shape, Data: body[e.Offsets[0]:e.Offsets[1]:e.Offsets[1]]}, e.Offsets[0], nil
}

// span is the part of the data that a tensor takes.
type span struct {
	name     string
	from, to uint64
}

// checkCover makes sure that the tensors lie behind each other and fill the data.
func checkCover(spans []span, size int) error {
	sort.Slice(spans, func(i, j int) bool {
		return spans[i].from < spans[j].from || spans[i].from == spans[j].from && spans[i].to < spans[j].to
	})
	at := uint64(0)
	for _, s := range spans {
		if s.from != at {
			return fmt.Errorf("tensor %q: data_offsets: want a start at %d, got %d (a gap or an overlap)", s.name, at, s.from)
		}
		at = s.to
	}
	if at != uint64(size) {
		return fmt.Errorf("data: %d bytes belong to no tensor", uint64(size)-at)
	}
	return nil
}

// Path is where the file was opened.
func (f *File) Path() string { return f.path }

// Names lists the tensors in the order of the header.
func (f *File) Names() []string { return f.names }

// Metadata is the header's __metadata__.
func (f *File) Metadata() map[string]string { return f.metadata }

// Describe returns a tensor's type and shape.
func (f *File) Describe(name string) (dtype.DType, []int, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return dtype.Invalid, nil, err
	}
	return t.DType, t.Shape, nil
}

// Tensor returns a tensor without copying it.
func (f *File) Tensor(name string) (*tensor.Tensor, error) {
	t, ok := f.tensors[name]
	if !ok {
		return nil, fmt.Errorf("safetensors: %s: tensor %q: is missing", filepath.Base(f.path), name)
	}
	return t, nil
}

// Guard runs read and turns a fault of the mapped file into an error.
func (f *File) Guard(read func() error) error { return f.mapped.Guard(read) }

// Close unmaps the file.
func (f *File) Close() error { return f.mapped.Close() }
