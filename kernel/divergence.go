package kernel

// Divergence compares two next-token distributions given as rows of logits, in nats: KL(teacher‖student) for beta 0,
// KL(student‖teacher) for 1, in between beta·KL(teacher‖m) + (1-beta)·KL(student‖m) with m = beta·teacher +
// (1-beta)·student. The rows become log-probabilities.
func Divergence(student, teacher []float32, beta float32) float32 {
	logSoftmax(student)
	logSoftmax(teacher)
	var p, q, m block
	sum := 0.0
	for i := 0; i < len(student); {
		j := next(i, len(student))
		ls, lt := student[i:j], teacher[i:j]
		switch beta {
		case 0:
			sum += divergenceSum(exps(&p, lt), lt, ls)
		case 1:
			sum += divergenceSum(exps(&q, ls), ls, lt)
		default:
			t, s := exps(&p, lt), exps(&q, ls)
			lm := logMix(m[:j-i], t, s, beta)
			sum += float64(beta)*divergenceSum(t, lt, lm) + float64(1-beta)*divergenceSum(s, ls, lm)
		}
		i = j
	}
	return float32(sum)
}

// DivergenceGrad is the gradient of Divergence by the student's logits times d, which takes their place; the teacher's
// become log-probabilities. For a divergence whose derivative by the student's probabilities is f, it is s·(f - Σ s·f).
func DivergenceGrad(student, teacher []float32, beta, d float32) {
	logSoftmax(student)
	logSoftmax(teacher)
	var p, q, m block
	mean := float32(0)
	if beta != 0 {
		sum := 0.0
		for i := 0; i < len(student); {
			j := next(i, len(student))
			ls, lt := student[i:j], teacher[i:j]
			s, other := exps(&q, ls), lt
			if beta != 1 {
				other = logMix(m[:j-i], exps(&p, lt), s, beta)
			}
			sum += divergenceSum(s, ls, other)
			i = j
		}
		mean = float32(sum)
	}
	scale := d
	if beta != 0 && beta != 1 {
		scale *= 1 - beta // the mixture's own terms cancel, since it adds up to one
	}
	for i := 0; i < len(student); {
		j := next(i, len(student))
		ls, lt := student[i:j], teacher[i:j]
		s := exps(&q, ls)
		switch beta {
		case 0:
			for k, t := range exps(&p, lt) {
				ls[k] = (s[k] - t) * scale
			}
		case 1:
			weighDifference(ls, s, lt, mean, scale)
		default:
			weighDifference(ls, s, logMix(m[:j-i], exps(&p, lt), s, beta), mean, scale)
		}
		i = j
	}
}

// weighDifference sets a to p·(a - b - mean)·scale, 0 where p is 0.
func weighDifference(a, p, b []float32, mean, scale float32) {
	for k := range a {
		if p[k] == 0 {
			a[k] = 0
		} else {
			a[k] = p[k] * (a[k] - b[k] - mean) * scale
		}
	}
}

// divergenceSum is Σ p·(logp - logq), where terms with p = 0 are 0.
func divergenceSum(p, logp, logq []float32) (sum float64) {
	for k, x := range p {
		if x != 0 {
			sum += float64(x) * (float64(logp[k]) - float64(logq[k]))
		}
	}
	return sum
}

func exps(buf *block, x []float32) []float32 {
	d := buf[:len(x)]
	expRow(d, x)
	return d
}

// logMix is log(beta·p + (1-beta)·q).
func logMix(d, p, q []float32, beta float32) []float32 {
	for k := range d {
		d[k] = beta*p[k] + (1-beta)*q[k]
	}
	logRow(d, d)
	return d
}

// logSoftmax turns a row of logits into log-probabilities.
func logSoftmax(x []float32) {
	addScalarRow(x, x, -LogSumExp(x))
}
