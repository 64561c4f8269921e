package main

import "fmt"

// The microtile and the tile's row length, as in kernel/matmul.go.
const (
	microM = 12
	microN = 32
	tileN  = 512
)

// matmul writes matmulAVX512: 12 rows of two vectors in Z0 to Z23, the two vectors of B in Z24 and Z25; A is broadcast
// from memory. Needs AVX-512F.
func matmul(f *file) {
	fmt.Fprint(f, "\n// func matmulAVX512(c, a, b *float32, depth int, accumulate bool)\nTEXT ·matmulAVX512(SB), NOSPLIT, $0-33\n")
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
		f.ins("VFMADD231PS.BCST %d(SI), Z24, Z%d", 4*i, 2*i)
		f.ins("VFMADD231PS.BCST %d(SI), Z25, Z%d", 4*i, 2*i+1)
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
