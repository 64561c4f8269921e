package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"unicode/utf8"
)

// Sandbox runs programs apart from everything else.
type Sandbox interface {
	// Run runs a Python program and reports whether it ended without an error.
	Run(ctx context.Context, program string) (passed bool, err error)
}

// scores are what became of an item, by filter.
type scores struct {
	filters []filtered
	// Confidence is the share of the likelihood that the pick has among the choices, and right whether it is right; for
	// the calibration error.
	confidence float64
	right      bool
	chosen     bool // the item was multiple choice
	pick       int
}

// filtered is one filter's view of an item.
type filtered struct {
	answers []string // what the filter made of generated texts
	values  map[string]Value
}

// score judges an item's answers.
func (t *Task) score(ctx context.Context, x *item, box Sandbox) (*scores, error) {
	switch t.Output {
	case Likelihood:
		a := x.answers[0]
		return plain(map[string]Value{"perplexity": {X: a.LogLikelihood}, "acc": {X: oneIf(a.Greedy)}}), nil
	case Rolling:
		ll, text := x.answers[0].LogLikelihood, x.requests[0].Target
		if t.counted != nil {
			var err error
			if text, err = t.counted.text(x.doc); err != nil {
				return nil, err
			}
		}
		words := Value{ll, float64(len(spaces.Split(text, -1)))}
		bytes := Value{ll, float64(len(text))}
		return plain(map[string]Value{"word_perplexity": words, "byte_perplexity": bytes, "bits_per_byte": bytes}), nil
	case MultipleChoice:
		return t.scoreChoices(x)
	}
	return t.scoreTexts(ctx, x, box)
}

func plain(values map[string]Value) *scores { return &scores{filters: []filtered{{values: values}}} }

// scoreChoices judges which choice is the most likely: as it is, by character, by byte, and against its own likelihood
// without the prompt.
func (t *Task) scoreChoices(x *item) (*scores, error) {
	choices, err := t.choices(x.doc)
	if err != nil {
		return nil, err
	}
	gold, err := t.gold(x.doc, choices)
	if err != nil {
		return nil, err
	}
	n := len(choices)
	ll, byChar, byByte, gain := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	for i, c := range choices {
		ll[i] = x.answers[i].LogLikelihood
		byChar[i] = ll[i] / float64(utf8.RuneCountInString(c))
		byByte[i] = ll[i] / float64(len(c))
		if len(x.answers) == 2*n {
			gain[i] = ll[i] - x.answers[n+i].LogLikelihood
		}
	}
	right := func(by []float64) Value { return Value{X: oneIf(slices.Contains(gold, best(by)))} }
	exact := slices.ContainsFunc(gold, func(g int) bool { return x.answers[g].Greedy })
	p := softmax(ll)
	brier := 0.0
	for i := range p {
		d := p[i] - oneIf(i == gold[0])
		brier += d * d
	}
	pick := best(ll)
	class := Value{float64(gold[0]), float64(pick)}
	s := plain(map[string]Value{"acc": right(ll), "acc_norm": right(byChar), "acc_bytes": right(byByte), "acc_mutual_info": right(gain),
		"exact_match": {X: oneIf(exact)}, "brier_score": {X: brier}, "f1": class, "mcc": class})
	s.chosen, s.pick, s.confidence, s.right = true, pick, p[pick], slices.Contains(gold, pick)
	return s, nil
}

// best is the index of the largest value, the first of equals.
func best(v []float64) int {
	at := 0
	for i, x := range v {
		if x > v[at] {
			at = i
		}
	}
	return at
}

func softmax(v []float64) []float64 {
	top, sum := slices.Max(v), 0.0
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = math.Exp(x - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// scoreTexts judges generated answers, once for each filter.
func (t *Task) scoreTexts(ctx context.Context, x *item, box Sandbox) (*scores, error) {
	s := &scores{}
	for _, f := range t.Filters {
		texts := make([]string, len(x.answers))
		for i, a := range x.answers {
			texts[i] = a.Text
		}
		answers, err := f.apply(x.doc, texts)
		if err != nil {
			return nil, err
		}
		values, err := t.judgeTexts(ctx, x, answers, box)
		if err != nil {
			return nil, err
		}
		s.filters = append(s.filters, filtered{answers, values})
	}
	return s, nil
}

// judgeTexts scores the answers that a filter left: the first one, or all of them by pass@k.
func (t *Task) judgeTexts(ctx context.Context, x *item, answers []string, box Sandbox) (map[string]Value, error) {
	if len(answers) == 0 {
		return nil, errors.New("no answer is left to be judged")
	}
	if t.judge != nil {
		return t.judge(x.doc, answers)
	}
	values := map[string]Value{}
	for i := range t.Metrics {
		m := &t.Metrics[i]
		if m.Name == "pass_at_k" {
			if err := t.passes(ctx, m, x.doc, answers, box, values); err != nil {
				return nil, err
			}
			continue
		}
		golds, err := t.golds(x.doc)
		if err != nil {
			return nil, err
		}
		v, err := metricKinds[m.Name].text(m, answers[0], golds)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", m.Name, err)
		}
		values[m.Name] = Value{X: v}
	}
	return values, nil
}

var spaces = regexp.MustCompile(`[\s\x1c-\x1f\x85\p{Z}]+`)
