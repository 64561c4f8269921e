package eval

import (
	"math"
	"strings"

	"danlu/chat/jinja"
)

// Report is what a run came to. Its JSON has the harness's keys, and efficiency and calibration besides.
type Report struct {
	Results    map[string]Result             `json:"results"` // by task, and by group
	Groups     map[string]Result             `json:"groups,omitempty"`
	Subtasks   map[string][]string           `json:"group_subtasks,omitempty"`
	Configs    map[string]map[string]any     `json:"configs"`
	Versions   map[string]string             `json:"versions"`
	Shots      map[string]int                `json:"n-shot"`
	Higher     map[string]map[string]bool    `json:"higher_is_better"`
	Counts     map[string]Count              `json:"n-samples"`
	Efficiency map[string]Efficiency         `json:"efficiency"`
	Config     map[string]any                `json:"config"`
	Samples    map[string][]Sample           `json:"-"`
	values     map[string]map[string][]Value // by task and "metric,filter"
	order      []string
}

// Result is a task's figures: "acc,none", "acc_stderr,none" and so on, and its alias.
type Result map[string]any

// Count is how many items there are and were asked.
type Count struct {
	Original  int `json:"original"`
	Effective int `json:"effective"`
}

// Efficiency is what a task took.
type Efficiency struct {
	Seconds  float64 `json:"seconds"`
	Requests int     `json:"requests"`
	Cached   int     `json:"cached"` // answered from the cache
	Cut      int     `json:"cut"`    // answers that ended at their limit of tokens
	Usage
}

// Sample is an item with what was asked and answered, a line of a samples file.
type Sample struct {
	ID        int                 `json:"doc_id"`
	Doc       jinja.Value         `json:"-"`
	Target    string              `json:"target"`
	Arguments [][]string          `json:"arguments"`
	Responses []any               `json:"resps"`
	Filtered  map[string][]string `json:"filtered_resps,omitempty"`
	Pick      *int                `json:"pick,omitempty"` // the most likely choice
	Values    map[string]float64  `json:"metrics"`
}

func newReport(m Model, o Options) *Report {
	c := map[string]any{"model": m.Name(), "limit": o.Limit, "bootstrap_iters": o.Rounds, "fewshot_seed": o.Seed, "apply_chat_template": o.Chat,
		"fewshot_as_multiturn": o.Multiturn, "system_instruction": o.System}
	return &Report{Results: map[string]Result{}, Configs: map[string]map[string]any{}, Versions: map[string]string{}, Shots: map[string]int{},
		Higher: map[string]map[string]bool{}, Counts: map[string]Count{}, Efficiency: map[string]Efficiency{}, Config: c, Samples: map[string][]Sample{},
		values: map[string]map[string][]Value{}}
}

// add adds a task.
func (r *Report) add(t *Task, items []*item, scored []*scores, all int, e Efficiency, o Options) {
	res := Result{"alias": t.alias()}
	r.Results[t.Name], r.Versions[t.Name], r.Shots[t.Name] = res, t.Version, t.Shots
	r.Counts[t.Name] = Count{all, len(items)}
	r.Efficiency[t.Name] = e
	r.Configs[t.Name] = t.config()
	r.order = append(r.order, t.Name)
	columns := gathered(t, scored)
	r.values[t.Name] = columns
	higher := map[string]bool{}
	for key, values := range columns {
		metric, filter, _ := strings.Cut(key, ",")
		m := t.metric(metric)
		higher[metric] = m.Higher
		res[key] = aggregations[m.Aggregation](values)
		if se := stderr(m.Aggregation, values, o.Rounds); !math.IsNaN(se) {
			res[metric+"_stderr,"+filter] = se
		} else {
			res[metric+"_stderr,"+filter] = "N/A"
		}
	}
	if ece, ok := calibration(scored); ok {
		res["ece,none"] = ece
	}
	r.Higher[t.Name] = higher
	for i, x := range items {
		r.Samples[t.Name] = append(r.Samples[t.Name], sample(t, x, scored[i]))
	}
}

func (t *Task) alias() string {
	if t.Alias != "" {
		return t.Alias
	}
	return t.Name
}

// metric is the entry of metric_list of a value's name; pass@1 and pass@10 come from pass_at_k, and what a judge adds of
// itself is a mean.
func (t *Task) metric(name string) Metric {
	for _, m := range t.Metrics {
		if m.Name == name || m.Name == "pass_at_k" && strings.HasPrefix(name, "pass@") {
			return m
		}
	}
	return Metric{Name: name, Aggregation: "mean", Higher: true}
}

// gathered are the values of each "metric,filter" in the order of the items.
func gathered(t *Task, scored []*scores) map[string][]Value {
	columns := map[string][]Value{}
	for _, s := range scored {
		for i, f := range s.filters {
			name := "none"
			if t.Output == Generate {
				name = t.Filters[i].Name
			}
			for metric, v := range f.values {
				if t.judge != nil || t.has(metric) || strings.HasPrefix(metric, "pass@") {
					columns[metric+","+name] = append(columns[metric+","+name], v)
				}
			}
		}
	}
	return columns
}

// config is what the task file says of the prompts, for the record.
func (t *Task) config() map[string]any {
	c := map[string]any{"task": t.Name, "dataset_path": t.Dataset.Path, "output_type": t.Output, "num_fewshot": t.Shots,
		"target_delimiter": t.TargetDelimiter, "fewshot_delimiter": t.FewshotDelimiter}
	for k, v := range t.texts {
		c[k] = v
	}
	if t.Output == Generate {
		c["generation_kwargs"] = map[string]any{"until": t.Generation.Until, "max_gen_toks": t.Generation.MaxTokens, "temperature": t.Generation.Temperature}
	}
	return c
}

// calibration is the expected calibration error of multiple choice with ten bins of equal width (Guo et al. 2017, section
// 2): how far confidence is from accuracy on average.
func calibration(scored []*scores) (float64, bool) {
	const bins = 10
	var right, confidence [bins]float64
	total := 0.0
	for _, s := range scored {
		if !s.chosen {
			continue
		}
		b := min(bins-1, int(s.confidence*bins))
		right[b] += oneIf(s.right)
		confidence[b] += s.confidence
		total++
	}
	if total == 0 {
		return 0, false
	}
	sum := 0.0
	for b := range bins {
		sum += math.Abs(right[b] - confidence[b])
	}
	return sum / total, true
}

func sample(t *Task, x *item, s *scores) Sample {
	out := Sample{ID: x.at, Doc: x.doc, Values: map[string]float64{}}
	if t.target != nil {
		out.Target, _ = t.target.text(x.doc) // it was there when the item was scored
	}
	for i, q := range x.requests {
		a := x.answers[i]
		switch q.Output {
		case Generate:
			out.Arguments = append(out.Arguments, []string{q.Context})
			out.Responses = append(out.Responses, a.Text)
		case Rolling:
			out.Arguments = append(out.Arguments, []string{q.Target})
			out.Responses = append(out.Responses, a.LogLikelihood)
		default:
			out.Arguments = append(out.Arguments, []string{q.Context, q.Target})
			out.Responses = append(out.Responses, []any{a.LogLikelihood, a.Greedy})
		}
	}
	if s.chosen {
		out.Pick = &s.pick
	}
	for i, f := range s.filters {
		name := "none"
		if t.Output == Generate {
			name = t.Filters[i].Name
			if out.Filtered == nil {
				out.Filtered = map[string][]string{}
			}
			out.Filtered[name] = f.answers
		}
		for metric, v := range f.values {
			if t.judge != nil || t.has(metric) || strings.HasPrefix(metric, "pass@") {
				out.Values[metric+","+name] = v.X
			}
		}
	}
	return out
}
