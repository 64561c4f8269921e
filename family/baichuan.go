package family

import (
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
)

func init() { register("baichuan", newBaichuan, "BaiChuanForCausalLM", "BaichuanForCausalLM") }

// Baichuan is Baichuan 7B and 13B and Baichuan 2 (arXiv:2309.10305): the LLaMA layer with one fused projection W_pack.
// The 13B models know positions by ALiBi instead of rotation; Baichuan 2 scales the rows of the head to length one.
type Baichuan struct {
	Llama
	Alibi    bool
	NormHead bool
}

// normHeadVocab is the vocabulary of the released Baichuan 2 models, by which their configs are told apart.
const normHeadVocab = 125696

func newBaichuan(c *Config) (Model, error) {
	// Released 13B configs have model_max_length and no max_position_embeddings: those use ALiBi.
	m := &Baichuan{Alibi: !c.Has("max_position_embeddings"), NormHead: c.IntOr("vocab_size", 0) == normHeadVocab}
	switch position := c.StringOr("position", ""); position {
	case "":
	case "alibi", "rope":
		m.Alibi = position == "alibi"
	default:
		c.Errorf("position", "want alibi or rope, got %q", position)
	}
	m.NormHead = c.BoolOr("norm_head", m.NormHead)
	m.Llama = *readLlama(c, 10000)
	m.Rope.MaxPosition = c.IntOr("model_max_length", m.Rope.MaxPosition)
	c.IntOr("z_loss_weight", 0)
	if _, err := m.done(c, "baichuan"); err != nil {
		return nil, err
	}
	return m, nil
}

// Hidden implements Model.
func (m *Baichuan) Hidden(b *nn.Build) *graph.Value {
	x, _ := b.Embedding("model.embed_tokens", m.info.VocabSize, m.HiddenSize, m.Std)
	b.Tap(b.G, "hidden.0", x)
	attention := nn.SelfAttention{Name: "self_attn", Fused: "W_pack", Heads: m.NumHeads, KVHeads: m.NumKVHeads, HeadDim: m.HeadDim, Std: m.Std}
	if m.Alibi {
		slopes := nn.AlibiSlopes(m.NumHeads)
		b.Mask.Slopes = b.G.Const(tensor.FromF32(slopes, len(slopes)))
	} else {
		attention.Cos, attention.Sin = m.Rope.Tables(b)
	}
	mlp := nn.GatedMLP{Name: "mlp", Size: m.IntermediateSize, Activation: m.Activation, Std: m.Std}
	x = b.Layers("model.layers.%d.", 0, m.NumLayers, x, func(l *graph.Graph, x *graph.Value) *graph.Value {
		x = nn.Add(x, attention.Build(b, l, b.RMSNorm(l, "input_layernorm", x, m.NormEps)))
		return nn.Add(x, mlp.Build(b, l, b.RMSNorm(l, "post_attention_layernorm", x, m.NormEps)))
	})
	x = b.RMSNorm(b.G, "model.norm", x, m.NormEps)
	b.Tap(b.G, "hidden.norm", x)
	return x
}

// Head implements Model.
func (m *Baichuan) Head(b *nn.Build) *graph.Value {
	w := m.Llama.Head(b)
	if m.NormHead {
		w = nn.UnitRows(w)
	}
	return w
}
