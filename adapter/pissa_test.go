package adapter

import (
	"math"
	"math/rand/v2"
	"testing"

	"danlu/tensor"
)

// A matrix with known singular values comes apart into its largest ones and the rest.
func TestLargest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct{ out, in, r int }{{9, 13, 2}, {40, 17, 4}, {64, 96, 8}, {5, 5, 5}} {
		n := min(c.out, c.in)
		u, v := make([]float32, n*c.out), make([]float32, n*c.in)
		for _, x := range [][]float32{u, v} {
			for i := range x {
				x[i] = float32(rng.NormFloat64())
			}
		}
		orthonormal(u, n, c.out)
		orthonormal(v, n, c.in)
		w := make([]float32, c.out*c.in)
		rest := 0.0
		for j := range n {
			s := 3 * math.Pow(0.8, float64(j))
			if j >= c.r {
				rest += s * s
			}
			for i := range c.out {
				axpy(w[i*c.in:(i+1)*c.in], v[j*c.in:(j+1)*c.in], s*float64(u[j*c.out+i]))
			}
		}
		a, b, values := largest(w, c.out, c.in, c.r, 16, rng)
		for j, s := range values {
			if want := 3 * math.Pow(0.8, float64(j)); !(math.Abs(s-want) < 1e-4*want) {
				t.Errorf("%v: singular value %d is %v, want %v", c, j, s, want)
			}
			for i := range c.out {
				axpy(w[i*c.in:(i+1)*c.in], b[j*c.in:(j+1)*c.in], -s*float64(a[j*c.out+i]))
			}
		}
		if left := norm(w); !(math.Abs(left-math.Sqrt(rest)) < 1e-4) {
			t.Errorf("%v: what is left has norm %v, want %v", c, left, math.Sqrt(rest))
		}
	}
}

// A PiSSA adapter leaves the sum as it was, and goes through a plain adapter's files that change nothing yet.
func TestPiSSA(t *testing.T) {
	m := model(t, false)
	for _, keys := range []string{`"target_modules": "all-linear"`, `"target_modules": "all-linear", "use_rslora": true`} {
		s, err := resolve(m, keys)
		if err != nil {
			t.Fatal(err)
		}
		store := declare(t, s)
		rng := rand.New(rand.NewPCG(5, 6))
		before := map[string][]float32{}
		for _, x := range s.Targets {
			for k := range x.Ranks {
				w := make([]float32, x.In*x.Out)
				for i := range w {
					w[i] = float32(rng.NormFloat64())
				}
				before[x.Weight.PartName(k)] = w
				if err := store.Set(x.Weight.PartName(k), tensor.FromF32(append([]float32(nil), w...), x.Out, x.In)); err != nil {
					t.Fatal(err)
				}
			}
		}
		start, err := s.InitPiSSA(store, 16, 1)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := s.SavePiSSA(dir, store, start); err != nil {
			t.Fatal(err)
		}
		plain, err := Open(dir, m)
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		again := declare(t, s)
		if err := s.LoadPiSSA(dir, again); err != nil {
			t.Fatal(err)
		}
		for _, x := range s.Targets {
			for k := range x.Ranks {
				name := x.Weight.PartName(k)
				rest, err := store.Get(name)
				if err != nil {
					t.Fatal(err)
				}
				var values []*tensor.Tensor
				for _, f := range x.factors(k) {
					v, err1 := store.Get(f.name)
					y, err2 := again.Get(f.name)
					if err1 != nil || err2 != nil || string(v.Data) != string(y.Data) {
						t.Fatalf("%s: %v %v: did not come back", f.name, err1, err2)
					}
					values = append(values, v)
				}
				if err := x.add(rest.F32(), values, x.Scales[k]); err != nil {
					t.Fatal(err)
				}
				p := plain.Set.of[name]
				double := &plain.Set.Targets[p.target]
				values = nil
				for _, f := range double.factors(p.part) {
					v, err := plain.read(f)
					if err != nil {
						t.Fatal(err)
					}
					values = append(values, v)
				}
				sum := append([]float32(nil), before[name]...)
				if err := double.add(sum, values, double.Scales[p.part]); err != nil {
					t.Fatal(err)
				}
				for i, want := range before[name] {
					if !(math.Abs(float64(rest.F32()[i]-want)) < 1e-5) || !(math.Abs(float64(sum[i]-want)) < 1e-5) {
						t.Fatalf("%s: value %d is %v with the adapter and %v with the saved one, want %v", name, i, rest.F32()[i], sum[i], want)
					}
				}
			}
		}
	}
}
