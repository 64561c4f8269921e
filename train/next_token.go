package train

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"danlu/family"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
)

// NextToken predicts each next token, with further terms, which are reported apart from the loss. Those of routers and
// of prediction modules need a model that has them.
type NextToken struct {
	ZLoss    float64 // weight of the mean squared logsumexp
	Balance  float64 // of the Switch loss over all routers (transformers' router_aux_loss_coef)
	Sequence float64 // of DeepSeek-V3's sequence-wise balance loss
	MTP      float64 // of the prediction module's loss, DeepSeek-V3's λ (arXiv:2412.19437, equation 25)
}

// Check reports terms that a model cannot have.
func (n NextToken) Check(m family.Model) error {
	_, sparse := m.(family.Sparse)
	if !sparse && (n.Balance != 0 || n.Sequence != 0) {
		return fmt.Errorf("train: balance losses: the %s model has no routed experts", m.Info().Family)
	}
	if mt, ok := m.(family.MultiToken); n.MTP != 0 && (!ok || !predicts(m, mt)) {
		return fmt.Errorf("train: prediction loss: the %s model has no multi-token prediction module", m.Info().Family)
	}
	return nil
}

// predicts reports whether a model has a prediction module.
func predicts(m family.Model, mt family.MultiToken) (has bool) {
	_, err := graph.Build(func(g *graph.Graph) {
		b := nn.Inputs(g, nn.Float32, m.Info().PositionRows, 1, 3)
		has = mt.MTPHidden(b, m.Hidden(b)) != nil
	})
	return has && err == nil
}

// Objective builds the loss.
func (n NextToken) Objective() Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		sparse, routed := m.(family.Sparse)
		if routed {
			b.GatherBalance(sparse.NumExperts())
		}
		hidden, head := m.Hidden(b), m.Head(b)
		s := b.Score(hidden, head, targets, false)
		loss := nn.CrossEntropy(s, norm)
		report := map[string]*graph.Value{"loss": loss}
		add := func(name string, term *graph.Value, weight float64) {
			report[name] = term
			loss = graph.Add(loss, graph.MulScalar(term, weight))
		}
		if n.ZLoss != 0 {
			add("z_loss", nn.ZLoss(s, targets, norm, n.ZLoss), 1)
		}
		if n.MTP != 0 {
			add("mtp_loss", n.prediction(b, m.(family.MultiToken), hidden, head, targets, norm), n.MTP)
		}
		// Means over tokens of a micro-batch are weighed by its share of the step's scored targets.
		share := total(scored(targets), norm)
		if n.Balance != 0 {
			add("balance_loss", graph.Mul(b.Balance.Loss(), share), n.Balance)
		}
		if n.Sequence != 0 {
			add("sequence_balance_loss", graph.Mul(b.Balance.SequenceLoss(targets.Shape[0]), share), n.Sequence)
		}
		return loss, report
	}
}

// prediction is the cross-entropy of the module that predicts the token after the next: place i of it has the target of
// place i+1, unless another document starts there.
func (n NextToken) prediction(b *nn.Build, m family.MultiToken, hidden, head, targets, norm *graph.Value) *graph.Value {
	t := targets.Shape[1]
	here, next := graph.Cut(b.Mask.Segments, 1, 0, t-1), graph.Cut(b.Mask.Segments, 1, 1, t)
	later := graph.Cut(targets, 1, 1, t)
	later = graph.Where(graph.Equal(here, next), later, graph.ConstLike(later, -1))
	return nn.CrossEntropy(b.Score(m.MTPHidden(b, hidden), head, later, false), norm)
}

// loads are how often each expert was chosen in a step, by router.
type loads map[string][]float64

// add takes in a micro-batch's outputs.
func (l loads) add(name string, t *tensor.Tensor) {
	router, ok := strings.CutPrefix(name, nn.LoadPrefix)
	if !ok {
		return
	}
	if l[router] == nil {
		l[router] = make([]float64, t.Len())
	}
	for i, v := range t.F32() {
		l[router][i] += float64(v)
	}
}

// report is how uneven the loads are: how far the busiest expert is above the mean of its router, as a share of the
// mean, averaged over routers and the worst; and the share of experts that no token chose.
func (l loads) report() map[string]float64 {
	if len(l) == 0 {
		return nil
	}
	sum, worst, idle, experts := 0.0, 0.0, 0.0, 0.0
	for _, load := range l {
		mean := 0.0
		for _, v := range load {
			mean += v / float64(len(load))
			experts++
			if v == 0 {
				idle++
			}
		}
		if mean > 0 {
			v := slices.Max(load)/mean - 1
			sum, worst = sum+v, max(worst, v)
		}
	}
	return map[string]float64{"moe/max_violation": sum / float64(len(l)), "moe/worst_violation": worst, "moe/idle_experts": idle / experts}
}

// biasName is the buffer of a router that decides, with its scores, which experts are chosen (DeepSeek-V3).
const biasName = ".e_score_correction_bias"

// balance moves the biases of routers by speed towards the experts that were chosen less than the mean in this step
// (auxiliary-loss-free balancing, arXiv:2408.15664).
func (s *Stepper) balance(speed float64) error {
	for router, load := range s.loads {
		bias, err := s.c.Store.Get(router + biasName)
		if err != nil {
			return fmt.Errorf("train: moe_bias_update_speed: the router %s has no bias: %w", router, err)
		}
		mean := 0.0
		for _, v := range load {
			mean += v / float64(len(load))
		}
		x := bias.F32()
		for i, v := range load {
			if v != mean {
				x[i] += float32(math.Copysign(speed, mean-v))
			}
		}
		if err := s.c.Store.Set(router+biasName, bias); err != nil {
			return err
		}
	}
	return nil
}
