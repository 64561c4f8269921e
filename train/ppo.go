package train

import (
	"math"

	"danlu/family"
	"danlu/graph"
	"danlu/nn"
)

// PPO is proximal policy optimisation (Schulman et al., arXiv:1707.06347) with one advantage per token, as InstructGPT
// and Llama 2 use it. norm is one over the response tokens of the step, or over its responses with SequenceMean.
//
// Inputs beside the batch: advantages, old (log-probabilities), old_values and returns [B, T], all at the place that
// predicts the token; per_token, what norm is one over, divided by the response tokens of the step.
type PPO struct {
	Clip      float64
	ValueClip float64
	ValueCoef float64
	Entropy   float64 // weight of the entropy bonus
	// DualClip bounds the loss where the advantage is negative (Ye et al., arXiv:1912.09729); 0: not.
	DualClip float64
	// SequenceMean averages the policy loss per response first.
	SequenceMean bool
}

// PolicyObjective builds the policy's part of the loss, the entropy bonus included.
func (p PPO) PolicyObjective() Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		return p.policy(b, complete(b, m, targets, true), norm, perToken(b, norm))
	}
}

// ValueObjective builds the critic's part of the loss.
func (p PPO) ValueObjective(head ScalarHead) Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		return p.value(b, head.Build(b, m.Hidden(b)), scored(targets), perToken(b, norm))
	}
}

// Objective builds the loss of a policy whose value head stands on the same body.
func (p PPO) Objective(head ScalarHead) Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		hidden, perToken := m.Hidden(b), perToken(b, norm)
		c := completionsOf(b, hidden, m.Head(b), targets, true)
		loss, report := p.policy(b, c, norm, perToken)
		value, more := p.value(b, head.Build(b, hidden), c.mask, perToken)
		for name, v := range more {
			report[name] = v
		}
		loss = graph.Add(loss, value)
		report["loss"] = loss
		return loss, report
	}
}

func (p PPO) policy(b *nn.Build, c completions, norm, perToken *graph.Value) (*graph.Value, map[string]*graph.Value) {
	advantages := input(b, "advantages", c.b, c.t)
	difference := graph.Mul(graph.Sub(c.logp, input(b, "old", c.b, c.t)), c.mask)
	ratio := graph.Exp(difference)
	each := surrogate(ratio, advantages, p.Clip, p.Clip)
	if p.DualClip != 0 {
		bound := graph.Min(each, graph.MulScalar(advantages, -p.DualClip))
		each = graph.Where(graph.Less(advantages, graph.ConstLike(advantages, 0)), bound, each)
	}
	each = graph.Mul(each, c.mask)
	var policy *graph.Value
	if p.SequenceMean {
		policy = total(c.mean(each), norm)
	} else {
		policy = total(each, norm)
	}
	entropy := total(c.entropy, perToken)
	loss := graph.Sub(policy, graph.MulScalar(entropy, p.Entropy))
	share := func(x *graph.Value) *graph.Value { return total(graph.Mul(x, c.mask), perToken) }
	low, high := clipped(ratio, advantages, p.Clip, p.Clip)
	return loss, map[string]*graph.Value{"loss": loss, "loss/policy_avg": policy, "policy/entropy_avg": entropy, "policy/clipfrac_avg": share(graph.Add(low, high)),
		"policy/approxkl_avg": share(graph.Neg(difference)), "logp": c.logp}
}

func (p PPO) value(b *nn.Build, values, mask, perToken *graph.Value) (*graph.Value, map[string]*graph.Value) {
	old, returns := input(b, "old_values", mask.Shape...), input(b, "returns", mask.Shape...)
	bound := graph.ConstLike(values, p.ValueClip)
	near := graph.Min(graph.Max(values, graph.Sub(old, bound)), graph.Add(old, bound))
	worst := graph.Max(square(graph.Sub(values, returns)), square(graph.Sub(near, returns)))
	loss := graph.MulScalar(total(graph.Mul(worst, mask), perToken), 0.5)
	weighted := graph.MulScalar(loss, p.ValueCoef)
	return weighted, map[string]*graph.Value{"loss": weighted, "loss/value_avg": loss, "values": values,
		"val/mean": total(graph.Mul(graph.NoGrad(values), mask), perToken)}
}

// TokenRewards are -coefficient·(log-probability - reference's) of each token of a response, and the score beside the last.
func TokenRewards(logp, reference []float64, coefficient, score float64) []float64 {
	r := make([]float64, len(logp))
	for i := range r {
		r[i] = -coefficient * (logp[i] - reference[i])
	}
	if len(r) > 0 {
		r[len(r)-1] += score
	}
	return r
}

// GAE is generalised advantage estimation (Schulman et al., arXiv:1506.02438) over one response whose value behind the
// end is 0: δ = r + γV' - V, A = δ + γλA'. returns are A + V.
func GAE(rewards, values []float64, gamma, lambda float64) (advantages, returns []float64) {
	advantages, returns = make([]float64, len(rewards)), make([]float64, len(rewards))
	next, nextValue := 0.0, 0.0
	for i := len(rewards) - 1; i >= 0; i-- {
		next = rewards[i] + gamma*nextValue - values[i] + gamma*lambda*next
		nextValue = values[i]
		advantages[i], returns[i] = next, next+values[i]
	}
	return advantages, returns
}

// Whiten shifts and scales values of several responses to mean 0 (unless keepMean) and variance 1 over all of them.
func Whiten(x [][]float64, keepMean bool) {
	var all []float64
	for _, row := range x {
		all = append(all, row...)
	}
	mean, std := meanStd(all, 1)
	scale := 1 / math.Sqrt(std*std+1e-8)
	for _, row := range x {
		for i := range row {
			row[i] = (row[i] - mean) * scale
			if keepMean {
				row[i] += mean
			}
		}
	}
}

// AdaptiveKL steers the coefficient of the divergence towards a target (Ziegler et al., arXiv:1909.08593).
type AdaptiveKL struct {
	Coefficient, Target float64
	Horizon             float64 // samples over which the coefficient may change by a factor of about 1.2
}

// Observe adjusts the coefficient to the divergence measured over n samples.
func (a *AdaptiveKL) Observe(kl float64, n int) {
	e := min(max(kl/a.Target-1, -0.2), 0.2)
	a.Coefficient *= 1 + e*float64(n)/a.Horizon
}

// DivergenceEstimate is an estimator of KL(policy‖reference) from x = log(policy/reference) of a sampled token: k1, k2
// or k3 (Schulman 2020), or abs.
func DivergenceEstimate(kind string, x float64) float64 {
	switch kind {
	case "k2":
		return x * x / 2
	case "k3":
		return math.Expm1(-x) + x
	case "abs":
		return math.Abs(x)
	}
	return x
}
