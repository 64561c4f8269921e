package pipeline

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

func read(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(numtest.Goldens(t, "training/dualpipe"), name))
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// near compares times, which are sums of a few hundred terms of float64.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(b)) }

type goldenTimes struct{ F, B, W, FB float64 }

func (g goldenTimes) times() Times { return Times{F: g.F, B: g.B, W: g.W, FB: g.FB} }

type goldenRank struct {
	Rank     int
	StepEnds []int `json:"step_ends"`
	Ops      [][]any
	StartEnd [][2]float64 `json:"start_end"`
}

// text is an operation as the reference data writes it.
func (op Op) text() string {
	switch op.Kind {
	case F:
		return fmt.Sprint([]any{op.Kind, op.Forward.Lane, op.Forward.Micro})
	case FB:
		return fmt.Sprint([]any{op.Kind, op.Forward.Lane, op.Forward.Micro, op.Backward.Lane, op.Backward.Micro})
	}
	return fmt.Sprint([]any{op.Kind, op.Backward.Lane, op.Backward.Micro})
}

func compareRanks(t *testing.T, got *Schedule, want []goldenRank) {
	t.Helper()
	if len(want) != len(got.Ranks) {
		t.Fatalf("%s: %d ranks, want %d", got.Name, len(got.Ranks), len(want))
	}
	for r, w := range want {
		var a, b []string
		for _, op := range w.Ops {
			a = append(a, fmt.Sprint(op))
		}
		for _, op := range got.Ranks[r] {
			b = append(b, op.text())
		}
		if strings.Join(a, " ") != strings.Join(b, " ") {
			t.Errorf("%s: rank %d:\n got %v\nwant %v", got.Name, r, b, a)
		}
	}
}

func TestGoldenSchedules(t *testing.T) {
	var file struct {
		Schedules []struct {
			PP, Microbatches int
			Times            goldenTimes
			Makespan         float64
			Ranks            []goldenRank
			OneFOneB         []goldenRank `json:"one_f_one_b"`
		}
	}
	read(t, "schedules.json", &file)
	for _, c := range file.Schedules {
		s, err := DualPipe(c.PP, c.Microbatches)
		if err != nil {
			t.Fatal(err)
		}
		compareRanks(t, s, c.Ranks)
		run, err := s.Simulate(c.Times.times())
		if err != nil {
			t.Fatal(err)
		}
		if !near(run.Makespan, c.Makespan) {
			t.Errorf("makespan %v, want %v", run.Makespan, c.Makespan)
		}
		for r, w := range c.Ranks {
			if fmt.Sprint(s.StepEnds[r]) != fmt.Sprint(w.StepEnds) {
				t.Errorf("rank %d: step ends %v, want %v", r, s.StepEnds[r], w.StepEnds)
			}
			for i, span := range w.StartEnd {
				if !near(run.Spans[r][i][0], span[0]) || !near(run.Spans[r][i][1], span[1]) {
					t.Fatalf("rank %d: operation %d at %v, want %v", r, i, run.Spans[r][i], span)
				}
			}
		}
		one, err := OneFOneB(c.PP, c.Microbatches)
		if err != nil {
			t.Fatal(err)
		}
		compareRanks(t, one, c.OneFOneB)
	}
	numtest.Count(t, "dualpipe schedules", len(file.Schedules))
}

func TestGoldenBubbles(t *testing.T) {
	var file struct {
		Grid []struct {
			PP, Microbatches int
			Valid            bool           `json:"dualpipe_valid"`
			Parameters       map[string]int `json:"parameters_per_device"`
			Activations      map[string]int `json:"activations_per_device"`
			Devices          map[string]int
			Times            []struct {
				goldenTimes
				Bubble    map[string]float64
				Simulated map[string]struct {
					Makespan float64
					Busy     []float64
					Bubble   any
					Peak     []int `json:"peak_live_microbatches"`
				}
			}
		}
	}
	read(t, "bubbles.json", &file)
	cases := 0
	for _, g := range file.Grid {
		for _, f := range Formulas(g.PP) {
			if f.Parameters != g.Parameters[f.Name] || f.Activations != g.Activations[f.Name] || f.Devices != g.Devices[f.Name] {
				t.Errorf("%d ranks: %+v, want %d %d %d", g.PP, f, g.Parameters[f.Name], g.Activations[f.Name], g.Devices[f.Name])
			}
			for _, c := range g.Times {
				if got := f.Bubble(c.times()); !near(got, c.Bubble[f.Name]) {
					t.Errorf("%d ranks, %+v: %s bubble %v, want %v", g.PP, c.goldenTimes, f.Name, got, c.Bubble[f.Name])
				}
			}
		}
		if _, err := DualPipe(g.PP, g.Microbatches); (err == nil) != g.Valid {
			t.Errorf("DualPipe(%d, %d): %v, want valid %v", g.PP, g.Microbatches, err, g.Valid)
		}
		for _, c := range g.Times {
			for name, want := range c.Simulated {
				s, err := New(name, g.PP, g.Microbatches)
				if err != nil {
					t.Fatal(err)
				}
				run, err := s.Simulate(c.times())
				if err != nil {
					t.Fatal(err)
				}
				if !near(run.Makespan, want.Makespan) || fmt.Sprint(run.PeakLive) != fmt.Sprint(want.Peak) {
					t.Errorf("%s %d x %d %+v: makespan %v, live %v, want %v, %v", name, g.PP, g.Microbatches, c.goldenTimes, run.Makespan, run.PeakLive, want.Makespan, want.Peak)
				}
				for r, b := range want.Busy {
					if !near(run.Busy[r], b) {
						t.Errorf("%s %d x %d: rank %d busy %v, want %v", name, g.PP, g.Microbatches, r, run.Busy[r], b)
					}
				}
				if all, ok := want.Bubble.(float64); ok && !near(run.Bubble[0], all) {
					t.Errorf("%s %d x %d: bubble %v, want %v", name, g.PP, g.Microbatches, run.Bubble[0], all)
				}
				cases++
			}
		}
	}
	numtest.Count(t, "dualpipe bubbles", cases)
}

func TestZB1P(t *testing.T) {
	for _, ranks := range []int{1, 2, 4, 7, 8} {
		for _, micros := range []int{2 * ranks, 3*ranks + 1} {
			times := Times{F: 1, B: 2, W: 1}
			s, err := ZB1P(ranks, micros, times)
			if err != nil {
				t.Fatal(err)
			}
			run, err := s.Simulate(times)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range Formulas(ranks) {
				if f.Name != s.Name {
					continue
				}
				if run.Bubble[0] > f.Bubble(times)+1e-9 {
					t.Errorf("%d x %d: bubble %v, formula %v", ranks, micros, run.Bubble[0], f.Bubble(times))
				}
			}
			for r, live := range run.PeakLive {
				if live > ranks-r {
					t.Errorf("%d x %d: rank %d holds %d chunks", ranks, micros, r, live)
				}
			}
		}
	}
}

func TestDualPipeV(t *testing.T) {
	for ranks := 1; ranks <= 6; ranks++ {
		s, err := DualPipeV(ranks, 3*ranks)
		if err != nil {
			t.Fatal(err)
		}
		times := Times{F: 1, B: 2, W: 1, FB: 3}
		run, err := s.Simulate(times)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[Chunk]int{}
		for _, op := range s.Ranks[0] {
			if op.Kind.forward() {
				seen[op.Forward]++
			}
			if op.Kind.backward() {
				seen[op.Backward]--
			}
		}
		for c, n := range seen {
			if n != 0 {
				t.Errorf("%d ranks: chunk %v: %d forwards without backward", ranks, c, n)
			}
		}
		// The formula is DualPipe's for twice as many stages.
		if want := float64(ranks-1) * (times.FB + times.B - 3*times.W); run.Bubble[0] > want+1e-9 {
			t.Errorf("%d ranks: bubble %v, formula %v", ranks, run.Bubble[0], want)
		}
	}
}

func TestLinkTimeDelays(t *testing.T) {
	s, err := OneFOneB(4, 8)
	if err != nil {
		t.Fatal(err)
	}
	near0, err := s.Simulate(Times{F: 1, B: 2, W: 1})
	if err != nil {
		t.Fatal(err)
	}
	far, err := s.Simulate(Times{F: 1, B: 2, W: 1, Link: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	// The first forward and the last backward each cross three links that nothing hides.
	if far.Makespan < near0.Makespan+3 {
		t.Errorf("makespan %v with links, %v without", far.Makespan, near0.Makespan)
	}
}

func TestTimeline(t *testing.T) {
	s, err := DualPipe(4, 10)
	if err != nil {
		t.Fatal(err)
	}
	run, err := s.Simulate(Times{F: 1, B: 2, W: 1, FB: 3})
	if err != nil {
		t.Fatal(err)
	}
	svg := s.Timeline(run)
	ops := 0
	for _, r := range s.Ranks {
		ops += len(r)
	}
	if !strings.HasPrefix(svg, "<svg") || strings.Count(svg, "<title>") != ops {
		t.Errorf("%d titles, want one for each of %d operations", strings.Count(svg, "<title>"), ops)
	}
}

func TestBadSizes(t *testing.T) {
	for _, c := range []struct {
		name          string
		ranks, micros int
	}{{"1F1B", 0, 1}, {"1F1B", 1, 0}, {"DualPipe", 3, 6}, {"DualPipe", 4, 7}, {"DualPipe", 4, 6}, {"DualPipeV", 4, 7}, {"2F2B", 4, 8}, {"1F1B", 1 << 20, 1}} {
		if s, err := New(c.name, c.ranks, c.micros); err == nil {
			t.Errorf("%+v: got %s", c, s.Name)
		}
	}
	s, _ := OneFOneB(2, 2)
	if _, err := s.Simulate(Times{F: 1, B: 1, W: 2}); err == nil {
		t.Error("W > B was taken")
	}
	if _, err := s.Simulate(Times{F: math.NaN()}); err == nil {
		t.Error("NaN was taken")
	}
}
