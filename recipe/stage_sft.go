package recipe

import (
	"context"

	"danlu/data"
)

func init() { stages["sft"] = supervised }

// supervised learns the answers of conversations.
func supervised(ctx context.Context, j *job) error {
	tok, err := j.tokenizer()
	if err != nil {
		return err
	}
	format, err := j.template(tok)
	if err != nil {
		return err
	}
	if err := j.readsPictures(); err != nil {
		return err
	}
	rows, err := j.rows(ctx, tok, &data.ChatEncoder{Template: format, CutoffLen: j.Data.CutoffLen, TrainOnPrompt: j.Data.TrainOnPrompt, MaskHistory: j.Data.MaskHistory,
		EfficientEOS: format.EfficientEOS(), Pictures: j.pictures})
	if err != nil {
		return err
	}
	defer rows.close()
	model, err := j.model(tok)
	if err != nil {
		return err
	}
	defer model.store.Close()
	objective, err := j.nextToken(model)
	if err != nil {
		return err
	}
	t := training{model: model, rows: rows, objective: objective}
	if j.Method.ComputeAccuracy && j.pictures != nil {
		return j.Errorf("compute_accuracy", "does not go with pictures; eval_loss is measured")
	}
	if j.Method.ComputeAccuracy {
		a := j.accuracy(model)
		defer a.close()
		t.measure, t.beside = a.measure, []*second{a.second}
	}
	done, err := j.train(ctx, t)
	if err != nil {
		return err
	}
	return j.report(done)
}
