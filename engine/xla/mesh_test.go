//go:build !noxla

package xla

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/tensor"
)

func TestNewMesh(t *testing.T) {
	for _, c := range []struct {
		sizes map[string]int
		want  string
	}{
		{map[string]int{"pp": 2}, "pipeline parallelism is not supported yet"}, {map[string]int{"cp": 2}, "context parallelism is not supported yet"},
		{map[string]int{"qp": 2}, "is not an axis; axes are dp, fsdp, ep, tp"}, {map[string]int{"tp": 0}, "tp: want 1 to 4096, got 0"},
		{map[string]int{"tp": 4096, "dp": 2}, "at most 4096 devices"},
	} {
		if _, err := newMesh(c.sizes); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.sizes, err, c.want)
		}
	}
	m, err := newMesh(map[string]int{"fsdp": 4, "tp": 2})
	if err != nil || m.devices() != 8 || m.String() != "fsdp 4 × tp 2" {
		t.Errorf("%v, %v", m, err)
	}
}

func TestShardings(t *testing.T) {
	m, err := newMesh(map[string]int{"fsdp": 4, "tp": 2})
	if err != nil {
		t.Fatal(err)
	}
	spec := func(axes string, shape ...int) *graph.StateSpec {
		return &graph.StateSpec{Label: "w", Type: graph.Of(dtype.F32, shape...), Axes: strings.Split(axes, ",")}
	}
	for _, c := range []struct {
		spec *graph.StateSpec
		want string
	}{
		{spec("vocab,embed", 8, 16), "[[tp] [fsdp]]"}, {spec("embed,mlp", 16, 8), "[[fsdp] [tp]]"}, {spec("embed", 16), "[[]]"}, {spec("heads", 16), "[[tp]]"},
		{spec("embed,embed", 16, 16), "[[fsdp] []]"}, {spec("heads,embed", 7, 16), "tp: 2 does not divide the 7 of axis \"heads\" of w"}, {spec("x,embed", 7, 16), "no rule"},
	} {
		s, err := m.stateSharding(c.spec)
		got := fmt.Sprint([][]string(s))
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%v: %s, want %s", c.spec.Axes, got, c.want)
		}
	}
	if _, err := m.inputSharding(graph.Input{Label: "ids", Type: graph.Of(dtype.I32, 6, 5)}); err == nil || !strings.Contains(err.Error(), "does not divide its 6 rows") {
		t.Errorf("a batch that cannot be cut: %v", err)
	}
}

// TestBlocks takes arrays apart and puts them together again.
func TestBlocks(t *testing.T) {
	m, err := newMesh(map[string]int{"dp": 2, "fsdp": 2, "tp": 3})
	if err != nil {
		t.Fatal(err)
	}
	shape := []int{4, 2, 6}
	whole := make([]byte, 4*48)
	for i := range whole {
		whole[i] = byte(i)
	}
	for _, cut := range []sharding{nil, {{"dp", "fsdp"}, nil, {"tp"}}, {nil, {"fsdp"}, nil}, {{"fsdp"}, {"dp"}, {"tp"}}} {
		again := make([]byte, len(whole))
		for d := range m.devices() {
			b := m.block(cut, shape, d)
			own := make([]byte, 4*tensor.Len(b.shape))
			b.move(whole, shape, own, dtype.F32, true)
			b.move(again, shape, own, dtype.F32, false)
		}
		if !bytes.Equal(again, whole) {
			t.Errorf("%v: the blocks do not make the array", cut)
		}
	}
}

// TestDeviceMemory checks that each device holds its part of the states and no more.
func TestDeviceMemory(t *testing.T) {
	e, err := New(Options{Plugin: "cpu"})
	if err != nil {
		numtest.NoPlugin(t, err)
	}
	defer e.Close()
	if err := e.(*Engine).Partition(map[string]int{"fsdp": 4, "tp": 2}); err != nil {
		t.Fatal(err)
	}
	g, err := graph.Build(func(g *graph.Graph) {
		w := g.State(graph.StateSpec{Label: "w", Type: graph.Of(dtype.F32, 64, 128), Axes: []string{"mlp", "embed"}})
		b := g.State(graph.StateSpec{Label: "b", Type: graph.Of(dtype.F32, 64)})
		y := graph.Project(g.Input("ids", graph.Of(dtype.F32, 8, 128)), w, b, dtype.F32, dtype.F32)
		g.Output("y", y)
		g.Update(w, graph.MulScalar(w, 2))
	})
	if err != nil {
		t.Fatal(err)
	}
	s := e.NewStore().(*store)
	defer s.Close()
	p, err := e.Compile(g, s, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	x := make([]float32, 64*128)
	for i := range x {
		x[i] = float32(i % 7)
	}
	if err := s.Set("w", tensor.FromF32(x, 64, 128)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(context.Background(), engine.Tensors{"ids": tensor.New(dtype.F32, 8, 128)}); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[int]int64{0: 4 * 64 * 128 / 8, 7: 4 * 64 * 128 / 8} {
		if n, err := s.byKey["w"].device[d][0].Bytes(); err != nil || n != want {
			t.Errorf("device %d holds %d bytes of w (%v), want %d", d, n, err, want)
		}
	}
	after, err := s.Get("w")
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range after.F32() {
		if v != 2*x[i] {
			t.Fatalf("element %d is %v, want %v", i, v, 2*x[i])
		}
	}
}
