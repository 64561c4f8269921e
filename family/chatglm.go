package family

import (
	"strings"

	"danlu/graph"
	"danlu/nn"
)

func init() {
	// ChatGLM-6B and its successors share an architecture name; their configs differ.
	register("chatglm", newChatGLM, "ChatGLMModel", "ChatGLMForConditionalGeneration", "ChatGLMForCausalLM")
}

func newChatGLM(c *Config) (Model, error) {
	if c.Has("inner_hidden_size") {
		return newChatGLM1(c)
	}
	return newChatGLM2(c)
}

// ChatGLM2 is ChatGLM2-6B, ChatGLM3-6B, CodeGeeX2-6B and GLM-4-9B in their own layout (arXiv:2406.12793): RMSNorm,
// SwiGLU, multi-query groups, one fused projection, rotation of the first half of each head in adjacent pairs.
type ChatGLM2 struct {
	info             Info
	HiddenSize       int
	IntermediateSize int
	NumLayers        int
	NumHeads         int
	NumKVHeads       int
	HeadDim          int
	NormEps          float64
	Rope             nn.Rope
	QKVBias, Bias    bool
	PostNorm         bool
	TieEmbeddings    bool
	Std              float64
}

func newChatGLM2(c *Config) (Model, error) {
	m := &ChatGLM2{
		HiddenSize: c.Int("hidden_size"), IntermediateSize: c.Int("ffn_hidden_size"), NumLayers: c.Layers("num_layers"),
		NumHeads: c.Int("num_attention_heads"), NormEps: c.FloatOr("layernorm_epsilon", 1e-5), QKVBias: c.BoolOr("add_qkv_bias", false),
		Bias: c.BoolOr("add_bias_linear", false), PostNorm: c.BoolOr("post_layer_norm", true), TieEmbeddings: c.BoolOr("tie_word_embeddings", false),
		Std: c.InitializerRange(),
	}
	m.HeadDim = c.IntOr("kv_channels", m.HiddenSize/m.NumHeads)
	m.NumKVHeads = m.NumHeads
	if c.BoolOr("multi_query_attention", false) {
		m.NumKVHeads = c.Int("multi_query_group_num")
	}
	if m.NumKVHeads <= 0 || m.NumHeads%m.NumKVHeads != 0 {
		c.Errorf("multi_query_group_num", "want a divisor of num_attention_heads %d, got %d", m.NumHeads, m.NumKVHeads)
		m.NumKVHeads = m.NumHeads
	}
	m.Rope = c.Rope(m.HeadDim/2, c.IntOr("seq_length", 2048), 10000)
	m.Rope.Theta *= c.FloatOr("rope_ratio", 1)
	m.Rope.Interleaved = true
	c.Want("rmsnorm", true)
	c.Want("original_rope", true)
	c.Want("apply_residual_connection_post_layernorm", false)
	c.ignore("apply_query_key_layer_scaling", "attention_softmax_in_fp32", "bias_dropout_fusion", "fp32_residual_connection",
		"interleaved_qkv", "pre_seq_len", "prefix_projection", "quantization_bit", "multi_query_group_num", "classifier_dropout")
	vocab := c.IntOr("padded_vocab_size", c.IntOr("vocab_size", 0))
	if vocab <= 0 {
		c.Errorf("padded_vocab_size", "want a positive number, got %d", vocab)
	}
	c.IntOr("vocab_size", 0)
	m.info = c.info("chatglm2")
	m.info.VocabSize, m.info.HiddenSize, m.info.NumLayers = vocab, m.HiddenSize, m.NumLayers
	m.info.MaxPosition, m.info.TiedHead = m.Rope.MaxPosition, m.TieEmbeddings
	m.info.Ignored = []string{"rotary_pos_emb.inv_freq"}
	return m, c.err
}

// Info implements Model.
func (m *ChatGLM2) Info() Info { return m.info }

// Hidden implements Model.
func (m *ChatGLM2) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("transformer.embedding.word_embeddings", m.info.VocabSize, m.HiddenSize, m.Std)
	b.Tap(b.G, "hidden.0", x)
	cos, sin := m.Rope.Tables(b)
	attention := nn.SelfAttention{Name: "self_attention", Fused: "query_key_value", Out: "dense", Heads: m.NumHeads, KVHeads: m.NumKVHeads,
		HeadDim: m.HeadDim, QKVBias: m.QKVBias || m.Bias, OutBias: m.Bias, Std: m.Std, Cos: cos, Sin: sin, Interleaved: true}
	mlp := nn.GatedMLP{Name: "mlp", Fused: "dense_h_to_4h", Down: "dense_4h_to_h", Size: m.IntermediateSize, Bias: m.Bias, Activation: graph.SiLU, Std: m.Std}
	x = b.Layers("transformer.encoder.layers.%d.", 0, m.NumLayers, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		x = nn.Add(x, attention.Build(b, l, b.RMSNorm(l, "input_layernorm", x, m.NormEps)))
		return nn.Add(x, mlp.Build(b, l, b.RMSNorm(l, "post_attention_layernorm", x, m.NormEps)))
	})
	if m.PostNorm {
		x = b.RMSNorm(b.G, "transformer.encoder.final_layernorm", x, m.NormEps)
	}
	b.Tap(b.G, "hidden.norm", x)
	return x
}

// Head implements Model.
func (m *ChatGLM2) Head(b *nn.Build) *graph.Value {
	name := "transformer.output_layer.weight"
	if m.TieEmbeddings {
		name = strings.Replace(name, "output_layer", "embedding.word_embeddings", 1)
	}
	return b.Matrix(name, m.info.VocabSize, m.HiddenSize, m.Std)
}
