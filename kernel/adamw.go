package kernel

import "math"

// AdamW is one step of Adam with decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101) as PyTorch computes it.
type AdamW struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	GradScale                          float64 // multiplies gradients (clipping)
	Step                               int     // from 1
}

// adamWConst are the step's constants, in the order that the assembly reads.
type adamWConst struct {
	scale, decay, beta1, omBeta1, beta2, omBeta2, invSqrtBC2, eps, negStep float32
}

func (o AdamW) constants() adamWConst {
	bc1 := 1 - math.Pow(o.Beta1, float64(o.Step))
	bc2 := 1 - math.Pow(o.Beta2, float64(o.Step))
	return adamWConst{
		scale: float32(o.GradScale), decay: float32(1 - o.LR*o.WeightDecay),
		beta1: float32(o.Beta1), omBeta1: float32(1 - o.Beta1), beta2: float32(o.Beta2), omBeta2: float32(1 - o.Beta2),
		invSqrtBC2: float32(1 / math.Sqrt(bc2)), eps: float32(o.Eps), negStep: float32(-o.LR / bc1),
	}
}

// Update does the step on slices of one length:
//
//	p -= LR·WeightDecay·p; m += (1-Beta1)(g-m); v = Beta2·v + (1-Beta2)g²
//	p -= LR/(1-Beta1^Step) · m / (sqrt(v)/sqrt(1-Beta2^Step) + Eps)
func (o AdamW) Update(p, m, v, g []float32) {
	c := o.constants()
	adamWRow(p, m, v, g, &c)
}

// UpdateBF16 is Update with a bfloat16 gradient.
func (o AdamW) UpdateBF16(p, m, v []float32, g []uint16) {
	c := o.constants()
	var b block
	for i := 0; i < len(p); {
		j := next(i, len(p))
		adamWRow(p[i:j], m[i:j], v[i:j], load(&b, g[i:j]), &c)
		i = j
	}
}

func adamWRowPortable(p, m, v, g []float32, c *adamWConst) {
	m, v, g = m[:len(p)], v[:len(p)], g[:len(p)]
	for i := range p {
		gi := g[i] * c.scale
		mi := m[i] + c.omBeta1*(gi-m[i])
		vi := c.beta2*v[i] + c.omBeta2*gi*gi
		m[i], v[i] = mi, vi
		denom := float32(math.Sqrt(float64(vi)))*c.invSqrtBC2 + c.eps
		p[i] = p[i]*c.decay + c.negStep*mi/denom
	}
}
