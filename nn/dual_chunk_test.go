package nn

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/graph"
	"danlu/internal/numtest"
	"danlu/tensor"
)

func TestGoldenDualChunk(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "training/dual_chunk"), "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var g struct {
			Cases []struct {
				N        int      `json:"n"`
				Size     int      `json:"chunk_size"`
				Local    int      `json:"local_size"`
				Relative [][]*int `json:"relative_position"`
			}
			Scales []struct {
				Seq      int     `json:"seq"`
				Original int     `json:"original"`
				Want     float64 `json:"logit_multiplier"`
			} `json:"length_scale"`
		}
		if err := json.Unmarshal(data, &g); err != nil {
			t.Fatal(err)
		}
		for _, c := range g.Cases {
			cases++
			d := DualChunk{Size: c.Size, Local: c.Local}
			for q, row := range c.Relative {
				for k, want := range row {
					if (want != nil) != (k <= q) || want != nil && d.Distance(q, k) != *want {
						t.Errorf("chunks of %d and %d: query %d, key %d: got %d, want %v", c.Size, c.Local, q, k, d.Distance(q, k), want)
					}
				}
			}
		}
		for _, c := range g.Scales {
			cases++
			if got := (DualChunk{Original: c.Original}).Scale(c.Seq); math.Abs(got-c.Want) > 1e-12 {
				t.Errorf("%d tokens after %d: logits are scaled by %v, want %v", c.Seq, c.Original, got, c.Want)
			}
		}
	}
	numtest.Count(t, "training/dual_chunk", cases)
}

// Attention over several chunks, in packed rows with padding, is that by the distances of single pairs.
func TestDualChunkAttention(t *testing.T) {
	const tokens, heads, groups, dim = 29, 4, 2, 8
	d := DualChunk{Size: 8, Local: 3, Original: 20}
	r := Rope{Dim: dim, Theta: 100}
	rng := rand.New(rand.NewPCG(3, 3))
	draw := func(h int) *tensor.Tensor {
		x := tensor.New(dtype.F32, 1, tokens, h, dim)
		for i := range x.F32() {
			x.F32()[i] = float32(rng.NormFloat64())
		}
		return x
	}
	q, k, v := draw(heads), draw(groups), draw(groups)
	positions, segments := make([]int32, tokens), make([]int32, tokens)
	for i := range tokens {
		switch {
		case i < 19:
			positions[i] = int32(i)
		case i < 27:
			positions[i], segments[i] = int32(i-19), 1
		default:
			segments[i] = -1
		}
	}
	g, err := graph.Build(func(g *graph.Graph) {
		b := Inputs(g, Float32, 1, 1, tokens)
		in := func(name string, x *tensor.Tensor) *graph.Value {
			return g.Input(name, graph.Of(dtype.F32, x.Shape...))
		}
		g.Output("y", d.Tables(b, r).attend(b, in("q", q), in("k", k), in("v", v)))
	})
	if err != nil {
		t.Fatal(err)
	}
	eng, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	store := eng.NewStore()
	defer store.Close()
	p, err := eng.Compile(g, store, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, err := p.Run(context.Background(), engine.Tensors{"q": q, "k": k, "v": v, "positions": tensor.FromI32(positions, 1, 1, tokens), "segments": tensor.FromI32(segments, 1, tokens)})
	if err != nil {
		t.Fatal(err)
	}
	inv, _ := r.InvFreq(0)
	at := func(x *tensor.Tensor, token, head int) []float32 { return x.F32()[(token*x.Shape[2]+head)*dim:][:dim] }
	for i := range 27 {
		for h := range heads {
			want := make([]float64, dim)
			sum := 0.0
			for j := range i + 1 {
				if segments[i] != segments[j] {
					continue
				}
				s := turned(at(q, i, h), at(k, j, h*groups/heads), inv, d.Distance(int(positions[i]), int(positions[j]))) / math.Sqrt(dim)
				w := math.Exp(s * d.Scale(tokens))
				sum += w
				for e, x := range at(v, j, h*groups/heads) {
					want[e] += w * float64(x)
				}
			}
			for e, got := range out["y"].F32()[(i*heads+h)*dim:][:dim] {
				if math.Abs(float64(got)-want[e]/sum) > 1e-5 {
					t.Fatalf("token %d, head %d: got %v, want %v", i, h, got, want[e]/sum)
				}
			}
		}
	}
}

// turned is the product of a query and a key that is a rotary distance away.
func turned(q, k []float32, inv []float64, distance int) (sum float64) {
	for f, w := range inv {
		a, b := float64(q[f]), float64(q[f+len(inv)])
		c, s := math.Cos(w*float64(distance)), math.Sin(w*float64(distance))
		sum += (a*c-b*s)*float64(k[f]) + (a*s+b*c)*float64(k[f+len(inv)])
	}
	return sum
}
