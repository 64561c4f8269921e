package generate

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"danlu/grammar"
)

// Sampling says how the next token is chosen from the logits. Processors run in the order of the fields; a zero value
// leaves a processor out.
type Sampling struct {
	RepetitionPenalty float64 // divides positive and multiplies negative logits of seen tokens (arXiv:1909.05858); 0 or 1: none
	FrequencyPenalty  float64 // times the token's count
	PresencePenalty   float64 // once for each seen token
	RepeatLast        int     // how many last tokens count as seen; 0: all
	LogitBias         map[int32]float32
	NoRepeatNGram     int     // bans tokens that would repeat an n-gram
	Temperature       float64 // 0: greedy
	TopK              int
	TopP              float64 // smallest set whose probability exceeds it (arXiv:1904.09751); 0 or 1: none
	MinP              float64 // at least this share of the largest probability (arXiv:2407.01082)
	Typical           float64 // arXiv:2202.00666; 0 or 1: none
	Epsilon           float64 // at least this probability (arXiv:2210.15191)
	Eta               float64 // entropy-dependent Epsilon (same paper)
	Seed              uint64
}

// Validate names the field that is out of range.
func (s *Sampling) Validate() error {
	for _, f := range []struct {
		name   string
		x      float64
		lo, hi float64
	}{
		{"temperature", s.Temperature, 0, 100}, {"top_p", s.TopP, 0, 1}, {"min_p", s.MinP, 0, 1}, {"typical_p", s.Typical, 0, 1},
		{"epsilon_cutoff", s.Epsilon, 0, 1}, {"eta_cutoff", s.Eta, 0, 1}, {"repetition_penalty", s.RepetitionPenalty, 0, 100},
		{"frequency_penalty", s.FrequencyPenalty, -100, 100}, {"presence_penalty", s.PresencePenalty, -100, 100},
		{"top_k", float64(s.TopK), 0, math.MaxInt32}, {"no_repeat_ngram_size", float64(s.NoRepeatNGram), 0, math.MaxInt32},
		{"repeat_last_n", float64(s.RepeatLast), 0, math.MaxInt32},
	} {
		if !(f.x >= f.lo && f.x <= f.hi) {
			return fmt.Errorf("generate: %s: want %v to %v, got %v", f.name, f.lo, f.hi, f.x)
		}
	}
	return nil
}

// ErrNoToken says that nothing that may come next is possible.
var ErrNoToken = errors.New("generate: no token can come next")

// Candidate is a token that may come next.
type Candidate struct {
	ID    int32
	Logit float64 // after the processors
	P     float64 // probability among the candidates
}

// Sampler chooses tokens for one sequence. It is not safe for concurrent use.
type Sampler struct {
	Sampling
	rng        *rand.Rand
	candidates []Candidate
	weights    []float64
	counts     map[int32]int
}

// NewSampler returns a sampler whose choices depend on its seed and the logits only.
func NewSampler(s Sampling) *Sampler {
	return &Sampler{Sampling: s, rng: rand.New(rand.NewPCG(s.Seed, 0x64616e6c75))}
}

// Next chooses a token. logits [V] may be changed; seen are the sequence's tokens so far, prompt included; allowed, if
// not nil, are the tokens that may come.
func (s *Sampler) Next(logits []float32, seen []int32, allowed grammar.Mask) (int32, error) {
	if s.Temperature == 0 && s.plain() {
		return greedy(logits, allowed)
	}
	if s.whole() && allowed == nil {
		return s.draw(logits)
	}
	c := s.Distribution(logits, seen, allowed)
	if len(c) == 0 {
		return 0, ErrNoToken
	}
	if s.Temperature == 0 {
		return c[0].ID, nil
	}
	return pick(c, s.rng.Float64()), nil
}

// plain reports whether logits are used as they are.
func (s *Sampler) plain() bool {
	return (s.RepetitionPenalty == 0 || s.RepetitionPenalty == 1) && s.FrequencyPenalty == 0 && s.PresencePenalty == 0 && s.NoRepeatNGram == 0 && len(s.LogitBias) == 0
}

// whole reports whether every token can come, with the probability that temperature alone gives it.
func (s *Sampler) whole() bool {
	return s.plain() && s.Temperature > 0 && s.TopK == 0 && (s.TopP == 0 || s.TopP == 1) && s.MinP == 0 && (s.Typical == 0 || s.Typical == 1) && s.Epsilon == 0 && s.Eta == 0
}

// draw chooses among all tokens, without putting them in an order.
func (s *Sampler) draw(logits []float32) (int32, error) {
	top := float32(math.Inf(-1))
	for i, x := range logits {
		if x != x {
			return 0, fmt.Errorf("generate: logit %d is not a number", i)
		}
		top = max(top, x)
	}
	if s.weights = s.weights[:0]; math.IsInf(float64(top), -1) {
		return 0, ErrNoToken
	}
	sum := 0.0
	for _, x := range logits {
		w := math.Exp(float64(x-top) / s.Temperature)
		s.weights = append(s.weights, w)
		sum += w
	}
	u := s.rng.Float64() * sum
	last := int32(0)
	for i, w := range s.weights {
		if w == 0 {
			continue
		}
		last = int32(i)
		if u -= w; u < 0 {
			break
		}
	}
	return last, nil
}

func greedy(logits []float32, allowed grammar.Mask) (int32, error) {
	best := int32(-1)
	for i, x := range logits {
		if x != x {
			return 0, fmt.Errorf("generate: logit %d is not a number", i)
		}
		if (best < 0 || x > logits[best]) && allowed.Has(int32(i)) {
			best = int32(i)
		}
	}
	if best < 0 {
		return 0, ErrNoToken
	}
	return best, nil
}

// admitted calls f for the ids below n that are in the set, in order.
func admitted(n int, allowed grammar.Mask, f func(i int)) {
	if allowed == nil {
		for i := range n {
			f(i)
		}
		return
	}
	for w, word := range allowed[:min(len(allowed), (n+63)/64)] {
		for ; word != 0; word &= word - 1 {
			if i := 64*w + bits.TrailingZeros64(word); i < n {
				f(i)
			}
		}
	}
}

// pick is the first candidate, in order of id, at which the cumulative probability exceeds u.
func pick(c []Candidate, u float64) int32 {
	slices.SortFunc(c, func(a, b Candidate) int { return cmp.Compare(a.ID, b.ID) })
	sum := 0.0
	for _, x := range c {
		if sum += x.P; sum > u {
			return x.ID
		}
	}
	return c[len(c)-1].ID
}

// Distribution runs the processors and returns the remaining candidates, most probable first, their probabilities
// adding up to one. It changes logits; the result holds until the next call.
func (s *Sampler) Distribution(logits []float32, seen []int32, allowed grammar.Mask) []Candidate {
	s.penalise(logits, seen)
	c := s.candidates[:0]
	top := math.Inf(-1)
	admitted(len(logits), allowed, func(i int) {
		if x := float64(logits[i]); !math.IsInf(x, -1) {
			c = append(c, Candidate{ID: int32(i), Logit: x})
			top = max(top, x)
		}
	})
	s.candidates = c
	t := s.Temperature
	if t == 0 {
		t = 1
	}
	sum := 0.0
	for i := range c {
		c[i].Logit /= t
		c[i].P = math.Exp(c[i].Logit - top/t)
		sum += c[i].P
	}
	h := descending(c)
	h.init()
	limit := len(c)
	if s.TopK > 0 {
		limit = min(limit, s.TopK)
	}
	c = h.take(limit, s.TopP, s.TopK > 0, sum)
	normalise(c)
	if s.MinP > 0 {
		c = keep(c, func(x Candidate) bool { return x.P >= s.MinP*c[0].P })
	}
	if s.Typical > 0 && s.Typical < 1 {
		c = typical(c, s.Typical)
	}
	if s.Epsilon > 0 {
		c = keep(c, func(x Candidate) bool { return x.P >= s.Epsilon })
	}
	if s.Eta > 0 {
		cut := min(s.Eta, math.Sqrt(s.Eta)*math.Exp(-entropy(c)))
		c = keep(c, func(x Candidate) bool { return x.P >= cut })
	}
	return c
}

// penalise changes the logits of tokens that were seen.
func (s *Sampler) penalise(logits []float32, seen []int32) {
	recent := seen
	if s.RepeatLast > 0 {
		recent = seen[max(0, len(seen)-s.RepeatLast):]
	}
	penalty := s.RepetitionPenalty
	if penalty == 0 {
		penalty = 1
	}
	if penalty != 1 || s.FrequencyPenalty != 0 || s.PresencePenalty != 0 {
		if s.counts == nil {
			s.counts = map[int32]int{}
		}
		clear(s.counts)
		for _, id := range recent {
			s.counts[id]++
		}
		for id, n := range s.counts {
			if int(id) >= len(logits) || id < 0 {
				continue
			}
			x := float64(logits[id])
			if x > 0 {
				x /= penalty
			} else {
				x *= penalty
			}
			logits[id] = float32(x - s.FrequencyPenalty*float64(n) - s.PresencePenalty)
		}
	}
	for id, b := range s.LogitBias {
		if id >= 0 && int(id) < len(logits) {
			logits[id] += b
		}
	}
	if n := s.NoRepeatNGram; n > 0 && len(seen) >= n-1 {
		last := seen[len(seen)-(n-1):]
		for i := 0; i+n <= len(seen); i++ {
			if id := seen[i+n-1]; id >= 0 && int(id) < len(logits) && slices.Equal(seen[i:i+n-1], last) {
				logits[id] = float32(math.Inf(-1))
			}
		}
	}
}

// descending is a heap with the most probable candidate on top; of equal ones, the lower id.
type descending []Candidate

func (h descending) before(i, j int) bool {
	return h[i].Logit > h[j].Logit || h[i].Logit == h[j].Logit && h[i].ID < h[j].ID
}

func (h descending) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.sink(i, len(h))
	}
}

func (h descending) sink(i, n int) {
	for {
		k := 2*i + 1
		if k >= n {
			return
		}
		if k+1 < n && h.before(k+1, k) {
			k++
		}
		if !h.before(k, i) {
			return
		}
		h[i], h[k] = h[k], h[i]
		i = k
	}
}

// take removes up to limit candidates from the top, stopping when their share exceeds p, and returns them in order.
// The share is of the first limit candidates when cut, of all (whose weights add up to sum) otherwise.
func (h descending) take(limit int, p float64, cut bool, sum float64) []Candidate {
	n := len(h)
	out := func() []Candidate { // taken candidates are gathered from the end backwards
		slices.Reverse(h[n:])
		return h[n:]
	}
	byMass := p > 0 && p < 1
	pop := func() {
		n--
		h[0], h[n] = h[n], h[0]
		h.sink(0, n)
	}
	if byMass && !cut {
		for mass := 0.0; n > 0 && mass <= p*sum; {
			pop()
			mass += h[n].P
		}
		return out()
	}
	for range limit {
		pop()
	}
	c := out()
	if byMass {
		total, mass := 0.0, 0.0
		for _, x := range c {
			total += x.P
		}
		for i, x := range c {
			if mass += x.P; mass > p*total {
				return c[:i+1]
			}
		}
	}
	return c
}

func normalise(c []Candidate) {
	sum := 0.0
	for _, x := range c {
		sum += x.P
	}
	for i := range c {
		c[i].P /= sum
	}
}

// keep drops candidates, never the first one, and makes the probabilities of the others add up to one.
func keep(c []Candidate, ok func(Candidate) bool) []Candidate {
	n := 1
	for _, x := range c[1:] {
		if ok(x) {
			c[n] = x
			n++
		}
	}
	normalise(c[:n])
	return c[:n]
}

func entropy(c []Candidate) float64 {
	h := 0.0
	for _, x := range c {
		if x.P > 0 {
			h -= x.P * math.Log(x.P)
		}
	}
	return h
}

// typical keeps the candidates whose information is closest to the entropy until their mass reaches p.
func typical(c []Candidate, p float64) []Candidate {
	h := entropy(c)
	distance := func(x Candidate) float64 { return math.Abs(-math.Log(x.P) - h) }
	slices.SortStableFunc(c, func(a, b Candidate) int { return cmp.Compare(distance(a), distance(b)) })
	mass := 0.0
	for i, x := range c {
		if mass += x.P; mass >= p {
			c = c[:i+1]
			break
		}
	}
	normalise(c)
	slices.SortStableFunc(c, func(a, b Candidate) int { return cmp.Compare(b.Logit, a.Logit) })
	return c
}
