//go:build !amd64

package kernel

func addRow(d, a, b []float32)                    { addRowPortable(d, a, b) }
func mulRow(d, a, b []float32)                    { mulRowPortable(d, a, b) }
func scaleRow(d, x []float32, c float32)          { scaleRowPortable(d, x, c) }
func axpyRow(y, x []float32, a float32)           { axpyRowPortable(y, x, a) }
func siluMulRow(d, g, u []float32)                { siluMulRowPortable(d, g, u) }
func scaleMulRow(d, x, w []float32, r float32)    { scaleMulRowPortable(d, x, w, r) }
func maxOfRow(x []float32) float32                { return maxOfRowPortable(x) }
func sumSqRow(x []float32) float32                { return sumSqRowPortable(x) }
func dotRow(a, b []float32) float32               { return dotRowPortable(a, b) }
func expSubRow(d, x []float32, m float32) float32 { return expSubRowPortable(d, x, m) }
func rotateHalvesRow(dlo, dhi, lo, hi, c, s []float32, sign float32) {
	rotateHalvesRowPortable(dlo, dhi, lo, hi, c, s, sign)
}
func expSumRow(x []float32, m float32) float32 { return expSumRowPortable(x, m) }
