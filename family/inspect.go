package family

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"danlu/chat"
	"danlu/dtype"
	"danlu/hub"
	"danlu/tensor"
	"danlu/tokenizer"
	"danlu/weights"
)

// Inspection is what can be said of a model without running it.
type Inspection struct {
	Model           string           `json:"model"`
	Kind            string           `json:"kind"` // folder, gguf, file (safetensors or PyTorch), config or preset
	Architecture    string           `json:"architecture"`
	Family          string           `json:"family"`
	ParamsTotal     int64            `json:"params_total"`
	ParamsActive    int64            `json:"params_active"`
	Layers          int              `json:"layers"`
	HiddenSize      int              `json:"hidden_size"`
	Vocabulary      int              `json:"vocab_size"`
	Context         int              `json:"context"`
	KVBytesPerToken int64            `json:"kv_bytes_per_token"` // two bytes a value
	Tensors         int              `json:"tensors,omitempty"`
	DTypes          map[string]int64 `json:"dtypes,omitempty"` // bytes of the stored tensors by type
	WeightBytes     int64            `json:"weights_bytes,omitempty"`
	Tokenizer       string           `json:"tokenizer,omitempty"`
	Pieces          int              `json:"tokenizer_pieces,omitempty"`
	Template        bool             `json:"chat_template"`
	License         string           `json:"license"`
	LicenseName     string           `json:"license_name"`
	LicenseSource   string           `json:"license_source"`
	Commercial      Commercial       `json:"commercial_use"`
	// Memory is what running takes in bytes, by how the weights are kept: as stored, or in a type. MemoryContext tokens
	// of cache are in it.
	Memory        map[string]int64 `json:"memory_to_run_bytes"`
	MemoryContext int              `json:"memory_context"`
	UnknownKeys   []string         `json:"unknown_config_keys,omitempty"`
}

// memoryContext is the length of text that the memory to run is given for, unless the model's context is shorter.
const memoryContext = 4096

// runTypes are the types for which the memory to run is given.
var runTypes = []dtype.DType{dtype.F32, dtype.BF16, dtype.Q8_0, dtype.Q4_0}

// Inspect looks at a model folder, a GGUF or safetensors file, a config.json or a preset.
func Inspect(name string) (*Inspection, error) {
	name = hub.Resolve(name)
	in := &Inspection{Model: name, Kind: "preset"}
	model, src, err := in.open(name)
	if err != nil {
		return nil, err
	}
	if src != nil {
		defer src.Close()
		if err := in.stored(model, src); err != nil {
			return nil, err
		}
	}
	facts, err := Count(model)
	if err != nil {
		return nil, err
	}
	info := model.Info()
	in.Architecture, in.Family, in.Layers, in.HiddenSize, in.Vocabulary, in.Context = info.Architecture, info.Family, info.NumLayers, info.HiddenSize, info.VocabSize, info.MaxPosition
	in.ParamsTotal, in.ParamsActive, in.KVBytesPerToken, in.UnknownKeys = facts.ParamsTotal, facts.ParamsActive, facts.KVBytesPerToken, info.Unknown
	if err := in.vocabulary(name); err != nil {
		return nil, err
	}
	l := (&Checkpoint{Weights: src}).license(name)
	in.License, in.LicenseName, in.LicenseSource, in.Commercial = l.ID, l.Name, l.Source, l.Commercial
	return in, in.memory(model)
}

// open finds what kind of model a name is, and its weights where there are any.
func (in *Inspection) open(name string) (Model, weights.Source, error) {
	st, err := os.Stat(name)
	if err != nil {
		m, _, err := Shape(name)
		return m, nil, err
	}
	switch {
	case strings.HasSuffix(name, ".gguf"):
		in.Kind = "gguf"
	case slices.Contains([]string{".safetensors", ".bin", ".pt", ".pth"}, filepath.Ext(name)):
		in.Kind = "file"
	case !st.IsDir():
		in.Kind = "config"
		m, _, err := Shape(name)
		return m, nil, err
	default:
		in.Kind = "folder"
		if !weights.Present(name) {
			m, _, err := Shape(name)
			return m, nil, err
		}
	}
	c, err := Open(name, notWeights...)
	if err != nil {
		return nil, nil, err
	}
	return c.Model, c.Weights, nil
}

// notWeights are safetensors files of a model folder that are not the model's: a run's optimiser, reference data.
var notWeights = []string{"optimizer.safetensors", "golden.safetensors", "golden_video.safetensors"}

// stored adds up the tensors that are there, which must be those of the model.
func (in *Inspection) stored(m Model, src weights.Source) error {
	specs, err := Params(m)
	if err != nil {
		return err
	}
	if err := weights.Check(specs, src, weights.LoadOptions{Ignored: m.Info().Ignored}); err != nil {
		return err
	}
	in.DTypes = map[string]int64{}
	return in.add(weights.Stored(src))
}

// add counts the tensors of a checkpoint.
func (in *Inspection) add(src weights.Source) error {
	for _, n := range src.Names() {
		d, shape, err := src.Describe(n)
		if err != nil {
			return err
		}
		size := int64(d.Bytes(tensor.Len(shape)))
		in.Tensors++
		in.DTypes[d.String()] += size
		in.WeightBytes += size
	}
	return nil
}

// vocabulary describes the tokenizer and template beside the model, if there are any.
func (in *Inspection) vocabulary(name string) error {
	if in.Kind == "preset" || in.Kind == "config" {
		return nil
	}
	where := name
	if in.Kind == "file" {
		where = filepath.Dir(name)
	}
	tok, err := tokenizer.Load(where)
	if errors.Is(err, tokenizer.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	in.Tokenizer, in.Pieces = filepath.Base(tok.Source), tok.VocabSize()
	_, err = chat.FromModel(where, tok)
	if in.Template = err == nil; err != nil && !errors.Is(err, chat.ErrNoTemplate) {
		return err
	}
	return nil
}

// memory adds up what running the model takes: weights, the cache of a text, and the logits and activations of a pass.
func (in *Inspection) memory(m Model) error {
	specs, err := Params(m)
	if err != nil {
		return err
	}
	in.MemoryContext = memoryContext
	if in.Context > 0 {
		in.MemoryContext = min(in.MemoryContext, in.Context)
	}
	rest := in.KVBytesPerToken*int64(in.MemoryContext) + passBytes(m)
	in.Memory = map[string]int64{}
	if in.WeightBytes > 0 {
		in.Memory["stored"] = in.WeightBytes + rest
	}
	for _, d := range runTypes {
		total := rest
		for _, s := range specs {
			total += int64(s.Parts()) * partBytes(s.PartType().Shape, d)
		}
		in.Memory[d.String()] = total
	}
	return nil
}

// partBytes is the size of a weight: matrices of whole blocks are kept in type d, others in float32.
func partBytes(shape []int, d dtype.DType) int64 {
	n := tensor.Len(shape)
	if len(shape) < 2 || shape[len(shape)-1]%d.BlockLen() != 0 {
		d = dtype.F32
	}
	return int64(d.Bytes(n))
}

// passBytes estimates what a pass over 512 tokens holds: the residual stream and a few rows of its width at a time, and
// one row of logits.
func passBytes(m Model) int64 {
	const tokens, rows = 512, 16
	return int64(4*tokens*rows)*int64(m.Info().HiddenSize) + 4*int64(m.Info().VocabSize)
}
