package weights

import (
	"testing"

	"danlu/tensor"
)

func TestNames(t *testing.T) {
	for _, l := range layouts {
		for layer, list := range map[int][]pair{-1: l.top, 17: l.layer} {
			for i, p := range list {
				for _, e := range p.expand() {
					at := place{pair: e, layer: layer, expert: -1, order: i}
					expert := 0
					if e.form == experts {
						expert = 5
					}
					hf := at.hfName(l, expert)
					back, ok := l.stored(at.ggufName())
					if !ok || back.hfName(l, expert) != hf {
						t.Errorf("%s: %s is read as %s, want %s", l.arch, at.ggufName(), back.hfName(l, expert), hf)
					}
					found := false
					for _, q := range l.published(hf) {
						found = found || q.ggufName() == at.ggufName() && (e.form != experts || q.expert == expert)
					}
					if !found {
						t.Errorf("%s: %s is not written as %s", l.arch, hf, at.ggufName())
					}
				}
			}
		}
	}
	llama := layoutFor("LlamaForCausalLM")
	for _, bad := range []string{"blk.0.ssm_a.weight", "blk.x.attn_q.weight", "mystery.weight", "output.scale", "blk.99999999999999999999.attn_q.weight"} {
		if got, ok := llama.stored(bad); ok {
			t.Errorf("%s is %v", bad, got)
		}
	}
}

func TestPaired(t *testing.T) {
	// Two heads of four rows each: the file holds rows 0 2 1 3 of the published order.
	rows := []float32{0, 2, 1, 3, 4, 6, 5, 7}
	out := reorder(tensor.FromF32(rows, 8, 1), unpaired(8, 2))
	for i, x := range out.F32() {
		if x != float32(i) {
			t.Fatalf("rows come out as %v", out.F32())
		}
	}
	for i, x := range reorder(out, paired(8, 2)).F32() {
		if x != rows[i] {
			t.Fatalf("row %d goes back as %v", i, x)
		}
	}
}
