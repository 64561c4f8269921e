package graph

import (
	"fmt"

	"danlu/dtype"
)

// LinearLogProb scores targets under softmax(x·Wᵀ) without ever holding the logits of all rows: x [N, D], W [V, D],
// targets [N] int32 (negative: not scored, log-probability 0) → log-probability of the target [N], logsumexp of the
// logits [N] and, with Entropy, the entropy of the distribution [N]; all float32.
type LinearLogProb struct {
	Compute dtype.DType
	Entropy bool
	Softcap float64 // 0: none
	Scale   float64 // logits are multiplied by it; 0 means 1
}

// Name implements Op.
func (o LinearLogProb) Name() string { return "linear_log_prob" }

// Infer implements Op.
func (o LinearLogProb) Infer(in []Type) ([]Type, error) {
	x, w, t := in[0], in[1], in[2]
	if x.Rank() != 2 || w.Rank() != 2 || x.Shape[1] != w.Shape[1] || !t.Equal(Of(dtype.I32, x.Shape[0])) {
		return nil, fmt.Errorf("want x [N, D], W [V, D] and int32 targets [N]")
	}
	r := Of(dtype.F32, x.Shape[0])
	if o.Entropy {
		return []Type{r, r, r}, nil
	}
	return []Type{r, r}, nil
}

// FLOPs implements Coster.
func (o LinearLogProb) FLOPs(in, out []Type) float64 {
	return 2 * float64(in[0].Len()) * float64(in[1].Shape[0])
}

// LinearLogProbGrad is the gradient of LinearLogProb: x, W, targets, logsumexp [N], then the cotangents of the
// log-probability [N], the logsumexp [N] or absent and the entropy [N] or absent (with the entropy itself [N])
// → dx (x's type) and dW [V, D] float32. Unscored rows count through the cotangents of logsumexp and entropy only.
type LinearLogProbGrad struct{ LinearLogProb }

// Operand positions of LinearLogProbGrad.
const (
	LogProbX = iota
	LogProbW
	LogProbTargets
	LogProbLSE
	LogProbD
	LogProbDLSE
	LogProbDEntropy
	LogProbEntropy
)

// Name implements Op.
func (o LinearLogProbGrad) Name() string { return "linear_log_prob_grad" }

// Infer implements Op.
func (o LinearLogProbGrad) Infer(in []Type) ([]Type, error) {
	if len(in) != LogProbEntropy+1 {
		return nil, fmt.Errorf("want %d operands", LogProbEntropy+1)
	}
	return []Type{Of(in[LogProbX].DType, in[LogProbX].Shape...), Of(dtype.F32, in[LogProbW].Shape...)}, nil
}

// FLOPs implements Coster.
func (o LinearLogProbGrad) FLOPs(in, out []Type) float64 {
	return 3 * o.LinearLogProb.FLOPs(in, nil)
}

// LinearKL compares two next-token distributions row by row without holding their logits: student x [N, D], W [V, D];
// teacher x [N, Dt], W [V, Dt] → divergence [N] float32. Beta 0 is KL(teacher‖student), 1 is KL(student‖teacher), in
// between the generalized Jensen-Shannon divergence (Agarwal et al., arXiv:2306.13649). Logits are divided by
// Temperature.
type LinearKL struct {
	Compute           dtype.DType
	Beta, Temperature float64
}

// Name implements Op.
func (o LinearKL) Name() string { return "linear_kl" }

// Infer implements Op.
func (o LinearKL) Infer(in []Type) ([]Type, error) {
	if len(in) != 4 || in[0].Rank() != 2 || in[0].Shape[0] != in[2].Shape[0] || in[1].Shape[0] != in[3].Shape[0] {
		return nil, fmt.Errorf("want student x [N, D], W [V, D], teacher x [N, Dt], W [V, Dt]")
	}
	return []Type{Of(dtype.F32, in[0].Shape[0])}, nil
}

// FLOPs implements Coster.
func (o LinearKL) FLOPs(in, out []Type) float64 {
	return 2 * float64(in[1].Shape[0]) * float64(in[0].Len()+in[2].Len())
}

// LinearKLGrad is the student's gradient of LinearKL: the four operands, then the cotangent [N] → dx, dW float32.
type LinearKLGrad struct{ LinearKL }

// Name implements Op.
func (o LinearKLGrad) Name() string { return "linear_kl_grad" }

// Infer implements Op.
func (o LinearKLGrad) Infer(in []Type) ([]Type, error) {
	return []Type{Of(in[0].DType, in[0].Shape...), Of(dtype.F32, in[1].Shape...)}, nil
}

// FLOPs implements Coster.
func (o LinearKLGrad) FLOPs(in, out []Type) float64 { return 2 * o.LinearKL.FLOPs(in, nil) }

// SumSquares adds the squares of all elements of all operands: the square of a global norm. Float32 blocks of a fixed
// size are added up in float64.
type SumSquares struct{}

// Name implements Op.
func (SumSquares) Name() string { return "sum_squares" }

// Infer implements Op.
func (SumSquares) Infer(in []Type) ([]Type, error) { return []Type{Of(dtype.F32)}, nil }

// FLOPs implements Coster.
func (SumSquares) FLOPs(in, out []Type) float64 {
	f := 0.0
	for _, t := range in {
		f += 2 * float64(t.Len())
	}
	return f
}

// AdamW is one step of Adam with decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101), as PyTorch computes it:
// p, g, m, v of one shape, then scalars (float32): learning rate, gradient scale (clipping; multiplies g), step number
// from 1 → p, m, v.
type AdamW struct {
	Beta1, Beta2, Eps, WeightDecay float64
}

// Name implements Op.
func (o AdamW) Name() string { return "adamw" }

// Infer implements Op.
func (o AdamW) Infer(in []Type) ([]Type, error) {
	if len(in) != 7 || !in[0].Equal(in[1]) || !in[0].Equal(in[2]) || !in[0].Equal(in[3]) {
		return nil, fmt.Errorf("want p, g, m, v of one type and three scalars")
	}
	p := Of(in[0].DType, in[0].Shape...)
	return []Type{p, p, p}, nil
}

// Aliases implements Aliaser.
func (AdamW) Aliases() []int { return []int{0, 2, 3} }

// FLOPs implements Coster.
func (AdamW) FLOPs(in, out []Type) float64 { return 12 * float64(in[0].Len()) }
