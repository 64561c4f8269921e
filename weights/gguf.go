package weights

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"

	"danlu/dtype"
	"danlu/format/gguf"
	"danlu/nn"
	"danlu/tensor"
)

// GGUF is a GGUF file read as a Hugging Face checkpoint: tensors have the names and row order of the published
// safetensors, and Config makes the config.json that the metadata stands for.
type GGUF struct {
	file  *gguf.File
	arch  string
	names []string
	inner map[string]string // published name → name in the file
}

// architectures of GGUF files that can be read, with the class names of their configs.
var architectures = map[string]string{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

// tensorNames maps the parts of GGUF names to published ones.
var tensorNames = map[string]string{
	"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
	"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
	"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
	"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
	"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}

// ropeFactors is the tensor that holds the divisors of Llama 3's rotary frequencies.
const ropeFactors = "rope_freqs.weight"

var layerName = regexp.MustCompile(`^blk\.(\d+)\.([a-z_]+)\.(weight|bias)$`)

// publishedName is the safetensors name of a GGUF tensor.
func publishedName(name string) (string, bool) {
	if m := layerName.FindStringSubmatch(name); m != nil {
		part, ok := tensorNames[m[2]]
		return "model.layers." + m[1] + "." + part + "." + m[3], ok
	}
	base, kind, _ := strings.Cut(name, ".")
	part, ok := tensorNames[base]
	return part + "." + kind, ok && (kind == "weight" || kind == "bias")
}

// OpenGGUF opens a file of a known architecture.
func OpenGGUF(path string) (*GGUF, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	g := &GGUF{file: f, inner: map[string]string{}}
	if g.arch, err = f.Text("general.architecture"); err == nil && architectures[g.arch] == "" {
		err = fmt.Errorf("gguf: %s: general.architecture: %q is not supported", path, g.arch)
	}
	for _, n := range f.Names() {
		if n == ropeFactors || err != nil {
			continue
		}
		name, ok := publishedName(n)
		if !ok {
			err = fmt.Errorf("gguf: %s: tensor %q: belongs to no part of a %s model", path, n, g.arch)
		}
		g.inner[name] = n
		g.names = append(g.names, name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return g, nil
}

// Path implements Source.
func (g *GGUF) Path() string { return g.file.Path() }

// Names implements Source.
func (g *GGUF) Names() []string { return g.names }

// Close implements Source.
func (g *GGUF) Close() error { return g.file.Close() }

// Guard runs read and turns a fault of the mapped file into an error.
func (g *GGUF) Guard(read func() error) error { return g.file.Guard(read) }

// File is the file itself, for its tokenizer and template.
func (g *GGUF) File() *gguf.File { return g.file }

// Describe implements Source.
func (g *GGUF) Describe(name string) (dtype.DType, []int, error) {
	inner, ok := g.inner[name]
	if !ok {
		return dtype.Invalid, nil, fmt.Errorf("gguf: %s: tensor %q: is missing", g.Path(), name)
	}
	t, err := g.file.Tensor(inner)
	if err != nil {
		return dtype.Invalid, nil, err
	}
	return t.DType, t.Shape, nil
}

// Tensor implements Source.
func (g *GGUF) Tensor(name string) (*tensor.Tensor, error) {
	inner, ok := g.inner[name]
	if !ok {
		return nil, fmt.Errorf("gguf: %s: tensor %q: is missing", g.Path(), name)
	}
	t, err := g.file.Tensor(inner)
	if err != nil || g.arch != "llama" {
		return t, err
	}
	switch {
	case strings.Contains(name, "self_attn.q_proj."):
		return g.unpermute(t, "llama.attention.head_count")
	case strings.Contains(name, "self_attn.k_proj."):
		return g.unpermute(t, "llama.attention.head_count_kv")
	}
	return t, nil
}

// unpermute is unpermuteRows with the number of heads in the metadata.
func (g *GGUF) unpermute(t *tensor.Tensor, headsKey string) (*tensor.Tensor, error) {
	heads, err := g.file.Int(headsKey)
	if err != nil {
		return nil, err
	}
	out, err := unpermuteRows(t, heads)
	if err != nil {
		return nil, fmt.Errorf("gguf: %s: %s: %w", g.Path(), headsKey, err)
	}
	return out, nil
}

// unpermuteRows undoes llama.cpp's reordering of the rows of q and k: files hold the rows of each head as pairs
// (i, i+K/2), the published order is first all i, then all i+K/2. Rows are whole blocks, so quantized ones move as they
// are.
func unpermuteRows(t *tensor.Tensor, heads int) (*tensor.Tensor, error) {
	rows := t.Shape[0]
	if heads < 1 || rows%(2*heads) != 0 {
		return nil, fmt.Errorf("%d rows do not split into %d heads", rows, heads)
	}
	size, half := len(t.Data)/rows, rows/heads/2
	out := &tensor.Tensor{DType: t.DType, Shape: t.Shape, Data: make([]byte, len(t.Data))}
	for r := range rows {
		head, i := r/(2*half), r%(2*half)
		from := head*2*half + i%half*2 + i/half
		copy(out.Data[r*size:(r+1)*size], t.Data[from*size:])
	}
	return out, nil
}

// Config is the config.json that the metadata stands for.
func (g *GGUF) Config() ([]byte, error) {
	c := map[string]any{"architectures": []string{architectures[g.arch]}, "model_type": g.arch, "hidden_act": "silu"}
	for to, from := range map[string]string{"hidden_size": "embedding_length", "intermediate_size": "feed_forward_length", "num_hidden_layers": "block_count",
		"num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv", "max_position_embeddings": "context_length", "head_dim": "attention.key_length"} {
		if _, ok := g.file.Value(g.arch + "." + from); !ok && (to == "num_key_value_heads" || to == "head_dim") {
			continue
		}
		n, err := g.file.Int(g.arch + "." + from)
		if err != nil {
			return nil, err
		}
		c[to] = n
	}
	eps, err := g.file.Float(g.arch + ".attention.layer_norm_rms_epsilon")
	if err != nil {
		return nil, err
	}
	c["rms_norm_eps"] = eps
	theta := 10000.0
	if _, ok := g.file.Value(g.arch + ".rope.freq_base"); ok {
		if theta, err = g.file.Float(g.arch + ".rope.freq_base"); err != nil {
			return nil, err
		}
	}
	c["rope_theta"] = theta
	if err := g.ropeScaling(c, theta); err != nil {
		return nil, err
	}
	for to, from := range map[string]string{"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"} {
		if key := "tokenizer.ggml." + from + "_token_id"; g.has(key) {
			if c[to], err = g.file.Int(key); err != nil {
				return nil, err
			}
		}
	}
	embedding, err := g.Tensor("model.embed_tokens.weight")
	if err != nil {
		return nil, err
	}
	c["vocab_size"] = embedding.Shape[0]
	c["tie_word_embeddings"] = g.inner["lm_head.weight"] == ""
	return json.Marshal(c)
}

func (g *GGUF) has(key string) bool { _, ok := g.file.Value(key); return ok }

// ropeScaling translates the scaling keys, or recognises Llama 3's by its table of divisors.
func (g *GGUF) ropeScaling(c map[string]any, theta float64) error {
	if key := g.arch + ".rope.scaling.type"; g.has(key) {
		kind, err := g.file.Text(key)
		if err != nil {
			return err
		}
		if kind != "none" {
			factor, err := g.file.Float(g.arch + ".rope.scaling.factor")
			if err != nil {
				return err
			}
			s := map[string]any{"rope_type": kind, "factor": factor}
			if key := g.arch + ".rope.scaling.original_context_length"; g.has(key) {
				if s["original_max_position_embeddings"], err = g.file.Int(key); err != nil {
					return err
				}
			}
			c["rope_scaling"] = s
		}
	}
	table, err := g.file.Tensor(ropeFactors)
	if err != nil {
		return nil // there is none
	}
	for _, factor := range []float64{8, 32} { // Llama 3.1 and 3.3; Llama 3.2
		r := nn.Rope{Dim: 2 * table.Len(), Theta: theta, Scaling: nn.Scaling{Type: "llama3", Factor: factor, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPosition: 8192}}
		if matches(r, table) {
			c["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": factor, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}
			return nil
		}
	}
	return fmt.Errorf("gguf: %s: tensor %q: is the table of no known rotary scaling", g.Path(), ropeFactors)
}

// matches reports whether a table of divisors is that of a scaling.
func matches(r nn.Rope, table *tensor.Tensor) bool {
	scaled, _ := r.InvFreq(0)
	r.Scaling = nn.Scaling{}
	plain, _ := r.InvFreq(0)
	for i, d := range table.F32() {
		if !(math.Abs(plain[i]/scaled[i]-float64(d)) <= 1e-3*float64(d)) {
			return false
		}
	}
	return true
}
