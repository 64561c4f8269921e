package data

import (
	"fmt"
)

// Packings of a Loader.
const (
	PackNone = "none"    // one sample a row
	PackFit  = "bfd"     // whole samples, best fit decreasing (PackBFD), planned once over the set
	PackWrap = "wrapped" // documents behind each other, cut at the row's end (pretraining), in each epoch's order
)

// cursor is a place in an epoch: the next element of the shuffled order, and for the wrapped packing the tokens of it
// already taken.
type cursor struct {
	Ordinal int64 `json:"ordinal"`
	Offset  int   `json:"offset"`
}

// rowPlan yields the rows of an epoch, each a list of pieces of store samples.
type rowPlan interface {
	rows() int64 // of an epoch
	// next returns the row at the cursor and the cursor behind it; no pieces at the end of the epoch.
	next(order *Permutation, at cursor) ([]Piece, cursor, error)
	shuffled() int64 // number of elements that an epoch's permutation orders
}

// wrapPlan cuts the shuffled stream of documents; it keeps nothing in memory but the place.
type wrapPlan struct {
	set      *Set
	capacity int
	tokens   int64
}

func newWrapPlan(set *Set, capacity int) (*wrapPlan, error) {
	p := &wrapPlan{set: set, capacity: capacity}
	uses := make([]uint16, set.Store.Len())
	if set.Order == nil {
		for i := range uses {
			uses[i] = 1
		}
	}
	extra := map[int32]int64{} // uses beyond what 16 bits count
	for _, i := range set.Order {
		if uses[i] == 1<<16-1 {
			extra[i]++
		} else {
			uses[i]++
		}
	}
	err := set.Store.Entries(func(i int64, e Entry) {
		p.tokens += (int64(uses[i]) + extra[int32(i)]) * int64(e.Length)
	})
	return p, err
}

func (p *wrapPlan) rows() int64     { return (p.tokens + int64(p.capacity) - 1) / int64(p.capacity) }
func (p *wrapPlan) shuffled() int64 { return p.set.Len() }

func (p *wrapPlan) next(order *Permutation, at cursor) ([]Piece, cursor, error) {
	var row []Piece
	free := p.capacity
	for free > 0 && at.Ordinal < p.set.Len() {
		i := p.set.At(order.At(at.Ordinal))
		e, err := p.set.Store.Entry(i)
		if err != nil {
			return nil, at, err
		}
		if at.Offset > e.Length {
			return nil, at, fmt.Errorf("data: resume: offset %d in a sample of %d tokens", at.Offset, e.Length)
		}
		take := min(free, e.Length-at.Offset)
		if take > 0 {
			row = append(row, Piece{Sample: int(i), Start: at.Offset, Tokens: take})
		}
		free -= take
		if at.Offset += take; at.Offset == e.Length {
			at = cursor{Ordinal: at.Ordinal + 1}
		}
	}
	return row, at, nil
}

// binPlan orders rows that are planned once.
type binPlan struct{ bins [][]Piece }

func (p *binPlan) rows() int64     { return int64(len(p.bins)) }
func (p *binPlan) shuffled() int64 { return int64(len(p.bins)) }

func (p *binPlan) next(order *Permutation, at cursor) ([]Piece, cursor, error) {
	if at.Ordinal >= int64(len(p.bins)) {
		return nil, at, nil
	}
	return p.bins[order.At(at.Ordinal)], cursor{Ordinal: at.Ordinal + 1}, nil
}

// newBinPlan plans the rows of PackFit.
func newBinPlan(set *Set, capacity int) (*binPlan, error) {
	lengths, err := setLengths(set)
	if err != nil {
		return nil, err
	}
	bins, err := PackBFD(lengths, capacity)
	for _, b := range bins {
		for k := range b {
			b[k].Sample = int(set.At(int64(b[k].Sample)))
		}
	}
	return &binPlan{bins: bins}, err
}

func setLengths(set *Set) ([]int, error) {
	all := make([]int32, set.Store.Len())
	if err := set.Store.Entries(func(i int64, e Entry) { all[i] = int32(e.Length) }); err != nil {
		return nil, err
	}
	lengths := make([]int, set.Len())
	for i := range lengths {
		lengths[i] = int(all[set.At(int64(i))])
	}
	return lengths, nil
}

// singlePlan is one sample a row, or one window of a document where they are cut into windows.
type singlePlan struct {
	set *Set
}

func (p *singlePlan) rows() int64     { return p.set.Len() }
func (p *singlePlan) shuffled() int64 { return p.set.Len() }

func (p *singlePlan) next(order *Permutation, at cursor) ([]Piece, cursor, error) {
	if at.Ordinal >= p.set.Len() {
		return nil, at, nil
	}
	i := p.set.At(order.At(at.Ordinal))
	e, err := p.set.Store.Entry(i)
	if err != nil {
		return nil, at, err
	}
	return []Piece{{Sample: int(i), Tokens: e.Length}}, cursor{Ordinal: at.Ordinal + 1}, nil
}

// newWindowPlan cuts documents into windows for objectives that see one document a row. Samples of which only a part is
// scored stay whole.
func newWindowPlan(set *Set, window int) (*binPlan, error) {
	entries := make([]Entry, set.Store.Len())
	if err := set.Store.Entries(func(i int64, e Entry) { entries[i] = e }); err != nil {
		return nil, err
	}
	p := &binPlan{}
	for i := range set.Len() {
		sample := int(set.At(i))
		n := entries[sample].Length
		if entries[sample].Masked {
			p.bins = append(p.bins, []Piece{{Sample: sample, Tokens: n}})
			continue
		}
		for start := 0; start < n; start += window {
			// A closing window of one token has nothing to fill in; the document's last token goes unused then.
			if take := min(window, n-start); take > 1 {
				p.bins = append(p.bins, []Piece{{Sample: sample, Start: start, Tokens: take}})
			}
		}
	}
	return p, nil
}
