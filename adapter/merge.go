package adapter

import (
	"fmt"
	"math"

	"danlu/dtype"
	"danlu/kernel"
	"danlu/nn"
	"danlu/quant"
	"danlu/tensor"
	"danlu/weights"
)

// merged is a checkpoint to whose weights an adapter has been added.
type merged struct {
	weights.Source
	file *File
}

// Merge returns src with the adapter added to its weights: those that it changes are read as float32 sums. Closing the
// result closes both.
func (f *File) Merge(src weights.Source) (weights.Source, error) {
	have := map[string]bool{}
	for _, n := range src.Names() {
		have[n] = true
	}
	for name := range f.Set.of {
		if !have[name] {
			return nil, fmt.Errorf("adapter: %s: %s has no tensor %q to add it to", f.file.Path(), src.Path(), name)
		}
	}
	return &merged{src, f}, nil
}

// Close implements weights.Source.
func (m *merged) Close() error {
	err := m.file.Close()
	if e := m.Source.Close(); err == nil {
		err = e
	}
	return err
}

// Guard implements weights.Guarded.
func (m *merged) Guard(read func() error) error {
	if g, ok := m.Source.(weights.Guarded); ok {
		return g.Guard(read)
	}
	return read()
}

// Describe implements weights.Source.
func (m *merged) Describe(name string) (dtype.DType, []int, error) {
	d, shape, err := m.Source.Describe(name)
	if _, changed := m.file.Set.of[name]; changed && err == nil {
		return dtype.F32, shape, nil
	}
	if r := m.file.replaced(name); r != "" && err == nil {
		t, err := m.file.file.Tensor(r)
		if err != nil {
			return d, shape, err
		}
		return t.DType, t.Shape, nil
	}
	return d, shape, err
}

// Tensor implements weights.Source.
func (m *merged) Tensor(name string) (*tensor.Tensor, error) {
	f := m.file
	if r := f.replaced(name); r != "" {
		t, err := f.file.Tensor(r)
		if err != nil {
			return nil, err
		}
		if _, changed := f.Set.of[name]; !changed {
			return t, nil
		}
		return m.sum(name, t)
	}
	t, err := m.Source.Tensor(name)
	if err != nil {
		return nil, err
	}
	if _, changed := f.Set.of[name]; !changed {
		return t, nil
	}
	return m.sum(name, t)
}

// sum is a base weight plus its adapter, in float32.
func (m *merged) sum(name string, base *tensor.Tensor) (w *tensor.Tensor, err error) {
	p := m.file.Set.of[name]
	t := &m.file.Set.Targets[p.target]
	if base.Len() != t.In*t.Out || len(base.Shape) != 2 {
		return nil, fmt.Errorf("adapter: tensor %q: want shape [%d %d], got %v", name, t.Out, t.In, base.Shape)
	}
	w = tensor.New(dtype.F32, t.Out, t.In)
	if err := m.Guard(func() error { return quant.Dequantize(base.DType, w.F32(), base.Data) }); err != nil {
		return nil, fmt.Errorf("adapter: tensor %q: %w", name, err)
	}
	var values []*tensor.Tensor
	for _, x := range t.factors(p.part) {
		v, err := m.file.read(x)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return w, t.add(w.F32(), values, t.Scales[p.part])
}

// add adds scale·B·A to w, and with DoRA scales the rows to their lengths. values are A, B and the lengths in the
// store's shapes.
func (t *Target) add(w []float32, values []*tensor.Tensor, scale float64) error {
	low, up := values[0].F32(), values[1].F32()
	scaled := make([]float32, len(up))
	for i, x := range up {
		scaled[i] = float32(float64(x) * scale)
	}
	g := kernel.MatMul{M: t.Out, N: t.In, K: t.Rank, Accumulate: true}
	a, b := kernel.Matrix{F32: scaled, Row: t.Rank, Col: 1}, kernel.Matrix{F32: low, Row: t.In, Col: 1}
	if t.Kind == nn.EmbeddingModule { // A [R, V] and B [D, R] add Aᵀ·Bᵀ to the table [V, D]
		a, b = kernel.Matrix{F32: low, Row: 1, Col: t.Out}, kernel.Matrix{F32: scaled, Row: 1, Col: t.Rank}
	}
	g.RunAlone(a, b, kernel.Matrix{F32: w, Row: t.In, Col: 1}, make([]float32, kernel.ScratchMatMul(g.M, g.N, g.K, 1, false)))
	if !t.DoRA {
		return nil
	}
	for i, length := range values[2].F32() {
		row := w[i*t.In : (i+1)*t.In]
		f := float64(length) / norm(row)
		for k, x := range row {
			row[k] = float32(float64(x) * f)
		}
	}
	return nil
}

// norm is the Euclidean length of x.
func norm(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}
