package kernel

import (
	"unsafe"

	"danlu/dtype"
	"danlu/internal/cpu"
)

//go:noescape
func packHalvesAVX2(dst, src unsafe.Pointer, stride, blocks int)

//go:noescape
func packWordsQ8_0AVX2(dst, src unsafe.Pointer, stride, blocks int)

//go:noescape
func packWordsQ4_0AVX2(dst, src unsafe.Pointer, stride, blocks int)

//go:noescape
func packWordsQ4_1AVX2(dst, src unsafe.Pointer, stride, blocks int)

//go:noescape
func quantizeAVX512(dst, x unsafe.Pointer, blocks, zero int)

//go:noescape
func gemvQ8_0(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ8_0(dst, src unsafe.Pointer, records int)

//go:noescape
func gemvQ4_0(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ4_0(dst, src unsafe.Pointer, records int)

//go:noescape
func gemvQ4_1(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ4_1(dst, src unsafe.Pointer, records int)

//go:noescape
func gemvQ5_0(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ5_0(dst, src unsafe.Pointer, records int)

//go:noescape
func gemvQ5_1(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ5_1(dst, src unsafe.Pointer, records int)

//go:noescape
func gemvQ4_K(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ4_K(dst, src unsafe.Pointer, records int)

//go:noescape
func gemvQ5_K(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ5_K(dst, src unsafe.Pointer, records int)

//go:noescape
func gemvQ6_K(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ6_K(dst, src unsafe.Pointer, records int)

//go:noescape
func gemvQ3_K(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ3_K(dst, src unsafe.Pointer, records int)

//go:noescape
func gemvQ2_K(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)

//go:noescape
func unpackQ2_K(dst, src unsafe.Pointer, records int)

//go:noescape
func dotSym32x12(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym32x8(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym32x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym32x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym32x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func widenSym32(dst, src unsafe.Pointer, blocks, zero int)

//go:noescape
func dotAff32x12(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff32x8(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff32x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff32x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff32x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func widenAff32(dst, src unsafe.Pointer, blocks, zero int)

//go:noescape
func dotSym16x12(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym16x8(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym16x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym16x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym16x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func widenSym16(dst, src unsafe.Pointer, blocks, zero int)

//go:noescape
func dotAff16x12(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff16x8(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff16x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff16x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff16x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func widenAff16(dst, src unsafe.Pointer, blocks, zero int)

//go:noescape
func wideF32Four1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideF32Four2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideF32Four3(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideF32Four4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideF16Four1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideF16Four2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideF16Four3(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideF16Four4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideBF16Four1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideBF16Four2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideBF16Four3(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideBF16Four4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

//go:noescape
func wideF32x12(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF32x8(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF32x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF32x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF32x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF16x12(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF16x8(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF16x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF16x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF16x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideBF16x12(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideBF16x8(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideBF16x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideBF16x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideBF16x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func unpackQ8_0AVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func unpackQ4_0AVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func unpackQ4_1AVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func unpackQ5_0AVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func unpackQ5_1AVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func unpackQ4_KAVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func unpackQ5_KAVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func unpackQ6_KAVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func unpackQ3_KAVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func unpackQ2_KAVX2(dst, src unsafe.Pointer, records int)

//go:noescape
func dotSym32AVX2x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym32AVX2x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSigned32AVX2x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSigned32AVX2x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff32AVX2x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff32AVX2x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym16AVX2x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotSym16AVX2x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff16AVX2x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func dotAff16AVX2x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, blocks int, bias unsafe.Pointer)

//go:noescape
func wideF32AVX2x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF32AVX2x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF32AVX2x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF16AVX2x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF16AVX2x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideF16AVX2x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideBF16AVX2x4(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideBF16AVX2x2(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func wideBF16AVX2x1(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)

//go:noescape
func widenKeysAVX512(dst, q, scales unsafe.Pointer, n, step int)

//go:noescape
func widenValuesAVX512(dst, q, scales unsafe.Pointer, n, step int)

type (
	gemvKernel   func(y, w, a unsafe.Pointer, records, panels int, bias unsafe.Pointer)
	unpackKernel func(dst, src unsafe.Pointer, records int)
	widenKernel  func(dst, src unsafe.Pointer, blocks, zero int)
	rowsKernel   func(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer)
)

var gemvs = [256]gemvKernel{
	dtype.Q8_0: gemvQ8_0,
	dtype.Q4_0: gemvQ4_0,
	dtype.Q4_1: gemvQ4_1,
	dtype.Q5_0: gemvQ5_0,
	dtype.Q5_1: gemvQ5_1,
	dtype.Q4_K: gemvQ4_K,
	dtype.Q5_K: gemvQ5_K,
	dtype.Q6_K: gemvQ6_K,
	dtype.Q3_K: gemvQ3_K,
	dtype.Q2_K: gemvQ2_K,
}

var unpacks = [256]unpackKernel{
	dtype.Q8_0: unpackQ8_0,
	dtype.Q4_0: unpackQ4_0,
	dtype.Q4_1: unpackQ4_1,
	dtype.Q5_0: unpackQ5_0,
	dtype.Q5_1: unpackQ5_1,
	dtype.Q4_K: unpackQ4_K,
	dtype.Q5_K: unpackQ5_K,
	dtype.Q6_K: unpackQ6_K,
	dtype.Q3_K: unpackQ3_K,
	dtype.Q2_K: unpackQ2_K,
}

var unpacksAVX2 = [256]unpackKernel{
	dtype.Q8_0: unpackQ8_0AVX2,
	dtype.Q4_0: unpackQ4_0AVX2,
	dtype.Q4_1: unpackQ4_1AVX2,
	dtype.Q5_0: unpackQ5_0AVX2,
	dtype.Q5_1: unpackQ5_1AVX2,
	dtype.Q4_K: unpackQ4_KAVX2,
	dtype.Q5_K: unpackQ5_KAVX2,
	dtype.Q6_K: unpackQ6_KAVX2,
	dtype.Q3_K: unpackQ3_KAVX2,
	dtype.Q2_K: unpackQ2_KAVX2,
}

// tile is a microkernel of a number of rows.
type tile struct {
	rows int
	f    rowsKernel
}

// tiles are microkernels for the same panels, with the most rows first.
type tiles []tile

// Of plain panels, by [affine][halved].
var (
	dots          = [2][2]tiles{{{{12, dotSym32x12}, {8, dotSym32x8}, {4, dotSym32x4}, {2, dotSym32x2}, {1, dotSym32x1}}, {{12, dotSym16x12}, {8, dotSym16x8}, {4, dotSym16x4}, {2, dotSym16x2}, {1, dotSym16x1}}}, {{{12, dotAff32x12}, {8, dotAff32x8}, {4, dotAff32x4}, {2, dotAff32x2}, {1, dotAff32x1}}, {{12, dotAff16x12}, {8, dotAff16x8}, {4, dotAff16x4}, {2, dotAff16x2}, {1, dotAff16x1}}}}
	dotsAVX2      = [2][2]tiles{{{{2, dotSym32AVX2x2}, {1, dotSym32AVX2x1}}, {{2, dotSym16AVX2x2}, {1, dotSym16AVX2x1}}}, {{{2, dotAff32AVX2x2}, {1, dotAff32AVX2x1}}, {{2, dotAff16AVX2x2}, {1, dotAff16AVX2x1}}}}
	dotSignedAVX2 = tiles{{2, dotSigned32AVX2x2}, {1, dotSigned32AVX2x1}}
	widens        = [2][2]widenKernel{{widenSym32, widenSym16}, {widenAff32, widenAff16}}
)

// Of panels of numbers.
var (
	wideF32      = tiles{{12, wideF32x12}, {8, wideF32x8}, {4, wideF32x4}, {2, wideF32x2}, {1, wideF32x1}}
	wideF32AVX2  = tiles{{4, wideF32AVX2x4}, {2, wideF32AVX2x2}, {1, wideF32AVX2x1}}
	wideF16      = tiles{{12, wideF16x12}, {8, wideF16x8}, {4, wideF16x4}, {2, wideF16x2}, {1, wideF16x1}}
	wideF16AVX2  = tiles{{4, wideF16AVX2x4}, {2, wideF16AVX2x2}, {1, wideF16AVX2x1}}
	wideBF16     = tiles{{12, wideBF16x12}, {8, wideBF16x8}, {4, wideBF16x4}, {2, wideBF16x2}, {1, wideBF16x1}}
	wideBF16AVX2 = tiles{{4, wideBF16AVX2x4}, {2, wideBF16AVX2x2}, {1, wideBF16AVX2x1}}
)

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// run covers the rows with microkernels.
func (t tiles) run(c []float32, cRow int, a unsafe.Pointer, aBytes int, w unsafe.Pointer, rows, depth int, bias []float32) {
	_ = c[(rows-1)*cRow+panelRows-1]
	for r := 0; r < rows; {
		for rows-r < t[0].rows {
			t = t[1:]
		}
		t[0].f(unsafe.Pointer(&c[r*cRow]), 4*cRow, unsafe.Add(a, r*aBytes), aBytes, w, depth, unsafe.Pointer(unsafe.SliceData(bias)))
		r += t[0].rows
	}
}

// packHalves is packHalvesPortable from the first column on.
func packHalves(panel []uint16, src []byte, rows, in int) {
	k := 0
	if blocks := in / panelRows; rows == panelRows && blocks > 0 && cpu.Active() >= cpu.AVX2 {
		_, _ = panel[in*panelRows-1], src[2*rows*in-1]
		packHalvesAVX2(unsafe.Pointer(&panel[0]), unsafe.Pointer(&src[0]), 2*in, blocks)
		k = blocks * panelRows
	}
	packHalvesPortable(panel, src, rows, in, k)
}

// packWords is packWordsPortable.
func packWords(d dtype.DType, l *layout, panel, src []byte, stride, rows, in int) {
	blocks := in / blockVals
	if rows < panelRows || blocks == 0 || cpu.Active() < cpu.AVX2 {
		packWordsPortable(d, l, panel, src, stride, rows, in)
		return
	}
	_, _ = panel[blocks*l.blockBytes()-1], src[rows*stride-1]
	switch to, from := unsafe.Pointer(&panel[0]), unsafe.Pointer(&src[0]); d {
	case dtype.Q8_0:
		packWordsQ8_0AVX2(to, from, stride, blocks)
	case dtype.Q4_0:
		packWordsQ4_0AVX2(to, from, stride, blocks)
	case dtype.Q4_1:
		packWordsQ4_1AVX2(to, from, stride, blocks)
	}
}

// quantizeRow is quantizePortable.
func quantizeRow(dst []byte, x []float32, zero int) {
	if cpu.Active() < cpu.AVX512 {
		quantizePortable(dst, x, zero)
		return
	}
	_ = dst[len(x)/blockVals*actBlock-1]
	quantizeAVX512(unsafe.Pointer(&dst[0]), unsafe.Pointer(&x[0]), len(x)/blockVals, zero)
}

// gemv multiplies one row with a packed panel if the machine has a kernel that takes it as it is.
func gemv(d dtype.DType, c []float32, w, act []byte, records int, bias []float32) bool {
	if cpu.Active() < cpu.AVX512VNNI {
		return false
	}
	_, _ = c[panelRows-1], bias[panelRows-1]
	gemvs[d](unsafe.Pointer(&c[0]), unsafe.Pointer(&w[0]), unsafe.Pointer(&act[0]), records, 1, unsafe.Pointer(&bias[0]))
	return true
}

// unpackPanel is unpackPortable.
func unpackPanel(d dtype.DType, l *layout, dst, src []byte, records int) {
	if cpu.Active() < cpu.AVX2 {
		unpackPortable(d, dst, src, records)
		return
	}
	_, _ = dst[records*l.blocks*l.plainBytes()-1], src[records*l.recordBytes()-1]
	f := unpacks[d]
	if cpu.Active() < cpu.AVX512 {
		f = unpacksAVX2[d]
	}
	f(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), records)
}

// widenPanel is widenPortable.
func widenPanel(l *layout, dst []float32, src []byte, blocks int) {
	if cpu.Active() < cpu.AVX512 {
		widenPortable(l, dst, src, blocks)
		return
	}
	_, _ = dst[blocks*blockVals*panelRows-1], src[blocks*l.plainBytes()-1]
	widens[index(l.affine)][index(l.halved)](unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), blocks, l.zero)
}

// dotRows multiplies rows of quantized activations, stride bytes apart, with a plain panel.
func dotRows(l *layout, c []float32, cRow int, act []byte, stride int, w []byte, rows, blocks int, bias []float32) {
	if cpu.Active() < cpu.AVX2 {
		for r := range rows {
			dotPortable(l, c[r*cRow:], act[r*stride:], w, blocks, bias)
		}
		return
	}
	_, _ = act[(rows-1)*stride+blocks*actBlock-1], w[blocks*l.plainBytes()-1]
	t := dots[index(l.affine)][index(l.halved)]
	if cpu.Active() < cpu.AVX512VNNI {
		if t = dotsAVX2[index(l.affine)][index(l.halved)]; l.zero == 128 {
			t = dotSignedAVX2
		}
	}
	t.run(c, cRow, unsafe.Pointer(&act[0]), stride, unsafe.Pointer(&w[0]), rows, blocks, bias)
}

// wideRows multiplies float32 rows, aRow values apart, with a packed panel, and adds to c when bias is nil.
func wideRows(d dtype.DType, c []float32, cRow int, a []float32, aRow int, w []byte, rows, depth int, bias, scratch []float32) {
	if cpu.Active() < cpu.AVX2 {
		wideRowsPortable(c, cRow, a, aRow, widePanel(d, w, depth, scratch), rows, depth, bias)
		return
	}
	_ = a[(rows-1)*aRow+depth-1]
	panel, t, narrow := unsafe.Pointer(unsafe.SliceData(w)), wideF32, wideF32AVX2
	switch d {
	case dtype.F16:
		t, narrow = wideF16, wideF16AVX2
	case dtype.BF16:
		t, narrow = wideBF16, wideBF16AVX2
	case dtype.F32:
	default:
		panel = unsafe.Pointer(unsafe.SliceData(widePanel(d, w, depth, scratch)))
	}
	if cpu.Active() < cpu.AVX512 {
		t = narrow
	}
	t.run(c, cRow, unsafe.Pointer(&a[0]), 4*aRow, panel, rows, depth, bias)
}

// fourKernel multiplies as many rows as its place tells with 4 panels.
type fourKernel func(c unsafe.Pointer, cRow int, a unsafe.Pointer, aRow int, w unsafe.Pointer, depth int, bias unsafe.Pointer, panel int)

var fourKernels = [256][4]fourKernel{
	dtype.F32:  {wideF32Four1, wideF32Four2, wideF32Four3, wideF32Four4},
	dtype.F16:  {wideF16Four1, wideF16Four2, wideF16Four3, wideF16Four4},
	dtype.BF16: {wideBF16Four1, wideBF16Four2, wideBF16Four3, wideBF16Four4},
}

// wideFour is wideRows for few rows and 4 panels of numbers that are panel bytes apart, if the machine can.
func wideFour(d dtype.DType, c []float32, cRow int, a []float32, aRow int, w []byte, panel, rows, depth int, bias []float32) bool {
	kernels := &fourKernels[d]
	if cpu.Active() < cpu.AVX512 || rows > fewRows || kernels[0] == nil {
		return false
	}
	_, _, _ = c[(rows-1)*cRow+fourPanels*panelRows-1], a[(rows-1)*aRow+depth-1], w[(fourPanels-1)*panel+d.Bytes(depth*panelRows)-1]
	if bias != nil {
		_ = bias[fourPanels*panelRows-1]
	}
	for r := 0; r < rows; r += len(kernels) {
		kernels[min(rows-r, len(kernels))-1](unsafe.Pointer(&c[r*cRow]), 4*cRow, unsafe.Pointer(&a[r*aRow]), 4*aRow,
			unsafe.Pointer(unsafe.SliceData(w)), depth, unsafe.Pointer(unsafe.SliceData(bias)), panel)
	}
	return true
}

// widenKeys is widenKeysPortable.
func widenKeys(dst []float32, block []byte) {
	if cpu.Active() < cpu.AVX512 {
		widenKeysPortable(dst, block)
		return
	}
	_, _ = dst[blockVals*panelRows-1], block[keyBlock-1]
	widenKeysAVX512(unsafe.Pointer(&dst[0]), unsafe.Pointer(&block[2*panelRows]), unsafe.Pointer(&block[0]), blockVals, panelRows)
}

// widenValues is widenValuesPortable.
func widenValues(dst []float32, scales []uint16, q []byte) {
	n := len(scales)
	if cpu.Active() < cpu.AVX512 || n == 0 {
		widenValuesPortable(dst, scales, q)
		return
	}
	_, _ = dst[n*panelRows-1], q[(n-1)*blockVals+panelRows-1]
	widenValuesAVX512(unsafe.Pointer(&dst[0]), unsafe.Pointer(&q[0]), unsafe.Pointer(&scales[0]), n, blockVals)
}
