//go:build !amd64

package kernel

import "danlu/dtype"

func packHalves(panel []uint16, src []byte, rows, in int) {
	packHalvesPortable(panel, src, rows, in, 0)
}

func packWords(d dtype.DType, l *layout, panel, src []byte, stride, rows, in int) {
	packWordsPortable(d, l, panel, src, stride, rows, in)
}

func quantizeRow(dst []byte, x []float32, zero int) { quantizePortable(dst, x, zero) }

func gemv(d dtype.DType, c []float32, w, act []byte, records int, bias []float32) bool { return false }

func unpackPanel(d dtype.DType, l *layout, dst, src []byte, records int) {
	unpackPortable(d, dst, src, records)
}

func widenPanel(l *layout, dst []float32, src []byte, blocks int) { widenPortable(l, dst, src, blocks) }

func dotRows(l *layout, c []float32, cRow int, act []byte, stride int, w []byte, rows, blocks int, bias []float32) {
	for r := range rows {
		dotPortable(l, c[r*cRow:], act[r*stride:], w, blocks, bias)
	}
}

func wideRows(d dtype.DType, c []float32, cRow int, a []float32, aRow int, w []byte, rows, depth int, bias, scratch []float32) {
	wideRowsPortable(c, cRow, a, aRow, widePanel(d, w, depth, scratch), rows, depth, bias)
}

func wideFour(d dtype.DType, c []float32, cRow int, a []float32, aRow int, w []byte, panel, rows, depth int, bias []float32) bool {
	return false
}

func widenKeys(dst []float32, block []byte) { widenKeysPortable(dst, block) }

func widenValues(dst []float32, scales []uint16, q []byte) { widenValuesPortable(dst, scales, q) }
