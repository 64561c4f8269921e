package cpu

import (
	"context"
	"time"

	"danlu/engine"
)

// Estimate implements engine.Estimator. The first pass touches memory for the first time, the second is timed.
func (p *program) Estimate(ctx context.Context, in engine.Tensors) (time.Duration, error) {
	var took time.Duration
	for range 2 {
		e := &estimate{}
		start := time.Now()
		if _, err := p.Run(context.WithValue(ctx, estimateKey{}, e), in); err != nil {
			return 0, err
		}
		took = time.Since(start) + e.skipped
	}
	return took, nil
}

type estimateKey struct{}

// estimate is the time that a run would have taken for the iterations that it left out.
type estimate struct{ skipped time.Duration }

// repeat runs one iteration twice and takes the second for each of the others.
func (e *estimate) repeat(ctx context.Context, r *repeat) error {
	before := e.skipped
	start := time.Now()
	var body time.Duration
	for range 2 {
		e.skipped = 0
		begin := time.Now()
		if err := r.iterate(ctx, 0); err != nil {
			return err
		}
		body = time.Since(begin) + e.skipped
	}
	e.skipped = before + time.Duration(r.n)*body - time.Since(start)
	return nil
}
