package main

import (
	"fmt"
	"math"
	"strings"
)

// Kernels of the AVX2 level: 8 float32 values and 16 registers, FMA, constants in memory.

// avx2 writes the microkernel and the row kernels that products, attention and decoding need most.
func avx2(f *file) {
	matmulAVX2(f)
	k := &constants{at: map[uint32]int{}}
	two := func(op string) func(r *halfRow) {
		return func(r *halfRow) {
			r.load(1, 0)
			r.load(2, 1)
			r.ins("%s Y1, Y0, Y0", op)
			r.store(0, 0)
		}
	}
	scalar := func(op string) func(r *halfRow) {
		return func(r *halfRow) {
			r.load(1, 0)
			r.ins("%s Y8, Y0, Y0", op)
			r.store(0, 0)
		}
	}
	silu := func(r *halfRow, x int) { // x·sigmoid(x), in Y0
		r.ins("VXORPS Y0, Y0, Y0")
		r.ins("VSUBPS Y%d, Y0, Y0", x)
		r.exp()
		r.ins("VADDPS %s, Y0, Y0", r.number(1))
		r.ins("VDIVPS Y0, Y%d, Y0", x)
	}
	for _, l := range []halfLoop{
		{name: "addRowAVX2", arrays: "d, a, b", body: two("VADDPS")},
		{name: "mulRowAVX2", arrays: "d, a, b", body: two("VMULPS")},
		{name: "scaleRowAVX2", arrays: "d, x", scalars: "c", body: scalar("VMULPS")},
		{name: "addScalarRowAVX2", arrays: "d, x", scalars: "c", body: scalar("VADDPS")},
		{name: "scaleMulRowAVX2", arrays: "d, x, w", scalars: "c", body: func(r *halfRow) {
			r.load(1, 0)
			r.load(2, 1)
			r.ins("VMULPS Y8, Y0, Y0")
			r.ins("VMULPS Y1, Y0, Y0")
			r.store(0, 0)
		}},
		{name: "axpyRowAVX2", arrays: "y, x", scalars: "c", body: func(r *halfRow) {
			r.load(0, 0)
			r.load(1, 1)
			r.ins("VFMADD231PS Y8, Y1, Y0")
			r.store(0, 0)
		}},
		{name: "dotRowAVX2", arrays: "a, b", fold: "VADDPS", body: func(r *halfRow) {
			r.load(0, 0)
			r.load(1, 1)
			r.ins("VFMADD231PS Y1, Y0, Y15") // masked values are zero
		}},
		{name: "sumRowAVX2", arrays: "x", fold: "VADDPS", body: func(r *halfRow) {
			r.load(0, 0)
			r.ins("VADDPS Y0, Y15, Y15")
		}},
		{name: "maxOfRowAVX2", arrays: "x", fold: "VMAXPS", initial: float32(math.Inf(-1)), body: func(r *halfRow) {
			r.load(0, 0)
			r.fold("VMAXPS")
		}},
		{name: "expSubRowAVX2", arrays: "d, x", scalars: "m", fold: "VADDPS", body: func(r *halfRow) {
			r.load(1, 0)
			r.ins("VSUBPS Y8, Y0, Y0")
			r.exp()
			r.store(0, 0)
			r.fold("VADDPS")
		}},
		{name: "expSumRowAVX2", arrays: "x", scalars: "m", fold: "VADDPS", body: func(r *halfRow) {
			r.load(0, 0)
			r.ins("VSUBPS Y8, Y0, Y0")
			r.exp()
			r.fold("VADDPS")
		}},
		{name: "siluMulRowAVX2", arrays: "d, gate, up", body: func(r *halfRow) {
			r.load(1, 4)
			r.load(2, 5)
			silu(r, 4)
			r.ins("VMULPS Y5, Y0, Y0")
			r.store(0, 0)
		}},
	} {
		l.write(f, k)
	}
	k.write(f)
}

// matmulAVX2 writes the microkernel: the tile of 12 x 32 as four of 6 x 16, whose sums are Y0 to Y11.
func matmulAVX2(f *file) {
	const rows = microM / 2
	fmt.Fprint(f, "\n// func matmulAVX2(c, a, b *float32, depth int, accumulate bool)\n// Needs AVX2 and FMA.\nTEXT ·matmulAVX2(SB), NOSPLIT, $0-33\n")
	f.ins("MOVQ c+0(FP), DI")
	f.ins("MOVBLZX accumulate+32(FP), AX")
	for part := range 4 {
		row, column := part/2*rows, part%2*16
		f.ins("MOVQ a+8(FP), SI")
		f.ins("MOVQ b+16(FP), DX")
		f.ins("MOVQ depth+24(FP), CX")
		for y := range 2 * rows {
			f.ins("VXORPS Y%d, Y%d, Y%d", y, y, y)
		}
		f.label(fmt.Sprintf("loop%d", part))
		f.ins("VMOVUPS %d(DX), Y12", 4*column)
		f.ins("VMOVUPS %d(DX), Y13", 4*column+32)
		for i := range rows {
			a := 14 + i%2
			f.ins("VBROADCASTSS %d(SI), Y%d", 4*(row+i), a)
			f.ins("VFMADD231PS Y%d, Y12, Y%d", a, 2*i)
			f.ins("VFMADD231PS Y%d, Y13, Y%d", a, 2*i+1)
		}
		f.ins("ADDQ $%d, SI", 4*microM)
		f.ins("ADDQ $%d, DX", 4*microN)
		f.ins("DECQ CX")
		f.ins("JNZ loop%d", part)
		f.ins("TESTL AX, AX")
		f.ins("JZ store%d", part)
		at := func(i, h int) int { return 4*(tileN*(row+i)+column) + 32*h }
		for y := range 2 * rows {
			f.ins("VADDPS %d(DI), Y%d, Y%d", at(y/2, y%2), y, y)
		}
		f.label(fmt.Sprintf("store%d", part))
		for y := range 2 * rows {
			f.ins("VMOVUPS Y%d, %d(DI)", y, at(y/2, y%2))
		}
	}
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// constants are words repeated over a register in read-only memory.
type constants struct {
	words []uint32
	at    map[uint32]int
}

func (k *constants) operand(w uint32) string {
	if _, ok := k.at[w]; !ok {
		k.at[w] = 32 * len(k.words)
		k.words = append(k.words, w)
	}
	return fmt.Sprintf("repeated<>+%d(SB)", k.at[w])
}

func (k *constants) write(f *file) {
	f.WriteString("\n// repeated holds constants, eight times each; then masks of 8, 7, ... 1 words start at each word before the end.\n")
	for i, w := range k.words {
		for j := 0; j < 32; j += 8 {
			fmt.Fprintf(f, "DATA repeated<>+%d(SB)/8, $%#x\n", 32*i+j, uint64(w)<<32|uint64(w))
		}
	}
	fmt.Fprintf(f, "GLOBL repeated<>(SB), RODATA|NOPTR, $%d\n", 32*len(k.words))
	for j := range 8 {
		v := "0xffffffffffffffff"
		if j >= 4 {
			v = "0"
		}
		fmt.Fprintf(f, "DATA firstWords<>+%d(SB)/8, $%s\n", 8*j, v)
	}
	f.WriteString("GLOBL firstWords<>(SB), RODATA|NOPTR, $64\n")
}

// halfLoop is a rowLoop for AVX2: scalars are in Y8, Y9, ..., the accumulator in Y15, the mask in Y11; Y12 is for moves.
type halfLoop struct {
	name, arrays, scalars string
	fold                  string // of the accumulator: the kernel returns a float32; "": it returns nothing
	initial               float32
	body                  func(r *halfRow) // uses Y0 to Y7
}

type halfRow struct {
	*file
	*constants
	masked bool
}

func (r *halfRow) number(x float32) string { return r.operand(math.Float32bits(x)) }

func (r *halfRow) load(i, y int) {
	if r.masked {
		r.ins("VMASKMOVPS (%s), Y11, Y%d", pointers[i], y)
	} else {
		r.ins("VMOVUPS (%s), Y%d", pointers[i], y)
	}
}

func (r *halfRow) store(y, i int) {
	if r.masked {
		r.ins("VMASKMOVPS Y%d, Y11, (%s)", y, pointers[i])
	} else {
		r.ins("VMOVUPS Y%d, (%s)", y, pointers[i])
	}
}

// fold combines Y0 with the accumulator.
func (r *halfRow) fold(op string) {
	if r.masked {
		r.combine(op, "Y", 12)
		r.ins("VBLENDVPS Y11, Y12, Y15, Y15")
	} else {
		r.combine(op, "Y", 15)
	}
}

// exp replaces Y0 by e to the Y0, with the bounds and the polynomial of rowEmitter.exp; Y1 to Y3 are overwritten.
func (r *halfRow) exp() {
	r.ins("VMOVUPS %s, Y12", r.number(expConsts[0]))
	r.ins("VMAXPS Y0, Y12, Y0")
	r.ins("VMOVUPS %s, Y12", r.number(expConsts[1]))
	r.ins("VMINPS Y0, Y12, Y0")
	r.ins("VMULPS %s, Y0, Y1", r.number(expConsts[2]))
	r.ins("VROUNDPS $8, Y1, Y1")
	r.ins("VFNMADD231PS %s, Y1, Y0", r.number(expConsts[3]))
	r.ins("VFNMADD231PS %s, Y1, Y0", r.number(expConsts[4]))
	r.ins("VMOVUPS %s, Y2", r.number(expConsts[5]))
	for _, c := range append(expConsts[6:11:11], 1) {
		r.ins("VFMADD213PS %s, Y0, Y2", r.number(c))
	}
	// Two factors, since 2 to the -150 is no float32.
	r.ins("VCVTPS2DQ Y1, Y1")
	r.ins("VPSRAD $1, Y1, Y3")
	r.ins("VPSUBD Y3, Y1, Y1")
	for _, y := range []int{1, 3} {
		r.ins("VPADDD %s, Y%d, Y%d", r.operand(127), y, y)
		r.ins("VPSLLD $23, Y%d, Y%d", y, y)
		r.ins("VMULPS Y%d, Y2, Y2", y)
	}
	r.ins("VMOVAPS Y2, Y0")
}

func (l halfLoop) write(f *file, k *constants) {
	arrays := strings.Split(l.arrays, ", ")
	var scalars []string
	args := l.arrays + " *float32, n int"
	if l.scalars != "" {
		scalars = strings.Split(l.scalars, ", ")
		args += ", " + l.scalars + " float32"
	}
	size := 8*len(arrays) + 8 + 4*len(scalars)
	ret := (size + 7) / 8 * 8
	if l.fold != "" {
		args, size = args+") (ret float32", ret+4
	}
	fmt.Fprintf(f, "\n// func %s(%s)\n// Needs AVX2 and FMA.\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", l.name, args, l.name, size)
	for i, a := range arrays {
		f.ins("MOVQ %s+%d(FP), %s", a, 8*i, pointers[i])
	}
	f.ins("MOVQ n+%d(FP), CX", 8*len(arrays))
	for i, s := range scalars {
		f.ins("VBROADCASTSS %s+%d(FP), Y%d", s, 8*len(arrays)+8+4*i, 8+i)
	}
	if l.fold != "" {
		f.ins("VMOVUPS %s, Y15", k.operand(math.Float32bits(l.initial)))
	}
	f.ins("SUBQ $8, CX")
	f.ins("JLT tail")
	f.label("loop")
	l.body(&halfRow{file: f, constants: k})
	for i := range arrays {
		f.ins("ADDQ $32, %s", pointers[i])
	}
	f.ins("SUBQ $8, CX")
	f.ins("JGE loop")
	f.label("tail")
	f.ins("ADDQ $8, CX")
	f.ins("JZ done")
	f.ins("LEAQ firstWords<>+32(SB), AX")
	f.ins("SHLQ $2, CX")
	f.ins("SUBQ CX, AX")
	f.ins("VMOVUPS (AX), Y11")
	l.body(&halfRow{file: f, constants: k, masked: true})
	f.label("done")
	if l.fold != "" {
		f.foldLanes(l.fold)
		f.ins("VMOVSS X15, ret+%d(FP)", ret)
	}
	f.ins("VZEROUPPER")
	f.ins("RET")
}
