package recipe

import (
	"context"

	"danlu/data"
	"danlu/tensor"
	"danlu/train"
)

func init() { stages["dpo"] = preference }

// preference learns from pairs of answers without a reward model: DPO and its family (pref_loss).
func preference(ctx context.Context, j *job) error {
	loss := j.preferenceLoss()
	if err := loss.Check(); err != nil {
		return j.Errorf("pref_loss", "%v", err)
	}
	p, err := j.pairs(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	d := &directPreference{loss: loss}
	t := training{model: p.model, rows: p.rows, objective: loss.Objective(), prepare: d.prepare, count: countPairs}
	if loss.NeedsReference() {
		if d.reference, err = j.reference(p.model); err != nil {
			return err
		}
		defer d.reference.close()
		t.beside = append(t.beside, d.reference)
	}
	done, err := j.train(ctx, t)
	if err != nil {
		return err
	}
	return j.report(done)
}

// preferenceLoss translates the recipe's keys.
func (j *job) preferenceLoss() train.Preference {
	m := &j.Method
	return train.Preference{Loss: m.PrefLoss, Beta: m.PrefBeta, Smoothing: m.LabelSmoothing, Gamma: m.SimPOGamma, Alpha: m.CPOAlpha, FTX: m.PrefFtx}
}

// directPreference adds to batches what the losses ask for.
type directPreference struct {
	loss      train.Preference
	reference *second // nil: the loss needs none
}

// prepare implements train.Options.Prepare.
func (d *directPreference) prepare(ctx context.Context, st *data.Step) ([]*data.Step, error) {
	tokens := 0
	for _, x := range st.Batches {
		for _, id := range x.Targets[:x.B/2*x.T] {
			if id != data.Ignore {
				tokens++
			}
		}
	}
	for _, x := range st.Batches {
		x.Extra = map[string]*tensor.Tensor{}
		if d.reference != nil {
			logps, err := d.reference.rowLogps(ctx, x)
			if err != nil {
				return nil, err
			}
			x.Extra["reference"] = vectorOf(logps)
		}
		if d.loss.NeedsTokens() {
			x.Extra["per_token"] = number(countPairs(st) / float64(max(tokens, 1)))
		}
	}
	return []*data.Step{st}, nil
}
