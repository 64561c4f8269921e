package family

import (
	"fmt"
	"path/filepath"
	"testing"

	"danlu/dtype"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/nn"
)

// TestGoldenBuild builds every configuration of the reference data that a registered family reads, forward and with a cache.
func TestGoldenBuild(t *testing.T) {
	dirs, _ := filepath.Glob(filepath.Join(numtest.Goldens(t, "models"), "*", "config.json"))
	built := 0
	for _, path := range dirs {
		name := filepath.Base(filepath.Dir(path))
		m, _, err := Load(path)
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		rows := m.Info().PositionRows
		if _, err := graph.Build(func(g *graph.Graph) {
			m.Hidden(nn.Inputs(g, nn.Float32, rows, 2, 9))
		}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := graph.Build(func(g *graph.Graph) {
			b, err := nn.CachedInputs(g, nn.BFloat16, rows, 8, 2, 4, graph.CacheSpec{Pages: 8, PageLen: 16, Store: dtype.F16})
			if err != nil {
				t.Fatal(err)
			}
			g.Output("logits", graph.Project(m.Hidden(b), m.Head(b), nil, dtype.F32, dtype.F32))
		}); err != nil {
			t.Errorf("%s with a cache: %v", name, err)
		}
		built++
	}
	numtest.Count(t, "models (build)", built)
	fmt.Println(Architectures())
}
