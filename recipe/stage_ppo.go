package recipe

import (
	"context"
	"math"
	"math/rand/v2"

	"danlu/data"
	"danlu/dtype"
	"danlu/graph"
	"danlu/tensor"
	"danlu/train"
)

func init() { stages["ppo"] = proximalPolicy }

// proximalPolicy learns from the rewards of drawn answers by PPO, with a value head on the policy's body, as
// LLaMA-Factory does. A step draws per_device_train_batch_size x gradient_accumulation_steps x ppo_buffer_size answers
// and goes ppo_epochs times over them.
func proximalPolicy(ctx context.Context, j *job) error {
	x := &j.Reinforce
	r, err := j.reinforce(ctx, j.Optim.BatchSize*j.Optim.Accumulation*x.PPOBufferSize, 1)
	if err != nil {
		return err
	}
	defer r.close()
	head := train.LlamaFactoryHead
	if err := j.addHead(r.model, head); err != nil {
		return err
	}
	p := &proximal{reinforced: r, policy: j.reader(r.model, train.LogProbsAndValues(head))}
	defer p.policy.close()
	if p.reference, err = j.reference(r.model); err != nil {
		return err
	}
	defer p.reference.close()
	if err := p.declare(); err != nil {
		return err
	}
	loss := train.PPO{Clip: x.ClipRange, ValueClip: x.ClipRangeValue, ValueCoef: x.ValueCoef}
	done, err := j.train(ctx, training{model: r.model, rows: r.rows, objective: loss.Objective(head), prepare: p.prepare, completed: p.commit, shape: r.shape,
		beside: append(r.judges.beside(), p.policy, p.reference), more: r.rollouts.Memory()})
	if err != nil {
		return err
	}
	return j.report(done)
}

// proximal carries out the steps of a PPO run.
type proximal struct {
	*reinforced
	policy, reference *second
	next              control // what holds once the step is done
}

// control is what steers a run besides its weights. It is a state of the store, and so part of checkpoints.
type control struct {
	kl   train.AdaptiveKL
	mean float64 // of all scores so far
	m2   float64 // sum of their squared distances from it
	n    float64
}

const (
	controlState = "ppo.control"
	// klHorizon is TRL's default.
	klHorizon = 10000
)

// declare adds the control to the store.
func (p *proximal) declare() error {
	spec := &graph.StateSpec{Label: controlState, Type: graph.Of(dtype.F32, 4), Role: graph.OptState}
	if err := p.model.store.Declare(spec); err != nil {
		return err
	}
	fill := p.model.fill
	p.model.fill = func() error {
		if err := fill(); err != nil {
			return err
		}
		return p.put(control{kl: train.AdaptiveKL{Coefficient: p.job.Reinforce.KLCoef}})
	}
	return nil
}

func (p *proximal) put(c control) error {
	return p.model.store.Set(controlState, tensor.FromF32([]float32{float32(c.kl.Coefficient), float32(c.mean), float32(c.m2), float32(c.n)}, 4))
}

func (p *proximal) control() (control, error) {
	t, err := p.model.store.Get(controlState)
	if err != nil {
		return control{}, err
	}
	v := t.F32()
	return control{kl: train.AdaptiveKL{Coefficient: float64(v[0]), Target: p.job.Reinforce.PPOTarget, Horizon: klHorizon}, mean: float64(v[1]), m2: float64(v[2]), n: float64(v[3])}, nil
}

// commit implements train.Options.Completed.
func (p *proximal) commit() error { return p.put(p.next) }

// observe takes scores into the running mean and variance (Welford).
func (c *control) observe(scores []float64) {
	for _, s := range scores {
		c.n++
		d := s - c.mean
		c.mean += d / c.n
		c.m2 += d * (s - c.mean)
	}
}

// normalised shifts and scales scores by all scores so far.
func (c *control) normalised(scores []float64) []float64 {
	std := math.Sqrt(c.m2 / max(c.n-1, 1))
	out := make([]float64, len(scores))
	for i, s := range scores {
		out[i] = (s - c.mean) / (std + 1e-8)
	}
	return out
}

// response are the numbers of one answer's tokens.
type response struct{ logp, reference, values, rewards, advantages, returns []float64 }

// prepare implements train.Options.Prepare.
func (p *proximal) prepare(ctx context.Context, st *data.Step) ([]*data.Step, error) {
	x := &p.job.Reinforce
	e, err := p.gather(ctx, st)
	if err != nil {
		return nil, err
	}
	responses, err := p.read(ctx, e)
	if err != nil {
		return nil, err
	}
	c, err := p.control()
	if err != nil {
		return nil, err
	}
	scores := e.total
	if x.PPOScoreNorm {
		c.observe(scores)
		scores = c.normalised(scores)
	}
	report := p.report(e)
	kl := p.rewardTokens(responses, scores, c.kl.Coefficient, report)
	p.advantages(responses)
	report["objective/kl_coef"] = c.kl.Coefficient
	c.kl.Observe(kl, len(responses))
	p.next = c
	p.lay(e, responses)
	return p.updates(st, e, report), nil
}

// read computes log-probabilities and values of the answers' tokens.
func (p *proximal) read(ctx context.Context, e *experience) ([]*response, error) {
	var list []*response
	for _, x := range e.batches {
		out, err := p.policy.Run(ctx, x)
		if err != nil {
			return nil, err
		}
		reference, err := p.reference.logps(ctx, x)
		if err != nil {
			return nil, err
		}
		logp, values := out["logp"].F32(), out["values"].F32()
		for i := range x.B {
			r := &response{}
			for k := i * x.T; k < (i+1)*x.T; k++ {
				if x.Targets[k] != data.Ignore {
					r.logp, r.reference, r.values = append(r.logp, float64(logp[k])), append(r.reference, float64(reference[k])), append(r.values, float64(values[k]))
				}
			}
			list = append(list, r)
		}
	}
	return list, nil
}

// rewardTokens gives the tokens their rewards and returns the mean divergence of an answer.
func (p *proximal) rewardTokens(responses []*response, scores []float64, coefficient float64, report map[string]float64) (kl float64) {
	all, tokens := 0.0, 0
	rewards := make([][]float64, len(responses))
	for i, r := range responses {
		r.rewards = train.TokenRewards(r.logp, r.reference, coefficient, scores[i])
		rewards[i] = r.rewards
		for k := range r.logp {
			kl += r.logp[k] - r.reference[k]
		}
		tokens += len(r.logp)
		all += scores[i]
	}
	n := float64(len(responses))
	report["objective/scores"], report["objective/kl"], report["objective/kl_per_token"] = all/n, kl/n, kl/float64(max(tokens, 1))
	report["objective/non_score_reward"] = -coefficient * kl / n
	report["objective/rlhf_reward"] = all/n - coefficient*kl/n
	if p.job.Reinforce.PPOWhitenRewards {
		train.Whiten(rewards, true)
	}
	return kl / n
}

func (p *proximal) advantages(responses []*response) {
	x := &p.job.Reinforce
	all := make([][]float64, len(responses))
	for i, r := range responses {
		r.advantages, r.returns = train.GAE(r.rewards, r.values, x.Gamma, x.Lambda)
		all[i] = r.advantages
	}
	train.Whiten(all, false)
}

// lay puts the answers' numbers at the places that predict their tokens.
func (p *proximal) lay(e *experience, responses []*response) {
	at := 0
	for _, x := range e.batches {
		fields := map[string]func(r *response) []float64{
			"old": func(r *response) []float64 { return r.logp }, "old_values": func(r *response) []float64 { return r.values },
			"advantages": func(r *response) []float64 { return r.advantages }, "returns": func(r *response) []float64 { return r.returns },
		}
		x.Extra = map[string]*tensor.Tensor{"per_token": number(1)}
		for name, of := range fields {
			out := make([]float32, x.B*x.T)
			for i := range x.B {
				values, n := of(responses[at+i]), 0
				for k := i * x.T; k < (i+1)*x.T; k++ {
					if x.Targets[k] != data.Ignore {
						out[k] = float32(values[n])
						n++
					}
				}
			}
			x.Extra[name] = tensor.FromF32(out, x.B, x.T)
		}
		at += x.B
	}
}

// updates are ppo_epochs passes over the answers, in another order each.
func (p *proximal) updates(st *data.Step, e *experience, report map[string]float64) []*data.Step {
	var list []*data.Step
	seed := mixed(uint64(p.job.Optim.Seed), uint64(st.Epoch), uint64(st.Index))
	order := rand.New(rand.NewPCG(seed, 1))
	for range p.job.Reinforce.PPOEpochs {
		batches := append([]*data.Batch(nil), e.batches...)
		order.Shuffle(len(batches), func(i, k int) { batches[i], batches[k] = batches[k], batches[i] })
		for len(batches) > 0 {
			n := min(p.job.Optim.Accumulation, len(batches))
			update := &data.Step{Epoch: st.Epoch, Index: st.Index, Last: st.Last, Batches: batches[:n]}
			for _, x := range update.Batches {
				update.Scored += int64(x.Scored)
			}
			list, batches = append(list, update), batches[n:]
		}
	}
	list[0].Tokens, list[0].Report = tokensOf(e.batches), report
	return list
}
