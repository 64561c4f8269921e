//go:build !noxla

package xla_test

import (
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/enginetest"
	"danlu/engine/xla"
	"danlu/engine/xla/pjrt"
	"danlu/internal/numtest"
)

// compiled is where programs of the tests are kept, so that they are compiled once.
func compiled(t testing.TB) string {
	t.Helper()
	dir, err := pjrt.Home("compiled")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// needPlugin ends the test where the plugin for processors is not installed.
func needPlugin(t testing.TB) {
	t.Helper()
	kind, err := pjrt.KindOf("cpu")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kind.Find(); err != nil {
		numtest.NoPlugin(t, err)
	}
}

// newEngine starts the engine on the plugin for processors.
func newEngine(t testing.TB) engine.Engine {
	t.Helper()
	needPlugin(t)
	e, err := xla.New(xla.Options{Plugin: "cpu", CacheDir: compiled(t)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestCompliance(t *testing.T) {
	needPlugin(t)
	enginetest.Run(t, func() engine.Engine { return newEngine(t) }, enginetest.Options{Supports: supports})
}

// supports leaves out weights in blocks, which the engine refuses by name.
func supports(name string) bool {
	for _, d := range []dtype.DType{dtype.Q8_0, dtype.Q4_0, dtype.Q4_1, dtype.Q5_0, dtype.Q5_1, dtype.Q2_K, dtype.Q3_K, dtype.Q4_K, dtype.Q5_K, dtype.Q6_K} {
		if strings.HasPrefix(name, "storage "+d.String()+" ") {
			return false
		}
	}
	return true
}

func BenchmarkDispatch(b *testing.B) {
	enginetest.Benchmark(b, func() engine.Engine { return newEngine(b) })
}
