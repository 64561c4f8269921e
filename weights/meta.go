package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"danlu/dtype"
	"danlu/format/pickle"
	"danlu/tensor"
)

// meta is a LLaMA checkpoint as Meta released it: params.json and consolidated.NN.pth, of which each holds a part of
// every matrix, read as a Hugging Face checkpoint.
type meta struct {
	path   string
	files  []*pickle.File
	names  []string
	inner  map[string]metaPart
	params metaParams
}

// metaParams is params.json.
type metaParams struct {
	Dim       int      `json:"dim"`
	Layers    int      `json:"n_layers"`
	Heads     int      `json:"n_heads"`
	KVHeads   *int     `json:"n_kv_heads"`
	NormEps   float64  `json:"norm_eps"`
	Theta     *float64 `json:"rope_theta"`
	UseScaled bool     `json:"use_scaled_rope"`
	Scale     float64  `json:"rope_scale_factor"`
}

// metaPart is how a published tensor lies in the files.
type metaPart struct {
	name  string // in the files
	axis  int    // along which the files' parts are put together, -1: each holds all of it
	heads int    // rows of so many heads are in pairs, as in a GGUF; 0: not
}

var metaLayer = regexp.MustCompile(`^layers\.(\d{1,4})\.(.+)\.weight$`)

// metaLayerNames maps the parts of layers to published names and to the axis along which they are split.
var metaLayerNames = map[string]struct {
	hf   string
	axis int
}{
	"attention.wq": {"self_attn.q_proj", 0}, "attention.wk": {"self_attn.k_proj", 0}, "attention.wv": {"self_attn.v_proj", 0}, "attention.wo": {"self_attn.o_proj", 1},
	"feed_forward.w1": {"mlp.gate_proj", 0}, "feed_forward.w2": {"mlp.down_proj", 1}, "feed_forward.w3": {"mlp.up_proj", 0},
	"attention_norm": {"input_layernorm", -1}, "ffn_norm": {"post_attention_layernorm", -1},
}

func openMeta(path string, parts []string) (Source, error) {
	m := &meta{path: path, inner: map[string]metaPart{}}
	if err := m.open(parts); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *meta) open(parts []string) error {
	data, err := os.ReadFile(filepath.Join(m.path, "params.json"))
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	if err := json.Unmarshal(data, &m.params); err != nil {
		return fmt.Errorf("weights: params.json: %w", err)
	}
	if p := &m.params; p.Dim < 1 || p.Heads < 1 || p.Layers < 1 || p.KVHeads != nil && *p.KVHeads < 1 {
		return fmt.Errorf("weights: params.json: want dim, n_layers and n_heads of at least 1, got %+v", *p)
	}
	for i, name := range parts {
		if want := fmt.Sprintf("consolidated.%02d.pth", i); name != want {
			return fmt.Errorf("weights: %s: want %s, got %s: a part is missing", m.path, want, name)
		}
		f, err := pickle.Open(filepath.Join(m.path, name))
		if err != nil {
			return err
		}
		m.files = append(m.files, f)
	}
	for _, name := range m.files[0].Names() {
		hf, part, err := m.published(name)
		if err != nil {
			return err
		}
		if hf == "" {
			continue
		}
		m.names, m.inner[hf] = append(m.names, hf), part
	}
	return nil
}

// published is a tensor's published name; "" for what carries nothing.
func (m *meta) published(name string) (string, metaPart, error) {
	p := metaPart{name: name}
	switch name {
	case "rope.freqs":
		return "", p, nil
	case "norm.weight":
		p.axis = -1
		return "model.norm.weight", p, nil
	case "output.weight":
		return "lm_head.weight", p, nil
	case "tok_embeddings.weight":
		// LLaMA 1 and 2 split the columns, LLaMA 3 the rows.
		_, shape, err := m.files[0].Describe(name)
		if err != nil {
			return "", p, err
		}
		if len(shape) == 2 && shape[1] != m.params.Dim {
			p.axis = 1
		}
		return "model.embed_tokens.weight", p, nil
	}
	if l := metaLayer.FindStringSubmatch(name); l != nil {
		if part, ok := metaLayerNames[l[2]]; ok {
			p.axis = part.axis
			switch part.hf {
			case "self_attn.q_proj":
				p.heads = m.params.Heads
			case "self_attn.k_proj":
				p.heads = m.kvHeads()
			}
			return "model.layers." + l[1] + "." + part.hf + ".weight", p, nil
		}
	}
	return "", p, fmt.Errorf("weights: %s: tensor %q: belongs to no part of a LLaMA", filepath.Base(m.files[0].Path()), name)
}

func (m *meta) kvHeads() int {
	if m.params.KVHeads != nil {
		return *m.params.KVHeads
	}
	return m.params.Heads
}

// Path implements Source.
func (m *meta) Path() string { return m.path }

// Names implements Source.
func (m *meta) Names() []string { return m.names }

// Describe implements Source.
func (m *meta) Describe(name string) (dtype.DType, []int, error) {
	p, ok := m.inner[name]
	if !ok {
		return dtype.Invalid, nil, fmt.Errorf("weights: %s: tensor %q: is missing", m.path, name)
	}
	var d dtype.DType
	var shape []int
	for i, f := range m.files {
		di, s, err := f.Describe(p.name)
		if err != nil {
			return dtype.Invalid, nil, err
		}
		if i == 0 {
			d, shape = di, slices.Clone(s)
			if p.axis >= 0 && len(s) != 2 {
				return dtype.Invalid, nil, fmt.Errorf("weights: %s: tensor %q: want a matrix, got shape %v", filepath.Base(f.Path()), p.name, s)
			}
			continue
		}
		same := slices.Clone(s)
		if p.axis >= 0 && len(s) == 2 {
			same[p.axis] = shape[p.axis]
		}
		if di != d || !slices.Equal(same, shape) {
			return dtype.Invalid, nil, fmt.Errorf("weights: %s: tensor %q: %v%v does not continue the %v%v of the parts before", filepath.Base(f.Path()), p.name, di, s, d, shape)
		}
		if p.axis >= 0 {
			shape[p.axis] += s[p.axis]
		}
	}
	if p.heads > 0 {
		if err := splits(shape, p.heads); err != nil {
			return dtype.Invalid, nil, fmt.Errorf("weights: %s: tensor %q: %w", m.path, name, err)
		}
	}
	return d, shape, nil
}

// Tensor implements Source.
func (m *meta) Tensor(name string) (*tensor.Tensor, error) {
	d, shape, err := m.Describe(name)
	if err != nil {
		return nil, err
	}
	p := m.inner[name]
	var parts []*tensor.Tensor
	for _, f := range m.files {
		t, err := f.Tensor(p.name)
		if err != nil {
			return nil, err
		}
		parts = append(parts, t)
		if p.axis < 0 {
			break
		}
	}
	t := parts[0]
	if len(parts) > 1 {
		t = tensor.New(d, shape...)
		row, at := len(t.Data)/max(1, shape[0]), 0
		for _, part := range parts {
			if p.axis == 0 {
				at += copy(t.Data[at:], part.Data)
				continue
			}
			size := len(part.Data) / max(1, shape[0])
			for r := range shape[0] {
				copy(t.Data[r*row+at:r*row+at+size], part.Data[r*size:])
			}
			at += size
		}
	}
	if p.heads > 0 {
		t = reorder(t, unpaired(shape[0], p.heads))
	}
	return t, nil
}

// Config is the config.json that params.json and the shapes stand for.
func (m *meta) Config() ([]byte, error) {
	c := map[string]any{"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_act": "silu", "hidden_size": m.params.Dim, "num_hidden_layers": m.params.Layers,
		"num_attention_heads": m.params.Heads, "num_key_value_heads": m.kvHeads(), "rms_norm_eps": m.params.NormEps, "rope_theta": 10000.0, "max_position_embeddings": 2048,
		"bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": m.inner["lm_head.weight"].name == ""}
	for key, name := range map[string]string{"vocab_size": "model.embed_tokens.weight", "intermediate_size": "model.layers.0.mlp.gate_proj.weight"} {
		_, shape, err := m.Describe(name)
		if err != nil {
			return nil, err
		}
		c[key] = shape[0]
	}
	if m.params.Theta != nil {
		c["rope_theta"] = *m.params.Theta
	}
	// The releases differ in what params.json does not say. LLaMA 3 is known by its base, Llama 2 by n_kv_heads or eps.
	switch theta := c["rope_theta"].(float64); {
	case m.params.UseScaled:
		factor := m.params.Scale
		if factor == 0 {
			factor = 8 // Llama 3.1
			if m.params.Dim < 4096 {
				factor = 32 // Llama 3.2
			}
		}
		c["max_position_embeddings"], c["bos_token_id"], c["eos_token_id"] = 131072, 128000, 128001
		c["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
	case theta == 500000:
		c["max_position_embeddings"], c["bos_token_id"], c["eos_token_id"] = 8192, 128000, 128001
	case m.params.KVHeads != nil || m.params.NormEps == 1e-5:
		c["max_position_embeddings"] = 4096
	}
	return json.Marshal(c)
}

// Guard implements Guarded.
func (m *meta) Guard(read func() error) error {
	for _, f := range m.files {
		inner := read
		read = func() error { return f.Guard(inner) }
	}
	return read()
}

// Close implements Source.
func (m *meta) Close() error {
	var err error
	for _, f := range m.files {
		err = errors.Join(err, f.Close())
	}
	return err
}
