package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"danlu/internal/cpu"
)

// rowKernel is a kernel of rows of one length.
type rowKernel struct {
	name      string
	outs, ins int
	// over lists where results may lie: for each, the operand over which it is written, -1 for memory of its own.
	over [][]int
	call func(out, in [][]float32)
}

var rowKernels = []rowKernel{
	{"add", 1, 2, [][]int{{0}, {1}}, func(o, i [][]float32) { addRow(o[0], i[0], i[1]) }},
	{"sub", 1, 2, [][]int{{0}, {1}}, func(o, i [][]float32) { subRow(o[0], i[0], i[1]) }},
	{"mul", 1, 2, [][]int{{0}, {1}}, func(o, i [][]float32) { mulRow(o[0], i[0], i[1]) }},
	{"div", 1, 2, [][]int{{0}, {1}}, func(o, i [][]float32) { divRow(o[0], i[0], i[1]) }},
	{"scale", 1, 1, [][]int{{0}}, func(o, i [][]float32) { scaleRow(o[0], i[0], 0.7) }},
	{"add scalar", 1, 1, [][]int{{0}}, func(o, i [][]float32) { addScalarRow(o[0], i[0], 0.7) }},
	{"scale mul", 1, 2, [][]int{{0}}, func(o, i [][]float32) { scaleMulRow(o[0], i[0], i[1], 0.7) }},
	{"axpby", 1, 2, [][]int{{0}, {1}}, func(o, i [][]float32) { axpbyRow(o[0], i[0], i[1], 0.7, -2) }},
	{"mul axpby", 1, 3, [][]int{{0}, {2}}, func(o, i [][]float32) { mulAxpbyRow(o[0], i[0], i[1], i[2], 0.7, -2) }},
	{"exp", 1, 1, [][]int{{0}}, func(o, i [][]float32) { expRow(o[0], i[0]) }},
	{"sigmoid", 1, 1, [][]int{{0}}, func(o, i [][]float32) { sigmoidRow(o[0], i[0]) }},
	{"exp sub", 1, 1, [][]int{{0}}, func(o, i [][]float32) { expSubRow(o[0], i[0], 0.7) }},
	{"exp linear", 1, 1, [][]int{{0}}, func(o, i [][]float32) { expLinearRow(o[0], i[0], 0.7, 1, -0.5) }},
	{"silu mul", 1, 2, [][]int{{0}, {1}}, func(o, i [][]float32) { siluMulRow(o[0], i[0], i[1]) }},
	{"silu mul grad", 2, 3, [][]int{{0, 1}, {0, 2}, {1, 0}, {1, 2}, {2, 0}, {2, 1}, {1, -1}, {-1, 2}},
		func(o, i [][]float32) { siluMulGradRow(o[0], o[1], i[0], i[1], i[2]) }},
	{"rotate halves", 2, 4, [][]int{{0, 1}}, func(o, i [][]float32) { rotateHalvesRow(o[0], o[1], i[0], i[1], i[2], i[3], -1) }},
	{"axpy", 1, 2, [][]int{{1}}, func(o, i [][]float32) { copy(o[0], i[1]); axpyRow(o[0], i[0], 0.7) }},
	{"mul acc", 1, 3, [][]int{{2}}, func(o, i [][]float32) { copy(o[0], i[2]); mulAccRow(o[0], i[0], i[1], 0.7) }},
	{"exp scaled", 1, 1, [][]int{{0}}, func(o, i [][]float32) { copy(o[0], i[0]); expScaledRow(o[0], 0.5, 0.7) }},
	{"prob grad", 2, 2, [][]int{{0, 1}}, func(o, i [][]float32) {
		copy(o[0], i[0])
		copy(o[1], i[1])
		probGradRow(o[0], o[1], 0.5, 0.7, 0.3, 2)
	}},
	{"adamw", 3, 4, [][]int{{0, 1, 2}}, func(o, i [][]float32) {
		for k := range o {
			copy(o[k], i[k])
		}
		consts := AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1, GradScale: 0.5, Step: 3}.constants()
		adamWRow(o[0], o[1], o[2], i[3], &consts)
	}},
	{"mask", 1, 1, [][]int{{0}}, func(o, i [][]float32) {
		copy(o[0], i[0])
		maskRow(o[0], make([]int32, len(o[0])), 1)
	}},
	{"sums", 1, 3, nil, func(o, i [][]float32) {
		n := len(i[0])
		half, bf := guardedHalves(n), guardedHalves(n)
		f32ToF16(half.row, i[1])
		f32ToBF16(bf.row, i[1])
		half.check()
		bf.check()
		sums := []float32{dotRow(i[0], i[1]), sumRow(i[0]), sumSqRow(i[0]), maxOfRow(i[0]), dot3Row(i[0], i[1], i[2]), expSumRow(i[0], 0.7),
			dotBF16Row(bf.row, i[0]), dotF16Row(half.row, i[0])}
		copy(o[0], sums)
	}},
	{"widen bf16", 1, 1, nil, func(o, i [][]float32) {
		h := guardedHalves(len(i[0]))
		f32ToBF16(h.row, i[0])
		h.check()
		bf16ToF32(o[0], h.row)
	}},
	{"widen f16", 1, 1, nil, func(o, i [][]float32) {
		h := guardedHalves(len(i[0]))
		f32ToF16(h.row, i[0])
		h.check()
		f16ToF32(o[0], h.row)
	}},
}

// guardWords stand before and behind a row; as numbers they are NaN, so that a sum that reads them shows.
const guardWords = 64

// guarded is a row between guard words.
type guarded[T uint16 | float32] struct {
	all, row []T
	intact   func(T) bool
}

func newGuarded[T uint16 | float32](n int, guard T, intact func(T) bool) guarded[T] {
	all := make([]T, n+2*guardWords)
	Fill(all, guard)
	return guarded[T]{all, all[guardWords : guardWords+n : guardWords+n], intact}
}

func guardedHalves(n int) guarded[uint16] {
	return newGuarded(n, 0xffff, func(w uint16) bool { return w == 0xffff })
}

func guardedRow(values []float32) guarded[float32] {
	const guard = 0x7fc12345
	g := newGuarded(len(values), fromBits32(guard), func(w float32) bool { return bits32(w) == guard })
	copy(g.row, values)
	return g
}

// check panics, so that it can be called inside of kernels' calls.
func (g guarded[T]) check() {
	for i, w := range g.all {
		if (i < guardWords || i >= len(g.all)-guardWords) && !g.intact(w) {
			panic(fmt.Sprintf("wrote %v at %d of a row of %d", w, i-guardWords, len(g.row)))
		}
	}
}

// TestRowsStayInside holds that every vector form writes its results and nothing beside them, reads nothing beside its
// operands, leaves those alone, and gives the same bytes where results are written over operands as callers do.
func TestRowsStayInside(t *testing.T) {
	for _, level := range cpu.Levels() {
		undo := cpu.SetLevel(level)
		for _, k := range rowKernels {
			for n := range 140 {
				func() {
					defer func() {
						if r := recover(); r != nil {
							t.Errorf("%v: %s of %d: %v", level, k.name, n, r)
						}
					}()
					k.test(t, n)
				}()
			}
		}
		undo()
	}
}

func (k *rowKernel) test(t *testing.T, n int) {
	rng := rand.New(rand.NewPCG(uint64(n), 17))
	values := make([][]float32, k.ins)
	for i := range values {
		values[i] = make([]float32, n)
		for j := range values[i] {
			values[i][j] = float32(rng.NormFloat64())
			if k.name == "adamw" && i == 2 {
				values[i][j] = abs32(values[i][j])
			}
		}
	}
	own := slices.Repeat([]int{-1}, k.outs)
	want := k.run(values, own)
	for _, w := range want {
		for i, x := range w {
			if x != x {
				panic(fmt.Sprintf("result %d is NaN", i))
			}
		}
	}
	for _, over := range k.over {
		for i, got := range k.run(values, over) {
			if !slices.Equal(got, want[i]) {
				t.Errorf("%s of %d written over operands %v: result %d differs", k.name, n, over, i)
			}
		}
	}
}

// run calls the kernel on guarded rows, with results over the operands that over names.
func (k *rowKernel) run(values [][]float32, over []int) [][]float32 {
	var rows []guarded[float32]
	var in, out [][]float32
	for _, v := range values {
		g := guardedRow(v)
		rows, in = append(rows, g), append(in, g.row)
	}
	for _, j := range over {
		if j >= 0 {
			out = append(out, in[j])
			continue
		}
		g := guardedRow(make([]float32, len(values[0])))
		rows, out = append(rows, g), append(out, g.row)
	}
	k.call(out, in)
	for _, g := range rows {
		g.check()
	}
	for i, v := range values {
		if !slices.Contains(over, i) && !slices.Equal(in[i], v) {
			panic(fmt.Sprintf("changed operand %d", i))
		}
	}
	return out
}
