package kernel

import (
	"unsafe"

	"danlu/internal/cpu"
)

//go:noescape
func matmulAVX512(c, a, b *float32, depth int, accumulate bool)

//go:noescape
func matmulAVX2(c, a, b *float32, depth int, accumulate bool)

//go:noescape
func matmulBF16(c, a, b *float32, depth int, accumulate bool)

//go:noescape
func packLines12(dst, src unsafe.Pointer, line, groups, width, have int)

//go:noescape
func packLines16(dst, src unsafe.Pointer, line, groups, width, have int)

//go:noescape
func packPairs12(dst, src unsafe.Pointer, line, groups, width, have int)

//go:noescape
func packPairs16(dst, src unsafe.Pointer, line, groups, width, have int)

//go:noescape
func packHalves12(dst, src unsafe.Pointer, line, groups, width, have int)

//go:noescape
func packHalves16(dst, src unsafe.Pointer, line, groups, width, have int)

//go:noescape
func packRowPairs(dst, src unsafe.Pointer, step, pairs, width, lines, have int)

//go:noescape
func packRowHalves(dst, src unsafe.Pointer, step, pairs, width, lines, have int)

// pairs reports whether products of bfloat16 factors take two values of the inner index at a time.
func pairs() bool { return cpu.Active() >= cpu.AVX512BF16 }

// multiply is multiplyPortable for panels of float32 values.
func multiply(c, a, b []float32, depth int, accumulate bool) {
	level := cpu.Active()
	if level < cpu.AVX2 || depth == 0 {
		multiplyPortable(c, a, b, depth, accumulate)
		return
	}
	_, _, _ = c[(microM-1)*tileN+microN-1], a[depth*microM-1], b[depth*microN-1]
	if level < cpu.AVX512 {
		matmulAVX2(&c[0], &a[0], &b[0], depth, accumulate)
	} else {
		matmulAVX512(&c[0], &a[0], &b[0], depth, accumulate)
	}
}

// multiplyPairs is multiply for panels of bfloat16 pairs; depth counts pairs.
func multiplyPairs(c, a, b []float32, depth int, accumulate bool) {
	_, _, _ = c[(microM-1)*tileN+microN-1], a[depth*microM-1], b[depth*microN-1]
	matmulBF16(&c[0], &a[0], &b[0], depth, accumulate)
}

// packFast packs what vector instructions can of a panel of n lines, and zeros up to width lines, and returns how many of
// the depth values it has done.
func packFast(dst []float32, m Matrix, n, width, depth, line, step int, asPairs bool) int {
	if line == 1 && !asPairs && m.BF16 == nil {
		for k := range depth {
			row := dst[k*width : (k+1)*width]
			copy(row[:n], m.F32[k*step:])
			clear(row[n:])
		}
		return depth
	}
	if cpu.Active() < cpu.AVX512 || depth == 0 {
		return 0
	}
	out := unsafe.Pointer(unsafe.SliceData(dst))
	src, size := unsafe.Pointer(unsafe.SliceData(m.F32)), 4
	if m.BF16 != nil {
		src, size = unsafe.Pointer(unsafe.SliceData(m.BF16)), 2
	}
	switch {
	case step == 1 && (asPairs || m.BF16 == nil):
		packLong(dst, src, n, width, depth, size*line, asPairs, m.BF16 != nil)
		return depth
	case line == 1 && asPairs && depth >= 2:
		along := packRowPairs
		if m.BF16 != nil {
			along = packRowHalves
		}
		for i := 0; i < width; i += 16 {
			along(unsafe.Add(out, 4*i), unsafe.Add(src, size*min(i, n-1)), size*step, depth/2, 4*width, min(16, width-i), min(max(n-i, 0), 16))
		}
		return depth / 2 * 2
	}
	return 0
}

// packLong packs lines that are contiguous along the inner index, line bytes apart. What is left over of each line after
// whole registers goes through a copy with zeros behind it, since nothing behind a line may be read.
func packLong(dst []float32, src unsafe.Pointer, n, width, depth, line int, asPairs, halves bool) {
	perWord, size := 1, 4
	if asPairs {
		perWord = 2
	}
	if halves {
		size = 2
	}
	unit := 16 * perWord
	groups, rest := depth/unit, depth%unit
	for i := 0; i < width; i += 16 {
		have := min(max(n-i, 0), 16)
		from := unsafe.Add(src, min(i, n-1)*line)
		if groups > 0 {
			packAcross(unsafe.Pointer(&dst[i]), from, line, groups, width, have, asPairs, halves)
		}
		if rest == 0 {
			continue
		}
		const stride = 128 // bytes: the longest group
		var lines [16 * stride]byte
		var words [16 * microN]float32
		for l := range have {
			copy(lines[l*stride:], unsafe.Slice((*byte)(unsafe.Add(from, l*line+groups*unit*size)), rest*size))
		}
		packAcross(unsafe.Pointer(&words), unsafe.Pointer(&lines), stride, 1, width, have, asPairs, halves)
		for k := range (rest + perWord - 1) / perWord {
			copy(dst[(groups*16+k)*width+i:][:min(16, width-i)], words[k*width:])
		}
	}
}

// packAcross calls the packing of up to 16 lines, or 12 for the narrow panels of A. The calls are direct, so that
// nothing escapes.
func packAcross(dst, src unsafe.Pointer, line, groups, width, have int, asPairs, halves bool) {
	narrow := width == microM
	switch width *= 4; {
	case !asPairs && narrow:
		packLines12(dst, src, line, groups, width, have)
	case !asPairs:
		packLines16(dst, src, line, groups, width, have)
	case halves && narrow:
		packHalves12(dst, src, line, groups, width, have)
	case halves:
		packHalves16(dst, src, line, groups, width, have)
	case narrow:
		packPairs12(dst, src, line, groups, width, have)
	default:
		packPairs16(dst, src, line, groups, width, have)
	}
}
