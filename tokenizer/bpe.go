package tokenizer

import "container/heap"

// bpe is a byte-pair encoding model, over bytes or over characters.
type bpe struct {
	toks     []string // the bytes of each piece that merges can reach, "" for others
	table    *stringTable
	pairs    *pairTable
	cross    *crossSet
	byteID   [256]int32 // byte level: the symbol of each byte; else the byte-fallback piece, -1 for none
	fallback bool       // characters outside the vocabulary become byte pieces
	metaByte bool       // a space that falls back stands for U+2581
	chars    bool       // symbols are characters, not bytes
	charIDs  map[rune]int32
	asciiIDs [128]int32

	ignoreMerges bool  // a pre-token that is a piece is that piece
	unk          int32 // -1: characters that nothing covers are dropped
	fuseUnk      bool  // a run of unknown characters is one unk
}

// state is what one goroutine needs to encode.
type state struct {
	cache cache
	memo  [1 << memoBits]uint64 // pair of characters <<1 | 1 when the border crosses a piece, plus 2 as a mark
	ids   []int32
	at    []int32 // start of each symbol, and the end of the text
	rank  []uint32
	into  []uint32
	prev  []int32
	next  []int32
	queue mergeQueue
	best  []lattice // unigram models
	base  int       // where the ids of the current segment start, for fusing unknowns
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
	var k [4]uint64
	var slot uint32
	if n <= cacheKeyMax {
		k = cacheKey(text, from, to, kindWord)
		slot = cacheSlot(&k)
		if e := st.cache.find(&k, slot); e != nil {
			return append(dst, e.ids[:e.n]...)
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
		st.cache.put(&k, slot, dst[start:])
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
	if to-from > cacheKeyMax {
		return m.merge(dst, st, text[from:to])
	}
	k := cacheKey(text, from, to, kindPart)
	slot := cacheSlot(&k)
	if e := st.cache.find(&k, slot); e != nil {
		if m.fuseUnk && e.n > 0 && e.ids[0] == m.unk && len(dst) > st.base && dst[len(dst)-1] == m.unk {
			return append(dst, e.ids[1:e.n]...)
		}
		return append(dst, e.ids[:e.n]...)
	}
	start := len(dst)
	base := st.base
	st.base = start // what is remembered must not depend on what came before
	dst = m.merge(dst, st, text[from:to])
	st.base = base
	st.cache.put(&k, slot, dst[start:])
	if m.fuseUnk && len(dst) > start && start > base && dst[start] == m.unk && dst[start-1] == m.unk {
		dst = append(dst[:start], dst[start+1:]...)
	}
	return dst
}

// smallMerge is the number of symbols up to which scanning all ranks for each merge beats a queue.
const smallMerge = 48

// merge is byte-pair encoding: the pair with the lowest rank, leftmost first, merges until none does.
func (m *bpe) merge(dst []int32, st *state, text []byte) []int32 {
	ids, at := st.ids[:0], st.at[:0]
	if m.chars {
		for i := 0; i < len(text); {
			r, n := runeAt(text, i)
			id := int32(-1)
			if r < 128 {
				id = m.asciiIDs[r]
			} else if v, ok := m.charIDs[r]; ok {
				id = v
			}
			ids, at = append(ids, id), append(at, int32(i))
			i += n
		}
	} else {
		for i, b := range text {
			ids, at = append(ids, m.byteID[b]), append(at, int32(i))
		}
	}
	at = append(at, int32(len(text)))
	st.ids, st.at = ids, at
	n := len(ids)
	if n > smallMerge {
		n = m.mergeQueued(st, n)
	} else if n > 1 {
		n = m.mergeScanned(st, n)
	}
	for i := range n {
		dst = m.emit(dst, st, st.ids[i], text[st.at[i]:st.at[i+1]])
	}
	return dst
}

func (m *bpe) mergeScanned(st *state, n int) int {
	ids, at := st.ids, st.at
	if cap(st.rank) < n {
		st.rank, st.into = make([]uint32, n+smallMerge), make([]uint32, n+smallMerge)
	}
	rank, into := st.rank[:n], st.into[:n]
	for i := range n - 1 {
		rank[i], into[i] = m.pair(ids[i], ids[i+1])
	}
	for n > 1 {
		best, low := 0, noRank
		for i, r := range rank[:n-1] {
			if r < low {
				best, low = i, r
			}
		}
		if low == noRank {
			break
		}
		ids[best] = int32(into[best])
		copy(ids[best+1:n-1], ids[best+2:n])
		copy(at[best+1:n], at[best+2:n+1])
		copy(rank[best+1:n-1], rank[best+2:n])
		copy(into[best+1:n-1], into[best+2:n])
		n--
		if best < n-1 {
			rank[best], into[best] = m.pair(ids[best], ids[best+1])
		}
		if best > 0 {
			rank[best-1], into[best-1] = m.pair(ids[best-1], ids[best])
		}
	}
	return n
}

func (m *bpe) pair(a, b int32) (rank, id uint32) {
	if a < 0 || b < 0 {
		return noRank, 0
	}
	return m.pairs.find(a, b)
}

type mergeItem struct {
	rank        uint32
	pos         int32
	left, right int32 // the symbols when it was queued; a change makes it stale
	id          uint32
}

type mergeQueue []mergeItem

func (q mergeQueue) Len() int { return len(q) }
func (q mergeQueue) Less(i, j int) bool {
	return q[i].rank < q[j].rank || q[i].rank == q[j].rank && q[i].pos < q[j].pos
}
func (q mergeQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *mergeQueue) Push(x any)   { *q = append(*q, x.(mergeItem)) }
func (q *mergeQueue) Pop() any     { v := (*q)[len(*q)-1]; *q = (*q)[:len(*q)-1]; return v }

// mergeQueued keeps candidate merges in a heap, so that a text without any cut takes n log n.
func (m *bpe) mergeQueued(st *state, n int) int {
	ids, at := st.ids, st.at
	prev, next := st.prev[:0], st.next[:0]
	const gone = -2
	st.queue = st.queue[:0]
	for i := range n {
		prev, next = append(prev, int32(i-1)), append(next, int32(i+1))
		if i+1 < n {
			if r, id := m.pair(ids[i], ids[i+1]); r != noRank {
				st.queue = append(st.queue, mergeItem{r, int32(i), ids[i], ids[i+1], id})
			}
		}
	}
	heap.Init(&st.queue)
	queue := func(i int32) {
		if i < 0 || int(next[i]) >= n {
			return
		}
		if r, id := m.pair(ids[i], ids[next[i]]); r != noRank {
			heap.Push(&st.queue, mergeItem{r, i, ids[i], ids[next[i]], id})
		}
	}
	for len(st.queue) > 0 {
		it := heap.Pop(&st.queue).(mergeItem)
		i := it.pos
		if ids[i] != it.left || int(next[i]) >= n || ids[next[i]] != it.right {
			continue
		}
		j := next[i]
		ids[i], ids[j] = int32(it.id), gone
		next[i] = next[j]
		if int(next[j]) < n {
			prev[next[j]] = i
		}
		queue(prev[i])
		queue(i)
	}
	k := 0
	for i := 0; i < n; i = int(next[i]) {
		ids[k], at[k] = ids[i], at[i]
		k++
	}
	at[k] = at[n]
	st.prev, st.next = prev, next
	return k
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
	for i := range m.asciiIDs {
		m.asciiIDs[i] = -1
	}
	virtual := int32(len(m.toks))
	m.charIDs = make(map[rune]int32)
	set := func(r rune, id int32) {
		if r < 128 {
			m.asciiIDs[r] = id
		} else {
			m.charIDs[r] = id
		}
	}
	for id, t := range m.toks {
		if t != "" {
			if r, n := runeAt([]byte(t), 0); n == len(t) && m.table.find([]byte(t)) == int32(id) {
				set(r, int32(id))
			}
		}
	}
	// A character that is no piece can still take part in a merge by its text (SentencePiece); it gets an id of its own
	// above the vocabulary.
	for _, t := range m.toks {
		for _, r := range t {
			known := r < 128 && m.asciiIDs[r] >= 0
			if r >= 128 {
				_, known = m.charIDs[r]
			}
			if !known {
				set(r, virtual)
				virtual++
			}
		}
	}
}

// pairsFromText derives merges from the pieces alone: two symbols merge when their joint text is a piece, which also
// gives the rank (tiktoken: the id; SentencePiece: the order of scores).
func (m *bpe) pairsFromText(rank func(id int32) uint32) {
	m.pairs = newPairTable(len(m.toks) * 2)
	symbol := func(b []byte) int32 {
		if m.chars {
			if r, n := runeAt(b, 0); n == len(b) {
				if r < 128 {
					return m.asciiIDs[r]
				}
				if id, ok := m.charIDs[r]; ok {
					return id
				}
				return -1
			}
		} else if len(b) == 1 {
			return m.byteID[b[0]]
		}
		return m.table.find(b)
	}
	for id, t := range m.toks {
		b := view(t)
		if t == "" || m.table.find(b) != int32(id) {
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
				m.pairs.add(left, right, rank(int32(id)), uint32(id))
			}
		}
	}
}
