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
	token   Token // the newest; its LogProb for requests that ask for it
	told    bool  // the request's Token has ended the answer
	ended   bool  // its form is complete
	err     error
}

// Batch answers many requests, with as many in work at a time as the runner holds sequences: a new one starts where one
// ends and the cache has room for another, and every pass extends all of them. Prompts share what they begin with. An
// answer depends on its own request and the weights only. done, if set, is told of each answer as it ends. Of requests'
// callbacks only Token is called; their guesses are not used.
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
	scope := r.Scope()
	for next := 0; next < len(requests) || len(live) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for next < len(requests) && r.admits(live, &requests[next], scope) {
			a, err := r.answering(next, &requests[next], scope)
			if err != nil {
				return nil, err
			}
			live = append(live, a)
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

// answering opens a sequence for a request, with what the cache holds of its prompt.
func (r *Runner) answering(at int, req *Request, scope string) (*answering, error) {
	seq, err := r.Open()
	if err != nil {
		return nil, err
	}
	seq.Pictures = req.Pictures
	a := &answering{at: at, req: req, seq: seq, sampler: NewSampler(req.Sampling), seen: slices.Clone(req.Prompt)}
	r.Next(seq, a.seen, 0) // finds the prefix
	r.Adopt(seq, a.seen, scope)
	return a, nil
}

// admits reports whether there is a sequence and room in the cache for a request, and nobody in work is just reading what
// it begins with.
func (r *Runner) admits(live []*answering, req *Request, scope string) bool {
	if len(live) == 0 {
		return true
	}
	need := r.Pages(r.longest(req))
	for _, a := range live {
		need += r.Pages(r.longest(a.req))
	}
	if len(live) == r.opts.Sequences || need > r.opts.Pages {
		return false
	}
	cached := r.Cached(req.Prompt, scope)
	return !slices.ContainsFunc(live, func(a *answering) bool {
		return len(a.seq.IDs) < len(a.req.Prompt) && r.Shareable(a.req.Prompt, req.Prompt) > cached
	})
}

// longest is the number of tokens that a request can come to.
func (r *Runner) longest(req *Request) int {
	if req.MaxNew == 0 {
		return r.opts.Context
	}
	return min(len(req.Prompt)+req.MaxNew, r.opts.Context)
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
	for _, a := range drawing {
		if len(a.seen) == len(a.req.Prompt)+1 { // the prompt is read
			r.Share(a.seq)
		}
		if a.err == nil && a.req.Token != nil && !slices.Contains(a.req.End, a.token.ID) {
			a.told = a.req.Token(a.token)
		}
	}
	return nil
}

// draw samples the next token.
func (a *answering) draw() {
	if a.req.Token != nil {
		a.token, a.err = a.sampler.token(a.logits, a.seen, a.req.Form)
	} else {
		a.token.ID, a.err = a.sampler.Under(a.req.Form, a.logits, a.seen)
	}
	a.logits = nil
	a.seen = append(a.seen, a.token.ID)
	if a.err == nil && !slices.Contains(a.req.End, a.token.ID) {
		a.ended, a.err = accept(a.req.Form, a.token.ID)
	}
}

// stop says why the answer has ended, "" when it has not.
func (a *answering) stop(context int) Stop {
	n := len(a.seen) - len(a.req.Prompt)
	switch {
	case n == 0 || len(a.seq.IDs) < len(a.seen)-1: // what was seen is still being read
		return ""
	case a.told || a.ended || slices.Contains(a.req.End, a.token.ID):
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
