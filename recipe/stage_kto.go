package recipe

import (
	"context"
	"math"

	"danlu/data"
	"danlu/tensor"
	"danlu/train"
)

func init() { stages["kto"] = feedback }

// feedback learns from answers that are labelled good or bad (KTO).
func feedback(ctx context.Context, j *job) error {
	tok, err := j.tokenizer()
	if err != nil {
		return err
	}
	format, err := j.template(tok)
	if err != nil {
		return err
	}
	rows, err := j.rows(ctx, tok, &data.FeedbackEncoder{Template: format, CutoffLen: j.Data.CutoffLen, EfficientEOS: format.EfficientEOS(), Group: j.Data.GroupSize})
	if err != nil {
		return err
	}
	defer rows.close()
	model, err := j.model(tok)
	if err != nil {
		return err
	}
	defer model.store.Close()
	k := &kahnemanTversky{loss: train.KTO{Beta: j.Method.PrefBeta, DesirableWeight: j.Method.KTOChosenWeight, UndesirableWeight: j.Method.KTORejectedWeight, FTX: j.Method.PrefFtx},
		policy: j.reader(model, train.LogProbs)}
	defer k.policy.close()
	if k.reference, err = j.reference(model); err != nil {
		return err
	}
	defer k.reference.close()
	done, err := j.train(ctx, training{model: model, rows: rows, objective: k.loss.Objective(), prepare: k.prepare, count: countRows,
		shape: func(l train.Largest) train.Largest { l.B /= 2; return l }, beside: []*second{k.policy, k.reference}})
	if err != nil {
		return err
	}
	return j.report(done)
}

// countRows is the number of answers of a step.
func countRows(st *data.Step) float64 {
	n := 0
	for _, x := range st.Batches {
		n += x.Rows
	}
	return float64(n)
}

// kahnemanTversky adds to batches what the loss asks for.
type kahnemanTversky struct {
	loss              train.KTO
	policy, reference *second
}

// prepare implements train.Options.Prepare: the second half of each batch's rows are mismatched answers, from which the
// divergence of the whole step is estimated.
func (k *kahnemanTversky) prepare(ctx context.Context, st *data.Step) ([]*data.Step, error) {
	out := *st
	out.Batches = nil
	var policy, reference []float64
	good, bad := 0.0, 0.0
	for _, x := range st.Batches {
		n := x.Rows / 2
		answers, other := x.Part(0, n), x.Part(x.B/2, x.B/2+n)
		desirable := make([]float32, n)
		for i, label := range x.Labelled[:n] {
			if label {
				desirable[i] = 1
				good++
			} else {
				bad++
			}
		}
		base, err := k.reference.rowLogps(ctx, answers)
		if err != nil {
			return nil, err
		}
		answers.Extra = map[string]*tensor.Tensor{"reference": vectorOf(base), "desirable": vectorOf(desirable)}
		out.Batches = append(out.Batches, answers)
		for _, side := range []struct {
			model *second
			into  *[]float64
		}{{k.policy, &policy}, {k.reference, &reference}} {
			logps, err := side.model.rowLogps(ctx, other)
			if err != nil {
				return nil, err
			}
			for _, v := range logps {
				*side.into = append(*side.into, float64(v))
			}
		}
	}
	kl := number(k.loss.Divergence(policy, reference))
	share := func(n float64) *tensor.Tensor {
		if n == 0 {
			return number(math.NaN()) // there is nothing to take the mean of
		}
		return number((good + bad) / n)
	}
	for _, x := range out.Batches {
		if k.loss.FTX != 0 {
			x.Extra["ftx_share"] = number((good + bad) / max(good, 1))
			if good == 0 {
				x.Extra["ftx_share"] = number(0)
			}
		}
		x.Extra["kl"], x.Extra["per_good"], x.Extra["per_bad"] = kl, share(good), share(bad)
	}
	return []*data.Step{&out}, nil
}
