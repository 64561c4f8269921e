package kernel

import "math"

// Softmax normalises rows of n: dst = exp(x - max) / sum. dst may be x. A row without a finite element becomes NaN.
func Softmax[Y, X Elem](dst []Y, x []X, n int) {
	for ; len(x) > 0; dst, x = dst[n:], x[n:] {
		softmaxOne(dst[:n], x[:n])
	}
}

func softmaxOne[Y, X Elem](dst []Y, x []X) {
	m := Max(x)
	var in, out block
	var s float32
	if isF32[Y]() {
		d := asF32(dst)
		for i := 0; i < len(x); {
			j := next(i, len(x))
			s += expSubRow(d[i:j], load(&in, x[i:j]), m)
			i = j
		}
		scaleRow(d, d, 1/s)
		return
	}
	for i := 0; i < len(x); {
		j := next(i, len(x))
		s += expSumRow(load(&in, x[i:j]), m)
		i = j
	}
	for i := 0; i < len(x); {
		j := next(i, len(x))
		d := out[:j-i]
		expSubRow(d, load(&in, x[i:j]), m)
		scaleRow(d, d, 1/s)
		store(dst[i:j], d)
		i = j
	}
}

// SoftmaxGrad is the gradient of Softmax from its result y: dx = y (dy - sum(y dy)), for rows of n. dx may be dy.
func SoftmaxGrad[T Elem](dx, dy, y []T, n int) {
	var bd, by, out block
	for r := 0; r < len(y); r += n {
		dxr, dyr, yr := dx[r:r+n], dy[r:r+n], y[r:r+n]
		s := Dot(dyr, yr)
		for i := 0; i < n; {
			j := next(i, n)
			d := room(&out, dxr[i:j])
			addScalarRow(d, load(&bd, dyr[i:j]), -s)
			mulRow(d, d, load(&by, yr[i:j]))
			store(dxr[i:j], d)
			i = j
		}
	}
}

// LogSum adds up exponentials of a row's logits, part by part in order.
type LogSum struct {
	some        bool
	max         float32
	sum, moment float32 // of exp(z-max) and exp(z-max)(z-max)
}

// Add takes in a part; withMoment is needed for the entropy.
func (s *LogSum) Add(z []float32, withMoment bool) {
	m := s.raise(Max(z))
	if math.IsInf(float64(m), -1) {
		return // nothing finite yet
	}
	s.sum += expSumRow(z, m)
	if withMoment {
		s.moment += expMomentRow(z, m)
	}
}

// Exp is Add, and replaces the part by its exponentials relative to the greatest logit so far, which it returns.
func (s *LogSum) Exp(z []float32) float32 {
	m := s.raise(Max(z))
	if math.IsInf(float64(m), -1) {
		Fill(z, 0)
		return m
	}
	s.sum += expSubRow(z, z, m)
	return m
}

// raise makes the sums relative to m, where that is greater than all before, and returns the greatest.
func (s *LogSum) raise(m float32) float32 {
	if s.some && s.max > m {
		m = s.max
	}
	if s.some && m > s.max && !math.IsInf(float64(s.max), -1) {
		shift := s.max - m
		keep := exp32(shift)
		s.moment = keep * (s.moment + shift*s.sum)
		s.sum *= keep
	}
	s.some, s.max = true, m
	return m
}

// LSE is the logarithm of the sum of exponentials.
func (s *LogSum) LSE() float32 {
	if !s.some || math.IsInf(float64(s.max), 0) {
		return s.max
	}
	return s.max + log32(s.sum)
}

// Entropy is the entropy in nats of the distribution.
func (s *LogSum) Entropy() float32 { return log32(s.sum) - s.moment/s.sum }

// LogProbGrad is the gradient by a part of a row's logits of the target's log-probability, the logsumexp and the entropy:
// with p = exp(logits - lse),
//
//	dst = dlogp (onehot(target) - p) + dlse p - dentropy p (logits - lse + entropy)
//
// A target outside of the part has no one in it. With softcap > 0 the logits are softcap·tanh(raw/softcap) and the gradient is
// by raw. Cross-entropy with weight g and z-loss z·lse² is dlogp = -g, dlse = 2·z·lse. dst may be logits.
func LogProbGrad[Y Elem](dst []Y, logits []float32, target int, lse, dlogp, dlse, dentropy, entropy, softcap float32) {
	a := dlse - dentropy*entropy - dlogp
	var out, fac block
	n := len(logits)
	for i := 0; i < n; {
		j := next(i, n)
		d := room(&out, dst[i:j])
		x := logits[i:j]
		f := fac[:j-i]
		if softcap > 0 {
			softcapFactor(f, x, softcap)
		}
		expLinearRow(d, x, lse, a, -dentropy)
		if i <= target && target < j {
			d[target-i] += dlogp
		}
		if softcap > 0 {
			mulRow(d, d, f)
		}
		store(dst[i:j], d)
		i = j
	}
}

// Softcap is cap·tanh(x/cap). dst may be x.
func Softcap(dst, x []float32, cap float32) {
	scaleRow(dst, x, 1/cap)
	tanhRow(dst, dst)
	scaleRow(dst, dst, cap)
}

// softcapFactor is the derivative of Softcap from its result: 1 - (y/cap)².
func softcapFactor(f, y []float32, cap float32) {
	mulRow(f, y, y)
	scaleRow(f, f, -1/(cap*cap))
	addScalarRow(f, f, 1)
}

// expLinearRowPortable is d = exp(x-m)(a + b(x-m)), 0 where x is -Inf.
func expLinearRowPortable(d, x []float32, m, a, b float32) {
	x = x[:len(d)]
	for i := range d {
		t := max(float64(x[i])-float64(m), -1e30)
		d[i] = float32(exp64(t) * (float64(a) + float64(b)*t))
	}
}
