package serve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"danlu/generate"
	"danlu/grammar"
	"danlu/tokenizer"
)

// shape is how one endpoint presents replies: the chat's or the plain completion's.
type shape interface {
	// opening is a reply's first event in a stream, nil for none.
	opening(index int) any
	// delta is the event of a further part.
	delta(m *Model, p piece) any
	// closing is a reply's last event.
	closing(m *Model, p piece, reason string) any
	// whole is a reply in one object.
	whole(m *Model, p piece, reason string) any
	// kind is the object's name, in a stream or not.
	kind(streamed bool) string
	// id begins the names of replies.
	id() string
}

// completion is the object around replies.
type completion struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	Model   string `json:"model"`
	Choices []any  `json:"choices"`
	Usage   *usage `json:"usage,omitempty"`
}

// answer runs a request and writes what comes of it.
func (s *Server) answer(w http.ResponseWriter, q *http.Request, r *request, prompts []prompt, look shape) *apiError {
	return s.work(q, r, prompts, func(ctx context.Context, out *feed, replies []*reply) *apiError {
		head := completion{ID: look.id() + newID(), Object: look.kind(r.stream), Created: time.Now().Unix(), Model: r.model.ID}
		if r.stream {
			return s.stream(w, ctx, r, out, replies, prompts, head, look)
		}
		return s.collect(w, ctx, r, out, replies, prompts, head, look)
	})
}

// work puts a request in work, lets write tell what comes of it, and notes it for the log.
func (s *Server) work(q *http.Request, r *request, prompts []prompt, write func(ctx context.Context, out *feed, replies []*reply) *apiError) *apiError {
	ctx, cancel := context.WithTimeout(q.Context(), s.opts.Timeout)
	defer cancel()
	out, replies, err := s.start(ctx, r, prompts)
	if err != nil {
		return refused(err)
	}
	note := noted(q)
	note.model = r.model.ID
	e := write(ctx, out, replies)
	u := count(prompts, replies)
	note.gone = slices.ContainsFunc(replies, func(a *reply) bool { return a.job.stop == generate.StopCancel })
	note.prompt, note.completion = u.Prompt, u.Completion
	return e
}

// refused says why jobs were not taken.
func refused(err error) *apiError {
	switch {
	case errors.Is(err, errQueueFull):
		return fault(http.StatusTooManyRequests, rateLimit, "queue_full", "too many requests wait; try again later")
	case errors.Is(err, errClosed):
		return fault(http.StatusServiceUnavailable, serverError, "shutting_down", "the server is shutting down")
	}
	return fault(http.StatusInternalServerError, serverError, "", "%v", err)
}

// failed says why replies did not come to their end, nil when they did.
func failed(ctx context.Context, replies []*reply) *apiError {
	for _, r := range replies {
		switch {
		case errors.Is(r.job.err, generate.ErrNoToken), errors.Is(r.job.err, grammar.ErrAmbiguous): // what the request admits
			return fault(http.StatusBadRequest, invalidRequest, "", "the reply cannot go on: %v", r.job.err)
		case r.job.err != nil:
			return fault(http.StatusInternalServerError, serverError, "", "%v", r.job.err)
		}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault(http.StatusGatewayTimeout, serverError, "timeout", "the reply took longer than the server allows")
	}
	return nil
}

// collect waits for all replies and writes one object.
func (s *Server) collect(w http.ResponseWriter, ctx context.Context, r *request, out *feed, replies []*reply, prompts []prompt, head completion, look shape) *apiError {
	said := make([]piece, len(replies))
	for left := len(replies); left > 0; {
		for _, p := range out.next() {
			said[p.index].add(p)
			if p.last {
				left--
			}
		}
	}
	if e := failed(ctx, replies); e != nil {
		return e
	}
	for i, a := range replies {
		head.Choices = append(head.Choices, look.whole(r.model, said[i], a.reason()))
	}
	head.Usage = count(prompts, replies)
	writeJSON(w, head)
	return nil
}

// stream writes the parts of all replies as they come.
func (s *Server) stream(w http.ResponseWriter, ctx context.Context, r *request, out *feed, replies []*reply, prompts []prompt, head completion, look shape) *apiError {
	events := newStream(w)
	send := func(choice any) {
		c := head
		c.Choices = []any{choice}
		events.send(c)
	}
	opened := make([]bool, len(replies))
	for left := len(replies); left > 0; {
		for _, p := range out.next() {
			a := replies[p.index]
			if p.last {
				left--
				if a.job.err != nil || ctx.Err() != nil {
					continue
				}
			}
			if first := look.opening(p.index); first != nil && !opened[p.index] {
				send(first)
			}
			opened[p.index] = true
			if p.last {
				send(look.closing(r.model, p, a.reason()))
			} else {
				send(look.delta(r.model, p))
			}
		}
		if events.open {
			events.flush()
		}
	}
	if e := failed(ctx, replies); e != nil {
		if !events.open {
			return e
		}
		events.fail(e)
		return nil
	}
	if r.usage {
		c := head
		c.Choices, c.Usage = []any{}, count(prompts, replies)
		events.send(c)
	}
	events.done()
	return nil
}

// plain is the shape of /v1/completions.
type plain struct {
	offsets map[int]int // of each reply's next token
	prompts []prompt
	r       *request
}

type plainChoice struct {
	Text   string      `json:"text"`
	Index  int         `json:"index"`
	Probs  *plainProbs `json:"logprobs"`
	Reason *string     `json:"finish_reason"`
	Prompt []any       `json:"prompt_logprobs,omitempty"` // vLLM's
}

type plainProbs struct {
	Tokens  []string             `json:"tokens"`
	Values  []*float64           `json:"token_logprobs"`
	Top     []map[string]float64 `json:"top_logprobs"`
	Offsets []int                `json:"text_offset"`
}

// opening repeats the prompt, where that is wanted, and tells its probabilities.
func (c *plain) opening(index int) any {
	if !c.r.echo && c.r.promptProbs < 0 {
		return nil
	}
	return c.before(index)
}

func (*plain) kind(bool) string { return "text_completion" }
func (*plain) id() string       { return "cmpl-" }

func (c *plain) delta(m *Model, p piece) any {
	return plainChoice{Text: p.said.Content, Index: p.index, Probs: c.probs(m, p.index, p.probs)}
}

func (c *plain) closing(m *Model, p piece, reason string) any {
	return plainChoice{Index: p.index, Probs: c.probs(m, p.index, p.probs), Reason: &reason}
}

func (c *plain) whole(m *Model, p piece, reason string) any {
	all := c.before(p.index)
	all.Text += p.said.Content
	all.Probs = all.Probs.with(c.probs(m, p.index, p.probs))
	all.Reason = &reason
	return all
}

// before is what a reply tells of its prompt.
func (c *plain) before(index int) plainChoice {
	out, m := plainChoice{Index: index}, c.r.model
	ids, x := c.prompts[index/c.r.n].ids, c.r.readings[index]
	if c.r.echo {
		out.Text = m.Tokenizer.Decode(ids, true)
	}
	if x == nil || x.probs < 0 {
		return out
	}
	if c.r.echo && c.r.probs >= 0 {
		first, _ := m.spelling(ids[0])
		out.Probs = &plainProbs{Tokens: []string{first}, Values: []*float64{nil}, Top: []map[string]float64{nil}, Offsets: []int{0}}
		c.offsets[index] = len([]rune(first))
		var told []drawn
		for _, t := range x.told {
			told = append(told, t.drawn)
		}
		out.Probs = out.Probs.with(c.probs(m, index, told))
	}
	if c.r.vllmProbs {
		out.Prompt = promptProbs(m, x.told)
	}
	return out
}

// promptProbs are the probabilities of a prompt's tokens in vLLM's shape; the first token has none.
func promptProbs(m *Model, told []scoredToken) []any {
	out := []any{nil}
	for _, t := range told {
		all := map[string]any{}
		add := func(id int32, logprob float64, rank int) {
			text, _ := m.spelling(id)
			all[strconv.Itoa(int(id))] = map[string]any{"logprob": logprob, "rank": rank, "decoded_token": text}
		}
		for i, x := range t.top {
			add(x.ID, x.Logit, i+1)
		}
		add(t.id, t.logprob, t.rank)
		out = append(out, all)
	}
	return out
}

// with appends further tokens.
func (p *plainProbs) with(more *plainProbs) *plainProbs {
	if p == nil || more == nil {
		return cmp.Or(p, more)
	}
	return &plainProbs{slices.Concat(p.Tokens, more.Tokens), slices.Concat(p.Values, more.Values), slices.Concat(p.Top, more.Top), slices.Concat(p.Offsets, more.Offsets)}
}

func (c *plain) probs(m *Model, index int, tokens []drawn) *plainProbs {
	if len(tokens) == 0 {
		return nil
	}
	p := &plainProbs{}
	for _, t := range tokens {
		text, _ := m.spelling(t.id)
		top := map[string]float64{text: t.logprob}
		for _, x := range t.top {
			s, _ := m.spelling(x.ID)
			top[s] = x.Logit
		}
		p.Tokens, p.Values, p.Top, p.Offsets = append(p.Tokens, text), append(p.Values, &t.logprob), append(p.Top, top), append(p.Offsets, c.offsets[index])
		c.offsets[index] += len([]rune(text))
	}
	return p
}

// completions answers /v1/completions.
func (s *Server) completions(w http.ResponseWriter, q *http.Request) *apiError {
	f, e := s.body(w, q)
	if e != nil {
		return e
	}
	r, prompts, e := s.continuing(f)
	if e != nil {
		return e
	}
	return s.answer(w, q, r, prompts, &plain{map[int]int{}, prompts, r})
}

// continuing reads a request for the continuation of texts.
func (s *Server) continuing(f *fields) (*request, []prompt, *apiError) {
	r := s.common(f)
	f.int("logprobs", 0, maxTop, &r.probs)
	f.bool("echo", &r.echo)
	r.vllmProbs = r.promptProbs >= 0
	if r.promptProbs < 0 && r.echo {
		r.promptProbs = r.probs
	}
	raw, given := f.take("prompt")
	if !given {
		f.fail(badField("prompt", "is missing"))
	}
	if f.err != nil {
		return nil, nil, f.err
	}
	if _, given := f.raw["best_of"]; given {
		f.only("best_of", "this server ranks no replies", "1")
	}
	if e := f.done(); e != nil {
		return nil, nil, e
	}
	if e := r.compile(false); e != nil {
		return nil, nil, e
	}
	prompts, e := r.texts("prompt", raw)
	if e != nil {
		return nil, nil, e
	}
	return r, prompts, nil
}

// promptOptions is how prompts that are no conversation are read.
var promptOptions = tokenizer.Options{ParseSpecial: true, AddSpecial: true}

// maxPrompts is the most prompts of one request.
const maxPrompts = 256

// texts reads a field that is a text, token ids, or a list of either.
func (r *request) texts(field string, raw json.RawMessage) ([]prompt, *apiError) {
	var list []json.RawMessage
	var ids []int32
	if json.Unmarshal(raw, &list) != nil || json.Unmarshal(raw, &ids) == nil && len(ids) > 0 {
		list = []json.RawMessage{raw}
	}
	if len(list) == 0 || len(list) > maxPrompts {
		return nil, badField(field, "want 1 to %d texts, got %d", maxPrompts, len(list))
	}
	vocab := r.model.Runner.Info().VocabSize
	var out []prompt
	for _, x := range list {
		var text string
		ids = nil
		switch {
		case json.Unmarshal(x, &text) == nil:
			ids = r.model.Tokenizer.Encode(text, promptOptions)
		case json.Unmarshal(x, &ids) == nil:
			for _, id := range ids {
				if id < 0 || int(id) >= vocab {
					return nil, badField(field, "want token ids of 0 to %d, got %d", vocab-1, id)
				}
			}
		default:
			return nil, badField(field, "want a text, token ids, or a list of either, got %s", short(x))
		}
		if e := r.fits(field, ids); e != nil {
			return nil, e
		}
		out = append(out, prompt{ids: ids, before: ids})
	}
	return out, nil
}
