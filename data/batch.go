package data

import (
	"maps"

	"danlu/tensor"
)

// NoSegment is the segment number of padding.
const NoSegment int32 = -1

// Batch is a micro-batch of B rows of T tokens, row-major.
type Batch struct {
	B, T, P int
	IDs     []int32 // [B, T]
	// Labels hold the token itself where it is scored, else Ignore ([B, T], the convention of Hugging Face, before the
	// shift). nil for layouts whose targets are not the next token (GLM).
	Labels []int32
	// Targets hold the token to predict at each place: the label of the next token of the same segment, else Ignore.
	Targets   []int32 // [B, T]
	Positions []int32 // [P, B, T]; start at 0 in every segment; 0 in padding
	Segments  []int32 // [B, T]; number of the document in its row from 0; NoSegment in padding
	Prefix    []int32 // [B]; how many first tokens attend to each other both ways; nil for plain causal rows
	Rows      int     // rows that hold samples; the others pad the batch to B
	Tokens    int     // tokens that are not padding
	Scored    int     // targets that are not Ignore
	// Samples numbers the store samples in each row, in order.
	Samples [][]int64
	Store   *Store // that they are of; nil for batches that no loader made
	// Sequences is 2 for preference and KTO batches, whose rows k and B/2+k belong to one sample; else 1.
	Sequences int
	// Labelled holds KTO's tags of the samples, in row order; nil otherwise.
	Labelled []bool
	// Extra are further inputs of an objective by name.
	Extra map[string]*tensor.Tensor
}

// repeatPositions gives a plain batch p equal rows of positions.
func (x *Batch) repeatPositions(p int) {
	if x.P > 1 {
		return
	}
	for one := x.Positions; x.P < p; x.P++ {
		x.Positions = append(x.Positions, one...)
	}
}

// Numbering numbers the tokens of a text as a family does, in one row or several, and says how many first tokens see each
// other both ways.
type Numbering func(ids []int32) (positions [][]int32, prefix int)

// Number numbers the rows of a batch, each of which holds one sequence, as a family does. There is a Prefix only where
// some row has one.
func (x *Batch) Number(f Numbering) {
	prefix, any := make([]int32, x.B), false
	for i := range x.B {
		n := 0
		for n < x.T && x.Segments[i*x.T+n] != NoSegment {
			n++
		}
		positions, first := f(x.IDs[i*x.T : i*x.T+n])
		if len(positions) != x.P {
			x.P, x.Positions = len(positions), make([]int32, len(positions)*x.B*x.T)
		}
		for p, row := range positions {
			copy(x.Positions[(p*x.B+i)*x.T:], row)
		}
		prefix[i], any = int32(first), any || first > 0
	}
	if any {
		x.Prefix = prefix
	}
}

func newBatch(b, t, p int, pad int32) *Batch {
	x := &Batch{B: b, T: t, P: p, Sequences: 1}
	x.IDs, x.Labels, x.Targets, x.Segments = make([]int32, b*t), make([]int32, b*t), make([]int32, b*t), make([]int32, b*t)
	x.Positions = make([]int32, p*b*t)
	x.Samples = make([][]int64, b)
	for i := range x.IDs {
		x.IDs[i], x.Labels[i], x.Targets[i], x.Segments[i] = pad, Ignore, Ignore, NoSegment
	}
	return x
}

// put appends a sequence to a row at offset at as the given segment and returns the offset behind it. Tokens beyond T
// are cut.
func (x *Batch) put(row, at int, segment int32, s Sequence) int {
	n := min(len(s.IDs), x.T-at)
	base := row*x.T + at
	copy(x.IDs[base:base+n], s.IDs)
	if s.Labels == nil {
		copy(x.Labels[base:base+n], s.IDs)
	} else {
		copy(x.Labels[base:base+n], s.Labels)
	}
	for i := range n {
		x.Positions[base+i] = int32(i)
		x.Segments[base+i] = segment
		if i+1 < n {
			x.Targets[base+i] = x.Labels[base+i+1]
			if x.Targets[base+i] != Ignore {
				x.Scored++
			}
		}
	}
	x.Tokens += n
	return at + n
}

// Tensors returns the batch as int32 tensors that share its memory: ids, targets, segments [B,T], positions [P,B,T],
// labels [B,T] where there are any, prefix [B] for prefix-attention rows, and Extra.
func (x *Batch) Tensors() map[string]*tensor.Tensor {
	m := map[string]*tensor.Tensor{
		"ids":       tensor.FromI32(x.IDs, x.B, x.T),
		"targets":   tensor.FromI32(x.Targets, x.B, x.T),
		"segments":  tensor.FromI32(x.Segments, x.B, x.T),
		"positions": tensor.FromI32(x.Positions, x.P, x.B, x.T),
	}
	if x.Labels != nil {
		m["labels"] = tensor.FromI32(x.Labels, x.B, x.T)
	}
	if x.Prefix != nil {
		m["prefix"] = tensor.FromI32(x.Prefix, x.B)
	}
	maps.Copy(m, x.Extra)
	return m
}

// PadBatch lays sequences out one a row, padded to width tokens (0: the longest). Longer ones are cut.
func PadBatch(sequences []Sequence, width int, pad int32) *Batch {
	if width == 0 {
		for _, s := range sequences {
			width = max(width, len(s.IDs))
		}
	}
	x := newBatch(len(sequences), width, 1, pad)
	for i, s := range sequences {
		x.put(i, 0, 0, s)
	}
	x.Rows = len(sequences)
	return x
}

// PackRow lays sequences out behind each other in one row, each a segment of its own, padded to width tokens (0: their
// sum).
func PackRow(sequences []Sequence, width int, pad int32) *Batch {
	if width == 0 {
		for _, s := range sequences {
			width += len(s.IDs)
		}
	}
	x := newBatch(1, width, 1, pad)
	at := 0
	for i, s := range sequences {
		at = x.put(0, at, int32(i), s)
	}
	x.Rows = 1
	return x
}

// Part is the rows from to of the batch, excluding to, as a batch of its own. Extra is left out.
func (x *Batch) Part(from, to int) *Batch {
	y := &Batch{B: to - from, T: x.T, P: x.P, Rows: max(0, min(to, x.Rows)-from), Sequences: 1, Samples: x.Samples[from:to]}
	cut := func(v []int32) []int32 {
		if v == nil {
			return nil
		}
		return v[from*x.T : to*x.T]
	}
	y.IDs, y.Labels, y.Targets, y.Segments = cut(x.IDs), cut(x.Labels), cut(x.Targets), cut(x.Segments)
	for p := range x.P {
		y.Positions = append(y.Positions, x.Positions[(p*x.B+from)*x.T:(p*x.B+to)*x.T]...)
	}
	if x.Prefix != nil {
		y.Prefix = x.Prefix[from:to]
	}
	for i := range y.IDs {
		if y.Segments[i] != NoSegment {
			y.Tokens++
		}
		if y.Targets[i] != Ignore {
			y.Scored++
		}
	}
	return y
}
