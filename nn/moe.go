package nn

import (
	"math"

	"danlu/dtype"
	"danlu/graph"
)

// Routing is a router's choice for N tokens.
type Routing struct {
	IDs     *graph.Value // [N, K] int32: experts of each token
	Weights *graph.Value // [N, K] float32
	Scores  *graph.Value // [N, E] float32: all probabilities or sigmoids, for balance losses
}

// SoftmaxRouting takes the K most probable experts (Qwen-MoE); renormalise makes their weights add up to one.
func SoftmaxRouting(logits *graph.Value, k int, renormalise bool) Routing {
	p := graph.SoftmaxOf(logits)
	w, ids := graph.Top(p, k)
	if renormalise {
		w = graph.Div(w, graph.SumKeep(w, -1))
	}
	return Routing{IDs: ids, Weights: w, Scores: p}
}

// TopSoftmaxRouting takes the K largest logits and the softmax among them (Mixtral).
func TopSoftmaxRouting(logits *graph.Value, k int) Routing {
	best, ids := graph.Top(logits, k)
	return Routing{IDs: ids, Weights: graph.SoftmaxOf(best), Scores: graph.SoftmaxOf(logits)}
}

// GroupGreedyRouting is DeepSeek-V2's (arXiv:2405.04434, section 2.2.2): the K most probable experts among the best
// groups, where a group counts as its best expert. Weights are the bare probabilities times scale.
func GroupGreedyRouting(logits *graph.Value, k, groups, topGroups int, scale float64) Routing {
	p := graph.SoftmaxOf(logits)
	_, ids := graph.Top(bestGroups(graph.NoGrad(p), groups, topGroups, 1), k)
	return Routing{IDs: ids, Weights: graph.MulScalar(graph.Take(p, ids), scale), Scores: p}
}

// bestGroups keeps the choice values [N, E] of the experts in the best groups, of which each counts as the sum of its
// best members; the others become -Inf.
func bestGroups(choice *graph.Value, groups, topGroups, members int) *graph.Value {
	n, e := choice.Shape[0], choice.Last()
	grouped := graph.ReshapeTo(choice, n, groups, e/groups)
	best, _ := graph.Top(grouped, members)
	_, kept := graph.Top(graph.Sum(best, -1), topGroups) // [N, TopGroups]
	group := choice.Graph().Count(graph.Of(dtype.I32, 1, 1, groups), 2)
	hit := graph.Convert(graph.Equal(graph.ReshapeTo(kept, n, topGroups, 1), group), dtype.F32)
	in := graph.Greater(graph.ReshapeTo(graph.MaxOf(hit, 1), n, groups, 1), graph.ConstLike(hit, 0))
	// Experts of other groups must lose against any score, however negative a bias makes it.
	return graph.ReshapeTo(graph.Where(in, grouped, graph.ConstLike(grouped, math.Inf(-1))), n, e)
}

// GroupLimited is DeepSeek-V3's routing (arXiv:2412.19437, section 2.1.2): experts are chosen by sigmoid score plus a
// bias [E], among the best TopGroups of Groups groups (a group counts as its two best experts); weights are the bare
// scores, normalised and scaled.
type GroupLimited struct {
	K, Groups, TopGroups int
	Normalise            bool
	Scale                float64
}

// Route chooses from logits [N, E].
func (r GroupLimited) Route(logits, bias *graph.Value) Routing {
	scores := graph.Sigmoid(logits)
	choice := graph.NoGrad(graph.Add(scores, bias))
	if r.TopGroups < r.Groups {
		choice = bestGroups(choice, r.Groups, r.TopGroups, 2)
	}
	_, ids := graph.Top(choice, r.K)
	w := graph.Take(scores, ids)
	if r.Normalise {
		w = graph.Div(w, graph.AddScalar(graph.SumKeep(w, -1), 1e-20))
	}
	return Routing{IDs: ids, Weights: graph.MulScalar(w, r.Scale), Scores: scores}
}

// Experts are gated MLPs of which each token uses the routed ones; no token is dropped. Parameters are
// Name.%d.gate_proj.weight and so on.
type Experts struct {
	Name       string // "mlp.experts"
	N          int    // E
	Size       int    // F of each
	Activation graph.ActivationKind
	Std        float64
}

// Build adds the experts: x [N, D] → the weighted sum of the routed experts' results [N, D] in the residual type.
func (p Experts) Build(b *Build, l *graph.Graph, x *graph.Value, r Routing) *graph.Value {
	n, d, k := x.Shape[0], x.Last(), r.IDs.Last()
	grouped := graph.Apply(graph.GroupRows{Experts: p.N}, r.IDs)
	order, offsets := grouped[0], grouped[1]
	// The order holds -1 behind the real rows of a run: those read row 0 and are added nowhere.
	zero := graph.ConstLike(order, 0)
	token := graph.Where(graph.Less(order, zero), graph.ConstLike(order, -1), graph.Div(order, graph.ConstLike(order, float64(k))))
	rows := graph.Rows(x, graph.Max(token, zero)) // [N·K, D]
	linear := func(x *graph.Value, name string, out, in int, axes ...string) *graph.Value {
		spec := b.weightSpec(p.Name+".%d."+name+weightSuffix, graph.Init{Std: p.Std}, append([]string{"experts"}, axes...), p.N, out, in)
		spec.Stack = []graph.Range{{First: 0, Count: p.N}}
		return b.grouped(l, b.module(l, ExpertModule, spec), x, offsets)
	}
	y := graph.Gated(linear(rows, "gate_proj", p.Size, d, "mlp", "embed"), linear(rows, "up_proj", p.Size, d, "mlp", "embed"), p.Activation)
	y = linear(y, "down_proj", d, p.Size, "embed", "mlp")
	share := graph.Rows(graph.ReshapeTo(r.Weights, n*k), graph.Max(order, zero))
	y = graph.Mul(graph.Convert(y, dtype.F32), graph.ReshapeTo(share, n*k, 1))
	empty := graph.Of(dtype.F32, n, d)
	empty.Rows = x.Rows
	sum := graph.AddRows(graph.Zeros(l, empty), token, y)
	return graph.Convert(sum, b.Policy.Residual)
}

// Router is the projection to expert logits, in float32: x [N, D] → [N, E].
func (b *Build) Router(l *graph.Graph, name string, x *graph.Value, experts int, std float64) *graph.Value {
	w := b.Weight(l, name+".weight", graph.Init{Std: std}, []string{"", "embed"}, experts, x.Last())
	return graph.Project(graph.Convert(x, dtype.F32), w, nil, dtype.F32, dtype.F32)
}

// Routed notes the choices of a sparse layer whose router is called name, in a run of layers that starts at first: as
// outputs where taps are asked for, and in the build's Balance.
func (b *Build) Routed(l *graph.Graph, name string, first int, logits *graph.Value, r Routing) {
	if b.Taps {
		l.OutputFrom("router_logits.%d", first, logits)
		l.OutputFrom("router_topk_ids.%d", first, r.IDs)
		l.OutputFrom("router_topk_weights.%d", first, r.Weights)
	}
	if b.Balance != nil {
		b.Balance.add(l, name, first, b.Mask.Segments, r)
	}
}
