package generate

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// BeamSearch says how the most probable answers are searched for.
type BeamSearch struct {
	Beams         int     // answers that are extended at a time
	LengthPenalty float64 // an answer's score is its log-probability over its length to this power
	Early         bool    // end with as many answers as there are beams; otherwise when no better one can come
	MaxNew        int
	End           []int32 // tokens that end an answer
}

// Beam is an answer that was found.
type Beam struct {
	IDs     []int32 // new tokens, the one that ended the answer included
	Score   float64
	LogProb float64 // of all its tokens together
}

// beams is a search at work: the answers that go on, and the best of those that have ended, both best first.
type beams struct {
	r      *Runner
	o      BeamSearch
	prompt []int32
	seqs   []*Sequence
	open   []Beam
	ended  []Beam
}

// Search extends a prompt by the answers with the best scores, at most as many as there are beams, best first. The runner
// holds a sequence for each beam.
func (r *Runner) Search(ctx context.Context, prompt []int32, o BeamSearch) ([]Beam, error) {
	if o.Beams < 1 || o.Beams > r.Sequences() || o.MaxNew < 1 {
		return nil, fmt.Errorf("generate: want 1 to %d beams and at least one token, got %d and %d", r.Sequences(), o.Beams, o.MaxNew)
	}
	if n := len(prompt); n == 0 || n+o.MaxNew > r.opts.Context {
		return nil, fmt.Errorf("generate: a prompt of %d tokens and %d new ones do not fit the context of %d", n, o.MaxNew, r.opts.Context)
	}
	b := &beams{r: r, o: o, prompt: prompt, open: []Beam{{}}}
	defer func() {
		for _, s := range b.seqs {
			r.Close(s)
		}
	}()
	for range o.Beams {
		s, err := r.Open()
		if err != nil {
			return nil, err
		}
		b.seqs = append(b.seqs, s)
	}
	for n := 1; n <= o.MaxNew; n++ {
		if err := b.step(ctx, n); err != nil {
			return nil, err
		}
		if len(b.ended) == o.Beams && (o.Early || b.score(b.open[0].LogProb, n) <= b.ended[o.Beams-1].Score) {
			break
		}
	}
	return b.ended, nil
}

func (b *beams) score(logProb float64, length int) float64 {
	return logProb / math.Pow(float64(length), b.o.LengthPenalty)
}

// step extends all answers to n tokens.
func (b *beams) step(ctx context.Context, n int) error {
	var all []Beam
	for i := range b.open {
		more, err := b.extensions(ctx, i)
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	sortBeams(all)
	all = all[:min(len(all), b.width())]
	b.open = nil
	for rank, x := range all {
		if end := slices.Contains(b.o.End, x.IDs[n-1]); end || n == b.o.MaxNew {
			if rank < b.o.Beams {
				x.Score = b.score(x.LogProb, n)
				b.ended = append(b.ended, x)
			}
		} else if len(b.open) < b.o.Beams {
			b.open = append(b.open, x)
		}
	}
	slices.SortStableFunc(b.ended, func(x, y Beam) int { return cmp.Compare(y.Score, x.Score) })
	b.ended = b.ended[:min(len(b.ended), b.o.Beams)]
	if len(b.open) == 0 {
		b.open = []Beam{{LogProb: math.Inf(-1)}}
	}
	return nil
}

// width is the number of extensions among which those that go on are found, though some of the best may end.
func (b *beams) width() int { return max(2, 1+len(b.o.End)) * b.o.Beams }

func sortBeams(all []Beam) {
	slices.SortStableFunc(all, func(x, y Beam) int { return cmp.Compare(y.LogProb, x.LogProb) })
}

// extensions are the most probable ways in which an answer goes on.
func (b *beams) extensions(ctx context.Context, i int) ([]Beam, error) {
	text, s := slices.Concat(b.prompt, b.open[i].IDs), b.seqs[i]
	if len(s.IDs) == 0 {
		b.r.Next(s, text, 0) // finds the prefix
		b.r.Adopt(s, text, "")
	} else {
		b.r.Resume(s, text, nil)
	}
	var logits [][]float32
	for len(s.IDs) < len(text) {
		var err error
		if logits, err = b.r.Run(ctx, []Work{b.r.Next(s, text, b.r.Chunk())}); err != nil {
			return nil, err
		}
	}
	b.r.Share(s)
	lse := logSumExp(logits[0])
	var out []Beam
	for id, x := range logits[0] {
		if p := b.open[i].LogProb + float64(x) - lse; len(out) < b.width() || p > out[len(out)-1].LogProb {
			at, _ := slices.BinarySearchFunc(out, p, func(y Beam, p float64) int { return cmp.Compare(p, y.LogProb) })
			for at < len(out) && out[at].LogProb == p {
				at++
			}
			out = slices.Insert(out, at, Beam{IDs: []int32{int32(id)}, LogProb: p})
			out = out[:min(len(out), b.width())]
		}
	}
	for k := range out {
		out[k].IDs = append(slices.Clone(b.open[i].IDs), out[k].IDs...)
	}
	return out, nil
}
