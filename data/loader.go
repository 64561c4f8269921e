package data

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
)

// LoaderOptions says how an epoch becomes batches.
type LoaderOptions struct {
	Packing      string // PackNone (default), PackFit or PackWrap
	CutoffLen    int    // T: tokens of a row
	BatchSize    int    // B: rows of a micro-batch
	Accumulation int    // micro-batches of a step, default 1
	Rank, World  int    // this process among those that share each step's rows; default 0 of 1
	Seed         uint64 // of shuffling and infilling
	Shuffle      bool   // a new order each epoch
	FixedShape   bool   // always T tokens and B rows; else the longest row rounded up to PadMultiple
	PadMultiple  int    // default 8
	PadID        int32
	PositionRows int       // P of plain rows, whose positions are the same in each; default 1
	Infill       *Infiller // GLM's objective instead of next-token prediction; needs PackNone
	// Number, if set, is how a family numbers the tokens of a row, which see each other up to its prefix (GLM); needs
	// PackNone.
	Number Numbering
	// Pictures read the pictures of samples; nil: they have none. Needs PackNone.
	Pictures *Pictures
}

// Step is the data of one optimiser step.
type Step struct {
	Epoch   int      // 0-based
	Index   int64    // step within the epoch
	Last    bool     // the epoch ends with it
	Batches []*Batch // of this rank
	Scored  int64    // targets scored in Batches: the normaliser of the loss (to be summed over ranks)
	Tokens  int64    // that are not padding
	// Report are numbers to be logged with the step.
	Report map[string]float64
}

// Loader yields steps. The rows of a step are a pure function of (Seed, epoch, place), so the state is a few numbers
// and resuming costs O(1).
type Loader struct {
	set   *Set
	opt   LoaderOptions
	plan  rowPlan
	print string
	order *Permutation
	at    State
	cut   int64
	long  int // tokens of the longest sample
	// features are the picture tokens of the largest batch.
	features int
}

// State is a place between two steps, stored with a checkpoint. It does not depend on batch size, accumulation or the
// number of ranks: all may change on resume.
type State struct {
	Version     int    `json:"version"`
	Fingerprint string `json:"fingerprint"` // of samples, order, packing and seed
	Epoch       int    `json:"epoch"`
	Step        int64  `json:"step"` // steps done in the epoch
	Row         int64  `json:"row"`  // rows done in the epoch
	Cursor      cursor `json:"cursor"`
	Samples     int64  `json:"samples"` // samples seen in all epochs
	Tokens      int64  `json:"tokens"`  // tokens seen in all epochs, by all ranks
}

const stateVersion = 1

// NewLoader plans the rows of the set.
func NewLoader(set *Set, opt LoaderOptions) (*Loader, error) {
	if opt.Accumulation == 0 {
		opt.Accumulation = 1
	}
	if opt.World == 0 {
		opt.World = 1
	}
	if opt.PadMultiple == 0 {
		opt.PadMultiple = 8
	}
	if opt.Packing == "" {
		opt.Packing = PackNone
	}
	for _, c := range []struct {
		name string
		v    int
	}{{"cutoff_len", opt.CutoffLen}, {"per_device_train_batch_size", opt.BatchSize}, {"gradient_accumulation_steps", opt.Accumulation}, {"world size", opt.World}} {
		if c.v < 1 || c.v > 1<<26 {
			return nil, fmt.Errorf("data: %s: want 1..%d, got %d", c.name, 1<<26, c.v)
		}
	}
	if opt.Rank < 0 || opt.Rank >= opt.World {
		return nil, fmt.Errorf("data: rank: want 0..%d, got %d", opt.World-1, opt.Rank)
	}
	if set.Len() == 0 {
		return nil, errors.New("data: empty dataset: no sample to train on")
	}
	if opt.Packing != PackNone && opt.Pictures != nil {
		return nil, fmt.Errorf("data: packing: %s does not go with pictures", opt.Packing)
	}
	if opt.Packing != PackNone && (opt.Infill != nil || opt.Number != nil) {
		return nil, fmt.Errorf("data: packing: %s does not go with a prefix objective, whose rows hold one document", opt.Packing)
	}
	l := &Loader{set: set, opt: opt}
	var err error
	switch {
	case opt.Infill != nil:
		if err = opt.Infill.Check(); err == nil {
			l.plan, err = newWindowPlan(set, opt.Infill.Window(opt.CutoffLen))
		}
	case opt.Packing == PackNone:
		l.plan = &singlePlan{set: set}
	case opt.Packing == PackFit:
		l.plan, err = newBinPlan(set, opt.CutoffLen)
	case opt.Packing == PackWrap:
		l.plan, err = newWrapPlan(set, opt.CutoffLen)
	default:
		err = fmt.Errorf("data: packing: want none, bfd or wrapped, got %q", opt.Packing)
	}
	if err != nil {
		return nil, err
	}
	if l.plan.rows() == 0 {
		return nil, errors.New("data: empty dataset: no document is long enough for the objective")
	}
	if opt.Infill == nil && opt.Packing != PackWrap {
		lengths, err := setLengths(set)
		if err != nil {
			return nil, err
		}
		for _, n := range lengths {
			l.long = max(l.long, n)
			if n > opt.CutoffLen {
				l.cut++
			}
		}
	}
	if opt.Pictures != nil {
		if l.features, err = largestFeatures(set, opt.Pictures, opt.BatchSize); err != nil {
			return nil, err
		}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d %s %d %d %v %v\n", set.Store.Checksum(), set.Store.Len(), set.Store.Tokens(), opt.Packing, opt.CutoffLen, opt.Seed, opt.Shuffle, opt.Infill != nil)
	var b [4]byte
	for _, i := range set.Order {
		b[0], b[1], b[2], b[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
		h.Write(b[:])
	}
	l.print = hex.EncodeToString(h.Sum(nil))
	l.at = State{Version: stateVersion, Fingerprint: l.print}
	l.begin()
	return l, nil
}

func (l *Loader) begin() {
	l.order = newPermutation(l.plan.shuffled(), l.opt.Seed, streamShuffle, uint64(l.at.Epoch), l.opt.Shuffle)
}

// RowsPerEpoch returns the rows of an epoch over all ranks.
func (l *Loader) RowsPerEpoch() int64 { return l.plan.rows() }

// StepsPerEpoch returns the optimiser steps of an epoch; the last one may be short of micro-batches.
func (l *Loader) StepsPerEpoch() int64 {
	rows := l.rowsPerStep()
	return (l.plan.rows() + rows - 1) / rows
}

func (l *Loader) rowsPerStep() int64 {
	return int64(l.opt.BatchSize) * int64(l.opt.Accumulation) * int64(l.opt.World)
}

// Truncated returns how many samples of an epoch are longer than a row and lose their end there. Encoders given the same
// cutoff_len cut them before, and count them in the Report.
func (l *Loader) Truncated() int64 { return l.cut }

// Largest returns the rows and tokens of the largest batch that Next can return.
func (l *Loader) Largest() (b, t int, err error) {
	b, t = l.opt.BatchSize, l.opt.CutoffLen
	if l.opt.FixedShape {
		return b, t, nil
	}
	b = int(min(int64(b), l.plan.rows()))
	if l.opt.Packing != PackNone || l.opt.Infill != nil {
		return b, t, nil
	}
	first, err := l.set.Store.Sample(l.set.At(0))
	if err != nil {
		return 0, 0, err
	}
	if n := len(first.Sequences); n > 1 { // lengths are known of first sequences only
		return b * n, t, nil
	}
	return b, l.width(l.long), nil
}

// Row returns row i of the first epoch as it would be were the set not shuffled, alone in a batch.
func (l *Loader) Row(i int64) (*Batch, error) {
	if i < 0 || i >= l.plan.rows() {
		return nil, fmt.Errorf("data: row: want 0..%d, got %d", l.plan.rows()-1, i)
	}
	order := newPermutation(l.plan.shuffled(), l.opt.Seed, streamShuffle, 0, false)
	at, before := cursor{Ordinal: i}, int64(0)
	if l.opt.Packing == PackWrap { // where a row starts is known from the rows before it
		at, before = cursor{}, i
	}
	var pieces []Piece
	for ; before >= 0; before-- {
		var err error
		if pieces, at, err = l.plan.next(order, at); err != nil {
			return nil, err
		}
	}
	x, err := l.assemble([][]Piece{pieces}, 0, i)
	if err == nil {
		x.repeatPositions(l.opt.PositionRows)
	}
	return x, err
}

// Features are the picture tokens of the largest batch that Next can return.
func (l *Loader) Features() int { return l.features }

// largestFeatures adds up the picture tokens of the b samples that have most.
func largestFeatures(set *Set, p *Pictures, b int) (sum int, err error) {
	counts := make([]int, set.Len())
	for i := range counts {
		s, err := set.Store.Sample(set.At(int64(i)))
		if err != nil {
			return 0, err
		}
		counts[i] = p.count(s.Sequences[0].IDs)
	}
	slices.Sort(counts)
	for _, n := range counts[max(0, len(counts)-b):] {
		sum += n
	}
	return sum, nil
}

// Progress returns the epochs done, with the fraction of the current one.
func (l *Loader) Progress() float64 {
	return float64(l.at.Epoch) + float64(l.at.Row)/float64(l.plan.rows())
}

// State returns the place of the next step.
func (l *Loader) State() State { return l.at }

// Restore moves to a place that State returned for the same data, order, packing and seed.
func (l *Loader) Restore(s State) error {
	switch {
	case s.Version != stateVersion:
		return fmt.Errorf("data: resume: state version: want %d, got %d", stateVersion, s.Version)
	case s.Fingerprint != l.print:
		return errors.New("data: resume: the data, its mixing, cutoff_len, packing or seed have changed since the checkpoint; resume with the same ones, or start anew from its weights")
	case s.Epoch < 0 || s.Row < 0 || s.Row > l.plan.rows() || s.Cursor.Ordinal < 0 || s.Cursor.Ordinal > l.plan.shuffled() || s.Cursor.Offset < 0:
		return fmt.Errorf("data: resume: damaged state: epoch %d, row %d of %d", s.Epoch, s.Row, l.plan.rows())
	}
	l.at = s
	l.begin()
	return nil
}

// Next returns the data of the next step; epochs follow each other without end.
func (l *Loader) Next() (*Step, error) {
	if l.at.Row >= l.plan.rows() {
		l.at.Epoch, l.at.Step, l.at.Row, l.at.Cursor = l.at.Epoch+1, 0, 0, cursor{}
		l.begin()
	}
	at := l.at
	step := &Step{Epoch: at.Epoch, Index: at.Step}
	// Micro-batch m of rank r holds the rows (m*World + r)*B .. of the step.
	b, world := int64(l.opt.BatchSize), int64(l.opt.World)
	for m := range int64(l.opt.Accumulation) {
		if at.Row >= l.plan.rows() {
			break
		}
		var mine [][]Piece
		var firstRow int64
		for r := range world {
			for k := range b {
				if at.Row >= l.plan.rows() {
					break
				}
				pieces, next, err := l.plan.next(l.order, at.Cursor)
				if err != nil {
					return nil, err
				}
				if len(pieces) == 0 {
					return nil, fmt.Errorf("data: epoch ended at row %d of %d: %w", at.Row, l.plan.rows(), io.ErrUnexpectedEOF)
				}
				if r == int64(l.opt.Rank) {
					if k == 0 {
						firstRow = at.Row
					}
					mine = append(mine, pieces)
				}
				for _, p := range pieces {
					at.Tokens += int64(p.Tokens)
					if p.Start == 0 {
						at.Samples++
					}
				}
				at.Cursor = next
				at.Row++
			}
		}
		// A rank without rows left computes an empty batch, so that all ranks run the same number of micro-batches.
		batch, err := l.assemble(mine, at.Epoch, firstRow)
		if err != nil {
			return nil, fmt.Errorf("micro-batch %d: %w", m, err)
		}
		batch.repeatPositions(l.opt.PositionRows)
		step.Batches = append(step.Batches, batch)
		step.Scored += int64(batch.Scored)
		step.Tokens += int64(batch.Tokens)
	}
	at.Step++
	l.at = at
	step.Last = at.Row >= l.plan.rows()
	return step, nil
}

// assemble reads the samples of the rows and lays them out.
func (l *Loader) assemble(rows [][]Piece, epoch int, firstRow int64) (*Batch, error) {
	if l.opt.Infill != nil {
		return l.assembleLayouts(rows, epoch, firstRow)
	}
	if l.opt.Packing == PackNone {
		return l.assembleSamples(rows)
	}
	parts := make([][]Sequence, len(rows))
	width := 0
	for i, row := range rows {
		n := 0
		for _, p := range row {
			q, err := l.set.Store.Piece(int64(p.Sample), p.Start, p.Tokens)
			if err != nil {
				return nil, err
			}
			parts[i] = append(parts[i], q)
			n += p.Tokens
		}
		width = max(width, n)
	}
	x := newBatch(l.rowCount(len(rows)), l.width(width), 1, l.opt.PadID)
	x.Rows = len(rows)
	for i, row := range parts {
		at := 0
		for k, q := range row {
			at = x.put(i, at, int32(k), q)
			x.Samples[i] = append(x.Samples[i], int64(rows[i][k].Sample))
		}
	}
	return x, nil
}

// assembleSamples lays out one sample a row; of a sample with two sequences the second stands B rows below the first.
func (l *Loader) assembleSamples(rows [][]Piece) (*Batch, error) {
	samples := make([]*Sample, len(rows))
	width, sequences := 0, 1
	for i, row := range rows {
		s, err := l.set.Store.Sample(int64(row[0].Sample))
		if err != nil {
			return nil, err
		}
		samples[i] = s
		sequences = max(sequences, len(s.Sequences))
		for _, q := range s.Sequences {
			width = max(width, len(q.IDs))
		}
	}
	b := l.rowCount(len(rows))
	x := newBatch(b*sequences, l.width(width), 1, l.opt.PadID)
	x.Sequences, x.Rows, x.Store = sequences, len(rows)*sequences, l.set.Store
	for i, s := range samples {
		if len(s.Sequences) != sequences {
			return nil, fmt.Errorf("data: %s:%d: want %d sequences, got %d: datasets of different kinds are mixed", s.File, s.Line, sequences, len(s.Sequences))
		}
		for k, q := range s.Sequences {
			x.put(k*b+i, 0, 0, q)
			x.Samples[k*b+i] = []int64{int64(rows[i][0].Sample)}
		}
		if sequences > 1 {
			x.Labelled = append(x.Labelled, s.Label)
		}
	}
	if l.opt.Number != nil {
		x.Number(l.opt.Number)
	}
	if l.opt.Pictures != nil && len(samples) > 0 {
		return x, l.opt.Pictures.fill(x, samples)
	}
	return x, nil
}

func (l *Loader) rowCount(rows int) int {
	if l.opt.FixedShape {
		return l.opt.BatchSize
	}
	return max(rows, 1)
}

func (l *Loader) width(longest int) int {
	if l.opt.FixedShape {
		return l.opt.CutoffLen
	}
	m := l.opt.PadMultiple
	return min(max((longest+m-1)/m*m, m), max(l.opt.CutoffLen, 1))
}
