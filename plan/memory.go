package plan

import "danlu/dtype"

// Memory is what one card holds, in bytes.
type Memory struct {
	Weights     int64 `json:"weights"`
	Gradients   int64 `json:"gradients"`
	Optimizer   int64 `json:"optimizer"` // moments, and float32 parameters in mixed precision
	Activations int64 `json:"activations"`
	KVCache     int64 `json:"kv_cache"`
	Temporary   int64 `json:"temporary"` // logits and their gradient; in inference, the widest layer while the texts are read
	Reserved    int64 `json:"reserved"`  // see reserve
	Total       int64 `json:"total"`
}

// Used is the total without the reserve: what a framework reports as allocated.
func (m Memory) Used() int64 { return m.Total - m.Reserved }

// reserve is what the driver, libraries and unusable gaps take: an assumption of 0.5 GiB and 3 % of the rest.
func reserve(used float64) float64 { return 1<<29 + 0.03*used }

// states are the bytes of weights and of what training keeps beside them, for the whole model.
type states struct{ weights, gradients, optimizer float64 }

// adam are the bytes of one trained parameter: weight, gradient, optimiser. Mixed precision comes to 16 (ZeRO,
// arXiv:1910.02054 section 3.1): 2 + 2 + a float32 parameter and two float32 moments.
func adam(p Precision) states {
	switch p {
	case FP32:
		return states{4, 4, 8}
	case PureBF16:
		return states{2, 2, 4}
	}
	return states{2, 2, 12}
}

// states adds up what a task keeps. A low-rank adapter is trained in float32.
func (q *Request) states() (states, error) {
	s, n := q.shape, float64(q.shape.ParamsTotal)
	switch q.Task {
	case Inference:
		return states{weights: s.weightBytes(q.Precision, Inference)}, nil
	case LoRA, QLoRA:
		adapter, err := s.adapterParams(q.Rank)
		a, k := adam(FP32), float64(adapter)
		return states{s.weightBytes(q.Precision, q.Task) + a.weights*k, a.gradients * k, a.optimizer * k}, err
	case RLHF: // policy and critic as in full training, reference and reward model to read
		a := adam(q.Precision)
		return states{2*a.weights*n + 2*s.weightBytes(q.Precision, RLHF), 2 * a.gradients * n, 2 * a.optimizer * n}, nil
	}
	a := adam(q.Precision)
	return states{a.weights * n, a.gradients * n, a.optimizer * n}, nil
}

// activations is what training keeps of one layer for the backward pass, in bytes, for b texts of s tokens (Korthikanti
// et al., arXiv:2205.05198 equation 1 and table 2), in 16 bits; tensor parallelism with sequence parallelism divides it
// by t. The formula is of a feed-forward part four times as wide as the model; gated ones keep about as much.
func (s *Shape) activations(c Checkpointing, context, batch int) float64 {
	tokens := float64(context) * float64(batch)
	switch h := float64(s.Hidden); c {
	case KeepAll:
		return tokens * (34*h + 5*float64(s.Heads)*float64(context))
	case Selective:
		return tokens * 34 * h
	default:
		return tokens * 2 * h
	}
}

// memory is what a card holds when the model is cut by l.
func (q *Request) memory(l Layout) (Memory, error) {
	if q.hosted() {
		return q.Host.Memory(q)
	}
	s, total, err := q.shape, Memory{}, error(nil)
	st, err := q.states()
	if err != nil {
		return total, err
	}
	stage := float64(ceil(s.Layers, l.PP)) / float64(s.Layers) // of the model, on the cards of the largest stage
	split := float64(l.TP) / stage
	shard := split
	if l.FSDP {
		shard *= float64(l.DP * l.CP)
	}
	tp, tokens := float64(l.TP), float64(q.Context)*float64(q.Batch)/float64(l.CP)
	var activations, cache, temporary float64
	if q.Task == Inference {
		batch := float64(ceil(q.Batch, l.DP))
		cache = batch * q.cachePerText(l)
		temporary = (2*batch*float64(q.Context)*float64(s.Widest)*2 + 4*batch*float64(s.Vocab)) / tp
	} else {
		width := 1.0
		if q.Precision == FP32 {
			width = 2 // the formula counts 16-bit activations
		}
		// Of 1F1B's first stage: as many micro-batches are under way as there are stages, each with its share of layers.
		activations = width * s.activations(q.Checkpointing, q.Context, q.Batch) * float64(l.PP*ceil(s.Layers, l.PP)) / tp / float64(l.CP)
		if q.Checkpointing == KeepInput { // and the layer that is computed again
			activations += width * s.activations(Selective, q.Context, q.Batch) / tp / float64(l.CP)
		}
		temporary = 2 * 4 * tokens * float64(s.Vocab) / tp // float32 logits and their gradient
		if l.FSDP {
			routed := float64(s.Routed) / float64(s.ParamsTotal)
			together := st.weights * (1 - routed + routed/float64(l.EP))
			temporary += 2 * together / tp / float64(s.Layers) // two layers whose parts are together, but for other cards' experts
		}
		if q.Task == RLHF {
			cache = float64(q.Batch) * q.cachePerText(l)
		}
	}
	m := []float64{st.weights / shard, st.gradients / shard, st.optimizer / shard, activations, cache, temporary}
	used := 0.0
	for _, x := range m {
		used += x
	}
	total = Memory{whole(m[0]), whole(m[1]), whole(m[2]), whole(m[3]), whole(m[4]), whole(m[5]), whole(reserve(used)), 0}
	total.Total = total.Weights + total.Gradients + total.Optimizer + total.Activations + total.KVCache + total.Temporary + total.Reserved
	return total, nil
}

// cachePerText is what one text's cache takes on a card. Cards beyond the key heads hold copies.
func (q *Request) cachePerText(l Layout) float64 {
	return float64(q.Context) * q.shape.cacheBytes(dtype.BF16) / float64(min(l.TP, q.shape.CacheCuts)) * float64(ceil(q.shape.Layers, l.PP)) / float64(q.shape.Layers)
}

// whole rounds to bytes; what no machine has is cut so that sums stay within 64 bits.
func whole(bytes float64) int64 { return int64(min(bytes, 1<<59)) }

func ceil(a, b int) int { return (a + b - 1) / b }
