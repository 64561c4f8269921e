package generate

import (
	"context"
)

// Drafter guesses how a text goes on. Guesses are read by the model in one pass and taken over as far as they are what it
// would have written itself (arXiv:2211.17192; here a guess is right when the model draws the very token, so that an
// answer is the same with any drafter and without).
type Drafter interface {
	// Draft returns at most n tokens that may follow text, which goes on from the text of the call before or branches off
	// from it.
	Draft(ctx context.Context, text []int32, n int) ([]int32, error)
	// Close frees what the drafter holds.
	Close()
}

// Drafting is a drafter at work on one answer.
type Drafting struct {
	Drafter Drafter
	Most    int // guesses of one pass

	Passes          int // that read guesses
	Drafted, Agreed int // guesses, and those that were right

	next         int // guesses for the next pass
	last, agreed int // of the last pass that read some
}

// Guess returns guesses to read behind a text of an answer that may have left more tokens.
func (d *Drafting) Guess(ctx context.Context, text []int32, context, left int) ([]int32, error) {
	if d == nil {
		return nil, nil
	}
	d.adapt()
	n := min(d.next, context-len(text), left-1)
	if n <= 0 {
		return nil, nil
	}
	ids, err := d.Drafter.Draft(ctx, text, n)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	d.last = len(ids)
	d.Passes++
	d.Drafted += len(ids)
	return ids, nil
}

// adapt guesses more where all guesses of the last pass were right, and fewer where they were not.
func (d *Drafting) adapt() {
	switch {
	case d.next == 0:
		d.next = d.Most
	case d.last > 0 && d.agreed == d.last:
		d.next = min(2*d.last+1, d.Most)
	case d.last > 0:
		d.next = min(d.agreed+1, d.Most)
	}
	d.last, d.agreed = 0, 0
}

// Right counts a guess that was right.
func (d *Drafting) Right() {
	d.Agreed++
	d.agreed++
}

// Close frees the drafter; a nil Drafting has none.
func (d *Drafting) Close() {
	if d != nil {
		d.Drafter.Close()
	}
}
