package eval

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"danlu/chat/jinja"
	"danlu/internal/nearest"
	"danlu/internal/pyre"
)

func readOutput(t *Task, n *yaml.Node) error {
	s, err := text(n)
	if err != nil {
		return err
	}
	known := []Output{MultipleChoice, Likelihood, Rolling, Generate}
	if t.Output = Output(s); !slices.Contains(known, t.Output) {
		return fmt.Errorf("want one of %v, got %q", known, s)
	}
	return nil
}

// readDatasetOptions reads data_files; what else there is goes to a generator. trust_remote_code and streaming change
// nothing about the items.
func readDatasetOptions(t *Task, n *yaml.Node) error {
	t.Dataset.Options = jinja.NewDict()
	return pairs(n, func(key string, v *yaml.Node) (err error) {
		switch key {
		case "trust_remote_code", "streaming":
			return nil
		case "data_files":
			t.Dataset.Files, err = readFiles(v)
			return err
		}
		value, err := valueOf(v)
		t.Dataset.Options.SetString(key, value)
		return err
	})
}

// readFiles reads data_files: a file, a list, or these by split; without splits they are the train split.
func readFiles(n *yaml.Node) (map[string][]string, error) {
	files := map[string][]string{}
	if n.Kind != yaml.MappingNode {
		list, err := texts(n)
		files["train"] = list
		return files, err
	}
	return files, pairs(n, func(split string, v *yaml.Node) (err error) {
		files[split], err = texts(v)
		return err
	})
}

func readProcess(t *Task, n *yaml.Node) error {
	name, ok := function(n)
	switch {
	case isNull(n):
		return nil
	case !ok:
		return errors.New("want a function")
	}
	if t.process, ok = lookUp(t.Name, name, func(k known) map[string]func(Doc) (Doc, error) { return k.processes }); !ok {
		return notSupported(name)
	}
	return nil
}

func readJudge(t *Task, n *yaml.Node) error {
	name, ok := function(n)
	switch {
	case isNull(n):
		return nil
	case !ok:
		name = n.Value // danlu's own tasks name a judge
	}
	if c, ok := lookUp(t.Name, name, func(k known) map[string]string { return k.counted }); ok {
		t.counted = &field{key: "process_results", source: c}
		return nil
	}
	if t.judge, ok = lookUp(t.Name, name, func(k known) map[string]judge { return k.judges }); !ok {
		return notSupported(name)
	}
	return nil
}

func readMetadata(t *Task, n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return nil // anything may stand here
	}
	return pairs(n, func(key string, v *yaml.Node) error {
		if key == "version" {
			t.Version = v.Value
		}
		return nil
	})
}

func readFewshot(t *Task, n *yaml.Node) error {
	f := &t.fewshot
	at := map[string]**field{"doc_to_text": &f.text, "doc_to_target": &f.target, "doc_to_choice": &f.choice, "gen_prefix": &f.prefix}
	return pairs(n, func(key string, v *yaml.Node) (err error) {
		switch key {
		case "sampler":
			if f.sampler, err = text(v); err == nil && f.sampler != "default" && f.sampler != "first_n" {
				err = fmt.Errorf("want default or first_n, got %q", f.sampler)
			}
		case "split":
			f.split, err = text(v)
		case "fewshot_delimiter":
			f.exampleDelimiter, err = text(v)
		case "target_delimiter":
			f.targetDelimiter, err = text(v)
		case "fewshot_indices":
			err = v.Decode(&f.indices)
		case "samples":
			f.samples, err = readSamples(v)
		case "process_docs":
			return readProcess(t, v)
		default:
			slot, ok := at[key]
			if !ok {
				return errors.New("unknown key")
			}
			*slot, err = readField(t, "fewshot_config."+key, v)
		}
		return err
	})
}

func readSamples(n *yaml.Node) ([]Doc, error) {
	v, err := valueOf(n)
	if err != nil {
		return nil, err
	}
	list, ok := v.(jinja.List)
	if !ok {
		return nil, errors.New("want a list of items")
	}
	var docs []Doc
	for i, x := range list {
		d, ok := x.(*jinja.Dict)
		if !ok {
			return nil, fmt.Errorf("item %d: want keys and values", i)
		}
		docs = append(docs, d)
	}
	return docs, nil
}

func readGeneration(t *Task, n *yaml.Node) error {
	g := &t.Generation
	sample, sampleSet := false, false
	err := pairs(n, func(key string, v *yaml.Node) (err error) {
		switch key {
		case "until":
			g.Until, err = texts(v)
			if g.Until == nil {
				g.Until = []string{}
			}
		case "max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens":
			g.MaxTokens, err = whole(v)
		case "do_sample":
			sampleSet = true
			sample, err = truth(v)
		case "temperature":
			g.Temperature, err = number(v)
		case "top_p":
			g.TopP, err = number(v)
		case "top_k":
			g.TopK, err = whole(v)
		default:
			return fmt.Errorf("unknown key; known are until, max_gen_toks, do_sample, temperature, top_p and top_k")
		}
		return err
	})
	if sampleSet && !sample {
		g.Temperature = 0
	}
	if g.Temperature == 0 {
		g.TopP, g.TopK = 0, 0
	}
	return err
}

func readMetrics(t *Task, n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return errors.New("want a list of {metric: ...}")
	}
	t.Metrics = []Metric{}
	for _, c := range n.Content {
		m, err := readMetric(t, c)
		if err != nil {
			return err
		}
		t.Metrics = append(t.Metrics, m)
	}
	return nil
}

func readMetric(t *Task, n *yaml.Node) (m Metric, err error) {
	higherSet := false
	err = pairs(n, func(key string, v *yaml.Node) (err error) {
		switch key {
		case "metric":
			if name, ok := function(v); ok {
				if m.Name, ok = lookUp(t.Name, name, knownMetrics); !ok {
					return notSupported(name)
				}
				return nil
			}
			m.Name, err = text(v)
		case "aggregation":
			if name, ok := function(v); ok {
				if m.Aggregation, ok = lookUp(t.Name, name, func(k known) map[string]string { return k.combines }); !ok {
					return notSupported(name)
				}
				return nil
			}
			m.Aggregation, err = text(v)
		case "higher_is_better":
			higherSet = true
			m.Higher, err = truth(v)
		case "ignore_case":
			m.ignoreCase, err = truth(v)
		case "ignore_punctuation":
			m.ignorePunctuation, err = truth(v)
		case "ignore_numbers":
			m.ignoreNumber, err = truth(v)
		case "regexes_to_ignore":
			m.ignore, err = patterns(v)
		case "k":
			if v.Kind == yaml.SequenceNode {
				return v.Decode(&m.k)
			}
			k, err := whole(v)
			m.k = []int{k}
			return err
		case "hf_evaluate", "weight_by_size", "kwargs":
		default:
			return errors.New("unknown key; known are metric, aggregation, higher_is_better, ignore_case, ignore_punctuation, ignore_numbers, regexes_to_ignore and k")
		}
		return err
	})
	if err != nil {
		return m, err
	}
	return m.complete(t, higherSet)
}

func knownMetrics(k known) map[string]string { return k.metrics }

// complete fills in what an entry leaves out, and checks its names.
func (m Metric) complete(t *Task, higherSet bool) (Metric, error) {
	if m.Name == "" {
		return m, errors.New("metric: is missing")
	}
	k, ok := metricKinds[m.Name]
	switch {
	case !ok && t.judge == nil:
		hint := strings.Join(slices.Sorted(maps.Keys(metricKinds)), ", ")
		if n := nearest.Of(m.Name, slices.Collect(maps.Keys(metricKinds))); n != "" {
			hint = n
		}
		return m, fmt.Errorf("metric: %q is not known; there is %s", m.Name, hint)
	case !ok:
		k = metricKind{aggregation: "mean", higher: true}
	}
	if m.Aggregation == "" {
		m.Aggregation = k.aggregation
	}
	if !higherSet {
		m.Higher = k.higher
	}
	if _, ok := aggregations[m.Aggregation]; !ok {
		return m, fmt.Errorf("metric %s: aggregation: %q is not known; there is %s", m.Name, m.Aggregation, strings.Join(slices.Sorted(maps.Keys(aggregations)), ", "))
	}
	return m, nil
}

func patterns(n *yaml.Node) ([]*pyre.Regexp, error) {
	list, err := texts(n)
	if err != nil {
		return nil, err
	}
	var out []*pyre.Regexp
	for _, s := range list {
		re, err := pyre.Compile(s)
		if err != nil {
			return nil, err
		}
		out = append(out, re)
	}
	return out, nil
}

// complete checks a task as a whole and fills in defaults.
func (t *Task) complete() error {
	if t.Name == "" {
		return errors.New("task: is missing; give the task a name")
	}
	if t.Dataset.Path == "" {
		return errors.New("dataset_path: is missing")
	}
	if t.Testing == "" && t.Validation == "" {
		return errors.New("test_split: is missing; name the split whose items are asked (or validation_split)")
	}
	if t.target == nil && t.judge == nil {
		return errors.New("doc_to_target: is missing")
	}
	if t.text == nil && t.Output != Rolling {
		return errors.New("doc_to_text: is missing")
	}
	if t.Output == MultipleChoice && t.choice == nil {
		return errors.New("doc_to_choice: is missing; multiple_choice needs it")
	}
	if t.Output == Generate {
		if t.Generation.Until == nil {
			t.Generation.Until = []string{t.FewshotDelimiter}
		}
		if t.Repeats == 0 {
			t.Repeats = 1
		}
	}
	if t.Metrics == nil {
		for _, name := range defaultMetrics[t.Output] {
			m, err := Metric{Name: name}.complete(t, false)
			if err != nil {
				return err
			}
			t.Metrics = append(t.Metrics, m)
		}
	}
	for _, m := range t.Metrics {
		if k := metricKinds[m.Name]; t.judge == nil && !slices.Contains(k.outputs, t.Output) {
			return fmt.Errorf("metric_list: %s does not go with output_type %s", m.Name, t.Output)
		}
	}
	if t.Filters == nil {
		t.Filters = []Filter{{Name: "none"}}
	}
	return nil
}

// defaultMetrics are the metrics of tasks that name none.
var defaultMetrics = map[Output][]string{
	Likelihood:     {"perplexity", "acc"},
	Rolling:        {"word_perplexity", "byte_perplexity", "bits_per_byte"},
	MultipleChoice: {"acc", "acc_norm"},
	Generate:       {"exact_match"},
}
