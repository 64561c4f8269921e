package tokenizer

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
)

// learner finds merges by byte-pair encoding (Sennrich et al. 2016, algorithm 1): the pair of the highest count becomes a
// symbol, over and over. Counts are of neighbouring symbols, overlapping ones included, and always exact.
//
// All words lie in one array with a border between them. A symbol's id stands where the symbol starts, and as symbols
// know their width in units, no links are needed: the last unit of a longer symbol holds its width, for walking back.
type learner struct {
	toks  []string // the text of each symbol
	units []int32  // how many base units each symbol holds

	valid func(left, right int32) bool // whether a pair may become a symbol
	// before orders pairs of equal counts.
	before func(a, b [2]int32) bool
	// again says what happens when a pair spells a symbol that exists: merge into it (byte-level BPE), or never merge
	// (SentencePiece, whose symbols are pairs).
	again bool
	limit int // merges beyond the start are learnt up to this many symbols

	at      []int32 // symbols and marks
	word    []int32 // of each unit
	weights []int64 // of each word

	pairs  pairIndex
	keys   [][2]int32 // of each pair
	counts []int64
	where  [][]int32 // where a pair stands or stood, not in order

	queue  pairQueue
	merges [][2]int32
	tell   func(symbols int) // progress, may be nil
}

const border = math.MinInt32

// addWord appends a word's base symbols.
func (l *learner) addWord(ids []int32, weight int64) {
	if len(ids) < 2 {
		return // nothing to merge
	}
	if len(l.at) == 0 {
		l.at, l.word = append(l.at, border), append(l.word, 0)
	}
	w := int32(len(l.weights))
	for _, id := range ids {
		l.at, l.word = append(l.at, id), append(l.word, w)
	}
	l.at, l.word = append(l.at, border), append(l.word, w)
	l.weights = append(l.weights, weight)
}

// pairIndex numbers pairs of symbols.
type pairIndex struct {
	slots []struct {
		key uint64 // plus 1
		id  int32
	}
	shift uint
	n     int
}

func pairKey(p [2]int32) uint64 { return uint64(uint32(p[0]))<<32 | uint64(uint32(p[1])) }

// find returns the number of a pair, which is next when it is new.
func (x *pairIndex) find(p [2]int32, next int32) (id int32, isNew bool) {
	if x.n*2 >= len(x.slots) {
		x.grow()
	}
	key := pairKey(p) + 1
	mask := uint64(len(x.slots) - 1)
	for i := key * 0x9e3779b97f4a7c15 >> x.shift; ; i = (i + 1) & mask {
		s := &x.slots[i]
		if s.key == key {
			return s.id, false
		}
		if s.key == 0 {
			s.key, s.id = key, next
			x.n++
			return next, true
		}
	}
}

func (x *pairIndex) grow() {
	old := x.slots
	size := max(1<<12, len(old)*2)
	x.slots = make([]struct {
		key uint64
		id  int32
	}, size)
	x.shift = uint(64 - log2(size))
	mask := uint64(size - 1)
	for _, s := range old {
		if s.key == 0 {
			continue
		}
		i := s.key * 0x9e3779b97f4a7c15 >> x.shift
		for x.slots[i].key != 0 {
			i = (i + 1) & mask
		}
		x.slots[i] = s
	}
}

func log2(n int) (k int) {
	for ; n > 1; n >>= 1 {
		k++
	}
	return k
}

// never marks a pair that may not merge.
const never = math.MinInt64

// pair returns the number of a pair, -1 when it may not merge.
func (l *learner) pair(left, right int32) int32 {
	p := [2]int32{left, right}
	id, isNew := l.pairs.find(p, int32(len(l.keys)))
	if isNew {
		l.keys, l.counts, l.where = append(l.keys, p), append(l.counts, 0), append(l.where, nil)
		if !l.valid(left, right) {
			l.counts[id] = never
		}
	}
	if l.counts[id] == never {
		return -1
	}
	return id
}

// index counts all pairs and notes where they stand. Places are counted first, so that they fit one array.
func (l *learner) index() {
	of := make([]int32, len(l.at))
	var places []int32
	for i := 1; i+1 < len(l.at); i++ {
		of[i] = -1
		if l.at[i] == border || l.at[i+1] == border {
			continue
		}
		id := l.pair(l.at[i], l.at[i+1])
		of[i] = id
		if id < 0 {
			continue
		}
		for int(id) >= len(places) {
			places = append(places, 0)
		}
		places[id]++
		l.counts[id] += l.weights[l.word[i]]
	}
	total := 0
	for _, n := range places {
		total += int(n)
	}
	all := make([]int32, total)
	for id, n := range places {
		l.where[id] = all[:0:n]
		all = all[n:]
	}
	for i := 1; i+1 < len(l.at); i++ {
		if id := of[i]; id >= 0 {
			l.where[id] = append(l.where[id], int32(i))
		}
	}
	for id, n := range l.counts {
		if n > 0 {
			l.queue.list = append(l.queue.list, pairCount{n, int32(id)})
		}
	}
	l.queue.l = l
	heap.Init(&l.queue)
}

type pairCount struct {
	count int64
	pair  int32
}

type pairQueue struct {
	l    *learner
	list []pairCount
}

func (q *pairQueue) Len() int { return len(q.list) }
func (q *pairQueue) Less(i, j int) bool {
	a, b := &q.list[i], &q.list[j]
	if a.count != b.count {
		return a.count > b.count
	}
	return q.l.before(q.l.keys[a.pair], q.l.keys[b.pair])
}
func (q *pairQueue) Swap(i, j int) { q.list[i], q.list[j] = q.list[j], q.list[i] }
func (q *pairQueue) Push(x any)    { q.list = append(q.list, x.(pairCount)) }
func (q *pairQueue) Pop() any {
	v := q.list[len(q.list)-1]
	q.list = q.list[:len(q.list)-1]
	return v
}

// learn merges until there are limit symbols, or no pair is left whose count is at least least.
func (l *learner) learn(least int64) {
	l.index()
	known := make(map[string]int32, l.limit)
	for i, s := range l.toks {
		if s != "" {
			known[s] = int32(i)
		}
	}
	for len(l.toks) < l.limit && len(l.queue.list) > 0 {
		top := &l.queue.list[0]
		if n := l.counts[top.pair]; n != top.count {
			// Counts that grew were queued again when they did; this one fell.
			top.count = n
			if n > 0 {
				heap.Fix(&l.queue, 0)
			} else {
				heap.Pop(&l.queue)
			}
			continue
		}
		if top.count < least {
			break
		}
		id := top.pair
		heap.Pop(&l.queue)
		p := l.keys[id]
		text := l.toks[p[0]] + l.toks[p[1]]
		symbol, ok := known[text]
		if ok && !l.again {
			l.counts[id], l.where[id] = never, nil
			continue
		}
		if !ok {
			symbol = int32(len(l.toks))
			known[text] = symbol
			l.toks, l.units = append(l.toks, text), append(l.units, l.units[p[0]]+l.units[p[1]])
		}
		l.merges = append(l.merges, p)
		l.apply(id, symbol)
		if l.tell != nil {
			l.tell(len(l.toks))
		}
	}
}

// apply merges the pair wherever it stands, from left to right, and queues the pairs whose counts grew.
func (l *learner) apply(id, symbol int32) {
	p := l.keys[id]
	places := l.where[id]
	l.where[id], l.counts[id] = nil, 0
	slices.Sort(places)
	width := l.units[symbol]
	var grown []int32
	for _, i := range places {
		right := i + l.units[p[0]]
		if l.at[i] != p[0] || l.at[right] != p[1] {
			continue // merged away, by another pair or by this one just before
		}
		weight := l.weights[l.word[i]]
		prev, next := l.prev(i), i+width
		if prev >= 0 {
			l.less(l.at[prev], p[0], weight, id)
		}
		if l.at[next] != border {
			l.less(p[1], l.at[next], weight, id)
		}
		l.at[right] = -width
		l.at[i+width-1] = -width
		l.at[i] = symbol
		if prev >= 0 {
			grown = l.more(grown, prev, l.at[prev], symbol, weight)
		}
		if l.at[next] != border {
			grown = l.more(grown, i, symbol, l.at[next], weight)
		}
	}
	slices.Sort(grown)
	for _, q := range slices.Compact(grown) {
		if n := l.counts[q]; n > 0 {
			heap.Push(&l.queue, pairCount{n, q})
		}
	}
}

// prev is where the symbol before place i starts, -1 at the start of a word.
func (l *learner) prev(i int32) int32 {
	switch v := l.at[i-1]; {
	case v == border:
		return -1
	case v < 0:
		return i + v
	}
	return i - 1
}

func (l *learner) less(left, right int32, weight int64, merging int32) {
	if q := l.pair(left, right); q >= 0 && q != merging {
		l.counts[q] -= weight
	}
}

func (l *learner) more(grown []int32, place, left, right int32, weight int64) []int32 {
	q := l.pair(left, right)
	if q < 0 {
		return grown
	}
	l.counts[q] += weight
	l.where[q] = append(l.where[q], place)
	return append(grown, q)
}

// byIDs orders pairs by their ids.
func byIDs(a, b [2]int32) bool {
	return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) < 0
}
