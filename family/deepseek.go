package family

import (
	"fmt"
	"math"

	"danlu/dtype"
	"danlu/graph"
	"danlu/nn"
)

func init() { register("deepseek-v3", newDeepSeek, "DeepseekV3ForCausalLM") }

// DeepSeek is DeepSeek-V3 and R1 (arXiv:2412.19437, arXiv:2501.12948): multi-head latent attention; after the first
// dense layers, a mixture of experts with group-limited sigmoid routing, a selection bias instead of a balance loss, and
// shared experts.
type DeepSeek struct {
	info             Info
	HiddenSize       int
	IntermediateSize int
	NumLayers        int
	DenseLayers      int
	NormEps          float64
	Activation       graph.ActivationKind
	Rope             nn.Rope
	MLA              nn.MLA
	Experts          nn.Experts
	Routing          nn.GroupLimited
	SharedExperts    int
	MTPLayers        int
	TieEmbeddings    bool
	Std              float64
}

// latentEps is fixed in the released code, whatever rms_norm_eps says.
const latentEps = 1e-6

func newDeepSeek(c *Config) (Model, error) {
	m := &DeepSeek{
		HiddenSize: c.Int("hidden_size"), IntermediateSize: c.Int("intermediate_size"), NumLayers: c.Layers("num_hidden_layers"),
		DenseLayers: c.IntOr("first_k_dense_replace", 0), NormEps: c.FloatOr("rms_norm_eps", 1e-6), Activation: c.Activation("hidden_act", "silu"),
		SharedExperts: c.IntOr("n_shared_experts", 0), MTPLayers: c.IntOr("num_nextn_predict_layers", 0),
		TieEmbeddings: c.BoolOr("tie_word_embeddings", false), Std: c.InitializerRange(),
	}
	m.DenseLayers = min(m.DenseLayers, m.NumLayers)
	m.MLA = nn.MLA{Name: "self_attn", Heads: c.Int("num_attention_heads"), QRank: c.IntOr("q_lora_rank", 0), KVRank: c.Int("kv_lora_rank"),
		NopeDim: c.Int("qk_nope_head_dim"), RopeDim: c.Int("qk_rope_head_dim"), ValueDim: c.Int("v_head_dim"), NormEps: latentEps,
		Bias: c.BoolOr("attention_bias", false), Std: m.Std}
	m.Rope = c.Rope(m.MLA.RopeDim, c.IntOr("max_position_embeddings", 4096), 10000)
	m.MLA.Scale = 1 / math.Sqrt(float64(m.MLA.NopeDim+m.MLA.RopeDim))
	if s := m.Rope.Scaling; s.Type == "yarn" && s.MScaleAllDim != 0 {
		f := nn.YarnMScale(s.Factor, s.MScaleAllDim)
		m.MLA.Scale *= f * f
	}
	m.Experts = nn.Experts{Name: "mlp.experts", N: c.Int("n_routed_experts"), Size: c.Int("moe_intermediate_size"), Activation: m.Activation, Std: m.Std}
	m.Routing = nn.GroupLimited{K: c.Int("num_experts_per_tok"), Groups: c.IntOr("n_group", 1), TopGroups: c.IntOr("topk_group", 1),
		Normalise: c.BoolOr("norm_topk_prob", true), Scale: c.FloatOr("routed_scaling_factor", 1)}
	if r := m.Routing; r.Groups < 1 || m.Experts.N%r.Groups != 0 || r.TopGroups > r.Groups || r.TopGroups < 1 || m.Experts.N/r.Groups < 2 || r.K > m.Experts.N/r.Groups*r.TopGroups {
		c.Errorf("n_group", "%d groups of which %d count do not fit %d experts with %d per token", r.Groups, r.TopGroups, m.Experts.N, r.K)
	}
	c.Want("moe_layer_freq", 1)
	c.Want("scoring_func", "sigmoid")
	c.Want("topk_method", "noaux_tc")
	c.ignore("num_key_value_heads", "aux_loss_alpha", "seq_aux", "ep_size")
	vocab := c.Int("vocab_size")
	m.info = c.info("deepseek-v3")
	m.info.VocabSize, m.info.HiddenSize, m.info.NumLayers = vocab, m.HiddenSize, m.NumLayers
	m.info.MaxPosition, m.info.TiedHead = m.Rope.MaxPosition, m.TieEmbeddings
	m.info.Ignored = []string{"rotary_emb.inv_freq"}
	if m.MTPLayers > 1 {
		c.Errorf("num_nextn_predict_layers", "want at most 1, got %d", m.MTPLayers)
	}
	// The prediction module shares embedding and head with the model; checkpoints hold copies.
	m.info.Ignored = append(m.info.Ignored, fmt.Sprintf("model.layers.%d.embed_tokens.weight", m.NumLayers),
		fmt.Sprintf("model.layers.%d.shared_head.head.weight", m.NumLayers))
	return m, c.err
}

// Info implements Model.
func (m *DeepSeek) Info() Info { return m.info }

// ActiveExperts implements Sparse.
func (m *DeepSeek) ActiveExperts() int { return m.Routing.K }

// Hidden implements Model.
func (m *DeepSeek) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("model.embed_tokens", m.info.VocabSize, m.HiddenSize, m.Std)
	b.Tap(b.G, "hidden.0", x)
	attention := m.MLA
	attention.Cos, attention.Sin = m.Rope.Tables(b)
	dense := nn.GatedMLP{Name: "mlp", Size: m.IntermediateSize, Activation: m.Activation, Std: m.Std}
	x = b.Layers("model.layers.%d.", 0, m.DenseLayers, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		x = nn.Add(x, attention.Build(b, l, b.RMSNorm(l, "input_layernorm", x, m.NormEps)))
		return nn.Add(x, dense.Build(b, l, b.RMSNorm(l, "post_attention_layernorm", x, m.NormEps)))
	})
	x = b.Layers("model.layers.%d.", m.DenseLayers, m.NumLayers, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		x = nn.Add(x, attention.Build(b, l, b.RMSNorm(l, "input_layernorm", x, m.NormEps)))
		return nn.Add(x, m.moe(b, l, b.RMSNorm(l, "post_attention_layernorm", x, m.NormEps), m.DenseLayers))
	})
	x = b.RMSNorm(b.G, "model.norm", x, m.NormEps)
	b.Tap(b.G, "hidden.norm", x)
	return x
}

// MTPHidden implements MultiToken.
func (m *DeepSeek) MTPHidden(b *nn.Build, hidden *graph.Value) *graph.Value {
	if m.MTPLayers == 0 {
		return nil
	}
	t := hidden.Shape[1]
	shifted := *b
	shifted.Taps = false
	shifted.IDs = graph.Cut(b.IDs, 1, 1, t)
	if b.Mask.Segments != nil {
		shifted.Mask.Segments = graph.Cut(b.Mask.Segments, 1, 0, t-1)
	}
	cos, sin := m.Rope.Tables(b)
	return m.predict(&shifted, graph.Cut(hidden, 1, 0, t-1), graph.Cut(cos, 1, 0, t-1), graph.Cut(sin, 1, 0, t-1))
}

// MTPNext implements MultiToken.
func (m *DeepSeek) MTPNext(b *nn.Build, hidden *graph.Value) *graph.Value {
	if m.MTPLayers == 0 {
		return nil
	}
	cos, sin := m.Rope.Tables(b)
	return m.predict(b, hidden, cos, sin)
}

// predict is the prediction module on the build's ids, each of them the token behind a hidden state: the token's embedding
// and the state, each normed, are projected to one state that goes through a layer of its own (section 2.2; the released
// weights put the embedding first).
func (m *DeepSeek) predict(b *nn.Build, hidden, cos, sin *graph.Value) *graph.Value {
	attention := m.MLA
	attention.Cos, attention.Sin = cos, sin
	next, _ := b.Embedding("model.embed_tokens", m.info.VocabSize, m.HiddenSize, m.Std)
	return b.Layers("model.layers.%d.", m.NumLayers, m.NumLayers+1, hidden, func(l *graph.Graph, h *graph.Value) *graph.Value {
		both := graph.Join(2, b.RMSNorm(l, "enorm", next, m.NormEps), b.RMSNorm(l, "hnorm", h, m.NormEps))
		x := nn.Linear{Name: "eh_proj", Out: m.HiddenSize, OutAxis: "embed", Std: m.Std}.Build(b, l, both)
		x = nn.Add(x, attention.Build(b, l, b.RMSNorm(l, "input_layernorm", x, m.NormEps)))
		x = nn.Add(x, m.moe(b, l, b.RMSNorm(l, "post_attention_layernorm", x, m.NormEps), m.NumLayers))
		return b.RMSNorm(l, "shared_head.norm", x, m.NormEps)
	})
}

// moe is the sparse layer's MLP: x [B, T, D] → [B, T, D].
func (m *DeepSeek) moe(b *nn.Build, l *graph.Graph, x *graph.Value, first int) *graph.Value {
	rows := graph.ReshapeTo(x, x.Shape[0]*x.Shape[1], x.Shape[2])
	logits := b.Router(l, "mlp.gate", rows, m.Experts.N, m.Std)
	bias := l.State(graph.StateSpec{Label: "mlp.gate.e_score_correction_bias", Type: graph.Of(dtype.F32, m.Experts.N), Role: graph.Buffer, Axes: []string{""}})
	r := m.Routing.Route(logits, bias)
	b.Routed(l, "mlp.gate", first, logits, r)
	y := graph.ReshapeTo(m.Experts.Build(b, l, rows, r), x.Shape...)
	if m.SharedExperts > 0 {
		shared := nn.GatedMLP{Name: "mlp.shared_experts", Size: m.Experts.Size * m.SharedExperts, Activation: m.Activation, Std: m.Std}
		y = nn.Add(y, shared.Build(b, l, x))
	}
	return y
}

// NumExperts implements Sparse.
func (m *DeepSeek) NumExperts() int { return m.Experts.N }

// Head implements Model.
func (m *DeepSeek) Head(b *nn.Build) *graph.Value {
	name := "lm_head.weight"
	if m.TieEmbeddings {
		name = "model.embed_tokens.weight"
	}
	return b.Matrix(name, m.info.VocabSize, m.HiddenSize, m.Std)
}
