package kernel

import (
	"encoding/binary"
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

// Pack writes panels from, ..., to-1 of a packed matrix [out, in]; src holds the rows as files do.
func Pack(d dtype.DType, dst, src []byte, out, in, from, to int) {
	size, row := panelBytes(d, in), d.Bytes(in)
	for p := from; p < to; p++ {
		rows := min(panelRows, out-p*panelRows)
		panel, lines := dst[p*size:(p+1)*size], src[p*panelRows*row:(p*panelRows+rows)*row]
		clear(panel)
		if l := &layouts[d]; l.blocks > 0 {
			packPanel(d, l, panel, lines, row, rows, in)
		} else {
			packHalves(panel, lines, rows, in)
		}
	}
}

// packHalves transposes rows of 16-bit numbers, 4 columns at a time.
func packHalves(panel, src []byte, rows, in int) {
	to := words16(panel)
	k := 0
	for ; k+4 <= in; k += 4 {
		block := to[k*panelRows : (k+4)*panelRows]
		for r := range rows {
			x := binary.LittleEndian.Uint64(src[2*(r*in+k):])
			block[r], block[panelRows+r] = uint16(x), uint16(x>>16)
			block[2*panelRows+r], block[3*panelRows+r] = uint16(x>>32), uint16(x>>48)
		}
	}
	for ; k < in; k++ {
		for r := range rows {
			to[k*panelRows+r] = binary.LittleEndian.Uint16(src[2*(r*in+k):])
		}
	}
}

func words16(b []byte) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/2)
}
func words32(b []byte) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// low repeats a byte in a word's four.
func low(b byte) uint32 { return uint32(b) * 0x01010101 }

// spread puts the low 4 bits of x into the lowest bits of four bytes; gather takes them from there.
func spread(x uint32) uint32 { return (x & 15) * 0x00204081 & low(1) }
func collect(x uint32) uint32 {
	return (x & low(1)) * 0x01020408 >> 24 & 15
}

// packPanel interleaves the blocks of rows, which are whole records of a block type.
func packPanel(d dtype.DType, l *layout, panel, src []byte, stride, rows, in int) {
	records, bytes := in/(l.blocks*blockVals), d.Bytes(l.blocks*blockVals)
	for k := range records {
		record := panel[k*l.recordBytes() : (k+1)*l.recordBytes()]
		for r := range rows {
			b := src[r*stride+k*bytes:][:bytes]
			packScales(d, l, record, b, r)
			for i := range l.blocks {
				levels := readLevels(d, b, i)
				at := record[l.header+i*l.blockBytes()+l.scales:][:l.levels]
				putLevels(d, at, &levels, r)
			}
		}
	}
}

// readLevels takes the unsigned levels of block i out of a record of one row: a word for each group of 4.
func readLevels(d dtype.DType, b []byte, i int) (w [groups]uint32) {
	word := func(at int) uint32 {
		return uint32(b[at]) | uint32(b[at+1])<<8 | uint32(b[at+2])<<16 | uint32(b[at+3])<<24
	}
	simple := func(at, high int) {
		for g := range 4 {
			q := word(at + 4*g)
			w[g], w[g+4] = q&low(15), q>>4&low(15)
		}
		if high > 0 {
			h := word(high)
			for g := range w {
				w[g] |= spread(h>>(4*g)) << 4
			}
		}
	}
	switch d {
	case dtype.Q8_0:
		for g := range w {
			w[g] = word(2+4*g) ^ low(0x80)
		}
	case dtype.Q4_0:
		simple(2, 0)
	case dtype.Q4_1:
		simple(4, 0)
	case dtype.Q5_0:
		simple(6, 2)
	case dtype.Q5_1:
		simple(8, 4)
	case dtype.Q4_K:
		for g := range w {
			w[g] = word(16+i/2*32+4*g) >> (4 * (i & 1)) & low(15)
		}
	case dtype.Q5_K:
		for g := range w {
			w[g] = word(48+i/2*32+4*g)>>(4*(i&1))&low(15) | word(16+4*g)>>i&low(1)<<4
		}
	case dtype.Q6_K:
		half, part := i/4, i%4
		for g := range w {
			w[g] = word(64*half+32*(part&1)+4*g)>>(4*(part>>1))&low(15) | word(128+32*half+4*g)>>(2*part)&low(3)<<4
		}
	case dtype.Q3_K:
		for g := range w {
			w[g] = word(32+i/4*32+4*g)>>(2*(i%4))&low(3) | word(4*g)>>i&low(1)<<2
		}
	case dtype.Q2_K:
		for g := range w {
			w[g] = word(16+i/4*32+4*g) >> (2 * (i % 4)) & low(3)
		}
	}
	return w
}

// putLevels adds row r's levels of a block to the panel's, which start as zero.
func putLevels(d dtype.DType, at []byte, w *[groups]uint32, r int) {
	to := words32(at)
	if d == dtype.Q8_0 {
		for g, x := range w {
			to[g*16+r] = x
		}
		return
	}
	pairShift := 0
	if d != dtype.Q3_K && d != dtype.Q2_K { // nibbles
		for g := range 4 {
			to[g*16+r] = w[g]&low(15) | w[g+4]&low(15)<<4
		}
		to, pairShift = to[64:], 4
	}
	bitShift := 4
	if d == dtype.Q6_K || d == dtype.Q3_K || d == dtype.Q2_K { // pairs of bits
		for g, x := range w {
			to[g/4*16+r] |= x >> pairShift & low(3) << (2 * (g % 4))
		}
		to, bitShift = to[32:], 2
	}
	if d == dtype.Q5_0 || d == dtype.Q5_1 || d == dtype.Q5_K || d == dtype.Q3_K { // single bits: a mask of 64 for each group
		for g, x := range w {
			to[2*g+r/8] |= collect(x>>bitShift) << (4 * (r % 8))
		}
	}
}

// packScales moves the scales of a record of row r.
func packScales(d dtype.DType, l *layout, record, b []byte, r int) {
	half := func(at, from int) { record[at+2*r], record[at+2*r+1] = b[from], b[from+1] }
	put := func(i, part int, x byte) { record[l.header+i*l.blockBytes()+16*part+r] = x }
	switch d {
	case dtype.Q8_0, dtype.Q4_0, dtype.Q5_0:
		half(0, 0)
	case dtype.Q4_1, dtype.Q5_1:
		half(0, 0)
		half(32, 2)
	case dtype.Q4_K, dtype.Q5_K:
		half(0, 0)
		half(32, 2)
		s := b[4:16]
		for i := range 4 {
			put(i, 0, s[i]&63)
			put(i, 1, s[i+4]&63)
			put(i+4, 0, s[i+8]&15|s[i]>>6<<4)
			put(i+4, 1, s[i+8]>>4|s[i+4]>>6<<4)
		}
	case dtype.Q6_K:
		half(0, 208)
		for i := range 16 {
			put(i/2, i%2, b[192+i])
		}
	case dtype.Q3_K:
		half(0, 108)
		s := b[96:108]
		for i := range 16 {
			x := s[i%8] >> (4 * (i / 8)) & 15
			x |= s[8+i%4] >> (2 * (i / 4)) & 3 << 4
			put(i/2, i%2, x-32)
		}
	case dtype.Q2_K:
		half(0, 80)
		half(32, 82)
		for i := range 16 {
			put(i/2, i%2, b[i])
		}
	}
}

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

// takeLevels is the inverse of putLevels.
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
