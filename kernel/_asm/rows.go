package main

import (
	"fmt"
	"math"
	"strings"
)

// Row kernels: loops over n float32 values, 16 at a time, the last ones under a mask. Every element goes through the same
// instructions wherever it lies, so that results do not depend on how a tensor is cut into rows.

// pointers are the registers of the array arguments, in order.
var pointers = []string{"DI", "SI", "DX", "R8", "R9", "R10"}

// loop writes func(arrays... *float32, n int, scalars... float32): body gets a loader of array i and a storer.
type rowLoop struct {
	name    string
	arrays  []string            // a name that starts with half is an array of 16-bit values
	scalars []string            // broadcast to Z31, Z30, ...
	consts  []float32           // broadcast to Z16, Z17, ...
	words   []uint32            // the same, of kernels that work on bits
	reduce  bool                // returns a float32 that is Z15 folded by op
	fold    string              // VADDPS or VMAXPS
	initial float32             // of Z15
	body    func(r *rowEmitter) // uses Z0 to Z14
}

type rowEmitter struct {
	f      *file
	masked bool
}

func (r *rowEmitter) load(i, z int) {
	if r.masked {
		r.f.ins("VMOVUPS.Z (%s), K1, Z%d", pointers[i], z)
	} else {
		r.f.ins("VMOVUPS (%s), Z%d", pointers[i], z)
	}
}

func (r *rowEmitter) store(z, i int) {
	if r.masked {
		r.f.ins("VMOVUPS Z%d, K1, (%s)", z, pointers[i])
	} else {
		r.f.ins("VMOVUPS Z%d, (%s)", z, pointers[i])
	}
}

// mask is the write mask of an instruction that ends in a register, and zeroes what it leaves out.
func (r *rowEmitter) mask() (suffix, k string) {
	if r.masked {
		return ".Z", "K1, "
	}
	return "", ""
}

// loadBF16 widens 16 bfloat16 values.
func (r *rowEmitter) loadBF16(i, z int) {
	suffix, k := r.mask()
	r.f.ins("VPMOVZXWD%s (%s), %sZ%d", suffix, pointers[i], k, z)
	r.f.ins("VPSLLD $16, Z%d, Z%d", z, z)
}

// loadF16 widens 16 half-precision values.
func (r *rowEmitter) loadF16(i, z int) {
	suffix, k := r.mask()
	r.f.ins("VCVTPH2PS%s (%s), %sZ%d", suffix, pointers[i], k, z)
}

// storeLow stores the low halves of 16 words.
func (r *rowEmitter) storeLow(z, i int) {
	_, k := r.mask()
	r.f.ins("VPMOVDW Z%d, %s(%s)", z, k, pointers[i])
}

// sigmoid replaces register x by 1/(1 + e to the -x), with t and u as in exp; Z26 is one.
func (r *rowEmitter) sigmoid(x, t, u int) {
	r.f.ins("VXORPS Z%d, Z%d, Z%d", t, t, t)
	r.f.ins("VSUBPS Z%d, Z%d, Z%d", x, t, x)
	r.exp(x, t, u)
	r.f.ins("VADDPS Z26, Z%d, Z%d", x, x)
	r.f.ins("VDIVPS Z%d, Z26, Z%d", x, x)
}

// fold combines a register with the accumulator. A maximum is the second operand where one is NaN: the accumulator's own
// NaN is put back.
func (r *rowEmitter) fold(op string, z int) {
	if op == "VMAXPS" {
		r.f.ins("VCMPPS $3, Z15, Z15, K2")
		defer r.f.ins("VPTERNLOGD $0xff, Z15, Z15, K2, Z15")
	}
	if r.masked {
		r.f.ins("%s Z%d, Z15, K1, Z15", op, z)
	} else {
		r.f.ins("%s Z%d, Z15, Z15", op, z)
	}
}

// combine sets register to of kind X or Y to register 0 combined with register 15; a NaN of either stays one.
func (f *file) combine(op, kind string, to int) {
	if op != "VMAXPS" {
		f.ins("%[1]s %[2]s0, %[2]s15, %[2]s%[3]d", op, kind, to)
		return
	}
	f.ins("VCMPPS $3, %[1]s15, %[1]s15, %[1]s1", kind)
	f.ins("VMAXPS %[1]s0, %[1]s15, %[1]s%[2]d", kind, to)
	f.ins("VORPS %[1]s1, %[1]s%[2]d, %[1]s%[2]d", kind, to)
}

// foldLanes combines the values of Y15.
func (f *file) foldLanes(op string) {
	f.ins("VEXTRACTF128 $1, Y15, X0")
	f.combine(op, "X", 15)
	f.ins("VPERMILPS $0x4e, X15, X0")
	f.combine(op, "X", 15)
	f.ins("VPERMILPS $0xb1, X15, X0")
	f.combine(op, "X", 15)
}

func (l rowLoop) write(f *file) {
	size := 8*len(l.arrays) + 8 + 4*len(l.scalars)
	ret := (size + 7) / 8 * 8
	result, total := "", size
	if l.reduce {
		result, total = " float32", ret+4
	}
	var typed []string
	for _, a := range l.arrays {
		if strings.HasPrefix(a, "half") {
			a += " *uint16"
		} else {
			a += " *float32"
		}
		typed = append(typed, a)
	}
	args := strings.Join(typed, ", ") + ", n int"
	if len(l.scalars) > 0 {
		args += ", " + strings.Join(l.scalars, ", ") + " float32"
	}
	fmt.Fprintf(f, "\n// func %s(%s)%s\n// Needs AVX-512F.\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", l.name, args, result, l.name, total)
	for i, a := range l.arrays {
		f.ins("MOVQ %s+%d(FP), %s", a, 8*i, pointers[i])
	}
	f.ins("MOVQ n+%d(FP), CX", 8*len(l.arrays))
	for i, s := range l.scalars {
		f.ins("VBROADCASTSS %s+%d(FP), Z%d", s, 8*len(l.arrays)+8+4*i, 31-i)
	}
	for i, c := range l.consts {
		f.ins("MOVL $%#x, AX // %g", math.Float32bits(c), c)
		f.ins("VPBROADCASTD AX, Z%d", 16+i)
	}
	for i, w := range l.words {
		f.ins("MOVL $%#x, AX", w)
		f.ins("VPBROADCASTD AX, Z%d", 16+i)
	}
	if l.reduce {
		f.ins("MOVL $%#x, AX", math.Float32bits(l.initial))
		f.ins("VPBROADCASTD AX, Z15")
	}
	f.ins("SUBQ $16, CX")
	f.ins("JLT tail")
	f.label("loop")
	l.body(&rowEmitter{f: f})
	for i, a := range l.arrays {
		step := 64
		if strings.HasPrefix(a, "half") {
			step = 32
		}
		f.ins("ADDQ $%d, %s", step, pointers[i])
	}
	f.ins("SUBQ $16, CX")
	f.ins("JGE loop")
	f.label("tail")
	f.ins("ADDQ $16, CX")
	f.ins("JZ done")
	f.ins("MOVL $1, AX")
	f.ins("SHLL CX, AX")
	f.ins("DECL AX")
	f.ins("KMOVW AX, K1")
	l.body(&rowEmitter{f: f, masked: true})
	f.label("done")
	if l.reduce {
		f.ins("VEXTRACTF64X4 $1, Z15, Y0")
		f.combine(l.fold, "Y", 15)
		f.foldLanes(l.fold)
		f.ins("VMOVSS X15, ret+%d(FP)", ret)
	}
	f.ins("VZEROUPPER")
	f.ins("RET")
}

// expConsts are what exp takes from Z16 on: bounds, log2 e, ln 2 in two parts, and 1/k! from 6 down to 0.
var expConsts = []float32{-104, 89, math.Log2E, 0.693359375, -2.12194440e-4, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1}

// exp replaces register x by e to the x; t and u are overwritten. The error is below 2 units in the last place.
func (r *rowEmitter) exp(x, t, u int) {
	f := r.f
	f.ins("VMAXPS Z%d, Z16, Z%d", x, x)
	f.ins("VMINPS Z%d, Z17, Z%d", x, x)
	f.ins("VMULPS Z18, Z%d, Z%d", x, t)
	f.ins("VRNDSCALEPS $8, Z%d, Z%d", t, t)
	f.ins("VFNMADD231PS Z19, Z%d, Z%d", t, x)
	f.ins("VFNMADD231PS Z20, Z%d, Z%d", t, x)
	f.ins("VMOVAPS Z21, Z%d", u)
	for k := 22; k <= 25; k++ {
		f.ins("VFMADD213PS Z%d, Z%d, Z%d", k, x, u)
	}
	f.ins("VFMADD213PS Z26, Z%d, Z%d", x, u)
	f.ins("VFMADD213PS Z26, Z%d, Z%d", x, u)
	f.ins("VSCALEFPS Z%d, Z%d, Z%d", t, u, x)
}

// rows writes the row kernels.
func rows(f *file) {
	two := func(op string) func(r *rowEmitter) {
		return func(r *rowEmitter) {
			r.load(1, 0)
			r.load(2, 1)
			f.ins("%s Z1, Z0, Z0", op)
			r.store(0, 0)
		}
	}
	for _, l := range []rowLoop{
		{name: "addRowAVX512", arrays: []string{"d", "a", "b"}, body: two("VADDPS")},
		{name: "mulRowAVX512", arrays: []string{"d", "a", "b"}, body: two("VMULPS")},
		{name: "scaleRowAVX512", arrays: []string{"d", "x"}, scalars: []string{"c"}, body: func(r *rowEmitter) {
			r.load(1, 0)
			f.ins("VMULPS Z31, Z0, Z0")
			r.store(0, 0)
		}},
		{name: "scaleMulRowAVX512", arrays: []string{"d", "x", "w"}, scalars: []string{"c"}, body: func(r *rowEmitter) {
			r.load(1, 0)
			r.load(2, 1)
			f.ins("VMULPS Z31, Z0, Z0")
			f.ins("VMULPS Z1, Z0, Z0")
			r.store(0, 0)
		}},
		{name: "axpyRowAVX512", arrays: []string{"y", "x"}, scalars: []string{"c"}, body: func(r *rowEmitter) {
			r.load(0, 0)
			r.load(1, 1)
			f.ins("VFMADD231PS Z31, Z1, Z0")
			r.store(0, 0)
		}},
		{name: "dotRowAVX512", arrays: []string{"a", "b"}, reduce: true, fold: "VADDPS", body: func(r *rowEmitter) {
			r.load(0, 0)
			r.load(1, 1)
			f.ins("VFMADD231PS Z1, Z0, Z15") // masked values are zero
		}},
		{name: "maxOfRowAVX512", arrays: []string{"x"}, reduce: true, fold: "VMAXPS", initial: float32(math.Inf(-1)), body: func(r *rowEmitter) {
			r.load(0, 0)
			r.fold("VMAXPS", 0)
		}},
		{name: "subRowAVX512", arrays: []string{"d", "a", "b"}, body: two("VSUBPS")},
		{name: "divRowAVX512", arrays: []string{"d", "a", "b"}, body: two("VDIVPS")},
		{name: "addScalarRowAVX512", arrays: []string{"d", "x"}, scalars: []string{"c"}, body: func(r *rowEmitter) {
			r.load(1, 0)
			f.ins("VADDPS Z31, Z0, Z0")
			r.store(0, 0)
		}},
		{name: "mulAccRowAVX512", arrays: []string{"acc", "a", "b"}, scalars: []string{"r"}, body: func(r *rowEmitter) {
			r.load(0, 0)
			r.load(1, 1)
			r.load(2, 2)
			f.ins("VMULPS Z31, Z1, Z1")
			f.ins("VFMADD231PS Z2, Z1, Z0")
			r.store(0, 0)
		}},
		{name: "axpbyRowAVX512", arrays: []string{"d", "x", "y"}, scalars: []string{"r", "c"}, body: func(r *rowEmitter) {
			r.load(1, 0)
			r.load(2, 1)
			f.ins("VMULPS Z31, Z0, Z0")
			f.ins("VFMADD231PS Z30, Z1, Z0")
			r.store(0, 0)
		}},
		{name: "mulAxpbyRowAVX512", arrays: []string{"d", "x", "w", "y"}, scalars: []string{"r", "c"}, body: func(r *rowEmitter) {
			r.load(1, 0)
			r.load(2, 1)
			r.load(3, 2)
			f.ins("VMULPS Z31, Z0, Z0")
			f.ins("VMULPS Z1, Z0, Z0")
			f.ins("VFMADD231PS Z30, Z2, Z0")
			r.store(0, 0)
		}},
		{name: "sumRowAVX512", arrays: []string{"x"}, reduce: true, fold: "VADDPS", body: func(r *rowEmitter) {
			r.load(0, 0)
			r.fold("VADDPS", 0)
		}},
		{name: "dot3RowAVX512", arrays: []string{"a", "b", "c"}, reduce: true, fold: "VADDPS", body: func(r *rowEmitter) {
			r.load(0, 0)
			r.load(1, 1)
			r.load(2, 2)
			f.ins("VMULPS Z1, Z0, Z0")
			f.ins("VFMADD231PS Z2, Z0, Z15")
		}},
		{name: "dotBF16RowAVX512", arrays: []string{"halfA", "b"}, reduce: true, fold: "VADDPS", body: func(r *rowEmitter) {
			r.loadBF16(0, 0)
			r.load(1, 1)
			f.ins("VFMADD231PS Z1, Z0, Z15")
		}},
		{name: "dotF16RowAVX512", arrays: []string{"halfA", "b"}, reduce: true, fold: "VADDPS", body: func(r *rowEmitter) {
			r.loadF16(0, 0)
			r.load(1, 1)
			f.ins("VFMADD231PS Z1, Z0, Z15")
		}},
		{name: "bf16ToF32AVX512", arrays: []string{"d", "half"}, body: func(r *rowEmitter) {
			r.loadBF16(1, 0)
			r.store(0, 0)
		}},
		{name: "f32ToBF16AVX512", arrays: []string{"half", "x"}, body: func(r *rowEmitter) {
			// Adds 0x7fff and the lowest bit that is kept, to round to nearest even; NaN stays NaN.
			r.load(1, 0)
			f.ins("VPSRLD $16, Z0, Z1")
			f.ins("VPANDD Z17, Z1, Z2")
			f.ins("VPADDD Z0, Z2, Z2")
			f.ins("VPADDD Z16, Z2, Z2")
			f.ins("VPSRLD $16, Z2, Z2")
			f.ins("VCMPPS $3, Z0, Z0, K2")
			f.ins("VPORD Z18, Z1, K2, Z2")
			r.storeLow(2, 0)
		}, words: []uint32{0x7fff, 1, 0x40}},
		{name: "f16ToF32AVX512", arrays: []string{"d", "half"}, body: func(r *rowEmitter) {
			r.loadF16(1, 0)
			r.store(0, 0)
		}},
		{name: "f32ToF16AVX512", arrays: []string{"half", "x"}, body: func(r *rowEmitter) {
			r.load(1, 0)
			_, k := r.mask()
			f.ins("VCVTPS2PH $0, Z0, %s(%s)", k, pointers[0])
		}},
		{name: "maskRowAVX512", arrays: []string{"x", "segments"}, words: []uint32{0xff800000}, scalars: []string{"own"}, body: func(r *rowEmitter) {
			r.load(0, 0)
			r.load(1, 1)
			f.ins("VPCMPEQD Z31, Z1, K2")
			f.ins("VBLENDMPS Z0, Z16, K2, Z0")
			r.store(0, 0)
		}},
		{name: "expRowAVX512", arrays: []string{"d", "x"}, consts: expConsts, body: func(r *rowEmitter) {
			r.load(1, 0)
			r.exp(0, 1, 2)
			r.store(0, 0)
		}},
		{name: "expLinearRowAVX512", arrays: []string{"d", "x"}, scalars: []string{"m", "a", "b"}, consts: append(expConsts, -1e30), body: func(r *rowEmitter) {
			r.load(1, 0)
			f.ins("VSUBPS Z31, Z0, Z0")
			f.ins("VMAXPS Z0, Z27, Z0")
			f.ins("VMOVAPS Z30, Z3")
			f.ins("VFMADD231PS Z29, Z0, Z3")
			r.exp(0, 1, 2)
			f.ins("VMULPS Z3, Z0, Z0")
			r.store(0, 0)
		}},
		{name: "sigmoidRowAVX512", arrays: []string{"d", "x"}, consts: expConsts, body: func(r *rowEmitter) {
			r.load(1, 0)
			r.sigmoid(0, 1, 2)
			r.store(0, 0)
		}},
		{name: "siluMulGradRowAVX512", arrays: []string{"dgate", "dup", "dy", "gate", "up"}, consts: expConsts, body: func(r *rowEmitter) {
			r.load(3, 3)
			r.load(4, 4)
			r.load(2, 5)
			f.ins("VMOVAPS Z3, Z0")
			r.sigmoid(0, 1, 2)
			f.ins("VMULPS Z0, Z3, Z6") // g·sigmoid, the activation
			f.ins("VSUBPS Z0, Z26, Z1")
			f.ins("VFMADD213PS Z0, Z6, Z1") // its derivative
			f.ins("VMULPS Z5, Z6, Z6")
			f.ins("VMULPS Z4, Z5, Z5")
			f.ins("VMULPS Z1, Z5, Z5")
			r.store(5, 0)
			r.store(6, 1)
		}},
		{name: "adamWRowAVX512", arrays: []string{"p", "m", "v", "grad"}, scalars: []string{"scale", "decay", "omBeta1", "beta2", "omBeta2", "invSqrtBC2", "eps", "negStep"}, body: func(r *rowEmitter) {
			r.load(3, 0)
			r.load(1, 1)
			r.load(2, 2)
			r.load(0, 3)
			f.ins("VMULPS Z31, Z0, Z0")
			f.ins("VSUBPS Z1, Z0, Z4")
			f.ins("VFMADD231PS Z29, Z4, Z1")
			f.ins("VMULPS Z0, Z0, Z4")
			f.ins("VMULPS Z28, Z2, Z2")
			f.ins("VFMADD231PS Z27, Z4, Z2")
			r.store(1, 1)
			r.store(2, 2)
			f.ins("VSQRTPS Z2, Z2")
			f.ins("VMULPS Z26, Z2, Z2")
			f.ins("VADDPS Z25, Z2, Z2")
			f.ins("VMULPS Z24, Z1, Z1")
			f.ins("VDIVPS Z2, Z1, Z1")
			f.ins("VFMADD231PS Z30, Z3, Z1")
			r.store(1, 0)
		}},
		{name: "expSubRowAVX512", arrays: []string{"d", "x"}, scalars: []string{"m"}, consts: expConsts, reduce: true, fold: "VADDPS", body: func(r *rowEmitter) {
			r.load(1, 0)
			f.ins("VSUBPS Z31, Z0, Z0")
			r.exp(0, 1, 2)
			r.store(0, 0)
			r.fold("VADDPS", 0)
		}},
		{name: "expSumRowAVX512", arrays: []string{"x"}, scalars: []string{"m"}, consts: expConsts, reduce: true, fold: "VADDPS", body: func(r *rowEmitter) {
			r.load(0, 0)
			f.ins("VSUBPS Z31, Z0, Z0")
			r.exp(0, 1, 2)
			r.fold("VADDPS", 0)
		}},
		{name: "expScaledRowAVX512", arrays: []string{"x"}, scalars: []string{"c", "m"}, consts: expConsts, reduce: true, fold: "VADDPS", body: func(r *rowEmitter) {
			r.load(0, 0)
			f.ins("VFMSUB213PS Z30, Z31, Z0")
			r.exp(0, 1, 2)
			r.store(0, 0)
			r.fold("VADDPS", 0)
		}},
		{name: "probGradRowAVX512", arrays: []string{"p", "ds"}, scalars: []string{"c", "lse", "delta", "scale"}, consts: expConsts, body: func(r *rowEmitter) {
			r.load(0, 0)
			r.load(1, 3)
			f.ins("VFMSUB213PS Z30, Z31, Z0")
			r.exp(0, 1, 2)
			f.ins("VSUBPS Z29, Z3, Z3")
			f.ins("VMULPS Z0, Z3, Z3")
			f.ins("VMULPS Z28, Z3, Z3")
			r.store(0, 0)
			r.store(3, 1)
		}},
		{name: "siluMulRowAVX512", arrays: []string{"d", "gate", "up"}, consts: expConsts, body: func(r *rowEmitter) {
			r.load(1, 3)
			r.load(2, 4)
			f.ins("VXORPS Z0, Z0, Z0")
			f.ins("VSUBPS Z3, Z0, Z0")
			r.exp(0, 1, 2)
			f.ins("VADDPS Z26, Z0, Z0")
			f.ins("VDIVPS Z0, Z3, Z3")
			f.ins("VMULPS Z4, Z3, Z3")
			r.store(3, 0)
		}},
		{name: "rotateHalvesRowAVX512", arrays: []string{"dlo", "dhi", "lo", "hi", "c", "s"}, scalars: []string{"sign"}, body: func(r *rowEmitter) {
			r.load(2, 0)
			r.load(3, 1)
			r.load(4, 2)
			r.load(5, 3)
			f.ins("VMULPS Z31, Z3, Z3")
			f.ins("VMULPS Z2, Z0, Z4")
			f.ins("VMULPS Z3, Z1, Z5")
			f.ins("VSUBPS Z5, Z4, Z4")
			f.ins("VMULPS Z2, Z1, Z5")
			f.ins("VMULPS Z3, Z0, Z6")
			f.ins("VADDPS Z6, Z5, Z5")
			r.store(4, 0)
			r.store(5, 1)
		}},
	} {
		l.write(f)
	}
}
