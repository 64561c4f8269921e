package train

import (
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
)

// KTO is Kahneman-Tversky optimisation (Ethayarajh et al., arXiv:2402.01306) on answers that are labelled good or bad;
// norm is one over the rows of the step.
//
// Inputs beside the batch: reference [B], the reference model's log-probability of each answer; desirable [B], 1 for
// good answers and 0 for bad ones; kl, the estimate of the divergence, which has no gradient (see Divergence); per_good
// and per_bad, the answers of the step over the good and over the bad ones, NaN where there are none; with FTX,
// ftx_share, the same as per_good but 0 where there are none.
type KTO struct {
	Beta                               float64
	DesirableWeight, UndesirableWeight float64
	// FTX is the weight of the good answers' negative log-likelihood, a mean over answers of means over tokens.
	FTX float64
}

// Divergence estimates KTO's KL term from the log-probabilities of mismatched answers under both models.
func (KTO) Divergence(policy, reference []float64) float64 {
	sum := 0.0
	for i := range policy {
		sum += policy[i] - reference[i]
	}
	return max(0, sum/float64(max(len(policy), 1)))
}

// Objective builds the loss. It reports TRL's metrics and, for each row [B], the loss as per_row and the reward.
func (k KTO) Objective() Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		c := complete(b, m, targets, false)
		logps := c.sum(c.logp)
		ratio := graph.Sub(logps, input(b, "reference", c.b))
		good, kl := input(b, "desirable", c.b), input(b, "kl")
		value := func(gain *graph.Value, weight float64) *graph.Value {
			return graph.MulScalar(oneMinus(graph.Sigmoid(graph.MulScalar(gain, k.Beta))), weight)
		}
		bad := oneMinus(good)
		each := graph.Add(graph.Mul(value(graph.Sub(ratio, kl), k.DesirableWeight), good),
			graph.Mul(value(graph.Sub(kl, ratio), k.UndesirableWeight), bad))
		real := greater(c.count, graph.ConstLike(c.count, 0))
		loss := total(graph.Mul(each, real), norm)
		if k.FTX != 0 {
			nll := graph.Neg(total(graph.Mul(c.mean(c.logp), good), graph.Mul(norm, input(b, "ftx_share"))))
			loss = graph.Add(loss, graph.MulScalar(nll, k.FTX))
		}
		rewards := graph.NoGrad(graph.MulScalar(ratio, k.Beta))
		report := map[string]*graph.Value{"loss": loss, "per_row": each, "reward": rewards, "kl": graph.Mul(kl, total(real, norm))}
		for _, side := range []struct {
			name      string
			of, share *graph.Value
		}{{"chosen", good, input(b, "per_good")}, {"rejected", bad, input(b, "per_bad")}} {
			of, norm := graph.Mul(side.of, real), graph.Mul(norm, side.share)
			report["rewards/"+side.name], report["logps/"+side.name] = total(graph.Mul(rewards, of), norm), total(graph.Mul(logps, of), norm)
		}
		return loss, report
	}
}
