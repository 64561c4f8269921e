package train

import (
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
)

// Cloze trains which of several pieces fills a blank (GLM, arXiv:2103.10360, section 2.3): the cross-entropy of the right
// one among the pieces' probabilities. Row k·B/Choices+i of a batch is piece k of example i; norm is one over the
// examples of the step.
//
// Input beside the batch: right [B], 1 for the rows whose piece is the right one, else 0.
type Cloze struct{ Choices int }

// Objective builds the loss. It also reports the share of examples whose most probable piece is the right one.
func (x Cloze) Objective() Objective {
	return func(b *nn.Build, m family.Model, targets, norm *graph.Value) (*graph.Value, map[string]*graph.Value) {
		c := complete(b, m, targets, false)
		n := c.b / x.Choices
		byExample := func(v *graph.Value) *graph.Value { return graph.Permute(graph.ReshapeTo(v, x.Choices, n), 1, 0) }
		scores, right := byExample(c.sum(c.logp)), byExample(input(b, "right", c.b))
		most := graph.NoGrad(graph.MaxOf(scores, 1))
		all := graph.Log(graph.SumKeep(graph.Exp(graph.Sub(scores, most)), 1))
		logp := graph.Sub(graph.Sub(scores, most), all)
		loss := graph.Neg(total(graph.Mul(logp, right), norm))
		best := graph.Convert(graph.GreaterEqual(scores, most), scores.DType)
		return loss, map[string]*graph.Value{"loss": loss, "accuracy": total(graph.NoGrad(graph.Mul(best, right)), norm)}
	}
}
