package generate

import (
	"context"

	"danlu/family"
)

// verifier reads texts through the cache for family.Verify.
type verifier struct {
	r   *Runner
	seq *Sequence
}

// Verifier lends the runner to family.Verify, which closes it.
func (r *Runner) Verifier() (family.CachedModel, error) {
	seq, err := r.Open()
	if err != nil {
		return nil, err
	}
	return &verifier{r, seq}, nil
}

// Read implements family.CachedModel.
func (v *verifier) Read(ctx context.Context, t family.Text) ([][]float32, error) {
	return v.r.Run(ctx, []Work{{Sequence: v.seq, IDs: t.IDs, Positions: t.Positions, Total: t.Total, Features: t.Features, Logits: len(t.IDs)}})
}

// Reset implements family.CachedModel.
func (v *verifier) Reset(prefix int) {
	v.r.Truncate(v.seq, 0)
	v.seq.Prefix = prefix
}

// Close implements family.CachedModel.
func (v *verifier) Close() error {
	v.r.Close(v.seq)
	return v.r.Shut()
}
