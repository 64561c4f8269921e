package main

import "fmt"

// Packed weights (kernel/packed.go): panels of 16 rows of W, in each a record for every 32 (or, of the K types, 256)
// values of the inner index. Below, a block is 32 values of the inner index and a group 4 of them: the 64 bytes of a
// group are what one VPDPBUSD multiplies.

// levels says how the unsigned levels of a block are stored.
type levels uint8

const (
	bytes8  levels = 1 << iota // 8 registers, one per group
	nibbles                    // 4 registers: group g in the low nibbles of register g, g+4 in the high ones
	pairs2                     // 2 registers: groups 0-3 and 4-7, each group two bits
	bits1                      // 8 masks of 64 bits, one per group
)

// scaling says how the scales of a block are stored.
type scaling uint8

const (
	halves16 scaling = iota // per block: d f16, and m f16 when affine
	scaleMin                // record: d and dmin f16; per block: scale and minimum, a byte each
	signed16                // record: d f16; per block: two signed scales of 16 values each
	packed16                // record: d and dmin f16; per block: two bytes of scale | minimum<<4
)

type format struct {
	name   string
	levels levels
	scales scaling
	affine bool
}

var formats = []format{
	{"Q8_0", bytes8, halves16, false}, {"Q4_0", nibbles, halves16, false}, {"Q4_1", nibbles, halves16, true},
	{"Q5_0", nibbles | bits1, halves16, false}, {"Q5_1", nibbles | bits1, halves16, true},
	{"Q4_K", nibbles, scaleMin, true}, {"Q5_K", nibbles | bits1, scaleMin, true}, {"Q6_K", nibbles | pairs2, signed16, false},
	{"Q3_K", pairs2 | bits1, signed16, false}, {"Q2_K", pairs2, packed16, true},
}

// halved reports whether scales cover 16 values.
func (q format) halved() bool { return q.scales == signed16 || q.scales == packed16 }

// super reports whether records hold 8 blocks.
func (q format) super() bool { return q.scales != halves16 }

// header is the bytes in front of a record's blocks.
func (q format) header() int {
	switch {
	case !q.super():
		return 0
	case q.affine:
		return 64
	}
	return 32
}

// scaleBytes is the size of a block's scales.
func (q format) scaleBytes() int {
	if q.scales == halves16 && !q.affine {
		return 32
	}
	if q.scales == halves16 {
		return 64
	}
	return 32
}

// blockBytes is the size of a block.
func (q format) blockBytes() int {
	n := q.scaleBytes()
	for l, size := range map[levels]int{bytes8: 512, nibbles: 256, pairs2: 128, bits1: 64} {
		if q.levels&l != 0 {
			n += size
		}
	}
	return n
}

// Registers of the unpacking code: DX points to the block, Z26 and Z27 get its scales, Z28 and Z29 its minima; Z30 and
// Z31 hold d and dmin of the record; Z20 to Z23 hold constants.
const (
	zNibble = 20 // bytes of 15
	zPair   = 21 // bytes of 3
	zBit    = 22 // bytes of the value of the bit plane
)

func (q format) constants(f *file) {
	set := func(z int, b byte) {
		f.ins("MOVL $%#x, AX", uint32(b)*0x01010101)
		f.ins("VPBROADCASTD AX, Z%d", z)
	}
	if q.levels&nibbles != 0 {
		set(zNibble, 15)
	}
	if q.levels&pairs2 != 0 {
		set(zPair, 3)
	}
	if q.levels&bits1 != 0 {
		if q.levels&nibbles != 0 {
			set(zBit, 16)
		} else {
			set(zBit, 4)
		}
	}
}

// record loads what a record's blocks share and moves DX to the first block.
func (q format) record(f *file) {
	if !q.super() {
		return
	}
	f.ins("VCVTPH2PS (DX), Z30")
	if q.affine {
		f.ins("VCVTPH2PS 32(DX), Z31")
	}
	f.ins("ADDQ $%d, DX", q.header())
}

// scale loads the block's scales and minima.
func (q format) scale(f *file) {
	number := func(z, at int, op string) {
		f.ins("%s %d(DX), Z%d", op, at, z)
		f.ins("VCVTDQ2PS Z%d, Z%d", z, z)
		f.ins("VMULPS Z30, Z%d, Z%d", z, z)
	}
	minus := func(z int) {
		f.ins("VXORPS Z25, Z25, Z25")
		f.ins("VSUBPS Z%d, Z25, Z%d", z, z)
	}
	switch q.scales {
	case halves16:
		f.ins("VCVTPH2PS (DX), Z26")
		if q.affine {
			f.ins("VCVTPH2PS 32(DX), Z28")
		}
	case scaleMin:
		number(26, 0, "VPMOVZXBD")
		f.ins("VPMOVZXBD 16(DX), Z28")
		f.ins("VCVTDQ2PS Z28, Z28")
		f.ins("VMULPS Z31, Z28, Z28")
		minus(28)
	case signed16:
		number(26, 0, "VPMOVSXBD")
		number(27, 16, "VPMOVSXBD")
	case packed16:
		for h := range 2 {
			f.ins("VPMOVZXBD %d(DX), Z24", 16*h)
			f.ins("VPSRLD $4, Z24, Z%d", 28+h)
			f.ins("VPSLLD $28, Z24, Z24")
			f.ins("VPSRLD $28, Z24, Z24")
			f.ins("VCVTDQ2PS Z24, Z24")
			f.ins("VMULPS Z30, Z24, Z%d", 26+h)
			f.ins("VCVTDQ2PS Z%d, Z%d", 28+h, 28+h)
			f.ins("VMULPS Z31, Z%d, Z%d", 28+h, 28+h)
			minus(28 + h)
		}
	}
}

// group leaves the levels of group g in a register.
func (q format) group(f *file, g, z int) {
	at := q.scaleBytes()
	if q.levels&bytes8 != 0 {
		f.ins("VMOVDQU64 %d(DX), Z%d", at+64*g, z)
		return
	}
	if q.levels&nibbles != 0 {
		if g < 4 {
			f.ins("VPANDD %d(DX), Z%d, Z%d", at+64*g, zNibble, z)
		} else {
			f.ins("VPSRLD $4, %d(DX), Z%d", at+64*(g-4), z)
			f.ins("VPANDD Z%d, Z%d, Z%d", zNibble, z, z)
		}
		at += 256
	}
	if q.levels&pairs2 != 0 {
		t := z
		if q.levels&nibbles != 0 {
			t = 25
		}
		if g%4 == 0 {
			f.ins("VPANDD %d(DX), Z%d, Z%d", at+g/4*64, zPair, t)
		} else {
			f.ins("VPSRLD $%d, %d(DX), Z%d", 2*(g%4), at+g/4*64, t)
			f.ins("VPANDD Z%d, Z%d, Z%d", zPair, t, t)
		}
		if t != z {
			f.ins("VPSLLD $4, Z%d, Z%d", t, t)
			f.ins("VPORD Z%d, Z%d, Z%d", t, z, z)
		}
		at += 128
	}
	if q.levels&bits1 != 0 {
		f.ins("KMOVQ %d(DX), K1", at+8*g)
		f.ins("VPADDB Z%d, Z%d, K1, Z%d", zBit, z, z)
	}
}

// blocksLoop calls body for every block: CX counts records.
func (q format) blocksLoop(f *file, prefix string, body func()) {
	f.label(prefix + "record")
	if q.super() {
		q.record(f)
		f.ins("MOVQ $8, BX")
		f.label(prefix + "block")
	}
	body()
	f.ins("ADDQ $%d, DX", q.blockBytes())
	if q.super() {
		f.ins("DECQ BX")
		f.ins("JNZ %sblock", prefix)
	}
	f.ins("DECQ CX")
	f.ins("JNZ %srecord", prefix)
}

// rowAt is the address of row r: rows are R8 bytes apart, and SI, R9, R10, R11 stand at rows 0, 3, 6 and 9.
func rowAt(r, off int) string {
	base := []string{"SI", "R9", "R10", "R11"}[r/3]
	return fmt.Sprintf("%d(%s)%s", off, base, []string{"", "(R8*1)", "(R8*2)"}[r%3])
}

func rowBases(f *file, rows int) {
	prev := "SI"
	for i := 1; 3*i < rows; i++ {
		base := []string{"SI", "R9", "R10", "R11"}[i]
		f.ins("LEAQ (%s)(R8*2), %s", prev, base)
		f.ins("ADDQ R8, %s", base)
		prev = base
	}
}

func advance(f *file, rows, by int) {
	for i := 0; 3*i < rows; i++ {
		f.ins("ADDQ $%d, %s", by, []string{"SI", "R9", "R10", "R11"}[i])
	}
}

// Places in an activation's block of 64 bytes, as in kernel/packed.go.
const (
	actScale  = 32
	actOffset = 36 // minus zero times the sum of the levels; of the halves behind it
	actSum    = 48 // scale times the sum of the levels; of the halves behind it
	actBlock  = 64
)

// fold adds an integer sum of row r in register acc to float32 register sum: scaled by the weights' scales (register
// scale) and the activation's, and with the minima (register min; 0: none) times the activation's sum.
func fold(f *file, acc, sum, scale, minima, r, half int) {
	f.ins("VCVTDQ2PS Z%d, Z%d", acc, acc)
	f.ins("VMULPS Z%d, Z%d, Z%d", scale, acc, acc)
	f.ins("VFMADD231PS.BCST %s, Z%d, Z%d", rowAt(r, actScale), acc, sum)
	if minima > 0 {
		f.ins("VFMADD231PS.BCST %s, Z%d, Z%d", rowAt(r, actSum+4*half), minima, sum)
	}
}

// gemv writes func(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer): one row of activations times
// panels of packed weights.
func (q format) gemv(f *file) {
	name := "gemv" + q.name
	fmt.Fprintf(f, "\n// func %s(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)\n// Needs AVX512_VNNI.\nTEXT ·%s(SB), NOSPLIT, $0-48\n", name, name)
	f.ins("MOVQ y+0(FP), DI")
	f.ins("MOVQ w+8(FP), DX")
	f.ins("MOVQ panels+32(FP), R12")
	f.ins("MOVQ bias+40(FP), R13")
	q.constants(f)
	f.label("panel")
	f.ins("MOVQ a+16(FP), SI")
	f.ins("MOVQ records+24(FP), CX")
	f.ins("VMOVUPS (R13), Z0")
	q.blocksLoop(f, "", func() {
		q.scale(f)
		f.ins("PREFETCHT0 4096(DX)")
		f.ins("PREFETCHT0 4160(DX)")
		halves := 1
		if q.halved() {
			halves = 2
		}
		for h := range halves {
			at := actOffset
			if halves == 2 {
				at += 4 + 4*h
			}
			f.ins("VPBROADCASTD %d(SI), Z12", at)
			for g := h * 4; g < (h+1)*8/halves; g++ {
				z := 16 + g%4
				q.group(f, g, z)
				f.ins("VPDPBUSD.BCST %d(SI), Z%d, Z12", 4*g, z)
			}
			minima, part := 0, 0
			if q.affine {
				minima = 28 + h
			}
			if halves == 2 {
				part = 1 + h
			}
			fold(f, 12, 0, 26+h, minima, 0, part)
		}
		f.ins("ADDQ $%d, SI", actBlock)
	})
	f.ins("VMOVUPS Z0, (DI)")
	f.ins("ADDQ $64, DI")
	f.ins("ADDQ $64, R13")
	f.ins("DECQ R12")
	f.ins("JNZ panel")
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// unpack writes func(dst, src unsafe.Pointer, records int): the plain form of a panel, whose blocks hold the levels as
// bytes, group by group, then the scales and the minima as float32.
func (q format) unpack(f *file) {
	name := "unpack" + q.name
	fmt.Fprintf(f, "\n// func %s(dst, src unsafe.Pointer, records int)\n// Needs AVX-512BW.\nTEXT ·%s(SB), NOSPLIT, $0-24\n", name, name)
	f.ins("MOVQ dst+0(FP), DI")
	f.ins("MOVQ src+8(FP), DX")
	f.ins("MOVQ records+16(FP), CX")
	q.constants(f)
	q.blocksLoop(f, "", func() {
		q.scale(f)
		for g := range 8 {
			q.group(f, g, 16+g%4)
			f.ins("VMOVDQU64 Z%d, %d(DI)", 16+g%4, 64*g)
		}
		at := 512
		put := func(z int) {
			f.ins("VMOVUPS Z%d, %d(DI)", z, at)
			at += 64
		}
		put(26)
		if q.halved() {
			put(27)
		}
		if q.affine {
			put(28)
			if q.halved() {
				put(29)
			}
		}
		f.ins("ADDQ $%d, DI", at)
	})
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// tileRows are the numbers of rows of the microkernels.
var tileRows = []int{12, 8, 4, 2, 1}

// fourRows is the most rows of the kernels of 4 panels.
const fourRows = 4

// dot writes func(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias
// unsafe.Pointer): rows of activations times a plain panel. halved and affine are the panel's.
func dot(f *file, rows int, halved, affine bool) {
	name := fmt.Sprintf("dot%s%dx%d", map[bool]string{false: "Sym", true: "Aff"}[affine], map[bool]int{false: 32, true: 16}[halved], rows)
	fmt.Fprintf(f, "\n// func %s(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)\n// Needs AVX512_VNNI.\nTEXT ·%s(SB), NOSPLIT, $0-56\n", name, name)
	f.ins("MOVQ c+0(FP), DI")
	f.ins("MOVQ cRow+8(FP), R13")
	f.ins("MOVQ a+16(FP), SI")
	f.ins("MOVQ aRow+24(FP), R8")
	f.ins("MOVQ w+32(FP), DX")
	f.ins("MOVQ blocks+40(FP), CX")
	f.ins("MOVQ bias+48(FP), AX")
	rowBases(f, rows)
	for r := range rows {
		f.ins("VMOVUPS (AX), Z%d", r)
	}
	f.label("loop")
	halves := 1
	if halved {
		halves = 2
	}
	for h := range halves {
		part := 0
		if halved {
			part = 1 + h
		}
		f.ins("VMOVUPS %d(DX), Z26", 512+64*h)
		minima := 0
		if affine {
			minima = 27
			f.ins("VMOVUPS %d(DX), Z27", 512+64*halves+64*h)
		}
		for r := range rows {
			f.ins("VPBROADCASTD %s, Z%d", rowAt(r, actOffset+4*part), 12+r)
		}
		for g := h * 4; g < (h+1)*8/halves; g++ {
			f.ins("VMOVDQU64 %d(DX), Z%d", 64*g, 24+g%2)
			for r := range rows {
				f.ins("VPDPBUSD.BCST %s, Z%d, Z%d", rowAt(r, 4*g), 24+g%2, 12+r)
			}
		}
		for r := range rows {
			fold(f, 12+r, r, 26, minima, r, part)
		}
	}
	size := 512 + 64*halves
	if affine {
		size += 64 * halves
	}
	f.ins("ADDQ $%d, DX", size)
	advance(f, rows, actBlock)
	f.ins("DECQ CX")
	f.ins("JNZ loop")
	storeRows(f, rows)
}

// storeRows writes registers Z0, Z1, ... to rows that are R13 bytes apart and returns.
func storeRows(f *file, rows int) {
	for r := range rows {
		f.ins("VMOVUPS Z%d, (DI)", r)
		if r < rows-1 {
			f.ins("ADDQ R13, DI")
		}
	}
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// wide writes func(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias
// unsafe.Pointer): rows of float32 times a panel whose 16 values of each inner index load makes from memory at DX. Without
// a bias the product is added to c.
func wide(f *file, name string, rows, bytes int, load func(at, z int)) {
	name = fmt.Sprintf("%sx%d", name, rows)
	fmt.Fprintf(f, "\n// func %s(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)\n// Needs AVX-512F.\nTEXT ·%s(SB), NOSPLIT, $0-56\n", name, name)
	f.ins("MOVQ c+0(FP), DI")
	f.ins("MOVQ cRow+8(FP), R13")
	f.ins("MOVQ a+16(FP), SI")
	f.ins("MOVQ aRow+24(FP), R8")
	f.ins("MOVQ w+32(FP), DX")
	f.ins("MOVQ depth+40(FP), CX")
	f.ins("MOVQ bias+48(FP), AX")
	rowBases(f, rows)
	f.ins("TESTQ AX, AX")
	f.ins("JZ onto")
	for r := range rows {
		f.ins("VMOVUPS (AX), Z%d", r)
	}
	f.label("start")
	const unroll = 4
	f.ins("SUBQ $%d, CX", unroll)
	f.ins("JLT tail")
	f.label("loop")
	for u := range unroll {
		load(bytes*u, 24+u)
		for r := range rows {
			f.ins("VFMADD231PS.BCST %s, Z%d, Z%d", rowAt(r, 4*u), 24+u, r)
		}
	}
	f.ins("ADDQ $%d, DX", bytes*unroll)
	advance(f, rows, 4*unroll)
	f.ins("SUBQ $%d, CX", unroll)
	f.ins("JGE loop")
	f.label("tail")
	f.ins("ADDQ $%d, CX", unroll)
	f.ins("JZ done")
	f.label("one")
	load(0, 24)
	for r := range rows {
		f.ins("VFMADD231PS.BCST %s, Z24, Z%d", rowAt(r, 0), r)
	}
	f.ins("ADDQ $%d, DX", bytes)
	advance(f, rows, 4)
	f.ins("DECQ CX")
	f.ins("JNZ one")
	f.label("done")
	storeRows(f, rows)
	f.label("onto")
	f.ins("MOVQ DI, AX")
	for r := range rows {
		f.ins("VMOVUPS (AX), Z%d", r)
		if r < rows-1 {
			f.ins("ADDQ R13, AX")
		}
	}
	f.ins("JMP start")
}

// wideFour writes func(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias
// unsafe.Pointer, panel int): a few rows of float32 times 4 panels that are panel bytes apart, with the sums of the panels
// in step with each other, since so few sums would wait for themselves. Without a bias the product is added to c.
func wideFour(f *file, name string, rows, bytes int, load func(from string, at, z int)) {
	name = fmt.Sprintf("%sFour%d", name, rows)
	fmt.Fprintf(f, "\n// func %s(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)\n// Needs AVX-512F.\nTEXT ·%s(SB), NOSPLIT, $0-64\n", name, name)
	f.ins("MOVQ c+0(FP), DI")
	f.ins("MOVQ cRow+8(FP), R13")
	f.ins("MOVQ a+16(FP), SI")
	f.ins("MOVQ aRow+24(FP), R8")
	f.ins("MOVQ w+32(FP), DX")
	f.ins("MOVQ depth+40(FP), CX")
	f.ins("MOVQ bias+48(FP), AX")
	f.ins("MOVQ panel+56(FP), BX")
	rowBases(f, rows)
	panels := []string{"DX", "R10", "R11", "R12"}
	for p := 1; p < 4; p++ {
		f.ins("LEAQ (%s)(BX*1), %s", panels[p-1], panels[p])
	}
	f.ins("XORQ BX, BX") // the bias serves every row
	f.ins("TESTQ AX, AX")
	f.ins("JNZ init")
	f.ins("MOVQ DI, AX")
	f.ins("MOVQ R13, BX")
	f.label("init")
	for r := range rows {
		for p := range 4 {
			f.ins("VMOVUPS %d(AX), Z%d", 64*p, 4*r+p)
		}
		f.ins("ADDQ BX, AX")
	}
	step := func(unroll int) {
		for p := range 4 {
			if unroll > 1 {
				for at := 0; at < bytes*unroll; at += 64 {
					f.ins("PREFETCHT0 %d(%s)", 2048+at, panels[p])
				}
			}
		}
		for u := range unroll {
			w := 16 + 4*(u%2)
			for p := range 4 {
				load(panels[p], bytes*u, w+p)
			}
			for r := range rows {
				f.ins("VBROADCASTSS %s, Z%d", rowAt(r, 4*u), 24+r)
				for p := range 4 {
					f.ins("VFMADD231PS Z%d, Z%d, Z%d", 24+r, w+p, 4*r+p)
				}
			}
		}
		for p := range 4 {
			f.ins("ADDQ $%d, %s", bytes*unroll, panels[p])
		}
		advance(f, rows, 4*unroll)
	}
	const unroll = 4
	f.ins("SUBQ $%d, CX", unroll)
	f.ins("JLT tail")
	f.label("loop")
	step(unroll)
	f.ins("SUBQ $%d, CX", unroll)
	f.ins("JGE loop")
	f.label("tail")
	f.ins("ADDQ $%d, CX", unroll)
	f.ins("JZ done")
	f.label("one")
	step(1)
	f.ins("DECQ CX")
	f.ins("JNZ one")
	f.label("done")
	for r := range rows {
		for p := range 4 {
			f.ins("VMOVUPS Z%d, %d(DI)", 4*r+p, 64*p)
		}
		f.ins("ADDQ R13, DI")
	}
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// quantizeRow writes func(dst, x unsafe.Pointer, blocks, zero int): blocks of 32 float32 values as activation blocks.
func quantizeRow(f *file) {
	fmt.Fprint(f, "\n// func quantizeAVX512(dst, x unsafe.Pointer, blocks, zero int)\n// Needs AVX-512BW.\nTEXT ·quantizeAVX512(SB), NOSPLIT, $0-32\n")
	f.ins("MOVQ dst+0(FP), DI")
	f.ins("MOVQ x+8(FP), SI")
	f.ins("MOVQ blocks+16(FP), CX")
	f.ins("MOVQ zero+24(FP), R8")
	f.ins("NEGQ R8")
	f.ins("MOVL $0x7fffffff, AX")
	f.ins("VPBROADCASTD AX, Z20")
	f.ins("MOVL $0x42fe0000, AX") // 127
	f.ins("VMOVD AX, X21")
	f.label("loop")
	f.ins("VMOVUPS (SI), Z0")
	f.ins("VMOVUPS 64(SI), Z1")
	f.ins("VPANDD Z20, Z0, Z2")
	f.ins("VPANDD Z20, Z1, Z3")
	f.ins("VPMAXUD Z3, Z2, Z2")
	// Magnitudes are compared as integers, so that a NaN is the largest and shows in the scale.
	f.ins("VEXTRACTI64X4 $1, Z2, Y3")
	f.ins("VPMAXUD Y3, Y2, Y2")
	f.ins("VEXTRACTI128 $1, Y2, X3")
	f.ins("VPMAXUD X3, X2, X2")
	f.ins("VPSHUFD $0x4e, X2, X3")
	f.ins("VPMAXUD X3, X2, X2")
	f.ins("VPSHUFD $0xb1, X2, X3")
	f.ins("VPMAXUD X3, X2, X2")
	f.ins("VDIVSS X21, X2, X4") // scale
	f.ins("VDIVSS X2, X21, X5") // inverse; of zero it is zero
	f.ins("VMOVD X2, AX")
	f.ins("TESTL AX, AX")
	f.ins("JNZ some")
	f.ins("VXORPS X5, X5, X5")
	f.label("some")
	f.ins("VBROADCASTSS X5, Z5")
	f.ins("VMULPS Z5, Z0, Z0")
	f.ins("VMULPS Z5, Z1, Z1")
	f.ins("VCVTPS2DQ Z0, Z0")
	f.ins("VCVTPS2DQ Z1, Z1")
	f.ins("VPMOVDB Z0, (DI)")
	f.ins("VPMOVDB Z1, 16(DI)")
	f.ins("VMOVSS X4, %d(DI)", actScale)
	// Sums of both halves, in the low words of X0 and X1.
	for z := range 2 {
		f.ins("VEXTRACTI64X4 $1, Z%d, Y3", z)
		f.ins("VPADDD Y3, Y%d, Y%d", z, z)
		f.ins("VEXTRACTI128 $1, Y%d, X3", z)
		f.ins("VPADDD X3, X%d, X%d", z, z)
		f.ins("VPSHUFD $0x4e, X%d, X3", z)
		f.ins("VPADDD X3, X%d, X%d", z, z)
		f.ins("VPSHUFD $0xb1, X%d, X3", z)
		f.ins("VPADDD X3, X%d, X%d", z, z)
	}
	f.ins("VMOVD X0, AX")
	f.ins("VMOVD X1, BX")
	f.ins("LEAL (AX)(BX*1), DX")
	for i, reg := range []string{"DX", "AX", "BX"} {
		f.ins("VCVTSI2SSL %s, X4, X3", reg)
		f.ins("VMULSS X4, X3, X3")
		f.ins("VMOVSS X3, %d(DI)", actSum+4*i)
		f.ins("IMULL R8, %s", reg)
		f.ins("MOVL %s, %d(DI)", reg, actOffset+4*i)
	}
	f.ins("ADDQ $128, SI")
	f.ins("ADDQ $%d, DI", actBlock)
	f.ins("DECQ CX")
	f.ins("JNZ loop")
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// widen writes func(dst, src unsafe.Pointer, blocks, zero int): a plain panel as float32, 16 values for each inner index.
func widen(f *file, halved, affine bool) {
	name := fmt.Sprintf("widen%s%d", map[bool]string{false: "Sym", true: "Aff"}[affine], map[bool]int{false: 32, true: 16}[halved])
	fmt.Fprintf(f, "\n// func %s(dst, src unsafe.Pointer, blocks, zero int)\n// Needs AVX-512F.\nTEXT ·%s(SB), NOSPLIT, $0-32\n", name, name)
	f.ins("MOVQ dst+0(FP), DI")
	f.ins("MOVQ src+8(FP), SI")
	f.ins("MOVQ blocks+16(FP), CX")
	f.ins("MOVQ zero+24(FP), AX")
	f.ins("VPBROADCASTD AX, Z20")
	f.ins("MOVL $255, AX")
	f.ins("VPBROADCASTD AX, Z21")
	halves := 1
	if halved {
		halves = 2
	}
	f.label("loop")
	for g := range 8 {
		h := g * halves / 8
		if g*halves%8 == 0 {
			f.ins("VMOVUPS %d(SI), Z26", 512+64*h)
			if affine {
				f.ins("VMOVUPS %d(SI), Z28", 512+64*halves+64*h)
			}
		}
		f.ins("VMOVDQU64 %d(SI), Z0", 64*g)
		for k := range 4 {
			f.ins("VPSRLD $%d, Z0, Z1", 8*k)
			f.ins("VPANDD Z21, Z1, Z1")
			f.ins("VPSUBD Z20, Z1, Z1")
			f.ins("VCVTDQ2PS Z1, Z1")
			f.ins("VMULPS Z26, Z1, Z1")
			if affine {
				f.ins("VADDPS Z28, Z1, Z1")
			}
			f.ins("VMOVUPS Z1, %d(DI)", 64*(4*g+k))
		}
	}
	size := 512 + 64*halves
	if affine {
		size += 64 * halves
	}
	f.ins("ADDQ $%d, SI", size)
	f.ins("ADDQ $2048, DI")
	f.ins("DECQ CX")
	f.ins("JNZ loop")
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// widenBytes writes func(dst, q, scales unsafe.Pointer, n, step int): n groups of 16 signed bytes, step bytes apart, as
// float32 times the 16 half-precision numbers at scales, or, of values, times one of them for each group.
func widenBytes(f *file, name string, each bool) {
	fmt.Fprintf(f, "\n// func %s(dst, q, scales unsafe.Pointer, n, step int)\n// Needs AVX-512F.\nTEXT ·%s(SB), NOSPLIT, $0-40\n", name, name)
	f.ins("MOVQ dst+0(FP), DI")
	f.ins("MOVQ q+8(FP), SI")
	f.ins("MOVQ scales+16(FP), DX")
	f.ins("MOVQ n+24(FP), CX")
	f.ins("MOVQ step+32(FP), R8")
	if !each {
		f.ins("VCVTPH2PS (DX), Z1")
	}
	f.label("loop")
	if each {
		f.ins("VPBROADCASTW (DX), Y1")
		f.ins("VCVTPH2PS Y1, Z1")
		f.ins("ADDQ $2, DX")
	}
	f.ins("VPMOVSXBD (SI), Z0")
	f.ins("VCVTDQ2PS Z0, Z0")
	f.ins("VMULPS Z1, Z0, Z0")
	f.ins("VMOVUPS Z0, (DI)")
	f.ins("ADDQ R8, SI")
	f.ins("ADDQ $64, DI")
	f.ins("DECQ CX")
	f.ins("JNZ loop")
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// quantized writes the kernels of packed weights.
func quantized(f *file) {
	quantizeRow(f)
	for _, q := range formats {
		q.gemv(f)
		q.unpack(f)
	}
	for _, halved := range []bool{false, true} {
		for _, affine := range []bool{false, true} {
			for _, rows := range tileRows {
				dot(f, rows, halved, affine)
			}
			widen(f, halved, affine)
		}
	}
	widenBytes(f, "widenKeysAVX512", false)
	widenBytes(f, "widenValuesAVX512", true)
	loads := []struct {
		name  string
		bytes int
		load  func(from string, at, z int)
	}{
		{"F32", 64, func(from string, at, z int) { f.ins("VMOVUPS %d(%s), Z%d", at, from, z) }},
		{"F16", 32, func(from string, at, z int) { f.ins("VCVTPH2PS %d(%s), Z%d", at, from, z) }},
		{"BF16", 32, func(from string, at, z int) {
			f.ins("VPMOVZXWD %d(%s), Z%d", at, from, z)
			f.ins("VPSLLD $16, Z%d, Z%d", z, z)
		}},
	}
	for _, l := range loads {
		for _, rows := range tileRows {
			wide(f, "wide"+l.name, rows, l.bytes, func(at, z int) { l.load("DX", at, z) })
		}
		for rows := range fourRows {
			wideFour(f, "wide"+l.name, rows+1, l.bytes, l.load)
		}
	}
}
