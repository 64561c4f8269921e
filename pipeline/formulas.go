package pipeline

import "fmt"

// Formula is what the literature states of a schedule over a number of stages (DeepSeek-V3, arXiv:2412.19437 table 2,
// and the table of the DualPipe repository).
type Formula struct {
	Name        string
	Parameters  int // copies of a stage's parameters on each device
	Activations int // chunks whose activations a device holds, at most
	Devices     int
	Bubble      func(t Times) float64
}

// Formulas lists the schedules for a model cut into stages.
func Formulas(stages int) []Formula {
	n := float64(stages)
	dual := func(t Times) float64 { return (n/2 - 1) * (t.FB + t.B - 3*t.W) }
	return []Formula{
		{"1F1B", 1, stages, stages, func(t Times) float64 { return (n - 1) * (t.F + t.B) }},
		{"ZB1P", 1, stages, stages, func(t Times) float64 { return (n - 1) * (t.F + t.B - 2*t.W) }},
		{"DualPipe", 2, stages + 1, stages, dual},
		{"DualPipeV", 2, stages + 1, stages / 2, dual},
	}
}

// New makes the schedule of that name. ZB1P's order depends on times; it is made for F = B - W = W.
func New(name string, ranks, micros int) (*Schedule, error) {
	switch name {
	case "1F1B":
		return OneFOneB(ranks, micros)
	case "ZB1P":
		return ZB1P(ranks, micros, Times{F: 1, B: 2, W: 1})
	case "DualPipe":
		return DualPipe(ranks, micros)
	case "DualPipeV":
		return DualPipeV(ranks, micros)
	}
	return nil, fmt.Errorf("pipeline: schedule: want 1F1B, ZB1P, DualPipe or DualPipeV, got %q", name)
}
