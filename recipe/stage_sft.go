package recipe

import (
	"context"

	"danlu/data"
	"danlu/train"
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
	rows, err := j.rows(ctx, tok, &data.ChatEncoder{Template: format, CutoffLen: j.Data.CutoffLen, TrainOnPrompt: j.Data.TrainOnPrompt, MaskHistory: j.Data.MaskHistory,
		EfficientEOS: format.EfficientEOS()})
	if err != nil {
		return err
	}
	defer rows.close()
	model, err := j.model(tok)
	if err != nil {
		return err
	}
	defer model.store.Close()
	done, err := j.train(ctx, training{model: model, rows: rows, objective: train.CrossEntropy(j.Method.ZLoss)})
	if err != nil {
		return err
	}
	return j.report(done)
}
