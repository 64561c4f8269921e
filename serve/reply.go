package serve

import (
	"context"
	"strings"
	"sync"

	"danlu/chat"
	"danlu/generate"
)

// piece is a further part of one of a request's replies.
type piece struct {
	index int
	said  chat.Said
	probs []drawn
	ran   []ran // programs that the server ran
	last  bool
}

// add appends a further part of the same reply.
func (p *piece) add(more piece) {
	p.index = more.index
	p.said.Add(more.said)
	p.probs, p.ran = append(p.probs, more.probs...), append(p.ran, more.ran...)
}

// feed hands pieces from the scheduler to the request's handler. The scheduler never waits for a slow client.
type feed struct {
	mu     sync.Mutex
	pieces []piece
	wake   chan struct{}
}

func (f *feed) put(p piece) {
	f.mu.Lock()
	f.pieces = append(f.pieces, p)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// next waits for pieces.
func (f *feed) next() []piece {
	for {
		f.mu.Lock()
		p := f.pieces
		f.pieces = nil
		f.mu.Unlock()
		if len(p) > 0 {
			return p
		}
		<-f.wake
	}
}

// reply is one choice of a request while it is written.
type reply struct {
	index  int
	job    *job
	text   *chat.Text
	parser *chat.Parser // nil: all is content
	out    *feed
	probs  []drawn // of tokens whose text is held back

	budget  int     // most tokens of thoughts; negative: any number
	closing []int32 // ends a thought
	forcing []int32 // rest of a closing that is being forced

	single            bool // the first call is the last
	tokens, reasoning int  // all, and those of thoughts without the tags around them
	called            bool

	most        int          // tokens; 0: as many as fit
	interpreter *interpreter // nil: no code is run
	round       round
}

// forced ends a thought that has spent its budget.
func (r *reply) forced() (id int32, ok bool) {
	if len(r.forcing) == 0 && r.budget >= 0 && r.reasoning >= r.budget && r.parser != nil && r.parser.Thinking() {
		r.forcing = r.closing
	}
	if len(r.forcing) == 0 {
		return 0, false
	}
	return r.forcing[0], true
}

// token takes a token from the scheduler.
func (r *reply) token(t drawn) (stop bool) {
	r.tokens++
	if t.end {
		return true
	}
	if r.job.probabilities >= 0 {
		r.probs = append(r.probs, t)
	}
	text, stop := r.text.Next(t.id)
	thinking := r.parser != nil && r.parser.Thinking()
	r.put(r.split(text))
	switch {
	case len(r.forcing) > 0:
		r.forcing = r.forcing[1:]
	case thinking && r.parser.Thinking():
		r.reasoning++
	}
	return stop || r.single && (r.called || len(r.round.calls) > 0)
}

func (r *reply) split(text string) chat.Said {
	if r.parser == nil {
		return chat.Said{Content: text}
	}
	return r.parser.Feed(text)
}

func (r *reply) put(s chat.Said) {
	s = r.note(s)
	if s.Content == "" && s.Reasoning == "" && len(s.Calls) == 0 {
		return
	}
	if r.single && len(s.Calls) > 0 {
		s.Calls = s.Calls[:1]
		if r.called {
			return
		}
	}
	r.called = r.called || len(s.Calls) > 0
	r.out.put(piece{index: r.index, said: s, probs: r.probs})
	r.probs = nil
}

// finish tells what was held back when the reply has ended.
func (r *reply) finish() {
	for on := true; on; on = r.goOn() {
		<-r.job.ended
		r.put(r.split(r.text.Flush()))
		if r.parser != nil {
			r.put(r.parser.Close())
		}
	}
	r.out.put(piece{index: r.index, probs: r.probs, last: true})
}

// reason is the reply's finish_reason.
func (r *reply) reason() string {
	switch {
	case r.called:
		return "tool_calls"
	case r.job.stop == generate.StopEnd:
		return "stop"
	}
	return "length" // of the reply or the context
}

// prompt is what one reply goes on from.
type prompt struct {
	ids      []int32
	pictures *generate.Pictures // nil: none
	before   []int32            // what the reply's text continues, nil for an answer
	parser   func() *chat.Parser
	keep     map[int32]bool
	// closing ends a thought, where the parser knows thoughts; thought says whether the prompt has opened one, or the reply
	// may.
	closing []int32
	thought thought
	// interpreter lets replies run code; nil: it does not.
	interpreter *interpreter
}

// start puts n replies to each prompt in work.
func (s *Server) start(ctx context.Context, r *request, prompts []prompt) (*feed, []*reply, error) {
	out := &feed{wake: make(chan struct{}, 1)}
	var replies []*reply
	var jobs []*job
	for _, p := range prompts {
		for i := range r.n {
			a := &reply{index: len(replies), out: out, budget: r.budget, single: r.single, most: r.answer.MaxNew}
			if err := r.prepare(ctx, a, p, r.answer.Sampling.Seed+uint64(i)); err != nil {
				return nil, nil, err
			}
			if p.pictures == nil && (r.promptProbs >= 0 || r.silent) {
				a.job.reading, a.job.anew = &reading{only: r.silent, probs: r.promptProbs}, true
			}
			r.readings = append(r.readings, a.job.reading)
			if p.interpreter != nil {
				own := *p.interpreter
				a.interpreter = &own
			}
			replies, jobs = append(replies, a), append(jobs, a.job)
		}
	}
	if err := r.model.sched.submit(jobs...); err != nil {
		for _, j := range jobs {
			j.draft.Close()
		}
		return nil, nil, err
	}
	for _, a := range replies {
		go a.finish()
	}
	return out, replies, nil
}

// prepare readies a reply to be written from a prompt.
func (r *request) prepare(ctx context.Context, a *reply, p prompt, seed uint64) (err error) {
	a.text, a.closing = chat.NewText(r.model.Tokenizer, p.before, r.stops, p.keep), p.closing
	if p.parser != nil {
		a.parser = p.parser()
	}
	req := r.answer
	req.Prompt, req.Pictures, req.Sampling.Seed = p.ids, p.pictures, seed
	if a.most > 0 {
		req.MaxNew = a.most - a.tokens
	}
	req.Form = r.constraint(a, p)
	a.job = &job{ctx: ctx, req: req, probabilities: r.probs, forced: a.forced, token: a.token, scope: r.model.scope(r.scope), adapter: r.model.adapter, anew: r.anew || p.pictures != nil}
	if p.pictures == nil { // a small model does not see
		a.job.draft, err = r.drafting()
	}
	return err
}

// usage counts a request's tokens.
type usage struct {
	Prompt        int `json:"prompt_tokens"`
	Completion    int `json:"completion_tokens"`
	Total         int `json:"total_tokens"`
	PromptDetails struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	Details struct {
		Reasoning int `json:"reasoning_tokens"`
		Accepted  int `json:"accepted_prediction_tokens"`
		Rejected  int `json:"rejected_prediction_tokens"`
	} `json:"completion_tokens_details"`
}

// count adds up what the replies came to. A prompt counts once, however many replies it has.
func count(prompts []prompt, replies []*reply) *usage {
	u := &usage{}
	for i, p := range prompts {
		u.Prompt += len(p.ids)
		u.PromptDetails.Cached += min(len(p.ids), replies[i*len(replies)/len(prompts)].job.cached) // of its first reply
	}
	for _, r := range replies {
		u.Completion += r.tokens
		u.Details.Reasoning += r.reasoning
		if d := r.job.draft; d != nil {
			u.Details.Accepted += d.Agreed
			u.Details.Rejected += d.Drafted - d.Agreed
		}
	}
	u.Total = u.Prompt + u.Completion
	return u
}

// spelling is a token's text; bytes is nil where the token is a part of a character.
func (m *Model) spelling(id int32) (text string, bytes []int) {
	text = m.Tokenizer.Decode([]int32{id}, false)
	if strings.ContainsRune(text, '�') {
		return text, nil
	}
	for _, b := range []byte(text) {
		bytes = append(bytes, int(b))
	}
	return text, bytes
}
