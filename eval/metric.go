package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"danlu/chat/jinja"
	"danlu/task"
)

// metricKind is what a metric is by itself.
type metricKind struct {
	aggregation string
	higher      bool
	outputs     []Output
	text        func(m *Metric, answer string, golds []string) (float64, error) // of a generated answer; nil: others
}

var (
	likelihoods = []Output{Likelihood, MultipleChoice}
	choosing    = []Output{MultipleChoice}
	rolling     = []Output{Rolling}
	generating  = []Output{Generate}
)

// metricKinds are the metrics that metric_list can name.
var metricKinds = map[string]metricKind{
	"acc":             {"mean", true, likelihoods, nil},
	"acc_norm":        {"mean", true, choosing, nil},
	"acc_bytes":       {"mean", true, choosing, nil},
	"acc_mutual_info": {"mean", true, choosing, nil},
	"brier_score":     {"mean", false, choosing, nil},
	"f1":              {"f1", true, choosing, nil},
	"mcc":             {"matthews_corrcoef", true, choosing, nil},
	"perplexity":      {"perplexity", false, []Output{Likelihood}, nil},
	"word_perplexity": {"weighted_perplexity", false, rolling, nil},
	"byte_perplexity": {"weighted_perplexity", false, rolling, nil},
	"bits_per_byte":   {"bits_per_byte", false, rolling, nil},
	"exact_match":     {"mean", true, []Output{MultipleChoice, Generate}, exactMatch},
	"math_equal":      {"mean", true, generating, anyOf(task.Equal)},
	"contains":        {"mean", true, generating, anyOf(strings.Contains)},
	"vqa_accuracy":    {"mean", true, generating, vqaAccuracy},
	"anls":            {"mean", true, generating, anls},
	"token_f1":        {"mean", true, generating, tokenF1},
	"pass_at_k":       {"mean", true, generating, nil},
}

// aggregations make one figure of the items' values.
var aggregations = map[string]func([]Value) float64{
	"mean": mean,
	"nanmean": func(v []Value) float64 {
		return mean(slices.DeleteFunc(slices.Clone(v), func(x Value) bool { return math.IsNaN(x.X) }))
	},
	"median":     func(v []Value) float64 { return v[len(v)/2].X },
	"perplexity": func(v []Value) float64 { return math.Exp(-mean(v)) },
	"weighted_perplexity": func(v []Value) float64 {
		return math.Exp(-weightedMean(v))
	},
	"weighted_mean":     weightedMean,
	"bits_per_byte":     func(v []Value) float64 { return -weightedMean(v) / math.Ln2 },
	"f1":                f1,
	"matthews_corrcoef": matthews,
}

func mean(v []Value) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x.X
	}
	return sum / float64(len(v))
}

func weightedMean(v []Value) float64 {
	sum, weight := 0.0, 0.0
	for _, x := range v {
		sum, weight = sum+x.X, weight+x.Weight
	}
	return sum / weight
}

// f1 is the F1 score of class 1, with the right class in X and the predicted one in Weight.
func f1(v []Value) float64 {
	hits, right, said := 0.0, 0.0, 0.0
	for _, x := range v {
		if x.X == 1 {
			right++
		}
		if x.Weight == 1 {
			said++
		}
		if x.X == 1 && x.Weight == 1 {
			hits++
		}
	}
	if right+said == 0 {
		return 0
	}
	return 2 * hits / (right + said)
}

// matthews is the correlation of right and predicted classes (Gorodkin 2004, for any number of classes).
func matthews(v []Value) float64 {
	right, said, n, hits := map[float64]float64{}, map[float64]float64{}, float64(len(v)), 0.0
	for _, x := range v {
		right[x.X]++
		said[x.Weight]++
		if x.X == x.Weight {
			hits++
		}
	}
	cross, rights, saids := 0.0, 0.0, 0.0
	for k, r := range right {
		cross += r * said[k]
		rights += r * r
	}
	for _, s := range said {
		saids += s * s
	}
	d := math.Sqrt((n*n - saids) * (n*n - rights))
	if d == 0 {
		return 0
	}
	return (hits*n - cross) / d
}

// stderr is the standard error of an aggregate: of a mean in closed form, else by the bootstrap (Efron 1979).
func stderr(aggregation string, v []Value, rounds int) float64 {
	n := len(v)
	if n < 2 || rounds <= 0 {
		return math.NaN()
	}
	if aggregation == "mean" {
		mu, sum := mean(v), 0.0
		for _, x := range v {
			sum += (x.X - mu) * (x.X - mu)
		}
		return math.Sqrt(sum/float64(n-1)) / math.Sqrt(float64(n))
	}
	f := aggregations[aggregation]
	rng := rand.New(rand.NewPCG(1234, uint64(n)))
	drawn, results := make([]Value, n), make([]Value, rounds)
	for i := range results {
		for j := range drawn {
			drawn[j] = v[rng.IntN(n)]
		}
		results[i].X = f(drawn)
	}
	mu, sum := mean(results), 0.0
	for _, x := range results {
		sum += (x.X - mu) * (x.X - mu)
	}
	return math.Sqrt(sum / float64(rounds-1))
}

// asciiPunctuation is Python's string.punctuation.
const asciiPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// exactMatch is 1 when the answer is one of the right ones, after what the metric ignores is taken from both.
func exactMatch(m *Metric, answer string, golds []string) (float64, error) {
	a, err := m.normal(answer)
	if err != nil {
		return 0, err
	}
	for _, g := range golds {
		if g, err = m.normal(g); err != nil {
			return 0, err
		}
		if a == g {
			return 1, nil
		}
	}
	return 0, nil
}

func (m *Metric) normal(s string) (string, error) {
	for _, re := range m.ignore {
		var err error
		if s, err = re.Sub(s, "", 0); err != nil {
			return "", fmt.Errorf("regexes_to_ignore: %w", err)
		}
	}
	if m.ignoreCase {
		s = strings.ToLower(s)
	}
	if m.ignorePunctuation {
		s = without(s, asciiPunctuation)
	}
	if m.ignoreNumber {
		s = without(s, "0123456789")
	}
	return s, nil
}

func without(s, set string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(set, r) {
			return -1
		}
		return r
	}, s)
}

// anyOf is 1 when the answer and one of the right ones fit.
func anyOf(fits func(answer, gold string) bool) func(*Metric, string, []string) (float64, error) {
	return func(_ *Metric, answer string, golds []string) (float64, error) {
		return oneIf(slices.ContainsFunc(golds, func(g string) bool { return fits(answer, g) })), nil
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// golds are the right answers of an item for a generated one.
func (t *Task) golds(d Doc) ([]string, error) {
	v, err := t.target.target(d, t.choice != nil)
	if err != nil {
		return nil, err
	}
	if t.choice != nil {
		choices, err := t.choices(d)
		if err != nil {
			return nil, err
		}
		right, err := t.gold(d, choices)
		if err != nil {
			return nil, err
		}
		return []string{choices[right[0]]}, nil
	}
	list, ok := v.(jinja.List)
	if !ok {
		return []string{jinja.Str(v)}, nil
	}
	var out []string
	for _, x := range list {
		out = append(out, jinja.Str(x))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("doc_to_target: the item has no right answer")
	}
	return out, nil
}
