package kernel

import (
	"fmt"
	"unsafe"

	"danlu/dtype"
)

// Packed weights are a matrix W [Out, In] in the order in which the microkernels read it: panels of 16 rows, one after
// another, each with a record for every 32 (K types: 256) values of the inner index. A record holds the scales of all 16
// rows and their levels, unsigned, so interleaved that one instruction multiplies 4 neighbouring levels of every row.
// A panel of plain 16-bit numbers holds the 16 rows' values for each inner index in turn.
//
// Nothing is rounded by packing: what a matrix stands for stays the same to the bit.
const (
	panelRows = 16
	blockVals = 32 // values of the inner index in a block
	groups    = 8  // groups of 4 values in a block
)

// layout is how a type's panels are stored; the assembly's twin is kernel/_asm/quant.go.
type layout struct {
	blocks int // of a record
	header int // bytes in front of a record's blocks
	scales int // bytes of a block's scales
	levels int // bytes of a block's levels
	zero   int // the level that stands for zero; 0 in types with a minimum
	halved bool
	affine bool
}

var layouts = [256]layout{
	dtype.Q8_0: {1, 0, 32, 512, 128, false, false},
	dtype.Q4_0: {1, 0, 32, 256, 8, false, false},
	dtype.Q4_1: {1, 0, 64, 256, 0, false, true},
	dtype.Q5_0: {1, 0, 32, 256 + 64, 16, false, false},
	dtype.Q5_1: {1, 0, 64, 256 + 64, 0, false, true},
	dtype.Q4_K: {8, 64, 32, 256, 0, false, true},
	dtype.Q5_K: {8, 64, 32, 256 + 64, 0, false, true},
	dtype.Q6_K: {8, 32, 32, 256 + 128, 32, true, false},
	dtype.Q3_K: {8, 32, 32, 128 + 64, 4, true, false},
	dtype.Q2_K: {8, 64, 32, 128, 0, true, true},
}

func (l *layout) blockBytes() int { return l.scales + l.levels }

func (l *layout) recordBytes() int { return l.header + l.blocks*l.blockBytes() }

// plainBytes is a block of the plain form of a panel: levels as bytes, group by group, then float32 scales and minima.
func (l *layout) plainBytes() int {
	parts := 1
	if l.halved {
		parts = 2
	}
	if l.affine {
		parts *= 2
	}
	return groups*64 + parts*64
}

// CanPack reports whether matrices of type d can be packed.
func CanPack(d dtype.DType) bool {
	return layouts[d].blocks > 0 || d == dtype.F16 || d == dtype.BF16
}

func panelBytes(d dtype.DType, in int) int {
	if l := &layouts[d]; l.blocks > 0 {
		return in / (l.blocks * blockVals) * l.recordBytes()
	}
	return in * panelRows * 2
}

// Panels is the number of panels of a matrix of out rows.
func Panels(out int) int { return (out + panelRows - 1) / panelRows }

// PackedBytes is the size of a packed matrix.
func PackedBytes(d dtype.DType, out, in int) int { return Panels(out) * panelBytes(d, in) }

func words16(b []byte) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/2)
}
func words32(b []byte) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// low repeats a byte in a word's four.
func low(b byte) uint32 { return uint32(b) * 0x01010101 }

// spread puts the low 4 bits of x into the lowest bits of four bytes.
func spread(x uint32) uint32 { return (x & 15) * 0x00204081 & low(1) }

// unpackPortable makes the plain form of a panel.
func unpackPortable(d dtype.DType, dst, src []byte, records int) {
	l := &layouts[d]
	plain := l.plainBytes()
	for k := range records {
		record := src[k*l.recordBytes():][:l.recordBytes()]
		for i := range l.blocks {
			block := record[l.header+i*l.blockBytes():][:l.blockBytes()]
			out := dst[(k*l.blocks+i)*plain:][:plain]
			for r := range panelRows {
				levels := takeLevels(d, block[l.scales:], r)
				for g, x := range levels {
					words32(out)[g*16+r] = x
				}
				takeScales(d, l, floats(out[groups*64:]), record, block, r)
			}
		}
	}
}

func floats(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// takeLevels is the inverse of packLevels.
func takeLevels(d dtype.DType, at []byte, r int) (w [groups]uint32) {
	from := words32(at)
	if d == dtype.Q8_0 {
		for g := range w {
			w[g] = from[g*16+r]
		}
		return w
	}
	pairShift := 0
	if d != dtype.Q3_K && d != dtype.Q2_K {
		for g := range 4 {
			w[g], w[g+4] = from[g*16+r]&low(15), from[g*16+r]>>4&low(15)
		}
		from, pairShift = from[64:], 4
	}
	bitShift := 4
	if d == dtype.Q6_K || d == dtype.Q3_K || d == dtype.Q2_K {
		for g := range w {
			w[g] |= from[g/4*16+r] >> (2 * (g % 4)) & low(3) << pairShift
		}
		from, bitShift = from[32:], 2
	}
	if d == dtype.Q5_0 || d == dtype.Q5_1 || d == dtype.Q5_K || d == dtype.Q3_K {
		for g := range w {
			w[g] |= spread(from[2*g+r/8]>>(4*(r%8))) << bitShift
		}
	}
	return w
}

// takeScales writes row r's scales and minima of a block.
func takeScales(d dtype.DType, l *layout, out []float32, record, block []byte, r int) {
	half := func(b []byte, at int) float32 { return HalfToF32(words16(b)[at/2+r]) }
	switch {
	case l.blocks == 1:
		out[r] = half(block, 0)
		if l.affine {
			out[16+r] = half(block, 32)
		}
	case d == dtype.Q4_K || d == dtype.Q5_K:
		out[r] = half(record, 0) * float32(block[r])
		out[16+r] = 0 - half(record, 32)*float32(block[16+r])
	case l.affine: // Q2_K
		for h := range 2 {
			x := block[16*h+r]
			out[16*h+r] = half(record, 0) * float32(x&15)
			out[32+16*h+r] = 0 - half(record, 32)*float32(x>>4)
		}
	default:
		for h := range 2 {
			out[16*h+r] = half(record, 0) * float32(int8(block[16*h+r]))
		}
	}
}

// widenPortable makes a plain panel's float32 values, 16 for each inner index.
func widenPortable(l *layout, dst []float32, src []byte, blocks int) {
	halves := 1
	if l.halved {
		halves = 2
	}
	for k := range blocks {
		b := src[k*l.plainBytes():][:l.plainBytes()]
		scales := floats(b[groups*64:])
		for i := range blockVals {
			h := i * halves / blockVals
			for r := range panelRows {
				x := float32(int(b[i/4*64+4*r+i%4])-l.zero) * scales[16*h+r]
				if l.affine {
					x += scales[16*(halves+h)+r]
				}
				dst[(k*blockVals+i)*panelRows+r] = x
			}
		}
	}
}

// An activation block is 32 values as signed levels with what the products need: the scale, minus the weights' zero level
// times the sum of the levels, and scale times that sum, each for the block and for its halves.
const (
	actScale  = 32
	actOffset = 36
	actSum    = 48
	actBlock  = 64
)

// actStride is the bytes between rows of quantized activations; an odd number of blocks keeps rows of long vectors out of
// each other's cache sets.
func actStride(in int) int { return (in/blockVals | 1) * actBlock }

// quantizePortable rounds a row of x to levels of max|x|/127 in every block.
func quantizePortable(dst []byte, x []float32, zero int) {
	for b := 0; b*blockVals < len(x); b++ {
		v, out := x[b*blockVals:(b+1)*blockVals], dst[b*actBlock:(b+1)*actBlock]
		top := uint32(0) // magnitudes compare as integers, so that a NaN is the largest and shows in the scale
		for _, y := range v {
			top = max(top, bits32(y)&0x7fffffff)
		}
		m := fromBits32(top)
		scale, inverse := m/127, float32(0)
		if m != 0 {
			inverse = 127 / m
		}
		var sums [3]int32
		for i, y := range v {
			q := int8(roundInt(y * inverse))
			out[i] = byte(q)
			sums[0] += int32(q)
			sums[1+i/16] += int32(q)
		}
		f, n := floats(out), words32(out)
		f[actScale/4] = scale
		for i, s := range sums {
			n[actOffset/4+i] = uint32(-int32(zero) * s)
			f[actSum/4+i] = scale * float32(s)
		}
	}
}

// dotPortable multiplies one row of quantized activations with a plain panel.
func dotPortable(l *layout, c []float32, a, w []byte, blocks int, bias []float32) {
	halves := 1
	if l.halved {
		halves = 2
	}
	var acc [panelRows]float32
	copy(acc[:], bias)
	for k := range blocks {
		act, b := a[k*actBlock:(k+1)*actBlock], w[k*l.plainBytes():][:l.plainBytes()]
		scales := floats(b[groups*64:])
		for h := range halves {
			part := 0
			if l.halved {
				part = 1 + h
			}
			offset, scale, sum := int32(words32(act)[actOffset/4+part]), floats(act)[actScale/4], floats(act)[actSum/4+part]
			for r := range panelRows {
				n := offset
				for g := h * groups / 2; g < (h+1)*groups/halves; g++ {
					for i := range 4 {
						n += int32(b[g*64+4*r+i]) * int32(int8(act[4*g+i]))
					}
				}
				acc[r] += float32(n) * scales[16*h+r] * scale
				if l.affine {
					acc[r] += scales[16*(halves+h)+r] * sum
				}
			}
		}
	}
	copy(c, acc[:])
}

// UnpackRow writes row r of a packed matrix [out, in] as float32. scratch has ScratchUnpack(in) values.
func UnpackRow(d dtype.DType, dst []float32, src []byte, in, r int, scratch []float32) {
	panel := widePanel(d, src[r/panelRows*panelBytes(d, in):][:panelBytes(d, in)], in, scratch)
	for k := range dst[:in] {
		dst[k] = panel[k*panelRows+r%panelRows]
	}
}

// UnpackPanel writes the rows of panel p of a packed matrix [out, in] as float32, at most rows of them.
func UnpackPanel(d dtype.DType, dst []float32, src []byte, in, p, rows int, scratch []float32) {
	panel := widePanel(d, src[p*panelBytes(d, in):][:panelBytes(d, in)], in, scratch)
	for r := range rows {
		row := dst[r*in : (r+1)*in]
		for k := range row {
			row[k] = panel[k*panelRows+r]
		}
	}
}

// PanelRows is the number of rows of a panel.
const PanelRows = panelRows

// ScratchUnpack is the scratch, in float32 values, of UnpackRow and UnpackPanel.
func ScratchUnpack(in int) int { return in*panelRows + in/blockVals*192 }

// widePanel makes a panel's float32 form in scratch.
func widePanel(d dtype.DType, panel []byte, in int, scratch []float32) []float32 {
	if d == dtype.F32 {
		return floats(panel)
	}
	wide := scratch[:in*panelRows]
	switch d {
	case dtype.F16:
		f16ToF32(wide, words16(panel)[:len(wide)])
	case dtype.BF16:
		bf16ToF32(wide, words16(panel)[:len(wide)])
	default:
		l := &layouts[d]
		plain := bytesOf32(scratch[in*panelRows:])
		unpackPanel(d, l, plain, panel, in/(l.blocks*blockVals))
		widenPanel(l, wide, plain, in/blockVals)
	}
	return wide
}

func bytesOf32(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

// CheckPack reports why a matrix of type d cannot be packed.
func CheckPack(d dtype.DType, in int) error {
	if !CanPack(d) {
		return fmt.Errorf("kernel: pack: no layout for %v", d)
	}
	if in%d.BlockLen() != 0 {
		return fmt.Errorf("kernel: pack: %v: want rows of a multiple of %d values, got %d", d, d.BlockLen(), in)
	}
	return nil
}
