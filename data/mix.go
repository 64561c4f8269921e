package data

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Strategies of mixing datasets (LLaMA-Factory's mix_strategy).
const (
	Concat          = "concat"           // all rows of all datasets
	InterleaveUnder = "interleave_under" // by share, until the first dataset is used up
	InterleaveOver  = "interleave_over"  // by share, until every dataset has been used up; smaller ones start again
	InterleaveOnce  = "interleave_once"  // by share, every row once; a used-up dataset leaves the mix
)

// MixOptions says how the samples of several datasets become one epoch.
type MixOptions struct {
	Strategy string    // default Concat
	Probs    []float64 // interleave_probs, one per dataset; nil means equal shares
	ByTokens bool      // shares count tokens instead of rows
	ValSize  float64   // below 1 a share of all rows, from 1 on a number of rows, taken before mixing
	Seed     uint64
	// NumSamples, if not nil, takes that many random rows of each dataset (0: all), repeating rows when there are fewer;
	// MaxSamples then truncates each dataset. Both as in LLaMA-Factory.
	NumSamples []int
	MaxSamples int
}

// Set is an order of samples of a store: one epoch before shuffling.
type Set struct {
	Store *Store
	Order []int32 // sample numbers; nil means all in store order
	Mix   []Share
}

// Share is what a dataset contributes to an epoch.
type Share struct {
	Name                 string
	Rows, Tokens         int64
	RowShare, TokenShare float64 // achieved share of rows and of tokens
	Asked                float64 // asked share, 0 when none was asked
	Languages            map[string]int64
}

// Len returns the number of samples in the epoch.
func (s *Set) Len() int64 {
	if s.Order == nil {
		return s.Store.Len()
	}
	return int64(len(s.Order))
}

// At returns the sample number at position i.
func (s *Set) At(i int64) int64 {
	if s.Order == nil {
		return i
	}
	return int64(s.Order[i])
}

// Mix splits the store into training and validation sets. validation is nil when ValSize is 0. No row is in both: the
// validation rows are taken before rows are repeated.
func Mix(store *Store, opt MixOptions) (train, validation *Set, err error) {
	if store.Len() > math.MaxInt32 {
		return nil, nil, fmt.Errorf("data: want at most %d samples, got %d", math.MaxInt32, store.Len())
	}
	held, err := heldOut(store.Len(), opt.ValSize, opt.Seed)
	if err != nil {
		return nil, nil, err
	}
	n := len(store.Sources())
	sources := make([][]int32, n)
	var val []int32
	for k, r := range store.Sources() {
		var rows []int32
		for i := r.First; i < r.Last; i++ {
			rows = append(rows, int32(i))
		}
		want := 0
		if opt.NumSamples != nil {
			want = opt.NumSamples[k]
		}
		if want > 0 {
			rows = subset(rows, want, opt.Seed, uint64(k))
		}
		if opt.MaxSamples > 0 && len(rows) > opt.MaxSamples {
			rows = rows[:opt.MaxSamples]
		}
		for _, i := range rows {
			if held != nil && held[i] {
				if want == 0 || !contains(val, i) {
					val = append(val, i)
				}
				continue
			}
			sources[k] = append(sources[k], i)
		}
	}
	order, err := interleave(store, sources, opt)
	if err != nil {
		return nil, nil, err
	}
	train = &Set{Store: store, Order: order}
	if train.Mix, err = shares(train, opt); err != nil {
		return nil, nil, err
	}
	if held != nil {
		if len(val) == 0 {
			return nil, nil, fmt.Errorf("data: val_size %v leaves no row for validation", opt.ValSize)
		}
		validation = &Set{Store: store, Order: val}
		if validation.Mix, err = shares(validation, MixOptions{}); err != nil {
			return nil, nil, err
		}
	}
	return train, validation, nil
}

func contains(list []int32, x int32) bool {
	for _, v := range list {
		if v == x {
			return true
		}
	}
	return false
}

// heldOut draws the validation rows: ceil(share*n) of them, or a count.
func heldOut(n int64, size float64, seed uint64) ([]bool, error) {
	if !(size > 0) {
		if size < 0 || size != size {
			return nil, fmt.Errorf("data: val_size: want at least 0, got %v", size)
		}
		return nil, nil
	}
	count := int64(math.Ceil(size * float64(n)))
	if size >= 1 {
		count = int64(size)
	}
	if count >= n {
		return nil, fmt.Errorf("data: val_size: %v takes %d of %d rows and leaves none for training", size, count, n)
	}
	held := make([]bool, n)
	order := newPermutation(n, seed, streamSplit, 0, true)
	for i := range count {
		held[order.At(i)] = true
	}
	return held, nil
}

// subset draws want rows without repetition, and more with repetition when there are too few.
func subset(rows []int32, want int, seed, index uint64) []int32 {
	order := newPermutation(int64(len(rows)), seed, streamSubset, index, true)
	out := make([]int32, 0, want)
	for i := range min(want, len(rows)) {
		out = append(out, rows[order.At(int64(i))])
	}
	r := newRand(seed, streamSubset, ^index)
	for len(out) < want && len(rows) > 0 {
		out = append(out, rows[r.IntN(len(rows))])
	}
	return out
}

// interleave merges the rows. The next row always comes from the dataset that lags most behind its share, so that the
// achieved shares differ from the asked ones by less than one row (or one row's tokens) at any point of the epoch.
func interleave(store *Store, sources [][]int32, opt MixOptions) ([]int32, error) {
	total := 0
	for k, s := range sources {
		if len(s) == 0 {
			return nil, fmt.Errorf("data: dataset %s: no row is left for training", store.Sources()[k].Name)
		}
		total += len(s)
	}
	switch opt.Strategy {
	case "", Concat:
		if opt.Probs != nil {
			return nil, errors.New("data: interleave_probs: only with mix_strategy interleave_under, interleave_over or interleave_once")
		}
		order := make([]int32, 0, total)
		for _, s := range sources {
			order = append(order, s...)
		}
		return order, nil
	case InterleaveUnder, InterleaveOver, InterleaveOnce:
	default:
		return nil, fmt.Errorf("data: mix_strategy: want concat, interleave_under, interleave_over or interleave_once, got %q", opt.Strategy)
	}
	share, err := normalise(opt.Probs, len(sources))
	if err != nil {
		return nil, err
	}
	var lengths []int32
	if opt.ByTokens {
		lengths = make([]int32, store.Len())
		if err := store.Entries(func(i int64, e Entry) { lengths[i] = int32(e.Length) }); err != nil {
			return nil, err
		}
	}
	weight := func(i int32) float64 {
		if lengths == nil {
			return 1
		}
		return float64(lengths[i])
	}
	// A dataset may be passed over many times before others end: bound the epoch instead of filling the memory.
	const limit = math.MaxInt32
	next := make([]int, len(sources))
	passes := make([]int, len(sources))
	done := make([]float64, len(sources))
	sum, finished := 0.0, 0
	var order []int32
	for {
		best, lag := -1, math.Inf(-1)
		for k, s := range sources {
			if share[k] == 0 || opt.Strategy == InterleaveOnce && passes[k] > 0 {
				continue
			}
			// What k would lag after this row, measured in its own share, keeps small shares in step too.
			l := share[k]*(sum+weight(s[next[k]])) - done[k]
			if l > lag {
				best, lag = k, l
			}
		}
		if best < 0 {
			return order, nil
		}
		i := sources[best][next[best]]
		order = append(order, i)
		if len(order) >= limit {
			return nil, fmt.Errorf("data: interleave_probs: the shares would repeat small datasets to more than %d rows", limit)
		}
		done[best] += weight(i)
		sum += weight(i)
		if next[best]++; next[best] == len(sources[best]) {
			next[best] = 0
			if passes[best]++; passes[best] == 1 {
				finished++
			}
			if opt.Strategy == InterleaveUnder || opt.Strategy == InterleaveOver && finished == countPositive(share) {
				return order, nil
			}
		}
	}
}

func countPositive(share []float64) int {
	n := 0
	for _, s := range share {
		if s > 0 {
			n++
		}
	}
	return n
}

func normalise(probs []float64, n int) ([]float64, error) {
	share := make([]float64, n)
	if probs == nil {
		for k := range share {
			share[k] = 1 / float64(n)
		}
		return share, nil
	}
	if len(probs) != n {
		return nil, fmt.Errorf("data: interleave_probs: want %d numbers, one per dataset, got %d", n, len(probs))
	}
	sum := 0.0
	for _, p := range probs {
		if !(p >= 0) || math.IsInf(p, 0) {
			return nil, fmt.Errorf("data: interleave_probs: want numbers of at least 0, got %v", p)
		}
		sum += p
	}
	if !(sum > 0) {
		return nil, errors.New("data: interleave_probs: all are 0")
	}
	for k, p := range probs {
		share[k] = p / sum
	}
	return share, nil
}

func shares(s *Set, opt MixOptions) ([]Share, error) {
	out := make([]Share, len(s.Store.Sources()))
	for k, r := range s.Store.Sources() {
		out[k] = Share{Name: r.Name, Languages: map[string]int64{}}
	}
	if strings.HasPrefix(opt.Strategy, "interleave") {
		asked, err := normalise(opt.Probs, len(out))
		if err != nil {
			return nil, err
		}
		for k := range out {
			out[k].Asked = asked[k]
		}
	}
	uses := make([]int32, s.Store.Len())
	for i := range s.Len() {
		uses[s.At(i)]++
	}
	var rows, tokens int64
	err := s.Store.Entries(func(i int64, e Entry) {
		n := int64(uses[i])
		out[e.Source].Rows += n
		out[e.Source].Tokens += n * int64(e.Length)
		if n > 0 {
			out[e.Source].Languages[Languages[e.Language]] += n * int64(e.Length)
		}
		rows += n
		tokens += n * int64(e.Length)
	})
	for k := range out {
		out[k].RowShare = float64(out[k].Rows) / float64(max(rows, 1))
		out[k].TokenShare = float64(out[k].Tokens) / float64(max(tokens, 1))
	}
	return out, err
}

// String says what the dataset contributes, in one line.
func (s Share) String() string {
	line := fmt.Sprintf("%s: %d rows (%.1f%%), %d tokens (%.1f%%)", s.Name, s.Rows, 100*s.RowShare, s.Tokens, 100*s.TokenShare)
	if s.Asked > 0 {
		line += fmt.Sprintf(", asked %.1f%%", 100*s.Asked)
	}
	for _, l := range []string{"zh", "en", "other"} {
		if n := s.Languages[l]; n > 0 {
			line += fmt.Sprintf(", %s %.1f%%", l, 100*float64(n)/float64(max(s.Tokens, 1)))
		}
	}
	return line
}
