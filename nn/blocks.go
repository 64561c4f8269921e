package nn

import (
	"math"

	"danlu/dtype"
	"danlu/graph"
)

// SelfAttention is the attention block of decoder models: projections, rotation, attention, output projection.
// Parameters are Name.q_proj and so on, or one fused projection whose rows are [q heads | k heads | v heads].
type SelfAttention struct {
	Name             string // "self_attn"
	Fused            string // name of the fused projection under Name; "": q_proj, k_proj, v_proj
	Out              string // name of the output projection; "": o_proj
	Heads, KVHeads   int
	HeadDim          int
	QKVBias, OutBias bool
	QKNormEps        float64 // RMSNorm of each head of q and k before rotation (q_norm, k_norm); 0: none
	Window           int
	Scale            float64
	Std              float64
	Cos, Sin         *graph.Value // nil: no rotation
	Interleaved      bool
	Dual             *DualTables // instead of Cos and Sin, where texts have several chunks; nil: they have one
}

// Build adds the block: x [B, T, D] → [B, T, D].
func (p SelfAttention) Build(b *Build, l *graph.Graph, x *graph.Value) *graph.Value {
	q, k, v := p.project(b, l, x)
	if p.QKNormEps > 0 {
		q = b.RMSNorm(l, p.Name+".q_norm", q, p.QKNormEps)
		k = b.RMSNorm(l, p.Name+".k_norm", k, p.QKNormEps)
	}
	var y *graph.Value
	if p.Dual != nil {
		y = p.Dual.attend(b, q, k, v)
	} else {
		if p.Cos != nil {
			q, k = graph.Rotate(q, p.Cos, p.Sin, p.Interleaved), graph.Rotate(k, p.Cos, p.Sin, p.Interleaved)
		}
		y = Attention{Name: p.Name, Window: p.Window, Scale: p.Scale}.Build(b, l, q, k, v)
	}
	return Linear{Name: p.Name + "." + or(p.Out, "o_proj"), Out: x.Last(), Bias: p.OutBias, OutAxis: "embed", InAxis: "heads", Std: p.Std}.Build(b, l, y)
}

// project makes q [B, T, H, K], k and v [B, T, G, K].
func (p SelfAttention) project(b *Build, l *graph.Graph, x *graph.Value) (q, k, v *graph.Value) {
	linear := func(name, axis string, heads int) *graph.Value {
		return Linear{Name: p.Name + "." + name, Out: heads * p.HeadDim, Bias: p.QKVBias, OutAxis: axis, InAxis: "embed", Std: p.Std}.Build(b, l, x)
	}
	if p.Fused == "" {
		return Heads(linear("q_proj", "heads", p.Heads), p.Heads), Heads(linear("k_proj", "kv_heads", p.KVHeads), p.KVHeads), Heads(linear("v_proj", "kv_heads", p.KVHeads), p.KVHeads)
	}
	qkv := Heads(linear(p.Fused, "heads", p.Heads+2*p.KVHeads), p.Heads+2*p.KVHeads)
	h, g := p.Heads, p.KVHeads
	return graph.Cut(qkv, 2, 0, h), graph.Cut(qkv, 2, h, h+g), graph.Cut(qkv, 2, h+g, h+2*g)
}

// GatedMLP is act(gate(x)) * up(x), projected back. Gate and up are projections of their own, or the halves of one fused
// projection.
type GatedMLP struct {
	Name           string // "mlp"
	Gate, Up, Down string // names under Name; "": gate_proj, up_proj, down_proj
	Fused          string // name of the fused projection [gate; up]; "": none
	UpFirst        bool   // the fused projection is [up; gate]
	Size           int    // F
	Bias           bool
	Activation     graph.ActivationKind
	Std            float64
}

// Build adds the block: x [B, T, D] → [B, T, D].
func (p GatedMLP) Build(b *Build, l *graph.Graph, x *graph.Value) *graph.Value {
	in := func(name string, size int) *graph.Value {
		return Linear{Name: p.Name + "." + name, Out: size, Bias: p.Bias, OutAxis: "mlp", InAxis: "embed", Std: p.Std}.Build(b, l, x)
	}
	var y *graph.Value
	if p.Fused != "" {
		y = graph.GatedFused(in(p.Fused, 2*p.Size), p.Activation, p.UpFirst)
	} else {
		y = graph.Gated(in(or(p.Gate, "gate_proj"), p.Size), in(or(p.Up, "up_proj"), p.Size), p.Activation)
	}
	return Linear{Name: p.Name + "." + or(p.Down, "down_proj"), Out: x.Last(), Bias: p.Bias, OutAxis: "embed", InAxis: "mlp", Std: p.Std}.Build(b, l, y)
}

func or(name, def string) string {
	if name == "" {
		return def
	}
	return name
}

// LayerNorm is the norm with parameters name.weight and name.bias [D].
func (b *Build) LayerNorm(l *graph.Graph, name string, x *graph.Value, eps float64) *graph.Value {
	w := b.Weight(l, name+".weight", graph.Init{Mean: 1}, []string{""}, x.Last())
	bias := b.Weight(l, name+".bias", graph.Init{}, []string{""}, x.Last())
	return graph.NormLayer(x, w, bias, eps, b.Policy.Act)
}

// UnitRows scales each row of a matrix [V, D] to length one (the NormHead of Baichuan 2).
func UnitRows(w *graph.Value) *graph.Value {
	w = graph.Convert(w, dtype.F32)
	norm := graph.Sqrt(graph.SumKeep(graph.Mul(w, w), -1))
	// torch.nn.functional.normalize divides by at least 1e-12
	return graph.Div(w, graph.Max(norm, graph.ConstLike(norm, 1e-12)))
}

// AlibiSlopes are the head slopes of ALiBi (Press et al., arXiv:2108.12409): powers of 2^(-8/n), and for a head count
// that is no power of two, those of the next lower power followed by every other one of the doubled power.
func AlibiSlopes(heads int) []float32 {
	power := 1
	for power*2 <= heads {
		power *= 2
	}
	slopes := make([]float32, 0, heads)
	for i := range power {
		slopes = append(slopes, float32(math.Exp2(-8*float64(i+1)/float64(power))))
	}
	for i := 0; len(slopes) < heads; i++ {
		slopes = append(slopes, float32(math.Exp2(-8*float64(2*i+1)/float64(2*power))))
	}
	return slopes
}
