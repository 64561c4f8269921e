package plan

import (
	"math"
	"testing"

	"danlu/hardware"
)

// TestExchanges holds what a card sends against sums by hand.
func TestExchanges(t *testing.T) {
	known, err := hardware.KnownGPUs("")
	if err != nil {
		t.Fatal(err)
	}
	h100, err := known.Find("h100")
	if err != nil {
		t.Fatal(err)
	}
	sent := func(q Request, l Layout) map[string]Exchange {
		t.Helper()
		q.GPU = h100
		if err := q.complete(); err != nil {
			t.Fatal(err)
		}
		list, err := q.exchanges(l)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]Exchange{}
		for _, e := range list {
			m[e.Axis+" "+e.Collective] = e
		}
		return m
	}
	near := func(name string, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= 1e-9*want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	dense := Request{Model: "llama-2-7b", Task: Pretrain, Context: 4096, Batch: 2}
	one := Layout{DP: 1, TP: 1, PP: 1, CP: 1, EP: 1}
	if m := sent(dense, one); len(m) != 0 {
		t.Errorf("one card sends %v", m)
	}
	params, vector := 6738415616.0, 2.0*4096*4096*2
	l := one
	l.DP = 8
	near("dp", sent(dense, l)["dp all-reduce"].Bytes, 2*7/8.0*2*params)
	near("dp time", sent(dense, l)["dp all-reduce"].Seconds, 2*7/8.0*2*params/450e9)
	l.DP = 16 // two machines
	near("dp time of machines", sent(dense, l)["dp all-reduce"].Seconds, 2*15/16.0*2*params/50e9)
	l.FSDP = true
	near("fsdp", sent(dense, l)["fsdp all-gather"].Bytes, 2*15/16.0*2*params)
	l = one
	l.TP, l.PP = 4, 2
	near("tp", sent(dense, l)["tp all-reduce"].Bytes, 2*16*2*2*3/4.0*vector)
	near("pp", sent(dense, l)["pp p2p"].Bytes, 2*vector/4)
	l = one
	l.CP = 4
	near("cp", sent(dense, l)["cp p2p"].Bytes, 3*3/4.0*4096*2*32*2*4096*2)
	sparse := Request{Model: "qwen3-30b-a3b", Task: Pretrain, Context: 4096, Batch: 2}
	l = one
	l.DP, l.EP, l.FSDP = 8, 8, true
	near("ep", sent(sparse, l)["ep all-to-all"].Bytes, 2*48*2*7/8.0*8*2*2048*4096*2)
}
