// Package pipeline makes the orders in which pipeline stages work on micro-batches (1F1B, ZB1P, DualPipe, DualPipeV) and
// simulates them event by event: bubbles, peak activations, a timeline.
package pipeline

import "fmt"

// Kind is what an operation does on one rank.
type Kind string

// The kinds. B is the whole backward pass of a chunk, Bi its part towards the inputs, W the rest (weight gradients).
const (
	F  Kind = "F"
	B  Kind = "B"
	Bi Kind = "Bi"
	W  Kind = "W"
	FB Kind = "FB" // a forward of one chunk overlapped with a backward of another
)

// Chunk is a micro-batch in one lane. A lane is a way through the ranks: 0 from the first rank to the last; 1 from the
// last to the first, for other micro-batches (DualPipe) or for the second half of the same ones (DualPipeV).
type Chunk struct{ Lane, Micro int }

// Op is one operation of a rank. Forward is what F and FB read, Backward what B, Bi, W and FB do.
type Op struct {
	Kind              Kind
	Forward, Backward Chunk
}

func (k Kind) forward() bool  { return k == F || k == FB }
func (k Kind) backward() bool { return k == B || k == Bi || k == FB }

// Schedule is an order of operations for each rank.
type Schedule struct {
	Name  string
	Ranks [][]Op
	// StepEnds are the numbers of operations done after each of DualPipe's eight steps, by rank; nil for others.
	StepEnds [][]int
	// folded: lane 1 goes on with lane 0's micro-batches at the last rank (DualPipeV).
	folded bool
}

// before is where a chunk comes from on its way forward, false at its start.
func (s *Schedule) before(rank int, c Chunk) (int, Chunk, bool) {
	last := len(s.Ranks) - 1
	switch {
	case c.Lane == 0 && rank > 0:
		return rank - 1, c, true
	case c.Lane == 1 && rank < last:
		return rank + 1, c, true
	case c.Lane == 1 && s.folded:
		return rank, Chunk{0, c.Micro}, true
	}
	return 0, Chunk{}, false
}

// after is where a chunk goes to, false at its end.
func (s *Schedule) after(rank int, c Chunk) (int, Chunk, bool) {
	last := len(s.Ranks) - 1
	switch {
	case c.Lane == 0 && rank < last:
		return rank + 1, c, true
	case c.Lane == 0 && s.folded:
		return rank, Chunk{1, c.Micro}, true
	case c.Lane == 1 && rank > 0:
		return rank - 1, c, true
	}
	return 0, Chunk{}, false
}

func check(ranks, micros int) error {
	if ranks < 1 || micros < 1 || ranks > 1<<12 || micros > 1<<16 {
		return fmt.Errorf("pipeline: want 1 to %d ranks and 1 to %d micro-batches, got %d and %d", 1<<12, 1<<16, ranks, micros)
	}
	return nil
}

// OneFOneB is the schedule of PipeDream-Flush (arXiv:2006.09503): after a warm-up each rank alternates one forward with
// one backward.
func OneFOneB(ranks, micros int) (*Schedule, error) {
	if err := check(ranks, micros); err != nil {
		return nil, err
	}
	s := &Schedule{Name: "1F1B"}
	for r := range ranks {
		var ops []Op
		warm := min(ranks-1-r, micros)
		for i := range micros + warm {
			if i < micros {
				ops = append(ops, Op{Kind: F, Forward: Chunk{0, i}})
			}
			if i >= warm {
				ops = append(ops, Op{Kind: B, Backward: Chunk{0, i - warm}})
			}
		}
		s.Ranks = append(s.Ranks, ops)
	}
	return s, nil
}
