package data

import "math/rand/v2"

// stream numbers keep the uses of one seed apart.
const (
	streamShuffle uint64 = iota + 1
	streamSplit
	streamSubset
	streamInfill
)

// newRand returns a PCG generator (O'Neill 2014, as in math/rand/v2) for one use of a seed. The same arguments give the
// same numbers on every machine and in every release.
func newRand(seed, stream, index uint64) *rand.Rand {
	return rand.New(rand.NewPCG(mix64(seed^stream), mix64(index+0x632be59bd9b4e019)))
}

// mix64 is the finaliser of SplitMix64 (Steele et al. 2014).
func mix64(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// Permutation is a random order of 0..n-1 that is a pure function of (seed, stream, index): position to element in
// O(1), so that a resumed run finds its place without replaying the order. Up to 2^20 elements it is a Fisher-Yates
// table; beyond that a keyed Feistel network with cycle walking (Black and Rogaway 2002), which needs no memory.
type Permutation struct {
	n     int64
	table []int32
	keys  [8]uint64
	half  uint // bits of half a Feistel block
}

const permutationTable = 1 << 20

// newPermutation returns the identity when shuffle is false.
func newPermutation(n int64, seed, stream, index uint64, shuffle bool) *Permutation {
	p := &Permutation{n: n}
	if !shuffle || n < 2 {
		return p
	}
	r := newRand(seed, stream, index)
	if n <= permutationTable {
		p.table = make([]int32, n)
		for i := range p.table {
			p.table[i] = int32(i)
		}
		r.Shuffle(int(n), func(i, j int) { p.table[i], p.table[j] = p.table[j], p.table[i] })
		return p
	}
	for p.half = 1; uint64(1)<<(2*p.half) < uint64(n); p.half++ {
	}
	for i := range p.keys {
		p.keys[i] = r.Uint64()
	}
	return p
}

// At returns the element at position i, 0 <= i < n.
func (p *Permutation) At(i int64) int64 {
	switch {
	case p.table != nil:
		return int64(p.table[i])
	case p.half == 0:
		return i
	}
	mask := uint64(1)<<p.half - 1
	x := uint64(i)
	for {
		left, right := x>>p.half, x&mask
		for _, k := range p.keys {
			left, right = right, left^(mix64(right^k)&mask)
		}
		if x = left<<p.half | right; x < uint64(p.n) {
			return int64(x)
		}
	}
}
