package recipe

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"danlu/adapter"
	"danlu/data"
	"danlu/family"
	"danlu/graph"
	"danlu/hub"
	"danlu/nn"
	"danlu/task"
	"danlu/tokenizer"
	"danlu/train"
)

// rewards judge answers: rules by name, and a reward model.
type rewards struct {
	job     *job
	names   []string
	rules   []task.Reward
	model   *second // the last one; nil: none
	weights []float64
	broken  int64 // rewards that could not be given
}

// rewards opens what reward_funcs and reward_model name. Answers are judged in the vocabulary of t.
func (j *job) rewards(t *tokenizer.Tokenizer) (*rewards, error) {
	x := &j.Reinforce
	r := &rewards{job: j, weights: slices.Clone(x.RewardWeights)}
	for _, name := range x.RewardFuncs {
		rule, err := task.RewardNamed(name)
		if err != nil {
			return nil, j.Errorf("reward_funcs", "%v", err)
		}
		r.names, r.rules = append(r.names, name), append(r.rules, rule)
	}
	if j.Method.RewardModel != "" {
		if err := r.open(t); err != nil {
			return nil, err
		}
	}
	for len(r.weights) < len(r.names) {
		r.weights = append(r.weights, 1)
	}
	if x.OverlongCache > 0 && !slices.Contains(x.RewardFuncs, "overlong") { // DAPO adds it to whatever else counts
		rule, err := task.RewardNamed("overlong")
		if err != nil {
			return nil, err
		}
		at := len(r.rules)
		r.names, r.rules, r.weights = slices.Insert(r.names, at, "overlong"), append(r.rules, rule), slices.Insert(r.weights, at, 1)
	}
	return r, nil
}

// open opens the reward model: a folder with value_head.safetensors, as stage: rm writes it, of a whole model or of an
// adapter to the model in training, or one of transformers' sequence classification models.
func (r *rewards) open(t *tokenizer.Tokenizer) error {
	j := r.job
	if j.Method.RewardModelType == "api" {
		return j.Errorf("reward_model_type", "want lora or full, got api: reward models behind an endpoint are not asked")
	}
	head, path := train.LlamaFactoryHead, j.Method.RewardModel
	var adapters []string
	if _, err := os.Stat(filepath.Join(path, adapter.WeightsFile)); err == nil {
		adapters, path = append(adapters, path), j.Model.Path
	}
	if j.Method.RewardAdapters != "" {
		adapters = append(adapters, j.Method.RewardAdapters)
	}
	s, err := j.second("reward_model", path, false, func(src *source) train.Reading {
		if strings.HasSuffix(src.model.Info().Architecture, "ForSequenceClassification") {
			head = train.SequenceClassificationHead
		}
		return func(b *nn.Build, m family.Model, targets *graph.Value) map[string]*graph.Value {
			return map[string]*graph.Value{"reward": train.RewardModel{Head: head}.Rewards(b, m)}
		}
	})
	if err != nil {
		return err
	}
	s.adapters = adapters
	if head == train.LlamaFactoryHead {
		s.head, s.headDir = &head, j.Method.RewardModel
	}
	other, err := tokenizer.Load(hub.Resolve(j.Method.RewardModel))
	if err == nil && !sameVocabulary(t, other) {
		err = fmt.Errorf("its vocabulary is not the one of %s; rewards are given to token ids", j.Model.Path)
	}
	if err != nil {
		s.close()
		return j.Errorf("reward_model", "%v", err)
	}
	r.model, r.names = s, append(r.names, "reward_model")
	return nil
}

// sameVocabulary reports whether ids mean the same.
func sameVocabulary(a, b *tokenizer.Tokenizer) bool {
	if a.VocabSize() != b.VocabSize() {
		return false
	}
	for id := range int32(a.VocabSize()) {
		if string(a.Piece(id)) != string(b.Piece(id)) {
			return false
		}
	}
	return true
}

// beside lists the reward model, if there is one.
func (r *rewards) beside() []*second {
	if r.model == nil {
		return nil
	}
	return []*second{r.model}
}

func (r *rewards) close() {
	if r.model != nil {
		r.model.close()
	}
}

// judged are the rewards of a step's answers.
type judged struct {
	total []float64   // weighted sum
	each  [][]float64 // by reward; NaN where it could not be given
}

// judge gives the rewards of answers. replies says what rules look at, batches what a reward model reads.
func (r *rewards) judge(ctx context.Context, replies []task.Reply, where []string, batches []*data.Batch) (judged, error) {
	out := judged{total: make([]float64, len(replies))}
	for k, rule := range r.rules {
		values := make([]float64, len(replies))
		for i, reply := range replies {
			if !asksFor(reply, r.names[k]) {
				values[i] = math.NaN()
				continue
			}
			v, err := rule(reply)
			if err != nil {
				if r.job.Data.Strict {
					return out, fmt.Errorf("recipe: reward %s: %s: %w", r.names[k], where[i], err)
				}
				if r.broken++; r.broken <= 3 {
					r.job.say("reward %s: %s: %v", r.names[k], where[i], err)
				}
				v = math.NaN()
			}
			values[i] = v
		}
		out.each = append(out.each, values)
	}
	if r.model != nil {
		var values []float64
		for _, x := range batches {
			got, err := r.model.Run(ctx, x)
			if err != nil {
				return out, err
			}
			for _, v := range got["reward"].F32() {
				values = append(values, float64(v))
			}
		}
		for i, reply := range replies {
			if !asksFor(reply, "reward_model") {
				values[i] = math.NaN()
			}
		}
		out.each = append(out.each, values)
	}
	for k, values := range out.each {
		for i, v := range values {
			if !math.IsNaN(v) {
				out.total[i] += r.weights[k] * v
			}
		}
	}
	return out, nil
}

// rewardsColumn is where a dataset says which of the recipe's rewards count for a row, so that one run can judge sums by
// a rule and letters by a model; without it all do.
const rewardsColumn = "rewards"

// asksFor reports whether a reward counts for a reply.
func asksFor(r task.Reply, name string) bool {
	names, ok := r.Extra[rewardsColumn]
	if !ok || name == "overlong" {
		return true
	}
	return slices.Contains(strings.FieldsFunc(names, func(c rune) bool { return c == ' ' || c == ',' }), strings.TrimSuffix(name, "_reward"))
}

// report adds TRL's metrics of rewards.
func (r *rewards) report(to map[string]float64, x judged) {
	for k, name := range r.names {
		given := slices.DeleteFunc(slices.Clone(x.each[k]), math.IsNaN)
		if len(given) == 0 {
			continue
		}
		mean, std := train.MeanStd(given)
		to["rewards/"+name+"/mean"], to["rewards/"+name+"/std"] = mean, std
	}
	if r.broken > 0 {
		to["rewards/not_given"] = float64(r.broken)
	}
}

// question is a prompt of the dataset with what its answers are judged by.
type question struct {
	ids   []int32
	text  string
	gold  string
	extra map[string]string
	where string // file and line
}

// goldColumns are the columns in which a dataset keeps reference answers, the first one found.
var goldColumns = []string{"answer", "solution", "ground_truth", "gold"}

// questions reads the prompts of a step.
func (r *rows) questions(st *data.Step) ([]question, error) {
	var list []question
	for _, x := range st.Batches {
		for i := range x.Rows {
			s, err := x.Store.Sample(x.Samples[i][0])
			if err != nil {
				return nil, err
			}
			q, err := newQuestion(s)
			if err != nil {
				return nil, err
			}
			list = append(list, q)
		}
	}
	return list, nil
}

// newQuestion is a prompt as questionEncoder made it. Its text is what was asked last, without what the template writes
// around it: rewards look at its language.
func newQuestion(s *data.Sample) (question, error) {
	q := question{ids: s.Sequences[0].IDs, extra: maps.Clone(s.Extra), where: fmt.Sprintf("%s:%d", s.File, s.Line)}
	c, err := q.conversation("")
	if err != nil {
		return q, err
	}
	if len(c.Messages) < 2 {
		return q, fmt.Errorf("recipe: %s: the record asks nothing", q.where)
	}
	q.text = c.Messages[len(c.Messages)-2].Content
	for _, name := range goldColumns {
		if q.gold = s.Extra[name]; q.gold != "" {
			break
		}
	}
	return q, nil
}
