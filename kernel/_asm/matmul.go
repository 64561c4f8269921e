package main

import "fmt"

// The microtile and the tile's row length, as in kernel/matmul.go.
const (
	microM = 12
	microN = 32
	tileN  = 512
)

// matmul writes the microkernels and the packing of panels.
func matmul(f *file) {
	microkernel(f, "matmulAVX512", "AVX-512F", func(a, b, acc int) {
		f.ins("VFMADD231PS Z%d, Z%d, Z%d", a, b, acc)
	})
	microkernel(f, "matmulBF16", "AVX512_BF16", func(a, b, acc int) {
		// VDPBF16PS Z<a>, Z<b>, Z<acc>, which the assembler does not know.
		f.evex(evex{pp: 2, op: 0x52, dst: acc, src: b, rm: a})
	})
	for _, lines := range []int{microM, 16} {
		packAcross(f, fmt.Sprintf("packLines%d", lines), lines, 64, func(z int) {
			f.ins("VMOVUPS (AX), Z%d", z)
		})
		packAcross(f, fmt.Sprintf("packPairs%d", lines), lines, 128, func(z int) {
			f.ins("VMOVUPS (AX), Z30")
			f.ins("VMOVUPS 64(AX), Z31")
			f.evex(evex{pp: 3, op: 0x72, dst: z, src: 31, rm: 30}) // VCVTNE2PS2BF16 Z30, Z31, Z<z>
		})
		packAcross(f, fmt.Sprintf("packHalves%d", lines), lines, 64, func(z int) {
			f.ins("VMOVUPS (AX), Z%d", z)
		})
	}
	packAlong(f, "packRowPairs", "AVX512_BF16", func() {
		f.ins("VMOVUPS.Z (SI), K1, Z30")
		f.ins("VMOVUPS.Z (SI)(R8*1), K1, Z31")
		f.evex(evex{pp: 3, op: 0x72, dst: 0, src: 31, rm: 30})
	})
	packAlong(f, "packRowHalves", "AVX-512BW", func() {
		f.ins("VMOVDQU16.Z (SI), K1, Y0")
		f.ins("VMOVDQU16.Z (SI)(R8*1), K1, Y1")
		f.ins("VINSERTI64X4 $1, Y1, Z0, Z0")
	})
	fmt.Fprint(f, "\n// interleave lists the words of two halves alternately.\n")
	for i := 0; i < 32; i += 4 {
		w := func(k int) uint64 { return uint64(k/2 + k%2*16) }
		f.WriteString(fmt.Sprintf("DATA interleave<>+%d(SB)/8, $%#x\n", 2*i, w(i)|w(i+1)<<16|w(i+2)<<32|w(i+3)<<48))
	}
	f.WriteString("GLOBL interleave<>(SB), RODATA|NOPTR, $64\n")
}

// evex is an instruction of opcode map 0F38, 512 bits wide, that the assembler does not know.
type evex struct {
	pp       int // mandatory prefix: 2 is F3, 3 is F2
	op       byte
	dst, src int // the first two operands in Intel's order
	rm       int // the third operand
}

// evex writes an instruction as bytes.
func (f *file) evex(e evex) {
	bit := func(x, n int) byte { return byte(^x >> n & 1) } // register bits are stored inverted
	p0 := bit(e.dst, 3)<<7 | bit(e.rm, 4)<<6 | bit(e.rm, 3)<<5 | bit(e.dst, 4)<<4 | 2
	p1 := byte(^e.src&15)<<3 | 4 | byte(e.pp)
	p2 := 0x40 | bit(e.src, 4)<<3
	for i, c := range []byte{0x62, p0, p1, p2, e.op, 0xc0 | byte(e.dst&7)<<3 | byte(e.rm&7)} {
		sep := "; "
		if i == 0 {
			sep = "\t"
		}
		fmt.Fprintf(f, "%sBYTE $%#02x", sep, c)
	}
	f.WriteString("\n")
}

// microkernel writes func(c, a, b, depth, accumulate): 12 rows of two vectors in Z0 to Z23, the two vectors of B in Z24
// and Z25. A value (or pair) of A is broadcast once into a register for both: as operands of the products they would
// take two loads, and loads are what the loop would wait for.
func microkernel(f *file, name, needs string, step func(a, b, acc int)) {
	fmt.Fprintf(f, "\n// func %s(c, a, b *float32, depth int, accumulate bool)\n// Needs %s.\nTEXT ·%s(SB), NOSPLIT, $0-33\n", name, needs, name)
	f.ins("MOVQ c+0(FP), DI")
	f.ins("MOVQ a+8(FP), SI")
	f.ins("MOVQ b+16(FP), DX")
	f.ins("MOVQ depth+24(FP), CX")
	f.ins("MOVBLZX accumulate+32(FP), AX")
	for z := range 2 * microM {
		f.ins("VPXORD Z%d, Z%d, Z%d", z, z, z)
	}
	f.label("loop")
	f.ins("VMOVUPS (DX), Z24")
	f.ins("VMOVUPS 64(DX), Z25")
	f.ins("PREFETCHT0 1024(DX)")
	for i := range microM {
		a := 26 + i%6
		f.ins("VBROADCASTSS %d(SI), Z%d", 4*i, a)
		step(a, 24, 2*i)
		step(a, 25, 2*i+1)
	}
	f.ins("ADDQ $%d, SI", 4*microM)
	f.ins("ADDQ $%d, DX", 4*microN)
	f.ins("DECQ CX")
	f.ins("JNZ loop")
	f.ins("TESTL AX, AX")
	f.ins("JZ store")
	for i := range microM {
		f.ins("VADDPS %d(DI), Z%d, Z%d", 4*tileN*i, 2*i, 2*i)
		f.ins("VADDPS %d(DI), Z%d, Z%d", 4*tileN*i+64, 2*i+1, 2*i+1)
	}
	f.label("store")
	for i := range microM {
		f.ins("VMOVUPS Z%d, %d(DI)", 2*i, 4*tileN*i)
		f.ins("VMOVUPS Z%d, %d(DI)", 2*i+1, 4*tileN*i+64)
	}
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// packAcross writes func(dst, src unsafe.Pointer, line, groups, width, have int): lines of 16 words each (line bytes
// apart, made by load from AX into a register) are transposed, so that word k of all lines lies at dst + k*width bytes.
// Each of the groups takes the next advance bytes of every line. Lines from have on are zero.
func packAcross(f *file, name string, lines, advance int, load func(z int)) {
	fmt.Fprintf(f, "\n// func %s(dst, src unsafe.Pointer, line, groups, width, have int)\nTEXT ·%s(SB), NOSPLIT, $0-48\n", name, name)
	f.ins("MOVQ dst+0(FP), DI")
	f.ins("MOVQ src+8(FP), SI")
	f.ins("MOVQ line+16(FP), R8")
	f.ins("MOVQ groups+24(FP), CX")
	f.ins("MOVQ width+32(FP), R9")
	f.ins("MOVQ have+40(FP), R10")
	f.ins("MOVL $%#x, DX", 1<<lines-1)
	f.ins("KMOVW DX, K1")
	f.label("loop")
	f.ins("MOVQ SI, AX")
	f.ins("CMPQ R10, $%d", lines)
	f.ins("JNE few")
	for z := range lines {
		load(z)
		f.ins("ADDQ R8, AX")
	}
	for z := lines; z < 16; z++ {
		f.ins("VPXORD Z%d, Z%d, Z%d", z, z, z)
	}
	f.label("loaded")
	for i := 0; i < 16; i += 2 { // words of neighbouring lines
		f.ins("VPUNPCKLDQ Z%d, Z%d, Z%d", i+1, i, 16+i)
		f.ins("VPUNPCKHDQ Z%d, Z%d, Z%d", i+1, i, 17+i)
	}
	for g := 0; g < 16; g += 4 { // pairs of words
		t := 16 + g
		f.ins("VPUNPCKLQDQ Z%d, Z%d, Z%d", t+2, t, g)
		f.ins("VPUNPCKHQDQ Z%d, Z%d, Z%d", t+2, t, g+1)
		f.ins("VPUNPCKLQDQ Z%d, Z%d, Z%d", t+3, t+1, g+2)
		f.ins("VPUNPCKHQDQ Z%d, Z%d, Z%d", t+3, t+1, g+3)
	}
	for k := range 4 { // quarters: register 4g+k holds columns k, 4+k, 8+k, 12+k of lines 4g to 4g+3
		f.ins("VSHUFI32X4 $0x88, Z%d, Z%d, Z16", 4+k, k)
		f.ins("VSHUFI32X4 $0xdd, Z%d, Z%d, Z17", 4+k, k)
		f.ins("VSHUFI32X4 $0x88, Z%d, Z%d, Z18", 12+k, 8+k)
		f.ins("VSHUFI32X4 $0xdd, Z%d, Z%d, Z19", 12+k, 8+k)
		f.ins("VSHUFI32X4 $0x88, Z18, Z16, Z20")
		f.ins("VSHUFI32X4 $0x88, Z19, Z17, Z21")
		f.ins("VSHUFI32X4 $0xdd, Z18, Z16, Z22")
		f.ins("VSHUFI32X4 $0xdd, Z19, Z17, Z23")
		f.ins("MOVQ DI, AX")
		for range k {
			f.ins("ADDQ R9, AX")
		}
		for l := range 4 {
			f.ins("VMOVDQU32 Z%d, K1, (AX)", 20+l)
			if l < 3 {
				f.ins("LEAQ (AX)(R9*4), AX")
			}
		}
	}
	f.ins("ADDQ $%d, SI", advance)
	f.ins("SHLQ $4, R9")
	f.ins("ADDQ R9, DI")
	f.ins("SHRQ $4, R9")
	f.ins("DECQ CX")
	f.ins("JNZ loop")
	f.ins("VZEROUPPER")
	f.ins("RET")
	f.label("few")
	for z := range 16 {
		f.ins("VPXORD Z%d, Z%d, Z%d", z, z, z)
	}
	for z := range lines {
		f.ins("CMPQ R10, $%d", z)
		f.ins("JE loaded")
		load(z)
		f.ins("ADDQ R8, AX")
	}
	f.ins("JMP loaded")
}

// packAlong writes func(dst, src unsafe.Pointer, step, pairs, width, lines, have int): for each pair of rows (step bytes
// apart) of have neighbouring lines, load makes a register of 32 halfwords, first the even row's, then the odd row's;
// they are stored alternately, lines words (at most 16) at dst + pair*width bytes. Lines from have on are zero.
func packAlong(f *file, name, needs string, load func()) {
	fmt.Fprintf(f, "\n// func %s(dst, src unsafe.Pointer, step, pairs, width, lines, have int)\n// Needs %s.\nTEXT ·%s(SB), NOSPLIT, $0-56\n", name, needs, name)
	f.ins("MOVQ dst+0(FP), DI")
	f.ins("MOVQ src+8(FP), SI")
	f.ins("MOVQ step+16(FP), R8")
	f.ins("MOVQ pairs+24(FP), DX")
	f.ins("MOVQ width+32(FP), R9")
	for i, arg := range []string{"have+48", "lines+40"} { // K1 of what is read, K2 of what is written
		f.ins("MOVQ %s(FP), CX", arg)
		f.ins("MOVL $1, AX")
		f.ins("SHLL CX, AX")
		f.ins("DECL AX")
		f.ins("KMOVW AX, K%d", 1+i)
	}
	f.ins("VMOVDQU64 interleave<>(SB), Z29")
	f.label("loop")
	load()
	f.ins("VPERMW Z0, Z29, Z0")
	f.ins("VMOVDQU32 Z0, K2, (DI)")
	f.ins("LEAQ (SI)(R8*2), SI")
	f.ins("ADDQ R9, DI")
	f.ins("DECQ DX")
	f.ins("JNZ loop")
	f.ins("VZEROUPPER")
	f.ins("RET")
}
