package train

import (
	"bufio"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/data"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/format/safetensors"
	"danlu/internal/numtest"
	"danlu/nn"
	"danlu/optim"
	"danlu/weights"
)

// trajectory is a run of reference data: hyper-parameters, batches, and what each step gave.
type trajectory struct {
	Hyper struct {
		LR          float64   `json:"lr"`
		Betas       []float64 `json:"betas"`
		Eps         float64   `json:"eps"`
		WeightDecay float64   `json:"weight_decay"`
		Clip        float64   `json:"clip"`
		ZLoss       float64   `json:"z_loss"`
		AccumNorm   string    `json:"accum_norm"`
		Schedule    struct {
			Name      string  `json:"name"`
			Warmup    int64   `json:"warmup"`
			MinRatio  float64 `json:"min_ratio"`
			Stable    int64   `json:"stable"`
			Decay     int64   `json:"decay"`
			DecayType string  `json:"decay_type"`
		} `json:"schedule"`
	} `json:"hyper"`
	Batches [][]struct {
		IDs    [][]int32 `json:"ids"`
		Labels [][]int32 `json:"labels"`
		Pos    [][]int32 `json:"pos"`
		Docs   [][]int32 `json:"doc_ids"`
	} `json:"batches"`
	Steps []struct {
		Loss float64 `json:"loss"`
		Z    float64 `json:"z_loss"`
		LR   float64 `json:"lr"`
		Norm float64 `json:"grad_norm_before_clip"`
	} `json:"steps"`
}

func (r *trajectory) schedule() optim.Schedule {
	h := r.Hyper.Schedule
	s := optim.Schedule{Name: h.Name, Warmup: h.Warmup, Total: int64(len(r.Steps)), MinRatio: h.MinRatio, Stable: h.Stable, Decay: h.Decay, Shape: h.DecayType}
	if s.Name == "cosine_min" {
		s.Name = "cosine_with_min_lr"
	}
	return s
}

// step is step i as the loader would give it.
func (r *trajectory) step(i int) *data.Step {
	st := &data.Step{}
	for _, m := range r.Batches[i] {
		t := len(m.IDs[0])
		x := &data.Batch{B: len(m.IDs), T: t, P: 1, Sequences: 1, Rows: len(m.IDs), Tokens: len(m.IDs) * t}
		for b, row := range m.IDs {
			for k, id := range row {
				pos, doc, target := int32(k), int32(0), data.Ignore
				if m.Pos != nil {
					pos, doc = m.Pos[b][k], m.Docs[b][k]
				}
				if k+1 < t {
					target = m.Labels[b][k+1]
				}
				if target != data.Ignore {
					x.Scored++
				}
				x.IDs, x.Positions, x.Segments, x.Targets = append(x.IDs, id), append(x.Positions, pos), append(x.Segments, doc), append(x.Targets, target)
			}
		}
		st.Batches = append(st.Batches, x)
		st.Scored += int64(x.Scored)
		st.Tokens += int64(x.Tokens)
	}
	return st
}

func TestGoldenAdamWTrajectory(t *testing.T) {
	dir := numtest.Goldens(t, "training/adamw_trajectory")
	finals, err := filepath.Glob(filepath.Join(dir, "*.final.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, final := range finals {
		name := strings.TrimSuffix(filepath.Base(final), ".final.safetensors")
		t.Run(name, func(t *testing.T) { runTrajectory(t, dir, name) })
	}
	numtest.Count(t, "training/adamw_trajectory", len(finals))
}

func runTrajectory(t *testing.T, dir, name string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var r trajectory
	text, err := os.ReadFile(filepath.Join(dir, name+".json"))
	must(err)
	must(json.Unmarshal(text, &r))
	m, _, err := family.Load(filepath.Join(dir, "config.json"))
	must(err)
	eng, err := cpu.New(cpu.Options{Threads: 2})
	must(err)
	defer eng.Close()
	store := eng.NewStore()
	h := r.Hyper
	s, err := NewStepper(StepConfig{Engine: eng, Store: store, Model: m, Policy: nn.Float32, Objective: CrossEntropy(h.ZLoss), Accumulates: len(r.Batches[0]) > 1,
		Updater: optim.AdamW{Beta1: h.Betas[0], Beta2: h.Betas[1], Eps: h.Eps, WeightDecay: h.WeightDecay}})
	must(err)
	defer s.Close()
	src, err := weights.Open(filepath.Join(dir, "model.safetensors"), weights.OpenOptions{})
	must(err)
	defer src.Close()
	must(weights.Load(store, s.Params(), src, weights.LoadOptions{}))

	records := r.run(t, s)
	if len(records) != len(r.Steps) {
		t.Fatalf("%d steps were logged, want %d", len(records), len(r.Steps))
	}
	for i, want := range r.Steps {
		check := func(what string, want float64) {
			got, _ := records[i][what].(float64)
			if diff := math.Abs(got - want); !(diff <= 2e-5*math.Abs(want)) && got != want {
				t.Errorf("step %d: %s %v, want %v", i, what, got, want)
			}
		}
		check("learning_rate", want.LR)
		check("loss", want.Loss)
		check("grad_norm", want.Norm)
		if h.ZLoss != 0 {
			check("z_loss", want.Z)
		}
	}
	final, err := safetensors.Open(filepath.Join(dir, name+".final.safetensors"))
	must(err)
	defer final.Close()
	worst := 0.0
	for _, n := range final.Names() {
		want, err := final.Tensor(n)
		must(err)
		got, err := store.Get(n)
		must(err)
		for k, w := range want.F32() {
			diff := math.Abs(float64(got.F32()[k]) - float64(w))
			if !(diff <= 1e-4) {
				t.Fatalf("%s element %d: %v, want %v", n, k, got.F32()[k], w)
			}
			worst = max(worst, diff)
		}
	}
	t.Logf("%d steps, weights within %.1e", len(r.Steps), worst)
}

// run trains on the reference batches and returns a record a step.
func (r *trajectory) run(t *testing.T, s *Stepper) []Record {
	t.Helper()
	ctx, h := context.Background(), r.Hyper
	rate := func(step int64) float64 { return h.LR * r.schedule().Factor(step) }
	if h.AccumNorm != "means" {
		// The loop runs over a set of its own; Prepare puts the reference batches into its steps.
		at, out := 0, t.TempDir()
		_, err := Run(ctx, Options{
			Stepper: s, Loader: newLoader(t, textSet(t, 8), data.LoaderOptions{}), Rate: rate, MaxGradNorm: h.Clip, Steps: int64(len(r.Steps)), LogEvery: 1, Dir: out,
			Prepare: func(context.Context, *data.Step) ([]*data.Step, error) {
				at++
				return []*data.Step{r.step(at - 1)}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return readMetrics(t, out)
	}
	// The mean of the micro-batches' means is not what the loop computes: each gets a normaliser of its own.
	var records []Record
	for i := range r.Steps {
		st, loss := r.step(i), 0.0
		for k, x := range st.Batches {
			got, err := s.Accumulate(ctx, x, 1/float64(x.Scored*len(st.Batches)), k == 0)
			if err != nil {
				t.Fatal(err)
			}
			loss += got["loss"]
		}
		norm, err := s.GradNorm(ctx)
		if err == nil {
			err = s.Apply(ctx, rate(int64(i)), min(1, h.Clip/(norm+1e-6)), int64(i+1))
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, Record{"loss": loss, "grad_norm": norm, "learning_rate": rate(int64(i))})
	}
	return records
}

// readMetrics reads a run's metrics.jsonl.
func readMetrics(t testing.TB, dir string) []Record {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, metricsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []Record
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		all = append(all, r)
	}
	return all
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}
