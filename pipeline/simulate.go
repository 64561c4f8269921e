package pipeline

import "fmt"

// Times are how long one rank works on one chunk, and Link how long a chunk's activations or gradients are on their way
// to the next rank, in any unit.
type Times struct {
	F, B, W float64 // B is the whole backward pass, W included
	FB      float64 // an overlapped pair
	Link    float64
}

func (t Times) check() error {
	if !(t.F >= 0 && t.W >= 0 && t.B >= t.W && t.FB >= 0 && t.Link >= 0) {
		return fmt.Errorf("pipeline: times: want F, FB, Link >= 0 and B >= W >= 0, got %+v", t)
	}
	return nil
}

func (t Times) of(k Kind) float64 {
	switch k {
	case F:
		return t.F
	case B:
		return t.B
	case Bi:
		return t.B - t.W
	case W:
		return t.W
	}
	return t.FB
}

// Run is a simulated schedule.
type Run struct {
	Makespan float64
	Spans    [][][2]float64 // start and end of each operation, by rank
	Busy     []float64      // by rank
	Bubble   []float64      // Makespan less Busy
	// PeakLive is the largest number of chunks whose activations a rank holds at a time: from the start of the forward to
	// the end of the backward towards the inputs.
	PeakLive []int
}

// Simulate runs every rank's operations in their order, each as soon as its rank is free and its inputs have come.
func (s *Schedule) Simulate(t Times) (*Run, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	n := len(s.Ranks)
	run := &Run{Spans: make([][][2]float64, n), Busy: make([]float64, n), Bubble: make([]float64, n), PeakLive: make([]int, n)}
	type event struct {
		rank  int
		chunk Chunk
	}
	fed, back := map[event]float64{}, map[event]float64{} // when forwards and backwards ended
	free, next, live := make([]float64, n), make([]int, n), make([]int, n)
	// arrival is when the input of an operation is there, false when it has not been computed yet.
	arrival := func(rank int, op Op) (float64, bool) {
		at := 0.0
		wait := func(done map[event]float64, from int, c Chunk) bool {
			end, ok := done[event{from, c}]
			if from != rank {
				end += t.Link
			}
			at = max(at, end)
			return ok
		}
		if op.Kind.forward() {
			if from, c, ok := s.before(rank, op.Forward); ok && !wait(fed, from, c) {
				return 0, false
			}
		}
		if op.Kind.backward() {
			if !wait(fed, rank, op.Backward) {
				return 0, false
			}
			if from, c, ok := s.after(rank, op.Backward); ok && !wait(back, from, c) {
				return 0, false
			}
		}
		return at, true
	}
	for moved := true; moved; {
		moved = false
		for r, ops := range s.Ranks {
			for next[r] < len(ops) {
				op := ops[next[r]]
				at, ok := arrival(r, op)
				if !ok {
					break
				}
				start := max(at, free[r])
				end := start + t.of(op.Kind)
				if op.Kind.forward() {
					fed[event{r, op.Forward}] = end
					live[r]++
				}
				run.PeakLive[r] = max(run.PeakLive[r], live[r])
				if op.Kind.backward() {
					back[event{r, op.Backward}] = end
					live[r]--
				}
				run.Spans[r] = append(run.Spans[r], [2]float64{start, end})
				run.Busy[r] += end - start
				free[r], moved = end, true
				next[r]++
				run.Makespan = max(run.Makespan, end)
			}
		}
	}
	for r, ops := range s.Ranks {
		if next[r] < len(ops) {
			return nil, fmt.Errorf("pipeline: %s: rank %d waits for ever at its operation %d (%v)", s.Name, r, next[r], ops[next[r]])
		}
		run.Bubble[r] = run.Makespan - run.Busy[r]
	}
	return run, nil
}
