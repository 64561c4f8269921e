package family

import (
	"danlu/dtype"
	"danlu/graph"
	"danlu/nn"
)

func init() {
	register("glm-infilling", newInfillingGLM, "GLMModel", "GLMForConditionalGeneration", "GLMForMultipleChoice")
}

// InfillingGLM is the original GLM (Du et al., arXiv:2103.10360): a pre-norm transformer with learned positions in two
// rows (place in the corrupted text, place in the span), trained by autoregressive blank infilling. The text before the
// spans is visible to all tokens; the output matrix is the word embedding.
type InfillingGLM struct {
	info       Info
	HiddenSize int
	NumLayers  int
	NumHeads   int
	Positions  int // of each table
	Activation graph.ActivationKind
	Std        float64
	blanks
}

// infillingEps is fixed in the released code.
const infillingEps = 1e-5

func newInfillingGLM(c *Config) (Model, error) {
	m := &InfillingGLM{HiddenSize: c.Int("hidden_size"), NumLayers: c.Layers("num_layers"), NumHeads: c.Int("num_attention_heads"),
		Positions: c.Int("max_sequence_length") + 1, Activation: c.Activation("hidden_act", "gelu_new"), Std: c.InitializerRange()}
	if m.HiddenSize%m.NumHeads != 0 {
		c.Errorf("num_attention_heads", "want a divisor of hidden_size %d, got %d", m.HiddenSize, m.NumHeads)
	}
	c.Want("block_position_encoding", true)
	c.Want("relative_encoding", false)
	c.Want("attention_scale", 1)
	c.Want("max_memory_length", 0)
	c.ignore("attention_dropout_prob", "embedding_dropout_prob", "output_dropout_prob", "checkpoint_activations", "checkpoint_num_layers",
		"output_predict", "parallel_output", "pool_token", "spell_func", "spell_length", "use_scaled_init_for_output_weights")
	vocab := c.Int("vocab_size")
	m.blanks = readBlanks(c)
	m.info = c.info("glm-infilling")
	m.info.VocabSize, m.info.HiddenSize, m.info.NumLayers, m.info.MaxPosition = vocab, m.HiddenSize, m.NumLayers, m.Positions-1
	m.info.PositionRows, m.info.TiedHead = 2, true
	return m, c.err
}

// Info implements Model.
func (m *InfillingGLM) Info() Info { return m.info }

// Layout implements Layouter.
func (m *InfillingGLM) Layout(ids []int32) (positions [][]int32, prefix int) {
	return m.layout(ids, false)
}

// Hidden implements Model.
func (m *InfillingGLM) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("word_embeddings", m.info.VocabSize, m.HiddenSize, m.Std)
	for row, name := range []string{"transformer.position_embeddings.weight", "transformer.block_position_embeddings.weight"} {
		table := b.Weight(b.G, name, graph.Init{Std: m.Std}, []string{"", "embed"}, m.Positions, m.HiddenSize)
		at := graph.ReshapeTo(graph.Cut(b.Positions, 0, row, row+1), b.IDs.Shape...)
		x = nn.Add(x, graph.Embed(table, at, dtype.F32))
	}
	b.Tap(b.G, "hidden.0", x)
	attention := nn.SelfAttention{Name: "attention", Fused: "query_key_value", Out: "dense", Heads: m.NumHeads, KVHeads: m.NumHeads,
		HeadDim: m.HiddenSize / m.NumHeads, QKVBias: true, OutBias: true, Std: m.Std}
	x = b.Layers("transformer.layers.%d.", 0, m.NumLayers, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		x = nn.Add(x, attention.Build(b, l, b.LayerNorm(l, "input_layernorm", x, infillingEps)))
		return nn.Add(x, m.mlp(b, l, b.LayerNorm(l, "post_attention_layernorm", x, infillingEps)))
	})
	x = b.LayerNorm(b.G, "transformer.final_layernorm", x, infillingEps)
	b.Tap(b.G, "hidden.norm", x)
	return x
}

func (m *InfillingGLM) mlp(b *nn.Build, l *graph.Graph, x *graph.Value) *graph.Value {
	y := nn.Linear{Name: "mlp.dense_h_to_4h", Out: 4 * m.HiddenSize, Bias: true, OutAxis: "mlp", InAxis: "embed", Std: m.Std}.Build(b, l, x)
	return nn.Linear{Name: "mlp.dense_4h_to_h", Out: m.HiddenSize, Bias: true, OutAxis: "embed", InAxis: "mlp", Std: m.Std}.Build(b, l, graph.Activate(y, m.Activation))
}

// Head implements Model.
func (m *InfillingGLM) Head(b *nn.Build) *graph.Value {
	return b.Matrix("word_embeddings.weight", m.info.VocabSize, m.HiddenSize, m.Std)
}
