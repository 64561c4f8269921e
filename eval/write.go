package eval

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"danlu/chat/jinja"
	"danlu/internal/atomicfile"
	"danlu/internal/locale"
)

// Names of the files of a run's folder.
const (
	ResultsFile  = "results.json"
	MarkdownFile = "results.md"
	CacheFile    = "requests.jsonl"
)

// SamplesFile is the name of a task's samples.
func SamplesFile(task string) string {
	return "samples_" + strings.ReplaceAll(task, "/", "_") + ".jsonl"
}

// Save writes the results, the report, and with samples every item with what was asked and answered.
func (r *Report) Save(dir string, samples bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	b, err := r.JSON()
	if err != nil {
		return err
	}
	files := map[string][]byte{ResultsFile: b, MarkdownFile: []byte(r.Markdown())}
	for _, task := range r.order {
		if !samples {
			break
		}
		if files[SamplesFile(task)], err = r.lines(task); err != nil {
			return err
		}
	}
	for name, b := range files {
		err := atomicfile.Write(filepath.Join(dir, name), func(w io.Writer) error { _, err := w.Write(b); return err })
		if err != nil {
			return fmt.Errorf("eval: %w", err)
		}
	}
	return nil
}

// lines are a task's samples, a line each.
func (r *Report) lines(task string) ([]byte, error) {
	var out bytes.Buffer
	for _, s := range r.Samples[task] {
		line, err := s.line()
		if err != nil {
			return nil, fmt.Errorf("eval: %s: item %d: %w", task, s.ID, err)
		}
		out.WriteString(line + "\n")
	}
	return out.Bytes(), nil
}

// JSON is the report as a file; figures that are not finite are null.
func (r *Report) JSON() ([]byte, error) {
	for _, set := range []map[string]Result{r.Results, r.Groups} {
		for _, res := range set {
			for k, v := range res {
				if x, ok := v.(float64); ok && (math.IsNaN(x) || math.IsInf(x, 0)) {
					res[k] = nil
				}
			}
		}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("eval: %w", err)
	}
	return append(b, '\n'), nil
}

// line is a sample as a line of JSON, with its item.
func (s *Sample) line() (string, error) {
	doc, err := jinja.DumpJSON(s.Doc, jinja.JSONStyle{})
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSpace(b.String()), "}") + `,"doc":` + doc + "}", nil
}

// row is a line of the table.
type row struct {
	task, version, filter, metric string
	shots                         int
	better                        string
	value, stderr                 any
}

// rows are the figures in order: tasks as they were asked, then groups.
func (r *Report) rows() []row {
	var list []row
	add := func(name string, res Result, shots int, higher map[string]bool) {
		for _, key := range slices.Sorted(maps.Keys(res)) {
			metric, filter, ok := strings.Cut(key, ",")
			if !ok || strings.HasSuffix(metric, "_stderr") {
				continue
			}
			better := ""
			if h, ok := higher[metric]; ok {
				if better = "↓"; h {
					better = "↑"
				}
			}
			list = append(list, row{name, r.Versions[name], filter, metric, shots, better, res[key], res[metric+"_stderr,"+filter]})
		}
	}
	for _, t := range r.order {
		add(t, r.Results[t], r.Shots[t], r.Higher[t])
	}
	for _, g := range slices.Sorted(maps.Keys(r.Groups)) {
		var higher map[string]bool
		shots := 0
		if tasks := r.Subtasks[g]; len(tasks) > 0 {
			higher, shots = r.Higher[tasks[0]], r.Shots[tasks[0]]
		}
		add(g, r.Groups[g], shots, higher)
	}
	return list
}

// Markdown is the report as two tables: the figures, and what they took.
func (r *Report) Markdown() string {
	var b strings.Builder
	b.WriteString(locale.Text("| task | version | filter | few-shot | metric | | value | | stderr |\n", "| 任务 | 版本 | 过滤 | 示例数 | 指标 | | 值 | | 标准误 |\n"))
	b.WriteString("|---|---|---|---:|---|---|---:|---|---:|\n")
	last := ""
	for _, x := range r.rows() {
		task, version, shots := x.task, x.version, fmt.Sprint(x.shots)
		if task == last {
			task, version, shots = "", "", ""
		}
		last = x.task
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | ± | %s |\n", task, version, x.filter, shots, x.metric, x.better, figure(x.value), figure(x.stderr))
	}
	b.WriteString("\n")
	b.WriteString(locale.Text("| task | items | of | requests | from the cache | cut off | prompts shortened | seconds | prompt tokens | read | generated | tokens/s |\n",
		"| 任务 | 题数 | 总数 | 请求数 | 取自缓存 | 被截断 | 提示被缩短 | 秒 | 提示 token | 实际读入 | 生成 | token/秒 |\n"))
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, t := range r.order {
		e, c := r.Efficiency[t], r.Counts[t]
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %.1f | %d | %d | %d | %.0f |\n", t, c.Effective, c.Original, e.Requests, e.Cached, e.Cut, e.Shortened, e.Seconds,
			e.Prompt, e.Read, e.Generated, float64(e.Prompt+e.Generated)/max(e.Seconds, 1e-9))
	}
	return b.String()
}

func figure(v any) string {
	switch x := v.(type) {
	case float64:
		return fmt.Sprintf("%.4f", x)
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}
