package kernel

import "unsafe"

// Elem is an activation's storage: float32, or bfloat16 as its 16 bits. All arithmetic is float32; bfloat16 rows are
// converted in blocks that stay in the first-level cache.
type Elem interface{ float32 | uint16 }

// blockLen is the block in which rows are converted and reduced. Sums over a row are formed per block and added in
// order, so they depend on the row's length only.
const blockLen = 512

type block [blockLen]float32

func isF32[T Elem]() bool {
	var z T
	return unsafe.Sizeof(z) == 4
}

func asF32[T Elem](x []T) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

func asBF16[T Elem](x []T) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// load gives x as float32: x itself, or converted into buf.
func load[T Elem](buf *block, x []T) []float32 {
	if isF32[T]() {
		return asF32(x)
	}
	y := buf[:len(x)]
	bf16ToF32(y, asBF16(x))
	return y
}

// room gives where to compute x's new values: x itself, or buf, to be stored by [store].
func room[T Elem](buf *block, x []T) []float32 {
	if isF32[T]() {
		return asF32(x)
	}
	return buf[:len(x)]
}

// store writes y, made in [room], to x.
func store[T Elem](x []T, y []float32) {
	if !isF32[T]() {
		f32ToBF16(asBF16(x), y)
	}
}

// next is the end of the block that starts at i in a row of n.
func next(i, n int) int { return min(i+blockLen, n) }
