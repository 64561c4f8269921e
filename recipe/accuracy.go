package recipe

import (
	"context"

	"danlu/data"
	"danlu/train"
)

// accuracy counts how many scored tokens of a row are the model's best guess (compute_accuracy).
type accuracy struct{ *second }

func (j *job) accuracy(m *trainee) *accuracy {
	s := j.reader(m, train.BestTokens(1, m.Info().VocabSize, 1))
	s.rowwise = true // the logits of a whole batch would be large
	return &accuracy{s}
}

// measure implements train.Options.Measure: as in LLaMA-Factory the mean over rows of each row's share.
func (a *accuracy) measure(ctx context.Context, x *data.Batch) (map[string]float64, int, error) {
	sum, rows := 0.0, 0
	for i := range x.Rows {
		row := x.Part(i, i+1)
		if row.Scored == 0 {
			continue
		}
		out, err := a.Run(ctx, row)
		if err != nil {
			return nil, 0, err
		}
		right := 0
		for k, id := range out["ids"].I32() {
			if row.Targets[k] != data.Ignore && row.Targets[k] == id {
				right++
			}
		}
		sum += float64(right) / float64(row.Scored)
		rows++
	}
	return map[string]float64{"accuracy": sum}, rows, nil
}
