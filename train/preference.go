package train

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"danlu/dtype"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
)

// Preference is the family of losses on pairs of a chosen and a rejected answer to one prompt. Rows k and B/2+k of a
// batch are a pair; losses are means over pairs, norm is one over the pairs of the step.
//
// Inputs beside the batch: reference [B], the reference model's log-probability of each row's answer, for losses that
// NeedsReference; per_token, the pairs of the step over the chosen answers' scored tokens, where NeedsTokens; next [B, T],
// the tokens that follow, those of the prompt included, with PromptNLL.
type Preference struct {
	Loss      string // one of PreferenceLosses
	Beta      float64
	Smoothing float64 // label smoothing: the share of pairs that are labelled the wrong way round
	Gamma     float64 // simpo's margin
	Alpha     float64 // cpo's weight of the chosen answers' negative log-likelihood
	FTX       float64 // weight of the same term beside any loss (LLaMA-Factory's pref_ftx)
	PromptNLL bool    // orpo's likelihood term counts the prompt too, as TRL does
}

// pairs are the scores of a batch's pairs, all [B/2].
type pairs struct {
	chosen, rejected   *graph.Value // log-ratio policy/reference of the whole answer; the policy's own without a reference
	nChosen, nRejected *graph.Value // tokens
}

// pairLoss is a loss per pair.
type pairLoss struct {
	reference bool
	perToken  bool // rewards are means over tokens
	loss      func(p Preference, x pairs) *graph.Value
}

// margin is the difference of a pair's log-ratios.
func (x pairs) margin() *graph.Value { return graph.Sub(x.chosen, x.rejected) }

// perToken divides log-ratios by the answers' lengths.
func (x pairs) perToken() pairs {
	x.chosen, x.rejected = graph.Div(x.chosen, x.nChosen), graph.Div(x.rejected, x.nRejected)
	return x
}

// smoothed is -(1-l)·log s(z) - l·log s(-z) (cDPO, Mitchell 2023).
func (p Preference) smoothed(z *graph.Value) *graph.Value {
	loss := graph.MulScalar(logSigmoid(z), p.Smoothing-1)
	if p.Smoothing != 0 {
		loss = graph.Sub(loss, graph.MulScalar(logSigmoid(graph.Neg(z)), p.Smoothing))
	}
	return loss
}

// scaled is beta times x.
func (p Preference) scaled(x *graph.Value) *graph.Value { return graph.MulScalar(x, p.Beta) }

func oneMinus(x *graph.Value) *graph.Value { return graph.AddScalar(graph.Neg(x), 1) }

var pairLosses = map[string]pairLoss{
	// Rafailov et al., arXiv:2305.18290
	"sigmoid": {reference: true, loss: func(p Preference, x pairs) *graph.Value { return p.smoothed(p.scaled(x.margin())) }},
	"cdpo":    {reference: true, loss: func(p Preference, x pairs) *graph.Value { return p.smoothed(p.scaled(x.margin())) }},
	"sigmoid_norm": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		return p.smoothed(p.scaled(x.perToken().margin()))
	}},
	// Zhao et al., arXiv:2305.10425, on log-ratios
	"hinge": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		z := oneMinus(p.scaled(x.margin()))
		return graph.Max(z, graph.ConstLike(z, 0))
	}},
	// Chowdhury et al., arXiv:2403.00409
	"robust": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		z := p.scaled(x.margin())
		loss := graph.Sub(graph.MulScalar(logSigmoid(graph.Neg(z)), p.Smoothing), graph.MulScalar(logSigmoid(z), 1-p.Smoothing))
		return graph.MulScalar(loss, 1/(1-2*p.Smoothing))
	}},
	// Azar et al., arXiv:2310.12036; per token as TRL and LLaMA-Factory do it
	"ipo": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		return square(graph.AddScalar(x.perToken().margin(), -1/(2*p.Beta)))
	}},
	"ipo_sum": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		return square(graph.AddScalar(x.margin(), -1/(2*p.Beta)))
	}},
	// D'Oosterlinck et al., arXiv:2408.06266
	"apo_zero": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		return oneMinus(graph.Sub(graph.Sigmoid(p.scaled(x.chosen)), graph.Sigmoid(p.scaled(x.rejected))))
	}},
	"apo_down": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		return oneMinus(graph.Sub(graph.Sigmoid(p.scaled(x.margin())), graph.Sigmoid(p.scaled(x.chosen))))
	}},
	// Ji et al., arXiv:2402.00856; the smoothing keeps the divergence finite
	"exo_pair": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		z, l := p.scaled(x.margin()), max(p.Smoothing, 1e-3)
		side := func(z *graph.Value, share float64) *graph.Value {
			return graph.Mul(graph.Sigmoid(z), graph.Sub(logSigmoid(z), logOf(z, share)))
		}
		return graph.Add(side(z, 1-l), side(graph.Neg(z), l))
	}},
	// Chen et al., arXiv:2402.05369
	"nca_pair": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		c, r := p.scaled(x.chosen), p.scaled(x.rejected)
		lose := graph.Add(logSigmoid(graph.Neg(c)), logSigmoid(graph.Neg(r)))
		return graph.Neg(graph.Add(logSigmoid(c), graph.MulScalar(lose, 0.5)))
	}},
	// Wu et al., arXiv:2405.00675, with hard labels
	"sppo_hard": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		return graph.Add(square(graph.AddScalar(x.chosen, -0.5/p.Beta)), square(graph.AddScalar(x.rejected, 0.5/p.Beta)))
	}},
	// Melnyk et al., arXiv:2406.05882: margins are compared in order of size within the micro-batch
	"aot_unpaired": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		c, _ := graph.Sorted(x.chosen, false)
		r, _ := graph.Sorted(x.rejected, false)
		return p.smoothed(p.scaled(graph.Sub(c, r)))
	}},
	// Lu et al., arXiv:2406.08414, equation 5 with temperature 0.05
	"discopop": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		z := p.scaled(x.margin())
		mix := graph.Sigmoid(graph.MulScalar(z, 1/0.05))
		return graph.Add(graph.Mul(graph.Neg(logSigmoid(z)), oneMinus(mix)), graph.Mul(graph.Exp(graph.Neg(z)), mix))
	}},
	// Ethayarajh et al., arXiv:2402.01306, both halves of a pair at once; the KL terms are the micro-batch's
	"kto_pair": {reference: true, loss: func(p Preference, x pairs) *graph.Value {
		kl := func(ratio *graph.Value) *graph.Value {
			return graph.NoGrad(graph.Max(graph.MeanKeep(ratio), graph.ConstLike(ratio, 0)))
		}
		good := graph.Sigmoid(p.scaled(graph.Sub(x.chosen, kl(x.rejected))))
		bad := graph.Sigmoid(p.scaled(graph.Sub(kl(x.chosen), x.rejected)))
		return oneMinus(graph.MulScalar(graph.Add(good, bad), 0.5))
	}},
	// Meng et al., arXiv:2405.14734
	"simpo": {perToken: true, loss: func(p Preference, x pairs) *graph.Value {
		return p.smoothed(graph.AddScalar(p.scaled(x.perToken().margin()), -p.Gamma))
	}},
	// Xu et al., arXiv:2401.08417; its likelihood term is Alpha's
	"cpo": {loss: func(p Preference, x pairs) *graph.Value { return p.smoothed(p.scaled(x.margin())) }},
	// Hong et al., arXiv:2403.07691; its likelihood term is added with weight 1
	"orpo": {perToken: true, loss: func(p Preference, x pairs) *graph.Value {
		return p.scaled(graph.Neg(logSigmoid(x.logOdds())))
	}},
}

// logOdds is the log of the ratio of the answers' odds, of mean log-probabilities.
func (x pairs) logOdds() *graph.Value {
	y := x.perToken()
	against := func(logp *graph.Value) *graph.Value {
		q := oneMinus(graph.Exp(logp))
		return graph.Log(graph.Max(q, graph.ConstLike(q, 1e-7))) // an answer that is certain has no odds
	}
	return graph.Sub(y.margin(), graph.Sub(against(y.chosen), against(y.rejected)))
}

// logOf is the constant log(share) beside z.
func logOf(z *graph.Value, share float64) *graph.Value {
	return graph.Log(graph.ConstLike(z, share))
}

// PreferenceLosses lists the names of the losses.
func PreferenceLosses() []string { return slices.Sorted(maps.Keys(pairLosses)) }

// Check reports a loss that is not there or a smoothing that it cannot have.
func (p Preference) Check() error {
	if _, ok := pairLosses[p.Loss]; !ok {
		return fmt.Errorf("train: preference loss %q: want one of %s", p.Loss, strings.Join(PreferenceLosses(), ", "))
	}
	if p.Smoothing < 0 || p.Smoothing > 0.5 || p.Loss == "robust" && p.Smoothing == 0.5 {
		return fmt.Errorf("train: preference loss %s: label smoothing: want 0 to 0.5, got %v", p.Loss, p.Smoothing)
	}
	return nil
}

// NeedsReference reports whether the loss compares with a reference model.
func (p Preference) NeedsReference() bool { return pairLosses[p.Loss].reference }

// nll is the weight of the chosen answers' negative log-likelihood.
func (p Preference) nll() float64 {
	switch p.Loss {
	case "orpo":
		return 1 + p.FTX
	case "cpo":
		return p.Alpha + p.FTX
	}
	return p.FTX
}

// NeedsTokens reports whether the loss has a term per token.
func (p Preference) NeedsTokens() bool { return p.nll() != 0 }

// Objective builds the loss. It reports TRL's metrics and, for each pair [B/2], the loss as
// per_pair and the rewards as chosen and rejected.
func (p Preference) Objective() Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		var c completions
		var tokens *graph.Value // log-probabilities of the likelihood term [B, T]
		if p.PromptNLL {
			next := b.G.Input("next", graph.Of(dtype.I32, targets.Shape...))
			c = complete(b, m, next, false)
			tokens, c.mask = c.logp, scored(targets)
			c.logp, c.count = graph.Mul(c.logp, c.mask), graph.Sum(c.mask, 1)
		} else {
			c = complete(b, m, targets, false)
			tokens = c.logp
		}
		l := pairLosses[p.Loss]
		logps := c.sum(c.logp)
		ratio := logps
		if l.reference {
			ratio = graph.Sub(logps, input(b, "reference", c.b))
		}
		// Rows that only fill the batch have no tokens; their pairs count for nothing.
		n := c.b / 2
		half := func(x *graph.Value, k int) *graph.Value { return graph.Cut(x, 0, k*n, (k+1)*n) }
		length := graph.Max(c.count, graph.ConstLike(c.count, 1))
		x := pairs{half(ratio, 0), half(ratio, 1), half(length, 0), half(length, 1)}
		real := greater(half(c.count, 0), graph.ConstLike(x.chosen, 0))
		mean := func(x *graph.Value) *graph.Value { return total(graph.Mul(x, real), norm) }

		each := l.loss(p, x)
		loss := mean(each)
		rewards := x
		if l.perToken {
			rewards = x.perToken()
		}
		chosen, rejected := graph.NoGrad(p.scaled(rewards.chosen)), graph.NoGrad(p.scaled(rewards.rejected))
		report := map[string]*graph.Value{
			"rewards/chosen": mean(chosen), "rewards/rejected": mean(rejected), "rewards/margins": mean(graph.Sub(chosen, rejected)),
			"rewards/accuracies": mean(greater(chosen, rejected)), "logps/chosen": mean(half(logps, 0)), "logps/rejected": mean(half(logps, 1)),
			"per_pair": each, "chosen": chosen, "rejected": rejected,
		}
		if p.Loss == "orpo" {
			report["log_odds_chosen"] = mean(x.logOdds())
		}
		if w := p.nll(); w != 0 {
			nll := graph.Neg(total(half(tokens, 0), perToken(b, norm)))
			report["nll_loss"] = nll
			loss = graph.Add(loss, graph.MulScalar(nll, w))
		}
		report["loss"] = loss
		return loss, report
	}
}
