package tokenizer

import "encoding/binary"

// An encoder state remembers parts in two tables of fixed size, two ways a set: short ones in half a cache line each,
// and longer ones in a whole one.
const (
	shortBits   = 16
	shortMax    = 15 // bytes
	shortIDs    = 4
	longBits    = 13
	cacheKeyMax = 31 // bytes
	longIDs     = 7
	memoBits    = 15
)

// partKey is a text of at most cacheKeyMax bytes, zero padded; the top byte is its length plus the kind. Short texts use
// the first two words only.
type partKey [4]uint64

type shortEntry struct {
	key [2]uint64
	ids [shortIDs]int32 // -1 after the last
}

type longEntry struct {
	key partKey
	ids [longIDs]int32
	n   int32
}

// The kinds of cached parts, which may encode differently: a whole pre-token and a part of one.
const (
	kindWord = 0
	kindPart = 0x80
)

type cache struct {
	short [1 << shortBits]shortEntry
	long  [1 << longBits]longEntry
}

var keyMask = func() (m [8]uint64) {
	for i := range m {
		m[i] = 1<<(8*i) - 1
	}
	return m
}()

// keyOf packs text[from:to], of at most cacheKeyMax bytes, and returns its place in the table.
func keyOf(text []byte, from, to int, kind uint64) (k partKey, slot uint32) {
	n := to - from
	if n <= shortMax {
		var a, b uint64
		if from+16 <= len(text) {
			a, b = binary.LittleEndian.Uint64(text[from:]), binary.LittleEndian.Uint64(text[from+8:])
		} else {
			var buf [16]byte
			copy(buf[:], text[from:to])
			a, b = binary.LittleEndian.Uint64(buf[:]), binary.LittleEndian.Uint64(buf[8:])
		}
		if n < 8 {
			a, b = a&keyMask[n], 0
		} else {
			b &= keyMask[n-8]
		}
		b |= (uint64(n) | kind) << 56
		k[0], k[1] = a, b
		h := (a ^ b*0xff51afd7ed558ccd) * 0x9e3779b97f4a7c15
		return k, uint32((h ^ h>>29) * 0x94d049bb133111eb >> (64 - shortBits))
	}
	var buf [32]byte
	copy(buf[:], text[from:to])
	for i := range k {
		k[i] = binary.LittleEndian.Uint64(buf[8*i:])
	}
	k[3] |= (uint64(n) | kind) << 56
	h := (k[0] ^ k[1]*0xff51afd7ed558ccd) * 0x9e3779b97f4a7c15
	h ^= (k[2] ^ k[3]*0xc4ceb9fe1a85ec53) * 0x94d049bb133111eb
	return k, uint32(h * 0x9e3779b97f4a7c15 >> (64 - longBits))
}

// find returns the ids of a text of n bytes; ok says whether it is remembered.
func (c *cache) find(k *partKey, slot uint32, n int) (ids []int32, ok bool) {
	if n <= shortMax {
		e := &c.short[slot]
		if e.key[0] != k[0] || e.key[1] != k[1] {
			if e = &c.short[slot^1]; e.key[0] != k[0] || e.key[1] != k[1] {
				return nil, false
			}
		}
		count := 1
		for count < shortIDs && e.ids[count] >= 0 {
			count++
		}
		return e.ids[:count], true
	}
	e := &c.long[slot]
	if e.key != *k {
		if e = &c.long[slot^1]; e.key != *k {
			return nil, false
		}
	}
	return e.ids[:e.n], true
}

// put remembers ids; what was there moves to the set's other way. Long lists of ids and empty ones are not kept.
func (c *cache) put(k *partKey, slot uint32, n int, ids []int32) {
	if n <= shortMax {
		if len(ids) == 0 || len(ids) > shortIDs {
			return
		}
		e := &c.short[slot]
		c.short[slot^1] = *e
		e.key = [2]uint64{k[0], k[1]}
		e.ids = [shortIDs]int32{-1, -1, -1, -1}
		copy(e.ids[:], ids)
		return
	}
	if len(ids) > longIDs {
		return
	}
	e := &c.long[slot]
	c.long[slot^1] = *e
	e.key = *k
	e.n = int32(copy(e.ids[:], ids))
}
