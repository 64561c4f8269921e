package plan

import (
	"fmt"
	"io"
	"slices"

	"danlu/internal/locale"
	"danlu/pipeline"
)

// Simulation is a simulated pipeline schedule beside what the literature states of it.
type Simulation struct {
	Schedule     string    `json:"schedule"`
	Ranks        int       `json:"ranks"`
	MicroBatches int       `json:"micro_batches"`
	Makespan     float64   `json:"makespan"` // in the unit of the given times, as all times here
	Bubble       []float64 `json:"bubble"`   // idle time, by rank
	Peak         []int     `json:"peak_activations"`
	Share        float64   `json:"bubble_share"`         // of all ranks' time
	Stated       float64   `json:"bubble_stated"`        // by the published formula, of one rank
	Parameters   int       `json:"parameters_per_rank"`  // copies of a stage's parameters
	Most         int       `json:"activations_per_rank"` // chunks, at most, by the published table
	SVG          string    `json:"-"`                    // the timeline
}

// What a simulation may be: it is drawn as one picture.
const (
	maxOps  = 1 << 20
	maxTime = 1e9
)

// Pipeline simulates a schedule.
func Pipeline(name string, ranks, micros int, t pipeline.Times) (*Simulation, error) {
	if ranks > 0 && micros > maxOps/ranks {
		return nil, fmt.Errorf("plan: micro-batches: want ranks times micro-batches up to %d, got %d x %d", maxOps, ranks, micros)
	}
	for _, x := range []float64{t.F, t.B, t.W, t.FB, t.Link} {
		if !(x >= 0 && x <= maxTime) {
			return nil, fmt.Errorf("plan: times: want 0 to %g, got %v", float64(maxTime), x)
		}
	}
	var s *pipeline.Schedule
	var err error
	if name == "ZB1P" { // its order depends on the times
		s, err = pipeline.ZB1P(ranks, micros, t)
	} else {
		s, err = pipeline.New(name, ranks, micros)
	}
	if err != nil {
		return nil, err
	}
	run, err := s.Simulate(t)
	if err != nil {
		return nil, err
	}
	out := &Simulation{Schedule: name, Ranks: ranks, MicroBatches: micros, Makespan: run.Makespan, Bubble: run.Bubble, Peak: run.PeakLive, SVG: s.Timeline(run)}
	idle := 0.0
	for _, b := range run.Bubble {
		idle += b
	}
	if run.Makespan > 0 {
		out.Share = idle / run.Makespan / float64(ranks)
	}
	for _, stages := range []int{ranks, 2 * ranks} {
		for _, f := range pipeline.Formulas(stages) {
			if f.Name == name && f.Devices == ranks {
				out.Stated, out.Parameters, out.Most = f.Bubble(t), f.Parameters, f.Activations
			}
		}
	}
	return out, nil
}

// Write prints a simulation for people.
func (s *Simulation) Write(w io.Writer) error {
	return lines(w, [][2]string{
		{locale.Text("schedule", "调度"), fmt.Sprintf(locale.Text("%s, %d ranks, %d micro-batches", "%s，%d 个设备，%d 个微批"), s.Schedule, s.Ranks, s.MicroBatches)},
		{locale.Text("time", "总时间"), fmt.Sprintf("%g", s.Makespan)},
		{locale.Text("bubble", "气泡"), fmt.Sprintf(locale.Text("%g to %g a rank (%.1f%% of all time); %g by the published formula", "每设备 %g 至 %g（占总时间 %.1f%%）；公开公式为 %g"),
			slices.Min(s.Bubble), slices.Max(s.Bubble), 100*s.Share, s.Stated)},
		{locale.Text("activations", "激活"), fmt.Sprintf(locale.Text("%d micro-batches at most (%d by the published table)", "至多保存 %d 个微批（公开表格为 %d）"), slices.Max(s.Peak), s.Most)},
		{locale.Text("parameters", "参数"), fmt.Sprintf(locale.Text("%d stage(s) a rank", "每设备 %d 个阶段"), s.Parameters)},
	})
}
