package recipe

import (
	"context"
	"fmt"

	"danlu/data"
	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
	"danlu/train"
)

func init() { stages["distill"] = distil }

// distil learns from a teacher: from its next-token distributions, or from its answers (sequence).
func distil(ctx context.Context, j *job) error {
	if j.Distill.Loss == "sequence" {
		return distilAnswers(ctx, j)
	}
	loss := j.distillLoss()
	if err := loss.Check(); err != nil {
		return j.Errorf("distill_top_k", "%v", err)
	}
	tok, err := j.tokenizer()
	if err != nil {
		return err
	}
	format, err := j.template(tok)
	if err != nil {
		return err
	}
	rows, err := j.rows(ctx, tok, &data.ChatEncoder{Template: format, CutoffLen: j.Data.CutoffLen, TrainOnPrompt: j.Data.TrainOnPrompt, MaskHistory: j.Data.MaskHistory,
		EfficientEOS: format.EfficientEOS()})
	if err != nil {
		return err
	}
	defer rows.close()
	model, err := j.model(tok)
	if err != nil {
		return err
	}
	defer model.store.Close()
	d := &distillation{loss: &loss, student: model}
	if d.teacher, err = j.teacher(d); err != nil {
		return err
	}
	defer d.teacher.close()
	done, err := j.train(ctx, training{model: model, rows: rows, objective: loss.Objective(), prepare: d.prepare, beside: []*second{d.teacher}})
	if err != nil {
		return err
	}
	return j.report(done)
}

// distillLoss translates the recipe's keys.
func (j *job) distillLoss() train.Distill {
	x := &j.Distill
	d := train.Distill{Temperature: x.Temperature, Alpha: x.Alpha, TopK: x.TopK}
	switch x.Loss {
	case "reverse_kl":
		d.Beta = 1
	case "jsd":
		d.Beta = x.Beta
	}
	return d
}

// distillation adds to batches what the teacher makes of them.
type distillation struct {
	loss    *train.Distill
	student *trainee
	teacher *second
}

// teacher opens the teacher. Its output matrix goes into the student's store once it is there.
func (j *job) teacher(d *distillation) (*second, error) {
	rows := d.student.Info().VocabSize
	t, err := j.second("teacher_model", j.Distill.Teacher, false, func(*source) train.Reading {
		if d.loss.TopK > 0 {
			return train.BestTokens(d.loss.TopK, rows, d.loss.Temperature)
		}
		return train.HiddenRows
	})
	if err != nil {
		return nil, err
	}
	t.rowwise = d.loss.TopK > 0
	info := t.Model.Info()
	d.loss.TeacherSize = info.HiddenSize
	switch {
	case info.VocabSize < rows:
		err = j.Errorf("teacher_model", "it knows %d tokens and the student %d; want the same vocabulary", info.VocabSize, rows)
	case d.loss.TopK > rows:
		err = j.Errorf("distill_top_k", "want at most the vocabulary of %d, got %d", rows, d.loss.TopK)
	case d.loss.TopK == 0:
		t.filled = d.copyHead
		t.states, err = withHead(t)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// headGraph computes a model's output matrix.
func headGraph(t *second) (*graph.Graph, error) {
	return graph.Build(func(g *graph.Graph) {
		b := nn.Inputs(g, t.Policy, t.Model.Info().PositionRows, 1, 1)
		t.Model.Hidden(b) // declares a tied matrix
		g.Output("head", graph.Convert(t.Model.Head(b), dtype.F32))
	})
}

// withHead declares what the output matrix is made of and lists all of the teacher's states.
func withHead(t *second) ([]*graph.StateSpec, error) {
	g, err := headGraph(t)
	if err != nil {
		return nil, err
	}
	states := t.states
	have := map[string]bool{}
	for _, s := range states {
		have[s.Label] = true
	}
	for _, v := range g.States() {
		if spec := v.Node.Op.(graph.State).StateSpec; !have[spec.Label] {
			states = append(states, spec)
			if err := t.Store.Declare(spec); err != nil {
				return nil, err
			}
		}
	}
	return states, nil
}

// copyHead puts the teacher's output matrix, as far as the student's vocabulary goes, into the student's store.
func (d *distillation) copyHead() error {
	g, err := headGraph(d.teacher)
	if err != nil {
		return err
	}
	p, err := d.teacher.Engine.Compile(g, d.teacher.Store, engine.Options{Outputs: []string{"head"}})
	if err != nil {
		return err
	}
	defer p.Close()
	one := tensor.FromI32([]int32{0}, 1, 1)
	out, err := p.Run(context.Background(), engine.Tensors{"ids": one, "segments": one, "positions": tensor.FromI32(make([]int32, d.teacher.Model.Info().PositionRows), d.teacher.Model.Info().PositionRows, 1, 1)})
	if err != nil {
		return err
	}
	size, rows := d.loss.TeacherSize, d.student.Info().VocabSize
	return d.student.store.Set(train.TeacherHead, tensor.FromF32(out["head"].F32()[:rows*size], rows, size))
}

// prepare implements train.Options.Prepare.
func (d *distillation) prepare(ctx context.Context, st *data.Step) ([]*data.Step, error) {
	for _, x := range st.Batches {
		var err error
		if d.loss.TopK > 0 {
			err = d.bestTokens(ctx, x)
		} else {
			err = d.hidden(ctx, x)
		}
		if err != nil {
			return nil, err
		}
	}
	return []*data.Step{st}, nil
}

func (d *distillation) hidden(ctx context.Context, x *data.Batch) error {
	out, err := d.teacher.Run(ctx, x)
	if err != nil {
		return err
	}
	x.Extra = map[string]*tensor.Tensor{"teacher": tensor.FromF32(append([]float32(nil), out["hidden"].F32()...), x.B, x.T, d.loss.TeacherSize)}
	return nil
}

// bestTokens reads row by row, since the teacher's logits of a whole batch would be large.
func (d *distillation) bestTokens(ctx context.Context, x *data.Batch) error {
	var ids []int32
	var probs []float32
	for i := range x.B {
		out, err := d.teacher.Run(ctx, x.Part(i, i+1))
		if err != nil {
			return err
		}
		ids, probs = append(ids, out["ids"].I32()...), append(probs, out["probs"].F32()...)
	}
	k := d.loss.TopK
	x.Extra = map[string]*tensor.Tensor{"teacher_ids": tensor.FromI32(ids, x.B, x.T, k), "teacher_probs": tensor.FromF32(probs, x.B, x.T, k)}
	return nil
}

// distilAnswers lets the teacher answer the prompts and learns its answers.
func distilAnswers(ctx context.Context, j *job) error {
	path, err := j.teacherAnswers(ctx)
	if err != nil {
		return err
	}
	learn, recipe := *j, *j.Recipe
	recipe.Data.Dataset, recipe.Data.MaxSamples, recipe.Data.MixStrategy, recipe.Data.InterleaveProbs = []string{path}, nil, "concat", nil
	learn.Recipe = &recipe
	return supervised(ctx, &learn)
}

// teacherAnswers makes a dataset of the teacher's answers. Answers that were cut off are left out and counted.
func (j *job) teacherAnswers(ctx context.Context) (string, error) {
	a, err := j.answerer(ctx)
	if err != nil {
		return "", err
	}
	defer a.close()
	path, state, err := j.collect(ctx, a.of, a.rows.set, 64, func(ctx context.Context, from, to int64) ([]conversation, map[string]float64, error) {
		asked, err := a.rows.questionsAt(a.rows.set, from, to)
		if err != nil {
			return nil, nil, err
		}
		said, err := a.answer(ctx, asked, uint64(from))
		if err != nil {
			return nil, nil, err
		}
		var lines []conversation
		for i, q := range asked {
			if said[i] == "" {
				continue
			}
			c, err := q.conversation(said[i])
			if err != nil {
				return nil, nil, err
			}
			lines = append(lines, c)
		}
		return lines, map[string]float64{"kept": float64(len(lines)), "cut_off": float64(len(asked) - len(lines))}, nil
	})
	if err != nil {
		return "", err
	}
	j.say("teacher: %.0f answers, %.0f cut off or empty and left out", state.Sums["kept"], state.Sums["cut_off"])
	if state.Sums["kept"] == 0 {
		return "", j.Errorf("teacher_model", "none of its answers came to an end within max_new_tokens: %d", j.Generation.MaxNewTokens)
	}
	return path, nil
}

// answerer is a teacher that answers prompts.
type answerer struct {
	rows   *rows
	of     string // what its answers depend on
	answer func(ctx context.Context, asked []question, seed uint64) ([]string, error)
	close  func()
}

func (j *job) answerer(ctx context.Context) (*answerer, error) {
	tok, err := j.tokenizer()
	if err != nil {
		return nil, err
	}
	format, err := j.template(tok)
	if err != nil {
		return nil, err
	}
	ask := *j
	recipe := *j.Recipe
	recipe.Data.ValSize, recipe.Data.EvalDataset, recipe.Output.EvalStrategy = 0, nil, "no"
	recipe.Method.Stage = "rft" // prompts alone
	ask.Recipe = &recipe
	rows, err := ask.rows(ctx, tok, &questionEncoder{data.PromptEncoder{Template: format, CutoffLen: j.Data.CutoffLen}})
	if err != nil {
		return nil, err
	}
	a := &answerer{rows: rows, close: rows.close}
	a.of = fmt.Sprintf("%s %s %s seed=%d %+v", rows.set.Store.Checksum(), j.Distill.Teacher, j.Distill.TeacherAPI, j.Optim.Seed, j.Generation)
	if j.Distill.TeacherAPI != "" {
		a.answer = j.askEndpoint
		return a, nil
	}
	if err := j.answerLocally(a); err != nil {
		rows.close()
		return nil, err
	}
	return a, nil
}

// answerLocally lets a model that is opened here answer.
func (j *job) answerLocally(a *answerer) error {
	t, err := j.second("teacher_model", j.Distill.Teacher, false, func(*source) train.Reading { return train.LogProbs })
	if err != nil {
		return err
	}
	model := &trainee{Model: t.Model, store: t.Store, policy: t.Policy}
	family.FindBlanks(t.Model, a.rows.tokenizer)
	format, err := j.template(a.rows.tokenizer)
	var r *rollouts
	if err == nil {
		_, longest, e := a.rows.loader.Largest()
		if err = e; err == nil {
			r, err = j.rollouts(model, a.rows.tokenizer, format, longest, j.Generation.MaxNewTokens, atOnce)
		}
	}
	if err == nil {
		err = t.fill()
	}
	if err != nil {
		t.close()
		return err
	}
	rows := a.rows
	a.close = func() { r.Shut(); t.close(); rows.close() }
	a.answer = func(ctx context.Context, asked []question, seed uint64) ([]string, error) {
		prompts := make([][]int32, len(asked))
		for i, q := range asked {
			prompts[i] = q.ids
		}
		drawn, err := r.draw(ctx, prompts, 1, mixed(uint64(j.Optim.Seed), seed))
		if err != nil {
			return nil, err
		}
		said := make([]string, len(drawn))
		for i, d := range drawn {
			if d.finished {
				said[i] = d.text
			}
		}
		return said, nil
	}
	return nil
}
