package cpu

import (
	"testing"

	"danlu/engine"
	"danlu/engine/enginetest"
)

func TestSuite(t *testing.T) {
	var engines []engine.Engine
	make := func(n int) engine.Engine {
		e, err := New(Options{Threads: n, Poison: true})
		if err != nil {
			t.Fatal(err)
		}
		engines = append(engines, e)
		return e
	}
	enginetest.Run(t, func() engine.Engine { return make(2) }, enginetest.Options{Threads: make})
	for _, e := range engines {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
