package recipe

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	html "html/template"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"danlu/internal/locale"
)

// pageName is a pipeline's report: one HTML file without outside parts, in English and Chinese.
const pageName = "report.html"

//go:embed page.html
var pageFile string

var page = html.Must(html.New("page").Parse(pageFile))

// said is a text in both languages; the page shows one of them.
type said struct{ EN, ZH string }

// pageData is what the page shows.
type pageData struct {
	Lang, Name, Description string
	Published               []entry
	Probes                  []pageProbe
	Stages                  []pageStage
}

// entry is a named value.
type entry struct{ Key, Value string }

// pageProbe is a probe's marks, a row for each model.
type pageProbe struct {
	Name, Dataset string
	Prompts       int64
	Columns       []string
	Rows          []pageRow
}

type pageRow struct {
	Model            string
	Cells            []string
	Length, Finished string
	Samples          []Sampled
}

// pageStage is what a stage did.
type pageStage struct {
	Name, Kind, Description string
	State                   said
	Seconds                 float64
	Published, Settings     []entry
	Results                 []entry
	Curves                  []pageCurve
}

type pageCurve struct {
	Title said
	SVG   html.HTML
}

// names are a mark's rewards in order.
func (m *Mark) names() []string { return slices.Sorted(maps.Keys(m.Rewards)) }

// writePage writes the report of what is done so far.
func (p *pipeline) writePage() error {
	d := pageData{Lang: locale.Text("en", "zh"), Name: p.title(), Description: p.Description, Published: entries(p.Published)}
	for _, probe := range p.Probes {
		if shown := p.showProbe(probe); len(shown.Rows) > 0 {
			d.Probes = append(d.Probes, shown)
		}
	}
	for _, s := range p.Stages {
		shown, err := p.showStage(s)
		if err != nil {
			return err
		}
		d.Stages = append(d.Stages, shown)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, d); err != nil {
		return fmt.Errorf("recipe: %s: %w", pageName, err)
	}
	path := filepath.Join(p.root, pageName)
	err := os.WriteFile(path+".new", out.Bytes(), 0o644)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	return nil
}

func (p *pipeline) title() string {
	if p.Name != "" {
		return p.Name
	}
	return strings.TrimSuffix(filepath.Base(p.File), ".yaml")
}

// entries lists a mapping in the order of its keys.
func entries(m map[string]any) []entry {
	var list []entry
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, entry{k, fmt.Sprint(m[k])})
	}
	return list
}

func (p *pipeline) showProbe(probe *Probe) pageProbe {
	shown := pageProbe{Name: probe.Name, Dataset: strings.Join(probe.Data.Dataset, ", ")}
	row := func(model string) {
		m := p.state.Marks[model][probe.Name]
		if m == nil || slices.ContainsFunc(shown.Rows, func(r pageRow) bool { return r.Model == model }) {
			return
		}
		if shown.Columns == nil {
			shown.Columns, shown.Prompts = m.names(), m.Prompts
		}
		r := pageRow{Model: model, Length: fmt.Sprintf("%.1f", m.Length), Finished: fmt.Sprintf("%.1f %%", 100*m.Finished), Samples: m.Samples}
		for _, name := range shown.Columns {
			s := m.Rewards[name]
			r.Cells = append(r.Cells, fmt.Sprintf("%.3f ± %.2f · %.1f %%", s.Mean, s.Std, 100*s.Full))
		}
		shown.Rows = append(shown.Rows, r)
	}
	for _, s := range p.Stages {
		if st := p.state.Stages[s.Name]; st != nil && probe.measures(s) {
			row(st.Around[0])
			row(st.Around[1])
		}
	}
	return shown
}

func (p *pipeline) showStage(s *Recipe) (pageStage, error) {
	shown := pageStage{Name: s.Name, Kind: s.Method.Stage, Description: s.Description, State: said{"not begun", "尚未开始"}, Published: entries(s.Published)}
	for _, kv := range s.Settings() {
		shown.Settings = append(shown.Settings, entry{kv[0], kv[1]})
	}
	st := p.state.Stages[s.Name]
	switch {
	case st == nil || !st.Begun:
		return shown, nil
	case st.Finished:
		shown.State = said{"finished", "已完成"}
	default:
		shown.State = said{"begun", "进行中"}
	}
	shown.Seconds = st.Seconds
	if st.Outcome != nil {
		for _, e := range entries(st.Outcome.Results) {
			if v, ok := st.Outcome.Results[e.Key].(float64); ok {
				e.Value = fmt.Sprintf("%.5g", v)
			}
			shown.Results = append(shown.Results, e)
		}
	}
	var err error
	shown.Curves, err = stageCurves(filepath.Join(s.Output.Dir, "metrics.jsonl"))
	return shown, err
}

// drawn are the curves that a stage has, if it logged them: what is drawn together under a title.
var drawn = []struct {
	title said
	keys  []string
}{
	{said{"loss", "损失"}, []string{"loss", "eval_loss"}},
	{said{"reward", "奖励"}, []string{"reward", "objective/scores", "eval_reward"}},
	{said{"accuracy on pairs", "偏好对准确率"}, []string{"accuracy", "rewards/accuracies", "eval_accuracy"}},
	{said{"divergence (KL)", "散度（KL）"}, []string{"kl", "objective/kl_per_token", "divergence"}},
	{said{"tokens of an answer", "回答长度（token）"}, []string{"completions/mean_length"}},
	{said{"entropy", "熵"}, []string{"entropy"}},
	{said{"learning rate", "学习率"}, []string{"learning_rate"}},
}

// stageCurves draws what a stage logged; it has logged nothing where there is no file.
func stageCurves(path string) ([]pageCurve, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	defer f.Close()
	series := map[string][][2]float64{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var record map[string]any
		if json.Unmarshal(lines.Bytes(), &record) != nil {
			continue // a line torn by a kill
		}
		step, _ := record["step"].(float64)
		for name, v := range record {
			if y, ok := v.(float64); ok {
				series[name] = append(series[name], [2]float64{step, y})
			}
		}
	}
	var curves []pageCurve
	for _, d := range drawn {
		var lines [][][2]float64
		var names []string
		for _, key := range d.keys {
			if len(series[key]) > 1 {
				lines, names = append(lines, series[key]), append(names, key)
			}
		}
		if len(lines) > 0 {
			curves = append(curves, pageCurve{d.title, curveSVG(lines, names)})
		}
	}
	return curves, lines.Err()
}

// curveSVG draws lines over steps.
func curveSVG(lines [][][2]float64, names []string) html.HTML {
	const width, height, left, bottom = 340.0, 150.0, 52.0, 18.0
	low, high := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	for _, line := range lines {
		for _, p := range line {
			for k := range p {
				low[k], high[k] = min(low[k], p[k]), max(high[k], p[k])
			}
		}
	}
	for k := range low {
		if high[k] == low[k] {
			high[k] = low[k] + 1
		}
	}
	at := func(p [2]float64) (x, y float64) {
		return left + (p[0]-low[0])/(high[0]-low[0])*(width-left-8), 10 + (high[1]-p[1])/(high[1]-low[1])*(height-bottom-18)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f"><path d="M%.0f 8V%.0fH%.0f" class="axis"/>`, width, height, width, height, left, height-bottom, width-6)
	for k, y := range []float64{14, height - bottom} {
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" text-anchor="end">%.4g</text>`, left-4, y, []float64{high[1], low[1]}[k])
	}
	for k, x := range []float64{left, width - 8} {
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" text-anchor="%s">%.0f</text>`, x, height-4, []string{"start", "end"}[k], []float64{low[0], high[0]}[k])
	}
	for i, line := range lines {
		fmt.Fprintf(&b, `<polyline class="line%d" points="`, i)
		for _, p := range line {
			x, y := at(p)
			fmt.Fprintf(&b, "%.1f,%.1f ", x, y)
		}
		fmt.Fprintf(&b, `"/><text x="%.0f" y="%.0f" text-anchor="end" class="name%d">%s</text>`, width-10, 18+12*float64(i), i, html.HTMLEscapeString(names[i]))
	}
	return html.HTML(b.String() + "</svg>")
}
