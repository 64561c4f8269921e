package recipe

import (
	"errors"
	"path/filepath"

	"danlu/adapter"
	"danlu/dtype"
	"danlu/family"
	"danlu/kernel"
	"danlu/nn"
	"danlu/quant"
	"danlu/tensor"
	"danlu/weights"
)

// ExportOptions say how a model is exported, besides what the recipe holds.
type ExportOptions struct {
	DType    dtype.DType // of the weights; Invalid: as the base model has them
	Progress func(done, total int64)
}

// Merge writes the recipe's model with its adapters added, in float32 sums, as a model folder or, where export_dir ends
// in .gguf, as a GGUF file. With quantization_bit the adapters are added to what the codes of the base stand for.
func Merge(r *Recipe, o ExportOptions) (*family.Conversion, error) {
	if n := len(r.Model.Adapters); r.Model.QuantizationBit != nil && n > 1 {
		return nil, r.Errorf("adapter_name_or_path", "only one adapter goes with quantization_bit, got %d", n)
	}
	var files []*adapter.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	opts := family.ConvertOptions{DType: o.DType, Progress: o.Progress}
	if filepath.Ext(r.Export.Dir) != ".gguf" || r.IsSet("export_size") {
		opts.ShardBytes = int64(r.Export.Size) * 1e9
	}
	opts.Change = func(c *family.Checkpoint) (weights.Source, error) {
		src := c.Weights
		if r.Model.QuantizationBit != nil {
			modules, err := family.Modules(c.Model)
			if err != nil {
				return nil, err
			}
			src = &coded{Source: src, as: r.codes(modules)}
		}
		for _, dir := range r.Model.Adapters {
			dir = filepath.Join(r.Model.AdapterFolder, dir)
			var err error
			if src, err = GrownFor(c, src, dir); err != nil {
				return nil, r.Errorf("adapter_name_or_path", "%v", err)
			}
			f, err := adapter.Open(dir, c.Model)
			if err == nil {
				files = append(files, f)
				src, err = f.Merge(src)
			}
			if err != nil {
				return nil, r.Errorf("adapter_name_or_path", "%v", err)
			}
		}
		return &asBefore{src, c.Weights}, nil
	}
	return family.Convert(r.Model.Path, r.Export.Dir, opts)
}

// quantized is the type in which quantization_bit keeps a matrix; ok is false when it leaves it alone.
func (r *Recipe) quantized(m *nn.Module) (d dtype.DType, ok bool) {
	bits := r.Model.QuantizationBit
	switch {
	case bits == nil || m.Kind != nn.LinearModule && m.Kind != nn.ExpertModule:
		return dtype.Invalid, false
	case *bits == 4 && r.Model.DoubleQuant:
		return dtype.NF4Double, true
	case *bits == 4:
		return dtype.NF4, true
	}
	return dtype.Q8_0, m.In%dtype.Q8_0.BlockLen() == 0
}

// codes are the types of the matrices that quantization_bit quantizes, by name.
func (r *Recipe) codes(modules []nn.Module) map[string]dtype.DType {
	as := map[string]dtype.DType{}
	for _, m := range modules {
		if d, ok := r.quantized(&m); ok {
			for i := range m.Weight.Parts() {
				as[m.Weight.PartName(i)] = d
			}
		}
	}
	return as
}

// coded is a checkpoint whose matrices are read as their codes stand for.
type coded struct {
	weights.Source
	as map[string]dtype.DType
}

// Describe implements weights.Source.
func (c *coded) Describe(name string) (dtype.DType, []int, error) {
	d, shape, err := c.Source.Describe(name)
	if _, ok := c.as[name]; ok {
		d = dtype.F32
	}
	return d, shape, err
}

// Tensor implements weights.Source.
func (c *coded) Tensor(name string) (*tensor.Tensor, error) {
	t, err := c.Source.Tensor(name)
	d, ok := c.as[name]
	if err != nil || !ok {
		return t, err
	}
	plain := tensor.New(dtype.F32, t.Shape...)
	err = c.Guard(func() error { return quant.Dequantize(t.DType, plain.F32(), t.Data) })
	if err != nil {
		return nil, err
	}
	if kernel.IsCoded(d) {
		codes := make([]byte, kernel.CodedBytes(d, plain.Len()))
		err = kernel.Encode(d, codes, plain.F32())
		kernel.Decode(d, plain.F32(), codes, 0)
	} else {
		blocks := make([]byte, d.Bytes(plain.Len()))
		err = errors.Join(quant.Quantize(d, blocks, plain.F32()), quant.Dequantize(d, plain.F32(), blocks))
	}
	return plain, err
}

// Guard implements weights.Guarded.
func (c *coded) Guard(read func() error) error {
	if g, ok := c.Source.(weights.Guarded); ok {
		return g.Guard(read)
	}
	return read()
}

// asBefore describes the sums of a changed checkpoint in the types that their tensors had, so that they are written so;
// tensors of block types are written in float32.
type asBefore struct {
	weights.Source
	before weights.Source
}

// Describe implements weights.Source.
func (a *asBefore) Describe(name string) (dtype.DType, []int, error) {
	d, shape, err := a.Source.Describe(name)
	if err != nil || d != dtype.F32 {
		return d, shape, err
	}
	if was, _, err := a.before.Describe(name); err == nil && (was == dtype.BF16 || was == dtype.F16) {
		return was, shape, nil
	}
	return d, shape, nil
}

// Guard implements weights.Guarded.
func (a *asBefore) Guard(read func() error) error {
	if g, ok := a.Source.(weights.Guarded); ok {
		return g.Guard(read)
	}
	return read()
}
