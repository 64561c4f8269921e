package train

import (
	"fmt"
	"math"

	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/format/safetensors"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
)

// ScalarHead maps a hidden row to one number: a reward or a value. Names are the checkpoint's.
type ScalarHead struct {
	Weight string // [1, D]
	Bias   string // [1]; "" for none
}

// LlamaFactoryHead is the value head of LLaMA-Factory's and TRL's reward models and PPO policies.
var LlamaFactoryHead = ScalarHead{Weight: "v_head.summary.weight", Bias: "v_head.summary.bias"}

// SequenceClassificationHead is the head of transformers' models with one label.
var SequenceClassificationHead = ScalarHead{Weight: "score.weight"}

// HeadFile holds a scalar head beside a model's files.
const HeadFile = "value_head.safetensors"

// Specs are the head's parameters on hidden rows of a size.
func (h ScalarHead) Specs(hidden int) []*graph.StateSpec {
	specs := []*graph.StateSpec{{Label: h.Weight, Type: graph.Of(dtype.F32, 1, hidden), Role: graph.Param, Axes: []string{"", "embed"}, Init: graph.Init{Std: 1 / math.Sqrt(float64(hidden+1))}}}
	if h.Bias != "" {
		specs = append(specs, &graph.StateSpec{Label: h.Bias, Type: graph.Of(dtype.F32, 1), Role: graph.Param, Axes: []string{""}})
	}
	return specs
}

// Save writes the head to a file.
func (h ScalarHead) Save(path string, store engine.Store, hidden int) error {
	var infos []safetensors.Info
	for _, s := range h.Specs(hidden) {
		infos = append(infos, safetensors.Info{Name: s.Label, DType: s.Type.DType, Shape: s.Type.Shape})
	}
	return safetensors.Write(path, infos, map[string]string{"format": "pt"}, func(i safetensors.Info) (*tensor.Tensor, error) { return store.Get(i.Name) })
}

// Load reads the head from a file.
func (h ScalarHead) Load(path string, store engine.Store) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, name := range []string{h.Weight, h.Bias} {
		if name == "" {
			continue
		}
		x, err := f.Tensor(name)
		if err == nil {
			err = store.Set(name, x)
		}
		if err != nil {
			return fmt.Errorf("train: %s: %w", path, err)
		}
	}
	return nil
}

// Build gives a number for each hidden row: [B, T, D] → [B, T] float32.
func (h ScalarHead) Build(b *nn.Build, hidden *graph.Value) *graph.Value {
	var bias *graph.Value
	specs := h.Specs(hidden.Last())
	weight := b.G.State(*specs[0])
	if len(specs) > 1 {
		bias = b.G.State(*specs[1])
	}
	out := graph.Project(graph.Convert(hidden, dtype.F32), weight, bias, dtype.F32, dtype.F32)
	return graph.ReshapeTo(out, hidden.Shape[0], hidden.Shape[1])
}

// lastToken picks the values [B, T] of each row's last token that is not padding: segments [B, T] → [B].
func lastToken(values, segments *graph.Value) *graph.Value {
	b, t := segments.Shape[0], segments.Shape[1]
	real := graph.Convert(graph.GreaterEqual(segments, graph.ConstLike(segments, 0)), dtype.I32)
	last := graph.Max(graph.AddScalar(graph.SumKeep(real, 1), -1), graph.ConstLike(segments.Graph().Count(graph.Of(dtype.I32, b, 1), 1), 0))
	return graph.ReshapeTo(graph.Take(graph.ReshapeTo(values, b, t), last), b)
}

// RewardModel trains rewards of whole answers on pairs: rows k and B/2+k are chosen and rejected (InstructGPT,
// arXiv:2203.02155), or on rankings. norm is one over the pairs of the step.
//
// Input beside the batch: margin [B/2] with Margin, how much better the chosen answer is (Llama 2, arXiv:2307.09288).
type RewardModel struct {
	Head     ScalarHead
	Margin   bool
	Centered float64 // weight of the squared sum of a pair's rewards (arXiv:2312.09244)
	Ranked   bool    // the rows are best to worst, and all their pairs count
}

// Rewards gives the reward of each row [B].
func (r RewardModel) Rewards(b *nn.Build, m family.Model) *graph.Value {
	return lastToken(r.Head.Build(b, m.Hidden(b)), b.Mask.Segments)
}

// Objective builds the loss. It also reports the rewards [B].
func (r RewardModel) Objective() Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		rewards := r.Rewards(b, m)
		n := rewards.Len() / 2
		chosen, rejected := graph.Cut(rewards, 0, 0, n), graph.Cut(rewards, 0, n, 2*n)
		// Rows that only fill the batch are no pairs.
		real := graph.Sum(scored(b.Mask.Segments), 1)
		pair := greater(graph.Cut(real, 0, 0, n), graph.ConstLike(chosen, 0))
		mean := func(x *graph.Value) *graph.Value { return total(graph.Mul(x, pair), norm) }
		var loss *graph.Value
		if r.Ranked {
			loss = ranked(rewards, norm)
		} else {
			z := graph.Sub(chosen, rejected)
			if r.Margin {
				z = graph.Sub(z, input(b, "margin", n))
			}
			loss = graph.Neg(mean(logSigmoid(z)))
		}
		if r.Centered != 0 {
			loss = graph.Add(loss, graph.MulScalar(mean(square(graph.Add(chosen, rejected))), r.Centered))
		}
		return loss, map[string]*graph.Value{"loss": loss, "rewards": rewards, "accuracy": mean(greater(chosen, rejected)),
			"rewards/chosen": mean(chosen), "rewards/rejected": mean(rejected), "rewards/margins": mean(graph.Sub(chosen, rejected))}
	}
}

// ranked adds -log s(r_i - r_j) up over all i before j.
func ranked(rewards, norm *graph.Value) *graph.Value {
	n := rewards.Len()
	z := graph.Sub(graph.ReshapeTo(rewards, n, 1), graph.ReshapeTo(rewards, 1, n))
	g := rewards.Graph()
	better := graph.Convert(graph.Less(g.Count(graph.Of(dtype.I32, n, n), 0), g.Count(graph.Of(dtype.I32, n, n), 1)), dtype.F32)
	return graph.Neg(total(graph.Mul(logSigmoid(z), better), norm))
}
