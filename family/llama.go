package family

import (
	"danlu/graph"
	"danlu/nn"
)

func init() { register("llama", newLlama, "LlamaForCausalLM", "YiForCausalLM", "MistralForCausalLM") }

// Llama is LLaMA 1 (Touvron et al., arXiv:2302.13971), 2 (arXiv:2307.09288) and 3 (arXiv:2407.21783), and the models
// that share its layout: Yi (arXiv:2403.04652), and with small changes Qwen 1.5 to 3.
//
// Each layer: x += Attention(RMSNorm(x)); x += SwiGLU(RMSNorm(x)).
type Llama struct {
	info             Info
	HiddenSize       int
	IntermediateSize int
	NumLayers        int
	NumHeads         int
	NumKVHeads       int
	HeadDim          int
	NormEps          float64
	Activation       graph.ActivationKind
	Rope             nn.Rope
	QKVBias, OutBias bool
	MLPBias          bool
	QKNorm           bool // RMSNorm of each head of q and k (Qwen3)
	TieEmbeddings    bool
	Std              float64
	SlidingWindow    int // 0: none
	FullLayers       int // the first layers, which have no window
	DualChunk        *nn.DualChunk
}

func newLlama(c *Config) (Model, error) {
	m := readLlama(c, 10000)
	m.QKVBias = c.BoolOr("attention_bias", false)
	m.OutBias = m.QKVBias
	m.MLPBias = c.BoolOr("mlp_bias", false)
	m.SlidingWindow = c.IntOr("sliding_window", 0)
	return m.done(c, "llama")
}

// readLlama reads the keys that the layout's families share.
func readLlama(c *Config, theta float64) *Llama {
	m := &Llama{
		HiddenSize:       c.Int("hidden_size"),
		IntermediateSize: c.Int("intermediate_size"),
		NumLayers:        c.Layers("num_hidden_layers"),
		NumHeads:         c.Int("num_attention_heads"),
		NormEps:          c.FloatOr("rms_norm_eps", 1e-6),
		Activation:       c.Activation("hidden_act", "silu"),
		TieEmbeddings:    c.BoolOr("tie_word_embeddings", false),
		Std:              c.InitializerRange(),
	}
	m.NumKVHeads, m.HeadDim = c.heads(m.HiddenSize, m.NumHeads)
	m.Rope = c.Rope(m.HeadDim, c.IntOr("max_position_embeddings", 2048), theta)
	return m
}

func (m *Llama) done(c *Config, name string) (Model, error) {
	m.readLayerTypes(c)
	vocab := c.Int("vocab_size")
	m.info = c.info(name)
	m.info.VocabSize, m.info.HiddenSize, m.info.NumLayers = vocab, m.HiddenSize, m.NumLayers
	m.info.MaxPosition, m.info.TiedHead = m.Rope.MaxPosition, m.TieEmbeddings
	m.info.Ignored = []string{"rotary_emb.inv_freq"}
	if m.TieEmbeddings {
		m.info.Ignored = append(m.info.Ignored, "lm_head.weight")
	}
	return m, c.err
}

// readLayerTypes checks newer configs' list of attention kinds against the window: full attention first, then windows.
func (m *Llama) readLayerTypes(c *Config) {
	for i, t := range c.Strings("layer_types") {
		want := "full_attention"
		if m.SlidingWindow > 0 && i >= m.FullLayers {
			want = "sliding_attention"
		}
		if t != want {
			c.Errorf("layer_types", "layer %d: want %s by the other keys, got %q", i, want, t)
		}
	}
}

// Info implements Model.
func (m *Llama) Info() Info { return m.info }

// Hidden implements Model.
func (m *Llama) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("model.embed_tokens", m.info.VocabSize, m.HiddenSize, m.Std)
	b.Tap(b.G, "hidden.0", x)
	return m.decoder(b, x)
}

// decoder goes from the embedded text [B, T, D] to the final norm.
func (m *Llama) decoder(b *nn.Build, x *graph.Value) *graph.Value {
	cos, sin := m.Rope.Tables(b)
	full := m.NumLayers
	if m.SlidingWindow > 0 {
		full = m.FullLayers
	}
	x = m.layers(b, x, cos, sin, 0, full, 0)
	x = m.layers(b, x, cos, sin, full, m.NumLayers, m.SlidingWindow)
	x = b.RMSNorm(b.G, "model.norm", x, m.NormEps)
	b.Tap(b.G, "hidden.norm", x)
	return x
}

// layers adds layers from to, excluding to, whose attention sees the given window (0: everything).
func (m *Llama) layers(b *nn.Build, x, cos, sin *graph.Value, from, to, window int) *graph.Value {
	attention := nn.SelfAttention{Name: "self_attn", Heads: m.NumHeads, KVHeads: m.NumKVHeads, HeadDim: m.HeadDim, QKVBias: m.QKVBias,
		OutBias: m.OutBias, Window: window, Std: m.Std, Cos: cos, Sin: sin}
	if m.DualChunk != nil {
		m.DualChunk.CheckCache(b)
		attention.Dual = m.DualChunk.Tables(b, m.Rope)
	}
	if m.QKNorm {
		attention.QKNormEps = m.NormEps
	}
	mlp := nn.GatedMLP{Name: "mlp", Size: m.IntermediateSize, Bias: m.MLPBias, Activation: m.Activation, Std: m.Std}
	return b.Layers("model.layers.%d.", from, to, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		x = nn.Add(x, attention.Build(b, l, b.RMSNorm(l, "input_layernorm", x, m.NormEps)))
		return nn.Add(x, mlp.Build(b, l, b.RMSNorm(l, "post_attention_layernorm", x, m.NormEps)))
	})
}

// Head implements Model.
func (m *Llama) Head(b *nn.Build) *graph.Value {
	name := "lm_head.weight"
	if m.TieEmbeddings {
		name = "model.embed_tokens.weight"
	}
	return b.Matrix(name, m.info.VocabSize, m.HiddenSize, m.Std)
}
