package nn

import (
	"fmt"
	"math"

	"danlu/dtype"
	"danlu/graph"
	"danlu/tensor"
)

// Rope is a rotary position embedding and its scaling to longer contexts.
type Rope struct {
	Dim         int // rotated elements of a head, R
	Theta       float64
	MaxPosition int // of the pretrained model
	Interleaved bool
	Sections    []int // M-RoPE: frequencies taken by each position row
	Scaling     Scaling
}

// Scaling is the `rope_scaling` of a Hugging Face config. Zero values stand for absent keys.
type Scaling struct {
	Type                    string // "", default, linear, dynamic, llama3, yarn, longrope
	Factor                  float64
	OriginalMaxPosition     int
	LowFreqFactor           float64 // llama3
	HighFreqFactor          float64
	BetaFast, BetaSlow      float64   // yarn; 0: 32 and 1
	AttentionFactor         *float64  // yarn, longrope; nil: from the factor
	MScale, MScaleAllDim    float64   // DeepSeek's yarn
	NoTruncate              bool      // yarn: keep the correction range's fractions
	ShortFactor, LongFactor []float64 // longrope
}

// Validate names what is missing or unknown.
func (r Rope) Validate() error {
	s := r.Scaling
	if r.Dim < 2 || r.Dim%2 != 0 {
		return fmt.Errorf("rotary dimension: want an even number of at least 2, got %d", r.Dim)
	}
	if !(r.Theta > 0) {
		return fmt.Errorf("rope_theta: want a positive number, got %v", r.Theta)
	}
	switch s.Type {
	case "", "default", "mrope":
		return nil
	case "linear", "dynamic", "yarn":
	case "llama3":
		if !(s.LowFreqFactor > 0) || !(s.HighFreqFactor > s.LowFreqFactor) || s.OriginalMaxPosition <= 0 {
			return fmt.Errorf("rope_scaling: llama3 needs 0 < low_freq_factor < high_freq_factor and original_max_position_embeddings")
		}
	case "longrope":
		if len(s.ShortFactor) != r.Dim/2 || len(s.LongFactor) != r.Dim/2 {
			return fmt.Errorf("rope_scaling: longrope needs short_factor and long_factor of %d numbers", r.Dim/2)
		}
		return nil
	default:
		return fmt.Errorf("rope_scaling: type %q is not supported (default, linear, dynamic, llama3, yarn, longrope)", s.Type)
	}
	if !(s.Factor >= 1) {
		return fmt.Errorf("rope_scaling: factor: want at least 1, got %v", s.Factor)
	}
	return nil
}

// DependsOnLength reports whether the frequencies change with the sequence length.
func (r Rope) DependsOnLength() bool {
	return r.Scaling.Type == "dynamic" || r.Scaling.Type == "longrope"
}

// original is the context that the frequencies were trained for.
func (r Rope) original() float64 {
	if r.Scaling.OriginalMaxPosition > 0 {
		return float64(r.Scaling.OriginalMaxPosition)
	}
	return float64(r.MaxPosition)
}

// InvFreq returns the R/2 inverse frequencies (angle per position) for a sequence of the given length, and the factor
// on cos and sin.
//
// linear: Chen et al., arXiv:2306.15595; dynamic: the NTK-aware base of transformers' modeling_rope_utils.py;
// llama3: Llama 3.1's model code; yarn: Peng et al., arXiv:2309.00071, with DeepSeek-V3's mscale; longrope: Ding et
// al., arXiv:2402.13753.
func (r Rope) InvFreq(length int) (inv []float64, factor float64) {
	s := r.Scaling
	n, theta := r.Dim/2, r.Theta
	if s.Type == "dynamic" {
		theta = r.dynamicTheta(float64(length))
	}
	inv = make([]float64, n)
	for i := range inv {
		inv[i] = math.Pow(theta, -2*float64(i)/float64(r.Dim))
	}
	factor = 1
	switch s.Type {
	case "linear":
		for i := range inv {
			inv[i] /= s.Factor
		}
	case "llama3":
		low, high := r.original()/s.LowFreqFactor, r.original()/s.HighFreqFactor
		for i, f := range inv {
			wave := 2 * math.Pi / f
			switch {
			case wave > low:
				inv[i] = f / s.Factor
			case wave >= high:
				smooth := (r.original()/wave - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
				inv[i] = (1-smooth)*f/s.Factor + smooth*f
			}
		}
	case "yarn":
		lo, hi := r.yarnRange()
		for i, f := range inv {
			ramp := min(max((float64(i)-lo)/(hi-lo), 0), 1)
			inv[i] = f/s.Factor*ramp + f*(1-ramp)
		}
		factor = r.yarnFactor()
	case "longrope":
		f := s.ShortFactor
		if float64(length) > r.original() {
			f = s.LongFactor
		}
		for i := range inv {
			inv[i] /= f[i]
		}
		factor = r.longropeFactor()
	}
	return inv, factor
}

func (r Rope) dynamicTheta(length float64) float64 {
	top, d := r.original(), float64(r.Dim)
	length = max(length, top)
	return r.Theta * math.Pow(r.Scaling.Factor*length/top-(r.Scaling.Factor-1), d/(d-2))
}

// yarnRange is the range of frequency indices between pure extrapolation and pure interpolation.
func (r Rope) yarnRange() (lo, hi float64) {
	fast, slow := r.Scaling.BetaFast, r.Scaling.BetaSlow
	if fast == 0 {
		fast = 32
	}
	if slow == 0 {
		slow = 1
	}
	index := func(rotations float64) float64 {
		return float64(r.Dim) * math.Log(r.original()/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	lo, hi = index(fast), index(slow)
	if !r.Scaling.NoTruncate {
		lo, hi = math.Floor(lo), math.Ceil(hi)
	}
	lo, hi = max(lo, 0), min(hi, float64(r.Dim-1))
	if lo == hi {
		hi += 0.001 // the ramp is a step then
	}
	return lo, hi
}

// YarnMScale is YaRN's attention temperature 0.1·m·ln(factor) + 1.
func YarnMScale(factor, m float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*m*math.Log(factor) + 1
}

func (r Rope) yarnFactor() float64 {
	s := r.Scaling
	switch {
	case s.AttentionFactor != nil:
		return *s.AttentionFactor
	case s.MScale != 0 && s.MScaleAllDim != 0:
		return YarnMScale(s.Factor, s.MScale) / YarnMScale(s.Factor, s.MScaleAllDim)
	}
	return YarnMScale(s.Factor, 1)
}

func (r Rope) longropeFactor() float64 {
	if r.Scaling.AttentionFactor != nil {
		return *r.Scaling.AttentionFactor
	}
	scale := float64(r.MaxPosition) / r.original()
	if r.Scaling.Factor > 0 {
		scale = r.Scaling.Factor
	}
	if scale <= 1 {
		return 1
	}
	return math.Sqrt(1 + math.Log(scale)/math.Log(r.original()))
}

// Tables adds the cos and sin tables [B, T, R/2] for the build's positions.
func (r Rope) Tables(b *Build) (cos, sin *graph.Value) {
	if r.DependsOnLength() {
		return r.tablesByLength(b)
	}
	inv, factor := r.InvFreq(0)
	return graph.RotaryTables(b.Positions, b.G.Const(toFloat32(inv)), r.Sections, factor)
}

// tablesByLength forms the angles of each token from the sequence length it sees.
func (r Rope) tablesByLength(b *Build) (cos, sin *graph.Value) {
	g, n := b.G, r.Dim/2
	batch, t := b.IDs.Shape[0], b.IDs.Shape[1]
	position := graph.Convert(graph.ReshapeTo(graph.Cut(b.Positions, 0, 0, 1), batch, t, 1), dtype.F32)
	var length *graph.Value
	if b.Lengths != nil {
		length = graph.ReshapeTo(graph.Convert(b.Lengths, dtype.F32), batch, t, 1)
	} else {
		length = graph.AddScalar(graph.MaxOf(position), 1)
	}
	var freq *graph.Value
	_, factor := r.InvFreq(0)
	if r.Scaling.Type == "dynamic" {
		top, d := r.original(), float64(r.Dim)
		length = graph.Max(length, graph.ConstLike(length, top))
		growth := graph.AddScalar(graph.MulScalar(length, r.Scaling.Factor/top), 1-r.Scaling.Factor)
		logTheta := graph.AddScalar(graph.MulScalar(graph.Log(growth), d/(d-2)), math.Log(r.Theta))
		exponent := make([]float64, n)
		for i := range exponent {
			exponent[i] = -2 * float64(i) / d
		}
		freq = graph.Exp(graph.Mul(logTheta, g.Const(toFloat32(exponent))))
	} else {
		short, _ := r.InvFreq(0)
		long, _ := r.InvFreq(math.MaxInt32)
		isLong := graph.Greater(length, graph.ConstLike(length, r.original()))
		freq = graph.Where(isLong, g.Const(toFloat32(long)), g.Const(toFloat32(short)))
	}
	angle := graph.Mul(position, freq)
	return graph.MulScalar(graph.Cos(angle), factor), graph.MulScalar(graph.Sin(angle), factor)
}

// Frequencies are inverse frequencies as a float32 tensor, rounded to float16 first when half is set.
func Frequencies(inv []float64, half bool) *tensor.Tensor {
	t := toFloat32(inv)
	if half {
		for i, x := range t.F32() {
			_, e := math.Frexp(float64(x))
			unit := math.Ldexp(1, max(e, -13)-11) // float16 has 11 significant bits and exponents from -14
			t.F32()[i] = float32(math.RoundToEven(float64(x)/unit) * unit)
		}
	}
	return t
}

func toFloat32(x []float64) *tensor.Tensor {
	y := make([]float32, len(x))
	for i := range x {
		y[i] = float32(x[i])
	}
	return tensor.FromF32(y, len(y))
}
