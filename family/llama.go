package family

import (
	"danlu/graph"
	"danlu/nn"
)

func init() {
	register("llama", newLlama, "LlamaForCausalLM", "YiForCausalLM", "MistralForCausalLM")
	register("qwen2", newQwen2, "Qwen2ForCausalLM")
}

// Llama is LLaMA 1 (Touvron et al., arXiv:2302.13971), 2 (arXiv:2307.09288) and 3 (arXiv:2407.21783), and the models
// that share its layout: Yi, and Qwen 1.5, 2 and 2.5 (biases on q, k and v).
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
	TieEmbeddings    bool
	Std              float64
	SlidingWindow    int // 0: none
	FullLayers       int // the first layers, which have no window
}

func newLlama(c *Config) (Model, error) {
	m := readLlama(c, 10000)
	m.QKVBias = c.BoolOr("attention_bias", false)
	m.OutBias = m.QKVBias
	m.MLPBias = c.BoolOr("mlp_bias", false)
	m.SlidingWindow = c.IntOr("sliding_window", 0)
	return m.done(c, "llama")
}

func newQwen2(c *Config) (Model, error) {
	m := readLlama(c, 1e6)
	m.QKVBias = true
	window, full := c.IntOr("sliding_window", 4096), c.IntOr("max_window_layers", 28)
	if c.BoolOr("use_sliding_window", false) {
		m.SlidingWindow, m.FullLayers = window, min(full, m.NumLayers)
	}
	return m.done(c, "qwen2")
}

func readLlama(c *Config, theta float64) *Llama {
	m := &Llama{
		HiddenSize:       c.Int("hidden_size"),
		IntermediateSize: c.Int("intermediate_size"),
		NumLayers:        c.Int("num_hidden_layers"),
		NumHeads:         c.Int("num_attention_heads"),
		NormEps:          c.FloatOr("rms_norm_eps", 1e-6),
		Activation:       c.Activation("hidden_act", "silu"),
		TieEmbeddings:    c.BoolOr("tie_word_embeddings", false),
		Std:              c.InitializerRange(),
	}
	m.NumKVHeads = c.IntOr("num_key_value_heads", m.NumHeads)
	m.HeadDim = c.IntOr("head_dim", m.HiddenSize/m.NumHeads)
	if m.NumKVHeads <= 0 || m.NumHeads%m.NumKVHeads != 0 {
		c.Errorf("num_key_value_heads", "want a divisor of num_attention_heads %d, got %d", m.NumHeads, m.NumKVHeads)
	}
	if m.HeadDim <= 0 || !c.Has("head_dim") && m.HiddenSize%m.NumHeads != 0 {
		c.Errorf("num_attention_heads", "want a divisor of hidden_size %d, got %d", m.HiddenSize, m.NumHeads)
		m.HeadDim = 2
	}
	m.Rope = c.Rope(m.HeadDim, c.IntOr("max_position_embeddings", 2048), theta)
	return m
}

func (m *Llama) done(c *Config, name string) (Model, error) {
	c.IntOr("vocab_size", 0)
	m.readLayerTypes(c)
	m.info = c.info(name)
	m.info.VocabSize, m.info.HiddenSize, m.info.NumLayers = c.Int("vocab_size"), m.HiddenSize, m.NumLayers
	m.info.MaxPosition, m.info.TiedHead = m.Rope.MaxPosition, m.TieEmbeddings
	m.info.Ignored = []string{"rotary_emb.inv_freq"}
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
	run := graph.Layers{N: to - from, Prefix: "model.layers.%d.", First: from}
	return b.G.ForEach(run, []*graph.Value{x}, func(l *graph.Graph, carry []*graph.Value) []*graph.Value {
		x := carry[0]
		h := b.RMSNorm(l, "input_layernorm", x, m.NormEps)
		x = nn.Add(x, m.attention(b, l, h, cos, sin, window))
		h = b.RMSNorm(l, "post_attention_layernorm", x, m.NormEps)
		x = nn.Add(x, m.mlp(b, l, h))
		b.TapLayer(l, from, x)
		return []*graph.Value{x}
	})[0]
}

func (m *Llama) attention(b *nn.Build, l *graph.Graph, x, cos, sin *graph.Value, window int) *graph.Value {
	project := func(name string, heads int) *graph.Value {
		p := nn.Linear{Name: "self_attn." + name, Out: heads * m.HeadDim, Bias: m.QKVBias, OutAxis: "heads", InAxis: "embed", Std: m.Std}
		return nn.Heads(p.Build(b, l, x), heads)
	}
	q, k, v := project("q_proj", m.NumHeads), project("k_proj", m.NumKVHeads), project("v_proj", m.NumKVHeads)
	q, k = graph.Rotate(q, cos, sin, false), graph.Rotate(k, cos, sin, false)
	y := nn.Attention{Name: "self_attn", Window: window}.Build(b, l, q, k, v)
	return nn.Linear{Name: "self_attn.o_proj", Out: m.HiddenSize, Bias: m.OutBias, OutAxis: "embed", InAxis: "heads", Std: m.Std}.Build(b, l, y)
}

func (m *Llama) mlp(b *nn.Build, l *graph.Graph, x *graph.Value) *graph.Value {
	in := func(name string) *graph.Value {
		return nn.Linear{Name: "mlp." + name, Out: m.IntermediateSize, Bias: m.MLPBias, OutAxis: "mlp", InAxis: "embed", Std: m.Std}.Build(b, l, x)
	}
	y := graph.Gated(in("gate_proj"), in("up_proj"), m.Activation)
	return nn.Linear{Name: "mlp.down_proj", Out: m.HiddenSize, Bias: m.MLPBias, OutAxis: "embed", InAxis: "mlp", Std: m.Std}.Build(b, l, y)
}

// Head implements Model.
func (m *Llama) Head(b *nn.Build) *graph.Value {
	if m.TieEmbeddings {
		return b.Weight(b.G, "model.embed_tokens.weight", graph.Init{Std: m.Std}, []string{"vocab", "embed"}, m.info.VocabSize, m.HiddenSize)
	}
	return b.Weight(b.G, "lm_head.weight", graph.Init{Std: m.Std}, []string{"vocab", "embed"}, m.info.VocabSize, m.HiddenSize)
}
