// Package graph is the intermediate representation that everything else works on: a model is built once, symbolically,
// as a graph of operations; gradients, memory plans, costs and lowerings are functions of that graph.
//
// Building panics on programmer errors (shapes that do not fit) with the operation, the shapes and the caller's scope;
// [Build] turns such a panic into an error at the edge.
package graph

import (
	"fmt"
	"slices"

	"danlu/dtype"
	"danlu/tensor"
)

// Type is what is known of a value before anything runs: element type and shape.
type Type struct {
	DType dtype.DType
	Shape []int
	// Rows says that axis 0 counts tokens of which only the first so many are real at run time.
	// Engines with dynamic sizes stop there, others compute the padding too; nothing may depend on padded rows.
	Rows bool
}

// Of makes a type.
func Of(d dtype.DType, shape ...int) Type { return Type{DType: d, Shape: slices.Clone(shape)} }

// Len is the number of elements.
func (t Type) Len() int { return tensor.Len(t.Shape) }

// Bytes is the storage of the elements; opaque state reports zero.
func (t Type) Bytes() int { return t.DType.Bytes(t.Len()) }

// Rank is the number of axes.
func (t Type) Rank() int { return len(t.Shape) }

// Last is the size of the last axis.
func (t Type) Last() int { return t.Shape[len(t.Shape)-1] }

// Equal reports whether element type and shape agree.
func (t Type) Equal(u Type) bool { return t.DType == u.DType && slices.Equal(t.Shape, u.Shape) }

func (t Type) String() string { return fmt.Sprintf("%v%v", t.DType, t.Shape) }

// Value is one result of a node.
type Value struct {
	Type
	Node  *Node
	Index int // which output of Node
}

// Graph returns the graph in which v is computed.
func (v *Value) Graph() *Graph { return v.Node.Graph }

// Node applies an operation to values of the same graph.
type Node struct {
	Graph *Graph
	ID    int // position in Graph.Nodes
	Op    Op
	In    []*Value // an absent optional operand is nil
	Out   []*Value
}

// Graph is a list of nodes in an order in which they can run. The body of a [Repeat] is a graph of its own whose
// arguments are [Arg] nodes.
type Graph struct {
	Nodes   []*Node
	Outputs []Output // named results, of the outermost graph only
	Updates []Update // what the states hold after a run, of the outermost graph only

	parent *Graph  // the graph around a Repeat body
	repeat *region // how a body reaches into its parent; nil in the outermost graph
}

// Output is a named result. A result tapped inside a Repeat is stacked: Value has a leading axis of Count iterations
// and Name holds a %d for each number First, First+1, ...
type Output struct {
	Name         string
	Value        *Value
	First, Count int // Count 0: not stacked
}

// Update says that after a run State holds Value.
type Update struct {
	State, Value *Value
}

// New returns an empty graph.
func New() *Graph { return &Graph{} }

// Build runs f on a new graph and returns the graph, or the building fault as an error.
func Build(f func(g *Graph)) (g *Graph, err error) {
	g = New()
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(*Fault)
			if !ok {
				panic(r)
			}
			g, err = nil, fault
		}
	}()
	f(g)
	return g, nil
}

// Fault is a graph-building error: an operation that does not take its operands.
type Fault struct {
	Op   string
	In   []Type
	What string
}

func (f *Fault) Error() string {
	return fmt.Sprintf("graph: %s%v: %s", f.Op, f.In, f.What)
}

// Failf stops building with a fault that is not about one operation's operand types.
func Failf(format string, args ...any) {
	panic(&Fault{Op: "build", What: fmt.Sprintf(format, args...)})
}

// within reports whether g is outer or lies in one of its bodies.
func (g *Graph) within(outer *Graph) bool {
	for ; g != nil; g = g.parent {
		if g == outer {
			return true
		}
	}
	return false
}

// Apply adds op to the innermost graph among its operands' and returns its results. Operands of outer graphs are
// captured; an operation whose operands are all outside a body is therefore computed once, outside.
func Apply(op Op, in ...*Value) []*Value {
	var g *Graph
	for _, v := range in {
		if v != nil && (g == nil || v.Graph().within(g)) {
			g = v.Graph()
		}
	}
	if g == nil {
		panic(&Fault{Op: op.Name(), What: "has no operand; use Graph.Apply"})
	}
	return g.Apply(op, in...)
}

// Apply adds op to g.
func (g *Graph) Apply(op Op, in ...*Value) []*Value {
	types := make([]Type, len(in))
	operands := make([]*Value, len(in))
	rows := -1
	for i, v := range in {
		if v == nil {
			continue
		}
		operands[i] = g.capture(v)
		types[i] = v.Type
		if v.Rows && rows < 0 {
			rows = v.Shape[0]
		}
	}
	outs, err := op.Infer(types)
	if err != nil {
		panic(&Fault{Op: op.Name(), In: types, What: err.Error()})
	}
	n := &Node{Graph: g, ID: len(g.Nodes), Op: op, In: operands}
	for i, t := range outs {
		t.Rows = t.Rows || rows >= 0 && len(t.Shape) > 0 && t.Shape[0] == rows
		n.Out = append(n.Out, &Value{Type: t, Node: n, Index: i})
	}
	g.Nodes = append(g.Nodes, n)
	return n.Out
}

// one is Apply for operations with a single result.
func one(op Op, in ...*Value) *Value { return Apply(op, in...)[0] }

// Input declares a named tensor that the caller gives at each run.
func (g *Graph) Input(name string, t Type) *Value {
	root := g.root()
	for _, n := range root.Nodes {
		if in, ok := n.Op.(Input); ok && in.Label == name {
			if !n.Out[0].Equal(t) {
				panic(&Fault{Op: "input " + name, In: []Type{n.Out[0].Type, t}, What: "declared twice with different types"})
			}
			return n.Out[0]
		}
	}
	return root.Apply(Input{Label: name, Type: t})[0]
}

func (g *Graph) root() *Graph {
	for g.parent != nil {
		g = g.parent
	}
	return g
}

// Const adds a constant. The tensor must not be changed afterwards.
func (g *Graph) Const(t *tensor.Tensor) *Value { return g.Apply(Const{Tensor: t})[0] }

// Scalar adds a float32 constant without axes.
func (g *Graph) Scalar(x float32) *Value { return g.Const(tensor.FromF32([]float32{x})) }

// Output names a result. Inside a body the name must hold one %d, which counts the iterations from the body's first.
func (g *Graph) Output(name string, v *Value) {
	if g.repeat == nil {
		g.Outputs = append(g.Outputs, Output{Name: name, Value: v})
		return
	}
	g.OutputFrom(name, g.repeat.first, v)
}

// OutputFrom is Output inside a body, with names that count from first.
func (g *Graph) OutputFrom(name string, first int, v *Value) {
	if g.repeat == nil {
		Failf("output %s: not inside a body", name)
	}
	g.repeat.outputs = append(g.repeat.outputs, tap{name, first, g.capture(v)})
}

// Update says that after a run state, which must come from [Graph.State], holds v. Inside a body it is that
// iteration's part that is updated.
func (g *Graph) Update(state, v *Value) {
	if !state.Equal(v.Type) && state.DType != dtype.Opaque {
		panic(&Fault{Op: "update", In: []Type{state.Type, v.Type}, What: "a state keeps its type"})
	}
	if g.repeat == nil {
		if _, ok := state.Node.Op.(State); !ok {
			panic(&Fault{Op: "update", In: []Type{state.Type}, What: "not a state"})
		}
		g.Updates = append(g.Updates, Update{state, v})
		return
	}
	g.repeat.updates = append(g.repeat.updates, Update{g.capture(state), g.capture(v)})
}

// States lists the states that g declares, in order.
func (g *Graph) States() []*Value {
	var states []*Value
	for _, n := range g.Nodes {
		if _, ok := n.Op.(State); ok {
			states = append(states, n.Out[0])
		}
	}
	return states
}

// Inputs lists the inputs that g declares, in order.
func (g *Graph) Inputs() []*Value {
	var inputs []*Value
	for _, n := range g.Nodes {
		if _, ok := n.Op.(Input); ok {
			inputs = append(inputs, n.Out[0])
		}
	}
	return inputs
}
