package plan

import (
	"fmt"

	"danlu/dtype"
	"danlu/internal/locale"
)

// Exchange is what one card sends in a training step along one axis of the layout, and how long its link takes for it.
// Most of it can overlap with computing; the sustained speed was fitted on runs that had such exchanges.
type Exchange struct {
	Axis       string  `json:"axis"` // dp, fsdp, tp, pp, cp or ep
	Collective string  `json:"collective"`
	Bytes      float64 `json:"bytes"`
	Seconds    float64 `json:"seconds"`
}

// pcie is what a card without other links exchanges, both directions: PCI Express 4 with 16 lanes, in GB/s.
const pcie = 64

// linkRate is how fast a card sends to cards of its machine, in bytes a second.
func (q *Request) linkRate() float64 {
	link := q.GPU.Link
	if link == 0 {
		link = pcie
	}
	return link / 2 * 1e9
}

// network is what a card sends to other machines where the table does not say, in GB/s: 200 Gbit/s for each card, an
// assumption.
const network = 25

func (q *Request) networkRate() float64 {
	if q.GPU.Network > 0 {
		return q.GPU.Network * 1e9
	}
	return network * 1e9
}

// ring is the share of a buffer that each of n cards sends when parts are gathered, or scattered sums formed, in a ring; an
// all-reduce is both.
func ring(n int) float64 { return float64(n-1) / float64(n) }

// exchanges lists what a card sends in a step of its texts. Cards of the inner axes (tp, then cp, dp and ep, then pp)
// are next to each other: an axis stays within a machine while all cards inside of it do.
func (q *Request) exchanges(l Layout) ([]Exchange, error) {
	s := q.shape
	st, err := q.states()
	if err != nil || q.Task == Inference {
		return nil, err
	}
	var list []Exchange
	add := func(axis, collective string, span int, bytes float64) {
		if bytes == 0 {
			return
		}
		rate := q.linkRate()
		if span > q.GPU.PerNode {
			rate = q.networkRate()
		}
		list = append(list, Exchange{axis, collective, bytes, bytes / rate})
	}
	tokens := float64(q.Context) * float64(q.Batch) / float64(l.CP)
	layers := float64(ceil(s.Layers, l.PP))
	vector := 2 * float64(s.Hidden) * tokens // the activations between layers
	passes := 2.0                            // forwards and backwards
	if q.Checkpointing == KeepInput {
		passes = 3
	}
	// Two all-reduces in each layer and pass, after attention and after the feed-forward part (Megatron-LM, arXiv:1909.08053).
	add("tp", "all-reduce", l.TP, passes*layers*2*2*ring(l.TP)*vector)
	// Keys and values go round among the parts of a text, and backwards also their gradients (ring attention, arXiv:2310.01889).
	add("cp", "p2p", l.TP*l.CP, (passes+1)*ring(l.CP)*float64(q.Context)*float64(q.Batch)*s.cacheBytes(dtype.BF16)*layers/float64(s.Layers)/float64(min(l.TP, s.CacheCuts)))
	share := layers / float64(s.Layers) / float64(l.TP)
	copies := l.DP * l.CP
	if l.FSDP { // parts of the weights are put together in each pass, and gradients added up into parts (ZeRO 3)
		add("fsdp", "all-gather", l.TP*copies, passes*ring(copies)*st.weights*share)
		add("fsdp", "reduce-scatter", l.TP*copies, ring(copies)*st.gradients*share)
	} else {
		add("dp", "all-reduce", l.TP*copies, 2*ring(copies)*st.gradients*share)
	}
	if s.Experts > 0 { // each token's vector goes to its experts and back
		add("ep", "all-to-all", l.TP*l.CP*l.EP, passes*layers*2*ring(l.EP)*float64(s.ActiveExperts)*vector/float64(l.TP))
	}
	if l.PP > 1 {
		add("pp", "p2p", l.GPUs(), 2*vector/float64(l.TP))
	}
	return list, nil
}

func (e Exchange) String() string {
	return fmt.Sprintf(locale.Text("%s %s: %.3g GB, %.3g s a step", "%s %s：每步 %.3g GB，%.3g 秒"), e.Axis, e.Collective, e.Bytes/1e9, e.Seconds)
}
