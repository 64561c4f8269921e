package recipe

import (
	"math"
	"slices"

	"danlu/graph"
	"danlu/optim"
)

// optimizer is the recipe's optimiser. Vectors (norms, biases) do not decay, as in transformers.
func (r *Recipe) optimizer() optim.Optimizer {
	o := &r.Optim
	adamW := optim.AdamW{Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Epsilon, WeightDecay: o.WeightDecay}
	switch o.Optimizer {
	case "adam":
		return optim.Adam{Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Epsilon, WeightDecay: o.WeightDecay}
	case "sgd":
		return optim.SGD{WeightDecay: o.WeightDecay}
	case "adafactor":
		return optim.Adafactor{HF: true, Decay: -0.8, Eps1: 1e-30, Eps2: 1e-3, ClipThreshold: 1, WeightDecay: o.WeightDecay}
	case "adafactor_torch":
		return optim.Adafactor{Decay: -0.8, Eps1: optim.Float32Eps, Eps2: 1e-3, ClipThreshold: 1, WeightDecay: o.WeightDecay}
	case "muon":
		// Embeddings and heads are AdamW's, as the method's author and LLaMA-Factory have it.
		inner := func(s *graph.StateSpec) bool { return !slices.Contains(s.Axes, "vocab") }
		return optim.Muon{Momentum: 0.95, Eps: 1e-7, Nesterov: true, MatchRMS: true, WeightDecay: o.WeightDecay, Takes: inner, Others: adamW}
	}
	return adamW
}

// schedule is the learning-rate schedule of a run of total steps.
func (r *Recipe) schedule(total int64) (optim.Schedule, error) {
	s := optim.Schedule{Name: r.Optim.Scheduler, Warmup: r.Warmup(total), Total: total}
	if s.Name == "wsd" {
		s.Name = "warmup_stable_decay"
	}
	for key, v := range r.Optim.SchedulerKwargs {
		if err := r.scheduleOption(&s, key, v); err != nil {
			return s, err
		}
	}
	if s.Name == "warmup_stable_decay" && s.Decay == 0 && s.Stable == 0 { // LLaMA-Factory's thirds
		rest := total - s.Warmup
		s.Stable = rest / 3
		s.Decay = rest - s.Stable
	}
	if err := s.Validate(); err != nil {
		return s, r.Errorf("lr_scheduler_type", "%v", err)
	}
	return s, nil
}

// scheduleOption reads one of transformers' lr_scheduler_kwargs.
func (r *Recipe) scheduleOption(s *optim.Schedule, key string, v any) error {
	if key == "decay_type" || key == "warmup_type" {
		text, ok := v.(string)
		if !ok || key == "warmup_type" && text != "linear" {
			return r.Errorf("lr_scheduler_kwargs", "%s: got %v", key, v)
		}
		if key == "decay_type" {
			s.Shape = text
		}
		return nil
	}
	var n float64
	switch x := v.(type) {
	case int:
		n = float64(x)
	case float64:
		n = x
	default:
		return r.Errorf("lr_scheduler_kwargs", "%s: want a number, got %v", key, v)
	}
	whole := map[string]*int64{"num_stable_steps": &s.Stable, "num_decay_steps": &s.Decay, "timescale": &s.Timescale}
	real := map[string]*float64{"min_lr_ratio": &s.MinRatio, "min_lr_rate": &s.MinRatio, "num_cycles": &s.Cycles, "power": &s.Power}
	switch {
	case whole[key] != nil && n == math.Trunc(n) && n >= 0:
		*whole[key] = int64(n)
	case real[key] != nil:
		*real[key] = n
	case key == "min_lr":
		s.MinRatio = n / r.Optim.LearningRate
	case key == "lr_end":
		s.End = n / r.Optim.LearningRate
	default:
		return r.Errorf("lr_scheduler_kwargs", "%s: is not known, or not with the value %v", key, v)
	}
	return nil
}
