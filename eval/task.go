package eval

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"danlu/chat/jinja"
	"danlu/internal/pyre"
)

// Output is what a task asks of a model.
type Output string

// The outputs.
const (
	MultipleChoice Output = "multiple_choice"       // the most likely of several texts
	Likelihood     Output = "loglikelihood"         // how likely one text is behind another
	Rolling        Output = "loglikelihood_rolling" // how likely a whole text is
	Generate       Output = "generate_until"        // a text
)

// Task is a task file. The keys are named where a field has another name.
type Task struct {
	Name  string   // task
	Alias string   // task_alias
	Tags  []string // tag
	File  string

	Dataset                       Dataset // dataset_path, dataset_name, dataset_kwargs
	Training, Validation, Testing string  // training_split, ...
	process                       func(Doc) (Doc, error)

	Output                            Output // output_type
	description, text, target, choice *field
	prefix                            *field // gen_prefix
	TargetDelimiter, FewshotDelimiter string

	Shots   int // num_fewshot
	fewshot fewshot

	Generation Generation // generation_kwargs
	Repeats    int
	Metrics    []Metric
	Filters    []Filter
	judge      judge // process_results of a known task; nil: by the metrics
	Version    string

	unsafe  bool   // answers are programs to be run
	many    bool   // see manyInputs
	counted *field // text whose words and bytes a perplexity is divided by; nil: the text that is scored
	texts   map[string]string
}

// Generation says how an answer is generated.
type Generation struct {
	Until       []string
	MaxTokens   int // max_gen_toks
	Temperature float64
	TopP        float64
	TopK        int
}

// fewshot says where worked examples come from and how they are written; what is nil or unset is the task's own.
type fewshot struct {
	split                             string
	sampler                           string // "default" (drawn) or "first_n"
	indices                           []int
	samples                           []Doc
	text, target, choice, prefix      *field
	targetDelimiter, exampleDelimiter string
}

// Metric is an entry of metric_list.
type Metric struct {
	Name        string
	Aggregation string
	Higher      bool // higher_is_better

	ignore                                      []*pyre.Regexp // regexes_to_ignore
	ignoreCase, ignorePunctuation, ignoreNumber bool
	k                                           []int // of pass@k
}

// Value is what a metric makes of one item: a value, or a value and its weight.
type Value struct{ X, Weight float64 }

// judge scores the answers to an item by metric; it returns nil for metrics that the item has no part in.
type judge func(d Doc, answers []string) (map[string]Value, error)

// choices are an item's alternatives.
func (t *Task) choices(d Doc) ([]string, error) {
	list, err := t.choice.list(d)
	if err != nil {
		return nil, err
	}
	if len(list) < 1 {
		return nil, fmt.Errorf("doc_to_choice: the item has no choices")
	}
	for i, c := range list {
		if c == "" {
			return nil, fmt.Errorf("doc_to_choice: choice %d is empty", i)
		}
	}
	return list, nil
}

// manyInputs reports whether choices stand in the prompt and are followed by one text (Winogrande): doc_to_text is then
// the number of the right one. The first item decides for all.
func (t *Task) manyInputs(d Doc) (bool, error) {
	if t.choice == nil || t.text == nil {
		return false, nil
	}
	v, err := t.text.target(d, true)
	_, number := v.(int64)
	return number, err
}

// gold are the right choices of an item.
func (t *Task) gold(d Doc, choices []string) ([]int, error) {
	f := t.target
	if t.many {
		f = t.text
	}
	v, err := f.target(d, true)
	if err != nil {
		return nil, err
	}
	list, ok := v.(jinja.List)
	if !ok {
		list = jinja.List{v}
	}
	var gold []int
	for _, x := range list {
		at := -1
		switch x := x.(type) {
		case int64:
			at = int(x)
		case bool:
			if at = 0; x {
				at = 1
			}
		case string:
			for i := len(choices) - 1; i >= 0; i-- {
				if choices[i] == x {
					at = i
				}
			}
		}
		if at < 0 || at >= len(choices) {
			return nil, fmt.Errorf("doc_to_target: %s is none of the %d choices", short(jinja.Repr(x)), len(choices))
		}
		gold = append(gold, at)
	}
	if len(gold) == 0 {
		return nil, fmt.Errorf("doc_to_target: the item has no right choice")
	}
	return gold, nil
}

// ParseGeneration reads changes of how answers are generated, "temperature=0.8,max_gen_toks=512".
func ParseGeneration(s string) (func(*Generation), error) {
	t := &Task{}
	var n yaml.Node
	given := map[string]bool{}
	for _, part := range strings.Split(s, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("want key=value, got %q", part)
		}
		given[strings.TrimSpace(key)] = true
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: strings.TrimSpace(key)}, &yaml.Node{Kind: yaml.ScalarNode, Value: strings.TrimSpace(value)})
	}
	n.Kind = yaml.MappingNode
	if err := readGeneration(t, &n); err != nil {
		return nil, err
	}
	from := t.Generation
	return func(g *Generation) {
		if given["until"] {
			g.Until = from.Until
		}
		if from.MaxTokens > 0 {
			g.MaxTokens = from.MaxTokens
		}
		if given["temperature"] || given["do_sample"] {
			g.Temperature, g.TopP, g.TopK = from.Temperature, from.TopP, from.TopK
		}
	}, nil
}
