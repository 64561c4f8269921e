package tokenizer

import (
	"bytes"
	"hash/maphash"
	"math/bits"
)

// wordTable counts words. Their bytes lie in blocks that are never moved, so memory follows the distinct words and not
// the text they come from.
type wordTable struct {
	slots  []wordSlot
	blocks [][]byte
	n      int
	bytes  int64 // of the words
}

type wordSlot struct {
	count int64
	at    uint64 // block<<blockBits | offset
	size  uint32 // 0: free
	hash  uint32
}

const blockBits = 20

func newWordTable() *wordTable { return &wordTable{slots: make([]wordSlot, 1<<12)} }

func (t *wordTable) word(s *wordSlot) []byte {
	from := s.at & (1<<blockBits - 1)
	return t.blocks[s.at>>blockBits][from : from+uint64(s.size)]
}

// add counts a word, which is not empty, n times.
func (t *wordTable) add(word []byte, n int64) {
	hash := maphash.Bytes(hashSeed, word)
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.size == 0 {
			*s = wordSlot{n, t.store(word), uint32(len(word)), uint32(hash >> 32)}
			t.n++
			if t.n*3 > len(t.slots)*2 {
				t.grow()
			}
			return
		}
		if s.hash == uint32(hash>>32) && int(s.size) == len(word) && bytes.Equal(t.word(s), word) {
			s.count += n
			return
		}
	}
}

func (t *wordTable) store(word []byte) uint64 {
	last := len(t.blocks) - 1
	if last < 0 || len(t.blocks[last])+len(word) > 1<<blockBits {
		t.blocks = append(t.blocks, make([]byte, 0, 1<<blockBits))
		last++
	}
	at := uint64(last)<<blockBits | uint64(len(t.blocks[last]))
	t.blocks[last] = append(t.blocks[last], word...)
	t.bytes += int64(len(word))
	return at
}

func (t *wordTable) grow() {
	old := t.slots
	t.slots = make([]wordSlot, 1<<bits.Len(uint(len(old))))
	mask := uint64(len(t.slots) - 1)
	for k := range old {
		if old[k].size == 0 {
			continue
		}
		i := maphash.Bytes(hashSeed, t.word(&old[k])) & mask
		for t.slots[i].size != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = old[k]
	}
}

// each visits every word with its count.
func (t *wordTable) each(visit func(word []byte, n int64)) {
	for i := range t.slots {
		if s := &t.slots[i]; s.size != 0 {
			visit(t.word(s), s.count)
		}
	}
}

// prune returns a table without the words counted fewer than least times, and how many those were.
func (t *wordTable) prune(least int64) (kept *wordTable, dropped int) {
	kept = newWordTable()
	t.each(func(word []byte, n int64) {
		if n >= least {
			kept.add(word, n)
		} else {
			dropped++
		}
	})
	return kept, dropped
}
