package train

import (
	"context"
	"math"

	"danlu/data"
	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/tensor"
)

// Whole reports whether steps of one batch run as one program, through [Stepper.Step].
func (s *Stepper) Whole() bool {
	w, ok := s.c.Engine.(engine.Whole)
	return ok && w.WholeSteps() && s.c.Updater != nil && !s.c.Accumulates && s.c.BiasSpeed == 0
}

// Update is what a step's update is made with.
type Update struct {
	Rate    float64
	MaxNorm float64 // gradients are clipped to it; 0: not
	Step    int64   // from 1
}

// Step computes the gradients of a batch and updates the parameters with them in one program. Where loss or norm is not
// finite, nothing is updated; norm says so.
func (s *Stepper) Step(ctx context.Context, x *data.Batch, norm float64, u Update) (values map[string]float64, gradNorm float64, err error) {
	s.loads = loads{}
	if x, err = s.local(x); err != nil {
		return nil, 0, err
	}
	k := shapeOf(x)
	k.first, k.whole = true, true
	p, err := s.program(k)
	if err != nil {
		return nil, 0, err
	}
	one := func(x float64) *tensor.Tensor { return tensor.FromF32([]float32{float32(x)}) }
	in := inputs(x, norm)
	in["random"], in["lr"], in["max_norm"], in["step"] = s.random(), one(u.Rate), one(u.MaxNorm), one(float64(u.Step))
	out, err := p.Run(ctx, in)
	if err != nil {
		return nil, 0, err
	}
	for name, t := range out {
		s.loads.add(name, t)
	}
	values = report(out)
	squares := values[squaresOutput]
	delete(values, squaresOutput)
	return values, math.Sqrt(squares), nil
}

// squaresOutput is the square of the gradients' norm.
const squaresOutput = "gradient squares"

// finish adds to a program for gradients what makes it a whole step: their norm, clipping and the update, which is left
// out where the loss or the norm is not finite.
func (s *Stepper) finish(g *graph.Graph, loss *graph.Value, params, grads []*graph.Value) {
	squares := graph.Squares(grads...)
	g.Output(squaresOutput, squares)
	scalar := func(name string) *graph.Value { return g.Input(name, graph.Of(dtype.F32)) }
	limit := scalar("max_norm")
	one := g.Scalar(1)
	clipped := graph.Min(one, graph.Div(limit, graph.AddScalar(graph.Sqrt(squares), 1e-6)))
	scale := graph.Where(graph.Greater(limit, g.Scalar(0)), clipped, one)
	bad := graph.Add(squares, graph.Convert(loss, dtype.F32)) // infinite or NaN if either is
	good := graph.Equal(graph.Sub(bad, bad), g.Scalar(0))
	before := len(g.Updates)
	s.c.Updater.Update(g, params, grads, scalar("lr"), scale, scalar("step"))
	for i := before; i < len(g.Updates); i++ {
		u := &g.Updates[i]
		u.Value = graph.Where(good, u.Value, u.State)
	}
}
