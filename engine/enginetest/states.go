package enginetest

import (
	"context"
	"math"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/ref"
	"danlu/graph"
	"danlu/tensor"
)

// testStates checks that updates happen at once and in place, per part and across programs of one store, that NoUpdates
// and Outputs leave states alone, and that inputs with fewer rows than declared work.
func testStates(t *testing.T, newEngine func() engine.Engine) {
	e := newEngine()
	defer e.Close()
	store := e.NewStore()
	defer store.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g, err := graph.Build(func(g *graph.Graph) {
		a := g.State(graph.StateSpec{Label: "a", Type: graph.Of(dtype.F32, 3)})
		b := g.State(graph.StateSpec{Label: "b", Type: graph.Of(dtype.F32, 3)})
		x := g.Input("x", graph.Of(dtype.F32, 3))
		g.Update(a, graph.Add(b, x)) // both read what was there before
		g.Update(b, a)
		out := g.ForEach(graph.Layers{N: 3, Prefix: "l%d.", First: 4}, []*graph.Value{x}, func(l *graph.Graph, c []*graph.Value) []*graph.Value {
			w := l.State(graph.StateSpec{Label: "w", Type: graph.Of(dtype.F32, 3)})
			y := graph.Add(c[0], w)
			l.Update(w, graph.MulScalar(y, 2))
			l.Output("y%d", y)
			return []*graph.Value{y}
		})
		g.Output("sum", graph.Sum(out[0]))
	})
	must(err)
	p, err := e.Compile(g, store, engine.Options{})
	must(err)
	dry, err := e.Compile(g, store, engine.Options{NoUpdates: true, Outputs: []string{"sum"}})
	must(err)
	vec := func(x ...float32) *tensor.Tensor { return tensor.FromF32(x, len(x)) }
	must(store.Set("a", vec(1, 2, 3)))
	must(store.Set("b", vec(10, 20, 30)))
	must(store.Set("l5.w", vec(1, 1, 1)))
	check := func(name string, want ...float32) {
		t.Helper()
		got, err := store.Get(name)
		must(err)
		Compare(t, name, got, vec(want...), 0)
	}
	x := engine.Tensors{"x": vec(1, 0, -1)}
	out, err := dry.Run(context.Background(), x)
	must(err)
	if len(out) != 1 || out["sum"] == nil || out["sum"].F32()[0] != 3 {
		t.Errorf("dry run: %v, want sum 3 alone", out)
	}
	check("a", 1, 2, 3)
	check("l4.w", 0, 0, 0)
	for range 2 {
		out, err = p.Run(context.Background(), x)
		must(err)
	}
	check("a", 2, 2, 2)    // b of the first run (1, 2, 3) + x
	check("b", 11, 20, 29) // a of the first run
	check("l4.w", 6, 0, -6)
	check("l5.w", 14, 4, -6)
	for _, name := range []string{"y4", "y5", "y6", "sum"} {
		if out[name] == nil {
			t.Errorf("output %s is missing", name)
		}
	}
	if _, err := store.Get("nothing"); err == nil {
		t.Error("an undeclared state was found")
	}
	if err := store.Set("a", vec(1)); err == nil {
		t.Error("a state took another shape")
	}

	rows := graph.Of(dtype.F32, 8, 3)
	rows.Rows = true
	g, err = graph.Build(func(g *graph.Graph) {
		y := graph.NormRMS(graph.Project(g.Input("r", rows), g.State(graph.StateSpec{Label: "p", Type: graph.Of(dtype.F32, 3, 3)}), nil, dtype.F32, dtype.F32), nil, 1e-5, dtype.F32)
		g.Output("r", graph.Add(y, graph.ConstLike(y, 1)))
	})
	must(err)
	p, err = e.Compile(g, store, engine.Options{})
	must(err)
	must(store.Set("p", tensor.FromF32([]float32{1, 2, 3, -1, 0, 1, 2, 2, 1}, 3, 3)))
	data := []float32{1, 2, 3, 4, 5, 6, -7, 8, 9, 1, 0, 1, 2, -2, 2, 3, 1, 0, 1, 1, 1, 2, 2, 5}
	full, err := p.Run(context.Background(), engine.Tensors{"r": tensor.FromF32(data, 8, 3)})
	must(err)
	want := append([]float32(nil), full["r"].F32()...)
	for _, n := range []int{1, 5} {
		part, err := p.Run(context.Background(), engine.Tensors{"r": tensor.FromF32(data[:3*n], n, 3)})
		must(err)
		if part["r"].Shape[0] != n {
			t.Errorf("%d rows gave %v", n, part["r"])
			continue
		}
		Compare(t, "fewer rows", part["r"], tensor.FromF32(want[:3*n], n, 3), 0) // a row does not depend on the others
	}
}

// testErrors checks that wrong inputs are errors that leave the states alone.
func testErrors(t *testing.T, newEngine func() engine.Engine) {
	e := newEngine()
	defer e.Close()
	store := e.NewStore()
	g, err := graph.Build(func(g *graph.Graph) {
		s := g.State(graph.StateSpec{Label: "s", Type: graph.Of(dtype.F32, 2)})
		g.Update(s, graph.AddScalar(graph.Add(s, g.Input("x", graph.Of(dtype.F32, 2))), 1))
		g.Output("s", s)
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Compile(g, store, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	good := engine.Tensors{"x": tensor.FromF32([]float32{1, 2}, 2)}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, run := range map[string]func() error{
		"missing input": func() error { _, err := p.Run(context.Background(), nil); return err },
		"wrong shape": func() error {
			_, err := p.Run(context.Background(), engine.Tensors{"x": tensor.FromF32([]float32{1, 2, 3}, 3)})
			return err
		},
		"wrong type": func() error {
			_, err := p.Run(context.Background(), engine.Tensors{"x": tensor.FromI32([]int32{1, 2}, 2)})
			return err
		},
		"cancelled": func() error { _, err := p.Run(cancelled, good); return err },
	} {
		if run() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	got, err := store.Get("s")
	if err != nil {
		t.Fatal(err)
	}
	Compare(t, "state after errors", got, tensor.New(dtype.F32, 2), 0)
}

// testCache writes tokens in pieces through shuffled pages and compares attention over the cache with Attention over the
// whole sequence.
func testCache(t *testing.T, newEngine func() engine.Engine) {
	const h, kv, pages = 4, 2, 6
	table := []int32{4, 1, 5}
	for _, c := range []struct {
		name            string
		valueDim, view  int
		window          int
		softcap, prefix float64
		slopes          bool
		store           dtype.DType // f32 unless set
		long            bool        // pages of 16 tokens
	}{
		{name: "plain", valueDim: 8}, {name: "value width", valueDim: 5}, {name: "view", view: 6}, {name: "window", valueDim: 8, window: 3},
		{name: "softcap", valueDim: 8, softcap: 2}, {name: "prefix", valueDim: 8, prefix: 4}, {name: "slopes", valueDim: 8, slopes: true},
		{name: "long plain", valueDim: 16, long: true}, {name: "long width", valueDim: 48, long: true}, {name: "long window", valueDim: 16, window: 17, long: true},
		{name: "long softcap", valueDim: 16, softcap: 2, long: true}, {name: "long prefix", valueDim: 16, prefix: 5, long: true},
		{name: "long slopes", valueDim: 16, slopes: true, long: true}, {name: "f16", valueDim: 16, store: dtype.F16, long: true},
		{name: "bf16", valueDim: 16, store: dtype.BF16, long: true}, {name: "q8_0", valueDim: 64, store: dtype.Q8_0, long: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, pageLen, k := 11, 4, 8
			if c.long {
				n, pageLen = 43, 16
			}
			if c.store == dtype.Q8_0 {
				k = 32
			}
			store, tol := dtype.F32, tolerance(2*k, false)
			if c.store != dtype.Invalid {
				store, tol = c.store, map[dtype.DType]float64{dtype.F16: 2e-3, dtype.BF16: 2e-2, dtype.Q8_0: 4e-2}[c.store]
			}
			w := max(c.valueDim, c.view)
			spec := &graph.CacheSpec{Pages: pages, PageLen: pageLen, KVHeads: kv, KeyDim: k, ValueDim: c.valueDim, ValueView: c.view, Store: store}
			x := Case{In: []Operand{f32(1, n, h, k), f32(1, n, kv, k), f32(1, n, kv, w)}}.inputs(9)
			q, key, value := x["x0"].F32(), x["x1"].F32(), x["x2"].F32()
			if c.view > 0 { // the value is the key's first elements
				for i := range n * kv {
					copy(value[i*w:(i+1)*w], key[i*k:i*k+w])
				}
			}
			slopes := func(g *graph.Graph) *graph.Value {
				if !c.slopes {
					return nil
				}
				return g.Const(tensor.FromF32([]float32{0.5, 0.25, 0.125, 0.0625}, h))
			}
			whole, err := graph.Build(func(g *graph.Graph) {
				in := func(name string) *graph.Value { return g.Input(name, graph.Of(dtype.F32, x[name].Shape...)) }
				mask := graph.AttentionMask{Slopes: slopes(g)}
				if c.prefix > 0 {
					mask.Prefix = g.Const(tensor.FromI32([]int32{int32(c.prefix)}, 1))
				}
				op := graph.Attention{Scale: 0.3, Causal: true, Window: c.window, Softcap: c.softcap, Compute: dtype.F32}
				g.Output("y", graph.Attend(op, in("x0"), in("x1"), in("x2"), mask))
			})
			if err != nil {
				t.Fatal(err)
			}
			want := execute(t, ref.New(), whole, x)["y"]
			cached, err := graph.Build(func(g *graph.Graph) {
				rows := func(name string, d dtype.DType, shape ...int) *graph.Value {
					typ := graph.Of(d, append([]int{n}, shape...)...)
					typ.Rows = true
					return g.Input(name, typ)
				}
				cache := g.State(graph.StateSpec{Label: "kv", Type: graph.Of(dtype.Opaque), Role: graph.CacheRole, Cache: spec})
				var v, prefix *graph.Value
				if c.valueDim > 0 {
					v = rows("v", dtype.F32, 1, kv, w)
				}
				if c.prefix > 0 {
					prefix = g.Const(tensor.FromI32([]int32{0, int32(c.prefix)}, 2))
				}
				next := graph.Apply(graph.CacheWrite{}, cache, rows("k", dtype.F32, 1, kv, k), v, rows("slots", dtype.I32))[0]
				g.Update(cache, next)
				op := graph.CachedAttention{Spec: spec, Scale: 0.3, Window: c.window, Softcap: c.softcap}
				g.Output("y", graph.Apply(op, rows("q", dtype.F32, 1, h, k), next, g.Input("pages", graph.Of(dtype.I32, 2, len(table))), rows("seqs", dtype.I32), rows("at", dtype.I32), prefix, slopes(g))[0])
			})
			if err != nil {
				t.Fatal(err)
			}
			e := newEngine()
			defer e.Close()
			p, err := e.Compile(cached, e.NewStore(), engine.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			for from, to := 0, 5; from < n; from, to = to, min(to+1+to%7, n) { // a prompt, then one to three tokens a time
				m := to - from
				slots, seqs, at := make([]int32, m+1), make([]int32, m+1), make([]int32, m+1)
				for i := range m {
					s := from + i
					slots[i], seqs[i], at[i] = table[s/pageLen]*int32(pageLen)+int32(s%pageLen), 1, int32(s)
				}
				slots[m], seqs[m] = -1, -1 // padding
				rows := func(x []float32, width int) []float32 {
					return append(append([]float32(nil), x[from*width:to*width]...), make([]float32, width)...)
				}
				in := engine.Tensors{
					"q": tensor.FromF32(rows(q, h*k), m+1, 1, h, k), "k": tensor.FromF32(rows(key, kv*k), m+1, 1, kv, k),
					"slots": tensor.FromI32(slots, m+1), "seqs": tensor.FromI32(seqs, m+1), "at": tensor.FromI32(at, m+1),
					"pages": tensor.FromI32(append([]int32{0, 0, 0}, table...), 2, len(table)),
				}
				if c.valueDim > 0 {
					in["v"] = tensor.FromF32(rows(value, kv*w), m+1, 1, kv, w)
				}
				out, err := p.Run(context.Background(), in)
				if err != nil {
					t.Fatal(err)
				}
				y := out["y"].F32()
				part := tensor.FromF32(append([]float32(nil), y[:m*h*w]...), m, h, w)
				Compare(t, "cached", part, tensor.FromF32(append([]float32(nil), want.F32()[from*h*w:to*h*w]...), m, h, w), tol)
				for _, pad := range y[m*h*w:] {
					if pad != 0 || math.IsNaN(float64(pad)) {
						t.Fatalf("padding's attention is %v, want 0", pad)
					}
				}
			}
		})
	}
}

// Benchmark times a training step of a small transformer: the cost of an engine's dispatch.
func Benchmark(b *testing.B, newEngine func() engine.Engine) {
	for _, compute := range []dtype.DType{dtype.F32, dtype.BF16} {
		b.Run("train step "+compute.String(), func(b *testing.B) {
			m := model{layers: 4, d: 64, heads: 4, kv: 2, k: 4, f: 176, vocab: 512, b: 4, t: 64, compute: compute}
			g, err := m.build(graph.GradOptions{})
			if err != nil {
				b.Fatal(err)
			}
			e := newEngine()
			defer e.Close()
			store := e.NewStore()
			defer store.Close()
			p, err := e.Compile(g, store, engine.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			in := m.batch(0)
			for b.Loop() {
				if _, err := p.Run(context.Background(), in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*m.b*m.t)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
