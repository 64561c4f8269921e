package main

import "fmt"

// pack writes the packing of panels of weights.
func pack(f *file) {
	packHalves(f)
	for _, q := range formats {
		if q.scales == halves16 && q.levels&bits1 == 0 {
			q.packWords(f)
		}
	}
}

// packStart begins func name(dst, src unsafe.Pointer, stride, blocks int), which packs 16 rows that are stride bytes apart.
func packStart(f *file, name string, constants func()) {
	fmt.Fprintf(f, "\n// func %s(dst, src unsafe.Pointer, stride, blocks int)\n// Needs AVX2.\nTEXT ·%s(SB), NOSPLIT, $0-32\n", name, name)
	f.ins("MOVQ dst+0(FP), DI")
	f.ins("MOVQ src+8(FP), SI")
	f.ins("MOVQ stride+16(FP), R8")
	f.ins("MOVQ blocks+24(FP), CX")
	f.ins("LEAQ (R8)(R8*2), R9")
	for i := 1; i < len(packBases); i++ {
		f.ins("LEAQ (%s)(R8*4), %s", packBases[i-1], packBases[i])
	}
	constants()
	f.label("loop")
}

// packBases point to rows 0, 4, 8 and 12.
var packBases = []string{"SI", "R10", "R11", "R12"}

// packRow is the address of byte off of row r.
func packRow(r, off int) string {
	return fmt.Sprintf("%d(%s)%s", off, packBases[r/4], []string{"", "(R8*1)", "(R8*2)", "(R9*1)"}[r%4])
}

// packEnd goes on with the next block, which is so many bytes on.
func packEnd(f *file, from, to int) {
	for _, base := range packBases {
		f.ins("ADDQ $%d, %s", from, base)
	}
	f.ins("ADDQ $%d, DI", to)
	f.ins("DECQ CX")
	f.ins("JNZ loop")
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// packHalves writes the transposition of 16-bit numbers, 16 columns at a time.
func packHalves(f *file) {
	packStart(f, "packHalvesAVX2", func() {})
	for half, word := range []string{"VPUNPCKLWD", "VPUNPCKHWD"} {
		// Pairs of rows, of columns 0-3 and 8-11, or 4-7 and 12-15: a word is a column's two numbers.
		for j := range 8 {
			f.ins("VMOVDQU %s, Y%d", packRow(2*j, 0), j)
			f.ins("%s %s, Y%d, Y%d", word, packRow(2*j+1, 0), j, j)
		}
		// Fours of rows.
		for j := range 4 {
			f.ins("VPUNPCKLDQ Y%d, Y%d, Y%d", 2*j+1, 2*j, 8+2*j)
			f.ins("VPUNPCKHDQ Y%d, Y%d, Y%d", 2*j+1, 2*j, 9+2*j)
		}
		// Eights of rows, of one column in each half of a register.
		for j := range 2 {
			for c := range 2 {
				f.ins("VPUNPCKLQDQ Y%d, Y%d, Y%d", 10+4*j+c, 8+4*j+c, 4*j+2*c)
				f.ins("VPUNPCKHQDQ Y%d, Y%d, Y%d", 10+4*j+c, 8+4*j+c, 4*j+2*c+1)
			}
		}
		for c := range 4 {
			column := 4*half + c
			f.ins("VPERM2I128 $0x20, Y%d, Y%d, Y%d", 4+c, c, 8+c)
			f.ins("VPERM2I128 $0x31, Y%d, Y%d, Y%d", 4+c, c, 12+c)
			f.ins("VMOVDQU Y%d, %d(DI)", 8+c, 32*column)
			f.ins("VMOVDQU Y%d, %d(DI)", 12+c, 32*(column+8))
		}
	}
	packEnd(f, 32, 512)
}

// packWords writes the packing of types whose levels a panel holds as files do, but for the sign of bytes: 4 bytes of
// every row in turn.
func (q format) packWords(f *file) {
	levels := (q.blockBytes() - q.scaleBytes()) / 16 // bytes of a row's block
	scales := q.scaleBytes() / 16
	packStart(f, "packWords"+q.name+"AVX2", func() {
		if q.levels&bytes8 != 0 {
			f.ins("MOVL $0x80808080, AX")
			f.ins("VMOVD AX, X15")
			f.ins("VPBROADCASTD X15, Y15")
		}
	})
	for r := range 16 {
		f.ins("MOVWLZX %s, AX", packRow(r, 0))
		f.ins("MOVW AX, %d(DI)", 2*r)
		if q.affine {
			f.ins("MOVWLZX %s, AX", packRow(r, 2))
			f.ins("MOVW AX, %d(DI)", 32+2*r)
		}
	}
	for at := 0; at < levels; at += 16 {
		for half := range 2 {
			for j := range 4 { // rows j and j+4
				f.ins("VMOVDQU %s, X%d", packRow(8*half+j, scales+at), j)
				f.ins("VINSERTI128 $1, %s, Y%d, Y%d", packRow(8*half+j+4, scales+at), j, j)
				if q.levels&bytes8 != 0 {
					f.ins("VPXOR Y15, Y%d, Y%d", j, j)
				}
			}
			for j, op := range []string{"VPUNPCKLDQ", "VPUNPCKHDQ"} {
				f.ins("%s Y1, Y0, Y%d", op, 4+j)
				f.ins("%s Y3, Y2, Y%d", op, 6+j)
			}
			for g := range 4 {
				f.ins("%s Y%d, Y%d, Y%d", []string{"VPUNPCKLQDQ", "VPUNPCKHQDQ"}[g%2], 6+g/2, 4+g/2, 8+g)
				f.ins("VMOVDQU Y%d, %d(DI)", 8+g, q.scaleBytes()+16*at+64*g+32*half)
			}
		}
	}
	packEnd(f, scales+levels, q.blockBytes())
}
