package recipe

import (
	"context"
	"fmt"
	"strconv"

	"danlu/data"
	"danlu/tensor"
	"danlu/train"
)

func init() { stages["rm"] = rewardModel }

// rewardModel learns which of two answers is preferred: a model with a value head that scores an answer's last token.
func rewardModel(ctx context.Context, j *job) error {
	p, err := j.pairs(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	head := train.LlamaFactoryHead
	if err := j.addHead(p.model, head); err != nil {
		return err
	}
	first, err := p.rows.set.Store.Sample(p.rows.set.At(0))
	if err != nil {
		return err
	}
	_, graded := first.Extra[marginColumn]
	t := training{model: p.model, rows: p.rows, objective: train.RewardModel{Head: head, Margin: graded}.Objective(), count: countPairs}
	if graded {
		t.prepare = addMargins
	}
	done, err := j.train(ctx, t)
	if err != nil {
		return err
	}
	return j.report(done)
}

// marginColumn says in a dataset how much better the chosen answer is (Llama 2, arXiv:2307.09288, section 3.2.2).
const marginColumn = "margin"

// addMargins reads the margins of a step's pairs. It implements train.Options.Prepare.
func addMargins(_ context.Context, st *data.Step) ([]*data.Step, error) {
	for _, x := range st.Batches {
		margins := make([]float32, x.B/2)
		for i := range x.Rows / 2 {
			s, err := x.Store.Sample(x.Samples[i][0])
			if err != nil {
				return nil, err
			}
			m, err := strconv.ParseFloat(s.Extra[marginColumn], 32)
			if err != nil {
				return nil, fmt.Errorf("recipe: %s:%d: %s: want a number, got %q", s.File, s.Line, marginColumn, s.Extra[marginColumn])
			}
			margins[i] = float32(m)
		}
		x.Extra = map[string]*tensor.Tensor{"margin": vectorOf(margins)}
	}
	return []*data.Step{st}, nil
}

// pairs are what the stages on preference pairs share.
type pairs struct {
	model *trainee
	rows  *rows
}

func (p *pairs) close() {
	p.rows.close()
	p.model.store.Close()
}

// pairs reads the dataset of pairs and declares the model.
func (j *job) pairs(ctx context.Context) (*pairs, error) {
	tok, err := j.tokenizer()
	if err != nil {
		return nil, err
	}
	format, err := j.template(tok)
	if err != nil {
		return nil, err
	}
	rows, err := j.rows(ctx, tok, &data.PreferenceEncoder{Template: format, CutoffLen: j.Data.CutoffLen, EfficientEOS: format.EfficientEOS()})
	if err != nil {
		return nil, err
	}
	model, err := j.model(tok)
	if err != nil {
		rows.close()
		return nil, err
	}
	return &pairs{model, rows}, nil
}

// countPairs is the number of pairs of a step.
func countPairs(st *data.Step) float64 {
	n := 0
	for _, x := range st.Batches {
		n += x.Rows / 2
	}
	return float64(n)
}
