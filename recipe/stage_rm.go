package recipe

import (
	"context"

	"danlu/data"
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
	done, err := j.train(ctx, training{model: p.model, rows: p.rows, objective: train.RewardModel{Head: head}.Objective(), count: countPairs})
	if err != nil {
		return err
	}
	return j.report(done)
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
	if err := j.plain(j.source.model); err != nil {
		return nil, err
	}
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
