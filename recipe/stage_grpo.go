package recipe

import (
	"context"
	"math"
	"slices"

	"danlu/data"
	"danlu/task"
	"danlu/tensor"
	"danlu/train"
)

func init() { stages["grpo"] = groupPolicy }

// redraws is how often dynamic_sampling draws again for a group whose answers are all worth the same.
const redraws = 4

// groupPolicy learns from the rewards of groups of answers to the same prompt: GRPO, DAPO, Dr. GRPO, GSPO, CISPO. As in
// TRL, a step has per_device_train_batch_size x gradient_accumulation_steps answers.
func groupPolicy(ctx context.Context, j *job) error {
	x := &j.Reinforce
	loss := j.policyLoss()
	r, err := j.reinforce(ctx, j.Optim.BatchSize*j.Optim.Accumulation, x.NumGenerations)
	if err != nil {
		return err
	}
	defer r.close()
	g := &groups{reinforced: r, loss: loss}
	t := training{model: r.model, rows: r.rows, objective: loss.Objective(), prepare: g.prepare, count: g.count, shape: r.shape, beside: r.judges.beside(), more: r.rollouts.Memory()}
	if loss.KL != 0 {
		if g.reference, err = j.reference(r.model); err != nil {
			return err
		}
		defer g.reference.close()
		t.beside = append(t.beside, g.reference)
	}
	if !loss.OnPolicy {
		g.policy = j.reader(r.model, train.LogProbs)
		defer g.policy.close()
		t.beside = append(t.beside, g.policy)
	}
	done, err := j.train(ctx, t)
	if err != nil {
		return err
	}
	return j.report(done)
}

// policyLoss translates the recipe's keys.
func (j *job) policyLoss() train.Policy {
	x := &j.Reinforce
	p := train.Policy{Loss: x.LossType, ClipLow: x.Epsilon, ClipHigh: x.Epsilon, KL: x.Beta, OnPolicy: x.NumIterations == 1}
	if x.EpsilonHigh != nil {
		p.ClipHigh = *x.EpsilonHigh
	}
	return p
}

// advantages is train.GroupAdvantages' name for what the recipe asks for.
func (j *job) advantages() string {
	x := &j.Reinforce
	if x.Advantage != "group" {
		return x.Advantage
	}
	switch x.ScaleRewards {
	case "true":
		return "group"
	case "false":
		return "none"
	}
	return x.ScaleRewards
}

// reinforced is what the stages that learn from drawn answers share.
type reinforced struct {
	job      *job
	model    *trainee
	rows     *rows
	rollouts *rollouts
	judges   *rewards
	each     int // answers to a prompt
}

// reinforce reads the prompts, declares the model and prepares answers and their rewards: of a step's answers, each
// prompt gets so many.
func (j *job) reinforce(ctx context.Context, answers, each int) (_ *reinforced, err error) {
	if answers%each != 0 {
		return nil, j.Errorf("num_generations", "want a divisor of per_device_train_batch_size x gradient_accumulation_steps = %d, the answers of a step, got %d", answers, each)
	}
	r := &reinforced{job: j, each: each}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	tok, err := j.tokenizer()
	if err != nil {
		return nil, err
	}
	format, err := j.template(tok)
	if err != nil {
		return nil, err
	}
	limit := j.Data.CutoffLen
	if j.Reinforce.MaxPromptLength != nil {
		limit = *j.Reinforce.MaxPromptLength
	}
	// Steps are of whole prompts, whose answers the micro-batches are made of.
	prompts := *j
	recipe := *j.Recipe
	recipe.Optim.BatchSize, recipe.Optim.Accumulation, recipe.Data.CutoffLen = answers/each, 1, limit
	prompts.Recipe = &recipe
	if r.rows, err = prompts.rows(ctx, tok, &questionEncoder{data.PromptEncoder{Template: format, CutoffLen: limit}}); err != nil {
		return nil, err
	}
	if r.model, err = j.model(tok); err != nil {
		return nil, err
	}
	_, longest, err := r.rows.loader.Largest()
	if err != nil {
		return nil, err
	}
	if r.rollouts, err = j.rollouts(r.model, tok, format, longest, j.answerLength(), answers); err != nil {
		return nil, err
	}
	r.judges, err = j.rewards(tok)
	return r, err
}

// answerLength is the most tokens of an answer: TRL's key, or LLaMA-Factory's in its own stage.
func (j *job) answerLength() int {
	if j.Method.Stage == "ppo" && !j.IsSet("max_completion_length") {
		return j.Generation.MaxNewTokens
	}
	return j.Reinforce.MaxCompletionLength
}

func (r *reinforced) close() {
	if r.judges != nil {
		r.judges.close()
	}
	if r.rollouts != nil {
		r.rollouts.Shut()
	}
	if r.model != nil {
		r.model.store.Close()
	}
	if r.rows != nil {
		r.rows.close()
	}
}

// shape is the largest micro-batch of answers.
func (r *reinforced) shape(l train.Largest) train.Largest {
	l.B, l.T = r.job.Optim.BatchSize, r.rollouts.widest()
	return l
}

// experience is a step's answers with their rewards, prompt by prompt.
type experience struct {
	answers []answer
	batches []*data.Batch // micro-batches of the answers, in order
	judged
	tokens int // scored
}

// gather draws the answers of a step and judges them.
func (r *reinforced) gather(ctx context.Context, st *data.Step) (*experience, error) {
	asked, err := r.rows.questions(st)
	if err != nil {
		return nil, err
	}
	seed := mixed(uint64(r.job.Optim.Seed), uint64(st.Epoch), uint64(st.Index))
	e, err := r.answer(ctx, asked, seed)
	if err != nil || !r.job.Reinforce.DynamicSampling {
		return e, err
	}
	for round := range redraws {
		var again []int // groups that teach nothing
		for i := range asked {
			if equal(e.total[i*r.each : (i+1)*r.each]) {
				again = append(again, i)
			}
		}
		if len(again) == 0 {
			break
		}
		some := make([]question, len(again))
		for k, i := range again {
			some[k] = asked[i]
		}
		other, err := r.answer(ctx, some, mixed(seed, uint64(round)+1))
		if err != nil {
			return nil, err
		}
		for k, i := range again {
			copy(e.answers[i*r.each:], other.answers[k*r.each:(k+1)*r.each])
			copy(e.total[i*r.each:], other.total[k*r.each:(k+1)*r.each])
			for n := range e.each {
				copy(e.each[n][i*r.each:], other.each[n][k*r.each:(k+1)*r.each])
			}
		}
	}
	e.lay(r)
	return e, nil
}

func equal(x []float64) bool {
	return !slices.ContainsFunc(x, func(v float64) bool { return v != x[0] })
}

// answer draws and judges answers to questions.
func (r *reinforced) answer(ctx context.Context, asked []question, seed uint64) (*experience, error) {
	prompts := make([][]int32, len(asked))
	for i, q := range asked {
		prompts[i] = q.ids
	}
	e := &experience{}
	var err error
	if e.answers, err = r.rollouts.draw(ctx, prompts, r.each, seed); err != nil {
		return nil, err
	}
	e.lay(r)
	replies, where := make([]task.Reply, len(e.answers)), make([]string, len(e.answers))
	for i, a := range e.answers {
		q := asked[i/r.each]
		replies[i] = task.Reply{Prompt: q.text, Text: a.text, Gold: q.gold, Tokens: len(a.ids), Limit: r.rollouts.most, Cache: r.job.Reinforce.OverlongCache, Extra: q.extra}
		where[i] = q.where
	}
	e.judged, err = r.judges.judge(ctx, replies, where, e.batches)
	return e, err
}

// lay makes micro-batches of the answers.
func (e *experience) lay(r *reinforced) {
	sequences := make([]data.Sequence, len(e.answers))
	e.tokens = 0
	for i, a := range e.answers {
		scored := a.finished || !r.job.Reinforce.MaskTruncated
		sequences[i] = a.sequence(scored)
		if scored {
			e.tokens += len(a.ids)
		}
	}
	e.batches = r.rollouts.batches(sequences, r.job.Optim.BatchSize)
}

// report are TRL's metrics of the answers and their rewards.
func (r *reinforced) report(e *experience) map[string]float64 {
	out := map[string]float64{}
	r.judges.report(out, e.judged)
	lengths, finished := make([]float64, len(e.answers)), []float64{}
	for i, a := range e.answers {
		lengths[i] = float64(len(a.ids))
		if a.finished {
			finished = append(finished, lengths[i])
		}
	}
	mean := func(x []float64) float64 { m, _ := train.MeanStd(x); return m }
	out["reward"] = mean(e.total)
	out["completions/mean_length"], out["completions/min_length"], out["completions/max_length"] = mean(lengths), slices.Min(lengths), slices.Max(lengths)
	out["completions/clipped_ratio"] = 1 - float64(len(finished))/float64(len(e.answers))
	if len(finished) > 0 {
		out["completions/mean_terminated_length"] = mean(finished)
	}
	var spread, flat float64
	for group := range slices.Chunk(e.total, r.each) {
		_, std := train.MeanStd(group)
		spread += std
		if std == 0 {
			flat++
		}
	}
	if n := float64(len(e.total) / r.each); r.each > 1 {
		out["reward_std"], out["frac_reward_zero_std"] = spread/n, flat/n
	} else {
		_, out["reward_std"] = train.MeanStd(e.total)
	}
	return out
}

// tokensOf counts what the answers' batches hold.
func tokensOf(batches []*data.Batch) int64 {
	n := int64(0)
	for _, x := range batches {
		n += int64(x.Tokens)
	}
	return n
}

// groups carries out the steps of a group-policy run.
type groups struct {
	*reinforced
	loss      train.Policy
	policy    *second // the policy that wrote the answers, where several updates follow; nil: one does
	reference *second // nil: no divergence counts
}

// prepare implements train.Options.Prepare.
func (g *groups) prepare(ctx context.Context, st *data.Step) ([]*data.Step, error) {
	e, err := g.gather(ctx, st)
	if err != nil {
		return nil, err
	}
	advantages, err := train.GroupAdvantages(e.total, g.each, g.job.advantages())
	if err != nil {
		return nil, err
	}
	perToken := number(g.normaliser(e) / float64(max(e.tokens, 1)))
	at := 0
	for _, x := range e.batches {
		mine := make([]float32, x.B)
		for i := range mine {
			mine[i] = float32(advantages[at+i])
		}
		at += x.B
		extra := map[string]*tensor.Tensor{"advantages": vectorOf(mine), "per_token": perToken}
		for name, s := range map[string]*second{"old": g.policy, "reference": g.reference} {
			if s == nil {
				continue
			}
			logps, err := s.logps(ctx, x)
			if err != nil {
				return nil, err
			}
			extra[name] = tensor.FromF32(logps, x.B, x.T)
		}
		x.Extra = extra
	}
	first := &data.Step{Epoch: st.Epoch, Index: st.Index, Last: st.Last, Batches: e.batches, Scored: int64(e.tokens), Tokens: tokensOf(e.batches), Report: g.report(e)}
	updates := []*data.Step{first}
	for len(updates) < g.job.Reinforce.NumIterations {
		again := *first
		again.Tokens, again.Report = 0, nil
		updates = append(updates, &again)
	}
	return updates, nil
}

func (g *groups) normaliser(e *experience) float64 {
	return float64(g.loss.Normaliser(len(e.answers), e.tokens, g.rollouts.most))
}

// count implements train.Options.Count.
func (g *groups) count(st *data.Step) float64 {
	rows := 0
	for _, x := range st.Batches {
		rows += x.Rows
	}
	if st.Scored == 0 {
		return 0
	}
	return math.Max(1, float64(g.loss.Normaliser(rows, int(st.Scored), g.rollouts.most)))
}
