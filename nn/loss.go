package nn

import (
	"danlu/dtype"
	"danlu/graph"
)

// Scores are per-token results of a language model, all [N] float32 over the N = B·T tokens.
type Scores struct {
	LogProb   *graph.Value // of the target; 0 where there is none
	LogSumExp *graph.Value
	Entropy   *graph.Value // nil unless asked for
}

// Score gives the log-probability of each target: hidden [B, T, D], head [V, D], targets [B, T] int32 (the token that
// should come next; negative: not scored).
func (b *Build) Score(hidden, head, targets *graph.Value, entropy bool) Scores {
	n := targets.Len()
	op := graph.LinearLogProb{Compute: b.Policy.Compute, Entropy: entropy}
	out := graph.LogProbs(op, graph.ReshapeTo(hidden, n, hidden.Last()), head, graph.ReshapeTo(targets, n))
	s := Scores{LogProb: out[0], LogSumExp: out[1]}
	if entropy {
		s.Entropy = out[2]
	}
	return s
}

// CrossEntropy is the negative sum of log-probabilities times norm, a scalar: one over the number of scored tokens of
// the whole step, so that micro-batches add up to the gradient of one big batch.
func CrossEntropy(s Scores, norm *graph.Value) *graph.Value {
	return graph.Neg(graph.Mul(graph.Sum(s.LogProb), norm))
}

// ZLoss is coefficient · Σ logsumexp² · norm over the scored tokens (Chowdhery et al., arXiv:2204.02311, section 5).
func ZLoss(s Scores, targets, norm *graph.Value, coefficient float64) *graph.Value {
	flat := graph.ReshapeTo(targets, targets.Len())
	scored := graph.Convert(graph.GreaterEqual(flat, graph.ConstLike(flat, 0)), dtype.F32)
	z := graph.Sum(graph.Mul(graph.Mul(s.LogSumExp, s.LogSumExp), scored))
	return graph.MulScalar(graph.Mul(z, norm), coefficient)
}

// Logits are hidden·headᵀ in float32: [B, T, V].
func (b *Build) Logits(hidden, head *graph.Value) *graph.Value {
	return graph.Project(hidden, head, nil, b.Policy.Compute, dtype.F32)
}
