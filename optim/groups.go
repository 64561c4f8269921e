package optim

import "danlu/graph"

// Groups gives parameters learning rates of their own: each is updated by Optimizer at the rate times its factor.
type Groups struct {
	Optimizer
	Factor func(spec *graph.StateSpec) float64
}

// Update implements Optimizer.
func (o Groups) Update(g *graph.Graph, params, grads []*graph.Value, lr, scale, step *graph.Value) {
	var factors []float64
	group := map[float64][]int{}
	for i, p := range params {
		f := o.Factor(spec(p))
		if group[f] == nil {
			factors = append(factors, f)
		}
		group[f] = append(group[f], i)
	}
	for _, f := range factors {
		var ps, ds []*graph.Value
		for _, i := range group[f] {
			ps, ds = append(ps, params[i]), append(ds, grads[i])
		}
		rate := lr
		if f != 1 {
			rate = graph.MulScalar(lr, f)
		}
		o.Optimizer.Update(g, ps, ds, rate, scale, step)
	}
}
