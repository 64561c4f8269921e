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
// the depth values it has done: all or, of lines that are contiguous along the inner index, a multiple of a register.
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
	case step == 1 && asPairs:
		groups := depth / 32
		if groups == 0 {
			return 0
		}
		across := packPairs16
		if m.BF16 != nil {
			across = packHalves16
		}
		if width == microM {
			if across = packPairs12; m.BF16 != nil {
				across = packHalves12
			}
		}
		for i := 0; i < width; i += 16 {
			across(unsafe.Add(out, 4*i), unsafe.Add(src, size*min(i, n-1)*line), size*line, groups, 4*width, min(max(n-i, 0), 16))
		}
		return groups * 32
	case step == 1 && m.BF16 == nil:
		groups := depth / 16
		if groups == 0 {
			return 0
		}
		across := packLines16
		if width == microM {
			across = packLines12
		}
		for i := 0; i < width; i += 16 {
			across(unsafe.Add(out, 4*i), unsafe.Add(src, 4*min(i, n-1)*line), 4*line, groups, 4*width, min(max(n-i, 0), 16))
		}
		return groups * 16
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
