package recipe

import (
	"context"

	"danlu/data"
	"danlu/family"
	"danlu/tokenizer"
)

func init() { stages["pt"] = pretrain }

// pretrain learns plain text, from scratch or going on from a model: every token is scored.
func pretrain(ctx context.Context, j *job) error {
	tok, err := j.tokenizer()
	if err != nil {
		return err
	}
	encoder, err := j.textEncoder(tok)
	if err != nil {
		return err
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

// textEncoder reads texts for the objective that the recipe and the model's family ask for.
func (j *job) textEncoder(tok *tokenizer.Tokenizer) (data.Encoder, error) {
	text := data.TextEncoder{Tokenizer: plainText{tok, j.Model.SplitSpecial}, BOS: beginning(tok), EOS: tok.EOS()}
	if j.Data.Objective == "infilling" {
		return j.infilling(tok, text)
	}
	if family.Prefixed(j.source.model) {
		return nil, j.Errorf("pretraining_objective", "want infilling: the %s family sees a text both ways and learns it by filling blanks", j.source.model.Info().Family)
	}
	if j.PackingStrategy() != data.PackWrap {
		text.CutoffLen = j.Data.CutoffLen
	}
	return &text, nil
}
