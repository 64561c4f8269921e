package generate

import (
	"context"
	"math"
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
	Form     Constraint                // which tokens may come; nil: all
	Draft    *Drafting                 // guesses of several tokens, read in one pass; nil: none
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
	w := &writing{req: &req, sampler: NewSampler(req.Sampling), seen: append(slices.Clone(s.IDs), req.Prompt...)}
	logits, err := r.prefill(ctx, s, req, w.seen)
	for {
		if ctx.Err() != nil {
			w.res.Stop = StopCancel
			return w.res, nil
		}
		if err != nil {
			return w.res, err
		}
		var done bool
		done, err = w.rows(logits, r.opts.Context)
		if len(w.draft) > 0 {
			r.Truncate(s, min(len(s.IDs), len(w.seen)-1)) // without guesses that were wrong
		}
		if done || err != nil {
			return w.res, err
		}
		if w.draft, err = req.Draft.Guess(ctx, w.seen, r.opts.Context, w.left()); err == nil {
			logits, err = r.Run(ctx, []Work{r.Continue(s, w.seen, w.draft)})
		}
	}
}

// writing is an answer while it is written.
type writing struct {
	req     *Request
	sampler *Sampler
	seen    []int32 // what was read and written
	draft   []int32 // guesses that were read behind it
	res     Result
}

// left is the number of tokens that the answer may still have.
func (w *writing) left() int {
	if w.req.MaxNew == 0 {
		return math.MaxInt
	}
	return w.req.MaxNew - len(w.res.Tokens)
}

// rows draws a token from each row of logits, as long as the guesses are right.
func (w *writing) rows(logits [][]float32, context int) (done bool, err error) {
	for i, row := range logits {
		id, done, err := w.next(row, context)
		if done || err != nil {
			return done, err
		}
		if i < len(w.draft) {
			if id != w.draft[i] {
				break
			}
			w.req.Draft.Right()
		}
	}
	return false, nil
}

// next draws the next token.
func (w *writing) next(logits []float32, context int) (id int32, done bool, err error) {
	t, err := w.sampler.token(logits, w.seen, w.req.Form)
	if err != nil {
		return 0, false, err
	}
	id = t.ID
	if slices.Contains(w.req.End, id) {
		w.res.Stop = StopEnd
		return id, true, nil
	}
	w.res.Tokens = append(w.res.Tokens, t)
	w.seen = append(w.seen, id)
	ended, err := accept(w.req.Form, id)
	switch {
	case err != nil:
		return 0, false, err
	case w.req.Token != nil && w.req.Token(t), ended:
		w.res.Stop = StopEnd
	case w.req.MaxNew > 0 && len(w.res.Tokens) >= w.req.MaxNew:
		w.res.Stop = StopLength
	case len(w.seen) > context:
		w.res.Stop = StopContext
	}
	return id, w.res.Stop != "", nil
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

// Continue is the work that reads the last token of a text that is being written, and guesses of those behind it; it wants
// the logits of all of them.
func (r *Runner) Continue(s *Sequence, text, draft []int32) Work {
	w := r.Next(s, slices.Concat(text, draft), 1+len(draft))
	w.Logits = len(w.IDs)
	return w
}

// prefill reads the prompt, which ends text, in chunks and returns the logits after its last token.
func (r *Runner) prefill(ctx context.Context, s *Sequence, req Request, text []int32) ([][]float32, error) {
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
			return out, nil
		}
	}
}

// token chooses the next token and says how likely it was before the processors.
func (s *Sampler) token(logits []float32, seen []int32, form Constraint) (Token, error) {
	lse, raw := logSumExp(logits), logits
	if !s.plain() {
		raw = slices.Clone(logits)
	}
	id, err := s.Under(form, logits, seen)
	if err != nil {
		return Token{}, err
	}
	return Token{ID: id, LogProb: float64(raw[id]) - lse}, nil
}

func logSumExp(x []float32) float64 { return float64(kernel.LogSumExp(x)) }
