package kernel

import (
	"math"
	"math/bits"
)

// Philox is the counter-based generator Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC'11): the same numbers in whatever pieces and on whatever engine they are made.
//
// Element i of stream s is word i mod 4 of the block with counter (i/4 low, i/4 high, s, 0) and key (Seed, Step).
type Philox struct{ Seed, Step, Stream uint32 }

// Block is the four words of elements 4i to 4i+3.
func (p Philox) Block(i uint64) [4]uint32 {
	return philox10([4]uint32{uint32(i), uint32(i >> 32), p.Stream, 0}, [2]uint32{p.Seed, p.Step})
}

func philox10(c [4]uint32, k [2]uint32) [4]uint32 {
	for range 10 {
		h0, l0 := bits.Mul32(0xD2511F53, c[0])
		h1, l1 := bits.Mul32(0xCD9E8D57, c[2])
		c = [4]uint32{h1 ^ c[1] ^ k[0], l1, h0 ^ c[3] ^ k[1], l0}
		k[0] += 0x9E3779B9
		k[1] += 0xBB67AE85
	}
	return c
}

// Bits fills dst with elements first, first+1, ...
func (p Philox) Bits(dst []uint32, first uint64) {
	for i := 0; i < len(dst); {
		e := first + uint64(i)
		b := p.Block(e / 4)
		i += copy(dst[i:], b[e%4:])
	}
}

// Uniform fills dst with numbers in [0, 1): the high 24 bits of the word over 2^24.
func (p Philox) Uniform(dst []float32, first uint64) {
	for i := 0; i < len(dst); {
		e := first + uint64(i)
		b := p.Block(e / 4)
		for _, w := range b[e%4:] {
			if i == len(dst) {
				return
			}
			dst[i] = uniform(w)
			i++
		}
	}
}

func uniform(w uint32) float32 { return float32(w>>8) * (1.0 / (1 << 24)) }

// Normal fills dst with standard normal numbers by Box and Muller: of the uniforms u of element 2j and w of element 2j+1,
// element 2j is sqrt(-2 log(1-u)) cos(2 pi w) and element 2j+1 the same with sin, computed in float64.
func (p Philox) Normal(dst []float32, first uint64) {
	for i := 0; i < len(dst); {
		e := first + uint64(i)
		b := p.Block(e / 4)
		var z [4]float32
		for j := 0; j < 4; j += 2 {
			r := math.Sqrt(-2 * math.Log(1-float64(uniform(b[j]))))
			s, c := math.Sincos(2 * math.Pi * float64(uniform(b[j+1])))
			z[j], z[j+1] = float32(r*c), float32(r*s)
		}
		i += copy(dst[i:], z[e%4:])
	}
}
