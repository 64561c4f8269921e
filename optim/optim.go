// Package optim holds optimisers as graph operations on parameters, and learning-rate schedules as functions of the step.
package optim

import (
	"math"

	"danlu/dtype"
	"danlu/graph"
)

// Optimizer adds one update of parameters to a graph: it declares the states that it needs beside them and says what
// all hold afterwards. lr, scale (multiplies the gradients) and step (from 1) are float32 scalars.
type Optimizer interface {
	Update(g *graph.Graph, params, grads []*graph.Value, lr, scale, step *graph.Value)
}

// spec is a parameter's description.
func spec(p *graph.Value) *graph.StateSpec { return p.Node.Op.(graph.State).StateSpec }

// isMatrix reports whether the parts of a parameter have two or more axes: only those decay unless told otherwise.
func isMatrix(p *graph.Value) bool { return len(spec(p).PartType().Shape) >= 2 }

// moment declares a state like parameter p under prefix, with some of p's axes of size one: p's shape where size is nil.
func moment(g *graph.Graph, prefix string, p *graph.Value, shape []int) *graph.Value {
	s := *spec(p)
	s.Label, s.Role, s.Init = prefix+s.Label, graph.OptState, graph.Init{}
	if shape == nil {
		shape = s.Type.Shape
	} else if s.Axes != nil {
		s.Axes = make([]string, len(shape))
	}
	s.Type = graph.Of(dtype.F32, shape...)
	return g.State(s)
}

// decayRate is the weight decay of a parameter.
func decayRate(rate float64, all bool, p *graph.Value) float64 {
	if all || isMatrix(p) {
		return rate
	}
	return 0
}

// AdamW is Adam with decoupled weight decay (arXiv:1711.05101).
type AdamW struct {
	Beta1, Beta2, Eps, WeightDecay float64
	DecayAll                       bool // vectors decay too
}

// Update implements Optimizer.
func (o AdamW) Update(g *graph.Graph, params, grads []*graph.Value, lr, scale, step *graph.Value) {
	for i, p := range params {
		m, v := moment(g, "adam_m.", p, nil), moment(g, "adam_v.", p, nil)
		op := graph.AdamW{Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, WeightDecay: decayRate(o.WeightDecay, o.DecayAll, p)}
		out := graph.Apply(op, p, grads[i], m, v, lr, scale, step)
		g.Update(p, out[0])
		g.Update(m, out[1])
		g.Update(v, out[2])
	}
}

// Adam is Adam whose weight decay is part of the gradient (arXiv:1412.6980).
type Adam struct {
	Beta1, Beta2, Eps, WeightDecay float64
	DecayAll                       bool
}

// Update implements Optimizer.
func (o Adam) Update(g *graph.Graph, params, grads []*graph.Value, lr, scale, step *graph.Value) {
	one := g.Scalar(1)
	for i, p := range params {
		m, v := moment(g, "adam_m.", p, nil), moment(g, "adam_v.", p, nil)
		d := graph.Mul(grads[i], scale)
		if wd := decayRate(o.WeightDecay, o.DecayAll, p); wd != 0 {
			d = graph.Add(d, graph.MulScalar(p, wd))
		}
		out := graph.Apply(graph.AdamW{Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps}, p, d, m, v, lr, one, step)
		g.Update(p, out[0])
		g.Update(m, out[1])
		g.Update(v, out[2])
	}
}

// SGD is gradient descent with momentum.
type SGD struct {
	Momentum, WeightDecay float64
	Nesterov              bool
	DecayAll              bool
}

// Update implements Optimizer.
func (o SGD) Update(g *graph.Graph, params, grads []*graph.Value, lr, scale, _ *graph.Value) {
	for i, p := range params {
		d := graph.Mul(grads[i], scale)
		if wd := decayRate(o.WeightDecay, o.DecayAll, p); wd != 0 {
			d = graph.Add(d, graph.MulScalar(p, wd))
		}
		if o.Momentum != 0 {
			buf := moment(g, "momentum.", p, nil)
			next := graph.Add(graph.MulScalar(buf, o.Momentum), d)
			g.Update(buf, next)
			if o.Nesterov {
				d = graph.Add(d, graph.MulScalar(next, o.Momentum))
			} else {
				d = next
			}
		}
		g.Update(p, graph.Sub(p, graph.Mul(d, lr)))
	}
}

// part sums over the axes of each part of a stacked value, kept at size one.
type partwise struct {
	stack int // leading axes that number parts
	n     int // elements of a part
}

func of(p *graph.Value) partwise {
	return partwise{stack: len(spec(p).Stack), n: spec(p).PartType().Len()}
}

func (w partwise) axes(x *graph.Value) []int {
	var axes []int
	for i := w.stack; i < x.Rank(); i++ {
		axes = append(axes, i)
	}
	return axes
}

// rms is the root mean square of each part.
func (w partwise) rms(x *graph.Value) *graph.Value {
	squares := graph.Mul(x, x)
	if axes := w.axes(x); len(axes) > 0 {
		squares = graph.SumKeep(squares, axes...)
	}
	return graph.Sqrt(graph.MulScalar(squares, 1/float64(w.n)))
}

// norm is the Euclidean norm of each part.
func (w partwise) norm(x *graph.Value) *graph.Value {
	return graph.Sqrt(graph.SumKeep(graph.Mul(x, x), w.axes(x)...))
}

// Adafactor keeps row and column means of the squared gradient instead of all of them (arXiv:1804.04235), in the form of
// torch.optim.Adafactor, or of transformers' class of that name with a given learning rate (HF).
type Adafactor struct {
	HF            bool
	Decay         float64 // exponent of the second moment's rate: -0.8
	Eps1, Eps2    float64
	ClipThreshold float64 // of the update's root mean square: 1
	WeightDecay   float64
	DecayAll      bool
}

// Float32Eps is torch.finfo(torch.float32).eps, Adafactor's default Eps1 in PyTorch.
const Float32Eps = 0x1p-23

// Update implements Optimizer.
func (o Adafactor) Update(g *graph.Graph, params, grads []*graph.Value, lr, scale, step *graph.Value) {
	fresh := graph.Pow(step, graph.ConstLike(step, o.Decay)) // weight of the new squares
	for i, p := range params {
		w, d := of(p), graph.Mul(grads[i], scale)
		squares := graph.Mul(d, d)
		if o.HF {
			squares = graph.AddScalar(squares, o.Eps1)
		}
		mix := func(state, value *graph.Value) *graph.Value {
			next := graph.Add(state, graph.Mul(graph.Sub(value, state), fresh))
			g.Update(state, next)
			return next
		}
		var variance *graph.Value
		if isMatrix(p) {
			r := p.Rank()
			row, col := graph.MeanKeep(squares, r-1), graph.MeanKeep(squares, r-2)
			row = mix(moment(g, "adafactor_row.", p, row.Shape), row)
			col = mix(moment(g, "adafactor_col.", p, col.Shape), col)
			mean := graph.MeanKeep(row, r-2)
			if !o.HF {
				mean = graph.Max(mean, graph.ConstLike(mean, o.Eps1))
			}
			variance = graph.Div(graph.Mul(row, col), mean)
		} else {
			variance = mix(moment(g, "adafactor_v.", p, nil), squares)
		}
		if !o.HF {
			variance = graph.Max(variance, graph.ConstLike(variance, o.Eps1*o.Eps1))
		}
		update := graph.Mul(graph.Rsqrt(variance), d)
		clip := graph.MulScalar(w.rms(update), 1/o.ClipThreshold)
		update = graph.Div(update, graph.Max(clip, graph.ConstLike(clip, 1)))
		rate := lr
		if !o.HF {
			size := w.rms(p)
			rate = graph.Mul(graph.Max(size, graph.ConstLike(size, o.Eps2)), graph.Min(lr, graph.Rsqrt(step)))
		}
		next := p
		if wd := decayRate(o.WeightDecay, o.DecayAll, p); wd != 0 {
			next = graph.Sub(p, graph.Mul(p, graph.MulScalar(lr, wd)))
		}
		g.Update(p, graph.Sub(next, graph.Mul(update, rate)))
	}
}

// Muon orthogonalises the momentum of matrices by Newton-Schulz iterations (Jordan, "Muon: an optimizer for hidden
// layers", 2024), and leaves the other parameters to Others.
type Muon struct {
	Momentum, Eps, WeightDecay float64
	Nesterov                   bool
	// MatchRMS scales updates to the size of AdamW's, 0.2·sqrt(max(rows, columns)), so that both take one learning rate
	// (Moonlight, arXiv:2502.16982 section 2.2); otherwise they are scaled by sqrt(max(1, rows/columns)).
	MatchRMS bool
	// Takes reports whether a parameter is Muon's; nil: parameters with two axes.
	Takes  func(spec *graph.StateSpec) bool
	Others Optimizer
}

// Update implements Optimizer.
func (o Muon) Update(g *graph.Graph, params, grads []*graph.Value, lr, scale, step *graph.Value) {
	var others, otherGrads []*graph.Value
	for i, p := range params {
		s := spec(p)
		if takes := len(s.PartType().Shape) == 2 && (o.Takes == nil || o.Takes(s)); !takes {
			others, otherGrads = append(others, p), append(otherGrads, grads[i])
			continue
		}
		d := graph.Mul(grads[i], scale)
		buf := moment(g, "muon.", p, nil)
		next := graph.Add(graph.MulScalar(buf, o.Momentum), graph.MulScalar(d, 1-o.Momentum))
		g.Update(buf, next)
		if o.Nesterov {
			next = graph.Add(graph.MulScalar(d, 1-o.Momentum), graph.MulScalar(next, o.Momentum))
		}
		shape := s.PartType().Shape
		rate := math.Sqrt(max(1, float64(shape[0])/float64(shape[1])))
		if o.MatchRMS {
			rate = 0.2 * math.Sqrt(float64(max(shape[0], shape[1])))
		}
		decayed := graph.Sub(p, graph.Mul(p, graph.MulScalar(lr, o.WeightDecay)))
		g.Update(p, graph.Sub(decayed, graph.Mul(orthogonal(next, of(p), o.Eps), graph.MulScalar(lr, rate))))
	}
	if len(others) > 0 {
		if o.Others == nil {
			graph.Failf("muon: %s is no matrix and no other optimiser is given", spec(others[0]).Label)
		}
		o.Others.Update(g, others, otherGrads, lr, scale, step)
	}
}

// orthogonal brings the singular values of each matrix near one, by five steps of the quintic iteration.
func orthogonal(x *graph.Value, w partwise, eps float64) *graph.Value {
	const a, b, c = 3.4445, -4.775, 2.0315
	r := x.Rank()
	tall := x.Shape[r-2] > x.Shape[r-1]
	perm := make([]int, r)
	for i := range perm {
		perm[i] = i
	}
	perm[r-2], perm[r-1] = r-1, r-2
	if tall {
		x = graph.Permute(x, perm...)
	}
	norm := w.norm(x)
	x = graph.Div(x, graph.Max(norm, graph.ConstLike(norm, eps)))
	for range 5 {
		gram := graph.Dot(x, x, false, true, dtype.F32)
		poly := graph.Add(graph.MulScalar(gram, b), graph.MulScalar(graph.Dot(gram, gram, false, false, dtype.F32), c))
		x = graph.Add(graph.MulScalar(x, a), graph.Dot(poly, x, false, false, dtype.F32))
	}
	if tall {
		x = graph.Permute(x, perm...)
	}
	return x
}

// ClipScale is the factor that brings gradients of global norm (the root of graph.Squares) below limit, as PyTorch's
// clip_grad_norm_ computes it: min(1, limit/(norm+1e-6)); limit 0 does not clip.
func ClipScale(norm *graph.Value, limit float64) *graph.Value {
	one := graph.ConstLike(norm, 1)
	if limit == 0 {
		return one
	}
	return graph.Min(one, graph.Div(graph.ConstLike(norm, limit), graph.AddScalar(norm, 1e-6)))
}
