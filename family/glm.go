package family

import (
	"danlu/graph"
	"danlu/nn"
)

func init() {
	register("glm", newGLM, "GlmForCausalLM")
	register("glm4", newGLM4, "Glm4ForCausalLM")
}

// GLM is GLM-4-9B (arXiv:2406.12793) in the library's layout, and GLM-4-0414, which also norms what attention and MLP
// add to the residual stream. Rotation covers the first half of each head, in adjacent pairs; gate and up are fused.
type GLM struct {
	Llama
	Sandwich bool // RMSNorm after attention and MLP
}

func newGLM(c *Config) (Model, error)  { return readGLM(c, "glm", false) }
func newGLM4(c *Config) (Model, error) { return readGLM(c, "glm4", true) }

func readGLM(c *Config, name string, sandwich bool) (Model, error) {
	m := &GLM{Llama: *readLlama(c, 10000), Sandwich: sandwich}
	m.NormEps = c.FloatOr("rms_norm_eps", 1.5625e-7)
	m.QKVBias = c.BoolOr("attention_bias", false)
	rotated := int(c.FloatOr("partial_rotary_factor", 0.5) * float64(m.HeadDim))
	m.Rope = c.Rope(rotated, c.IntOr("max_position_embeddings", 131072), 10000)
	if _, err := m.done(c, name); err != nil {
		return nil, err
	}
	return m, nil
}

// Hidden implements Model.
func (m *GLM) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("model.embed_tokens", m.info.VocabSize, m.HiddenSize, m.Std)
	b.Tap(b.G, "hidden.0", x)
	cos, sin := m.Rope.Tables(b)
	attention := nn.SelfAttention{Name: "self_attn", Heads: m.NumHeads, KVHeads: m.NumKVHeads, HeadDim: m.HeadDim, QKVBias: m.QKVBias,
		Std: m.Std, Cos: cos, Sin: sin, Interleaved: true}
	mlp := nn.GatedMLP{Name: "mlp", Fused: "gate_up_proj", Size: m.IntermediateSize, Activation: m.Activation, Std: m.Std}
	x = b.Layers("model.layers.%d.", 0, m.NumLayers, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		y := attention.Build(b, l, b.RMSNorm(l, "input_layernorm", x, m.NormEps))
		if m.Sandwich {
			y = b.RMSNorm(l, "post_self_attn_layernorm", y, m.NormEps)
		}
		x = nn.Add(x, y)
		y = mlp.Build(b, l, b.RMSNorm(l, "post_attention_layernorm", x, m.NormEps))
		if m.Sandwich {
			y = b.RMSNorm(l, "post_mlp_layernorm", y, m.NormEps)
		}
		return nn.Add(x, y)
	})
	x = b.RMSNorm(b.G, "model.norm", x, m.NormEps)
	b.Tap(b.G, "hidden.norm", x)
	return x
}
