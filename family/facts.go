package family

import (
	"danlu/dtype"
	"danlu/graph"
	"danlu/nn"
)

// Sparse is implemented by families of which each token uses some experts.
type Sparse interface {
	// NumExperts is the number of routed experts of a layer.
	NumExperts() int
	// ActiveExperts is the number of routed experts that one token uses in a layer.
	ActiveExperts() int
}

// Facts are what follows from a model's graph without its weights.
type Facts struct {
	ParamsTotal  int64 // trained values, without those of prediction modules, buffers and copies
	ParamsActive int64 // those that one token uses, embedding and head included
	Largest      int64 // values of the largest tensor
	// KVBytesPerToken is what one token takes in the caches of all layers, with two bytes a value.
	KVBytesPerToken int64
}

// Count measures a model's graphs.
func Count(m Model) (Facts, error) {
	var f Facts
	g, err := graph.Build(func(g *graph.Graph) {
		b := nn.Inputs(g, nn.Float32, m.Info().PositionRows, 1, 3)
		m.Hidden(b)
		m.Head(b)
	})
	if err != nil {
		return f, err
	}
	for _, s := range g.States() {
		spec := s.Node.Op.(graph.State)
		if spec.Role != graph.Param {
			continue
		}
		n := int64(spec.Type.Len())
		f.ParamsTotal += n
		f.Largest = max(f.Largest, n/int64(max(1, spec.Parts())))
		// Experts are the second stacked axis, behind the layers.
		if sparse, ok := m.(Sparse); ok && len(spec.Stack) == 2 {
			n = n / int64(spec.Stack[1].Count) * int64(sparse.ActiveExperts())
		}
		f.ParamsActive += n
	}
	if info := m.Info(); info.CopiedHead {
		head := int64(info.VocabSize) * int64(info.HiddenSize)
		f.ParamsTotal, f.ParamsActive = f.ParamsTotal-head, f.ParamsActive-head
	}
	f.KVBytesPerToken, err = kvBytes(m, dtype.BF16)
	return f, err
}

// kvBytes adds up the caches that a graph for generation declares.
func kvBytes(m Model, store dtype.DType) (int64, error) {
	total := int64(0)
	g, err := graph.Build(func(g *graph.Graph) {
		b, err := nn.CachedInputs(g, nn.Float32, m.Info().PositionRows, 1, 1, 1, graph.CacheSpec{Pages: 1, PageLen: 1, Store: store})
		if err != nil {
			graph.Failf("%v", err)
		}
		if _, ok := m.(Layouter); ok {
			b.Mask.Prefix = g.Input("prefix", graph.Of(dtype.I32, 1))
		}
		m.Hidden(b)
	})
	if err != nil {
		return 0, err
	}
	for _, s := range g.States() {
		if spec := s.Node.Op.(graph.State); spec.Cache != nil {
			total += int64(spec.Type.Len() * spec.Cache.BytesPerToken())
		}
	}
	return total, nil
}
