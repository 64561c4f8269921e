package recipe

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"danlu/data"
)

// PreviewOptions say what of a recipe's data is shown.
type PreviewOptions struct {
	Samples int  // how many, from the first on
	Colour  bool // scored text in green, else between »«
	SVG     bool // instead: the first row that is trained on, as a drawing of who attends to whom
}

// errPreviewed ends a stage that had only to show its data.
var errPreviewed = errors.New("recipe: previewed")

// Preview encodes a recipe's data as its stage does and shows what will be trained on. No weight is read.
func Preview(ctx context.Context, r *Recipe, o RunOptions, p PreviewOptions) (string, error) {
	if len(r.Stages) > 0 {
		return "", fmt.Errorf("recipe: %s: has stages; preview one by itself", r.File)
	}
	var shown string
	j := &job{Recipe: r, RunOptions: o, outcome: &Outcome{}, run: &runDir{}}
	j.preview = func(rows *rows) (err error) {
		if p.SVG {
			shown, err = rows.drawing()
		} else {
			shown, err = rows.samples(p.Samples, p.Colour)
		}
		if err == nil {
			err = errPreviewed
		}
		return err
	}
	j.sayNotes()
	err := j.carryOut(ctx, stages[r.Method.Stage])
	if errors.Is(err, errPreviewed) {
		return shown, nil
	}
	if err == nil {
		err = fmt.Errorf("recipe: %s: stage %s shows no data", r.File, r.Method.Stage)
	}
	return "", err
}

// samples shows the first n samples in the order of the set.
func (r *rows) samples(n int, colour bool) (string, error) {
	var b strings.Builder
	for i := range min(int64(n), r.shown()) {
		text, err := r.sample(i, colour)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "--- %d\n%s\n", i+1, text)
	}
	return b.String() + r.counts(), nil
}

// shown is how many there are to be shown.
func (r *rows) shown() int64 {
	if r.prefix {
		return r.loader.RowsPerEpoch()
	}
	return r.set.Len()
}

// sample shows sample i, as the row that it becomes where rows have positions of their own.
func (r *rows) sample(i int64, colour bool) (string, error) {
	if r.prefix {
		x, err := r.loader.Row(i)
		if err != nil {
			return "", err
		}
		var parts []string
		for row := range x.Rows {
			parts = append(parts, x.PreviewRow(row, r.decode))
		}
		return strings.Join(parts, "\n"), nil
	}
	s, err := r.set.Store.Sample(r.set.At(i))
	if err != nil {
		return "", err
	}
	var parts []string
	for _, q := range s.Sequences {
		parts = append(parts, data.Preview(q, r.decode, colour))
	}
	return strings.Join(parts, "\n"), nil
}

// drawing is the first row of the first step.
func (r *rows) drawing() (string, error) {
	st, err := r.loader.Next()
	if err != nil {
		return "", err
	}
	return st.Batches[0].MaskSVG(0, 0, func(id int32) string { return r.decode([]int32{id}) })
}
