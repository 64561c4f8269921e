package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"danlu/dtype"
	"danlu/internal/atomicfile"
	"danlu/tensor"
)

// KV is one metadata entry. Values are of the types that reading gives: numbers of a fixed size, bool, string, and slices
// of them.
type KV struct {
	Key   string
	Value any
}

// Info describes a tensor to be written; the shape is row-major.
type Info struct {
	Name  string
	DType dtype.DType
	Shape []int
}

// Bytes is the tensor's size.
func (i Info) Bytes() int64 { return int64(i.DType.Bytes(tensor.Len(i.Shape))) }

// alignment of every tensor's data, the format's default.
const alignment = 32

// Write writes a file of version 3, beside path first and then renamed over it. emit writes a tensor's bytes when its
// turn comes.
func Write(path string, metadata []KV, tensors []Info, emit func(i Info, w io.Writer) error) error {
	err := atomicfile.Write(path, func(w io.Writer) error {
		header, err := encodeHeader(metadata, tensors)
		if err != nil {
			return err
		}
		if _, err := w.Write(header); err != nil {
			return err
		}
		for _, t := range tensors {
			c := &atomicfile.Counter{W: w}
			if err := emit(t, c); err != nil {
				return fmt.Errorf("tensor %q: %w", t.Name, err)
			}
			if c.N != t.Bytes() {
				return fmt.Errorf("tensor %q: want %d bytes, got %d", t.Name, t.Bytes(), c.N)
			}
			if _, err := w.Write(make([]byte, padding(c.N))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("gguf: %s: %w", filepath.Base(path), err)
	}
	return nil
}

// SplitName is the name of part i of n of a split file.
func SplitName(base string, i, n int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", base, i+1, n)
}

// The metadata keys of split files.
const (
	splitNo      = "split.no"
	splitCount   = "split.count"
	splitTensors = "split.tensors.count"
)

// WriteSplit writes base-00001-of-0000N.gguf and so on, each with at most size bytes of tensors unless one alone is
// larger, or base.gguf when one file suffices; it returns the paths. The first part holds the metadata.
func WriteSplit(base string, size int64, metadata []KV, tensors []Info, emit func(i Info, w io.Writer) error) ([]string, error) {
	var parts [][]Info
	room := int64(0)
	for _, t := range tensors {
		if room -= t.Bytes(); room < 0 || len(parts) == 0 {
			parts, room = append(parts, nil), size-t.Bytes()
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], t)
	}
	if len(parts) < 2 {
		path := base + ".gguf"
		return []string{path}, Write(path, metadata, tensors, emit)
	}
	var paths []string
	for i, part := range parts {
		kv := []KV{{splitNo, uint16(i)}, {splitCount, uint16(len(parts))}, {splitTensors, int32(len(tensors))}}
		if i == 0 {
			kv = append(metadata[:len(metadata):len(metadata)], kv...)
		}
		paths = append(paths, SplitName(base, i, len(parts)))
		if err := Write(paths[i], kv, part, emit); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

func padding(n int64) int64 { return -n & (alignment - 1) }

func encodeHeader(metadata []KV, tensors []Info) ([]byte, error) {
	codes := map[dtype.DType]uint32{}
	for code, d := range types {
		codes[d] = code
	}
	le := binary.LittleEndian
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(le.AppendUint64(b, uint64(len(tensors))), uint64(len(metadata)))
	for _, kv := range metadata {
		code, value, err := encodeValue(kv.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
		b = append(le.AppendUint32(appendText(b, kv.Key), code), value...)
	}
	offset := uint64(0)
	for _, t := range tensors {
		code, ok := codes[t.DType]
		if !ok {
			return nil, fmt.Errorf("tensor %q: %v cannot be stored", t.Name, t.DType)
		}
		if len(t.Shape) > maxDims || len(t.Shape) == 0 || t.Shape[len(t.Shape)-1]%t.DType.BlockLen() != 0 {
			return nil, fmt.Errorf("tensor %q: shape %v cannot be stored as %v", t.Name, t.Shape, t.DType)
		}
		b = le.AppendUint32(appendText(b, t.Name), uint32(len(t.Shape)))
		for i := range t.Shape {
			b = le.AppendUint64(b, uint64(t.Shape[len(t.Shape)-1-i]))
		}
		b = le.AppendUint64(le.AppendUint32(b, code), offset)
		offset += uint64(t.Bytes() + padding(t.Bytes()))
	}
	return append(b, make([]byte, padding(int64(len(b))))...), nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// encodeValue is a metadata value's type code and bytes.
func encodeValue(v any) (uint32, []byte, error) {
	switch v := v.(type) {
	case []string:
		b := encodeCount(codeString, len(v))
		for _, s := range v {
			b = appendText(b, s)
		}
		return codeArray, b, nil
	case []int32:
		return encodeArray(v)
	case []uint32:
		return encodeArray(v)
	case []float32:
		return encodeArray(v)
	case []bool:
		return encodeArray(v)
	case []uint8:
		return encodeArray(v)
	case []int8:
		return encodeArray(v)
	case []uint16:
		return encodeArray(v)
	case []int16:
		return encodeArray(v)
	case []uint64:
		return encodeArray(v)
	case []int64:
		return encodeArray(v)
	case []float64:
		return encodeArray(v)
	}
	return encodeScalar(v)
}

func encodeCount(code uint32, n int) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, code), uint64(n))
}

func encodeArray[T any](list []T) (uint32, []byte, error) {
	var zero T
	code, _, err := encodeScalar(zero)
	if err != nil {
		return 0, nil, err
	}
	b := encodeCount(code, len(list))
	for _, x := range list {
		_, value, err := encodeScalar(x)
		if err != nil {
			return 0, nil, err
		}
		b = append(b, value...)
	}
	return codeArray, b, nil
}

func encodeScalar(v any) (uint32, []byte, error) {
	le := binary.LittleEndian
	switch v := v.(type) {
	case uint8:
		return 0, []byte{v}, nil
	case int8:
		return 1, []byte{byte(v)}, nil
	case uint16:
		return 2, le.AppendUint16(nil, v), nil
	case int16:
		return 3, le.AppendUint16(nil, uint16(v)), nil
	case uint32:
		return 4, le.AppendUint32(nil, v), nil
	case int32:
		return 5, le.AppendUint32(nil, uint32(v)), nil
	case float32:
		return 6, le.AppendUint32(nil, math.Float32bits(v)), nil
	case bool:
		if v {
			return 7, []byte{1}, nil
		}
		return 7, []byte{0}, nil
	case string:
		return codeString, appendText(nil, v), nil
	case uint64:
		return 10, le.AppendUint64(nil, v), nil
	case int64:
		return 11, le.AppendUint64(nil, uint64(v)), nil
	case float64:
		return 12, le.AppendUint64(nil, math.Float64bits(v)), nil
	}
	return 0, nil, fmt.Errorf("a %T cannot be stored", v)
}
