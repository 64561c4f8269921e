package serve

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"danlu/generate"
	"danlu/kernel"
)

// drawn is a token as it was drawn.
type drawn struct {
	id      int32
	end     bool                 // one of the request's end tokens
	logprob float64              // under the model's distribution, before the processors; only where probabilities were asked for
	top     []generate.Candidate // the most probable tokens; Candidate.Logit is the logprob
}

// job is one reply in work.
type job struct {
	ctx context.Context
	req generate.Request // Prefill and Token are not called
	// probabilities asks for logprobs, with so many alternatives; negative: none.
	probabilities int
	draft         *generate.Drafting // guesses of several tokens; nil: none
	reading       *reading           // what is to be found out about the prompt; nil: nothing
	// forced is the token that comes next whatever the model finds probable; ok is false where the model is to choose.
	forced func() (id int32, ok bool)
	// token is told of every drawn token, on a goroutine of the scheduler; stop ends the reply.
	token func(drawn) (stop bool)
	// scope sets the prompts apart that must not share pages of the cache; anew reads the prompt whatever the cache holds.
	scope string
	// adapter of the runner's that the reply takes, from 1 on; 0: none.
	adapter int
	anew    bool

	ended chan struct{} // closed when the reply has ended; stop and err hold from then on
	stop  generate.Stop
	err   error

	came, began, first, last time.Time // submitted, first in work, first token, newest token
	cached                   int       // tokens of the prompt that the cache held when the job came into work

	seq     *generate.Sequence
	sampler *generate.Sampler
	seen    []int32     // prompt and reply
	guesses []int32     // read behind them in this pass
	logits  [][]float32 // of this pass: after the last token and after each guess
}

// left is the number of tokens that are not in the cache.
func (j *job) left() int {
	if j.seq == nil {
		return len(j.seen)
	}
	return len(j.seen) - len(j.seq.IDs)
}

// readWhileWriting is the most prompt tokens of a pass that also extends replies: a long prompt makes them wait no longer
// than so many rows take.
const readWhileWriting = 128

// errQueueFull refuses a job that would have to wait behind too many others.
var errQueueFull = errors.New("serve: the queue is full")

// errClosed refuses a job of a scheduler that is closed.
var errClosed = errors.New("serve: the server is shutting down")

// scheduler owns a runner and extends all replies in work in each pass. A reply depends on its own request and the
// weights only.
type scheduler struct {
	runner  *generate.Runner
	metrics *metrics
	queue   int // most jobs that wait

	mu      sync.Mutex
	waiting []*job
	errands []func() // what is to be done between two passes
	running int
	closed  bool
	wake    chan struct{} // a job came, or the scheduler closes
	done    chan struct{} // the loop has ended

	live []*job // of the loop alone, in the order in which they came
}

func newScheduler(r *generate.Runner, queue int) *scheduler {
	s := &scheduler{runner: r, metrics: newMetrics(), queue: queue, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.loop()
	return s
}

// submit puts jobs of one request into the queue, all or none.
func (s *scheduler) submit(jobs ...*job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := 0 // those whose clients are still there
	for _, j := range s.waiting {
		if j.ctx.Err() == nil {
			waiting++
		}
	}
	switch {
	case s.closed:
		return errClosed
	case waiting+s.running+len(jobs) > s.queue+s.runner.Sequences():
		return errQueueFull
	}
	for _, j := range jobs {
		j.ended, j.came = make(chan struct{}), time.Now()
		j.seen, j.sampler = slices.Clone(j.req.Prompt), generate.NewSampler(j.req.Sampling)
	}
	s.waiting = append(s.waiting, jobs...)
	s.rouse()
	return nil
}

func (s *scheduler) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// between calls f when no pass is running, and returns what it returns.
func (s *scheduler) between(ctx context.Context, f func() error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	done := make(chan error, 1)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	s.errands = append(s.errands, func() {
		if ctx.Err() != nil { // nobody waits any more
			return
		}
		done <- f()
	})
	s.rouse()
	s.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runErrands does what came since the last pass.
func (s *scheduler) runErrands() {
	s.mu.Lock()
	errands := s.errands
	s.errands = nil
	s.mu.Unlock()
	for _, f := range errands {
		f()
	}
}

// load is the number of replies in work and of those that wait.
func (s *scheduler) load() (running, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running, len(s.waiting)
}

// close refuses new jobs, lets those that are there end, and waits for it.
func (s *scheduler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.rouse()
	<-s.done
}

func (s *scheduler) loop() {
	defer close(s.done)
	for {
		s.runErrands()
		s.leave()
		s.join()
		s.metrics.fill(s.runner)
		if len(s.live) == 0 {
			s.mu.Lock()
			over := s.closed && len(s.waiting) == 0 && len(s.errands) == 0
			s.mu.Unlock()
			if over {
				return
			}
			<-s.wake
			continue
		}
		if err := s.pass(); err != nil {
			// What one pass could not do, the next cannot do either: the replies in work fail, later ones start afresh.
			for _, j := range s.live {
				j.err = err
			}
		}
	}
}

// leave takes away the replies that have ended or that nobody waits for any more.
func (s *scheduler) leave() {
	gone := func(j *job) bool {
		if j.err == nil && j.stop == "" && j.ctx.Err() != nil {
			j.stop = generate.StopCancel
		}
		if j.err == nil && j.stop == "" {
			return false
		}
		if j.seq != nil {
			s.runner.Close(j.seq)
			j.seq = nil
		}
		j.draft.Close()
		s.metrics.left(j)
		close(j.ended)
		return true
	}
	s.live = slices.DeleteFunc(s.live, gone)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, gone)
	s.running = len(s.live)
}

// join starts waiting jobs, in the order in which they came, while there are sequences for them.
func (s *scheduler) join() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 0 {
		for _, j := range s.live {
			s.runner.Share(j.seq)
		}
	}
	for i := 0; i < len(s.waiting) && len(s.live) < s.runner.Sequences(); {
		j := s.waiting[i]
		if s.awaits(j) {
			i++
			continue
		}
		if len(s.live) > 0 && s.room() < len(j.seen) {
			break
		}
		if j.seq, j.err = s.runner.Open(); j.err != nil {
			return // leave takes it away
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.begin(j)
		s.live = append(s.live, j)
	}
	s.running = len(s.live)
}

// begin readies a job's empty sequence.
func (s *scheduler) begin(j *job) {
	j.seq.Pictures, j.seq.Adapter = j.req.Pictures, j.adapter
	s.runner.Next(j.seq, j.seen, 0) // finds the prefix
	if j.seq.Prefix > s.runner.Chunk() {
		j.err = fmt.Errorf("serve: a prompt of %d tokens that see each other does not fit a pass of %d", j.seq.Prefix, s.runner.Chunk())
	}
	if j.reading != nil {
		j.reading.restart(j.seq)
	}
	cached := 0
	if !j.anew {
		cached = s.runner.Adopt(j.seq, j.seen, j.scope)
	}
	if j.began.IsZero() {
		j.began, j.cached = time.Now(), cached
		s.metrics.joined(j)
	}
}

// awaits reports whether a job in work is just reading what this one begins with: then it waits and adopts it.
func (s *scheduler) awaits(j *job) bool {
	if j.anew {
		return false
	}
	cached := s.runner.Cached(j.seen, j.scope)
	return slices.ContainsFunc(s.live, func(k *job) bool {
		return k.left() > 1 && !k.anew && k.scope == j.scope && s.runner.Shareable(k.seen, j.seen) > cached
	})
}

// growth is the room of the cache that is left to every reply in work before another one starts, in tokens.
const growth = 32

// room is the number of tokens that the cache still takes when all prompts in work are read.
func (s *scheduler) room() int {
	n := s.runner.Room()
	for _, j := range s.live {
		n -= j.left() + growth
	}
	return n
}

// pass extends every reply by a token and reads on in the prompts.
func (s *scheduler) pass() error {
	plan := s.plan()
	if len(plan) == 0 {
		return nil // the only job there is does not fit; leave takes it away
	}
	work := make([]generate.Work, len(plan))
	from := make([]int, len(plan)) // tokens before each part
	for i, p := range plan {
		work[i], from[i] = p.work, len(p.job.seq.IDs)
	}
	// The pass is not bound to any request's context: it serves all of them.
	logits, err := s.runner.Run(context.Background(), work)
	if err != nil {
		return err
	}
	var drawing []*job
	for i, p := range plan {
		j, n := p.job, p.work.Logits
		rows := logits[:n]
		logits = logits[n:]
		if j.reading != nil {
			j.reading.score(rows, from[i], j.req.Prompt)
			if j.reading.only {
				if j.left() == 0 {
					j.stop = generate.StopLength
					s.metrics.read(j)
				}
				continue
			}
		}
		if j.left() <= 0 {
			j.logits = rows[n-1-len(j.guesses):]
			drawing = append(drawing, j)
		}
	}
	now := time.Now()
	each(drawing, func(j *job) {
		before := len(j.seen)
		j.drawAll(s.runner.Context())
		s.metrics.drew(j, now, len(j.seen)-before)
	})
	for _, j := range drawing {
		if len(j.guesses) > 0 {
			s.runner.Truncate(j.seq, min(len(j.seq.IDs), len(j.seen)-1)) // without guesses that were wrong
		}
	}
	return nil
}

// part is what a pass reads of a job.
type part struct {
	job  *job
	work generate.Work
}

// plan divides a pass: a token for each reply that is being written, and the rest for the prompts.
func (s *scheduler) plan() []part {
	var parts []part
	var reading []*job
	s.guess()
	room := s.runner.Chunk()
	take := func(j *job, n int) {
		if j.reading != nil && j.reading.probs >= 0 {
			n = min(n, scored)
		}
		// A prefix that has to be read at once takes what room there is, or waits for a pass with more.
		w := s.runner.Next(j.seq, j.seen, n)
		if len(w.IDs) == 0 {
			w = s.runner.Next(j.seq, j.seen, room)
		}
		if j.reading != nil {
			j.reading.want(&w)
		}
		if n := len(w.IDs); n > 0 && s.reserve(j, n) {
			parts = append(parts, part{j, w})
			room -= n
		}
	}
	for _, j := range slices.Clone(s.live) {
		switch {
		case j.seq == nil || j.err != nil: // it had to make room
		case j.left() > 1:
			reading = append(reading, j)
		case room > 0 && len(j.guesses) > 0:
			if n := 1 + len(j.guesses); n > room || !s.reserve(j, n) {
				j.guesses = nil
				continue
			}
			parts = append(parts, part{j, s.runner.Continue(j.seq, j.seen, j.guesses)})
			room -= 1 + len(j.guesses)
		case room > 0:
			take(j, 1)
		}
	}
	spare := room
	if len(parts) > 0 {
		spare = min(room, readWhileWriting)
	}
	for _, r := range shares(reading, spare) {
		if n := min(r.tokens, room); n > 0 && r.job.seq != nil {
			take(r.job, n)
		}
	}
	// Making room may have taken the pages of a job that was planned before.
	return slices.DeleteFunc(parts, func(p part) bool { return p.job.seq == nil })
}

// share is how many tokens of a job's prompt a pass reads.
type share struct {
	job    *job
	tokens int
}

// shares divides room among prompts, which are in the order in which they came: short ones are read first, so that most
// replies begin early, but a quarter goes to the prompt that came first, so that none waits for ever.
func shares(reading []*job, room int) []share {
	if len(reading) == 0 {
		return nil
	}
	oldest := share{reading[0], min(reading[0].left(), max(1, room/4))}
	room -= oldest.tokens
	rest := slices.Clone(reading[1:])
	slices.SortStableFunc(rest, func(a, b *job) int { return a.left() - b.left() })
	list := make([]share, 0, len(reading))
	for _, j := range rest {
		n := max(0, min(j.left(), room))
		list = append(list, share{j, n})
		room -= n
	}
	oldest.tokens += max(0, min(oldest.job.left()-oldest.tokens, room))
	return slices.Insert(list, 0, oldest)
}

// MostGuessing is the most replies in work at a time for which guesses are read: with more of them a pass is busy without.
const MostGuessing = 4

// guess asks the drafters of the replies that are being written.
func (s *scheduler) guess() {
	for _, j := range s.live {
		j.guesses = nil
		if j.draft == nil || len(s.live) > MostGuessing || j.left() > 1 || j.err != nil || j.reading != nil && j.reading.only {
			continue
		}
		left := math.MaxInt
		if j.req.MaxNew > 0 {
			left = j.req.MaxNew - (len(j.seen) - len(j.req.Prompt))
		}
		j.guesses, j.err = j.draft.Guess(j.ctx, j.seen, s.runner.Context(), left)
		if j.ctx.Err() != nil {
			j.err = nil // leave takes it away
		}
	}
}

// reserve finds the pages for n more tokens of a job. Where there are none, the job that came last gives its own back and
// waits, to be read anew: its reply goes on as if nothing had happened. It is false when the job itself had to go.
func (s *scheduler) reserve(j *job, n int) bool {
	for j.seq != nil {
		err := s.runner.Reserve(j.seq, n)
		if err == nil {
			return true
		}
		if !errors.Is(err, generate.ErrCacheFull) || len(s.live) == 1 {
			j.err = err
			return false
		}
		s.suspend(s.live[len(s.live)-1])
	}
	return false
}

func (s *scheduler) suspend(j *job) {
	s.runner.Close(j.seq)
	j.seq = nil
	s.live = slices.DeleteFunc(s.live, func(x *job) bool { return x == j })
	s.mu.Lock()
	s.waiting = slices.Insert(s.waiting, 0, j)
	s.running = len(s.live)
	s.mu.Unlock()
	s.metrics.mu.Lock()
	s.metrics.suspended++
	s.metrics.mu.Unlock()
}

// drawAll samples the next token, and further ones as long as the guesses are right.
func (j *job) drawAll(context int) {
	rows := j.logits
	j.logits = nil
	for i, logits := range rows {
		j.draw(logits, context)
		if j.err != nil || j.stop != "" || i == len(j.guesses) || j.seen[len(j.seen)-1] != j.guesses[i] {
			return
		}
		j.draft.Right()
	}
}

// draw samples the next token and says whether the reply ends with it.
func (j *job) draw(logits []float32, context int) {
	raw := logits
	if j.probabilities >= 0 {
		raw = slices.Clone(logits)
	}
	id, ok := j.forced()
	if !ok {
		var err error
		if id, err = j.sampler.Under(j.req.Form, logits, j.seen); err != nil {
			j.err = err
			return
		}
	}
	j.seen = append(j.seen, id)
	t := drawn{id: id, end: slices.Contains(j.req.End, id)}
	if j.probabilities >= 0 {
		lse := float64(kernel.LogSumExp(raw))
		t.logprob, t.top = float64(raw[id])-lse, likeliest(raw, lse, j.probabilities)
	}
	ended := false
	if j.req.Form != nil && !t.end {
		if ended, j.err = j.req.Form.Accept(id); j.err != nil {
			return
		}
	}
	stop := j.token(t)
	switch {
	case t.end || stop || ended:
		j.stop = generate.StopEnd
	case j.req.MaxNew > 0 && len(j.seen)-len(j.req.Prompt) >= j.req.MaxNew:
		j.stop = generate.StopLength
	case len(j.seen) > context:
		j.stop = generate.StopContext
	}
}

// likeliest are the n most probable tokens, best first; of equal ones, the lower id.
func likeliest(logits []float32, lse float64, n int) []generate.Candidate {
	top := make([]generate.Candidate, 0, n+1)
	for id, x := range logits {
		if n == 0 || len(top) == n && float64(x) <= top[n-1].Logit {
			continue
		}
		at := len(top)
		for at > 0 && top[at-1].Logit < float64(x) {
			at--
		}
		top = slices.Insert(top, at, generate.Candidate{ID: int32(id), Logit: float64(x)})
		top = top[:min(len(top), n)]
	}
	for i := range top {
		top[i].Logit -= lse
	}
	return top
}

// each calls f for all jobs on all processors. A panic fails the job that it belongs to.
func each(jobs []*job, f func(*job)) {
	guarded := func(j *job) {
		defer func() {
			if r := recover(); r != nil {
				j.err = fmt.Errorf("serve: %v", r)
			}
		}()
		f(j)
	}
	workers := min(len(jobs), runtime.NumCPU())
	if workers == 1 {
		guarded(jobs[0])
		return
	}
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < len(jobs); i += workers {
				guarded(jobs[i])
			}
		})
	}
	wait.Wait()
}
