// Package cpu is the engine for processors: a graph becomes a list of kernel calls over one arena, planned when it is
// compiled. A run allocates nothing, and results are byte-equal for any number of threads.
package cpu

import (
	"fmt"

	"danlu/engine"
	"danlu/internal/parallel"
)

// Options of an engine.
type Options struct {
	// Threads is the number of threads that compute; 0 means one per core.
	Threads int
	// Poison fills the arena with NaN before each run, so that tests see a read of what was not written.
	Poison bool
}

// Engine compiles graphs to programs that share its threads.
type Engine struct {
	opts Options
	pool *parallel.Pool
}

// New starts an engine. Close ends its threads.
func New(opts Options) (engine.Engine, error) {
	if opts.Threads < 0 || opts.Threads > maxThreads {
		return nil, fmt.Errorf("cpu: threads: want 0 (one per core) to %d, got %d", maxThreads, opts.Threads)
	}
	return &Engine{opts: opts, pool: parallel.NewPool(opts.Threads)}, nil
}

const maxThreads = 4096

// Name implements engine.Engine.
func (*Engine) Name() string { return "cpu" }

// Close implements engine.Engine.
func (e *Engine) Close() error {
	e.pool.Close()
	return nil
}

// NewStore implements engine.Engine.
func (e *Engine) NewStore() engine.Store {
	return &store{byKey: map[string]*state{}, parts: map[string]part{}}
}
