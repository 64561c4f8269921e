package weights

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"danlu/dtype"
	"danlu/quant"
	"danlu/tensor"
)

// quantization is quantization_config of a config.json.
type quantization struct {
	Method    string `json:"quant_method"`
	Bits      int    `json:"bits"`
	Group     int    `json:"group_size"`
	Format    string `json:"checkpoint_format"` // GPTQ: "gptq" stores zero points less one, "gptq_v2" as they are
	Version   string `json:"version"`           // AWQ: "gemm" is the layout read here
	ZeroPoint *bool  `json:"zero_point"`
	Tile      []int  `json:"weight_block_size"` // FP8: rows and columns that share a factor
	Activate  string `json:"activation_scheme"`
}

// Dequantized reads a checkpoint whose config.json says how its matrices were quantized as one of float32 matrices under
// their plain names: FP8 with weight_scale_inv (DeepSeek-V3), GPTQ and AWQ. Other checkpoints stay as they are.
func Dequantized(src Source, config []byte) (Source, error) {
	var c struct {
		Quantization *quantization `json:"quantization_config"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("weights: %s: quantization_config: %w", filepath.Join(src.Path(), "config.json"), err)
	}
	if c.Quantization == nil {
		return src, nil
	}
	d := &dequantized{Source: src, how: *c.Quantization, packed: map[string]bool{}}
	if err := d.open(); err != nil {
		return nil, fmt.Errorf("weights: %s: quantization_config: %w", filepath.Join(src.Path(), "config.json"), err)
	}
	return d, nil
}

// dequantized is a source whose packed matrices are expanded.
type dequantized struct {
	Source
	how    quantization
	names  []string
	packed map[string]bool // the plain names of packed matrices
}

const scaleInv = "_scale_inv"

func (d *dequantized) open() error {
	h := &d.how
	var parts []string // endings of the tensors that a packed matrix is made of
	switch h.Method {
	case "fp8":
		if h.Tile == nil {
			h.Tile = []int{128, 128}
		}
		if len(h.Tile) != 2 || h.Tile[0] != h.Tile[1] || h.Tile[0] < 1 {
			return fmt.Errorf("weight_block_size: want two equal numbers, got %v", h.Tile)
		}
		parts = []string{".weight" + scaleInv}
	case "gptq", "awq":
		if h.Bits != 4 && !(h.Bits == 8 && h.Method == "gptq") {
			return fmt.Errorf("bits: want 4, or 8 for gptq, got %d", h.Bits)
		}
		if h.Method == "awq" && h.Version != "" && h.Version != "gemm" && h.Version != "GEMM" {
			return fmt.Errorf("version: want gemm, got %q", h.Version)
		}
		if h.Group == 0 || h.Group < -1 {
			return fmt.Errorf("group_size: want -1 or more than 0, got %d", h.Group)
		}
		parts = []string{".qweight", ".qzeros", ".scales", ".g_idx"}
	default:
		return fmt.Errorf("quant_method: want fp8, gptq or awq, got %q", h.Method)
	}
	for _, n := range d.Source.Names() {
		base, part := n, ""
		for _, p := range parts {
			if b, ok := strings.CutSuffix(n, p); ok {
				base, part = b, p
			}
		}
		switch {
		case part == parts[0]:
			d.packed[base+".weight"] = true
			if h.Method != "fp8" {
				d.names = append(d.names, base+".weight")
			}
		case part == "":
			d.names = append(d.names, n)
		}
	}
	for name := range d.packed {
		if _, _, err := d.Describe(name); err != nil {
			return err
		}
	}
	return nil
}

// Stored is the checkpoint as its files have it, without what Dequantized makes of it.
func Stored(src Source) Source {
	if d, ok := src.(*dequantized); ok {
		return d.Source
	}
	return src
}

// Names implements Source.
func (d *dequantized) Names() []string { return d.names }

// Guard implements Guarded.
func (d *dequantized) Guard(read func() error) error { return guarded(d.Source, read) }

// Describe implements Source.
func (d *dequantized) Describe(name string) (dtype.DType, []int, error) {
	if !d.packed[name] {
		return d.Source.Describe(name)
	}
	base := strings.TrimSuffix(name, ".weight")
	if d.how.Method == "fp8" {
		t, shape, err := d.Source.Describe(name)
		if err == nil && (t != dtype.F8E4M3 || len(shape) != 2) {
			err = fmt.Errorf("tensor %q: want an fp8 matrix, got %v%v", name, t, shape)
		}
		if err == nil {
			tile := d.how.Tile[0]
			err = d.expect(name+scaleInv, dtype.F32, []int{(shape[0] + tile - 1) / tile, (shape[1] + tile - 1) / tile})
		}
		return dtype.F32, shape, err
	}
	t, packed, err := d.Source.Describe(base + ".qweight")
	if err != nil {
		return dtype.Invalid, nil, err
	}
	if t != dtype.I32 || len(packed) != 2 || packed[0] > 1<<28 || packed[1] > 1<<28 {
		return dtype.Invalid, nil, fmt.Errorf("tensor %q: want a matrix of i32, got %v%v", base+".qweight", t, packed)
	}
	per := 32 / d.how.Bits
	in, out := packed[0]*per, packed[1]
	if d.how.Method == "awq" {
		in, out = packed[0], packed[1]*per
	}
	group := d.group(in)
	if in%group != 0 || out%per != 0 {
		return dtype.Invalid, nil, fmt.Errorf("tensor %q: [%d %d] does not split into groups of %d", name, out, in, group)
	}
	if err := d.expect(base+".qzeros", dtype.I32, []int{in / group, out / per}); err != nil {
		return dtype.Invalid, nil, err
	}
	return dtype.F32, []int{out, in}, d.expect(base+".scales", dtype.Invalid, []int{in / group, out})
}

// expect checks a part's type (Invalid: any real one) and shape.
func (d *dequantized) expect(name string, want dtype.DType, shape []int) error {
	t, got, err := d.Source.Describe(name)
	if err != nil {
		return err
	}
	if want == dtype.Invalid && !t.IsFloat() || want != dtype.Invalid && t != want || !slices.Equal(got, shape) {
		return fmt.Errorf("tensor %q: want shape %v, got %v%v", name, shape, t, got)
	}
	return nil
}

// group is the number of inputs that share a factor.
func (d *dequantized) group(in int) int {
	if d.how.Group < 0 {
		return max(1, in)
	}
	return d.how.Group
}

// Tensor implements Source.
func (d *dequantized) Tensor(name string) (*tensor.Tensor, error) {
	if !d.packed[name] {
		return d.Source.Tensor(name)
	}
	_, shape, err := d.Describe(name)
	if err != nil {
		return nil, err
	}
	out := tensor.New(dtype.F32, shape...)
	if d.how.Method == "fp8" {
		codes, err := d.Source.Tensor(name)
		if err != nil {
			return nil, err
		}
		scales, err := d.Source.Tensor(name + scaleInv)
		if err != nil {
			return nil, err
		}
		return out, quant.DequantizeFP8Tiles(out.F32(), codes.Data, scales.F32(), shape[0], shape[1], d.how.Tile[0])
	}
	return out, d.unpack(strings.TrimSuffix(name, ".weight"), out.F32(), shape[1], shape[0])
}

// unpack fills the matrix [out, in] of a packed one: scale · (code - zero), with scale and zero of the input's group.
func (d *dequantized) unpack(base string, dst []float32, in, out int) error {
	read := func(part string) (*tensor.Tensor, error) { return d.Source.Tensor(base + part) }
	codes, err := read(".qweight")
	if err != nil {
		return err
	}
	zeros, err := read(".qzeros")
	if err != nil {
		return err
	}
	scales, err := read(".scales")
	if err == nil {
		scales, err = plainIfNot(scales, dtype.F32)
	}
	if err != nil {
		return err
	}
	groups, err := d.groups(base, in, out)
	if err != nil {
		return err
	}
	bits, per := d.how.Bits, 32/d.how.Bits
	mask := int32(1)<<bits - 1
	q, z, s := codes.I32(), zeros.I32(), scales.F32()
	// place is where in a word of eight codes along the outputs code k lies: AWQ interleaves them for its kernel.
	place := func(k int) int { return k }
	shift := int32(1) // GPTQ's first format stores zero points less one
	if d.how.Method == "awq" {
		place = func(k int) int { return k%2*4 + k/2 }
	}
	if d.how.Method == "awq" || d.how.Format == "gptq_v2" {
		shift = 0
	}
	return parallelRows(d.Source, out, func(first, last int) error {
		for o := first; o < last; o++ {
			row := dst[o*in : (o+1)*in]
			at := bits * place(o%per)
			for i := range row {
				var code int32
				if d.how.Method == "awq" {
					code = q[i*(out/per)+o/per] >> at & mask
				} else {
					code = q[i/per*out+o] >> (bits * (i % per)) & mask
				}
				g := groups[i]
				zero := z[g*(out/per)+o/per]>>at&mask + shift
				row[i] = s[g*out+o] * float32(code-zero)
			}
		}
		return nil
	})
}

// groups is the group of each input: consecutive ones, or GPTQ's g_idx where inputs were quantized in another order.
func (d *dequantized) groups(base string, in, out int) ([]int, error) {
	group := d.group(in)
	groups := make([]int, in)
	for i := range groups {
		groups[i] = i / group
	}
	if !slices.Contains(d.Source.Names(), base+".g_idx") {
		return groups, nil
	}
	if err := d.expect(base+".g_idx", dtype.I32, []int{in}); err != nil {
		return nil, err
	}
	t, err := d.Source.Tensor(base + ".g_idx")
	if err != nil {
		return nil, err
	}
	for i, g := range t.I32() {
		if g < 0 || int(g) >= in/group {
			return nil, fmt.Errorf("tensor %q: element %d: want a group below %d, got %d", base+".g_idx", i, in/group, g)
		}
		groups[i] = int(g)
	}
	return groups, nil
}
