// Package train runs the training loop: gradients, updates, metrics, checkpoints, resume.
package train

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"danlu/data"
	"danlu/graph"
)

// Options of a run. Counts of steps are optimiser steps.
type Options struct {
	Stepper *Stepper
	Loader  *data.Loader
	// Rate is the learning rate of a step, from 0.
	Rate        func(step int64) float64
	MaxGradNorm float64 // 0: no clipping
	Steps       int64   // of the whole run
	LogEvery    int64
	LogFirst    bool
	SaveEvery   int64 // 0: not on the way
	SaveLast    bool  // a checkpoint at the end
	SaveLimit   int   // newest checkpoints kept; 0: all
	SaveBest    bool  // a checkpoint when the validation metric gets better; kept whatever SaveLimit says
	EvalEvery   int64 // 0: never
	EvalFirst   bool  // before the first step too
	Validation  []Validation
	// Measure, if set, gives further numbers of a validation batch: sums over so many rows, whose mean is reported.
	Measure    func(ctx context.Context, x *data.Batch) (sums map[string]float64, rows int, err error)
	BestMetric string // of the evaluation's record: eval_loss by default
	Greater    bool   // more of it is better
	Patience   int    // the run ends after so many evaluations in a row without a better one; 0: never
	LoadBest   bool   // at the end the best checkpoint's model takes the place of the last

	// Prepare, if set, makes what is trained on of what the loader gives: scores of a second model, answers drawn from
	// the model, which may serve several updates. It must depend on nothing but the step, the weights and seeds, so that
	// a resumed run repeats it.
	Prepare func(ctx context.Context, st *data.Step) ([]*data.Step, error)
	// Completed, if set, is called when a step is done, before anything of it is logged or saved.
	Completed func() error
	// Count is what the loss of a step is divided by; nil: its scored targets.
	Count func(st *data.Step) float64

	Dir         string // of the run
	Replaces    bool   // Dir is Staged(an old run's folder), whose place it takes once its first checkpoint is complete
	TensorBoard bool
	EventDir    string // default: runs under Dir
	Plot        bool
	Resume      string // checkpoint folder to go on from; "": start
	// MaxBadSteps is how many steps in a row may have no finite gradient before the run stops.
	MaxBadSteps int
	// SaveModel writes the model's files into a folder, and LoadModel reads them back.
	SaveModel, LoadModel func(dir string) error
	// Rounded reports whether the model's files keep fewer bits of a parameter than are trained; a checkpoint then holds
	// it in float32 beside them. nil: none is.
	Rounded func(spec *graph.StateSpec) bool
	// SaveOnlyModel leaves the optimiser's state out of checkpoints, which then cannot be resumed.
	SaveOnlyModel bool
	// Facts are further keys of trainer_state.json.
	Facts map[string]any
	Watch Watch
}

// Validation is a held-out set; Open starts a pass over it.
type Validation struct {
	Name string // between "eval_" and the metric; "" where there is one set
	Open func() (*data.Loader, error)
}

// Watch is told how a run goes on; every field may be nil.
type Watch struct {
	Step func(s Status)                       // after every step
	Log  func(step int64, r Record)           // after every logged line
	Note func(text string)                    // something worth a line
	Eval func(done, total int64)              // while the validation set is read
	Idle func(ctx context.Context, at Status) // after every logged step: samples
}

// Status is where a run stands.
type Status struct {
	Dir         string // in which the run works now
	Step, Steps int64
	Epoch       float64
	Loss        float64 // of this step
	Rate        float64
	GradNorm    float64
	TokensPerS  float64 // since the last logged line
	Tokens      int64   // of the whole run
	ETA         time.Duration
}

// Result sums up a finished run.
type Result struct {
	Steps    int64
	Loss     float64 // mean over the steps of this call
	EvalLoss float64 // last; NaN when none
	Skipped  int64
	Tokens   int64
	Stopped  bool   // by the caller, before the end; a checkpoint was written
	Dir      string // where the run's files are now
	Seconds  float64
	Done     int64  // steps of this call
	Samples  int64  // rows trained on in this call
	Record   Record // of the last evaluation
}

// ErrDiverged is returned when too many steps in a row had no finite gradient.
var ErrDiverged = errors.New("train: loss or gradient is not finite")

// trainer is a run in progress.
type trainer struct {
	Options
	log      *runLog
	state    State
	saved    int64  // step of the newest checkpoint; -1: none
	lastEval Record // nil: none
	resumed  bool

	window      map[string]mean // since the last logged line
	norm, rate  float64         // of the last update
	windowStart time.Time
	windowToken int64
	begun       time.Time
	beganAt     int64
	lossSum     float64
	lossSteps   int64
	rows        int64
}

// Run trains until Steps are done or ctx is cancelled, in which case it saves a checkpoint first.
func Run(ctx context.Context, o Options) (Result, error) {
	t := &trainer{Options: o, saved: -1, begun: time.Now(), windowStart: time.Now(), window: map[string]mean{}}
	if t.MaxBadSteps <= 0 {
		t.MaxBadSteps = 5
	}
	if t.BestMetric == "" {
		t.BestMetric = "eval_loss"
	}
	if t.Count == nil {
		t.Count = func(st *data.Step) float64 { return float64(st.Scored) }
	}
	if t.Resume != "" {
		if err := t.load(t.Resume); err != nil {
			return Result{}, err
		}
		t.resumed, t.saved = true, t.state.Step
	}
	t.beganAt = t.state.Step
	if err := t.openLog(); err != nil {
		return Result{}, err
	}
	res, err := t.run(ctx)
	res.Dir = t.Dir
	return res, errors.Join(err, t.log.close())
}

func (t *trainer) run(ctx context.Context) (Result, error) {
	if t.EvalFirst && t.state.Step == 0 && len(t.Validation) > 0 {
		if _, err := t.evaluateAll(ctx); err != nil {
			return t.result(ctx.Err() != nil), unlessStopped(ctx, err)
		}
	}
	for t.state.Step < t.Steps && !t.state.Early {
		if ctx.Err() != nil {
			return t.stop()
		}
		updates, err := t.next(ctx)
		if err == nil {
			err = t.step(ctx, updates)
		}
		if err != nil {
			if ctx.Err() != nil {
				// The step was cut off before its update; the loader's place in the state is still the one before it.
				return t.stop()
			}
			return t.result(false), err
		}
		if err := t.afterStep(ctx); err != nil {
			if ctx.Err() != nil {
				return t.stop()
			}
			return t.result(false), err
		}
	}
	return t.finish()
}

func (t *trainer) openLog() (err error) {
	events := t.EventDir
	if events == "" {
		events = filepath.Join(t.Dir, "runs")
	}
	t.log, err = openRunLog(t.Dir, t.state.Step, t.Steps, t.TensorBoard, events)
	return err
}

// takePlace puts the run in the place of the one that it overwrites.
func (t *trainer) takePlace() error {
	if !t.Replaces {
		return nil
	}
	if err := t.log.close(); err != nil {
		return err
	}
	dir := filepath.Dir(t.Dir)
	if err := Replace(dir); err != nil {
		return err
	}
	t.Dir, t.Replaces = dir, false
	return t.openLog()
}

func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// next is the data of the next step, for each of its updates.
func (t *trainer) next(ctx context.Context) ([]*data.Step, error) {
	st, err := t.Loader.Next()
	if err != nil {
		return nil, err
	}
	return t.prepared(ctx, st)
}

func (t *trainer) prepared(ctx context.Context, st *data.Step) ([]*data.Step, error) {
	if t.Prepare == nil {
		return []*data.Step{st}, nil
	}
	return t.Prepare(ctx, st)
}

// finish writes what stands at the end of a run.
func (t *trainer) finish() (Result, error) {
	res := t.result(false)
	if t.SaveLast && t.saved != t.state.Step {
		if err := t.save(); err != nil {
			return res, err
		}
	}
	if t.LoadBest && t.state.Best != nil && t.state.BestStep != t.state.Step {
		dir := t.checkpoint(t.state.BestStep)
		if err := VerifyCheckpoint(dir); err != nil {
			return res, err
		}
		if err := t.loadParams(dir); err != nil {
			return res, err
		}
		t.note(fmt.Sprintf("the model of step %d is the best", t.state.BestStep))
	}
	if err := writeJSON(filepath.Join(t.Dir, stateFile), t.stateJSON()); err != nil {
		return res, err
	}
	if t.Plot {
		return res, t.log.plot()
	}
	return res, nil
}

// step carries out the updates of a step, most often one.
func (t *trainer) step(ctx context.Context, updates []*data.Step) error {
	rate, norm := t.Rate(t.state.Step), math.NaN()
	means := map[string]mean{}
	for _, st := range updates {
		before := t.state.Updates
		sums, n, err := t.update(ctx, st, rate)
		if err != nil {
			return err
		}
		if t.state.Updates > before {
			ctx = context.WithoutCancel(ctx) // the weights have changed: the step is done as a whole
		}
		norm = n
		for _, values := range []map[string]float64{sums, st.Report} {
			for k, v := range values {
				means[k] = means[k].add(k, v)
			}
		}
	}
	t.state.Step++
	for _, st := range updates {
		t.state.Tokens += st.Tokens
	}
	t.state.Data = t.Loader.State()
	if t.Completed != nil {
		if err := t.Completed(); err != nil {
			return err
		}
	}
	t.collect(means, norm, rate, updates)
	return nil
}

// update computes gradients and, when they are finite, updates the parameters.
func (t *trainer) update(ctx context.Context, st *data.Step, rate float64) (sums map[string]float64, norm float64, err error) {
	sums, norm = map[string]float64{}, math.NaN()
	count := t.Count(st)
	if count > 0 && len(st.Batches) == 1 && t.Stepper.Whole() {
		return t.whole(ctx, st, count, rate)
	}
	if count > 0 {
		t.Stepper.Begin(t.state.Step)
		for i, x := range st.Batches {
			r, err := t.Stepper.Accumulate(ctx, x, 1/count, i == 0)
			if err != nil {
				return nil, 0, err
			}
			for k, v := range r {
				sums[k] += v
			}
		}
		maps.Copy(sums, t.Stepper.Loads())
		if norm, err = t.Stepper.GradNorm(ctx); err != nil {
			return nil, 0, err
		}
	}
	// Not cancelled between here and the end of the step: update and state belong together.
	if !finite(norm) || !finite(sums["loss"]) {
		at := ""
		if count > 0 {
			if at, err = t.Stepper.FirstNonFinite(ctx, st.Batches, 1/count); err != nil {
				return nil, 0, err
			}
		}
		return sums, norm, t.skip(count, sums["loss"], norm, at)
	}
	scale := 1.0
	if t.MaxGradNorm > 0 {
		scale = min(1, t.MaxGradNorm/(norm+1e-6))
	}
	if err := t.Stepper.Apply(context.WithoutCancel(ctx), rate, scale, t.state.Updates+1); err != nil {
		return nil, 0, err
	}
	t.state.Updates++
	t.state.Bad = 0
	return sums, norm, nil
}

// whole is update for an engine that runs a step as one program.
func (t *trainer) whole(ctx context.Context, st *data.Step, count, rate float64) (map[string]float64, float64, error) {
	t.Stepper.Begin(t.state.Step)
	sums, norm, err := t.Stepper.Step(ctx, st.Batches[0], 1/count, Update{Rate: rate, MaxNorm: t.MaxGradNorm, Step: t.state.Updates + 1})
	if err != nil {
		return nil, 0, err
	}
	maps.Copy(sums, t.Stepper.Loads())
	if !finite(norm) || !finite(sums["loss"]) {
		return sums, norm, t.skip(count, sums["loss"], norm, "")
	}
	t.state.Updates++
	t.state.Bad = 0
	return sums, norm, nil
}

// skip counts a step without an update; at, if known, is the operation whose result was the first that is not finite.
func (t *trainer) skip(count, loss, norm float64, at string) error {
	t.state.Skipped++
	why := fmt.Sprintf("step %d skipped: loss %v, gradient norm %v", t.state.Step+1, loss, norm)
	if at != "" {
		why += ", first in " + at
	}
	if count == 0 {
		why = fmt.Sprintf("step %d skipped: none of its tokens is scored", t.state.Step+1)
	} else {
		t.state.Bad++
	}
	t.note(why)
	if t.state.Bad >= t.MaxBadSteps {
		return fmt.Errorf("%w in %d steps in a row (%s); the last checkpoint is intact; lower learning_rate or look at the data", ErrDiverged, t.state.Bad, why)
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func (t *trainer) note(text string) {
	if t.Watch.Note != nil {
		t.Watch.Note(text)
	}
}

// mean is a mean in the making.
type mean struct {
	sum float64
	n   int
}

// add takes in the value of a metric. A metric that is not a number says nothing at this step (there was no rejected
// answer, say) and does not count; a loss does.
func (m mean) add(name string, v float64) mean {
	if math.IsNaN(v) && name != "loss" {
		return m
	}
	return mean{m.sum + v, m.n + 1}
}

func (m mean) value() float64 { return m.sum / float64(m.n) }

// collect adds a step to the means of the next logged line.
func (t *trainer) collect(means map[string]mean, norm, rate float64, updates []*data.Step) {
	for k, m := range means {
		if m.n > 0 {
			t.window[k] = t.window[k].add(k, m.value())
		}
	}
	t.norm, t.rate = norm, rate
	for _, st := range updates {
		t.windowToken += st.Tokens
		for _, x := range st.Batches {
			t.rows += int64(x.Rows)
		}
	}
	loss := means["loss"].value()
	if finite(loss) {
		t.lossSum += loss
		t.lossSteps++
	}
	if t.Watch.Step != nil {
		s := t.status()
		s.Loss, s.Rate, s.GradNorm = loss, rate, norm
		t.Watch.Step(s)
	}
}

func (t *trainer) status() Status {
	done := t.state.Step - t.beganAt
	s := Status{Dir: t.Dir, Step: t.state.Step, Steps: t.Steps, Epoch: t.Loader.Progress(), Tokens: t.state.Tokens}
	if d := time.Since(t.windowStart).Seconds(); d > 0 {
		s.TokensPerS = float64(t.windowToken) / d
	}
	if done > 0 {
		s.ETA = time.Duration(float64(time.Since(t.begun)) / float64(done) * float64(t.Steps-t.state.Step))
	}
	return s
}

// afterStep logs, evaluates and saves when it is time.
func (t *trainer) afterStep(ctx context.Context) error {
	step := t.state.Step
	last := step == t.Steps
	due := func(every int64) bool { return every > 0 && (step%every == 0 || last) }
	if due(t.LogEvery) || t.LogFirst && step == 1 {
		if err := t.logLine(); err != nil {
			return err
		}
		if t.Watch.Idle != nil {
			t.Watch.Idle(ctx, t.status())
			t.windowStart = time.Now() // time spent there is not training time
		}
	}
	better := false
	if len(t.Validation) > 0 && due(t.EvalEvery) {
		var err error
		if better, err = t.evaluateAll(ctx); err != nil {
			return err
		}
	}
	if t.SaveEvery > 0 && step%t.SaveEvery == 0 || t.SaveBest && better {
		return t.save()
	}
	return nil
}

func (t *trainer) logLine() error {
	r := Record{"grad_norm": t.norm, "learning_rate": t.rate}
	for k, m := range t.window {
		if m.n > 0 {
			r[k] = m.value()
		}
	}
	s := t.status()
	r["tokens_per_s"], r["total_tokens"], r["eta_s"] = s.TokensPerS, t.state.Tokens, s.ETA.Seconds()
	if t.state.Skipped > 0 {
		r["skipped_steps"] = t.state.Skipped
	}
	t.window, t.windowToken, t.windowStart = map[string]mean{}, 0, time.Now()
	if err := t.log.write(t.state.Step, t.Loader.Progress(), r); err != nil {
		return err
	}
	if t.Watch.Log != nil {
		t.Watch.Log(t.state.Step, r)
	}
	return nil
}

// evaluateAll scores the validation sets and reports whether the metric is the best so far.
func (t *trainer) evaluateAll(ctx context.Context) (better bool, err error) {
	start := time.Now()
	all := Record{}
	for _, v := range t.Validation {
		r, err := t.evaluate(ctx, v)
		if err != nil {
			return false, err
		}
		maps.Copy(all, r)
	}
	if err := t.log.write(t.state.Step, t.Loader.Progress(), all); err != nil {
		return false, err
	}
	if t.Watch.Log != nil {
		t.Watch.Log(t.state.Step, all)
	}
	t.lastEval = all
	// Time spent here is not training time.
	t.windowStart = t.windowStart.Add(time.Since(start))
	metric, ok := all[t.BestMetric].(float64)
	if !ok {
		return false, fmt.Errorf("train: metric_for_best_model: %s is not among %s", t.BestMetric, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	best := t.state.Best
	if best == nil || metric < *best && !t.Greater || metric > *best && t.Greater {
		t.state.Best, t.state.BestStep, t.state.Worse = &metric, t.state.Step, 0
		return true, nil
	}
	if t.state.Worse++; t.Patience > 0 && t.state.Worse >= t.Patience {
		t.state.Early = true
		t.note(fmt.Sprintf("stopped early: %d evaluations without a better %s than %.4g at step %d", t.state.Worse, t.BestMetric, *best, t.state.BestStep))
	}
	return false, nil
}

// evaluate is the mean of the objective's reports over a validation set, each weighed by its scored targets.
func (t *trainer) evaluate(ctx context.Context, v Validation) (Record, error) {
	loader, err := v.Open()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	sums, weight := map[string]float64{}, 0.0
	measured, rows := map[string]float64{}, 0
	steps := loader.StepsPerEpoch()
	for i := int64(0); i < steps; i++ {
		st, err := loader.Next()
		if err != nil {
			return nil, err
		}
		parts, err := t.prepared(ctx, st)
		if err != nil {
			return nil, err
		}
		for _, st := range parts {
			count := t.Count(st)
			for _, x := range st.Batches {
				if count == 0 {
					continue
				}
				r, err := t.Stepper.Evaluate(ctx, x, 1)
				if err != nil {
					return nil, err
				}
				for k, s := range r {
					sums[k] += s
				}
				if t.Measure == nil {
					continue
				}
				more, n, err := t.Measure(ctx, x)
				if err != nil {
					return nil, err
				}
				rows += n
				for k, s := range more {
					measured[k] += s
				}
			}
			for k, s := range st.Report {
				sums[k] += s * count
			}
			weight += count
		}
		if t.Watch.Eval != nil {
			t.Watch.Eval(i+1, steps)
		}
	}
	prefix := "eval_"
	if v.Name != "" {
		prefix += v.Name + "_"
	}
	r := Record{prefix + "runtime": time.Since(start).Seconds()}
	for k, s := range sums {
		if k == "loss" || !math.IsNaN(s) {
			r[prefix+k] = s / max(weight, 1)
		}
	}
	for k, s := range measured {
		r[prefix+k] = s / float64(max(rows, 1))
	}
	if loss, ok := r[prefix+"loss"].(float64); ok {
		r[prefix+"perplexity"] = math.Exp(loss)
	}
	return r, nil
}

// stop saves a checkpoint of the steps that are done and ends the run.
func (t *trainer) stop() (Result, error) {
	if t.state.Step == 0 || t.resumed && t.state.Step == t.beganAt {
		return t.result(true), nil
	}
	if t.saved == t.state.Step {
		return t.result(true), nil
	}
	err := t.save()
	return t.result(true), err
}

func (t *trainer) result(stopped bool) Result {
	r := Result{Steps: t.state.Step, Loss: t.lossSum / float64(max(t.lossSteps, 1)), EvalLoss: math.NaN(), Skipped: t.state.Skipped, Tokens: t.state.Tokens,
		Stopped: stopped, Dir: t.Dir, Seconds: time.Since(t.begun).Seconds(), Done: t.state.Step - t.beganAt, Samples: t.rows, Record: t.lastEval}
	if loss, ok := t.lastEval["eval_loss"].(float64); ok {
		r.EvalLoss = loss
	}
	return r
}
