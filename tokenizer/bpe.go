package tokenizer

import (
	"container/heap"
	"fmt"
	"unicode/utf8"
)

// bpe is a byte-pair encoding model, over bytes or over characters.
type bpe struct {
	toks      []string // the bytes of each piece that merges can reach, "" for others
	table     *stringTable
	pairs     *pairTable
	cross     *crossSet
	byteID    [256]int32     // byte level: the symbol of each byte; else the byte-fallback piece, -1 for none
	fallback  bool           // characters outside the vocabulary become byte pieces
	metaByte  bool           // a space that falls back stands for U+2581
	chars     bool           // symbols are characters, not bytes
	lowIDs    []int32        // the symbol of each character of the basic plane, -1 for none
	charIDs   map[rune]int32 // of others
	bytePairs []uint32       // byte level: the order of each pair of bytes

	ignoreMerges bool  // a pre-token that is a piece is that piece
	unk          int32 // -1: characters that nothing covers are dropped
	fuseUnk      bool  // a run of unknown characters is one unk
}

// state is what one goroutine needs to encode.
type state struct {
	cache cache
	memo  [1 << memoBits]uint64 // pair of characters <<1 | 1 when the border crosses a piece, plus 2 as a mark
	sym   []symbol
	prev  []int32
	next  []int32
	queue mergeQueue
	best  []lattice  // unigram models
	ends  [2][]int32 // of pre-tokens
	base  int        // where the ids of the current segment start, for fusing unknowns
}

// appendWord encodes one pre-token.
func (m *bpe) appendWord(dst []int32, st *state, text []byte, from, to int) []int32 {
	n := to - from
	if n == 0 {
		return dst
	}
	if m.chars {
		if m.ignoreMerges {
			if id := m.table.find(text[from:to]); id >= 0 {
				return append(dst, id)
			}
		}
		st.base = len(dst)
		return m.appendParts(dst, st, text, from, to)
	}
	var k partKey
	var slot uint32
	if n <= cacheKeyMax {
		k, slot = keyOf(text, from, to, kindWord)
		if ids, ok := st.cache.find(&k, slot, n); ok {
			return append(dst, ids...)
		}
	}
	start := len(dst)
	whole := int32(-1)
	if m.ignoreMerges {
		whole = m.table.find(text[from:to])
	}
	if whole >= 0 {
		dst = append(dst, whole)
	} else {
		dst = m.appendParts(dst, st, text, from, to)
	}
	if n <= cacheKeyMax {
		st.cache.put(&k, slot, n, dst[start:])
	}
	return dst
}

// appendParts cuts text[from:to] wherever no piece crosses, and encodes each part.
func (m *bpe) appendParts(dst []int32, st *state, text []byte, from, to int) []int32 {
	start := from
	i := from
	for i < to {
		b := text[i]
		if b < 0x80 {
			if i+1 >= to {
				break
			}
			if c := text[i+1]; c < 0x80 {
				i++
				if m.cross.ascii[b][c>>6]&(1<<(c&63)) == 0 {
					dst = m.appendPart(dst, st, text, start, i)
					start = i
				}
				continue
			}
		}
		r, n := runeAt(text, i)
		j := i + n
		if j >= to {
			break
		}
		r2, n2 := runeAt(text, j)
		key := uint64(r)<<21 | uint64(r2)
		slot := key * 0x9e3779b97f4a7c15 >> (64 - memoBits)
		v := st.memo[slot]
		if v>>2 != key || v&2 == 0 {
			v = key<<2 | 2
			if m.cross.crosses(text[i:j], text[j:j+n2]) {
				v |= 1
			}
			st.memo[slot] = v
		}
		i = j
		if v&1 == 0 {
			dst = m.appendPart(dst, st, text, start, i)
			start = i
		}
	}
	return m.appendPart(dst, st, text, start, to)
}

func (m *bpe) appendPart(dst []int32, st *state, text []byte, from, to int) []int32 {
	n := to - from
	if n > cacheKeyMax {
		return m.merge(dst, st, text[from:to])
	}
	k, slot := keyOf(text, from, to, kindPart)
	if ids, ok := st.cache.find(&k, slot, n); ok {
		if m.fuseUnk && len(ids) > 0 && ids[0] == m.unk && len(dst) > st.base && dst[len(dst)-1] == m.unk {
			ids = ids[1:]
		}
		return append(dst, ids...)
	}
	start := len(dst)
	base := st.base
	st.base = start // what is remembered must not depend on what came before
	dst = m.merge(dst, st, text[from:to])
	st.base = base
	st.cache.put(&k, slot, n, dst[start:])
	if m.fuseUnk && len(dst) > start && start > base && dst[start] == m.unk && dst[start-1] == m.unk {
		dst = append(dst[:start], dst[start+1:]...)
	}
	return dst
}

// smallMerge is the number of symbols up to which scanning all ranks for each merge beats a queue.
const smallMerge = 48

// symbol is a part of a text while it is merged.
type symbol struct {
	id    int32
	at    int32  // where it starts
	order uint32 // of the merge with the next symbol
	rank  uint32 // of that merge, noOrder for none
}

// merge is byte-pair encoding: the pair with the lowest rank, leftmost first, merges until none does.
func (m *bpe) merge(dst []int32, st *state, text []byte) []int32 {
	sym := st.sym[:0]
	if m.chars {
		for i := 0; i < len(text); {
			r, n := runeAt(text, i)
			sym = append(sym, symbol{id: m.charID(r), at: int32(i)})
			i += n
		}
	} else {
		for i, b := range text {
			sym = append(sym, symbol{id: m.byteID[b], at: int32(i)})
		}
	}
	n := len(sym)
	sym = append(sym, symbol{id: -1, at: int32(len(text))})
	st.sym = sym
	m.rankAll(sym, text)
	switch {
	case n > smallMerge:
		n = m.mergeQueued(st, n)
	case n > 1:
		n = m.mergeScanned(sym, n)
	}
	for i := range n {
		dst = m.emit(dst, st, sym[i].id, text[sym[i].at:sym[i+1].at])
	}
	return dst
}

// rankAll finds the merge of each symbol with its next.
func (m *bpe) rankAll(sym []symbol, text []byte) {
	n := len(sym) - 1
	if m.bytePairs != nil {
		for i := range n - 1 {
			sym[i].order = m.bytePairs[uint32(text[i])<<8|uint32(text[i+1])]
			sym[i].rank = m.pairs.rankOf(sym[i].order)
		}
	} else {
		for i := range n - 1 {
			m.rankPair(&sym[i], sym[i+1].id)
		}
	}
	if n > 0 {
		sym[n-1].rank = noOrder
	}
}

func (m *bpe) rankPair(s *symbol, next int32) {
	if s.id < 0 || next < 0 {
		s.rank = noOrder
		return
	}
	s.order = m.pairs.find(s.id, next)
	s.rank = m.pairs.rankOf(s.order)
}

func (t *pairTable) rankOf(order uint32) uint32 {
	if t.rank == nil || order == noOrder {
		return order
	}
	return t.rank[order]
}

// mergeScanned merges the n symbols of sym, which has an end mark, and returns how many are left.
func (m *bpe) mergeScanned(sym []symbol, n int) int {
	for n > 1 {
		best, low := 0, noOrder
		for i := range sym[:n-1] {
			if r := sym[i].rank; r < low {
				best, low = i, r
			}
		}
		if low == noOrder {
			break
		}
		sym[best].id = m.pairs.id[sym[best].order]
		copy(sym[best+1:n], sym[best+2:n+1])
		n--
		if best < n-1 {
			m.rankPair(&sym[best], sym[best+1].id)
		} else {
			sym[best].rank = noOrder
		}
		if best > 0 {
			m.rankPair(&sym[best-1], sym[best].id)
		}
	}
	return n
}

type mergeItem struct {
	rank        uint32
	pos         int32
	left, right int32 // the symbols when it was queued; a change makes it stale
	order       uint32
}

type mergeQueue []mergeItem

func (q mergeQueue) Len() int { return len(q) }
func (q mergeQueue) Less(i, j int) bool {
	return q[i].rank < q[j].rank || q[i].rank == q[j].rank && q[i].pos < q[j].pos
}
func (q mergeQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *mergeQueue) Push(x any)   { *q = append(*q, x.(mergeItem)) }
func (q *mergeQueue) Pop() any     { v := (*q)[len(*q)-1]; *q = (*q)[:len(*q)-1]; return v }

// mergeQueued does what mergeScanned does with candidates in a heap, so that a text without any cut takes n log n.
func (m *bpe) mergeQueued(st *state, n int) int {
	sym := st.sym
	prev, next := st.prev[:0], st.next[:0]
	const gone = -2
	st.queue = st.queue[:0]
	for i := range n {
		prev, next = append(prev, int32(i-1)), append(next, int32(i+1))
		if sym[i].rank != noOrder {
			st.queue = append(st.queue, mergeItem{sym[i].rank, int32(i), sym[i].id, sym[i+1].id, sym[i].order})
		}
	}
	heap.Init(&st.queue)
	queue := func(i int32) {
		if i < 0 || int(next[i]) >= n {
			return
		}
		if m.rankPair(&sym[i], sym[next[i]].id); sym[i].rank != noOrder {
			heap.Push(&st.queue, mergeItem{sym[i].rank, i, sym[i].id, sym[next[i]].id, sym[i].order})
		}
	}
	for len(st.queue) > 0 {
		it := heap.Pop(&st.queue).(mergeItem)
		i := it.pos
		if sym[i].id != it.left || int(next[i]) >= n || sym[next[i]].id != it.right {
			continue
		}
		j := next[i]
		sym[i].id, sym[j].id = m.pairs.id[it.order], gone
		next[i] = next[j]
		if int(next[j]) < n {
			prev[next[j]] = i
		}
		queue(prev[i])
		queue(i)
	}
	k := 0
	for i := 0; i < n; i = int(next[i]) {
		sym[k].id, sym[k].at = sym[i].id, sym[i].at
		k++
	}
	sym[k].at = sym[n].at
	st.prev, st.next = prev, next
	return k
}

// charID is the symbol of a character, -1 when no piece holds it.
func (m *bpe) charID(r rune) int32 {
	if r < 1<<16 {
		return m.lowIDs[r]
	}
	if id, ok := m.charIDs[r]; ok {
		return id
	}
	return -1
}

// emit appends the id of a symbol, or what stands for text that has none.
func (m *bpe) emit(dst []int32, st *state, id int32, text []byte) []int32 {
	if id >= 0 && int(id) < len(m.toks) {
		return append(dst, id)
	}
	if m.fallback {
		if m.metaByte && len(text) == 1 && text[0] == ' ' {
			text = []byte("\u2581")
		}
		covered := true
		for _, b := range text {
			covered = covered && m.byteID[b] >= 0
		}
		if covered {
			for _, b := range text {
				dst = append(dst, m.byteID[b])
			}
			return dst
		}
	}
	if m.unk < 0 || m.fuseUnk && len(dst) > st.base && dst[len(dst)-1] == m.unk {
		return dst
	}
	return append(dst, m.unk)
}

// finish builds the tables that follow from the pieces.
func (m *bpe) finish() {
	m.cross = newCrossSet(m.toks)
	if !m.chars {
		return
	}
	m.lowIDs = make([]int32, 1<<16)
	for i := range m.lowIDs {
		m.lowIDs[i] = -1
	}
	m.charIDs = map[rune]int32{}
	set := func(r rune, id int32) {
		if r < 1<<16 {
			m.lowIDs[r] = id
		} else {
			m.charIDs[r] = id
		}
	}
	for id, t := range m.toks {
		if t != "" {
			if r, n := utf8.DecodeRuneInString(t); n == len(t) && m.table.find(view(t)) == int32(id) {
				set(r, int32(id))
			}
		}
	}
	// A character that is no piece can still take part in a merge by its text (SentencePiece); it gets an id of its own
	// above the vocabulary.
	virtual := int32(len(m.toks))
	for _, t := range m.toks {
		for _, r := range t {
			if m.charID(r) < 0 && virtual < 1<<symbolBits-1 {
				set(r, virtual)
				virtual++
			}
		}
	}
}

// rankBytes notes the merges of all pairs of bytes.
func (m *bpe) rankBytes() {
	m.bytePairs = make([]uint32, 1<<16)
	for a := range 256 {
		for b := range 256 {
			order := noOrder
			if left, right := m.byteID[a], m.byteID[b]; left >= 0 && right >= 0 {
				order = m.pairs.find(left, right)
			}
			m.bytePairs[a<<8|b] = order
		}
	}
}

// maxPiece bounds pieces of unigram models, which are sought at each place of a text, and pieces whose merges are derived,
// which takes the square of their length; published ones stay below 256.
const maxPiece = 1 << 10

// checkPiece refuses a piece that is longer.
func checkPiece(id int32, piece string) error {
	if len(piece) > maxPiece {
		return fmt.Errorf("piece %d: want at most %d bytes, got %d", id, maxPiece, len(piece))
	}
	return nil
}

// pairsFromText derives merges from the pieces alone: two symbols merge when their joint text is a piece, whose place in
// order, best first, decides (tiktoken: the ids; SentencePiece: the scores). Pieces of equal rank merge from the left.
func (m *bpe) pairsFromText(order []int32, rank []uint32) error {
	m.pairs = newPairTable(len(m.toks) * 2)
	m.pairs.id, m.pairs.rank = order, rank
	symbol := func(b []byte) int32 {
		if !m.chars && len(b) == 1 {
			return m.byteID[b[0]]
		}
		if m.chars {
			if r, n := runeAt(b, 0); n == len(b) {
				return m.charID(r)
			}
		}
		return m.table.find(b)
	}
	for place, id := range order {
		if err := checkPiece(id, m.toks[id]); err != nil {
			return err
		}
		b := view(m.toks[id])
		if len(b) == 0 || m.table.find(b) != id {
			continue
		}
		for p := 1; p < len(b); p++ {
			if m.chars && b[p]&0xc0 == 0x80 {
				continue
			}
			left := symbol(b[:p])
			if left < 0 {
				continue
			}
			if right := symbol(b[p:]); right >= 0 {
				m.pairs.add(left, right, uint32(place))
			}
		}
	}
	return nil
}
