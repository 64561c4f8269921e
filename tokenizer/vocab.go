package tokenizer

import (
	"hash/maphash"
	"math/bits"
	"unicode/utf8"
)

var hashSeed = maphash.MakeSeed()

// stringTable finds the id of a byte string. The strings themselves stay in toks.
type stringTable struct {
	slots []stringSlot
	mask  uint32
	toks  []string
}

type stringSlot struct{ id1, tag uint32 } // id+1, 0: free

// newStringTable indexes the non-empty strings of toks; of equal strings the first counts.
func newStringTable(toks []string) *stringTable {
	size := 1 << bits.Len(uint(len(toks)*2+1))
	t := &stringTable{slots: make([]stringSlot, size), mask: uint32(size - 1), toks: toks}
	for id, s := range toks {
		if s == "" {
			continue
		}
		h := maphash.String(hashSeed, s)
		for i := uint32(h) & t.mask; ; i = (i + 1) & t.mask {
			if t.slots[i].id1 == 0 {
				t.slots[i] = stringSlot{uint32(id + 1), uint32(h >> 32)}
				break
			}
			if t.slots[i].tag == uint32(h>>32) && toks[t.slots[i].id1-1] == s {
				break
			}
		}
	}
	return t
}

// find returns the id of b, or -1.
func (t *stringTable) find(b []byte) int32 {
	h := maphash.Bytes(hashSeed, b)
	for i := uint32(h) & t.mask; ; i = (i + 1) & t.mask {
		s := &t.slots[i]
		if s.id1 == 0 {
			return -1
		}
		if s.tag == uint32(h>>32) && t.toks[s.id1-1] == string(b) {
			return int32(s.id1 - 1)
		}
	}
}

// pairTable maps a pair of symbols to its merge. A slot is the left symbol, the right one and the merge's order plus 1,
// so that a look-up touches one cache line as a rule.
type pairTable struct {
	slots []uint64
	shift uint
	n     int
	id    []int32  // what each order's merge becomes
	rank  []uint32 // nil when orders are ranks; else orders of equal rank stand beside each other
}

const (
	symbolBits = 21
	orderBits  = 64 - 2*symbolBits
	noOrder    = ^uint32(0)
	maxOrder   = 1<<orderBits - 2
)

func newPairTable(n int) *pairTable {
	b := bits.Len(uint(n*2 + 1))
	return &pairTable{slots: make([]uint64, 1<<b), shift: uint(64 - b)}
}

func (t *pairTable) slot(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 >> t.shift }

// add records a merge; of equal pairs the lower order counts.
func (t *pairTable) add(left, right int32, order uint32) {
	if (t.n+1)*2 > len(t.slots) {
		old := t.slots
		t.slots, t.shift, t.n = make([]uint64, len(old)*2), t.shift-1, 0
		for _, s := range old {
			if s != 0 {
				t.put(s)
			}
		}
	}
	t.put(uint64(left)<<(symbolBits+orderBits) | uint64(right)<<orderBits | uint64(order+1))
}

func (t *pairTable) put(entry uint64) {
	mask := uint64(len(t.slots) - 1)
	for i := t.slot(entry >> orderBits); ; i = (i + 1) & mask {
		s := t.slots[i]
		if s == 0 {
			t.slots[i] = entry
			t.n++
			return
		}
		if s>>orderBits == entry>>orderBits {
			t.slots[i] = min(s, entry)
			return
		}
	}
}

// find returns the order of a pair's merge, noOrder when it has none.
func (t *pairTable) find(left, right int32) uint32 {
	key := uint64(left)<<symbolBits | uint64(right)
	mask := uint64(len(t.slots) - 1)
	for i := t.slot(key); ; i = (i + 1) & mask {
		s := t.slots[i]
		if s>>orderBits == key && s != 0 {
			return uint32(s)&(1<<orderBits-1) - 1
		}
		if s == 0 {
			return noOrder
		}
	}
}

// each visits every merge.
func (t *pairTable) each(visit func(left, right int32, order uint32)) {
	const mask = 1<<symbolBits - 1
	for _, s := range t.slots {
		if s != 0 {
			visit(int32(s>>(symbolBits+orderBits)), int32(s>>orderBits&mask), uint32(s)&(1<<orderBits-1)-1)
		}
	}
}

// crossSet holds the character borders that lie inside some piece: the bytes of the character before the border and
// after it, as far as the piece holds them. Text can be cut at every other border without changing any merge.
type crossSet struct {
	slots []uint64
	mask  uint64
	n     int
	ascii [128][2]uint64 // bit b of ascii[a]: the border a|b is inside a piece
	tails byteFilter     // what stands before borders and is not a whole character
	heads byteFilter     // what stands behind borders and is not a whole character
}

func crossKey(left, right []byte) uint64 {
	var k uint64
	for i, b := range left {
		k |= uint64(b) << (8 * i)
	}
	for i, b := range right {
		k |= uint64(b) << (32 + 8*i)
	}
	return k + 1
}

func newCrossSet(toks []string) *crossSet {
	c := &crossSet{slots: make([]uint64, 1<<12), mask: 1<<12 - 1}
	for _, t := range toks {
		start := 0 // of the character before p
		for p := 1; p < len(t); p++ {
			if t[p]&0xc0 == 0x80 {
				continue
			}
			if t[p-1] < 0x80 && t[p] < 0x80 {
				c.ascii[t[p-1]][t[p]>>6] |= 1 << (t[p] & 63)
			} else if p-start <= 4 {
				end := p + 1
				for end < len(t) && end < p+4 && t[end]&0xc0 == 0x80 {
					end++
				}
				left, right := []byte(t[start:p]), []byte(t[p:end])
				c.add(crossKey(left, right))
				if !utf8.Valid(left) {
					c.tails.add(left)
				}
				if !utf8.Valid(right) {
					c.heads.add(right)
				}
			}
			start = p
		}
	}
	return c
}

func (c *crossSet) add(key uint64) {
	if c.n*2 >= len(c.slots) {
		old := c.slots
		c.slots, c.mask, c.n = make([]uint64, len(old)*2), uint64(len(old)*2-1), 0
		for _, k := range old {
			if k != 0 {
				c.add(k)
			}
		}
	}
	for i := key * 0x9e3779b97f4a7c15 >> 20 & c.mask; ; i = (i + 1) & c.mask {
		if c.slots[i] == key {
			return
		}
		if c.slots[i] == 0 {
			c.slots[i] = key
			c.n++
			return
		}
	}
}

func (c *crossSet) has(key uint64) bool {
	for i := key * 0x9e3779b97f4a7c15 >> 20 & c.mask; ; i = (i + 1) & c.mask {
		if c.slots[i] == key {
			return true
		}
		if c.slots[i] == 0 {
			return false
		}
	}
}

// crosses reports whether any piece holds the border between two whole characters, or parts of them on either side.
func (c *crossSet) crosses(left, right []byte) bool {
	if c.has(crossKey(left, right)) {
		return true
	}
	for j := 1; j < len(right); j++ {
		if c.heads.has(right[:j]) && c.has(crossKey(left, right[:j])) {
			return true
		}
	}
	for i := 1; i < len(left); i++ {
		if !c.tails.has(left[i:]) {
			continue
		}
		for j := 1; j <= len(right); j++ {
			if c.has(crossKey(left[i:], right[:j])) {
				return true
			}
		}
	}
	return false
}

// byteFilter is a set of strings of at most three bytes that may hold a few more.
type byteFilter [1 << 10]uint64

func filterBit(b []byte) uint32 {
	h := uint32(len(b))
	for _, c := range b {
		h = h<<8 | uint32(c)
	}
	return h * 0x9e3779b1 >> 16
}

func (f *byteFilter) add(b []byte)      { h := filterBit(b); f[h>>6] |= 1 << (h & 63) }
func (f *byteFilter) has(b []byte) bool { h := filterBit(b); return f[h>>6]&(1<<(h&63)) != 0 }
