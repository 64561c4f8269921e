package pipeline

import "math"

// ZB1P is the zero-bubble schedule with the memory of 1F1B (arXiv:2401.10241, ZB-H1): backward passes are split, and
// weight gradients fill the time in which a rank would wait. The order is found by letting each rank take, whenever it
// is free, the backward that has come, else a forward as long as it holds no more chunks than in 1F1B, else a weight
// gradient.
func ZB1P(ranks, micros int, t Times) (*Schedule, error) {
	if err := check(ranks, micros); err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	s := &Schedule{Name: "ZB1P", Ranks: make([][]Op, ranks)}
	never := math.Inf(1)
	arrive := func(n int) [][]float64 { // when each micro-batch's input comes to each rank
		x := make([][]float64, n)
		for r := range x {
			x[r] = make([]float64, micros)
			for m := range x[r] {
				x[r][m] = never
			}
		}
		return x
	}
	forward, backward := arrive(ranks+1), arrive(ranks)
	clear(forward[0])
	free := make([]float64, ranks)
	type counts struct{ f, b, w int }
	done := make([]counts, ranks)
	for left := 3 * ranks * micros; left > 0; left-- {
		// The operation that can start first, over all ranks; backwards before forwards before weights where they tie.
		best, start, kind := -1, never, W
		for r := range ranks {
			d := done[r]
			at, k := never, W
			if d.w < d.b {
				at = free[r]
			}
			if d.f < micros && d.f-d.b < ranks-r {
				if x := max(free[r], forward[r][d.f]); x <= at {
					at, k = x, F
				}
			}
			if d.b < d.f {
				if x := max(free[r], backward[r][d.b]); x <= at {
					at, k = x, Bi
				}
			}
			if at < start {
				best, start, kind = r, at, k
			}
		}
		d := &done[best]
		end := start + t.of(kind)
		op := Op{Kind: kind}
		switch kind {
		case F:
			op.Forward = Chunk{0, d.f}
			forward[best+1][d.f] = end + t.Link
			if best == ranks-1 {
				backward[best][d.f] = end
			}
			d.f++
		case Bi:
			op.Backward = Chunk{0, d.b}
			if best > 0 {
				backward[best-1][d.b] = end + t.Link
			}
			d.b++
		case W:
			op.Backward = Chunk{0, d.w}
			d.w++
		}
		s.Ranks[best] = append(s.Ranks[best], op)
		free[best] = end
	}
	return s, nil
}
