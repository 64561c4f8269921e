package optim

import (
	"fmt"
	"math"
)

// Schedule is a learning-rate schedule by the names and formulas of Hugging Face transformers (optimization.py).
type Schedule struct {
	Name   string // lr_scheduler_type
	Warmup int64
	Total  int64
	// Options of single schedules; zero values stand for transformers' defaults.
	MinRatio  float64 // cosine_with_min_lr, warmup_stable_decay: lowest factor
	Cycles    float64 // cosine: 0.5; cosine_with_restarts: 1
	Power     float64 // polynomial: 1
	End       float64 // polynomial: last factor
	Stable    int64   // warmup_stable_decay: steps at the full rate
	Decay     int64   // warmup_stable_decay: steps of decay
	Shape     string  // warmup_stable_decay: linear, cosine (default), 1-sqrt
	Timescale int64   // inverse_sqrt: default the warm-up, or 10,000
}

// Validate names what does not fit.
func (s Schedule) Validate() error {
	switch s.Name {
	case "linear", "cosine", "cosine_with_restarts", "cosine_with_min_lr", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt":
	case "warmup_stable_decay", "wsd":
		switch s.Shape {
		case "", "linear", "cosine", "1-sqrt":
		default:
			return fmt.Errorf("optim: decay_type: want linear, cosine or 1-sqrt, got %q", s.Shape)
		}
		if s.Decay < 0 || s.Stable < 0 {
			return fmt.Errorf("optim: num_decay_steps and num_stable_steps: want no negative number")
		}
	default:
		return fmt.Errorf("optim: lr_scheduler_type: %q is not known", s.Name)
	}
	return nil
}

// Factor multiplies the learning rate of a step, from 0.
func (s Schedule) Factor(step int64) float64 {
	t, warm := float64(step), float64(s.Warmup)
	if s.Name == "warmup_stable_decay" || s.Name == "wsd" {
		return s.stableDecay(t)
	}
	if step < s.Warmup && s.Name != "constant" {
		return t / max(1, warm)
	}
	// left is the share of the run after the warm-up that is done.
	done := (t - warm) / max(1, float64(s.Total)-warm)
	switch s.Name {
	case "constant", "constant_with_warmup":
		return 1
	case "linear":
		return max(0, 1-done)
	case "cosine":
		return max(0, 0.5*(1+math.Cos(math.Pi*2*orDefault(s.Cycles, 0.5)*done)))
	case "cosine_with_min_lr":
		f := 0.5 * (1 + math.Cos(math.Pi*2*orDefault(s.Cycles, 0.5)*done))
		return max(0, f*(1-s.MinRatio)+s.MinRatio)
	case "cosine_with_restarts":
		if done >= 1 {
			return 0
		}
		return max(0, 0.5*(1+math.Cos(math.Pi*math.Mod(orDefault(s.Cycles, 1)*done, 1))))
	case "polynomial":
		if t > float64(s.Total) {
			return s.End
		}
		return (1-s.End)*math.Pow(1-done, orDefault(s.Power, 1)) + s.End
	case "inverse_sqrt":
		scale := float64(s.Timescale)
		if scale == 0 {
			if scale = warm; scale == 0 {
				scale = 10000
			}
		}
		return 1 / math.Sqrt((t+scale-warm)/scale)
	}
	return math.NaN() // Validate refuses the name
}

// stableDecay warms up from the lowest factor, stays at one, and falls back to it.
func (s Schedule) stableDecay(t float64) float64 {
	warm, decay := float64(s.Warmup), float64(s.Decay)
	stable := float64(s.Stable)
	if s.Decay == 0 && s.Stable == 0 { // neither given: the last tenth decays
		decay = math.Ceil(0.1 * float64(s.Total))
	}
	if stable == 0 {
		stable = max(0, float64(s.Total)-warm-decay)
	}
	between := func(f float64) float64 { return (1-s.MinRatio)*f + s.MinRatio }
	switch {
	case t < warm:
		return between(t / max(1, warm))
	case t < warm+stable:
		return 1
	case t >= warm+stable+decay:
		return s.MinRatio
	}
	x := (t - warm - stable) / max(1, decay)
	switch s.Shape {
	case "linear":
		return between(1 - x)
	case "1-sqrt":
		return between(1 - math.Sqrt(x))
	}
	return between(0.5 * (1 + math.Cos(math.Pi*x)))
}

func orDefault(x, def float64) float64 {
	if x == 0 {
		return def
	}
	return x
}
