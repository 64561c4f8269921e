package recipe

import (
	"context"
	"slices"

	"danlu/data"
	"danlu/family"
	"danlu/generate"
	"danlu/tokenizer"
)

// atOnce is the most answers that are written at a time: more make each pass longer without making it cheaper by token.
const atOnce = 64

// rollouts draws answers from the model in training, over a KV cache that shares its weights.
type rollouts struct {
	*generate.Runner
	job      *job
	tok      *tokenizer.Tokenizer
	end      []int32 // tokens that end an answer
	sampling generate.Sampling
	most     int            // tokens of an answer
	number   data.Numbering // of the model's family; nil: as any text
}

// rollouts prepares answers of up to most tokens to prompts of up to longest tokens, n of them at a step.
func (j *job) rollouts(m *trainee, t *tokenizer.Tokenizer, f *template, longest, most, n int) (*rollouts, error) {
	g := &j.Generation
	end, _ := f.Stop()
	r := &rollouts{job: j, tok: t, end: end, most: most,
		sampling: generate.Sampling{Temperature: g.Temperature, TopP: g.TopP, TopK: g.TopK, MinP: g.MinP, RepetitionPenalty: g.RepetitionPenalty}}
	if !g.DoSample {
		r.sampling.Temperature = 0
	}
	if len(end) == 0 {
		return nil, j.Errorf("template", "%s has no token that ends an answer", f.Name())
	}
	sequences := min(n, atOnce)
	chunk := max(512, sequences)
	if l, ok := m.Model.(family.Layouter); ok {
		r.number = l.Layout
		chunk = max(chunk, longest) // a prefix is read in one pass
	}
	var err error
	r.Runner, err = generate.NewRunner(j.engine, m.store, m.Model, generate.Options{Policy: m.policy, Prepare: m.prepare, Context: longest + most, Sequences: sequences, Chunk: chunk})
	return r, err
}

// answer is a drawn answer.
type answer struct {
	prompt   []int32
	ids      []int32 // its tokens, the one that ends it included
	text     string
	finished bool // it ended by itself
}

// draw answers each prompt n times. The same seed gives the same answers from the same weights.
func (r *rollouts) draw(ctx context.Context, prompts [][]int32, n int, seed uint64) ([]answer, error) {
	requests := make([]generate.Request, 0, len(prompts)*n)
	for _, p := range prompts {
		for range n {
			s := r.sampling
			s.Seed = mixed(seed, uint64(len(requests)))
			requests = append(requests, generate.Request{Prompt: p, MaxNew: r.most, Sampling: s, End: r.end})
		}
	}
	drawn, err := r.Batch(ctx, requests, nil)
	if err != nil {
		return nil, err
	}
	answers := make([]answer, len(drawn))
	for i, d := range drawn {
		a := answer{prompt: requests[i].Prompt, ids: d.IDs, finished: d.Stop == generate.StopEnd}
		said := a.ids
		if a.finished {
			said = said[:len(said)-1]
		}
		a.text = r.tok.Decode(said, false)
		answers[i] = a
	}
	return answers, nil
}

// sequence is a prompt with its answer, of which the answer is scored.
func (a answer) sequence(scored bool) data.Sequence {
	s := data.Sequence{IDs: slices.Concat(a.prompt, a.ids), Labels: make([]int32, len(a.prompt)+len(a.ids))}
	for i := range s.Labels {
		s.Labels[i] = data.Ignore
	}
	if scored {
		copy(s.Labels[len(a.prompt):], a.ids)
	}
	return s
}

// rounded is a width rounded up: each width of a batch needs a program of its own.
func (r *rollouts) rounded(width int) int {
	unit := max(8, (r.Context()/widths+7)/8*8)
	return (width + unit - 1) / unit * unit
}

// batches lays sequences out in micro-batches of b rows.
func (r *rollouts) batches(sequences []data.Sequence, b int) []*data.Batch {
	var list []*data.Batch
	for part := range slices.Chunk(sequences, b) {
		longest := 0
		for _, s := range part {
			longest = max(longest, len(s.IDs))
		}
		x := data.PadBatch(part, r.rounded(longest), padding(r.tok))
		if r.number != nil {
			x.Number(r.number)
		}
		list = append(list, x)
	}
	return list
}

// widest is the width of the widest batch.
func (r *rollouts) widest() int { return r.rounded(r.Context()) }

// mixed makes one seed of several numbers (splitmix64, once for each).
func mixed(seed uint64, parts ...uint64) uint64 {
	for _, p := range parts {
		seed += 0x9e3779b97f4a7c15 + p
		seed = (seed ^ seed>>30) * 0xbf58476d1ce4e5b9
		seed = (seed ^ seed>>27) * 0x94d049bb133111eb
		seed ^= seed >> 31
	}
	return seed
}
