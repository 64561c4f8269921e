package recipe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"danlu/data"
	"danlu/graph"
	"danlu/hardware"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/nn"
	"danlu/train"
)

// training is what a stage hands to the loop.
type training struct {
	model     *trainee
	rows      *rows
	objective train.Objective
	// prepare makes what is trained on of a step's rows (train.Options.Prepare), and count is what its loss is divided by
	// (train.Options.Count); both may be nil.
	prepare func(ctx context.Context, st *data.Step) ([]*data.Step, error)
	count   func(st *data.Step) float64
	// shape says what the programs have to take of a loader's largest batch; nil: the batch itself.
	shape func(l train.Largest) train.Largest
	// measure is train.Options.Measure; nil: nothing more is measured.
	measure func(ctx context.Context, x *data.Batch) (map[string]float64, int, error)
	// completed, if set, is called when a step is done and before it is saved.
	completed func() error
	// beside are the models that are read while training.
	beside []*second
	// more is what else the stage takes, in bytes.
	more int64
	// recompute is train.StepConfig.Recompute; nil: only cheap results are computed again.
	recompute func(*graph.Node) bool
}

// train checks that the run fits, loads the model, shows the first sample and trains.
func (j *job) train(ctx context.Context, t training) (*finished, error) {
	shown, err := j.samples(t.model, t.rows.tokenizer)
	if err != nil {
		return nil, err
	}
	if shown != nil {
		defer shown.Shut()
		t.more += shown.Memory()
	}
	stepper, err := j.compile(&t)
	if err != nil {
		return nil, err
	}
	defer stepper.Close()
	for _, s := range t.beside {
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	if j.run.resume == "" {
		if err := t.model.fill(); err != nil {
			return nil, err
		}
	}
	if err := j.showFirst(t.rows); err != nil {
		return nil, err
	}
	opt, err := j.trainOptions(t, stepper)
	if err != nil {
		return nil, err
	}
	at, err := j.run.step()
	if err != nil {
		return nil, err
	}
	bar := progress.New(j.Stderr, progress.Options{Label: locale.Text("training", "训练"), Start: at, Total: opt.Steps, Quiet: j.Output.Quiet, Chinese: locale.Chinese()})
	opt.Watch, opt.Completed = j.watch(bar), t.completed
	if shown != nil {
		opt.Watch.Idle = func(ctx context.Context, at train.Status) { shown.show(ctx, at, bar) }
	}
	f := &finished{training: t, options: opt}
	f.result, err = train.Run(ctx, opt)
	bar.Done()
	if f.result.Dir == "" { // before the first step: the checkpoint to go on from does not fit
		return nil, err
	}
	j.run.path = f.result.Dir
	if err != nil {
		return nil, &Failure{err}
	}
	return f, nil
}

// compile compiles the programs of the largest batches, before a weight is read, and refuses a run that does not fit.
// Where memory is too small, whole layers are computed again in the backward pass, as LLaMA-Factory always does; that
// costs time and changes no bit.
func (j *job) compile(t *training) (*train.Stepper, error) {
	first, eval, err := j.largest(t.rows)
	if err != nil {
		return nil, err
	}
	if t.shape != nil {
		first = t.shape(first)
		if eval != nil {
			*eval = t.shape(*eval)
		}
	}
	if err := t.reserve(first); err != nil {
		return nil, err
	}
	stepper, needs, err := j.reserved(*t, first, eval)
	if err != nil && !errors.Is(err, syscall.ENOMEM) {
		return nil, err
	}
	if free, known := hardware.FreeMemory(); (err != nil || known && needs.memory() > free) && !j.Model.NoCheckpointing {
		whole := *t
		whole.recompute = everything
		again, less, failed := j.reserved(whole, first, eval)
		switch {
		case failed == nil && less.memory() <= free:
			j.say(locale.Text("memory: whole layers are computed again in the backward pass (disable_gradient_checkpointing: true forbids it)", "内存：反向时重新计算整层（disable_gradient_checkpointing: true 可禁止）"))
			stepper, again = again, stepper
			*t, needs, err = whole, less, nil
		case failed != nil && !errors.Is(failed, syscall.ENOMEM):
			err = failed
		}
		if again != nil {
			again.Close()
		}
	}
	if err == nil {
		err = j.fits(needs, func(free int64) string { return j.smaller(*t, first, eval, free) })
	} else if errors.Is(err, syscall.ENOMEM) {
		err = j.refused(err, *t, first, eval)
	}
	if err != nil && stepper != nil {
		stepper.Close()
	}
	return stepper, err
}

// everything is train.StepConfig.Recompute that keeps of a layer only what goes in.
func everything(*graph.Node) bool { return true }

// reserved is a stepper with the programs of the largest batches, and what the run needs with it.
func (j *job) reserved(t training, first train.Largest, eval *train.Largest) (*train.Stepper, need, error) {
	s, err := j.stepper(t)
	if err != nil {
		return nil, need{}, err
	}
	bytes, err := s.Reserve(first, eval)
	if err != nil {
		s.Close()
		return nil, need{}, err
	}
	return s, j.measure(t, bytes), nil
}

// reserve compiles the programs that read the largest batch and adds up what they and their models take.
func (t *training) reserve(first train.Largest) error {
	for _, s := range t.beside {
		largest := first
		if s.rowwise {
			largest.B = 1
		}
		bytes, err := s.Reserve(largest)
		if err != nil {
			return err
		}
		t.more += bytes + s.bytes()
	}
	return nil
}

// Failure is an error of a run that had begun: not its input is at fault.
type Failure struct{ error }

// Unwrap implements errors.Unwrap.
func (f *Failure) Unwrap() error { return f.error }

// nextToken is the objective of next-token prediction with the recipe's further terms.
func (j *job) nextToken(m *trainee) (train.Objective, error) {
	n := train.NextToken{ZLoss: j.Method.ZLoss, Sequence: j.Model.MoESequenceCoef, MTP: j.Model.MTPLossWeight}
	if j.Model.MoEAuxLossCoef != nil {
		n.Balance = *j.Model.MoEAuxLossCoef
	}
	if err := n.Check(m.Model); err != nil {
		key := "moe_aux_loss_coef"
		if n.Balance == 0 && n.Sequence == 0 {
			key = "mtp_loss_weight"
		}
		return nil, j.Errorf(key, "%v", err)
	}
	return n.Objective(), nil
}

// stepper compiles what does not depend on the batches.
func (j *job) stepper(t training) (*train.Stepper, error) {
	recompute := t.recompute
	if j.Model.NoCheckpointing {
		recompute = func(*graph.Node) bool { return false }
	}
	return train.NewStepper(train.StepConfig{Engine: j.engine, Store: t.model.store, Model: t.model.Model, Policy: t.model.policy, Objective: t.objective,
		Updater: j.rates(j.optimizer()), Trainable: t.model.trainable, Prepare: j.noisy(t.model.prepare), BiasSpeed: j.Model.MoEBiasSpeed, Seed: uint64(j.Optim.Seed), Recompute: recompute,
		Accumulates: j.Optim.Accumulation > 1})
}

// noisy is prepare with neftune_noise_alpha.
func (j *job) noisy(prepare func(b *nn.Build)) func(b *nn.Build) {
	if j.Method.NEFTuneAlpha == nil || *j.Method.NEFTuneAlpha == 0 {
		return prepare
	}
	return func(b *nn.Build) {
		if prepare != nil {
			prepare(b)
		}
		b.EmbeddingNoise = nn.NEFTune(*j.Method.NEFTuneAlpha)
	}
}

// largest are the largest batches of training and validation (nil: there is none).
func (j *job) largest(r *rows) (first train.Largest, eval *train.Largest, err error) {
	of := func(l *data.Loader) (train.Largest, error) {
		b, n, err := l.Largest()
		return train.Largest{B: b, T: n, P: j.source.model.Info().PositionRows, Prefix: r.prefix, Features: l.Features()}, err
	}
	if first, err = of(r.loader); err != nil {
		return first, nil, err
	}
	for _, v := range r.validation {
		l, err := v.Open()
		if err != nil {
			return first, nil, err
		}
		e, err := of(l)
		if err != nil {
			return first, nil, err
		}
		if eval == nil || e.B*e.T > eval.B*eval.T {
			eval = &e
		}
	}
	return first, eval, nil
}

// trainOptions translates the recipe's keys.
func (j *job) trainOptions(t training, s *train.Stepper) (train.Options, error) {
	o, r := &j.Output, j.Recipe
	epoch := t.rows.loader.StepsPerEpoch()
	total := r.Steps(epoch)
	schedule, err := r.schedule(total)
	if err != nil {
		return train.Options{}, err
	}
	every := func(strategy string, steps float64) int64 {
		switch strategy {
		case "steps":
			return Every(steps, total)
		case "epoch":
			return epoch
		}
		return 0
	}
	evalSteps := o.LoggingSteps
	if o.EvalSteps != nil {
		evalSteps = *o.EvalSteps
	}
	opt := train.Options{
		Stepper: s, Loader: t.rows.loader, Prepare: t.prepare, Count: t.count,
		Rate:        func(step int64) float64 { return r.Optim.LearningRate * schedule.Factor(step) },
		MaxGradNorm: r.Optim.MaxGradNorm, Steps: total,
		LogEvery: every(o.LoggingStrategy, o.LoggingSteps), LogFirst: o.LoggingFirstStep,
		SaveEvery: every(o.SaveStrategy, o.SaveSteps), SaveLast: o.SaveStrategy == "steps" || o.SaveStrategy == "epoch",
		SaveBest: o.SaveStrategy == "best", SaveOnlyModel: o.SaveOnlyModel, LoadBest: o.LoadBest,
		EvalEvery: every(o.EvalStrategy, evalSteps), Validation: t.rows.validation, Measure: t.measure,
		Dir: j.run.path, Replaces: j.run.staged(), TensorBoard: r.ReportsTo("tensorboard"), EventDir: o.LoggingDir, Plot: o.PlotLoss, Resume: j.run.resume,
		SaveModel: t.model.save, LoadModel: t.model.load, Rounded: t.model.rounded,
		Facts: map[string]any{"recipe": r.File, "stage": r.Method.Stage, "finetuning_type": r.Method.FinetuningType, "num_train_epochs": r.Optim.Epochs,
			"train_batch_size": r.Optim.BatchSize, "gradient_accumulation_steps": r.Optim.Accumulation, "steps_per_epoch": epoch},
	}
	if o.SaveTotalLimit != nil {
		opt.SaveLimit = *o.SaveTotalLimit
	}
	if r.Method.EarlyStoppingSteps != nil {
		opt.Patience = *r.Method.EarlyStoppingSteps
	}
	if o.BestMetric != "" {
		opt.BestMetric = o.BestMetric
		if len(o.BestMetric) < 5 || o.BestMetric[:5] != "eval_" {
			opt.BestMetric = "eval_" + o.BestMetric
		}
		opt.Greater = opt.BestMetric != "eval_loss" && opt.BestMetric != "eval_perplexity"
	}
	if o.GreaterIsBetter != nil {
		opt.Greater = *o.GreaterIsBetter
	}
	return opt, nil
}

// watch shows a run on the bar.
func (j *job) watch(bar *progress.Bar) train.Watch {
	return train.Watch{
		Step: func(s train.Status) {
			bar.Update(s.Step, progress.Field{Name: "loss", Value: fmt.Sprintf("%.4f", s.Loss)}, progress.Field{Name: "lr", Value: fmt.Sprintf("%.3g", s.Rate)},
				progress.Field{Name: "tok/s", Value: fmt.Sprintf("%.0f", s.TokensPerS)}, progress.Field{Name: locale.Text("memory", "内存"), Value: progress.Bytes(hardware.Resident())})
		},
		Note: func(text string) { bar.Print(text) },
		Log: func(step int64, r train.Record) {
			if loss, ok := r["eval_loss"].(float64); ok {
				bar.Print(fmt.Sprintf(locale.Text("step %d: validation loss %.4f", "第 %d 步：验证损失 %.4f"), step, loss))
			}
		},
	}
}

// showFirst prints the first sample as it will be trained.
func (j *job) showFirst(r *rows) error {
	if j.Output.Quiet {
		return nil
	}
	text, err := r.preview(Colours(j.Stderr))
	if err != nil {
		return err
	}
	text = shortened(text)
	j.say(locale.Text("first sample as it is trained (scored text %s):\n%s", "第一条样本的训练形式（计入损失的文本%s）：\n%s"), marked(Colours(j.Stderr)), text)
	return nil
}

// shortened cuts the middle out of what is shown of a long sample.
func shortened(text string) string {
	const first, last = 3000, 1500
	r := []rune(text)
	if len(r) <= first+last {
		return text
	}
	return string(r[:first]) + "\n" + locale.Text("[danlu data preview shows what is left out here]", "[此处省略的内容可用 danlu data preview 查看]") + "\n" + string(r[len(r)-last:])
}

func marked(colour bool) string {
	if colour {
		return locale.Text("in green", "为绿色")
	}
	return locale.Text("between »«", "在 »« 之间")
}

// Colours reports whether f is a terminal that shows colours.
func Colours(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
