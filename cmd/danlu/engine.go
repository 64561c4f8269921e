package main

import (
	"fmt"

	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/engine/ref"
	"danlu/internal/parallel"
)

// newEngine makes the engine that the flags name.
func (o *options) newEngine() (engine.Engine, error) {
	switch o.engine {
	case "", "cpu":
		e, err := cpu.New(cpu.Options{Threads: o.threads})
		if err == nil {
			parallel.Configure(o.threads)
		}
		return e, err
	case "ref":
		return ref.New(), nil
	}
	return nil, fmt.Errorf("engine: want cpu or ref, got %q", o.engine)
}
