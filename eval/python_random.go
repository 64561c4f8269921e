package eval

import (
	"math"
	"math/bits"
)

// pythonRandom is Python's random.Random: the Mersenne Twister (Matsumoto and Nishimura 1998) with its way of seeding by
// a whole number and of drawing samples. Few-shot examples are drawn by it, so that prompts equal the harness's.
type pythonRandom struct {
	state [624]uint32
	at    int
}

// newPythonRandom is random.Random(seed).
func newPythonRandom(seed uint64) *pythonRandom {
	key := []uint32{uint32(seed)}
	if seed>>32 > 0 {
		key = append(key, uint32(seed>>32))
	}
	r := &pythonRandom{at: 624}
	s := &r.state
	s[0] = 19650218
	for i := 1; i < len(s); i++ {
		s[i] = 1812433253*(s[i-1]^s[i-1]>>30) + uint32(i)
	}
	i, j := 1, 0
	turn := func() {
		if i++; i == len(s) {
			s[0], i = s[len(s)-1], 1
		}
	}
	for range len(s) {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + key[j] + uint32(j)
		j = (j + 1) % len(key)
		turn()
	}
	for range len(s) - 1 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - uint32(i)
		turn()
	}
	s[0] = 1 << 31
	return r
}

func (r *pythonRandom) next() uint32 {
	if r.at == len(r.state) {
		r.refill()
	}
	y := r.state[r.at]
	r.at++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (r *pythonRandom) refill() {
	s := &r.state
	n := len(s)
	for i := range n {
		y := s[i]&(1<<31) | s[(i+1)%n]&(1<<31-1)
		s[i] = s[(i+397)%n] ^ y>>1
		if y&1 == 1 {
			s[i] ^= 0x9908b0df
		}
	}
	r.at = 0
}

// below is a whole number from 0 to n-1.
func (r *pythonRandom) below(n int) int {
	size := bits.Len(uint(n))
	for {
		if k := int(r.next() >> (32 - size)); k < n {
			return k
		}
	}
}

// sample is random.sample(range(n), k): k different numbers below n.
func (r *pythonRandom) sample(n, k int) []int {
	out := make([]int, k)
	room := 21 // where a list of all takes less memory than a set of those drawn
	if k > 5 {
		room += int(math.Pow(4, math.Ceil(math.Log(float64(k*3))/math.Log(4))))
	}
	if n <= room {
		pool := make([]int, n)
		for i := range pool {
			pool[i] = i
		}
		for i := range out {
			j := r.below(n - i)
			out[i], pool[j] = pool[j], pool[n-i-1]
		}
		return out
	}
	drawn := map[int]bool{}
	for i := range out {
		j := r.below(n)
		for drawn[j] {
			j = r.below(n)
		}
		drawn[j], out[i] = true, j
	}
	return out
}
