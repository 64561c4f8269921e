package weights

import (
	"fmt"
	"strings"

	"danlu/dtype"
	"danlu/graph"
	"danlu/kernel"
	"danlu/nn"
	"danlu/quant"
	"danlu/tensor"
)

// Quants are the names of how weights can be kept, besides the block types' own.
const (
	QuantKeep = "keep" // as the checkpoint has them
	QuantNone = "none" // float32
)

// matrix reports whether a part is a matrix that is only multiplied with or looked up in, which can be kept in any type.
func matrix(name string, shape []int) bool {
	if len(shape) != 2 || !strings.HasSuffix(name, ".weight") {
		return false
	}
	for _, part := range []string{"norm", "mlp.gate.weight", "visual.", "vision", "kv_b_proj"} {
		if strings.Contains(name, part) {
			return false
		}
	}
	return true
}

// Storage plans how each weight among specs is kept: as the checkpoint has it ("keep"), in float32 ("none"), or in a
// type or mix by its name (ParseMix), or in nf4. Weights whose rows are no whole blocks take the nearest type whose blocks they
// fill; weights that are more than factors stay as they are in a 16-bit checkpoint and in float32 otherwise.
func Storage(src Source, specs []*graph.StateSpec, kind string, opts LoadOptions) (nn.Storage, error) {
	if kind == QuantNone {
		return nil, nil
	}
	parts, err := match(specs, src, opts)
	if err != nil {
		return nil, err
	}
	var mix Mix
	if kind != QuantKeep {
		if d, e := dtype.Parse(kind); e == nil && kernel.IsCoded(d) {
			mix.Base = d
		} else if mix, err = ParseMix(kind); err != nil {
			return nil, fmt.Errorf("%w, or keep, none or nf4", err)
		}
	}
	layers, tied := 0, true
	for _, p := range parts {
		layers = max(layers, layerOf(p.name)+1)
		tied = tied && !isOutput(p.name, false)
	}
	s := nn.Storage{}
	for _, p := range parts {
		d, shape, err := src.Describe(p.file)
		if err != nil {
			return nil, err
		}
		if !matrix(p.name, shape) {
			continue
		}
		if kind != QuantKeep {
			d = fitting(mix.of(isOutput(p.name, tied), sensitive(p.name), layerOf(p.name), layers), shape[1])
		}
		if d.IsQuantized() || d == dtype.F16 || d == dtype.BF16 {
			s[p.name] = d
		}
	}
	return s, nil
}

// fitting is d, or the type nearest to it whose blocks fill rows of n values.
func fitting(d dtype.DType, n int) dtype.DType {
	if n%d.BlockLen() == 0 || d.IgnoresRows() {
		return d
	}
	near := map[dtype.DType]dtype.DType{dtype.Q2_K: dtype.Q4_0, dtype.Q3_K: dtype.Q4_0, dtype.Q4_K: dtype.Q5_0, dtype.Q5_K: dtype.Q5_1, dtype.Q6_K: dtype.Q8_0}
	if e, ok := near[d]; ok && n%e.BlockLen() == 0 {
		return e
	}
	return dtype.F16
}

// stored is t in the type in which it is kept, converted by way of float32 when it is another.
func stored(want dtype.DType, t *tensor.Tensor) (*tensor.Tensor, error) {
	if plain := !t.DType.IsQuantized() && t.DType != dtype.F8E4M3 && t.DType != dtype.F8E5M2; t.DType == want || plain && want == dtype.F32 {
		return t, nil // stores convert plain numbers to float32
	}
	codes := want != dtype.F32 && quant.CanQuantize(want) && !kernel.IsCoded(want) // codes of other kinds are made where they are kept
	switch {
	case t.DType != dtype.F32 && !quant.CanDequantize(t.DType):
		return t, nil
	case codes:
		return requantized(want, t)
	case t.DType == dtype.F32:
		return t, nil
	}
	plain := tensor.New(dtype.F32, t.Shape...)
	return plain, quant.Dequantize(t.DType, plain.F32(), t.Data)
}

// requantized is t in blocks of another type. Between them only some rows at a time are held in float32.
func requantized(want dtype.DType, t *tensor.Tensor) (*tensor.Tensor, error) {
	out := tensor.New(want, t.Shape...)
	if t.DType == dtype.F32 {
		return out, quant.Quantize(want, out.Data, t.F32())
	}
	const rows = 256 // the blocks of every type end with them
	n := t.Len()
	step := rows * t.Shape[len(t.Shape)-1]
	some := make([]float32, min(step, n))
	for at := 0; at < n; at += step {
		part := some[:min(step, n-at)]
		if err := quant.Dequantize(t.DType, part, t.Data[t.DType.Bytes(at):][:t.DType.Bytes(len(part))]); err != nil {
			return nil, err
		}
		if err := quant.Quantize(want, out.Data[want.Bytes(at):][:want.Bytes(len(part))], part); err != nil {
			return nil, err
		}
	}
	return out, nil
}
