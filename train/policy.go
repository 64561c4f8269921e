package train

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"danlu/family"
	"danlu/graph"
	"danlu/nn"
)

// Policy is the family of policy-gradient losses with one advantage per answer: GRPO (DeepSeekMath, arXiv:2402.03300)
// and its variants. What norm is one over depends on the loss, see Normaliser.
//
// Inputs beside the batch: advantages [B]; old [B, T], the log-probabilities under the policy that wrote the answers;
// reference [B, T], those of the reference model, with KL; per_token, what norm is one over, divided by the scored tokens of the step.
type Policy struct {
	Loss              string  // one of PolicyLosses
	ClipLow, ClipHigh float64 // the ratio may be from 1-ClipLow to 1+ClipHigh
	KL                float64 // weight of the k3 estimate of the divergence from the reference; 0: none
	// OnPolicy says that the answers are the present policy's own, written since its last update: old is not asked for.
	OnPolicy bool
}

// policyLoss is how ratios become losses and how losses are averaged.
type policyLoss struct {
	perSequence bool // one ratio per answer
	weighted    bool // the clipped ratio weighs log-probabilities
	by          normaliser
}

type normaliser int

const (
	bySequence normaliser = iota // mean over answers of means over their tokens
	byToken                      // mean over all tokens
	byLength                     // over answers times the most tokens that an answer may have
)

var policyLosses = map[string]policyLoss{
	"grpo":    {by: bySequence},
	"bnpo":    {by: byToken},                       // over the tokens of the batch (TRL's name)
	"dr_grpo": {by: byLength},                      // Liu et al., arXiv:2503.20783
	"dapo":    {by: byToken},                       // Yu et al., arXiv:2503.14476
	"gspo":    {by: bySequence, perSequence: true}, // Zheng et al., arXiv:2507.18071
	"cispo":   {by: byToken, weighted: true},       // MiniMax-M1, arXiv:2506.13585
}

// PolicyLosses lists the names of the losses.
func PolicyLosses() []string { return slices.Sorted(maps.Keys(policyLosses)) }

// Check reports a loss that is not there.
func (p Policy) Check() error {
	if _, ok := policyLosses[p.Loss]; !ok {
		return fmt.Errorf("train: policy loss %q: want one of %s", p.Loss, strings.Join(PolicyLosses(), ", "))
	}
	return nil
}

// Normaliser is the number that norm is one over, for a step of so many answers with so many scored tokens in all, of
// which one may have at most longest.
func (p Policy) Normaliser(answers, tokens, longest int) int64 {
	switch policyLosses[p.Loss].by {
	case byToken:
		return int64(tokens)
	case byLength:
		return int64(answers) * int64(longest)
	}
	return int64(answers)
}

// Objective builds the loss. It reports TRL's metrics.
func (p Policy) Objective() Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		l := policyLosses[p.Loss]
		c := complete(b, m, targets, true)
		perToken := perToken(b, norm)
		advantages := graph.ReshapeTo(input(b, "advantages", c.b), c.b, 1)
		// Places without a target have log-probability 0 here, whatever the inputs hold there.
		old := graph.NoGrad(c.logp)
		if !p.OnPolicy {
			old = input(b, "old", c.b, c.t)
		}
		difference := graph.Mul(graph.Sub(c.logp, old), c.mask)
		if l.perSequence {
			difference = graph.ReshapeTo(c.mean(difference), c.b, 1)
		}
		ratio := graph.Exp(difference)
		var loss *graph.Value
		if l.weighted {
			bound := graph.NoGrad(graph.Min(ratio, graph.ConstLike(ratio, 1+p.ClipHigh)))
			loss = graph.Neg(graph.Mul(graph.Mul(bound, advantages), c.logp))
		} else {
			loss = surrogate(ratio, advantages, p.ClipLow, p.ClipHigh)
		}
		report := map[string]*graph.Value{"entropy": total(graph.NoGrad(c.entropy), perToken)}
		if p.KL != 0 {
			k3 := divergenceK3(graph.Mul(graph.Sub(input(b, "reference", c.b, c.t), c.logp), c.mask))
			loss = graph.Add(loss, graph.MulScalar(k3, p.KL))
			report["kl"] = total(graph.Mul(graph.NoGrad(k3), c.mask), perToken)
		}
		loss = graph.Mul(loss, c.mask)
		if l.by == bySequence {
			loss = c.mean(loss)
		}
		out := total(loss, norm)
		report["loss"] = out
		reportClipping(report, c, ratio, advantages, perToken, p)
		return out, report
	}
}

// reportClipping adds the share of tokens whose ratio was clipped from below, from above and in all.
func reportClipping(report map[string]*graph.Value, c completions, ratio, advantages, perToken *graph.Value, p Policy) {
	low, high := clipped(ratio, advantages, p.ClipLow, p.ClipHigh)
	share := func(x *graph.Value) *graph.Value { return total(graph.Mul(x, c.mask), perToken) }
	report["clip_ratio/low_mean"], report["clip_ratio/high_mean"] = share(low), share(high)
	report["clip_ratio/region_mean"] = share(graph.Add(low, high))
}

// clipped is 1 where the ratio is clipped from below, and from above: where that changes the loss.
func clipped(ratio, advantages *graph.Value, low, high float64) (below, above *graph.Value) {
	zero := graph.ConstLike(advantages, 0)
	below = graph.Mul(greater(graph.ConstLike(ratio, 1-low), ratio), greater(zero, advantages))
	return below, graph.Mul(greater(ratio, graph.ConstLike(ratio, 1+high)), greater(advantages, zero))
}

// surrogate is PPO's clipped loss per token, -min(ratio·A, clip(ratio)·A) (Schulman et al., arXiv:1707.06347).
func surrogate(ratio, advantages *graph.Value, low, high float64) *graph.Value {
	return graph.Neg(graph.Min(graph.Mul(ratio, advantages), graph.Mul(clip(ratio, 1-low, 1+high), advantages)))
}

// divergenceK3 is exp(x) - x - 1 for x = log(reference/policy) (Schulman's third estimator of KL(policy‖reference)).
func divergenceK3(x *graph.Value) *graph.Value {
	return graph.AddScalar(graph.Sub(graph.Exp(x), x), -1)
}

// GroupAdvantages compares the rewards of answers with those of the answers to the same prompt, which stand together in
// groups of size n:
//
//	group       (r - mean)/(std + 1e-4) within the group, n-1 in the variance (TRL's scale_rewards: group)
//	group_population   the same with n in the variance
//	batch       r - group mean, over the batch's std (+1e-4)
//	none        r - group mean (Dr. GRPO, arXiv:2503.20783)
//	rloo        r - mean of the others (arXiv:2402.14740)
//	reinforce_pp_baseline   r - group mean, whitened over the batch (REINFORCE++, arXiv:2501.03262)
//
// Answers of a group with equal rewards get 0.
func GroupAdvantages(rewards []float64, n int, kind string) ([]float64, error) {
	if n < 1 || len(rewards)%n != 0 {
		return nil, fmt.Errorf("train: advantages: %d rewards are no groups of %d", len(rewards), n)
	}
	out := make([]float64, len(rewards))
	for at := 0; at < len(rewards); at += n {
		group := rewards[at : at+n]
		ddof := 1
		if kind == "group_population" {
			ddof = 0
		}
		mu, sd := meanStd(group, ddof)
		for i, r := range group {
			d := r - mu
			switch kind {
			case "group", "group_population":
				d /= sd + 1e-4
			case "rloo":
				d *= float64(n) / float64(max(n-1, 1))
			}
			out[at+i] = d
		}
	}
	switch kind {
	case "batch":
		_, sd := meanStd(rewards, 1)
		for i := range out {
			out[i] /= sd + 1e-4
		}
	case "reinforce_pp_baseline":
		mu, sd := meanStd(out, 1)
		for i := range out {
			out[i] = (out[i] - mu) / (sd + 1e-8)
		}
	case "group", "group_population", "none", "rloo":
	default:
		return nil, fmt.Errorf("train: advantages %q: want group, batch, none, rloo or reinforce_pp_baseline", kind)
	}
	return out, nil
}

// meanStd is the mean and the standard deviation with len-ddof in the denominator, 0 where that is not positive.
func meanStd(x []float64, ddof int) (mean, std float64) {
	for _, v := range x {
		mean += v
	}
	mean /= float64(max(len(x), 1))
	if len(x) <= ddof {
		return mean, 0
	}
	for _, v := range x {
		std += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(std / float64(len(x)-ddof))
}

// MeanStd is the mean and the sample standard deviation.
func MeanStd(x []float64) (mean, std float64) { return meanStd(x, 1) }
