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

// LogProb scores one row of logits: the logsumexp, the target's log-probability and, when asked, the entropy of the
// distribution in nats (else 0). A negative target is not scored: logp is 0.
func LogProb(logits []float32, target int, withEntropy bool) (logp, lse, entropy float32) {
	m := Max(logits)
	if math.IsInf(float64(m), 0) || m != m {
		lse = m
	} else {
		s := expSumRow(logits, m)
		lse = m + log32(s)
		if withEntropy {
			entropy = log32(s) - expMomentRow(logits, m)/s
		}
	}
	if target >= 0 {
		logp = logits[target] - lse
	}
	return logp, lse, entropy
}

// LogProbGrad is the gradient of LogProb by the logits: with p = exp(logits - lse),
//
//	dst = dlogp (onehot(target) - p) + dlse p - dentropy p (logits - lse + entropy)
//
// (the part of dlogp only when target >= 0). With softcap > 0 the logits are softcap·tanh(raw/softcap) and the gradient is
// by raw. Cross-entropy with weight g and z-loss z·lse² is dlogp = -g, dlse = 2·z·lse. dst may be logits.
func LogProbGrad[Y Elem](dst []Y, logits []float32, target int, lse, dlogp, dlse, dentropy, entropy, softcap float32) {
	a := dlse - dentropy*entropy
	if target >= 0 {
		a -= dlogp
	}
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
