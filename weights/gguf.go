package weights

import (
	"fmt"
	"slices"
	"strings"

	"danlu/dtype"
	"danlu/format/gguf"
	"danlu/quant"
	"danlu/tensor"
)

// GGUF is a GGUF file read as a Hugging Face checkpoint: tensors have the names and row order of the published
// safetensors, and Config makes the config.json that the metadata stands for.
type GGUF struct {
	file   *gguf.File
	layout *layout
	names  []string
	parts  map[string][]place // by published name: the stored tensors that make it, in the order of the layout
	geometry
}

// ropeFactors is the tensor that holds the divisors of Llama 3's rotary frequencies.
const ropeFactors = "rope_freqs.weight"

// OpenGGUF opens a file of a known architecture.
func OpenGGUF(path string) (*GGUF, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	g := &GGUF{file: f, parts: map[string][]place{}}
	if err := f.Guard(g.open); err != nil {
		f.Close()
		return nil, fmt.Errorf("gguf: %s: %w", path, err)
	}
	return g, nil
}

func (g *GGUF) open() error {
	arch, err := g.file.Text("general.architecture")
	if err != nil {
		return err
	}
	_, fusedErr := g.file.Tensor("blk.0.attn_qkv.weight")
	for _, l := range layouts {
		if l.arch == arch && (g.layout == nil || l.fused == (fusedErr == nil)) {
			g.layout = l
		}
	}
	if g.layout == nil {
		return fmt.Errorf("general.architecture: %q is not supported", arch)
	}
	if err := g.readGeometry(); err != nil {
		return err
	}
	for _, name := range g.file.Names() {
		if name == ropeFactors {
			continue
		}
		if err := g.add(name); err != nil {
			return err
		}
	}
	sortPlaces(g.names, func(n string) place { return g.parts[n][0] })
	for name, parts := range g.parts {
		sortPlaces(parts, func(p place) place { return p })
		if want := len(g.layout.published(name)); len(parts) != want {
			return fmt.Errorf("tensor %q: only %d of the %d tensors that make it are there", name, len(parts), want)
		}
	}
	return nil
}

// add enters a stored tensor under the published names that it serves.
func (g *GGUF) add(name string) error {
	p, ok := g.layout.stored(name)
	if !ok {
		return fmt.Errorf("tensor %q: belongs to no part of a %s model", name, g.layout.arch)
	}
	t, err := g.file.Tensor(name)
	if err != nil {
		return err
	}
	count := 1
	if p.form == experts {
		if len(t.Shape) != 3 {
			return fmt.Errorf("tensor %q: want [experts, out, in], got shape %v", name, t.Shape)
		}
		count = t.Shape[0]
	}
	if err := g.checkForm(p, t.Shape); err != nil {
		return fmt.Errorf("tensor %q: %w", name, err)
	}
	for e := range count {
		p.expert = e
		hf := p.hfName(g.layout, e)
		if g.parts[hf] == nil {
			g.names = append(g.names, hf)
		}
		g.parts[hf] = append(g.parts[hf], p)
	}
	return nil
}

// readGeometry reads what the order of rows depends on.
func (g *GGUF) readGeometry() error {
	prefix := g.layout.arch + ".attention."
	g.headDim = 0
	for _, f := range []struct {
		key string
		to  *int
		or  *int
	}{{"head_count", &g.heads, nil}, {"head_count_kv", &g.kvHeads, &g.heads}} {
		if f.or != nil && !g.has(prefix+f.key) {
			*f.to = *f.or
			continue
		}
		n, err := g.file.Int(prefix + f.key)
		if err != nil {
			return err
		}
		if n < 1 || n > 1<<20 {
			return fmt.Errorf("%s%s: want at least 1, got %d", prefix, f.key, n)
		}
		*f.to = n
	}
	return nil
}

// checkForm makes sure that a stored tensor's rows can be put in the published order.
func (g *GGUF) checkForm(p place, shape []int) error {
	switch p.form {
	case ropeQ, packQ:
		return splits(shape, g.heads)
	case ropeK, packK:
		return splits(shape, g.kvHeads)
	case packV:
		if len(shape) == 0 {
			return fmt.Errorf("want rows, got a number")
		}
	case mlaK, mlaV:
		if len(shape) != 3 || shape[0] != g.heads {
			return fmt.Errorf("want three dimensions of which the first is %d, got %v", g.heads, shape)
		}
	}
	return nil
}

func splits(shape []int, heads int) error {
	if len(shape) == 0 || shape[0]%(2*heads) != 0 {
		return fmt.Errorf("shape %v does not split into the pairs of %d heads", shape, heads)
	}
	return nil
}

// Path implements Source.
func (g *GGUF) Path() string { return g.file.Path() }

// Names implements Source.
func (g *GGUF) Names() []string { return g.names }

// Close implements Source.
func (g *GGUF) Close() error { return g.file.Close() }

// Guard implements Guarded.
func (g *GGUF) Guard(read func() error) error { return g.file.Guard(read) }

// File is the file itself, for its tokenizer and template.
func (g *GGUF) File() *gguf.File { return g.file }

// stored are the tensors that make a published one.
func (g *GGUF) stored(name string) ([]place, []*tensor.Tensor, error) {
	parts := g.parts[name]
	if parts == nil {
		return nil, nil, fmt.Errorf("gguf: %s: tensor %q: is missing", g.Path(), name)
	}
	var list []*tensor.Tensor
	for _, p := range parts {
		t, err := g.file.Tensor(p.ggufName())
		if err != nil {
			return nil, nil, err
		}
		list = append(list, t)
	}
	return parts, list, nil
}

// Describe implements Source.
func (g *GGUF) Describe(name string) (dtype.DType, []int, error) {
	parts, list, err := g.stored(name)
	if err != nil {
		return dtype.Invalid, nil, err
	}
	t := list[0]
	switch parts[0].form {
	case experts:
		return t.DType, t.Shape[1:], nil
	case packQ:
		rows := 0
		for _, t := range list {
			rows += t.Shape[0]
		}
		return packedType(list), append([]int{rows}, t.Shape[1:]...), nil
	case mlaK:
		k, v := list[0].Shape, list[1].Shape
		return dtype.F32, []int{k[0] * (k[2] + v[1]), k[1]}, nil
	}
	if strings.HasSuffix(name, sharedGate) && len(t.Shape) == 1 {
		return t.DType, []int{1, t.Shape[0]}, nil
	}
	return t.DType, t.Shape, nil
}

// sharedGate is published as a matrix of one row, which some files keep as a vector.
const sharedGate = "shared_expert_gate.weight"

// packedType is the type in which fused parts lie behind each other: their own where they agree.
func packedType(list []*tensor.Tensor) dtype.DType {
	for _, t := range list[1:] {
		if t.DType != list[0].DType {
			return dtype.F32
		}
	}
	return list[0].DType
}

// Tensor implements Source.
func (g *GGUF) Tensor(name string) (*tensor.Tensor, error) {
	parts, list, err := g.stored(name)
	if err != nil {
		return nil, err
	}
	d, shape, err := g.Describe(name)
	if err != nil {
		return nil, err
	}
	t := list[0]
	switch parts[0].form {
	case ropeQ:
		return reorder(t, unpaired(t.Shape[0], g.heads)), nil
	case ropeK:
		return reorder(t, unpaired(t.Shape[0], g.kvHeads)), nil
	case experts:
		size := len(t.Data) / t.Shape[0]
		e := parts[0].expert
		return &tensor.Tensor{DType: d, Shape: shape, Data: t.Data[e*size : (e+1)*size]}, nil
	case packQ:
		out := tensor.New(d, shape...)
		at := 0
		for i, heads := range []int{g.heads, g.kvHeads, 0} {
			t, err := plainIfNot(list[i], d)
			if err != nil {
				return nil, err
			}
			if heads > 0 {
				t = reorder(t, unpaired(t.Shape[0], heads))
			}
			at += copy(out.Data[at:], t.Data)
		}
		return out, nil
	case mlaK:
		return joinLatent(list[0], list[1], shape)
	}
	return &tensor.Tensor{DType: d, Shape: shape, Data: t.Data}, nil
}

// plainIfNot is t, expanded to float32 where it is not of type d.
func plainIfNot(t *tensor.Tensor, d dtype.DType) (*tensor.Tensor, error) {
	if t.DType == d {
		return t, nil
	}
	out := tensor.New(dtype.F32, t.Shape...)
	return out, quant.Dequantize(t.DType, out.F32(), t.Data)
}

// reorder makes a tensor whose row r is row from(r) of t. Rows are whole blocks, so quantized ones move as they are.
func reorder(t *tensor.Tensor, from func(r int) int) *tensor.Tensor {
	size := len(t.Data) / max(1, t.Shape[0])
	out := &tensor.Tensor{DType: t.DType, Shape: t.Shape, Data: make([]byte, len(t.Data))}
	for r := range t.Shape[0] {
		copy(out.Data[r*size:(r+1)*size], t.Data[from(r)*size:])
	}
	return out
}

// unpaired undoes paired: the stored row that is row r of the published order.
func unpaired(rows, heads int) func(r int) int {
	half := rows / heads / 2
	return func(r int) int {
		head, i := r/(2*half), r%(2*half)
		return head*2*half + i%half*2 + i/half
	}
}

// paired is llama.cpp's order of the rows of q and k: the pairs (i, i+K/2) of each head of K rows behind each other.
func paired(rows, heads int) func(r int) int {
	half := rows / heads / 2
	return func(r int) int {
		head, i := r/(2*half), r%(2*half)
		return head*2*half + i%2*half + i/2
	}
}

// joinLatent makes kv_b [H·(nope+V), R] of the keys [H, R, nope] and the values [H, V, R].
func joinLatent(k, v *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
	heads, rank, nope, value := k.Shape[0], k.Shape[1], k.Shape[2], v.Shape[1]
	if !slices.Equal(v.Shape, []int{heads, value, rank}) {
		return nil, fmt.Errorf("gguf: attn_k_b of shape %v and attn_v_b of shape %v do not fit", k.Shape, v.Shape)
	}
	kf, err := plainIfNot(k, dtype.F32)
	if err != nil {
		return nil, err
	}
	vf, err := plainIfNot(v, dtype.F32)
	if err != nil {
		return nil, err
	}
	out := tensor.New(dtype.F32, shape...)
	x, kx, vx := out.F32(), kf.F32(), vf.F32()
	for h := range heads {
		rows := x[h*(nope+value)*rank:]
		for i := range nope {
			for r := range rank {
				rows[i*rank+r] = kx[(h*rank+r)*nope+i]
			}
		}
		copy(rows[nope*rank:(nope+value)*rank], vx[h*value*rank:])
	}
	return out, nil
}
