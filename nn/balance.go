package nn

import (
	"danlu/dtype"
	"danlu/graph"
)

// ExpertLoad counts how often each of E experts was chosen: ids [N, K] → [E] float32. weights [N], which may be nil,
// says how much a token counts.
func ExpertLoad(ids *graph.Value, experts int, weights *graph.Value) *graph.Value {
	n, k := ids.Shape[0], ids.Last()
	flat := graph.ReshapeTo(ids, n*k)
	each := graph.Convert(graph.GreaterEqual(flat, graph.ConstLike(flat, 0)), dtype.F32)
	if weights != nil {
		each = graph.ReshapeTo(graph.BroadcastTo(graph.ReshapeTo(weights, n, 1), n, k), n*k)
	}
	return graph.AddRows(graph.Zeros(ids.Graph(), graph.Of(dtype.F32, experts)), flat, each)
}

// Balance gathers what the routers of a model choose, layer after layer.
type Balance struct {
	experts int
	prefix  string         // of the layers being built
	sums    []*graph.Value // carried from layer to layer: load [E], probability [E], tokens, sequence-wise losses
}

// LoadPrefix starts the names of outputs that hold how often each expert of a router was chosen [E]; the router's name
// follows.
const LoadPrefix = "expert_load."

// GatherBalance makes the build gather the choices of routers over so many experts. It is to be called before the
// layers are built.
func (b *Build) GatherBalance(experts int) {
	zero := func(shape ...int) *graph.Value { return graph.Zeros(b.G, graph.Of(dtype.F32, shape...)) }
	b.Balance = &Balance{experts: experts, sums: []*graph.Value{zero(experts), zero(experts), zero(), zero()}}
}

// carried are the sums so far.
func (s *Balance) carried() []*graph.Value {
	if s == nil {
		return nil
	}
	return s.sums
}

// carry goes on with sums as they arrive in a layer, or behind the last one.
func (s *Balance) carry(prefix string, sums []*graph.Value) {
	if s != nil {
		s.prefix, s.sums = prefix, sums
	}
}

// add takes in a layer's choices. Padding does not count.
func (s *Balance) add(l *graph.Graph, name string, first int, segments *graph.Value, r Routing) {
	n := r.Scores.Shape[0]
	mask := graph.Convert(graph.GreaterEqual(graph.ReshapeTo(segments, n), graph.ConstLike(segments, 0)), dtype.F32)
	load := ExpertLoad(r.IDs, s.experts, mask)
	l.OutputFrom(LoadPrefix+s.prefix+name, first, load)
	shares := graph.Div(r.Scores, graph.SumKeep(r.Scores, -1)) // sigmoids do not add up to one
	probability := graph.Sum(graph.Mul(shares, graph.ReshapeTo(mask, n, 1)), 0)
	each := []*graph.Value{load, probability, graph.Sum(mask), graph.Sum(SequenceBalanceLoss(r, segments.Shape[0]))}
	sums := make([]*graph.Value, len(each))
	for i, x := range each {
		sums[i] = graph.Add(s.sums[i], x)
	}
	s.sums = sums
}

// Loss is BalanceLoss over all layers that were built, a scalar.
func (s *Balance) Loss() *graph.Value { return switchLoss(s.sums[0], s.sums[1], s.sums[2]) }

// SequenceLoss is the sum over layers of the mean over the build's sequences of SequenceBalanceLoss, a scalar.
func (s *Balance) SequenceLoss(sequences int) *graph.Value {
	return graph.MulScalar(s.sums[3], 1/float64(sequences))
}

// switchLoss is E · Σ_e f_e · P_e from sums over tokens.
func switchLoss(load, probability, tokens *graph.Value) *graph.Value {
	tokens = graph.Max(tokens, graph.ConstLike(tokens, 1))
	shares := graph.Mul(graph.NoGrad(graph.Div(load, tokens)), graph.Div(probability, tokens))
	return graph.MulScalar(graph.Sum(shares), float64(load.Len()))
}

// BalanceLoss is the Switch loss in Mixtral's form (arXiv:2101.03961, section 2.2): E · Σ_e f_e · P_e over the tokens of
// all layers together, f_e the choices of expert e per token (they add up to K, without gradient) and P_e the mean
// probability. mask [N], which may be nil, is 1 for tokens that count. A scalar.
func BalanceLoss(layers []Routing, mask *graph.Value) *graph.Value {
	var load, probability, tokens *graph.Value
	add := func(sum **graph.Value, x *graph.Value) {
		if *sum != nil {
			x = graph.Add(*sum, x)
		}
		*sum = x
	}
	e := layers[0].Scores.Last()
	for _, r := range layers {
		p := r.Scores
		m := mask
		if m == nil {
			m = graph.ConstLike(graph.ReshapeTo(graph.Cut(p, 1, 0, 1), p.Shape[0]), 1)
			m = graph.BroadcastTo(m, p.Shape[0])
		}
		add(&load, ExpertLoad(r.IDs, e, m))
		add(&probability, graph.Sum(graph.Mul(p, graph.ReshapeTo(m, p.Shape[0], 1)), 0))
		add(&tokens, graph.Sum(m))
	}
	return switchLoss(load, probability, tokens)
}

// RouterZLoss is the mean over tokens of the squared logsumexp of router logits [N, E] (ST-MoE, arXiv:2202.08906,
// equation 5), which keeps them small. A scalar.
func RouterZLoss(logits *graph.Value) *graph.Value {
	top := graph.NoGrad(graph.MaxOf(logits, -1))
	lse := graph.Add(top, graph.Log(graph.SumKeep(graph.Exp(graph.Sub(logits, top)), -1)))
	return graph.MulScalar(graph.Sum(graph.Mul(lse, lse)), 1/float64(logits.Shape[0]))
}

// SequenceBalanceLoss is DeepSeek-V3's (arXiv:2412.19437, equations 17 to 20) for B sequences of T tokens:
// Σ_e f_e · P_e of each sequence [B], f_e = E/(K·T) times the choices of e without gradient, P_e the mean of an expert's
// share of all scores. Scores are [B·T, E], ids [B·T, K].
func SequenceBalanceLoss(r Routing, sequences int) *graph.Value {
	n, e, k := r.Scores.Shape[0], r.Scores.Last(), r.IDs.Last()
	t := n / sequences
	share := graph.Div(r.Scores, graph.SumKeep(r.Scores, -1))
	mean := graph.MulScalar(graph.Sum(graph.ReshapeTo(share, sequences, t, e), 1), 1/float64(t)) // [B, E]
	// One table of counts holds the experts of all sequences, one after the other.
	row := r.IDs.Graph().Count(graph.Of(dtype.I32, sequences, t*k), 0)
	ids := graph.Add(graph.ReshapeTo(r.IDs, sequences, t*k), graph.MulScalar(row, float64(e)))
	load := graph.ReshapeTo(ExpertLoad(graph.ReshapeTo(ids, n, k), sequences*e, nil), sequences, e)
	return graph.Sum(graph.Mul(graph.NoGrad(graph.MulScalar(load, float64(e)/float64(k*t))), mean), 1)
}

// BalancedBias moves a router's bias [E] by speed towards the experts that were chosen less than the mean of load [E]
// (auxiliary-loss-free balancing, arXiv:2408.15664).
func BalancedBias(bias, load *graph.Value, speed float64) *graph.Value {
	under := graph.Sub(graph.MeanKeep(load), load)
	return graph.Add(bias, graph.MulScalar(graph.Sign(under), speed))
}

// Violation is how far the busiest expert's load is above the mean, as a share of the mean (the same paper's MaxVio).
func Violation(load *graph.Value) *graph.Value {
	mean := graph.MeanKeep(load)
	return graph.ReshapeTo(graph.AddScalar(graph.Div(graph.MaxOf(load), mean), -1))
}

// KeptWithin says which choices [N, K] an expert of limited capacity takes, token by token and choice by choice: 1 for
// the first so many of each expert, else 0.
func KeptWithin(ids *graph.Value, experts, capacity int) *graph.Value {
	n, k := ids.Shape[0], ids.Last()
	row := ids.Graph().Count(graph.Of(dtype.I32, experts, 1), 0)
	hot := graph.Convert(graph.Equal(graph.ReshapeTo(ids, 1, n*k), row), dtype.F32)
	so := graph.Apply(graph.CumSum{}, hot)[0]
	place := graph.Sum(graph.Mul(so, hot), 0) // from 1, among the choices of the same expert
	return graph.ReshapeTo(graph.Convert(graph.LessEqual(place, graph.ConstLike(place, float64(capacity))), dtype.F32), n, k)
}
