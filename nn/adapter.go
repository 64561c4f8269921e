package nn

import (
	"slices"
	"strings"

	"danlu/dtype"
	"danlu/graph"
	"danlu/tensor"
)

// Adapter is a trained change of one frozen weight W [Out, In]: W + Scale·B·A with A [R, In] and B [Out, R] (LoRA,
// arXiv:2106.09685). With DoRA (arXiv:2402.09353) each row of that sum is scaled to the length in a trained vector
// [Out]; the length before scaling counts as a constant in the gradient (section 4.3).
type Adapter struct {
	Kind ModuleKind
	// Rank is R as it is stored. Layers that are built as one share the largest; the factors of a lower rank end with
	// zeros, which stay zero while they are trained.
	Rank  int
	Scale float64
	DoRA  bool
	// Members are the adapters of a bank, whose factors lie beside each other along R; nil: one adapter alone.
	Members []Member
}

// Member is one adapter of a bank: its part of the bank's rank, and its own scale.
type Member struct {
	Rank  int
	Scale float64
}

// Adapters are the adapters of a model by the names of their weights. Their parameters have PEFT's names:
// PATH.lora_A.weight, PATH.lora_B.weight, PATH.lora_magnitude_vector, and for embeddings PATH.lora_embedding_A [R, V]
// and PATH.lora_embedding_B [D, R].
type Adapters struct {
	Of      map[string]Adapter
	Dropout float64 // of what goes into A, while training
	// Choice [B, T, K] float32 is 1 for the member that a token takes and 0 for the others, in builds with banks of K.
	Choice *graph.Value
}

// ModuleKind tells what a weight is to its module.
type ModuleKind uint8

// The kinds of modules.
const (
	LinearModule ModuleKind = iota
	ExpertModule            // a linear layer of each expert
	EmbeddingModule
	HeadModule // the output matrix
)

// Module is a part of a model that an adapter can change.
type Module struct {
	Kind    ModuleKind
	Weight  graph.StateSpec // as the outermost graph declares it, [..., Out, In]
	In, Out int
	spec    graph.StateSpec // as it is declared where the module is built
}

// Name is the module's path for part i of its weight.
func (m *Module) Name(i int) string { return strings.TrimSuffix(m.Weight.PartName(i), weightSuffix) }

// path is the module's name where it is built.
func (m *Module) path() string { return strings.TrimSuffix(m.spec.Label, weightSuffix) }

const weightSuffix = ".weight"

// module is the module of a weight. The build's visitor is told of it.
func (b *Build) module(l *graph.Graph, kind ModuleKind, spec graph.StateSpec) *Module {
	r := spec.Type.Rank()
	m := &Module{Kind: kind, Out: spec.Type.Shape[r-2], In: spec.Type.Shape[r-1], Weight: l.Qualified(spec), spec: spec}
	if b.Visit != nil {
		b.Visit(*m)
	}
	return m
}

// adapted is a module's adapter.
type adapted struct {
	rank  int
	scale []float64 // of each part of the weight
	dora  bool
	// members of each part, of banks; choice tells which one a token takes.
	members [][]Member
	choice  *graph.Value
}

// adapter puts the adapters of a module's parts together; ok is false when there are none.
func (b *Build) adapter(m *Module) (a adapted, ok bool) {
	if b.Adapters == nil {
		return a, false
	}
	for i := range m.Weight.Parts() {
		x, ok := b.Adapters.Of[m.Weight.PartName(i)]
		if ok && x.Kind != m.Kind {
			return a, false
		}
		a.rank, a.scale, a.dora = max(a.rank, x.Rank), append(a.scale, x.Scale), a.dora || x.DoRA
		if x.Members != nil {
			a.members, a.choice = append(a.members, x.Members), b.Adapters.Choice
		}
	}
	return a, a.rank > 0
}

// project is x·Wᵀ + bias through the layer's adapter, if it has one.
func (b *Build) project(l *graph.Graph, m *Module, x, bias *graph.Value) *graph.Value {
	w := l.State(m.spec)
	a, ok := b.adapter(m)
	compute, act := b.Policy.Compute, b.Policy.Act
	if !ok {
		return graph.Project(x, w, bias, compute, act)
	}
	low, up := b.factors(l, m, a)
	u := graph.Project(b.dropped(l, x), low, nil, compute, act)
	delta := graph.Project(a.scaled(l, u), up, nil, compute, act)
	if !a.dora {
		return graph.Add(graph.Project(x, w, bias, compute, act), delta)
	}
	y := graph.Convert(graph.Add(graph.Project(x, w, nil, compute, act), delta), dtype.F32)
	y = graph.Mul(y, b.rowScale(l, m, a, w, low, up))
	if bias != nil {
		y = graph.Add(y, graph.Convert(bias, dtype.F32))
	}
	return graph.Convert(y, act)
}

// factors declares A [..., R, In] and B [..., Out, R].
func (b *Build) factors(l *graph.Graph, m *Module, a adapted) (low, up *graph.Value) {
	stack := m.spec.Type.Shape[:len(m.spec.Stack)]
	return b.factor(l, m, "lora_A.weight", append(slices.Clone(stack), a.rank, m.In)...), b.factor(l, m, "lora_B.weight", append(slices.Clone(stack), m.Out, a.rank)...)
}

// factor declares a parameter of an adapter, which is always float32.
func (b *Build) factor(l *graph.Graph, m *Module, name string, shape ...int) *graph.Value {
	return l.State(graph.StateSpec{Label: m.path() + "." + name, Stack: m.spec.Stack, Type: graph.Of(dtype.F32, shape...), Role: graph.Param})
}

// scaled is x times the layer's scale; in banks, times the scale of the member that a token takes and zero elsewhere.
func (a adapted) scaled(l *graph.Graph, x *graph.Value) *graph.Value {
	if a.members != nil {
		return graph.Mul(x, graph.Convert(graph.Project(a.choice, a.spread(l), nil, dtype.F32, dtype.F32), x.DType))
	}
	if !slices.ContainsFunc(a.scale, func(s float64) bool { return s != a.scale[0] }) {
		return graph.MulScalar(x, a.scale[0])
	}
	s := l.Each(func(outer *graph.Graph, n int) *graph.Value {
		perLayer := len(a.scale) / n // experts of one layer have one scale
		scales := make([]float32, n)
		for i := range scales {
			scales[i] = float32(a.scale[i*perLayer])
		}
		return outer.Const(tensor.FromF32(scales, n))
	})
	return graph.Mul(x, graph.Convert(s, x.DType))
}

// spread [R, K] has the scale of each member in its rows of the bank.
func (a adapted) spread(l *graph.Graph) *graph.Value {
	return l.Each(func(outer *graph.Graph, n int) *graph.Value {
		k := len(a.members[0])
		t := tensor.New(dtype.F32, n, a.rank, k)
		for layer := range n {
			at := layer * a.rank * k
			for i, m := range a.members[layer*len(a.members)/n] {
				for range m.Rank {
					t.F32()[at+i] = float32(m.Scale)
					at += k
				}
			}
		}
		return outer.Const(t)
	})
}

// alone refuses a bank where a weight is more than a factor.
func (a adapted) alone(m *Module) {
	if a.members != nil {
		graph.Failf("adapter of %s: this module's adapter cannot be another one for each text; merge it into the model", m.path())
	}
}

// dropped is x with dropout while training.
func (b *Build) dropped(l *graph.Graph, x *graph.Value) *graph.Value {
	if b.Random == nil || b.Adapters.Dropout == 0 {
		return x
	}
	return graph.Drop(x, b.LayerKey(l), b.Adapters.Dropout, 0)
}

// LayerKey is a key for random operations, U32 [2], that is another one at each call and in each layer.
func (b *Build) LayerKey(l *graph.Graph) *graph.Value {
	b.streams++
	return l.Each(func(outer *graph.Graph, n int) *graph.Value {
		return graph.NewRandom(graph.RandomBits, b.Random, b.streams, n, 2)
	})
}

// rowScale is DoRA's factor of each row, the trained length over the length of the row of W + s·B·A [Out], whose square
// is |w|² + 2s·b·(A·w) + s²·b·(A·Aᵀ)·b.
func (b *Build) rowScale(l *graph.Graph, m *Module, a adapted, w, low, up *graph.Value) *graph.Value {
	w, low, up = graph.Convert(w, dtype.F32), graph.NoGrad(low), graph.NoGrad(up)
	rows := func(x, y *graph.Value) *graph.Value { return graph.Sum(graph.Mul(x, y), 1) }
	cross := rows(up, graph.Dot(w, low, false, true, dtype.F32))
	inner := graph.Dot(low, low, false, true, dtype.F32)
	square := rows(up, graph.Dot(up, inner, false, false, dtype.F32))
	norm := graph.Add(rows(w, w), a.scaled(l, graph.Add(graph.MulScalar(cross, 2), a.scaled(l, square))))
	return graph.Div(b.factor(l, m, "lora_magnitude_vector", m.Out), graph.NoGrad(graph.Sqrt(norm)))
}

// effective is W, or the sum that the module's adapter makes of it in float32, for weights that are more than factors.
func (b *Build) effective(l *graph.Graph, m *Module) *graph.Value {
	w := l.State(m.spec)
	a, ok := b.adapter(m)
	if !ok {
		return w
	}
	a.alone(m)
	low, up := b.factors(l, m, a)
	sum := graph.Add(graph.Convert(w, dtype.F32), a.scaled(l, graph.Dot(up, low, false, false, dtype.F32)))
	if a.dora {
		sum = graph.Mul(sum, graph.ReshapeTo(b.rowScale(l, m, a, w, low, up), m.Out, 1))
	}
	return sum
}

// embed looks up ids in a table [V, D] through its adapter, if it has one.
func (b *Build) embed(m *Module, table *graph.Value) *graph.Value {
	x := graph.Embed(table, b.IDs, b.Policy.Residual)
	a, ok := b.adapter(m)
	if !ok {
		return x
	}
	a.alone(m)
	if a.dora {
		graph.Failf("adapter of %s: DoRA of embeddings is not supported", m.path())
	}
	low, up := b.factor(b.G, m, "lora_embedding_A", a.rank, m.Out), b.factor(b.G, m, "lora_embedding_B", m.In, a.rank)
	u := graph.Embed(graph.Permute(low, 1, 0), b.IDs, b.Policy.Act)
	return Add(x, graph.Project(a.scaled(b.G, u), up, nil, b.Policy.Compute, b.Policy.Act))
}

// grouped is the product of sorted rows with their experts' weights through the experts' adapters, if they have any.
func (b *Build) grouped(l *graph.Graph, m *Module, x, offsets *graph.Value) *graph.Value {
	product := func(x, w *graph.Value) *graph.Value {
		return graph.Apply(graph.GroupedLinear{Compute: b.Policy.Compute, Out: b.Policy.Act}, x, w, offsets)[0]
	}
	y := product(x, l.State(m.spec))
	a, ok := b.adapter(m)
	if !ok {
		return y
	}
	a.alone(m)
	if a.dora {
		graph.Failf("adapter of %s: DoRA of experts is not supported", m.path())
	}
	low, up := b.factors(l, m, a)
	return graph.Add(y, product(a.scaled(l, product(b.dropped(l, x), low)), up))
}
