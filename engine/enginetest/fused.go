package enginetest

import (
	"fmt"
	"math"

	"danlu/dtype"
	"danlu/graph"
)

// Fused are the cases of fused operations; their gradients run the fused gradient operations.
func Fused() []Case {
	var cases []Case
	add := func(c Case) { cases = append(cases, c) }
	both := func(c func(d dtype.DType) Case) {
		add(c(dtype.F32))
		add(inBF16(c(dtype.BF16)))
	}
	for _, mkn := range [][3]int{{1, 1, 1}, {5, 7, 3}, {17, 65, 33}} {
		for _, bias := range []Operand{{}, f32(mkn[2])} {
			both(func(d dtype.DType) Case {
				return Case{Name: fmt.Sprintf("linear %v bias %v", mkn, !bias.Type.IsZero()), In: []Operand{f32(1, mkn[0], mkn[1]), f32(mkn[2], mkn[1]), bias},
					Build: one(graph.Linear{Compute: d}), Terms: mkn[0] + mkn[1] + mkn[2]}
			})
		}
		add(Case{Name: fmt.Sprintf("linear mixed %v", mkn), In: []Operand{f32(mkn[0], mkn[1]), f32(mkn[2], mkn[1]), {}},
			Build: one(graph.Linear{Compute: dtype.BF16, Out: dtype.BF16}), Terms: mkn[0] + mkn[1] + mkn[2]})
		for _, w := range []Operand{{}, f32(mkn[1])} {
			both(func(d dtype.DType) Case {
				return Case{Name: fmt.Sprintf("rms_norm %v weight %v", mkn, !w.Type.IsZero()), In: []Operand{f32(mkn[0], 2, mkn[1]), w}, Build: one(graph.RMSNorm{Eps: 1e-5, Out: d}), Terms: 2*mkn[0] + mkn[1]}
			})
			for _, b := range []Operand{{}, f32(mkn[1])} {
				if mkn[1] == 1 {
					continue // the output does not depend on x
				}
				both(func(d dtype.DType) Case {
					return Case{Name: fmt.Sprintf("layer_norm %v weight %v bias %v", mkn, !w.Type.IsZero(), !b.Type.IsZero()), In: []Operand{f32(mkn[0], 2, mkn[1]), w, b},
						Build: one(graph.LayerNorm{Eps: 1e-5, Out: d}), Terms: 2*mkn[0] + mkn[1]}
				})
			}
		}
	}
	both(func(d dtype.DType) Case {
		return Case{Name: "embedding", In: []Operand{f32(11, 7), ids(11, 2, 9)}, Build: one(graph.Embedding{Out: d}), Terms: 18}
	})
	both(func(dtype.DType) Case {
		key := Operand{Type: graph.Of(dtype.U32, 2), Fill: Values, Values: []float64{42, 7}, NoGrad: true}
		return Case{Name: "dropout", In: []Operand{f32(3, 211), key}, Build: one(graph.Dropout{Rate: 0.3, Stream: 5})}
	})
	for _, n := range []int{1, 9, 40} {
		both(func(dtype.DType) Case {
			return Case{Name: fmt.Sprintf("softmax %d", n), In: []Operand{f32(3, n)}, Build: one(graph.Softmax{}), Terms: n}
		})
		for k := graph.SiLU; k <= graph.QuickGELU; k++ {
			both(func(dtype.DType) Case {
				return Case{Name: fmt.Sprintf("%v %d", k, n), In: []Operand{spread(3, n)}, Build: one(graph.Activation{Kind: k})}
			})
			both(func(dtype.DType) Case {
				return Case{Name: fmt.Sprintf("glu %v %d", k, n), In: []Operand{spread(3, n), f32(3, n)}, Build: one(graph.GLU{Kind: k})}
			})
			for _, up := range []bool{false, true} {
				both(func(dtype.DType) Case {
					return Case{Name: fmt.Sprintf("glu fused %v %d %v", k, n, up), In: []Operand{spread(3, 2*n)}, Build: one(graph.GLU{Kind: k, UpFirst: up})}
				})
			}
		}
	}
	for _, inter := range []bool{false, true} {
		for _, inv := range []bool{false, true} {
			both(func(dtype.DType) Case {
				return Case{Name: fmt.Sprintf("rope %v %v", inter, inv), In: []Operand{f32(2, 3, 5, 10), {Type: graph.Of(dtype.F32, 2, 3, 4), NoGrad: true}, {Type: graph.Of(dtype.F32, 2, 3, 4), NoGrad: true}},
					Build: func(in []*graph.Value) []*graph.Value {
						return graph.Apply(graph.RoPE{Interleaved: inter, Inverse: inv}, in[0], graph.Convert(in[1], dtype.F32), graph.Convert(in[2], dtype.F32))
					}}
			})
		}
	}
	freq := Operand{Type: graph.Of(dtype.F32, 4), Fill: Values, Values: []float64{1, 0.1, 0.01, 0.001}, NoGrad: true}
	add(Case{Name: "rotary_table", In: []Operand{ids(60, 1, 2, 5), freq}, Build: one(graph.RotaryTable{Scale: 1.5}), Terms: 64, NoGrad: true})
	add(Case{Name: "rotary_table sections", In: []Operand{ids(60, 3, 2, 5), freq}, Build: one(graph.RotaryTable{Sections: []int{1, 1, 2}, Scale: 1}), Terms: 64, NoGrad: true})

	for _, c := range attentionCases() {
		both(c)
	}
	offsets := ints([]float64{0, 3, 3, 11}, 4)
	both(func(d dtype.DType) Case {
		return Case{Name: "grouped_linear", In: []Operand{f32(11, 7), f32(3, 5, 7), offsets}, Build: one(graph.GroupedLinear{Compute: d, Out: d}), Terms: 18}
	})
	add(Case{Name: "group_rows", In: []Operand{ids(4, 9, 2)}, Build: one(graph.GroupRows{Experts: 5})})

	targets := ints([]float64{3, -100, 0, 12, 5}, 5)
	for _, o := range []graph.LinearLogProb{{}, {Entropy: true}, {Softcap: 3, Entropy: true}, {Scale: 0.5}, {Scale: 0.5, Softcap: 2}} {
		both(func(d dtype.DType) Case {
			o := o
			o.Compute = d
			return Case{Name: fmt.Sprintf("linear_log_prob %+v", o), In: []Operand{f32(5, 6), f32(13, 6), targets}, Build: one(o), Terms: 24}
		})
	}
	for _, o := range []graph.LinearKL{{Temperature: 1}, {Beta: 1, Temperature: 2}, {Beta: 0.3, Temperature: 1.5}} {
		both(func(d dtype.DType) Case {
			o := o
			o.Compute = d
			return Case{Name: fmt.Sprintf("linear_kl %+v", o), In: []Operand{f32(5, 6), f32(13, 6), fixed(f32(5, 4)), fixed(f32(13, 4))}, Build: one(o), Terms: 24}
		})
	}
	add(Case{Name: "sum_squares", In: []Operand{f32(7, 33), f32(5), f32()}, Build: one(graph.SumSquares{}), Terms: 237})
	scalar := func(x float64) Operand {
		return Operand{Type: graph.Of(dtype.F32), Fill: Values, Values: []float64{x}, NoGrad: true}
	}
	for _, wd := range []float64{0, 0.1} {
		p := []Operand{fixed(f32(3, 11)), fixed(f32(3, 11)), fixed(f32(3, 11)), fixed(positive(3, 11)), scalar(1e-2), scalar(0.7), scalar(3)}
		add(Case{Name: fmt.Sprintf("adamw %v", wd), In: p, Build: one(graph.AdamW{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: wd}), NoGrad: true})
	}
	return cases
}

// attentionCases cover every optional operand and attribute of Attention.
func attentionCases() []func(dtype.DType) Case {
	var out []func(dtype.DType) Case
	add := func(name string, o graph.Attention, b, t, s, h, g, k, w int, mask func(in []Operand)) {
		out = append(out, func(d dtype.DType) Case {
			o := o
			o.Scale, o.Compute = 1/math.Sqrt(float64(k)), d
			in := []Operand{f32(b, t, h, k), f32(b, s, g, k), f32(b, s, g, w), {}, {}, {}, {}}
			if mask != nil {
				mask(in)
			}
			float := map[int]bool{graph.AttnSlopes: true, graph.AttnBias: true}
			return Case{Name: "attention " + name, In: in, Terms: 2*(s+k+w) + t*h/g, Build: func(in []*graph.Value) []*graph.Value {
				args := make([]*graph.Value, len(in))
				for i, v := range in {
					if args[i] = v; v != nil && float[i] {
						args[i] = graph.Convert(v, dtype.F32)
					}
				}
				return graph.Apply(o, args...)[:1]
			}}
		})
	}
	causal := graph.Attention{Causal: true}
	add("full", graph.Attention{}, 2, 5, 7, 4, 2, 6, 6, nil)
	add("causal", causal, 2, 9, 9, 3, 3, 8, 8, nil)
	add("long causal", causal, 1, 37, 37, 2, 1, 16, 16, nil)
	add("one query", causal, 2, 1, 11, 4, 1, 8, 8, nil)
	add("offset causal", causal, 1, 3, 8, 2, 2, 5, 5, nil)
	add("value width", causal, 1, 6, 6, 2, 1, 12, 8, nil)
	add("window", graph.Attention{Causal: true, Window: 3}, 1, 9, 9, 2, 2, 4, 4, nil)
	add("softcap", graph.Attention{Causal: true, Softcap: 2}, 1, 7, 7, 2, 1, 4, 4, nil)
	add("segments", causal, 2, 6, 6, 2, 2, 4, 4, func(in []Operand) {
		in[graph.AttnSegments] = ints([]float64{0, 0, 1, 1, 1, -1, 3, 3, 3, 3, 2, 2}, 2, 6)
	})
	add("prefix", causal, 2, 6, 6, 2, 1, 4, 4, func(in []Operand) { in[graph.AttnPrefix] = ints([]float64{0, 4}, 2) })
	add("slopes", causal, 1, 6, 6, 2, 2, 4, 4, func(in []Operand) {
		in[graph.AttnSlopes] = Operand{Type: graph.Of(dtype.F32, 2), Fill: Values, Values: []float64{0.5, 0.25}, NoGrad: true}
	})
	add("fixed bias", causal, 2, 5, 5, 4, 2, 4, 4, func(in []Operand) { in[graph.AttnBias] = fixed(f32(1, 4, 5, 5)) })
	add("learned bias", graph.Attention{}, 2, 4, 5, 4, 2, 4, 4, func(in []Operand) { in[graph.AttnBias] = f32(1, 4, 4, 5) })
	return out
}
