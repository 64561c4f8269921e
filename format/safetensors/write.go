package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"danlu/dtype"
	"danlu/internal/atomicfile"
	"danlu/tensor"
)

// Info describes a tensor to be written.
type Info struct {
	Name  string
	DType dtype.DType
	Shape []int
}

// Bytes is the tensor's size.
func (i Info) Bytes() int64 { return int64(i.DType.Bytes(tensor.Len(i.Shape))) }

// alignment of the data, so that mapped tensors can be read in place.
const alignment = 8

// Write writes tensors to path, beside it first and then renamed over it. get returns each tensor's value when its turn
// comes, so that one at a time is held.
func Write(path string, tensors []Info, metadata map[string]string, get func(Info) (*tensor.Tensor, error)) error {
	return Stream(path, tensors, metadata, func(info Info, w io.Writer) error {
		t, err := get(info)
		if err != nil {
			return err
		}
		if t.DType != info.DType {
			return fmt.Errorf("want %v%v, got %v", info.DType, info.Shape, t)
		}
		_, err = w.Write(t.Data)
		return err
	})
}

// Stream is Write for tensors that are made piece by piece: emit writes a tensor's bytes when its turn comes.
func Stream(path string, tensors []Info, metadata map[string]string, emit func(Info, io.Writer) error) error {
	err := atomicfile.Write(path, func(w io.Writer) error {
		header, err := encodeHeader(tensors, metadata)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)); err != nil {
			return err
		}
		for _, info := range tensors {
			c := &atomicfile.Counter{W: w}
			if err := emit(info, c); err != nil {
				return fmt.Errorf("tensor %q: %w", info.Name, err)
			}
			if c.N != info.Bytes() {
				return fmt.Errorf("tensor %q: want %v%v of %d bytes, got %d", info.Name, info.DType, info.Shape, info.Bytes(), c.N)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("safetensors: %s: %w", filepath.Base(path), err)
	}
	return nil
}

// encodeHeader writes the entries in order, padded with spaces to the alignment.
func encodeHeader(tensors []Info, metadata map[string]string) ([]byte, error) {
	names := map[dtype.DType]string{}
	for n, d := range dtypes {
		names[d] = n
	}
	out := []byte{'{'}
	field := func(name string, v any) error {
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		value, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, key...), ':'), value...)
		return nil
	}
	if len(metadata) > 0 {
		if err := field("__metadata__", metadata); err != nil {
			return nil, err
		}
	}
	at := uint64(0)
	for _, t := range tensors {
		name, ok := names[t.DType]
		if !ok {
			return nil, fmt.Errorf("tensor %q: %v cannot be stored", t.Name, t.DType)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		end := at + uint64(t.Bytes())
		if err := field(t.Name, entry{name, shape, []uint64{at, end}}); err != nil {
			return nil, err
		}
		at = end
	}
	out = append(out, '}')
	for len(out)%alignment != 0 {
		out = append(out, ' ')
	}
	return out, nil
}
