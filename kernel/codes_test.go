package kernel

import (
	"math/rand/v2"
	"testing"

	"danlu/dtype"
	"danlu/quant"
)

// Codes of any number of values come back block by block, from any value on, as the codebook has them.
func TestCodes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 63, 64, 65, 1000, 64*256 + 7, 64 * 600} {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		absmax := make([]float32, (n+63)/64)
		codes := make([]byte, (n+1)/2)
		if err := quant.NF4.Quantize(codes, absmax, x, 64); err != nil {
			t.Fatal(err)
		}
		for _, d := range []dtype.DType{dtype.NF4, dtype.NF4Double} {
			if d == dtype.NF4Double {
				if err := quant.QuantizeAbsmax(absmax).Dequantize(absmax); err != nil {
					t.Fatal(err)
				}
			}
			want := make([]float32, n)
			if err := quant.NF4.Dequantize(want, codes, absmax, 64); err != nil {
				t.Fatal(err)
			}
			stored := make([]byte, CodedBytes(d, n))
			if err := Encode(d, stored, x); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				from := rng.IntN(n)
				got := make([]float32, 1+rng.IntN(n-from))
				Decode(d, got, stored, from)
				for i, v := range got {
					if v != want[from+i] {
						t.Fatalf("%v of %d values: value %d is %v, want %v", d, n, from+i, v, want[from+i])
					}
				}
			}
			if err := Encode(d, stored[1:], x); err == nil {
				t.Fatal("codes went into too little room")
			}
		}
		if n >= 64*256 && float64(CodedBytes(dtype.NF4Double, n)) > 4.13/8*float64(n)+64 {
			t.Errorf("%d values take %d bytes", n, CodedBytes(dtype.NF4Double, n))
		}
	}
}
