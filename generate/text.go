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
	Pictures *Pictures // of the text that ends with the prompt; nil: those that the sequence has
	MaxNew   int       // 0: as far as the context goes
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
	if req.Pictures != nil {
		s.Pictures = req.Pictures
	}
	sampler := NewSampler(req.Sampling)
	seen := append(slices.Clone(s.IDs), req.Prompt...)
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
		t, err := sampler.token(logits, seen, req.Allowed)
		if err != nil {
			return res, err
		}
		if slices.Contains(req.End, t.ID) {
			res.Stop = StopEnd
			return res, nil
		}
		res.Tokens = append(res.Tokens, t)
		seen = append(seen, t.ID)
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
		out, err := r.Run(ctx, []Work{r.Next(s, seen, 1)})
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

// Next is the work that brings a sequence nearer to the end of text, whose first tokens it holds, by at most room tokens;
// it wants the logits of the text's last one. An empty sequence gets the text's prefix, which goes into one pass: Next
// takes no tokens as long as a pass could hold a prefix that room cannot.
func (r *Runner) Next(s *Sequence, text []int32, room int) Work {
	from := len(s.IDs)
	to := min(from+room, len(text))
	w := Work{Sequence: s, Total: len(text)}
	if s.Pictures != nil {
		s.Pictures.place(&w, from, to)
	} else if l, ok := r.model.(family.Layouter); ok {
		rows, prefix := l.Layout(text)
		if from == 0 {
			s.Prefix = prefix
		}
		if to < s.Prefix && room < r.opts.Chunk {
			to = from
		}
		for _, row := range rows {
			w.Positions = append(w.Positions, row[from:to])
		}
	}
	w.IDs = text[from:to]
	if to == len(text) {
		w.Logits = 1
	}
	return w
}

// prefill reads the prompt, which ends text, in chunks and returns the logits after its last token.
func (r *Runner) prefill(ctx context.Context, s *Sequence, req Request, text []int32) ([]float32, error) {
	for {
		out, err := r.Run(ctx, []Work{r.Next(s, text, r.opts.Chunk)})
		if err != nil {
			return nil, err
		}
		left := len(text) - len(s.IDs)
		if req.Prefill != nil {
			req.Prefill(len(req.Prompt)-left, len(req.Prompt))
		}
		if left == 0 {
			return out[0], nil
		}
	}
}

// token chooses the next token and says how likely it was before the processors.
func (s *Sampler) token(logits []float32, seen []int32, allowed func(id int32) bool) (Token, error) {
	lse, raw := logSumExp(logits), logits
	if !s.plain() {
		raw = slices.Clone(logits)
	}
	id, err := s.Next(logits, seen, allowed)
	if err != nil {
		return Token{}, err
	}
	return Token{ID: id, LogProb: float64(raw[id]) - lse}, nil
}

func logSumExp(x []float32) float64 { return float64(kernel.LogSumExp(x)) }
