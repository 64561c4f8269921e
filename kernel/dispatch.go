package kernel

// The functions below are what the kernels call for a row; here they are the portable ones on every machine. Those with
// vector forms are in dispatch_amd64.go.

func negRow(d, x []float32)                             { negRowPortable(d, x) }
func logRow(d, x []float32)                             { logRowPortable(d, x) }
func tanhRow(d, x []float32)                            { tanhRowPortable(d, x) }
func erfRow(d, x []float32)                             { erfRowPortable(d, x) }
func sqrtRow(d, x []float32)                            { sqrtRowPortable(d, x) }
func rsqrtRow(d, x []float32)                           { rsqrtRowPortable(d, x) }
func absRow(d, x []float32)                             { absRowPortable(d, x) }
func siluRow(d, x []float32)                            { siluRowPortable(d, x) }
func geluRow(d, x []float32)                            { geluRowPortable(d, x) }
func geluTanhRow(d, x []float32)                        { geluTanhRowPortable(d, x) }
func quickGeluRow(d, x []float32)                       { quickGeluRowPortable(d, x) }
func maxRow(d, a, b []float32)                          { maxRowPortable(d, a, b) }
func minRow(d, a, b []float32)                          { minRowPortable(d, a, b) }
func siluGradRow(d, x []float32)                        { siluGradRowPortable(d, x) }
func geluGradRow(d, x []float32)                        { geluGradRowPortable(d, x) }
func geluTanhGradRow(d, x []float32)                    { geluTanhGradRowPortable(d, x) }
func quickGeluGradRow(d, x []float32)                   { quickGeluGradRowPortable(d, x) }
func expMomentRow(x []float32, m float32) float32       { return expMomentRowPortable(x, m) }
func nonFiniteRow(x []float32) int                      { return nonFiniteRowPortable(x) }
func rotatePairsRow(d, x, c, s []float32, sign float32) { rotatePairsRowPortable(d, x, c, s, sign) }
