package kernel

// The functions below are what the kernels call for a row; here they are the portable ones on every machine. Those with
// vector forms are in dispatch_amd64.go.

func adamWRow(p, m, v, g []float32, c *adamWConst)      { adamWRowPortable(p, m, v, g, c) }
func bf16ToF32(dst []float32, src []uint16)             { bf16ToF32Portable(dst, src) }
func f32ToBF16(dst []uint16, src []float32)             { f32ToBF16Portable(dst, src) }
func f16ToF32(dst []float32, src []uint16)              { f16ToF32Portable(dst, src) }
func f32ToF16(dst []uint16, src []float32)              { f32ToF16Portable(dst, src) }
func negRow(d, x []float32)                             { negRowPortable(d, x) }
func expRow(d, x []float32)                             { expRowPortable(d, x) }
func logRow(d, x []float32)                             { logRowPortable(d, x) }
func tanhRow(d, x []float32)                            { tanhRowPortable(d, x) }
func erfRow(d, x []float32)                             { erfRowPortable(d, x) }
func sqrtRow(d, x []float32)                            { sqrtRowPortable(d, x) }
func rsqrtRow(d, x []float32)                           { rsqrtRowPortable(d, x) }
func absRow(d, x []float32)                             { absRowPortable(d, x) }
func sigmoidRow(d, x []float32)                         { sigmoidRowPortable(d, x) }
func siluRow(d, x []float32)                            { siluRowPortable(d, x) }
func geluRow(d, x []float32)                            { geluRowPortable(d, x) }
func geluTanhRow(d, x []float32)                        { geluTanhRowPortable(d, x) }
func quickGeluRow(d, x []float32)                       { quickGeluRowPortable(d, x) }
func subRow(d, a, b []float32)                          { subRowPortable(d, a, b) }
func divRow(d, a, b []float32)                          { divRowPortable(d, a, b) }
func maxRow(d, a, b []float32)                          { maxRowPortable(d, a, b) }
func minRow(d, a, b []float32)                          { minRowPortable(d, a, b) }
func addScalarRow(d, x []float32, c float32)            { addScalarRowPortable(d, x, c) }
func siluGradRow(d, x []float32)                        { siluGradRowPortable(d, x) }
func geluGradRow(d, x []float32)                        { geluGradRowPortable(d, x) }
func geluTanhGradRow(d, x []float32)                    { geluTanhGradRowPortable(d, x) }
func quickGeluGradRow(d, x []float32)                   { quickGeluGradRowPortable(d, x) }
func siluMulGradRow(dg, du, dy, g, u []float32)         { siluMulGradRowPortable(dg, du, dy, g, u) }
func mulAccRow(acc, a, b []float32, r float32)          { mulAccRowPortable(acc, a, b, r) }
func axpbyRow(d, x, y []float32, r, c float32)          { axpbyRowPortable(d, x, y, r, c) }
func mulAxpbyRow(d, x, w, y []float32, r, c float32)    { mulAxpbyRowPortable(d, x, w, y, r, c) }
func sumRow(x []float32) float32                        { return sumRowPortable(x) }
func dot3Row(a, b, c []float32) float32                 { return dot3RowPortable(a, b, c) }
func dotBF16Row(a []uint16, b []float32) float32        { return dotBF16RowPortable(a, b) }
func dotF16Row(a []uint16, b []float32) float32         { return dotF16RowPortable(a, b) }
func expMomentRow(x []float32, m float32) float32       { return expMomentRowPortable(x, m) }
func nonFiniteRow(x []float32) int                      { return nonFiniteRowPortable(x) }
func rotatePairsRow(d, x, c, s []float32, sign float32) { rotatePairsRowPortable(d, x, c, s, sign) }
func expLinearRow(d, x []float32, m, a, b float32)      { expLinearRowPortable(d, x, m, a, b) }
