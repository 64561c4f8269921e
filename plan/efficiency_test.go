package plan

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"danlu/hardware"
	"danlu/internal/numtest"
)

// facts reads a table of the reference data, a map for each row.
func facts(t *testing.T, file string) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join(numtest.Goldens(t, "training/planner_facts"), file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]string
	for _, r := range rows[1:] {
		m := map[string]string{}
		for i, key := range rows[0] {
			m[key] = r[i]
		}
		out = append(out, m)
	}
	return out
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestGoldenTrainingRuns fits the efficiency on the LLaMA and Llama 2 rows and predicts the hours of all others.
func TestGoldenTrainingRuns(t *testing.T) {
	gpus, err := hardware.KnownGPUs("")
	if err != nil {
		t.Fatal(err)
	}
	var logs []float64
	type run struct {
		name string
		off  float64 // relative error of the predicted hours
	}
	var others []run
	for _, r := range facts(t, "training_runs.csv") {
		if r["gpu_hours"] == "" || r["tokens"] == "" {
			continue
		}
		name, _, _ := strings.Cut(r["model"], " ")
		s, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		g, err := gpus.Find(r["gpu"])
		if err != nil {
			t.Fatal(err)
		}
		hours := number(t, r["gpu_hours"])
		total := number(t, r["tokens"]) * s.TrainingFLOPs(min(s.Context, pretrainContext))
		if strings.HasPrefix(name, "llama-2-") || slices.Contains(strings.Split("llama-7b llama-13b llama-30b llama-65b", " "), name) {
			logs = append(logs, math.Log(total/(hours*3600*Sustained(g, BF16))))
			continue
		}
		predicted := total / Sustained(g, BF16) / 3600
		t.Logf("%-28s %-10s %11.0f hours, predicted %11.0f, %+.0f%%", r["model"], r["gpu"], hours, predicted, 100*(predicted/hours-1))
		others = append(others, run{r["model"], math.Abs(predicted/hours - 1)})
	}
	sum := 0.0
	for _, l := range logs {
		sum += l
	}
	if fitted := efficiency * math.Exp(sum/float64(len(logs))); !(math.Abs(fitted-efficiency) < 1e-3) {
		t.Errorf("efficiency: %.4f by the %d LLaMA rows, %v in the code", fitted, len(logs), efficiency)
	}
	slices.SortFunc(others, func(a, b run) int { return int(1e6 * (a.off - b.off)) })
	n := len(others)
	median, worst := (others[(n-1)/2].off+others[n/2].off)/2, others[n-1].off
	t.Logf("median error %.1f%%, worst %.1f%%", 100*median, 100*worst)
	if !(median <= 0.25) || !(worst <= 0.60) {
		t.Errorf("median error %.1f%%, worst %.1f%% (%s); want at most 25%% and 60%%", 100*median, 100*worst, others[n-1].name)
	}
	numtest.Count(t, "planner_facts training_runs", len(logs)+n)
}
