package kernel

import "math"

// Portable functions of one number compute in float64 and round once; the vector forms compute in float32 and are held
// to the bounds that the tests state.

const (
	log2E = 1.44269504088896340736
	ln2   = 0.69314718055994530942
)

// exp64 is e to the x for use as float32: relative error below 1e-9. Arguments beyond float32's range give 0 or +Inf.
func exp64(x float64) float64 {
	switch {
	case x != x:
		return x
	case x > 89:
		return math.Inf(1)
	case x < -104:
		return 0
	}
	n := math.Floor(x*log2E + 0.5)
	r := x - n*ln2
	p := 1 + r*(1+r*(1.0/2+r*(1.0/6+r*(1.0/24+r*(1.0/120+r*(1.0/720+r*(1.0/5040+r*(1.0/40320))))))))
	return p * math.Float64frombits(uint64(int64(n)+1023)<<52)
}

func exp32(x float32) float32     { return float32(exp64(float64(x))) }
func log32(x float32) float32     { return float32(math.Log(float64(x))) }
func tanh32(x float32) float32    { return float32(math.Tanh(float64(x))) }
func erf32(x float32) float32     { return float32(math.Erf(float64(x))) }
func sigmoid32(x float32) float32 { return float32(1 / (1 + exp64(-float64(x)))) }
func silu32(x float32) float32    { return float32(float64(x) / (1 + exp64(-float64(x)))) }
func sqrt32(x float32) float32    { return float32(math.Sqrt(float64(x))) }
func rsqrt32(x float32) float32   { return float32(1 / math.Sqrt(float64(x))) }
func sin32(x float32) float32     { return float32(math.Sin(float64(x))) }
func cos32(x float32) float32     { return float32(math.Cos(float64(x))) }
func floor32(x float32) float32   { return float32(math.Floor(float64(x))) }
func neg32(x float32) float32     { return -x }
func abs32(x float32) float32     { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

func sign32(x float32) float32 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x
}

func max32(a, b float32) float32 {
	if a != a || a > b {
		return a
	}
	return b
}

// Activation derivatives: sigma(x)(1 + x(1 - sigma(x))) and so on.

const (
	geluTanhC = 0.79788456080286535588 // sqrt(2/pi)
	geluTanhA = 0.044715
	invSqrt2  = 0.70710678118654752440
	invSqrt2P = 0.39894228040143267794 // 1/sqrt(2 pi)
	quickC    = 1.702
)

func gelu32(x float32) float32 {
	y := float64(x)
	return float32(0.5 * y * math.Erfc(-y*invSqrt2))
}

func geluTanh32(x float32) float32 {
	y := float64(x)
	// 0.5(1 + tanh(u)) = sigmoid(2u)
	return float32(y / (1 + exp64(-2*geluTanhC*(y+geluTanhA*y*y*y))))
}

func relu32(x float32) float32 {
	if x < 0 {
		return 0
	}
	return x
}

func quickGelu32(x float32) float32 {
	y := float64(x)
	return float32(y / (1 + exp64(-quickC*y)))
}

func siluGrad32(x float32) float32 {
	y := float64(x)
	s := 1 / (1 + exp64(-y))
	return float32(s + y*s*(1-s))
}

func geluGrad32(x float32) float32 {
	y := float64(x)
	return float32(0.5*math.Erfc(-y*invSqrt2) + y*invSqrt2P*exp64(-0.5*y*y))
}

func geluTanhGrad32(x float32) float32 {
	y := float64(x)
	s := 1 / (1 + exp64(-2*geluTanhC*(y+geluTanhA*y*y*y)))
	return float32(s + y*s*(1-s)*2*geluTanhC*(1+3*geluTanhA*y*y))
}

func reluGrad32(x float32) float32 {
	if x > 0 {
		return 1
	}
	return x - x // 0, or NaN
}

func quickGeluGrad32(x float32) float32 {
	y := float64(x)
	s := 1 / (1 + exp64(-quickC*y))
	return float32(s + quickC*y*s*(1-s))
}

func bits32(x float32) uint32     { return math.Float32bits(x) }
func fromBits32(b uint32) float32 { return math.Float32frombits(b) }

// roundInt rounds to the nearest integer, ties to even; what is no number or too large gives the smallest int32.
func roundInt(x float32) int32 {
	if !(abs32(x) < 1<<31) {
		return math.MinInt32
	}
	return int32(math.RoundToEven(float64(x)))
}
