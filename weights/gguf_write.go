package weights

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"danlu/dtype"
	"danlu/format/gguf"
	"danlu/tensor"
)

// GGUFOptions says how a checkpoint is written as a GGUF.
type GGUFOptions struct {
	// DType is the type of matrices; dtype.Invalid: as they are in the source, or float32 where GGUF has no such type.
	// Norms, biases and routers are float32 always, as llama.cpp wants them.
	DType dtype.DType
	// More is the type of the output matrix and of some layers' value and down projections (Mix); dtype.Invalid: DType.
	More dtype.DType
	// Name goes into general.name.
	Name string
	// Vocabulary are the entries tokenizer.*; nil: the file says that it has none.
	Vocabulary []gguf.KV
	// General are further entries general.* (licence and so on).
	General []gguf.KV
	// SplitBytes is the most that one file holds; 0: all in one.
	SplitBytes int64
	// Progress, if set, is called with the bytes written so far and in all.
	Progress func(done, total int64)
}

// GGUFReport says what a written file is like.
type GGUFReport struct {
	Files []string
	// LeftOut are tensors of the source that GGUF has no place for: prediction modules, vision towers, copies.
	LeftOut []string
	// Substituted counts tensors whose rows do not fit the blocks of the wanted type, by what they are stored as.
	Substituted map[dtype.DType]int
}

// ggufTensor is a tensor to be written.
type ggufTensor struct {
	info   gguf.Info
	place  place
	inputs []string // published tensors; all experts, else one
}

// WriteGGUF writes a checkpoint whose config.json is given to path, in the names and row order of llama.cpp.
func WriteGGUF(path string, src Source, configJSON []byte, opts GGUFOptions) (*GGUFReport, error) {
	c, err := readConfig(filepath.Join(src.Path(), "config.json"), configJSON)
	if err != nil {
		return nil, err
	}
	class := c.class()
	l := layoutFor(class)
	if c.err == nil && (l == nil || c.has("inner_hidden_size")) { // ChatGLM-6B has its successors' name
		c.fail("architectures", "%s has no architecture in GGUF", class)
	}
	if c.err != nil {
		return nil, c.err
	}
	metadata, factors, err := l.metadata(c)
	if err != nil {
		return nil, err
	}
	w := &ggufWriter{src: src, layout: l, geometry: c.geometry(l), normHead: l.arch == "baichuan" && c.normHead(), tied: c.flag("tie_word_embeddings", false), opts: opts, factors: factors,
		report: &GGUFReport{Substituted: map[dtype.DType]int{}}}
	if err := w.plan(); err != nil {
		return nil, fmt.Errorf("weights: %s: %w", src.Path(), err)
	}
	general := []gguf.KV{{Key: "general.architecture", Value: l.arch}, {Key: "general.name", Value: opts.Name}, {Key: "general.file_type", Value: w.fileType()}}
	if opts.DType.IsQuantized() {
		general = append(general, gguf.KV{Key: "general.quantization_version", Value: uint32(2)})
	}
	vocabulary := opts.Vocabulary
	if vocabulary == nil {
		vocabulary = []gguf.KV{{Key: "tokenizer.ggml.model", Value: "none"}}
	}
	all := append(append(append(general, opts.General...), metadata...), gguf.KV{Key: l.arch + ".vocab_size", Value: uint32(w.vocab)})
	all = append(all, vocabulary...)
	infos := make([]gguf.Info, len(w.tensors))
	for i, t := range w.tensors {
		infos[i] = t.info
	}
	if opts.SplitBytes > 0 {
		w.report.Files, err = gguf.WriteSplit(strings.TrimSuffix(path, ".gguf"), opts.SplitBytes, all, infos, w.emit)
	} else {
		w.report.Files, err = []string{path}, gguf.Write(path, all, infos, w.emit)
	}
	return w.report, err
}

// normHead reports whether a Baichuan scales the rows of its head, as released configs show it.
func (c *config) normHead() bool {
	const baichuan2Vocab = 125696
	return c.flag("norm_head", c.int("vocab_size", 0) == baichuan2Vocab)
}

type ggufWriter struct {
	src    Source
	layout *layout
	geometry
	normHead, tied bool
	opts           GGUFOptions
	factors        *tensor.Tensor
	report         *GGUFReport
	tensors        []ggufTensor
	byName         map[string]*ggufTensor
	vocab          int
	done, total    int64
}

// plan lists the tensors to be written.
func (w *ggufWriter) plan() error {
	w.byName = map[string]*ggufTensor{}
	grouped := map[string]*ggufTensor{}
	var order []*ggufTensor
	for _, name := range w.src.Names() {
		if w.skip(name) {
			continue
		}
		places := w.layout.published(name)
		if len(places) == 0 {
			return fmt.Errorf("tensor %q: has no place in a %s file of GGUF", name, w.layout.arch)
		}
		for _, p := range places {
			t := grouped[p.ggufName()]
			if t == nil {
				t = &ggufTensor{place: p}
				grouped[p.ggufName()] = t
				order = append(order, t)
			}
			if p.expert < 0 {
				t.inputs = []string{name}
				continue
			}
			for len(t.inputs) <= p.expert {
				t.inputs = append(t.inputs, "")
			}
			t.inputs[p.expert] = name
		}
	}
	sortPlaces(order, func(t *ggufTensor) place { return t.place })
	for _, t := range order {
		if err := w.describe(t); err != nil {
			return err
		}
		w.tensors = append(w.tensors, *t)
		w.total += t.info.Bytes()
	}
	if w.factors != nil {
		w.tensors = append(w.tensors, ggufTensor{info: gguf.Info{Name: ropeFactors, DType: dtype.F32, Shape: w.factors.Shape}})
	}
	for i := range w.tensors {
		w.byName[w.tensors[i].info.Name] = &w.tensors[i]
	}
	if w.vocab == 0 {
		return fmt.Errorf("tensor %q: is missing", w.layout.top[0].hf+".weight")
	}
	return nil
}

// skip reports whether a tensor is not written: buffers computed from the config, copies, and what GGUF has no place for.
func (w *ggufWriter) skip(name string) bool {
	if strings.HasSuffix(name, "inv_freq") || w.tied && name == w.layout.top[2].hf+".weight" {
		return true
	}
	rest, inLayers := strings.CutPrefix(name, w.layout.layers)
	layer := -1
	if inLayers {
		if _, err := fmt.Sscanf(rest, "%d.", &layer); err != nil {
			layer = -1
		}
	}
	if layer >= w.layers || w.layout.arch == "qwen2vl" && strings.HasPrefix(name, "visual.") {
		w.report.LeftOut = append(w.report.LeftOut, name)
		return true
	}
	return false
}

// describe fills the name, type and shape of a tensor to be written.
func (w *ggufWriter) describe(t *ggufTensor) error {
	for e, name := range t.inputs {
		if name == "" {
			return fmt.Errorf("tensor %q: is missing", t.place.hfName(w.layout, e))
		}
	}
	d, shape, err := w.src.Describe(t.inputs[0])
	if err != nil {
		return err
	}
	for _, name := range t.inputs[1:] {
		if _, s, err := w.src.Describe(name); err != nil || fmt.Sprint(s) != fmt.Sprint(shape) {
			return fmt.Errorf("tensor %q: want shape %v as its like, got %v %w", name, shape, s, err)
		}
	}
	if shape, err = w.storedShape(t, shape); err != nil {
		return fmt.Errorf("tensor %q: %w", t.inputs[0], err)
	}
	if t.place.gguf == w.layout.top[0].gguf+".weight" && t.place.layer < 0 {
		w.vocab = shape[0]
	}
	t.info = gguf.Info{Name: t.place.ggufName(), DType: w.dtype(t, d, shape), Shape: shape}
	return nil
}

// storedShape is the stored shape of published tensors of the given one.
func (w *ggufWriter) storedShape(t *ggufTensor, shape []int) ([]int, error) {
	switch t.place.form {
	case ropeQ:
		return shape, splits(shape, w.heads)
	case ropeK:
		return shape, splits(shape, w.kvHeads)
	case experts:
		if len(shape) != 2 {
			return nil, fmt.Errorf("want a matrix, got shape %v", shape)
		}
		return append([]int{len(t.inputs)}, shape...), nil
	case packQ, packK, packV:
		q, k := w.heads*w.headDim, w.kvHeads*w.headDim
		if len(shape) == 0 || shape[0] != q+2*k || w.headDim%2 != 0 {
			return nil, fmt.Errorf("want %d rows of query, key and value, got shape %v", q+2*k, shape)
		}
		rows := k
		if t.place.form == packQ {
			rows = q
		}
		return append([]int{rows}, shape[1:]...), nil
	case mlaK, mlaV:
		if len(shape) != 2 || shape[0] != w.heads*(w.nopeDim+w.valueDim) || shape[1] != w.kRank {
			return nil, fmt.Errorf("want shape %v, got %v", []int{w.heads * (w.nopeDim + w.valueDim), w.kRank}, shape)
		}
		if t.place.form == mlaK {
			return []int{w.heads, w.kRank, w.nopeDim}, nil
		}
		return []int{w.heads, w.valueDim, w.kRank}, nil
	}
	if len(shape) == 0 {
		return []int{1}, nil
	}
	return shape, nil
}

// dtype is the type that a tensor is stored as.
func (w *ggufWriter) dtype(t *ggufTensor, source dtype.DType, shape []int) dtype.DType {
	small := len(shape) < 2 || strings.HasPrefix(t.place.gguf, "ffn_gate_inp")
	want := w.opts.DType
	if want == dtype.Invalid {
		want = source
		if t.place.form == mlaK && source.IsQuantized() || !storable(source) {
			want = dtype.F32
		}
	}
	if small {
		return dtype.F32
	}
	if w.opts.DType != dtype.Invalid {
		name := t.inputs[0]
		want = Mix{want, w.opts.More}.of(isOutput(name, w.tied), sensitive(name), t.place.layer, w.layers)
	}
	row := shape[len(shape)-1]
	if row%want.BlockLen() == 0 {
		return want
	}
	// As llama.cpp's quantizer: rows that are no whole blocks of 256 take a type of blocks of 32, or 16 bits.
	fallback := map[dtype.DType]dtype.DType{dtype.Q2_K: dtype.Q4_0, dtype.Q3_K: dtype.Q4_0, dtype.Q4_K: dtype.Q5_0, dtype.Q5_K: dtype.Q5_1, dtype.Q6_K: dtype.Q8_0}[want]
	if fallback == dtype.Invalid || row%fallback.BlockLen() != 0 {
		fallback = dtype.F16
	}
	w.report.Substituted[fallback]++
	return fallback
}

// storable reports whether GGUF files hold matrices of a type.
func storable(d dtype.DType) bool {
	_, ok := fileTypes[d]
	return ok
}

// fileTypes are llama.cpp's numbers (LLAMA_FTYPE) for files that are mostly of one type.
var fileTypes = map[dtype.DType]uint32{dtype.F32: 0, dtype.F16: 1, dtype.Q4_0: 2, dtype.Q4_1: 3, dtype.Q8_0: 7, dtype.Q5_0: 8, dtype.Q5_1: 9,
	dtype.Q2_K: 10, dtype.Q3_K: 12, dtype.Q4_K: 14, dtype.Q5_K: 16, dtype.Q6_K: 18, dtype.BF16: 32}

// fileType is the number of the mix, or of the type that most bytes have.
func (w *ggufWriter) fileType() uint32 {
	if n, ok := map[Mix]uint32{{dtype.Q4_K, dtype.Q6_K}: 15, {dtype.Q5_K, dtype.Q6_K}: 17}[Mix{w.opts.DType, w.opts.More}]; ok {
		return n
	}
	bytes := map[dtype.DType]int64{}
	most := dtype.F32
	for _, t := range w.tensors {
		d := t.info.DType
		if bytes[d] += t.info.Bytes(); bytes[d] > bytes[most] {
			most = d
		}
	}
	return fileTypes[most]
}

// emit writes one tensor, a few megabytes at a time.
func (w *ggufWriter) emit(i gguf.Info, out io.Writer) error {
	t := w.byName[i.Name]
	if t.inputs == nil {
		_, err := out.Write(w.factors.Data)
		return err
	}
	for _, name := range t.inputs {
		err := guarded(w.src, func() error {
			x, err := w.src.Tensor(name)
			if err != nil {
				return err
			}
			x, from, err := w.arrange(t, x)
			if err != nil {
				return err
			}
			return writeRows(out, w.src, x, from, i.DType, w.normHead && t.place.gguf == "output.weight")
		})
		if err != nil {
			return fmt.Errorf("%s: tensor %q: %w", w.src.Path(), name, err)
		}
		if w.done += i.Bytes() / int64(len(t.inputs)); w.opts.Progress != nil {
			w.opts.Progress(w.done, w.total)
		}
	}
	return nil
}

// arrange returns what holds the stored rows, and which they are. Rows run over the last dimension.
func (w *ggufWriter) arrange(t *ggufTensor, x *tensor.Tensor) (*tensor.Tensor, rows, error) {
	first := 1
	if len(x.Shape) > 0 {
		first = x.Shape[0]
	}
	all := rows{first, func(r int) int { return r }}
	q, k := w.heads*w.headDim, w.kvHeads*w.headDim
	switch t.place.form {
	case ropeQ:
		all.from = paired(first, w.heads)
	case ropeK:
		all.from = paired(first, w.kvHeads)
	case packQ:
		return x, rows{q, paired(q, w.heads)}, nil
	case packK:
		order := paired(k, w.kvHeads)
		return x, rows{k, func(r int) int { return q + order(r) }}, nil
	case packV:
		return x, rows{k, func(r int) int { return q + k + r }}, nil
	case mlaV:
		return x, rows{w.heads * w.valueDim, func(r int) int { return r/w.valueDim*(w.nopeDim+w.valueDim) + w.nopeDim + r%w.valueDim }}, nil
	case mlaK:
		x, err := plainIfNot(x, dtype.F32)
		if err != nil {
			return nil, rows{}, err
		}
		out := tensor.New(dtype.F32, w.heads*w.kRank, w.nopeDim)
		for h := range w.heads {
			for i := range w.nopeDim {
				for r := range w.kRank {
					out.F32()[(h*w.kRank+r)*w.nopeDim+i] = x.F32()[(h*(w.nopeDim+w.valueDim)+i)*w.kRank+r]
				}
			}
		}
		return out, rows{out.Shape[0], func(r int) int { return r }}, nil
	}
	return x, all, nil
}
