package family

import (
	"slices"

	"danlu/dtype"
	"danlu/graph"
	"danlu/nn"
)

func init() {
	register("qwen2-moe", newQwen2MoE, "Qwen2MoeForCausalLM")
	register("qwen3-moe", newQwen3MoE, "Qwen3MoeForCausalLM")
}

// QwenMoE is Qwen1.5-MoE, Qwen2-57B-A14B and Qwen3-MoE (arXiv:2505.09388): the dense layer with its MLP replaced, in the
// sparse layers, by experts with softmax routing; Qwen 1.5 and 2 add a shared expert behind a sigmoid gate.
type QwenMoE struct {
	Llama
	Experts    nn.Experts
	K          int
	Normalise  bool
	SharedSize int // 0: no shared expert
	sparse     []bool
}

func newQwen2MoE(c *Config) (Model, error) {
	m := readQwenMoE(c)
	m.QKVBias = c.BoolOr("qkv_bias", true)
	m.SharedSize = c.Int("shared_expert_intermediate_size")
	return m.finish(c, "qwen2-moe")
}

func newQwen3MoE(c *Config) (Model, error) {
	m := readQwenMoE(c)
	m.QKNorm = true
	m.QKVBias = c.BoolOr("attention_bias", false)
	m.OutBias = m.QKVBias
	return m.finish(c, "qwen3-moe")
}

func readQwenMoE(c *Config) *QwenMoE {
	m := &QwenMoE{Llama: *readLlama(c, 1e6), K: c.IntOr("num_experts_per_tok", 8), Normalise: c.BoolOr("norm_topk_prob", false)}
	m.Experts = nn.Experts{Name: "mlp.experts", N: c.Int("num_experts"), Size: c.Int("moe_intermediate_size"), Activation: m.Activation, Std: m.Std}
	if m.K < 1 || m.K > m.Experts.N {
		c.Errorf("num_experts_per_tok", "want 1 to %d, got %d", m.Experts.N, m.K)
	}
	var denseOnly []int
	c.get("mlp_only_layers", &denseOnly)
	step := max(1, c.IntOr("decoder_sparse_step", 1))
	for i := range m.NumLayers {
		m.sparse = append(m.sparse, !slices.Contains(denseOnly, i) && (i+1)%step == 0)
	}
	c.Want("use_sliding_window", false)
	c.ignore("sliding_window", "max_window_layers", "output_router_logits", "router_aux_loss_coef")
	return m
}

func (m *QwenMoE) finish(c *Config, name string) (Model, error) {
	if _, err := m.done(c, name); err != nil {
		return nil, err
	}
	return m, nil
}

// ActiveExperts implements Sparse.
func (m *QwenMoE) ActiveExperts() int { return m.K }

// Hidden implements Model.
func (m *QwenMoE) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("model.embed_tokens", m.info.VocabSize, m.HiddenSize, m.Std)
	b.Tap(b.G, "hidden.0", x)
	attention := nn.SelfAttention{Name: "self_attn", Heads: m.NumHeads, KVHeads: m.NumKVHeads, HeadDim: m.HeadDim, QKVBias: m.QKVBias, OutBias: m.OutBias, Std: m.Std}
	attention.Cos, attention.Sin = m.Rope.Tables(b)
	if m.QKNorm {
		attention.QKNormEps = m.NormEps
	}
	dense := nn.GatedMLP{Name: "mlp", Size: m.IntermediateSize, Activation: m.Activation, Std: m.Std}
	for from := 0; from < m.NumLayers; {
		to := from + 1 // the end of a run of equal layers
		for to < m.NumLayers && m.sparse[to] == m.sparse[from] {
			to++
		}
		x = b.Layers("model.layers.%d.", from, to, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
			x = nn.Add(x, attention.Build(b, l, b.RMSNorm(l, "input_layernorm", x, m.NormEps)))
			h := b.RMSNorm(l, "post_attention_layernorm", x, m.NormEps)
			if m.sparse[from] {
				return nn.Add(x, m.moe(b, l, h, from))
			}
			return nn.Add(x, dense.Build(b, l, h))
		})
		from = to
	}
	x = b.RMSNorm(b.G, "model.norm", x, m.NormEps)
	b.Tap(b.G, "hidden.norm", x)
	return x
}

// NumExperts implements Sparse.
func (m *QwenMoE) NumExperts() int { return m.Experts.N }

// moe is the sparse layer's MLP: x [B, T, D] → [B, T, D].
func (m *QwenMoE) moe(b *nn.Build, l *graph.Graph, x *graph.Value, first int) *graph.Value {
	rows := graph.ReshapeTo(x, x.Shape[0]*x.Shape[1], x.Shape[2])
	logits := b.Router(l, "mlp.gate", rows, m.Experts.N, m.Std)
	r := nn.SoftmaxRouting(logits, m.K, m.Normalise)
	b.Routed(l, "mlp.gate", first, logits, r)
	y := graph.ReshapeTo(m.Experts.Build(b, l, rows, r), x.Shape...)
	if m.SharedSize > 0 {
		shared := nn.GatedMLP{Name: "mlp.shared_expert", Size: m.SharedSize, Activation: m.Activation, Std: m.Std}.Build(b, l, x)
		gate := graph.Sigmoid(graph.Convert(b.Router(l, "mlp.shared_expert_gate", rows, 1, m.Std), dtype.F32))
		y = nn.Add(y, graph.Mul(graph.Convert(shared, dtype.F32), graph.ReshapeTo(gate, x.Shape[0], x.Shape[1], 1)))
	}
	return y
}
