package graph_test

import (
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/graph"
)

// stack is three linear layers of which only the carried value is an output; what the body taps besides is dead.
func stack(t *testing.T) *graph.Graph {
	t.Helper()
	g, err := graph.Build(func(g *graph.Graph) {
		x := g.Input("x", graph.Of(dtype.F32, 2, 4))
		graph.Exp(x) // dead
		out := g.ForEach(graph.Layers{N: 3, Prefix: "l%d."}, []*graph.Value{x}, func(l *graph.Graph, c []*graph.Value) []*graph.Value {
			w := l.State(graph.StateSpec{Label: "w", Type: graph.Of(dtype.F32, 4, 4)})
			y := graph.Project(c[0], w, nil, dtype.F32, dtype.F32)
			l.Output("tanh.%d", graph.Tanh(y))
			return []*graph.Value{y}
		})
		g.Output("y", out[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestCosts(t *testing.T) {
	g := stack(t)
	costs := g.Costs(g.Live([]string{"y"}, false))
	if len(costs) != 1 || costs[0].Name != "linear" || costs[0].Count != 3 {
		t.Fatalf("live costs %+v, want three linears alone", costs)
	}
	// 2·2·4·4 operations; x (2·4) and W (4·4) read, y written, four bytes each; three times.
	if want := (graph.Cost{FLOPs: 3 * 64, BytesRead: 3 * 96, BytesWritten: 3 * 32}); costs[0].Cost != want {
		t.Errorf("cost %+v, want %+v", costs[0].Cost, want)
	}
	if total := g.TotalCost(nil); total.FLOPs != 3*64+3*8+8 {
		t.Errorf("all operations: %v FLOPs, want %v", total.FLOPs, 3*64+3*8+8)
	}
}

func TestLiveKeepsTapsThatAreWanted(t *testing.T) {
	g := stack(t)
	all, some := g.Live(nil, true), g.Live([]string{"y"}, true)
	if len(all) != len(some)+1 {
		t.Errorf("%d nodes for all outputs, %d for one: want one more (tanh)", len(all), len(some))
	}
}

func TestString(t *testing.T) {
	text := stack(t).String()
	for _, want := range []string{"%0 = input x() f32[2 4]\n", "repeat 3(", "\n  %2 = linear(%0, %1, -) f32[2 4]\n", "return %2, %3", "output y = "} {
		if !strings.Contains(text, want) {
			t.Errorf("the listing lacks %q:\n%s", want, text)
		}
	}
}

func TestBuildReportsFaults(t *testing.T) {
	for name, f := range map[string]func(g *graph.Graph){
		"shapes": func(g *graph.Graph) {
			graph.Add(g.Input("a", graph.Of(dtype.F32, 2)), g.Input("b", graph.Of(dtype.F32, 3)))
		},
		"types": func(g *graph.Graph) {
			graph.Mul(g.Input("a", graph.Of(dtype.F32, 2)), g.Input("b", graph.Of(dtype.BF16, 2)))
		},
		"input twice": func(g *graph.Graph) {
			g.Input("a", graph.Of(dtype.F32, 2))
			g.Input("a", graph.Of(dtype.F32, 3))
		},
		"loss": func(g *graph.Graph) {
			x := g.Input("a", graph.Of(dtype.F32, 2))
			graph.Grad(x, []*graph.Value{x}, graph.GradOptions{})
		},
		"no gradient": func(g *graph.Graph) {
			x := g.Input("a", graph.Of(dtype.F32, 2))
			cache := g.State(graph.StateSpec{Label: "c", Type: graph.Of(dtype.Opaque), Cache: &graph.CacheSpec{KeyDim: 2, ValueDim: 2}})
			ids := g.Input("ids", graph.Of(dtype.I32, 1, 1))
			id := g.Input("id", graph.Of(dtype.I32, 1))
			y := graph.Apply(graph.CachedAttention{Spec: &graph.CacheSpec{KeyDim: 2, ValueDim: 2}}, graph.ReshapeTo(x, 1, 1, 1, 2), cache, ids, id, id, nil, nil)
			graph.Grad(graph.Sum(y[0]), []*graph.Value{x}, graph.GradOptions{})
		},
	} {
		if g, err := graph.Build(f); err == nil || g != nil || !strings.HasPrefix(err.Error(), "graph: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
