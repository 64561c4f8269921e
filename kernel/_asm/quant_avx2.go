package main

import "fmt"

// The kernels of packed weights for machines without AVX-512. A register holds 8 of a panel's 16 rows; sums are formed
// in the same order as with AVX-512.

// Registers of the unpacking code: DX points to the block, Y0 gets the levels of 8 rows; Y13 and Y14 hold d, Y6 and Y7
// dmin of the record.
const (
	yNibble  = 8
	yPair    = 9
	yBit     = 10
	ySpread  = 11 // shuffle that repeats each of 4 bytes 8 times
	ySelect  = 12 // a bit of each of 8 neighbouring bytes
	yScale   = 13
	yMinimum = 6
)

func (q format) constantsAVX2(f *file) {
	set := func(y int, b byte) {
		f.ins("MOVL $%#x, AX", uint32(b)*0x01010101)
		f.ins("VMOVD AX, X%d", y)
		f.ins("VPBROADCASTD X%d, Y%d", y, y)
	}
	set(yNibble, 15)
	set(yPair, 3)
	if q.levels&bits1 != 0 {
		value := byte(4)
		if q.levels&nibbles != 0 {
			value = 16
		}
		set(yBit, value)
		f.ins("VMOVDQU spread<>(SB), Y%d", ySpread)
		f.ins("MOVQ $0x8040201008040201, AX")
		f.ins("VMOVQ AX, X%d", ySelect)
		f.ins("VPBROADCASTQ X%d, Y%d", ySelect, ySelect)
	}
}

func (q format) recordAVX2(f *file) {
	if !q.super() {
		return
	}
	for h := range 2 {
		f.ins("VCVTPH2PS %d(DX), Y%d", 16*h, yScale+h)
		if q.affine {
			f.ins("VCVTPH2PS %d(DX), Y%d", 32+16*h, yMinimum+h)
		}
	}
	f.ins("ADDQ $%d, DX", q.header())
}

// scaleAVX2 writes the scales and minima of 8 rows to the plain block at DI.
func (q format) scaleAVX2(f *file, h int) {
	halves := 1
	if q.halved() {
		halves = 2
	}
	at := func(i int) int { return 512 + 64*i + 32*h } // of scale or minimum i
	number := func(load string, from, factor, to int, minus bool) {
		f.ins("%s %d(DX), Y0", load, from)
		f.ins("VCVTDQ2PS Y0, Y0")
		f.ins("VMULPS Y%d, Y0, Y0", factor)
		if minus {
			f.ins("VXORPS Y1, Y1, Y1")
			f.ins("VSUBPS Y0, Y1, Y0")
		}
		f.ins("VMOVUPS Y0, %d(DI)", at(to))
	}
	switch q.scales {
	case halves16:
		f.ins("VCVTPH2PS %d(DX), Y0", 16*h)
		f.ins("VMOVUPS Y0, %d(DI)", at(0))
		if q.affine {
			f.ins("VCVTPH2PS %d(DX), Y0", 32+16*h)
			f.ins("VMOVUPS Y0, %d(DI)", at(1))
		}
	case scaleMin:
		number("VPMOVZXBD", 8*h, yScale+h, 0, false)
		number("VPMOVZXBD", 16+8*h, yMinimum+h, 1, true)
	case signed16:
		number("VPMOVSXBD", 8*h, yScale+h, 0, false)
		number("VPMOVSXBD", 16+8*h, yScale+h, 1, false)
	case packed16:
		for i := range 2 {
			f.ins("VPMOVZXBD %d(DX), Y2", 16*i+8*h)
			f.ins("VPSLLD $28, Y2, Y0")
			f.ins("VPSRLD $28, Y0, Y0")
			f.ins("VCVTDQ2PS Y0, Y0")
			f.ins("VMULPS Y%d, Y0, Y0", yScale+h)
			f.ins("VMOVUPS Y0, %d(DI)", at(i))
			f.ins("VPSRLD $4, Y2, Y2")
			f.ins("VCVTDQ2PS Y2, Y2")
			f.ins("VMULPS Y%d, Y2, Y2", yMinimum+h)
			f.ins("VXORPS Y1, Y1, Y1")
			f.ins("VSUBPS Y2, Y1, Y2")
			f.ins("VMOVUPS Y2, %d(DI)", at(halves+i))
		}
	}
}

// groupAVX2 leaves the levels of group g of 8 rows in Y0.
func (q format) groupAVX2(f *file, g, h int) {
	at := q.scaleBytes()
	shifted := func(y, from, by, mask int) {
		f.ins("VMOVDQU %d(DX), Y%d", from, y)
		if by > 0 {
			f.ins("VPSRLD $%d, Y%d, Y%d", by, y, y)
		}
		f.ins("VPAND Y%d, Y%d, Y%d", mask, y, y)
	}
	if q.levels&bytes8 != 0 {
		f.ins("VMOVDQU %d(DX), Y0", at+64*g+32*h)
		return
	}
	if q.levels&nibbles != 0 {
		shifted(0, at+64*(g%4)+32*h, g/4*4, yNibble)
		at += 256
	}
	if q.levels&pairs2 != 0 {
		if q.levels&nibbles == 0 {
			shifted(0, at+g/4*64+32*h, 2*(g%4), yPair)
		} else {
			shifted(1, at+g/4*64+32*h, 2*(g%4), yPair)
			f.ins("VPSLLD $4, Y1, Y1")
			f.ins("VPOR Y1, Y0, Y0")
		}
		at += 128
	}
	if q.levels&bits1 != 0 {
		f.ins("VPBROADCASTD %d(DX), Y1", at+8*g+4*h)
		f.ins("VPSHUFB Y%d, Y1, Y1", ySpread)
		f.ins("VPAND Y%d, Y1, Y1", ySelect)
		f.ins("VPCMPEQB Y%d, Y1, Y1", ySelect)
		f.ins("VPAND Y%d, Y1, Y1", yBit)
		f.ins("VPADDB Y1, Y0, Y0")
	}
}

// unpackAVX2 is unpack.
func (q format) unpackAVX2(f *file) {
	name := "unpack" + q.name + "AVX2"
	fmt.Fprintf(f, "\n// func %s(dst, src unsafe.Pointer, records int)\n// Needs AVX2, F16C.\nTEXT ·%s(SB), NOSPLIT, $0-24\n", name, name)
	f.ins("MOVQ dst+0(FP), DI")
	f.ins("MOVQ src+8(FP), DX")
	f.ins("MOVQ records+16(FP), CX")
	q.constantsAVX2(f)
	f.label("record")
	if q.super() {
		q.recordAVX2(f)
		f.ins("MOVQ $8, BX")
		f.label("block")
	}
	for h := range 2 {
		q.scaleAVX2(f, h)
		for g := range 8 {
			q.groupAVX2(f, g, h)
			f.ins("VMOVDQU Y0, %d(DI)", 64*g+32*h)
		}
	}
	parts := 1
	if q.halved() {
		parts = 2
	}
	if q.affine {
		parts *= 2
	}
	f.ins("ADDQ $%d, DI", 512+64*parts)
	f.ins("ADDQ $%d, DX", q.blockBytes())
	if q.super() {
		f.ins("DECQ BX")
		f.ins("JNZ block")
	}
	f.ins("DECQ CX")
	f.ins("JNZ record")
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// plainKind is a form of plain panels. signed: levels reach 255, where products of pairs would not fit 16 bits, and are
// taken as signed numbers around 128.
type plainKind struct {
	name                   string
	halved, affine, signed bool
}

var plainKinds = []plainKind{{"Sym32", false, false, false}, {"Signed32", false, false, true}, {"Aff32", false, true, false}, {"Sym16", true, false, false}, {"Aff16", true, true, false}}

// dotAVX2 is dot for at most 2 rows.
func dotAVX2(f *file, k plainKind, rows int) {
	name := fmt.Sprintf("dot%sAVX2x%d", k.name, rows)
	rowsHeader(f, name, "AVX2, FMA", "blocks")
	for r := range rows {
		for h := range 2 {
			f.ins("VMOVUPS %d(AX), Y%d", 32*h, 2*r+h)
		}
	}
	f.ins("VPCMPEQW Y13, Y13, Y13")
	f.ins("VPSRLW $15, Y13, Y13") // words of one
	f.label("loop")
	halves := 1
	if k.halved {
		halves = 2
	}
	for part := range halves {
		place := 0
		if k.halved {
			place = 1 + part
		}
		for r := range rows {
			for h := range 2 {
				if k.signed {
					f.ins("VPXOR Y%d, Y%d, Y%d", 4+2*r+h, 4+2*r+h, 4+2*r+h)
				} else {
					f.ins("VPBROADCASTD %s, Y%d", rowAt(r, actOffset+4*place), 4+2*r+h)
				}
			}
		}
		for g := part * 4; g < (part+1)*8/halves; g++ {
			for h := range 2 {
				f.ins("VMOVDQU %d(DX), Y%d", 64*g+32*h, 8+h)
				if k.signed {
					f.ins("VPXOR flip<>(SB), Y%d, Y%d", 8+h, 8+h)
					f.ins("VPABSB Y%d, Y%d", 8+h, 14+h)
				}
			}
			for r := range rows {
				f.ins("VPBROADCASTD %s, Y10", rowAt(r, 4*g))
				for h := range 2 {
					if k.signed {
						f.ins("VPSIGNB Y%d, Y10, Y11", 8+h)
						f.ins("VPMADDUBSW Y11, Y%d, Y11", 14+h)
					} else {
						f.ins("VPMADDUBSW Y10, Y%d, Y11", 8+h)
					}
					f.ins("VPMADDWD Y13, Y11, Y11")
					f.ins("VPADDD Y11, Y%d, Y%d", 4+2*r+h, 4+2*r+h)
				}
			}
		}
		for r := range rows {
			f.ins("VBROADCASTSS %s, Y10", rowAt(r, actScale))
			if k.affine {
				f.ins("VBROADCASTSS %s, Y12", rowAt(r, actSum+4*place))
			}
			for h := range 2 {
				acc, sum := 4+2*r+h, 2*r+h
				f.ins("VCVTDQ2PS Y%d, Y%d", acc, acc)
				f.ins("VMULPS %d(DX), Y%d, Y%d", 512+64*part+32*h, acc, acc)
				f.ins("VFMADD231PS Y10, Y%d, Y%d", acc, sum)
				if k.affine {
					f.ins("VFMADD231PS %d(DX), Y12, Y%d", 512+64*(halves+part)+32*h, sum)
				}
			}
		}
	}
	size := 512 + 64*halves
	if k.affine {
		size += 64 * halves
	}
	f.ins("ADDQ $%d, DX", size)
	advance(f, rows, actBlock)
	f.ins("DECQ CX")
	f.ins("JNZ loop")
	storeRowsAVX2(f, rows)
}

// rowsHeader starts a kernel of rows.
func rowsHeader(f *file, name, needs, depth string) {
	fmt.Fprintf(f, "\n// func %s(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, %s int, bias unsafe.Pointer)\n// Needs %s.\nTEXT ·%s(SB), NOSPLIT, $0-56\n", name, depth, needs, name)
	f.ins("MOVQ c+0(FP), DI")
	f.ins("MOVQ cRow+8(FP), R13")
	f.ins("MOVQ a+16(FP), SI")
	f.ins("MOVQ aRow+24(FP), R8")
	f.ins("MOVQ w+32(FP), DX")
	f.ins("MOVQ %s+40(FP), CX", depth)
	f.ins("MOVQ bias+48(FP), AX")
}

func storeRowsAVX2(f *file, rows int) {
	for r := range rows {
		f.ins("VMOVUPS Y%d, (DI)", 2*r)
		f.ins("VMOVUPS Y%d, 32(DI)", 2*r+1)
		if r < rows-1 {
			f.ins("ADDQ R13, DI")
		}
	}
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// wideAVX2 is wide for at most 4 rows.
func wideAVX2(f *file, name string, rows, bytes int, load func(at, y int)) {
	name = fmt.Sprintf("%sAVX2x%d", name, rows)
	rowsHeader(f, name, "AVX2, FMA, F16C", "depth")
	rowBases(f, rows)
	f.ins("TESTQ AX, AX")
	f.ins("JZ onto")
	for r := range rows {
		f.ins("VMOVUPS (AX), Y%d", 2*r)
		f.ins("VMOVUPS 32(AX), Y%d", 2*r+1)
	}
	f.label("start")
	f.ins("TESTQ CX, CX")
	f.ins("JZ done")
	f.label("loop")
	load(0, 8)
	load(bytes/2, 9)
	for r := range rows {
		f.ins("VBROADCASTSS %s, Y10", rowAt(r, 0))
		f.ins("VFMADD231PS Y10, Y8, Y%d", 2*r)
		f.ins("VFMADD231PS Y10, Y9, Y%d", 2*r+1)
	}
	f.ins("ADDQ $%d, DX", bytes)
	advance(f, rows, 4)
	f.ins("DECQ CX")
	f.ins("JNZ loop")
	f.label("done")
	storeRowsAVX2(f, rows)
	f.label("onto")
	f.ins("MOVQ DI, AX")
	for r := range rows {
		f.ins("VMOVUPS (AX), Y%d", 2*r)
		f.ins("VMOVUPS 32(AX), Y%d", 2*r+1)
		if r < rows-1 {
			f.ins("ADDQ R13, AX")
		}
	}
	f.ins("JMP start")
}

// quantizedAVX2 writes the kernels of packed weights.
func quantizedAVX2(f *file) {
	for _, q := range formats {
		q.unpackAVX2(f)
	}
	for _, k := range plainKinds {
		for _, rows := range []int{2, 1} {
			dotAVX2(f, k, rows)
		}
	}
	for _, rows := range []int{4, 2, 1} {
		wideAVX2(f, "wideF32", rows, 64, func(at, y int) { f.ins("VMOVUPS %d(DX), Y%d", at, y) })
		wideAVX2(f, "wideF16", rows, 32, func(at, y int) { f.ins("VCVTPH2PS %d(DX), Y%d", at, y) })
		wideAVX2(f, "wideBF16", rows, 32, func(at, y int) {
			f.ins("VPMOVZXWD %d(DX), Y%d", at, y)
			f.ins("VPSLLD $16, Y%d, Y%d", y, y)
		})
	}
	f.WriteString("\n// spread repeats each of four bytes 8 times.\n")
	for i, b := range []uint64{0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303} {
		fmt.Fprintf(f, "DATA spread<>+%d(SB)/8, $%#x\n", 8*i, b)
	}
	f.WriteString("GLOBL spread<>(SB), RODATA|NOPTR, $32\n\n// flip makes unsigned levels signed.\n")
	for i := range 4 {
		fmt.Fprintf(f, "DATA flip<>+%d(SB)/8, $0x8080808080808080\n", 8*i)
	}
	f.WriteString("GLOBL flip<>(SB), RODATA|NOPTR, $32\n")
}
