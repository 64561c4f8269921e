package tokenizer

import "encoding/binary"

// An encoder state remembers short parts in a table of fixed size: 64 bytes an entry, two ways a set.
const (
	cacheBits   = 15
	cacheKeyMax = 31
	cacheIDs    = 7
	memoBits    = 15
)

type cacheEntry struct {
	key [4]uint64 // the text, zero padded; the top byte is its length plus the kind
	ids [cacheIDs]int32
	n   int32
}

// The kinds of cached parts, which may encode differently: a whole pre-token and a part of one.
const (
	kindWord = 0
	kindPart = 0x80
)

type cache [1 << cacheBits]cacheEntry

var keyMask = func() (m [8]uint64) {
	for i := range m {
		m[i] = 1<<(8*i) - 1
	}
	return m
}()

// cacheKey packs text[from:to], of at most cacheKeyMax bytes.
func cacheKey(text []byte, from, to int, kind uint64) (k [4]uint64) {
	n := to - from
	var b []byte
	var buf [32]byte
	if from+32 <= len(text) {
		b = text[from : from+32]
	} else {
		copy(buf[:], text[from:to])
		b = buf[:]
	}
	full := n >> 3
	switch full {
	case 0:
		k[0] = binary.LittleEndian.Uint64(b) & keyMask[n]
	case 1:
		k[0] = binary.LittleEndian.Uint64(b)
		k[1] = binary.LittleEndian.Uint64(b[8:]) & keyMask[n-8]
	case 2:
		k[0] = binary.LittleEndian.Uint64(b)
		k[1] = binary.LittleEndian.Uint64(b[8:])
		k[2] = binary.LittleEndian.Uint64(b[16:]) & keyMask[n-16]
	default:
		k[0] = binary.LittleEndian.Uint64(b)
		k[1] = binary.LittleEndian.Uint64(b[8:])
		k[2] = binary.LittleEndian.Uint64(b[16:])
		k[3] = binary.LittleEndian.Uint64(b[24:]) & keyMask[n-24]
	}
	k[3] |= (uint64(n) | kind) << 56
	return k
}

func cacheSlot(k *[4]uint64) uint32 {
	h := (k[0] ^ k[1]*0xff51afd7ed558ccd) * 0x9e3779b97f4a7c15
	h ^= (k[2] ^ k[3]*0xc4ceb9fe1a85ec53) * 0x94d049bb133111eb
	h *= 0x9e3779b97f4a7c15
	return uint32(h >> (64 - cacheBits))
}

// find returns the entry of the key, or nil.
func (c *cache) find(k *[4]uint64, slot uint32) *cacheEntry {
	if e := &c[slot]; e.key == *k {
		return e
	}
	if e := &c[slot^1]; e.key == *k {
		return e
	}
	return nil
}

// put stores ids under the key; the entry that was there moves to the set's other way.
func (c *cache) put(k *[4]uint64, slot uint32, ids []int32) {
	if len(ids) > cacheIDs {
		return
	}
	e := &c[slot]
	c[slot^1] = *e
	e.key = *k
	e.n = int32(copy(e.ids[:], ids))
}
