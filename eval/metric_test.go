package eval

import (
	"context"
	"math"
	"strings"
	"testing"

	"danlu/chat/jinja"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestAggregations(t *testing.T) {
	pairs := []Value{{1, 1}, {1, 0}, {0, 0}, {0, 1}, {1, 1}}
	lls := []Value{{-4, 2}, {-6, 3}}
	for name, c := range map[string]struct {
		v    []Value
		want float64
	}{
		"mean": {pairs, 0.6}, "f1": {pairs, 2.0 / 3}, "matthews_corrcoef": {pairs, 1.0 / 6}, "weighted_mean": {lls, -2},
		"weighted_perplexity": {lls, math.Exp(2)}, "bits_per_byte": {lls, 2 / math.Ln2}, "perplexity": {lls, math.Exp(5)}, "median": {lls, -6},
	} {
		if got := aggregations[name](c.v); !near(got, c.want) {
			t.Errorf("%s: want %v, got %v", name, c.want, got)
		}
	}
	if got, want := stderr("mean", pairs, 1000), math.Sqrt(0.3/5); !near(got, want) {
		t.Errorf("standard error of a mean: want %v, got %v", want, got)
	}
	many := make([]Value, 400)
	for i := range many {
		many[i] = Value{float64(i % 2), 1}
	}
	if got, want := stderr("weighted_mean", many, 2000), 0.5/20; math.Abs(got-want) > 0.1*want {
		t.Errorf("bootstrap: want about %v, got %v", want, got)
	}
	if !math.IsNaN(stderr("mean", pairs[:1], 1000)) {
		t.Error("one item has a standard error")
	}
}

func TestTextMetrics(t *testing.T) {
	ten := func(s string, n int) []string {
		list := make([]string, 10)
		for i := range list {
			if list[i] = "other"; i < n {
				list[i] = s
			}
		}
		return list
	}
	m := &Metric{ignoreCase: true, ignorePunctuation: true}
	for _, c := range []struct {
		metric, answer string
		golds          []string
		want           float64
	}{
		{"exact_match", "Yes.", []string{"no", "yes"}, 1},
		{"exact_match", "yes it is", []string{"yes"}, 0},
		{"contains", "it is 12345.", []string{"12345"}, 1},
		{"math_equal", "0.5", []string{`\frac{1}{2}`}, 1},
		{"anls", "silver spon", []string{"gold", "Silver  Spoon"}, 1 - 1.0/12},
		{"anls", "abc", []string{"xyz"}, 0},
		{"vqa_accuracy", "Two", ten("2", 10), 1},
		{"vqa_accuracy", "the dog", ten("dog", 1), 0.3}, // one of ten said so
		{"vqa_accuracy", "dont", ten("don't", 2), 0.6},
		{"token_f1", "the red ball", []string{"a ball"}, 2.0 / 3},
	} {
		got, err := metricKinds[c.metric].text(m, c.answer, c.golds)
		if err != nil || !near(got, c.want) {
			t.Errorf("%s of %q and %q: want %v, got %v %v", c.metric, c.answer, c.golds, c.want, got, err)
		}
	}
}

func TestMathNormal(t *testing.T) {
	for in, want := range map[string]string{
		`\dfrac12`: `\frac{1}{2}`, "1/2": `\frac{1}{2}`, "0.5": `\frac{1}{2}`, `x = 3`: "3", `\sqrt2`: `\sqrt{2}`, `5\text{ cm}`: "5", `50\%`: "50",
		".7": "0.7", `\left( 1, 2 \right)`: "(1,2)", `\frac{a}{b}`: `\frac{a}{b}`, "01/2": "01/2", "": "",
	} {
		if got := mathNormal(in); got != want {
			t.Errorf("%q: want %q, got %q", in, want, got)
		}
	}
	values, err := judgeMath(newDoc("answer", `\frac{1}{2}`), []string{`The answer is $\boxed{0.5}$.`})
	if err != nil || values["math_equal"].X != 1 || values["exact_match"].X != 0 {
		t.Errorf("got %v %v", values, err)
	}
}

func TestCalibration(t *testing.T) {
	var list []*scores
	for i := range 10 { // confidence 0.8, right in 6 of 10; 0.95, always right
		list = append(list, &scores{chosen: true, confidence: 0.8, right: i < 6}, &scores{chosen: true, confidence: 0.95, right: true})
	}
	if got, ok := calibration(list); !ok || !near(got, (2+0.5)/20) {
		t.Errorf("want 0.125, got %v", got)
	}
	if _, ok := calibration([]*scores{{}}); ok {
		t.Error("calibration without choices")
	}
}

func TestFilters(t *testing.T) {
	for _, c := range []struct{ steps, in, want string }{
		{`[{function: regex, regex_pattern: "#### (\\-?[0-9\\.\\,]+)"}]`, "x #### 1,234. y", "1,234."},
		{`[{function: regex, group_select: -1, regex_pattern: "(-?[$0-9.,]{2,})|(-?[0-9]+)"}]`, "3 and $45 then 7", "7"},
		{`[{function: regex, regex_pattern: "z", fallback: none}]`, "abc", "none"},
		{`[{function: remove_whitespace}, {function: uppercase}]`, " ab ", "AB"},
		{`[{function: map, mapping_dict: {A: one}, default_value: other}]`, "B", "other"},
		{`[{function: multi_choice_regex, regex_pattern: "(\\([A-Z]\\))", ignore_case: true}]`, "I take (B)", "(B)"},
		{`[{function: multi_choice_regex, regex_pattern: "(\\([A-Z]\\))", ignore_case: true}]`, "surely Red it is", "(A)"},
		{`[{function: multi_choice_regex, regex_pattern: "(\\([A-Z]\\))"}]`, "answer: B", "(B)"},
		{`[{function: multi_choice_regex, regex_pattern: "(\\([A-Z]\\))"}]`, "none", "[invalid]"},
	} {
		task, err := ParseTask("t.yaml", []byte(choosingTask+"filter_list: [{name: f, filter: "+c.steps+"}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := task.Filters[0].apply(newDoc("choices", jinja.List{"red", "blue"}), []string{c.in})
		if err != nil || got[0] != c.want {
			t.Errorf("%s of %q: want %q, got %q %v", c.steps, c.in, c.want, got, err)
		}
	}
	if got, _ := majority(nil, []string{"a", "b", "b"}); got[0] != "b" {
		t.Errorf("majority: %q", got)
	}
}

// onlyPass passes programs that hold a word.
type onlyPass string

func (o onlyPass) Run(_ context.Context, program string) (bool, error) {
	return strings.Contains(program, string(o)), nil
}

func TestPassAtK(t *testing.T) {
	task := &Task{Metrics: []Metric{{Name: "pass_at_k", k: []int{1, 2}}}, Output: Generate}
	var err error
	if task.target, err = newField("doc_to_target", "test"); err != nil {
		t.Fatal(err)
	}
	values := map[string]Value{}
	answers := []string{"return 1", "return 2", "return 1", "return 3"}
	if err := task.passes(context.Background(), &task.Metrics[0], newDoc("test", "check(f)"), answers, onlyPass("return 1"), values); err != nil {
		t.Fatal(err)
	}
	if !near(values["pass@1"].X, 0.5) || !near(values["pass@2"].X, 1-1.0/6) {
		t.Errorf("got %v", values)
	}
	task.Metrics[0].k = []int{5}
	if err := task.passes(context.Background(), &task.Metrics[0], newDoc("test", ""), answers, onlyPass(""), values); err == nil {
		t.Error("pass@5 of 4 answers")
	}
}
