package plan

import (
	"fmt"
	"slices"
)

// Layout is how a model is cut over cards: TP cards share each matrix, CP such groups each text, PP groups of these hold
// successive layers, and DP such copies work on different texts. FSDP: the copies hold a part of weights, gradients and optimiser each. Of these, EP
// cards share the experts of each layer: tokens travel to the experts instead of experts to the tokens.
type Layout struct {
	DP   int  `json:"dp"`
	FSDP bool `json:"fsdp"`
	TP   int  `json:"tp"`
	PP   int  `json:"pp"`
	CP   int  `json:"cp"`
	EP   int  `json:"ep"`
}

// GPUs is the number of cards.
func (l Layout) GPUs() int { return l.DP * l.TP * l.PP * l.CP }

func (l Layout) String() string {
	name := "dp"
	if l.FSDP {
		name = "fsdp"
	}
	text := fmt.Sprintf("%s %d · tp %d · pp %d", name, l.DP, l.TP, l.PP)
	if l.CP > 1 {
		text += fmt.Sprintf(" · cp %d", l.CP)
	}
	if l.EP > 1 {
		text += fmt.Sprintf(" · ep %d", l.EP)
	}
	return text
}

// minPart is the least part of a text that a card takes in context parallelism: shorter ones send more than they compute.
const minPart = 4096

// layouts lists the ways to use n cards, those with the least communication first: copies, then shards, then matrices cut
// within a node by heads, then parts of long texts, then stages of layers.
func (q *Request) layouts(n int) []Layout {
	var list []Layout
	for tp := 1; tp <= min(n, q.GPU.PerNode); tp++ {
		if n%tp != 0 || q.shape.Heads%tp != 0 {
			continue
		}
		for pp := 1; pp <= min(n/tp, q.shape.Layers); pp++ {
			if n/tp%pp != 0 {
				continue
			}
			for cp := 1; cp == 1 || q.Task != Inference && cp <= n/tp/pp && q.Context/cp >= minPart; cp *= 2 {
				if n/tp/pp%cp != 0 {
					break
				}
				l := Layout{DP: n / tp / pp / cp, TP: tp, PP: pp, CP: cp, EP: 1}
				if q.Task == Inference && l.DP > q.Batch {
					continue // a copy without a text
				}
				list = append(list, l)
				if l.FSDP = l.DP*cp > 1; l.FSDP && q.Task != Inference {
					l.EP = commonFactor(l.DP, q.shape.Experts)
					list = append(list, l)
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Layout) int {
		rank := func(l Layout) int {
			r := l.PP<<40 + l.CP<<20 + l.TP<<1
			if l.FSDP {
				r++
			}
			return r
		}
		return rank(a) - rank(b)
	})
	return list
}

// commonFactor is the largest number of cards that divides both; 1 where there are no experts.
func commonFactor(cards, experts int) int {
	if experts == 0 {
		return 1
	}
	for experts != 0 {
		cards, experts = experts, cards%experts
	}
	return cards
}

// place finds the first layout of n cards that fits, or the one that comes nearest.
func (q *Request) place(n int) (best Layout, m Memory, fits bool, err error) {
	for _, l := range q.layouts(n) {
		now, err := q.memory(l)
		if err != nil {
			return best, m, false, err
		}
		if now.Total <= q.GPU.Memory() {
			return l, now, true, nil
		}
		if m.Total == 0 || now.Total < m.Total {
			best, m = l, now
		}
	}
	if m.Total == 0 {
		return best, m, false, fmt.Errorf("plan: gpus: %d cards cannot share %s with %d text(s): its %d heads are cut evenly and a stage has at least one of its %d layers; want a larger batch or another number", n, q.shape.Name, q.Batch, q.shape.Heads, q.shape.Layers)
	}
	return best, m, false, nil
}

// maxGPUs bounds the search for a number of cards.
const maxGPUs = 1 << 16

// fewest finds the smallest number of cards that fits among the powers of two.
func (q *Request) fewest() (l Layout, m Memory, fits bool, err error) {
	most := maxGPUs
	if q.Host != nil {
		most = 1
	}
	for n := 1; n <= most; n *= 2 {
		if l, m, fits, err = q.place(n); fits {
			return l, m, fits, nil
		}
		if err != nil {
			break // no more cards can share the work
		}
	}
	l, m, fits, err = q.place(1)
	return l, m, fits, err
}
