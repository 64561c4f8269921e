package generate

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// Answer is what a Request of a batch came to.
type Answer struct {
	IDs  []int32 // new tokens, the one that ended the answer included
	Stop Stop
}

// answering is a request in work.
type answering struct {
	at      int
	req     *Request
	seq     *Sequence
	sampler *Sampler
	seen    []int32 // prompt and answer
	logits  []float32
	err     error
}

// Batch answers many requests, with as many in work at a time as the runner holds sequences: a new one starts where one
// ends, and every pass extends all of them. An answer depends on its own request and the weights only. done, if set, is
// told of each answer as it ends. Requests' callbacks are not called.
func (r *Runner) Batch(ctx context.Context, requests []Request, done func(i int, a Answer)) ([]Answer, error) {
	answers := make([]Answer, len(requests))
	for i := range requests {
		if err := requests[i].Sampling.Validate(); err != nil {
			return nil, err
		}
		if n := len(requests[i].Prompt); n == 0 || n >= r.opts.Context {
			return nil, fmt.Errorf("generate: request %d: a prompt of %d tokens does not fit the context of %d", i, n, r.opts.Context)
		}
	}
	var live []*answering
	defer func() {
		for _, a := range live {
			r.Close(a.seq)
		}
	}()
	for next := 0; next < len(requests) || len(live) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for next < len(requests) && len(live) < r.opts.Sequences {
			seq, err := r.Open()
			if err != nil {
				return nil, err
			}
			seq.Pictures = requests[next].Pictures
			live = append(live, &answering{at: next, req: &requests[next], seq: seq, sampler: NewSampler(requests[next].Sampling), seen: slices.Clone(requests[next].Prompt)})
			next++
		}
		if err := r.advance(ctx, live); err != nil {
			return nil, err
		}
		for _, a := range live {
			if a.err != nil {
				return nil, fmt.Errorf("request %d: %w", a.at, a.err)
			}
		}
		live = slices.DeleteFunc(live, func(a *answering) bool {
			if answers[a.at].Stop = a.stop(r.opts.Context); answers[a.at].Stop == "" {
				return false
			}
			answers[a.at].IDs = a.seen[len(a.req.Prompt):]
			if done != nil {
				done(a.at, answers[a.at])
			}
			r.Close(a.seq)
			return true
		})
	}
	return answers, nil
}

// advance runs one pass and draws a token for every sequence that has read all of its own.
func (r *Runner) advance(ctx context.Context, live []*answering) error {
	var work []Work
	var drawing []*answering
	room := r.opts.Chunk
	for _, a := range live {
		w := r.Next(a.seq, a.seen, room)
		if len(w.IDs) == 0 {
			continue
		}
		if w.Logits > 0 {
			drawing = append(drawing, a)
		}
		work = append(work, w)
		room -= len(w.IDs)
	}
	logits, err := r.Run(ctx, work)
	if err != nil {
		return err
	}
	for i, a := range drawing {
		a.logits = logits[i]
	}
	inParallel(len(drawing), func(i int) { drawing[i].draw() })
	return nil
}

// draw samples the next token.
func (a *answering) draw() {
	id, err := a.sampler.Next(a.logits, a.seen, a.req.Allowed)
	a.err, a.logits = err, nil
	a.seen = append(a.seen, id)
}

// stop says why the answer has ended, "" when it has not.
func (a *answering) stop(context int) Stop {
	n := len(a.seen) - len(a.req.Prompt)
	switch {
	case n == 0 || len(a.seq.IDs) < len(a.seen)-1: // what was seen is still being read
		return ""
	case slices.Contains(a.req.End, a.seen[len(a.seen)-1]):
		return StopEnd
	case a.req.MaxNew > 0 && n >= a.req.MaxNew:
		return StopLength
	case len(a.seen) > context:
		return StopContext
	}
	return ""
}

// inParallel calls f for 0 .. n-1 on all processors.
func inParallel(n int, f func(i int)) {
	workers := min(n, runtime.NumCPU())
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wait sync.WaitGroup
	for w := range workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := w; i < n; i += workers {
				f(i)
			}
		}()
	}
	wait.Wait()
}
