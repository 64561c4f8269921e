package graph

import (
	"fmt"

	"danlu/dtype"
	"danlu/tensor"
)

// Op is an operation: a small struct of attributes. Primitive operations are what engines must have; fused operations
// also implement [Decomposer], which defines them by primitives.
type Op interface {
	// Name is the operation's name with its attributes' essentials, for printing and errors.
	Name() string
	// Infer checks the operand types and returns the result types. An absent optional operand has the zero Type.
	Infer(in []Type) ([]Type, error)
}

// Decomposer is implemented by fused operations. The decomposition is the operation's meaning: the oracle of its
// kernels, its default gradient and its default lowering.
type Decomposer interface {
	Op
	Decompose(in []*Value) []*Value
}

// Differentiable is implemented by operations with a gradient rule of their own. VJP returns one cotangent per operand,
// nil where there is none or none is needed.
type Differentiable interface {
	Op
	VJP(b *Backward) []*Value
}

// Coster is implemented by operations whose cost is not one floating-point operation per result element.
type Coster interface {
	Op
	FLOPs(in, out []Type) float64
}

// Aliaser is implemented by operations that can write results over operands: Aliases()[result] is the operand whose
// storage the result may take, -1 for none.
type Aliaser interface {
	Op
	Aliases() []int
}

// Cheap is implemented by operations whose results are recomputed in the backward pass rather than kept.
type Cheap interface {
	Op
	Cheap() bool
}

// IsZero reports whether t is the type of an absent operand.
func (t Type) IsZero() bool { return t.DType == dtype.Invalid }

// Input is a tensor given at each run.
type Input struct {
	Label string
	Type  Type
}

// Name implements Op.
func (o Input) Name() string { return "input " + o.Label }

// Infer implements Op.
func (o Input) Infer([]Type) ([]Type, error) { return []Type{o.Type}, nil }

// Const is a tensor known when the graph is built.
type Const struct{ Tensor *tensor.Tensor }

// Name implements Op.
func (o Const) Name() string { return "const" }

// Infer implements Op.
func (o Const) Infer([]Type) ([]Type, error) {
	return []Type{Of(o.Tensor.DType, o.Tensor.Shape...)}, nil
}

// Role says what a state is for.
type Role uint8

// The roles of states.
const (
	Param     Role = iota // a weight of the model, saved in checkpoints under its name
	Buffer                // part of the model without a gradient, saved with it (router bias, batch statistics)
	OptState              // moments and other optimiser state, saved in training checkpoints
	CacheRole             // KV pages and other state of a running generation, never saved
)

// Range numbers the parts of a stacked state: First, First+1, ... (Count of them).
type Range struct{ First, Count int }

// StateSpec describes a named, engine-owned buffer.
type StateSpec struct {
	// Label is the name in checkpoints. It holds one %d for each element of Stack.
	Label string
	// Stack numbers the leading axes that run over parts with names of their own (layers, experts).
	Stack []Range
	Type  Type // with the stacked axes in front
	Role  Role
	// Axes names the logical axis of each dimension for sharding ("layers", "experts", "vocab", "embed", "heads",
	// "kv_heads", "mlp", "" for never sharded); nil when never sharded.
	Axes []string
	// Plain asks for 16-bit matrices row by row, as training reads them both ways, rather than in an order that suits the
	// products of inference.
	Plain bool
	// Init says how a from-scratch model fills it.
	Init Init
	// Cache describes the pages of a KV cache; Type is then Opaque.
	Cache *CacheSpec
}

// Init is an initialisation: mean plus a normal of the given standard deviation.
type Init struct{ Mean, Std float64 }

// State is a buffer that lives between runs.
type State struct{ *StateSpec }

// Name implements Op.
func (o State) Name() string { return "state " + o.Label }

// Infer implements Op.
func (o State) Infer([]Type) ([]Type, error) { return []Type{o.Type}, nil }

// Parts is the number of separately named tensors in the state.
func (s *StateSpec) Parts() int {
	n := 1
	for _, r := range s.Stack {
		n *= r.Count
	}
	return n
}

// Key identifies the state: two runs of layers share labels but not keys.
func (s *StateSpec) Key() string { return s.PartName(0) }

// PartName is the name of part i (row-major over the stacked axes).
func (s *StateSpec) PartName(i int) string {
	if len(s.Stack) == 0 {
		return s.Label
	}
	index := make([]any, len(s.Stack))
	for k := len(s.Stack) - 1; k >= 0; k-- {
		index[k] = s.Stack[k].First + i%s.Stack[k].Count
		i /= s.Stack[k].Count
	}
	return fmt.Sprintf(s.Label, index...)
}

// PartType is the type of one part.
func (s *StateSpec) PartType() Type { return Of(s.Type.DType, s.Type.Shape[len(s.Stack):]...) }

// State declares a state, or returns the one declared before under the same name (weights used twice are tied so).
// Inside a body spec describes one iteration; the state itself is stacked over the iterations and named with the
// body's prefix.
func (g *Graph) State(spec StateSpec) *Value {
	if g.repeat != nil {
		return g.repeat.state(g, spec)
	}
	for _, n := range g.Nodes {
		if s, ok := n.Op.(State); ok && s.Key() == spec.Key() {
			if !s.Type.Equal(spec.Type) {
				panic(&Fault{Op: "state " + spec.Label, In: []Type{s.Type, spec.Type}, What: "declared twice with different types"})
			}
			return n.Out[0]
		}
	}
	return g.Apply(State{&spec})[0]
}

// CacheSpec is the layout of one layer's KV cache: pages of PageLen tokens, each token with one key and one value
// vector per KV head. VDim 0 means that the value is the first VView elements of the key (MLA's latent).
type CacheSpec struct {
	Pages, PageLen   int
	KVHeads          int
	KeyDim, ValueDim int
	ValueView        int
	Store            dtype.DType // F32, F16, BF16 or Q8_0
}

// BytesPerToken is what one token takes in one layer.
func (c *CacheSpec) BytesPerToken() int {
	return c.KVHeads * (c.Store.Bytes(c.KeyDim) + c.Store.Bytes(c.ValueDim))
}
