package weights

import (
	"testing"

	"danlu/dtype"
)

func TestMix(t *testing.T) {
	m, err := ParseMix("q4_k_m")
	if err != nil {
		t.Fatal(err)
	}
	more := 0
	for layer := range 32 {
		if m.of(false, true, layer, 32) == dtype.Q6_K {
			more++
		}
		if d := m.of(false, false, layer, 32); d != dtype.Q4_K {
			t.Errorf("layer %d: want %v, got %v", layer, dtype.Q4_K, d)
		}
	}
	if more != 16 { // 4 + 4 at the ends and every third of the 24 between
		t.Errorf("want 16 of 32 layers in the better type, got %d", more)
	}
	if d := m.of(true, false, -1, 32); d != dtype.Q6_K {
		t.Errorf("output: want %v, got %v", dtype.Q6_K, d)
	}
	for _, bad := range []string{"", "q9", "u8", "f64", "nf4", "opaque"} {
		if m, err := ParseMix(bad); err == nil {
			t.Errorf("ParseMix(%q) = %v", bad, m)
		}
	}
}

func TestFitting(t *testing.T) {
	for _, c := range []struct {
		d    dtype.DType
		n    int
		want dtype.DType
	}{{dtype.Q4_K, 512, dtype.Q4_K}, {dtype.Q4_K, 576, dtype.Q5_0}, {dtype.Q6_K, 576, dtype.Q8_0}, {dtype.Q8_0, 56, dtype.F16}, {dtype.Q4_0, 64, dtype.Q4_0}} {
		if got := fitting(c.d, c.n); got != c.want {
			t.Errorf("rows of %d in %v: want %v, got %v", c.n, c.d, c.want, got)
		}
	}
}

func TestNamesOfMixes(t *testing.T) {
	for name, want := range map[string]int{"model.layers.12.mlp.down_proj.weight": 12, "lm_head.weight": -1, "transformer.encoder.layers.3.x.weight": 3} {
		if got := layerOf(name); got != want {
			t.Errorf("layer of %s: want %d, got %d", name, want, got)
		}
	}
	if !sensitive("model.layers.1.self_attn.v_proj.weight") || sensitive("model.layers.1.self_attn.q_proj.weight") {
		t.Error("value projections are the sensitive ones")
	}
}
