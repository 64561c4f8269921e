package nn

import (
	"fmt"
	"slices"

	"danlu/dtype"
	"danlu/graph"
)

// Policy says in which element types a graph computes.
type Policy struct {
	Compute  dtype.DType // of matrix products: F32, BF16 with float32 sums, or Q8_0 (see graph.Linear)
	Act      dtype.DType // of what is kept between operations
	Residual dtype.DType // of the residual stream
}

// Float32 computes everything in float32.
var Float32 = Policy{Compute: dtype.F32, Act: dtype.F32, Residual: dtype.F32}

// BFloat16 rounds factors and activations to bfloat16; weights, residual stream and sums stay float32.
var BFloat16 = Policy{Compute: dtype.BF16, Act: dtype.BF16, Residual: dtype.F32}

// Int8 rounds activations to 8 bits where they meet block-quantized weights; everything else is float32.
var Int8 = Policy{Compute: dtype.Q8_0, Act: dtype.F32, Residual: dtype.F32}

// Build is one graph in the making: its inputs and the choices that all blocks share.
type Build struct {
	G      *graph.Graph
	Policy Policy

	IDs       *graph.Value // [B, T] int32
	Positions *graph.Value // [P, B, T] int32
	// Lengths, int32 [B, T], is the sequence length that length-dependent rotary scalings see for each token.
	// Nil: the largest position + 1 of the whole batch.
	Lengths *graph.Value
	Mask    graph.AttentionMask // without a cache; with one, Prefix and Slopes only
	Cache   *Cache              // nil: attention among the tokens of the batch
	Images  *Images             // nil: text alone
	// Features [B, T, D] float32 take the place of the embeddings of tokens that Pictured [B, T, 1] (int32) marks: pictures
	// in a graph with a cache, whose features were computed before. Nil: none.
	Features, Pictured *graph.Value

	// Storage is how weights are kept.
	Storage Storage
	layer   string // what names in the first layer of the run in work start with
	// Plain keeps 16-bit matrices row by row (graph.StateSpec.Plain).
	Plain bool
	// Cuts are numbers of layers at which a run of equal layers is cut in two, so that states of different parts can be
	// treated apart (some trained, some not).
	Cuts []int
	// Adapters change weights that stay as they are; nil: none.
	Adapters *Adapters
	// Random is the key of random operations, U32 [2]; nil: there are none (everything but training).
	Random  *graph.Value
	streams uint32 // random operations so far
	// EmbeddingNoise, if set, is what training makes of the embeddings [B, T, D] of a row's tokens (NEFTune).
	EmbeddingNoise func(b *Build, x *graph.Value) *graph.Value
	// Visit, if set, is told of every module that an adapter could change.
	Visit func(m Module)
	// Balance gathers what routers choose; nil: nothing is asked of it.
	Balance *Balance
	// Taps asks for the residual stream: outputs hidden.0 (embedding), hidden.1 ... (after each layer), hidden.norm.
	Taps bool
}

// Cache is how a graph with a KV cache finds its tokens' sequences.
type Cache struct {
	Spec  graph.CacheSpec // Pages, PageLen and Store; heads and sizes are each layer's own
	Pages *graph.Value    // [Q, P] int32: pages of each sequence
	Seqs  *graph.Value    // [N] int32: sequence of each token, negative for padding
	At    *graph.Value    // [N] int32: index of each token in its sequence
	Slots *graph.Value    // [N] int32: where its key and value go, page*PageLen + place
}

// Weight declares a parameter. Names are the checkpoint's; inside a layer they follow the layer's prefix.
func (b *Build) Weight(l *graph.Graph, label string, init graph.Init, axes []string, shape ...int) *graph.Value {
	return l.State(b.weightSpec(label, init, axes, shape...))
}

func (b *Build) weightSpec(label string, init graph.Init, axes []string, shape ...int) graph.StateSpec {
	return graph.StateSpec{Label: label, Type: graph.Of(b.Storage.of(b.layer+label), shape...), Role: graph.Param, Axes: axes, Init: init, Plain: b.Plain}
}

// Linear is x·Wᵀ (+ bias) with the parameters name.weight [out, in] and name.bias [out]; x [..., in] → [..., out].
type Linear struct {
	Name    string
	Out     int
	Bias    bool
	OutAxis string  // logical axis of the outputs, for sharding
	InAxis  string  // logical axis of the inputs
	Std     float64 // standard deviation at initialisation
}

// Build adds the layer.
func (p Linear) Build(b *Build, l *graph.Graph, x *graph.Value) *graph.Value {
	m := b.module(l, LinearModule, b.weightSpec(p.Name+weightSuffix, graph.Init{Std: p.Std}, []string{p.OutAxis, p.InAxis}, p.Out, x.Last()))
	var bias *graph.Value
	if p.Bias {
		bias = b.Weight(l, p.Name+".bias", graph.Init{}, []string{p.OutAxis}, p.Out)
	}
	return b.project(l, m, x, bias)
}

// RMSNorm is the norm with parameter name.weight [D]; the result has the activations' type.
func (b *Build) RMSNorm(l *graph.Graph, name string, x *graph.Value, eps float64) *graph.Value {
	w := b.Weight(l, name+".weight", graph.Init{Mean: 1}, []string{""}, x.Last())
	return graph.NormRMS(x, w, eps, b.Policy.Act)
}

// Embedding looks up IDs in name.weight [V, D] → [B, T, D] in the residual stream's type, and returns the table too.
func (b *Build) Embedding(name string, vocab, hidden int, std float64) (x, table *graph.Value) {
	m := b.module(b.G, EmbeddingModule, b.weightSpec(name+weightSuffix, graph.Init{Std: std}, vocabAxes, vocab, hidden))
	table = b.G.State(m.spec)
	x = b.embed(m, table)
	if b.EmbeddingNoise != nil {
		x = b.EmbeddingNoise(b, x)
	}
	return x, table
}

// Add is the residual connection: x + f in x's type.
func Add(x, f *graph.Value) *graph.Value { return graph.Add(x, graph.Convert(f, x.DType)) }

// Tap names a value of the residual stream as an output when taps are asked for.
func (b *Build) Tap(l *graph.Graph, name string, x *graph.Value) {
	if b.Taps {
		l.Output(name, x)
	}
}

// runs are the ends of the runs of layers that share states.
func (b *Build) runs(prefix string, from, to int) []int {
	ends := b.Storage.runs(prefix, from, to)
	for _, c := range b.Cuts {
		if c > from && c < to && !slices.Contains(ends, c) {
			ends = append(ends, c)
		}
	}
	slices.Sort(ends)
	return ends
}

// Layers adds the equal layers from to, excluding to: states are named with prefix, which holds one %d, and body maps
// the residual stream [B, T, D] of one layer to the next.
func (b *Build) Layers(prefix string, from, to int, x *graph.Value, body func(l *graph.Graph, x *graph.Value) *graph.Value) *graph.Value {
	defer func(outer string) { b.layer = outer }(b.layer)
	for _, end := range b.runs(prefix, from, to) {
		first := from
		b.layer = fmt.Sprintf(prefix, first)
		run := graph.Layers{N: end - first, Prefix: prefix, First: first}
		out := b.G.ForEach(run, append([]*graph.Value{x}, b.Balance.carried()...), func(l *graph.Graph, carry []*graph.Value) []*graph.Value {
			b.Balance.carry(prefix, carry[1:])
			y := body(l, carry[0])
			if b.Taps {
				l.OutputFrom("hidden.%d", first+1, y)
			}
			return append([]*graph.Value{y}, b.Balance.carried()...)
		})
		x = out[0]
		b.Balance.carry("", out[1:])
		from = end
	}
	return x
}

var vocabAxes = []string{"vocab", "embed"}

// Matrix is the output head [V, D], called label: a parameter of its own, or the embedding's table (whose adapter is of
// the rows that are looked up alone).
func (b *Build) Matrix(label string, vocab, hidden int, std float64) *graph.Value {
	return b.effective(b.G, b.module(b.G, HeadModule, b.weightSpec(label, graph.Init{Std: std}, vocabAxes, vocab, hidden)))
}
