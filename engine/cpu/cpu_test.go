package cpu

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/enginetest"
	"danlu/graph"
	"danlu/tensor"
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

// example is a program with a Repeat, its gradient, updates in place and a fused loss.
func example(t *testing.T, threads int) (engine.Engine, engine.Store, *program, engine.Tensors) {
	t.Helper()
	e, err := New(Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	g, err := graph.Build(func(g *graph.Graph) {
		spec := func(label string, shape ...int) graph.StateSpec {
			return graph.StateSpec{Label: label, Type: graph.Of(dtype.F32, shape...), Role: graph.Param}
		}
		table := g.State(spec("table", 40, 24))
		x := graph.Embed(table, g.Input("ids", graph.Of(dtype.I32, 16)), dtype.F32)
		x = g.ForEach(graph.Layers{N: 3, Prefix: "layer.%d."}, []*graph.Value{x}, func(l *graph.Graph, c []*graph.Value) []*graph.Value {
			h := graph.NormRMS(c[0], nil, 1e-5, dtype.F32)
			h = graph.Activate(graph.Project(h, l.State(spec("up", 48, 24)), nil, dtype.F32, dtype.F32), graph.SiLU)
			return []*graph.Value{graph.Add(c[0], graph.Project(h, l.State(spec("down", 24, 48)), nil, dtype.F32, dtype.F32))}
		})[0]
		loss := graph.Neg(graph.Sum(graph.LogProbs(graph.LinearLogProb{Compute: dtype.F32}, x, table, g.Input("targets", graph.Of(dtype.I32, 16)))[0]))
		g.Output("loss", loss)
		states := g.States()
		for i, d := range graph.Grad(loss, states, graph.GradOptions{}) {
			g.Update(states[i], graph.Sub(states[i], graph.MulScalar(d, 0.01)))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	st := e.NewStore()
	p, err := e.Compile(g, st, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, s := range st.Specs() {
		for i := range s.Parts() {
			v, err := st.(engine.Viewer).View(s.PartName(i))
			if err != nil {
				t.Fatal(err)
			}
			for k := range v.F32() {
				v.F32()[k] = float32(rng.NormFloat64() * 0.2)
			}
		}
	}
	in := engine.Tensors{"ids": tensor.New(dtype.I32, 16), "targets": tensor.New(dtype.I32, 16)}
	for i := range 16 {
		in["ids"].I32()[i], in["targets"].I32()[i] = int32(i*7%40), int32(i*11%40)
	}
	t.Cleanup(func() {
		for _, c := range []interface{ Close() error }{p, st, e} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return e, st, p.(*program), in
}

// TestPlanHasNoOverlap checks that no two storages that live at one time share bytes of the arena.
func TestPlanHasNoOverlap(t *testing.T) {
	_, _, p, _ := example(t, 1)
	list := p.current.storages
	if len(list) < 10 {
		t.Fatalf("want a plan worth checking, got %d storages", len(list))
	}
	peak := 0
	for i, a := range list {
		if a.offset%align != 0 || a.offset+a.bytes > p.current.bytes {
			t.Errorf("storage %d: bytes %d at %d do not fit %d", i, a.bytes, a.offset, p.current.bytes)
		}
		live := 0
		for _, b := range list {
			if b.first <= a.first && a.first <= b.last {
				live += b.bytes
			}
		}
		peak = max(peak, live)
		for _, b := range list[:i] {
			if a.first <= b.last && b.first <= a.last && a.offset < b.offset+b.bytes && b.offset < a.offset+a.bytes {
				t.Errorf("storages live in [%d %d] and [%d %d] overlap at %d and %d", a.first, a.last, b.first, b.last, a.offset, b.offset)
			}
		}
	}
	if m := p.Memory(); int(m.Activations+m.Scratch) < peak {
		t.Errorf("the memory reported, %+v, is below the %d bytes that live at one time", m, peak)
	}
}

func TestRunDoesNotAllocate(t *testing.T) {
	_, _, p, in := example(t, 2)
	run := func() {
		if _, err := p.Run(context.Background(), in); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(20, run); n != 0 {
		t.Errorf("a run allocates %v times", n)
	}
}

func TestLossFalls(t *testing.T) {
	_, _, p, in := example(t, 2)
	loss := func() float32 {
		out, err := p.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		return out["loss"].F32()[0]
	}
	first := loss()
	for range 30 {
		loss()
	}
	if last := loss(); !(last < first*0.9) {
		t.Errorf("want a loss well below %v, got %v", first, last)
	}
}

// cancelAfter is a context that is cancelled when asked for the n-th time.
type cancelAfter struct {
	context.Context
	n int
}

func (c *cancelAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

func TestCancelBetweenSteps(t *testing.T) {
	_, _, p, in := example(t, 1)
	for _, n := range []int{0, 1, 5, 12} { // before the run, and within its first steps, which come before any update
		if _, err := p.Run(&cancelAfter{context.Background(), n}, in); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %d checks: got %v", n, err)
		}
	}
	if _, err := p.Run(context.Background(), in); err != nil {
		t.Errorf("a run after cancelled ones: %v", err)
	}
}

func TestStoreInUse(t *testing.T) {
	_, st, p, _ := example(t, 1)
	if err := st.Free("table"); err == nil {
		t.Error("a state of a live program was freed")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Free("table"); err != nil {
		t.Error(err)
	}
	if _, err := New(Options{Threads: -1}); err == nil {
		t.Error("an engine with -1 threads was made")
	}
}

// Neither side's logits of all rows are held, forward or backward.
func TestLinearKLHoldsChunksOfLogits(t *testing.T) {
	const rows, vocab, size = 16384, 4096, 8
	g, err := graph.Build(func(g *graph.Graph) {
		in := make([]*graph.Value, 4)
		for i, shape := range [][]int{{rows, size}, {vocab, size}, {rows, size}, {vocab, size}} {
			in[i] = g.Input(string(rune('a'+i)), graph.Of(dtype.F32, shape...))
		}
		loss := graph.Sum(graph.Apply(graph.LinearKL{Compute: dtype.F32, Temperature: 1}, in...)[0])
		for i, d := range graph.Grad(loss, in[:2], graph.GradOptions{}) {
			g.Output(string(rune('x'+i)), d)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	eng, err := New(Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	p, err := eng.Compile(g, eng.NewStore(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m := p.Memory()
	if got, all := m.Activations+m.Scratch, int64(4*rows*vocab); got >= all {
		t.Errorf("%d bytes; one side's logits would be %d", got, all)
	}
}

// TestFirstNonFinite finds the layer whose weights are not finite, in the forward pass though the gradients are not finite
// either.
func TestFirstNonFinite(t *testing.T) {
	_, store, p, in := example(t, 2)
	if at, err := p.FirstNonFinite(context.Background(), in); err != nil || at != "" {
		t.Fatalf("where all is finite: %q, %v", at, err)
	}
	w, err := store.Get("layer.1.up")
	if err != nil {
		t.Fatal(err)
	}
	w.F32()[7] = float32(math.NaN())
	if err := store.Set("layer.1.up", w); err != nil {
		t.Fatal(err)
	}
	if at, err := p.FirstNonFinite(context.Background(), in); err != nil || at != "linear of layer 1 (layer.1.up)" {
		t.Errorf("want the linear layer of layer.1.up, got %q, %v", at, err)
	}
}
