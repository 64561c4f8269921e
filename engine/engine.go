// Package engine says what it means to run a graph: compile it once for a store of named buffers, then run it.
package engine

import (
	"context"
	"time"

	"danlu/graph"
	"danlu/tensor"
)

// Engine compiles graphs. Its programs share the buffers of a store.
type Engine interface {
	Name() string
	// NewStore returns an empty store of this engine's buffers.
	NewStore() Store
	// Compile prepares g. States of g that the store does not hold yet are declared in it, zero-filled.
	Compile(g *graph.Graph, store Store, opts Options) (Program, error)
	Close() error
}

// Options of a compilation.
type Options struct {
	// Outputs names the outputs that are wanted, as in graph.Output.Name; nil means all. What no wanted output and no
	// update needs is not computed.
	Outputs []string
	// NoUpdates leaves the states alone: a dry run or an evaluation of a training graph.
	NoUpdates bool
}

// Tensors are host tensors by name.
type Tensors map[string]*tensor.Tensor

// Program is a compiled graph. One goroutine runs it at a time.
type Program interface {
	// Run computes the outputs from the inputs and updates the states. Inputs with type.Rows may be given with fewer
	// rows than declared, all with the same number: the graph then runs for those. A stacked output has one tensor for
	// each name. The returned tensors are the program's and hold until its next Run.
	// On an error before anything is written (a missing input, a wrong type, a cancelled context) states are as before.
	Run(ctx context.Context, in Tensors) (Tensors, error)
	Memory() Memory
	Close() error
}

// Memory is what a program needs besides the store, in bytes.
type Memory struct {
	Activations int64 // the arena: values that live between operations
	Scratch     int64 // inside operations: packing, partial sums
	Outputs     int64
}

// Store holds named state buffers. Names are those of parts (graph.StateSpec.PartName).
type Store interface {
	// Declare adds the buffers of a state, zero-filled; declaring again with the same type does nothing.
	Declare(spec *graph.StateSpec) error
	// Set copies t into the part called name, converting plain float types.
	Set(name string, t *tensor.Tensor) error
	// Get copies the part called name to the host in its own type.
	Get(name string) (*tensor.Tensor, error)
	// Specs lists the declared states in order.
	Specs() []*graph.StateSpec
	// Bytes is the size of all buffers.
	Bytes() int64
	// Free drops the buffers of the state whose label is given, if no live program uses them.
	Free(label string) error
	Close() error
}

// Viewer is implemented by stores whose buffers are host memory: the part itself, not a copy, to be filled in place.
type Viewer interface {
	View(name string) (*tensor.Tensor, error)
}

// Estimator is implemented by programs that can tell how long a run takes without all of it: of the iterations of a
// Repeat one is computed. States and outputs hold nothing of use afterwards.
type Estimator interface {
	Estimate(ctx context.Context, in Tensors) (time.Duration, error)
}

// Seeker is implemented by programs that can tell where the first number came about that is not finite.
type Seeker interface {
	// FirstNonFinite runs the program as Run does and names the operation, the layer and the weights whose result is the
	// first with NaN or +Inf in it; "" when there is none.
	FirstNonFinite(ctx context.Context, in Tensors) (string, error)
}

// Whole is implemented by engines that run a training step (gradients, their norm, the update) as one program: where each
// program moves all weights, or cannot be told to wait for the host in between.
type Whole interface {
	WholeSteps() bool
}

// Partitioner is implemented by engines that can run each program on several devices.
type Partitioner interface {
	// Partition makes the engine run programs on a mesh of devices with the given axes and their sizes (dp, fsdp, ep, tp).
	// It is called before the first store is made.
	Partition(mesh map[string]int) error
}

// Hosted is implemented by engines whose process can be one of several of a run: each computes with its part of a batch,
// and graph.SumHosts adds up over them.
type Hosted interface {
	Host() (rank, nodes int)
	// Agree fails unless all processes give the same value for a name.
	Agree(name, value string) error
}
