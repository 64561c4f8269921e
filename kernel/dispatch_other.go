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
func subRow(d, a, b []float32)                         { subRowPortable(d, a, b) }
func divRow(d, a, b []float32)                         { divRowPortable(d, a, b) }
func addScalarRow(d, x []float32, c float32)           { addScalarRowPortable(d, x, c) }
func mulAccRow(acc, a, b []float32, r float32)         { mulAccRowPortable(acc, a, b, r) }
func axpbyRow(d, x, y []float32, r, c float32)         { axpbyRowPortable(d, x, y, r, c) }
func mulAxpbyRow(d, x, w, y []float32, r, c float32)   { mulAxpbyRowPortable(d, x, w, y, r, c) }
func sumRow(x []float32) float32                       { return sumRowPortable(x) }
func dot3Row(a, b, c []float32) float32                { return dot3RowPortable(a, b, c) }
func dotBF16Row(a []uint16, b []float32) float32       { return dotBF16RowPortable(a, b) }
func dotF16Row(a []uint16, b []float32) float32        { return dotF16RowPortable(a, b) }
func bf16ToF32(dst []float32, src []uint16)            { bf16ToF32Portable(dst, src) }
func f16ToF32(dst []float32, src []uint16)             { f16ToF32Portable(dst, src) }
func f32ToBF16(dst []uint16, src []float32)            { f32ToBF16Portable(dst, src) }
func f32ToF16(dst []uint16, src []float32)             { f32ToF16Portable(dst, src) }
func expRow(d, x []float32)                            { expRowPortable(d, x) }
func sigmoidRow(d, x []float32)                        { sigmoidRowPortable(d, x) }
func expSumRow(x []float32, m float32) float32         { return expSumRowPortable(x, m) }
func expLinearRow(d, x []float32, m, a, b float32)     { expLinearRowPortable(d, x, m, a, b) }
func siluMulGradRow(dg, du, dy, g, u []float32)        { siluMulGradRowPortable(dg, du, dy, g, u) }
func adamWRow(p, m, v, g []float32, c *adamWConst)     { adamWRowPortable(p, m, v, g, c) }
func maskRow(x []float32, segments []int32, own int32) { maskRowPortable(x, segments, own) }
func expScaledRow(x []float32, c, m float32) float32   { return expScaledRowPortable(x, c, m) }
func probGradRow(p, ds []float32, c, lse, delta, scale float32) {
	probGradRowPortable(p, ds, c, lse, delta, scale)
}
