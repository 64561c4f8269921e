package train

import (
	"danlu/dtype"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
)

// Alignment objectives look at the scored tokens of each row: those with a target. Everything that is known about a
// token stands at the place that predicts it, one before the token itself.

// completions are the scored tokens of a batch.
type completions struct {
	b, t    int
	logp    *graph.Value // [B, T]: log-probability of the target; 0 where there is none
	mask    *graph.Value // [B, T]: 1 where there is a target
	entropy *graph.Value // [B, T], 0 where there is no target; nil unless asked for
	count   *graph.Value // [B]: scored tokens of a row
}

// complete scores a batch.
func complete(b *nn.Build, m family.Model, targets *graph.Value, entropy bool) completions {
	return completionsOf(b, m.Hidden(b), m.Head(b), targets, entropy)
}

func completionsOf(b *nn.Build, hidden, head, targets *graph.Value, entropy bool) completions {
	s := b.Score(hidden, head, targets, entropy)
	c := completions{b: targets.Shape[0], t: targets.Shape[1], mask: scored(targets)}
	c.logp = graph.ReshapeTo(s.LogProb, c.b, c.t)
	c.count = graph.Sum(c.mask, 1)
	if entropy {
		c.entropy = graph.Mul(graph.ReshapeTo(s.Entropy, c.b, c.t), c.mask)
	}
	return c
}

// scored is 1 where there is a target, float32.
func scored(targets *graph.Value) *graph.Value {
	return graph.Convert(graph.GreaterEqual(targets, graph.ConstLike(targets, 0)), dtype.F32)
}

// sum adds up a row's values [B, T] → [B].
func (c completions) sum(x *graph.Value) *graph.Value { return graph.Sum(x, 1) }

// mean is the mean over a row's scored tokens [B, T] → [B]; 0 in rows without any.
func (c completions) mean(x *graph.Value) *graph.Value {
	return graph.Div(c.sum(x), graph.Max(c.count, graph.ConstLike(c.count, 1)))
}

// total is Σ x·norm.
func total(x, norm *graph.Value) *graph.Value { return graph.Mul(graph.Sum(x), norm) }

// input declares a float32 input.
func input(b *nn.Build, name string, shape ...int) *graph.Value {
	return b.G.Input(name, graph.Of(dtype.F32, shape...))
}

// logSigmoid is log(1/(1+exp(-x))), without overflow and with the right slope at 0.
func logSigmoid(x *graph.Value) *graph.Value {
	top := graph.NoGrad(graph.Max(graph.Neg(x), graph.ConstLike(x, 0)))
	return graph.Neg(graph.Add(top, graph.Log(graph.Add(graph.Exp(graph.Neg(top)), graph.Exp(graph.Neg(graph.Add(x, top)))))))
}

// greater is 1 where a > b, float32.
func greater(a, b *graph.Value) *graph.Value { return graph.Convert(graph.Greater(a, b), dtype.F32) }

// clip bounds x, with slope 1 inside.
func clip(x *graph.Value, low, high float64) *graph.Value {
	return graph.Min(graph.Max(x, graph.ConstLike(x, low)), graph.ConstLike(x, high))
}

func square(x *graph.Value) *graph.Value { return graph.Mul(x, x) }

// perToken is one over the scored tokens of the step, where norm is one over something else.
func perToken(b *nn.Build, norm *graph.Value) *graph.Value {
	return graph.Mul(norm, input(b, "per_token"))
}
