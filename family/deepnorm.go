package family

import (
	"math"

	"danlu/dtype"
	"danlu/graph"
	"danlu/nn"
)

func init() { register("glm-130b", newGLM130B, "GLM130B", "glm-130b") }

// DeepNormGLM is ChatGLM-6B (arXiv:2406.12793) and GLM-130B (arXiv:2210.02414): layers in DeepNorm form,
// x = LN(x); x = alpha·x + f(x), twice, with alpha = sqrt(2·layers), a fused projection per head, and the prefix before
// the answer visible to all tokens.
//
// ChatGLM-6B rotates the first half of each head by position and the second half by block position (2D); GLM-130B
// rotates the whole head by position and has a gated MLP.
type DeepNormGLM struct {
	info             Info
	HiddenSize       int
	IntermediateSize int
	NumLayers        int
	NumHeads         int
	NormEps          float64
	Rope             nn.Rope
	TwoD             bool
	Gated            bool
	// HalfFreq rounds the inverse frequencies to float16, as the released ChatGLM-6B code does.
	HalfFreq      bool
	TieEmbeddings bool
	// EmbeddingShrink is the share of the input embedding's gradient that is kept (GLM-130B, section 2.4: 0.1); 1: all.
	EmbeddingShrink float64
	Std             float64
	blanks
}

func newChatGLM1(c *Config) (Model, error) {
	m := &DeepNormGLM{
		HiddenSize: c.Int("hidden_size"), IntermediateSize: c.Int("inner_hidden_size"), NumLayers: c.Layers("num_layers"),
		NumHeads: c.Int("num_attention_heads"), NormEps: c.FloatOr("layernorm_epsilon", 1e-5), TwoD: true, EmbeddingShrink: 1, Std: c.InitializerRange(),
	}
	c.Want("position_encoding_2d", true)
	c.ignore("pre_seq_len", "prefix_projection", "quantization_bit")
	m.HalfFreq = c.BoolOr("inv_freq_fp16", false)
	if _, err := m.done(c, "chatglm", c.IntOr("max_sequence_length", 2048), 4); err != nil {
		return nil, err
	}
	m.info.CopiedHead = true
	return m, nil
}

func newGLM130B(c *Config) (Model, error) {
	m := &DeepNormGLM{
		HiddenSize: c.Int("hidden_size"), IntermediateSize: c.Int("inner_hidden_size"), NumLayers: c.Layers("num_layers"),
		NumHeads: c.Int("num_attention_heads"), NormEps: c.FloatOr("layernorm_epsilon", 1e-5), Gated: true, TieEmbeddings: true,
		EmbeddingShrink: c.FloatOr("embedding_gradient_shrink", 1), Std: c.InitializerRange(),
	}
	c.Want("layernorm_order", "post")
	c.Want("position_encoding_2d", false)
	c.Want("no_glu", false)
	// The same in the words of other configs of the model.
	c.Want("use_deepnorm", true)
	c.Want("activation", "geglu")
	c.Want("position_encoding", "rotary 1d")
	c.Want("bias", true)
	c.ignore("params_dtype")
	c.ignore("model_class", "tokenizer_type", "model_parallel_size")
	return m.done(c, "glm-130b", c.IntOr("max_sequence_length", 2048), 1)
}

// done finishes either model; a head is rotated in parts of K/split pairs.
func (m *DeepNormGLM) done(c *Config, name string, context, split int) (Model, error) {
	if m.HiddenSize%m.NumHeads != 0 {
		c.Errorf("num_attention_heads", "want a divisor of hidden_size %d, got %d", m.HiddenSize, m.NumHeads)
		return nil, c.err
	}
	rotated := m.HiddenSize / m.NumHeads
	if split > 1 {
		rotated /= 2
	}
	m.Rope = nn.Rope{Dim: rotated, Theta: 10000, MaxPosition: context}
	if err := m.Rope.Validate(); err != nil {
		c.Errorf("num_attention_heads", "%v", err)
	}
	vocab := c.Int("vocab_size")
	m.blanks = readBlanks(c)
	if m.TwoD && m.tokens.SOP < 0 { // ChatGLM-6B's begin and end of text are its start and end of piece
		m.tokens.SOP, m.tokens.EOP = int32(c.Token("bos_token_id")), int32(c.Token("eos_token_id"))
	}
	m.info = c.info(name)
	m.info.VocabSize, m.info.HiddenSize, m.info.NumLayers, m.info.MaxPosition = vocab, m.HiddenSize, m.NumLayers, context
	m.info.PositionRows = 2
	m.info.TiedHead = m.TieEmbeddings
	m.info.Ignored = []string{"rotary_emb.inv_freq"}
	return m, c.err
}

// Info implements Model.
func (m *DeepNormGLM) Info() Info { return m.info }

// Layout implements Layouter. Up to the start-of-piece token tokens count up and see each other; behind it, ChatGLM-6B's
// stay at the mask's position and count block positions, while GLM-130B's go on counting where a [gMASK] is filled.
func (m *DeepNormGLM) Layout(ids []int32) (positions [][]int32, prefix int) {
	return m.layout(ids, !m.TwoD)
}

// Hidden implements Model.
func (m *DeepNormGLM) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("transformer.word_embeddings", m.info.VocabSize, m.HiddenSize, m.Std)
	if m.EmbeddingShrink != 1 {
		x = graph.Add(graph.MulScalar(x, m.EmbeddingShrink), graph.MulScalar(graph.NoGrad(x), 1-m.EmbeddingShrink))
	}
	b.Tap(b.G, "hidden.0", x)
	rotate := m.rotation(b)
	alpha := math.Sqrt(2 * float64(m.NumLayers))
	x = b.Layers("transformer.layers.%d.", 0, m.NumLayers, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		h := b.LayerNorm(l, "input_layernorm", x, m.NormEps)
		x = nn.Add(scaled(h, alpha), m.attention(b, l, h, rotate))
		h = b.LayerNorm(l, "post_attention_layernorm", x, m.NormEps)
		return nn.Add(scaled(h, alpha), m.mlp(b, l, h))
	})
	x = b.LayerNorm(b.G, "transformer.final_layernorm", x, m.NormEps)
	b.Tap(b.G, "hidden.norm", x)
	return x
}

// scaled is alpha·x as the residual stream, in float32.
func scaled(x *graph.Value, alpha float64) *graph.Value {
	return graph.MulScalar(graph.Convert(x, dtype.F32), alpha)
}

// rotation returns the rotation of q and k [B, T, H, K].
func (m *DeepNormGLM) rotation(b *nn.Build) func(x *graph.Value) *graph.Value {
	row := func(i int) *graph.Value { return graph.Cut(b.Positions, 0, i, i+1) }
	inv, _ := m.Rope.InvFreq(0)
	freq := b.G.Const(nn.Frequencies(inv, m.HalfFreq))
	cos, sin := graph.RotaryTables(row(0), freq, nil, 1)
	if !m.TwoD {
		return func(x *graph.Value) *graph.Value { return graph.Rotate(x, cos, sin, false) }
	}
	blockCos, blockSin := graph.RotaryTables(row(1), freq, nil, 1)
	return func(x *graph.Value) *graph.Value {
		k := x.Last()
		first, second := graph.Cut(x, 3, 0, k/2), graph.Cut(x, 3, k/2, k)
		return graph.Join(3, graph.Rotate(first, cos, sin, false), graph.Rotate(second, blockCos, blockSin, false))
	}
}

func (m *DeepNormGLM) attention(b *nn.Build, l *graph.Graph, x *graph.Value, rotate func(*graph.Value) *graph.Value) *graph.Value {
	k := m.HiddenSize / m.NumHeads
	qkv := nn.Linear{Name: "attention.query_key_value", Out: 3 * m.HiddenSize, Bias: true, OutAxis: "heads", InAxis: "embed", Std: m.Std}.Build(b, l, x)
	heads := nn.Heads(qkv, m.NumHeads) // each head holds its q, k and v
	part := func(i int) *graph.Value { return graph.Cut(heads, 3, i*k, (i+1)*k) }
	y := nn.Attention{Name: "attention"}.Build(b, l, rotate(part(0)), rotate(part(1)), part(2))
	return nn.Linear{Name: "attention.dense", Out: m.HiddenSize, Bias: true, OutAxis: "embed", InAxis: "heads", Std: m.Std}.Build(b, l, y)
}

func (m *DeepNormGLM) mlp(b *nn.Build, l *graph.Graph, x *graph.Value) *graph.Value {
	in := func(size int) *graph.Value {
		return nn.Linear{Name: "mlp.dense_h_to_4h", Out: size, Bias: true, OutAxis: "mlp", InAxis: "embed", Std: m.Std}.Build(b, l, x)
	}
	var y *graph.Value
	if m.Gated {
		y = graph.GatedFused(in(2*m.IntermediateSize), graph.GELU, true)
	} else {
		y = graph.Activate(in(m.IntermediateSize), graph.GELUTanh)
	}
	return nn.Linear{Name: "mlp.dense_4h_to_h", Out: m.HiddenSize, Bias: true, OutAxis: "embed", InAxis: "mlp", Std: m.Std}.Build(b, l, y)
}

// Head implements Model.
func (m *DeepNormGLM) Head(b *nn.Build) *graph.Value {
	name := "lm_head.weight"
	if m.TieEmbeddings {
		name = "transformer.word_embeddings.weight"
	}
	return b.Matrix(name, m.info.VocabSize, m.HiddenSize, m.Std)
}
