package quant

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// Codebook is the real values of a block-wise code: value = code * absmax of the block.
type Codebook struct {
	name   string
	values []float32
	sorted []float32 // ascending, without repetition
	index  []byte    // the code of sorted[i]
	mid    []float32 // the boundary between sorted[i] and sorted[i+1]
}

// NF4 is the 4-bit NormalFloat of QLoRA (Dettmers et al. 2023, appendix E): quantiles of a normal distribution.
var NF4 = newCodebook("nf4", []float32{
	-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
	0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
})

// FP4 is bitsandbytes' 4-bit float: a sign and the magnitudes 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4.
var FP4 = newCodebook("fp4", []float32{
	0, 0.0052083334885537624, 0.6666666865348816, 1, 0.3333333432674408, 0.5, 0.1666666716337204, 0.25,
	0, -0.0052083334885537624, -0.6666666865348816, -1, -0.3333333432674408, -0.5, -0.1666666716337204, -0.25,
})

// Dynamic8 is the signed 8-bit dynamic code of Dettmers et al. 2022 (8-bit optimizers, section 2.1): decades of 10^-6 to 1, each
// with twice the fractions of the one below.
var Dynamic8 = newCodebook("dynamic8", dynamicValues())

func dynamicValues() []float32 {
	v := []float32{0, 1}
	for e := range 7 {
		n, unit := 1<<e, math.Pow(10, float64(e-6))
		for i := range n {
			f := float32((0.1 + 0.9*(float64(i)+0.5)/float64(n)) * unit)
			v = append(v, f, -f)
		}
	}
	slices.Sort(v)
	return v
}

func newCodebook(name string, values []float32) *Codebook {
	c := &Codebook{name: name, values: values}
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return values[order[i]] < values[order[j]] })
	for _, i := range order {
		if n := len(c.sorted); n > 0 && c.sorted[n-1] == values[i] {
			continue
		}
		c.sorted = append(c.sorted, values[i])
		c.index = append(c.index, byte(i))
	}
	for i := range len(c.sorted) - 1 {
		c.mid = append(c.mid, (c.sorted[i]+c.sorted[i+1])/2)
	}
	return c
}

// Values returns the code's real values, by code.
func (c *Codebook) Values() []float32 { return slices.Clone(c.values) }

// nearest is the code whose value is nearest to x, the lower of two that are equally near; NaN takes the last.
func (c *Codebook) nearest(x float32) byte {
	lo, hi := 0, len(c.mid)
	for lo < hi {
		if m := (lo + hi) / 2; x <= c.mid[m] {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return c.index[lo]
}

// snap puts x on the grid of 2^16 values from -1 to 1 by which bitsandbytes looks an 8-bit code up on the CPU.
func snap(x float32) float32 { return float32(math.RoundToEven((float64(x)+1)*32767.5)/32767.5 - 1) }

func (c *Codebook) perByte() int {
	if len(c.values) == 16 {
		return 2
	}
	return 1
}

func (c *Codebook) check(values, codes, absmax, block int) error {
	if block <= 0 || block%c.perByte() != 0 {
		return fmt.Errorf("quant: %s: block: want a positive multiple of %d, got %d", c.name, c.perByte(), block)
	}
	if want := (values + c.perByte() - 1) / c.perByte(); codes != want {
		return fmt.Errorf("quant: %s: %d values: want %d bytes of codes, got %d", c.name, values, want, codes)
	}
	if want := (values + block - 1) / block; absmax != want {
		return fmt.Errorf("quant: %s: %d values in blocks of %d: want %d absmax, got %d", c.name, values, block, want, absmax)
	}
	return nil
}

// Quantize codes x in blocks of block values (the last may be short) with one absmax each. A 4-bit code packs two values
// in a byte, the first in the high nibble.
func (c *Codebook) Quantize(codes []byte, absmax, x []float32, block int) error {
	if err := c.check(len(x), len(codes), len(absmax), block); err != nil {
		return err
	}
	clear(codes)
	for b := range absmax {
		from, to := b*block, min(b*block+block, len(x))
		absmax[b] = abs(farthest(x[from:to]))
		inv := inverse(absmax[b])
		for i := from; i < to; i++ {
			v := x[i] * inv
			if c.perByte() == 1 {
				v = snap(v)
			}
			q := c.nearest(v)
			if c.perByte() == 1 {
				codes[i] = q
			} else {
				codes[i/2] |= q << (4 &^ (i & 1 * 4))
			}
		}
	}
	return nil
}

// Dequantize expands what Quantize made.
func (c *Codebook) Dequantize(dst []float32, codes []byte, absmax []float32, block int) error {
	if err := c.check(len(dst), len(codes), len(absmax), block); err != nil {
		return err
	}
	for b, a := range absmax {
		for i := b * block; i < min(b*block+block, len(dst)); i++ {
			if c.perByte() == 1 {
				dst[i] = c.values[codes[i]] * a
			} else {
				dst[i] = c.values[codes[i/2]>>(4&^(i&1*4))&15] * a
			}
		}
	}
	return nil
}

// doubleBlock is the block of the second quantization.
const doubleBlock = 256

// Absmax is absmax values quantized a second time, as QLoRA's double quantization: value = code*Scale + Offset.
type Absmax struct {
	Codes  []byte    // of Dynamic8
	Scale  []float32 // one per 256 codes
	Offset float32   // mean of the values
}

// QuantizeAbsmax quantizes the absmax of a 4-bit tensor.
func QuantizeAbsmax(absmax []float32) Absmax {
	if len(absmax) == 0 {
		return Absmax{}
	}
	sum := 0.0
	for _, a := range absmax {
		sum += float64(a)
	}
	q := Absmax{Codes: make([]byte, len(absmax)), Scale: make([]float32, (len(absmax)+doubleBlock-1)/doubleBlock), Offset: float32(sum / float64(len(absmax)))}
	rest := make([]float32, len(absmax))
	for i, a := range absmax {
		rest[i] = a - q.Offset
	}
	if err := Dynamic8.Quantize(q.Codes, q.Scale, rest, doubleBlock); err != nil {
		panic(err) // the sizes were made above
	}
	return q
}

// Dequantize restores the absmax values into dst.
func (q Absmax) Dequantize(dst []float32) error {
	if err := Dynamic8.Dequantize(dst, q.Codes, q.Scale, doubleBlock); err != nil {
		return err
	}
	for i := range dst {
		dst[i] += q.Offset
	}
	return nil
}

// The storage form of dtype.NF4: a float32 absmax and 32 bytes of codes for 64 values.
const nf4Len, nf4Bytes = 64, 36

func encodeNF4(dst []byte, src []float32) {
	var absmax [1]float32
	for ; len(src) > 0; dst, src = dst[nf4Bytes:], src[nf4Len:] {
		if err := NF4.Quantize(dst[4:nf4Bytes], absmax[:], src[:nf4Len], nf4Len); err != nil {
			panic(err) // the sizes are constants
		}
		put32(dst, math.Float32bits(absmax[0]))
	}
}

func decodeNF4(dst []float32, src []byte) {
	values := (*[16]float32)(NF4.values)
	for ; len(src) > 0; dst, src = dst[nf4Len:], src[nf4Bytes:] {
		a := math.Float32frombits(u32(src))
		for i, q := range src[4:nf4Bytes] {
			dst[2*i], dst[2*i+1] = values[q>>4]*a, values[q&15]*a
		}
	}
}
