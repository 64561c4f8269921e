package serve

import (
	"math"

	"danlu/generate"
	"danlu/kernel"
)

// reading is what a job is to find out about its prompt while it is read.
type reading struct {
	only  bool          // nothing is written
	probs int           // alternatives to each token of the prompt; negative: no probabilities
	told  []scoredToken // of the prompt, from its second on
	pool  *pooling      // nil: hidden rows are not wanted
}

// scoredToken is a token of a prompt.
type scoredToken struct {
	drawn
	rank int // 1 for the most probable token
}

// scored bounds the prompt tokens of a pass whose logits are wanted: a row of them is as long as the vocabulary.
const scored = 64

// restart forgets what was found, before the prompt is read from its beginning.
func (x *reading) restart(s *generate.Sequence) {
	x.told = x.told[:0]
	if x.pool != nil {
		x.pool.sum, x.pool.last = make([]float64, x.pool.size), nil
		s.Watch(x.pool.add)
	}
}

// want sets which logits of a part of the prompt are wanted.
func (x *reading) want(w *generate.Work) {
	switch {
	case x.probs >= 0:
		w.Logits = len(w.IDs)
	case x.only:
		w.Logits = 0
	}
}

// score notes how likely the prompt's tokens were, from the logits of the tokens before them; rows follow the tokens from
// at on.
func (x *reading) score(rows [][]float32, at int, prompt []int32) {
	for i, row := range rows {
		next := at + i + 1
		if x.probs < 0 || next >= len(prompt) {
			return
		}
		id, lse, rank := prompt[next], float64(kernel.LogSumExp(row)), 1
		for _, logit := range row {
			if logit > row[id] {
				rank++
			}
		}
		x.told = append(x.told, scoredToken{drawn{id: id, logprob: float64(row[id]) - lse, top: likeliest(row, lse, x.probs)}, rank})
	}
}

// pooling makes one vector of a text's hidden rows.
type pooling struct {
	size int
	mean bool // otherwise the last row
	sum  []float64
	last []float32
	n    int
}

func (p *pooling) add(from int, rows []float32) {
	if p.n = from; from == 0 {
		clear(p.sum)
	}
	for ; len(rows) > 0; rows = rows[p.size:] {
		for i, x := range rows[:p.size] {
			p.sum[i] += float64(x)
		}
		p.last = append(p.last[:0], rows[:p.size]...)
		p.n++
	}
}

// vector is the pooled text, its first n numbers, of length 1.
func (p *pooling) vector(n int) []float32 {
	v := make([]float32, n)
	norm := 0.0
	for i := range v {
		if v[i] = p.last[i]; p.mean {
			v[i] = float32(p.sum[i] / float64(p.n))
		}
		norm += float64(v[i]) * float64(v[i])
	}
	if norm > 0 {
		for i := range v {
			v[i] = float32(float64(v[i]) / math.Sqrt(norm))
		}
	}
	return v
}
