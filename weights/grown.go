package weights

import (
	"bytes"
	"fmt"
	"slices"

	"danlu/dtype"
	"danlu/format/safetensors"
	"danlu/tensor"
)

// Grown reads a checkpoint as one whose matrices of the vocabulary, which names lists, have more rows. They keep their
// type, but for block types, which become float32.
func Grown(src Source, names []string, size Resize) (Source, error) {
	if size.Old < 1 || size.New < size.Old {
		return nil, fmt.Errorf("weights: grow: rows: want at least %d, got %d", size.Old, size.New)
	}
	return &grown{src, names, size}, nil
}

type grown struct {
	Source
	names []string
	size  Resize
}

// Describe implements Source.
func (g *grown) Describe(name string) (dtype.DType, []int, error) {
	d, shape, err := g.Source.Describe(name)
	if err != nil || !slices.Contains(g.names, name) || len(shape) != 2 {
		return d, shape, err
	}
	return unpacked(d), []int{g.size.New, shape[1]}, nil
}

// unpacked is a type whose rows can be written one by one.
func unpacked(d dtype.DType) dtype.DType {
	if d == dtype.BF16 || d == dtype.F16 {
		return d
	}
	return dtype.F32
}

// Tensor implements Source.
func (g *grown) Tensor(name string) (*tensor.Tensor, error) {
	t, err := g.Source.Tensor(name)
	if err != nil || !slices.Contains(g.names, name) || len(t.Shape) != 2 {
		return t, err
	}
	if t.Shape[0] != g.size.Old {
		return nil, fmt.Errorf("weights: %s: tensor %q: want %d rows, got %d", g.Path(), name, g.size.Old, t.Shape[0])
	}
	out := safetensors.Info{Name: name, DType: unpacked(t.DType), Shape: []int{g.size.New, t.Shape[1]}}
	var b bytes.Buffer
	b.Grow(int(out.Bytes()))
	if err := guarded(g.Source, func() error { return writeResized(&b, t, out, g.size) }); err != nil {
		return nil, fmt.Errorf("weights: %s: tensor %q: %w", g.Path(), name, err)
	}
	return &tensor.Tensor{DType: out.DType, Shape: out.Shape, Data: b.Bytes()}, nil
}

// Guard implements Guarded.
func (g *grown) Guard(read func() error) error { return guarded(g.Source, read) }
