package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"danlu/internal/locale"
)

// Difference is how two runs differ in one figure over the items that both asked.
type Difference struct {
	Task   string  `json:"task"`
	Metric string  `json:"metric"` // with its filter
	Items  int     `json:"items"`
	A      float64 `json:"a"` // mean over the items
	B      float64 `json:"b"`
	Diff   float64 `json:"difference"` // B - A
	Stderr float64 `json:"stderr"`     // of the difference, item by item
	Low    float64 `json:"low"`        // ends of the 95% interval, by the bootstrap
	High   float64 `json:"high"`
	P      float64 `json:"p"` // of a difference as large by chance: signs of the items' differences turned at random
	Better int     `json:"b_better"`
	Worse  int     `json:"b_worse"`
}

// rounds of the bootstrap and of the test of a comparison.
const compareRounds = 10000

// Compare compares two runs' folders item by item. Both have to hold samples.
func Compare(a, b string) ([]Difference, error) {
	tasks, err := sampleTasks(a)
	if err != nil {
		return nil, err
	}
	var out []Difference
	for _, task := range tasks {
		x, err := readValues(filepath.Join(a, SamplesFile(task)))
		if err != nil {
			return nil, err
		}
		y, err := readValues(filepath.Join(b, SamplesFile(task)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, differences(task, x, y)...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("eval: compare: %s and %s have no items of the same task", a, b)
	}
	return out, nil
}

// sampleTasks are the tasks of which a folder holds samples.
func sampleTasks(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, SamplesFile("*")))
	if err != nil {
		return nil, fmt.Errorf("eval: compare: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("eval: compare: %s: holds no samples; run danlu eval with --output-path %s --log-samples", dir, dir)
	}
	var tasks []string
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "samples_"), ".jsonl")
		tasks = append(tasks, name)
	}
	return tasks, nil
}

// itemKey tells items apart: their place and what was asked.
type itemKey struct {
	id  int
	doc string
}

// readValues reads the metrics of a samples file by item.
func readValues(file string) (map[itemKey]map[string]float64, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("eval: compare: %w", err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<16)
	out := map[itemKey]map[string]float64{}
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var s struct {
				ID     int                `json:"doc_id"`
				Doc    json.RawMessage    `json:"doc"`
				Values map[string]float64 `json:"metrics"`
			}
			if err := json.Unmarshal(line, &s); err != nil {
				return nil, fmt.Errorf("eval: compare: %s:%d: %w", file, n, err)
			}
			out[itemKey{s.ID, hash(string(s.Doc))}] = s.Values
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("eval: compare: %s: %w", file, err)
		}
	}
}

func differences(task string, a, b map[itemKey]map[string]float64) []Difference {
	pairs := map[string][][2]float64{}
	for _, k := range slices.SortedFunc(maps.Keys(a), func(x, y itemKey) int { return x.id - y.id }) {
		for metric, x := range a[k] {
			if y, ok := b[k][metric]; ok {
				pairs[metric] = append(pairs[metric], [2]float64{x, y})
			}
		}
	}
	var out []Difference
	for _, metric := range slices.Sorted(maps.Keys(pairs)) {
		out = append(out, difference(task, metric, pairs[metric]))
	}
	return out
}

// difference compares values item by item.
func difference(task, metric string, pairs [][2]float64) Difference {
	n := len(pairs)
	d := Difference{Task: task, Metric: metric, Items: n}
	diffs := make([]float64, n)
	for i, p := range pairs {
		d.A, d.B = d.A+p[0]/float64(n), d.B+p[1]/float64(n)
		diffs[i] = p[1] - p[0]
		d.Diff += diffs[i] / float64(n)
		if diffs[i] > 0 {
			d.Better++
		} else if diffs[i] < 0 {
			d.Worse++
		}
	}
	sum := 0.0
	for _, x := range diffs {
		sum += (x - d.Diff) * (x - d.Diff)
	}
	if n > 1 {
		d.Stderr = math.Sqrt(sum / float64(n-1) / float64(n))
	}
	rng := rand.New(rand.NewPCG(1234, uint64(n)))
	means := make([]float64, compareRounds)
	asLarge := 1
	for r := range means {
		turned := 0.0
		for range n {
			means[r] += diffs[rng.IntN(n)] / float64(n)
		}
		for _, x := range diffs {
			if rng.Uint64()&1 == 0 {
				x = -x
			}
			turned += x / float64(n)
		}
		if math.Abs(turned) >= math.Abs(d.Diff)-1e-12 {
			asLarge++
		}
	}
	slices.Sort(means)
	d.Low, d.High = means[compareRounds*25/1000], means[compareRounds*975/1000-1]
	d.P = float64(asLarge) / float64(compareRounds+1)
	return d
}

// DifferencesMarkdown is a comparison as a table.
func DifferencesMarkdown(list []Difference, a, b string) string {
	var out strings.Builder
	fmt.Fprintf(&out, locale.Text("| task | metric | items | %s | %s | difference | stderr | 95%% interval | p | better / worse |\n", "| 任务 | 指标 | 题数 | %s | %s | 差 | 标准误 | 95%% 区间 | p | 变好 / 变差 |\n"), a, b)
	out.WriteString("|---|---|---:|---:|---:|---:|---:|---|---:|---:|\n")
	for _, d := range list {
		fmt.Fprintf(&out, "| %s | %s | %d | %.4f | %.4f | %+.4f | %.4f | %+.4f … %+.4f | %.4f | %d / %d |\n", d.Task, d.Metric, d.Items, d.A, d.B, d.Diff, d.Stderr, d.Low, d.High, d.P, d.Better, d.Worse)
	}
	return out.String()
}
