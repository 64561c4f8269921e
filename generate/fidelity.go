package generate

import (
	"context"
	"fmt"
	"math"

	"danlu/kernel"
)

// Fidelity is how well a model stands for another one on a text.
type Fidelity struct {
	Source, Model Perplexity
	// KL is the mean of the divergences of the model's next-token distributions from the source's, in nats.
	KL float64
	// Top1 is the share of places where both find the same token most probable.
	Top1 float64
}

// Compare scores a text with two models of one vocabulary, window by window, as Perplexity does.
func Compare(ctx context.Context, source, model *Runner, ids []int32, o PerplexityOptions) (*Fidelity, error) {
	v := source.model.Info().VocabSize
	if w := model.model.Info().VocabSize; w != v {
		return nil, fmt.Errorf("generate: compare: vocabularies of %d and %d tokens", v, w)
	}
	if len(ids) < o.Window || o.Window < 4 {
		return nil, fmt.Errorf("generate: compare: a text of %d tokens has no window of %d", len(ids), o.Window)
	}
	f := &Fidelity{}
	places, same := 0, 0
	windows := len(ids) / o.Window
	for w := range windows {
		window := ids[w*o.Window : (w+1)*o.Window]
		var rows []float32
		p, err := source.Perplexity(ctx, window, PerplexityOptions{Window: o.Window, BOS: o.BOS, Logits: func(x []float32) { rows = append(rows, x...) }})
		if err != nil {
			return nil, err
		}
		f.Source.add(p)
		q, err := model.Perplexity(ctx, window, PerplexityOptions{Window: o.Window, BOS: o.BOS, Logits: func(x []float32) {
			y := rows[:v]
			rows = rows[v:]
			f.KL += divergence(y, x)
			if kernel.ArgMax(x) == kernel.ArgMax(y) {
				same++
			}
			places++
		}})
		if err != nil {
			return nil, err
		}
		f.Model.add(q)
		if o.Progress != nil {
			o.Progress(w+1, windows)
		}
	}
	f.KL /= float64(places)
	f.Top1 = float64(same) / float64(places)
	return f, nil
}

// add appends the windows of another part of the text.
func (p *Perplexity) add(q *Perplexity) {
	p.NLL, p.Scored = p.NLL+q.NLL, p.Scored+q.Scored
	p.Windows = append(p.Windows, p.Value())
}

// divergence is the Kullback-Leibler divergence Σ p·log(p/q) of the distributions that two rows of logits stand for.
func divergence(p, q []float32) float64 {
	lp, lq, sum := logSumExp(p), logSumExp(q), 0.0
	for i, x := range p {
		a := float64(x) - lp
		if a > -30 { // what is less probable than e to the -30 adds less than rounding does
			sum += math.Exp(a) * (a - float64(q[i]) + lq)
		}
	}
	return max(0, sum)
}
