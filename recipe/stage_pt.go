package recipe

import (
	"context"

	"danlu/data"
)

func init() { stages["pt"] = pretrain }

// pretrain learns plain text, from scratch or going on from a model: every token is scored.
func pretrain(ctx context.Context, j *job) error {
	tok, err := j.tokenizer()
	if err != nil {
		return err
	}
	encoder := &data.TextEncoder{Tokenizer: plainText{tok, j.Model.SplitSpecial}, BOS: beginning(tok), EOS: tok.EOS()}
	if j.PackingStrategy() != data.PackWrap {
		encoder.CutoffLen = j.Data.CutoffLen
	}
	rows, err := j.rows(ctx, tok, encoder)
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
	done, err := j.train(ctx, training{model: model, rows: rows, objective: objective})
	if err != nil {
		return err
	}
	return j.report(done)
}
