package kernel

import (
	"encoding/binary"

	"danlu/dtype"
)

// Pack writes panels from, ..., to-1 of a packed matrix [out, in]; src holds the rows as files do.
func Pack(d dtype.DType, dst, src []byte, out, in, from, to int) {
	size, row := panelBytes(d, in), d.Bytes(in)
	for p := from; p < to; p++ {
		rows := min(panelRows, out-p*panelRows)
		panel, lines := dst[p*size:(p+1)*size], src[p*panelRows*row:(p*panelRows+rows)*row]
		if l := &layouts[d]; l.blocks > 0 {
			packPanel(d, l, panel, lines, row, rows, in)
		} else {
			packHalves(words16(panel), lines, rows, in)
		}
	}
}

// packHalvesPortable transposes rows of 16-bit numbers from column k on.
func packHalvesPortable(panel []uint16, src []byte, rows, in, k int) {
	for ; k < in; k++ {
		column := panel[k*panelRows : (k+1)*panelRows]
		for r := range rows {
			column[r] = binary.LittleEndian.Uint16(src[2*(r*in+k):])
		}
		clear(column[rows:])
	}
}

// packPanel interleaves the blocks of rows, which are whole records of a block type.
func packPanel(d dtype.DType, l *layout, panel, src []byte, stride, rows, in int) {
	switch d {
	case dtype.Q8_0, dtype.Q4_0, dtype.Q4_1:
		packWords(d, l, panel, src, stride, rows, in)
	default:
		clear(panel)
		records, bytes := in/(l.blocks*blockVals), d.Bytes(l.blocks*blockVals)
		for k := range records {
			record := panel[k*l.recordBytes() : (k+1)*l.recordBytes()]
			for r := range rows {
				b := src[r*stride+k*bytes:][:bytes]
				packScales(d, l, record, b, r)
				packLevels(d, l, record, b, r)
			}
		}
	}
}

// packWordsPortable is packPanel of types whose blocks are one or two scales and levels that a panel holds as they are, but
// for the sign of bytes.
func packWordsPortable(d dtype.DType, l *layout, panel, src []byte, stride, rows, in int) {
	scales := l.scales / (2 * panelRows)
	bytes, mask := 2*scales+l.levels/panelRows, uint32(0)
	if d == dtype.Q8_0 {
		mask = low(0x80)
	}
	if rows < panelRows {
		clear(panel)
	}
	for k := range in / blockVals {
		record := panel[k*l.blockBytes() : (k+1)*l.blockBytes()]
		head, words := words16(record[:l.scales]), record[l.scales:]
		for r := range rows {
			b := src[r*stride+k*bytes:][:bytes]
			for i := range scales {
				head[panelRows*i+r] = binary.LittleEndian.Uint16(b[2*i:])
			}
			b = b[2*scales:]
			for g := 0; 16*g < l.levels; g += 16 {
				to, from := (*[64]uint32)(words32(words[16*g:])), (*[16]byte)(b[g:])
				to[r&15] = binary.LittleEndian.Uint32(from[:4]) ^ mask
				to[r&15+16] = binary.LittleEndian.Uint32(from[4:8]) ^ mask
				to[r&15+32] = binary.LittleEndian.Uint32(from[8:12]) ^ mask
				to[r&15+48] = binary.LittleEndian.Uint32(from[12:]) ^ mask
			}
		}
	}
}

// packLevels moves the levels of a record of row r, whose places are zero.
func packLevels(d dtype.DType, l *layout, record, b []byte, r int) {
	plane := func(i, at int) []uint32 { return words32(record[l.header+i*l.blockBytes()+l.scales+at:]) }
	switch d {
	case dtype.Q5_0:
		putNibbles(plane(0, 0), b[6:], r)
		putBits(plane(0, 256), b[2:], r)
	case dtype.Q5_1:
		putNibbles(plane(0, 0), b[8:], r)
		putBits(plane(0, 256), b[4:], r)
	case dtype.Q4_K, dtype.Q5_K:
		q := b[16:]
		if d == dtype.Q5_K {
			q = b[48:]
			for i := range 8 {
				gatherBits(plane(i, 256), b[16:48], i, r)
			}
		}
		for i := 0; i < 8; i += 2 {
			splitNibbles(plane(i, 0), plane(i+1, 0), q[16*i:], r)
		}
	case dtype.Q6_K:
		for i := range 8 {
			gatherPairs(plane(i, 256), b[128+i/4*32:], 2*(i%4), r)
			if i%4 < 2 {
				splitNibbles(plane(i, 0), plane(i+2, 0), b[i/4*64+i%2*32:], r)
			}
		}
	case dtype.Q3_K, dtype.Q2_K:
		q := b[16:]
		if d == dtype.Q3_K {
			q = b[32:]
		}
		for i := range 8 {
			gatherPairs(plane(i, 0), q[i/4*32:], 2*(i%4), r)
			if d == dtype.Q3_K {
				gatherBits(plane(i, 128), b, i, r)
			}
		}
	}
}

// A block's levels of row r lie in planes: nibbles, of which a word holds those of groups g and g+4; pairs of bits, of
// which a word holds those of 4 groups; and bits, a mask of 64 for each group.

// putNibbles moves the nibbles of a block that a file holds in the panel's order.
func putNibbles(to []uint32, q []byte, r int) {
	for g := range 4 {
		to[16*g+r] = binary.LittleEndian.Uint32(q[4*g:])
	}
}

// splitNibbles moves the nibbles of two blocks, of which a file holds one in the low halves and one in the high halves of
// its bytes.
func splitNibbles(first, second []uint32, q []byte, r int) {
	q, first, second = q[:32], first[:64], second[:64]
	for g := range 4 {
		x, y := binary.LittleEndian.Uint32(q[4*g:]), binary.LittleEndian.Uint32(q[4*g+16:])
		first[16*g+r] = x&low(15) | y&low(15)<<4
		second[16*g+r] = x>>4&low(15) | y&^low(15)
	}
}

// gatherPairs moves pairs of bits, which the file's bytes hold from bit shift on.
func gatherPairs(to []uint32, q []byte, shift, r int) {
	for g := range groups {
		to[g/4*16+r] |= binary.LittleEndian.Uint32(q[4*g:]) >> shift & low(3) << (2 * (g % 4))
	}
}

// gatherBits moves single bits, which the file's bytes hold as bit shift.
func gatherBits(to []uint32, q []byte, shift, r int) {
	for g := range groups {
		to[2*g+r/8] |= collect(binary.LittleEndian.Uint32(q[4*g:])>>shift) << (4 * (r % 8))
	}
}

// putBits moves 32 bits that follow one another.
func putBits(to []uint32, q []byte, r int) {
	h := binary.LittleEndian.Uint32(q)
	for g := range groups {
		to[2*g+r/8] |= h >> (4 * g) & 15 << (4 * (r % 8))
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

// collect takes the lowest bits of a word's bytes.
func collect(x uint32) uint32 { return (x & low(1)) * 0x01020408 >> 24 & 15 }
