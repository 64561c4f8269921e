package pipeline

import "fmt"

// DualPipe is the bidirectional schedule of DeepSeek-V3 (arXiv:2412.19437 section 3.2.1 and its released code): half of
// the micro-batches enter at each end, and in the steady part every forward overlaps with a backward of the other half.
// Each rank holds the parameters of two stages. ranks must be even, micros even and at least twice ranks.
func DualPipe(ranks, micros int) (*Schedule, error) {
	if err := check(ranks, micros); err != nil {
		return nil, err
	}
	if ranks%2 != 0 {
		return nil, fmt.Errorf("pipeline: DualPipe: want an even number of ranks, got %d", ranks)
	}
	if micros%2 != 0 || micros < 2*ranks {
		return nil, fmt.Errorf("pipeline: DualPipe: want an even number of at least %d micro-batches, got %d", 2*ranks, micros)
	}
	s := &Schedule{Name: "DualPipe"}
	for r := range ranks {
		d := dual{place: min(r, ranks-1-r), half: ranks / 2, micros: micros / 2, flip: r >= ranks/2}
		d.build()
		s.Ranks, s.StepEnds = append(s.Ranks, d.ops), append(s.StepEnds, d.ends)
	}
	return s, nil
}

// DualPipeV is DualPipe cut in half (Sea AI Lab, "Cut-in-half"): the chunks of the second half of the layers come back
// through the same ranks, so parameters are held once. micros must be at least twice ranks.
func DualPipeV(ranks, micros int) (*Schedule, error) {
	if err := check(ranks, micros); err != nil {
		return nil, err
	}
	if micros < 2*ranks {
		return nil, fmt.Errorf("pipeline: DualPipeV: want at least %d micro-batches, got %d", 2*ranks, micros)
	}
	s := &Schedule{Name: "DualPipeV", folded: true}
	for r := range ranks {
		d := dual{place: r, half: ranks, micros: micros}
		d.build()
		s.Ranks, s.StepEnds = append(s.Ranks, d.ops), append(s.StepEnds, d.ends)
	}
	return s, nil
}

// dual lays out one rank's eight steps. Lanes here are seen from the rank: lane 0 is the one whose start is nearer;
// flip turns them round for ranks of the second half.
type dual struct {
	place, half, micros int
	flip                bool

	ops      []Op
	ends     []int
	fed, due [2]int  // next micro-batch of each lane, forward and backward
	deferred []Chunk // whose weight gradients are to be computed, first in first out
}

func (d *dual) chunk(lane int, next *[2]int) Chunk {
	c := Chunk{lane, next[lane]}
	if d.flip {
		c.Lane = 1 - lane
	}
	next[lane]++
	return c
}

func (d *dual) forward(lane int) {
	d.ops = append(d.ops, Op{Kind: F, Forward: d.chunk(lane, &d.fed)})
}

func (d *dual) backward(lane int, deferring bool) {
	op := Op{Kind: B, Backward: d.chunk(lane, &d.due)}
	if deferring {
		op.Kind = Bi
		d.deferred = append(d.deferred, op.Backward)
	}
	d.ops = append(d.ops, op)
}

func (d *dual) both(forward, backward int) {
	d.ops = append(d.ops, Op{Kind: FB, Forward: d.chunk(forward, &d.fed), Backward: d.chunk(backward, &d.due)})
}

func (d *dual) weights() {
	d.ops = append(d.ops, Op{Kind: W, Backward: d.deferred[0]})
	d.deferred = d.deferred[1:]
}

func (d *dual) step(n int, body func(i int)) {
	for i := range n {
		body(i)
	}
	d.ends = append(d.ends, len(d.ops))
}

func (d *dual) build() {
	far := d.half - d.place - 1 // ranks between this one and the middle
	middle := far == 0
	near := d.place + 1
	d.step(2*far, func(int) { d.forward(0) })
	d.step(near, func(int) { d.forward(0); d.forward(1) })
	d.step(far, func(int) { d.backward(1, true); d.weights(); d.forward(1) })
	d.step(d.micros-2*d.half+near, func(i int) {
		if i == 0 && middle {
			// The middle ranks wait for each other: overlapping here would only delay the forward.
			d.forward(0)
			d.backward(1, false)
		} else {
			d.both(0, 1)
		}
		d.both(1, 0)
	})
	d.step(far, func(int) { d.backward(1, false); d.both(1, 0) })
	defer1, defer0 := near/2, near/2
	if d.place%2 == 0 {
		defer1++ // lane 1 starts to defer one round after lane 0
	}
	d.step(near, func(i int) { d.backward(1, i >= defer1); d.backward(0, i >= defer0) })
	d.step(far, func(int) { d.weights(); d.backward(0, true) })
	d.step(near, func(int) { d.weights() })
}
