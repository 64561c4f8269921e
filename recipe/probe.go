package recipe

import (
	"context"
	"math"
	"slices"

	"danlu/train"
)

// Mark is how the answers of a model to a probe's prompts were judged.
type Mark struct {
	Prompts  int64            `json:"prompts"`
	Rewards  map[string]Score `json:"rewards"`
	Length   float64          `json:"mean_length"` // tokens of an answer
	Finished float64          `json:"finished"`    // share of the answers that came to an end by themselves
	Samples  []Sampled        `json:"samples"`     // the first ones
}

// Score are the values of one reward.
type Score struct {
	Mean float64 `json:"mean"`
	Std  float64 `json:"std"`
	Full float64 `json:"full"` // share of the answers worth at least 1, the most that rules give
}

// Sampled is an answer with its prompt.
type Sampled struct {
	Prompt string  `json:"prompt"`
	Answer string  `json:"answer"`
	Reward float64 `json:"reward"`
}

const (
	// shownSamples is how many answers a mark keeps as they are.
	shownSamples = 6
	// probedAtOnce is how many prompts are answered at a time.
	probedAtOnce = 64
)

// probed is a model that a probe looks at.
type probed struct {
	path     string
	adapters []string
}

// run draws and judges the answers of a model.
func (p *Probe) run(ctx context.Context, m probed, o RunOptions) (*Mark, error) {
	recipe := *p.Recipe
	recipe.Model.Path, recipe.Model.Adapters = m.path, m.adapters
	if len(m.adapters) > 0 {
		recipe.Method.FinetuningType = "lora"
	}
	recipe.Output.Quiet = true
	j := &job{Recipe: &recipe, RunOptions: o, outcome: &Outcome{}, run: &runDir{final: p.root, path: p.root}}
	var mark *Mark
	err := j.carryOut(ctx, func(ctx context.Context, j *job) (err error) {
		mark, err = j.mark(ctx)
		return err
	})
	return mark, err
}

// mark answers all prompts of a recipe and judges the answers.
func (j *job) mark(ctx context.Context) (*Mark, error) {
	each := j.Reinforce.NumGenerations
	r, err := j.reinforce(ctx, probedAtOnce*each, each)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.load(); err != nil {
		return nil, err
	}
	m := &Mark{Prompts: r.rows.set.Len(), Rewards: map[string]Score{}}
	values := make([][]float64, len(r.judges.names))
	answers := 0
	for from := int64(0); from < m.Prompts; from += probedAtOnce {
		asked, err := r.rows.questionsAt(r.rows.set, from, min(from+probedAtOnce, m.Prompts))
		if err != nil {
			return nil, err
		}
		e, err := r.answer(ctx, asked, mixed(uint64(j.Optim.Seed), uint64(from)))
		if err != nil {
			return nil, err
		}
		for k, v := range e.each {
			values[k] = append(values[k], v...)
		}
		for i, a := range e.answers {
			m.Length += float64(len(a.ids))
			if a.finished {
				m.Finished++
			}
			if q := asked[i/each]; len(m.Samples) < shownSamples && i%each == 0 {
				m.Samples = append(m.Samples, Sampled{q.text, a.text, e.total[i]})
			}
		}
		answers += len(e.answers)
	}
	m.Length /= float64(answers)
	m.Finished /= float64(answers)
	for k, name := range r.judges.names {
		if given := slices.DeleteFunc(values[k], math.IsNaN); len(given) > 0 {
			m.Rewards[name] = scoreOf(given)
		}
	}
	return m, nil
}

func scoreOf(values []float64) Score {
	mean, std := train.MeanStd(values)
	full := 0
	for _, v := range values {
		if v >= 1 {
			full++
		}
	}
	return Score{mean, std, float64(full) / float64(len(values))}
}
