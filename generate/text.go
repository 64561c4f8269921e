package generate

import (
	"context"
	"slices"

	"danlu/family"
	"danlu/kernel"
)

// Stop says why a generation ended.
type Stop string

// The reasons.
const (
	StopEnd     Stop = "stop"      // an end token or a stop string
	StopLength  Stop = "length"    // the number of new tokens that were asked for
	StopContext Stop = "context"   // the context is full
	StopCancel  Stop = "cancelled" // the caller went away
)

// Request is one generation.
type Request struct {
	Prompt   []int32
	MaxNew   int // 0: as far as the context goes
	Sampling Sampling
	End      []int32                   // tokens that end it
	Allowed  func(id int32) bool       // what a grammar admits next; nil: everything
	Prefill  func(done, total int)     // called while the prompt is read
	Token    func(t Token) (stop bool) // called for every token but an end token
}

// Token is a generated token.
type Token struct {
	ID      int32
	LogProb float64 // under the model's distribution, before the processors
}

// Result is what a generation came to.
type Result struct {
	Tokens []Token
	Stop   Stop
}

// Generate extends a sequence by the prompt and then token by token. The sequence keeps what was read and written, so
// that a conversation can go on.
func (r *Runner) Generate(ctx context.Context, s *Sequence, req Request) (Result, error) {
	if err := req.Sampling.Validate(); err != nil {
		return Result{}, err
	}
	sampler := NewSampler(req.Sampling)
	seen := append(slices.Clone(s.IDs), req.Prompt...)
	if l, ok := r.model.(family.Layouter); ok && len(s.IDs) == 0 {
		_, s.Prefix = l.Layout(seen)
	}
	logits, err := r.prefill(ctx, s, req, seen)
	if err != nil {
		return Result{}, err
	}
	var res Result
	for {
		if ctx.Err() != nil {
			res.Stop = StopCancel
			return res, nil
		}
		lse := logSumExp(logits)
		raw := func(id int32) float64 { return float64(logits[id]) }
		var before []float32
		if !sampler.plain() {
			before = slices.Clone(logits)
			raw = func(id int32) float64 { return float64(before[id]) }
		}
		id, err := sampler.Next(logits, seen, req.Allowed)
		if err != nil {
			return res, err
		}
		if slices.Contains(req.End, id) {
			res.Stop = StopEnd
			return res, nil
		}
		t := Token{ID: id, LogProb: raw(id) - lse}
		res.Tokens = append(res.Tokens, t)
		seen = append(seen, id)
		if req.Token != nil && req.Token(t) {
			res.Stop = StopEnd
			return res, nil
		}
		if req.MaxNew > 0 && len(res.Tokens) >= req.MaxNew {
			res.Stop = StopLength
			return res, nil
		}
		if len(s.IDs) >= r.opts.Context {
			res.Stop = StopContext
			return res, nil
		}
		out, err := r.Run(ctx, []Work{{Sequence: s, IDs: []int32{id}, Positions: r.positions(seen, len(seen)-1, len(seen)), Logits: 1}})
		if ctx.Err() != nil {
			res.Stop = StopCancel
			return res, nil
		}
		if err != nil {
			return res, err
		}
		logits = out[0]
	}
}

// positions numbers the tokens from..to of a text where the family does not count them 0, 1, 2, ..., else it is nil.
func (r *Runner) positions(text []int32, from, to int) [][]int32 {
	l, ok := r.model.(family.Layouter)
	if !ok {
		return nil
	}
	rows, _ := l.Layout(text)
	out := make([][]int32, len(rows))
	for p := range rows {
		out[p] = rows[p][from:to]
	}
	return out
}

// prefill reads the prompt, which ends text, in chunks and returns the logits after its last token.
func (r *Runner) prefill(ctx context.Context, s *Sequence, req Request, text []int32) ([]float32, error) {
	total := len(s.IDs) + len(req.Prompt)
	for done := 0; ; {
		n := min(len(req.Prompt)-done, r.opts.Chunk)
		w := Work{Sequence: s, IDs: req.Prompt[done : done+n], Positions: r.positions(text, len(s.IDs), len(s.IDs)+n), Total: total}
		if done += n; done == len(req.Prompt) {
			w.Logits = 1
		}
		out, err := r.Run(ctx, []Work{w})
		if err != nil {
			return nil, err
		}
		if req.Prefill != nil {
			req.Prefill(done, len(req.Prompt))
		}
		if done == len(req.Prompt) {
			return out[0], nil
		}
	}
}

func logSumExp(x []float32) float64 { return float64(kernel.LogSumExp(x)) }
