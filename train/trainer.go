// Package train runs the training loop: gradients, updates, metrics, checkpoints, resume.
package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"danlu/data"
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
	SaveEvery   int64 // 0: only at the end
	SaveLimit   int   // newest checkpoints kept; 0: all
	SaveBest    bool  // a checkpoint when the validation loss falls; kept whatever SaveLimit says
	EvalEvery   int64 // 0: never
	// Validation starts a pass over the held-out batches; nil: none.
	Validation func() (*data.Loader, error)

	Dir         string // of the run
	TensorBoard bool
	EventDir    string // default: runs under Dir
	Plot        bool
	Resume      string // checkpoint folder to go on from; "": start
	// MaxBadSteps is how many steps in a row may have no finite gradient before the run stops.
	MaxBadSteps int
	// SaveModel writes the model files into a folder.
	SaveModel func(dir string) error
	Watch     Watch
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
	Stopped  bool // by the caller, before the end; a checkpoint was written
}

// ErrDiverged is returned when too many steps in a row had no finite gradient.
var ErrDiverged = errors.New("train: loss or gradient is not finite")

// trainer is a run in progress.
type trainer struct {
	Options
	log      *runLog
	state    State
	lastEval float64
	resumed  bool

	window      Record // sums since the last logged line
	windowSteps int64
	windowStart time.Time
	windowToken int64
	begun       time.Time
	beganAt     int64
	lossSum     float64
	lossSteps   int64
}

// Run trains until Steps are done or ctx is cancelled, in which case it saves a checkpoint first.
func Run(ctx context.Context, o Options) (Result, error) {
	t := &trainer{Options: o, lastEval: math.NaN(), begun: time.Now(), windowStart: time.Now(), window: Record{}}
	if t.MaxBadSteps <= 0 {
		t.MaxBadSteps = 5
	}
	if t.EventDir == "" {
		t.EventDir = filepath.Join(t.Dir, "runs")
	}
	if t.Resume != "" {
		if err := t.load(t.Resume); err != nil {
			return Result{}, err
		}
		t.resumed = true
	}
	t.beganAt = t.state.Step
	var err error
	if t.log, err = openRunLog(t.Dir, t.state.Step, t.Steps, t.TensorBoard, t.EventDir); err != nil {
		return Result{}, err
	}
	res, err := t.run(ctx)
	return res, errors.Join(err, t.log.close())
}

func (t *trainer) run(ctx context.Context) (Result, error) {
	for t.state.Step < t.Steps {
		if ctx.Err() != nil {
			return t.stop()
		}
		st, err := t.Loader.Next()
		if err != nil {
			return t.result(false), err
		}
		err = t.step(ctx, st)
		if ctx.Err() != nil {
			// The step was cut off before its update; the loader's place in the state is still the one before it.
			return t.stop()
		}
		if err != nil {
			return t.result(false), err
		}
		if err := t.afterStep(ctx, st); err != nil {
			if ctx.Err() != nil {
				return t.stop()
			}
			return t.result(false), err
		}
	}
	if t.state.Step > t.beganAt || !t.resumed {
		if err := t.save(false); err != nil {
			return t.result(false), err
		}
	}
	if t.Plot {
		if err := t.log.plot(); err != nil {
			return t.result(false), err
		}
	}
	return t.result(false), nil
}

// step computes gradients and, when they are finite, updates the parameters.
func (t *trainer) step(ctx context.Context, st *data.Step) error {
	sums := map[string]float64{}
	norm := math.NaN()
	rate := t.Rate(t.state.Step)
	if st.Scored > 0 {
		for i, x := range st.Batches {
			r, err := t.Stepper.Accumulate(ctx, x, 1/float64(st.Scored), i == 0)
			if err != nil {
				return err
			}
			for k, v := range r {
				sums[k] += v
			}
		}
		var err error
		if norm, err = t.Stepper.GradNorm(ctx); err != nil {
			return err
		}
	}
	// Not cancelled between here and the end of the step: update and state belong together.
	if finite(norm) && finite(sums["loss"]) {
		scale := 1.0
		if t.MaxGradNorm > 0 {
			scale = min(1, t.MaxGradNorm/(norm+1e-6))
		}
		if err := t.Stepper.Apply(context.WithoutCancel(ctx), rate, scale, t.state.Updates+1); err != nil {
			return err
		}
		t.state.Updates++
		t.state.Bad = 0
	} else if err := t.skip(st, sums["loss"], norm); err != nil {
		return err
	}
	t.state.Step++
	t.state.Tokens += st.Tokens
	t.state.Data = t.Loader.State()
	t.collect(sums, norm, rate, st)
	return nil
}

// skip counts a step without an update.
func (t *trainer) skip(st *data.Step, loss, norm float64) error {
	t.state.Skipped++
	why := fmt.Sprintf("step %d skipped: loss %v, gradient norm %v", t.state.Step+1, loss, norm)
	if st.Scored == 0 {
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

// collect adds a step to the sums of the next logged line.
func (t *trainer) collect(sums map[string]float64, norm, rate float64, st *data.Step) {
	for k, v := range sums {
		old, _ := t.window[k].(float64)
		t.window[k] = old + v
	}
	t.window["grad_norm"], t.window["learning_rate"] = norm, rate
	t.windowSteps++
	t.windowToken += st.Tokens
	if l := sums["loss"]; finite(l) {
		t.lossSum += l
		t.lossSteps++
	}
	if t.Watch.Step != nil {
		s := t.status()
		s.Loss, s.Rate, s.GradNorm = sums["loss"], rate, norm
		t.Watch.Step(s)
	}
}

func (t *trainer) status() Status {
	done := t.state.Step - t.beganAt
	s := Status{Step: t.state.Step, Steps: t.Steps, Epoch: t.Loader.Progress(), Tokens: t.state.Tokens}
	if d := time.Since(t.windowStart).Seconds(); d > 0 {
		s.TokensPerS = float64(t.windowToken) / d
	}
	if done > 0 {
		s.ETA = time.Duration(float64(time.Since(t.begun)) / float64(done) * float64(t.Steps-t.state.Step))
	}
	return s
}

// afterStep logs, evaluates and saves when it is time.
func (t *trainer) afterStep(ctx context.Context, st *data.Step) error {
	step := t.state.Step
	last := step == t.Steps
	due := func(every int64) bool { return every > 0 && (step%every == 0 || last) }
	if due(t.LogEvery) || t.LogFirst && step == 1 {
		if err := t.logLine(); err != nil {
			return err
		}
		if t.Watch.Idle != nil {
			t.Watch.Idle(ctx, t.status())
		}
	}
	better := false
	if t.Validation != nil && due(t.EvalEvery) {
		loss, err := t.evaluate(ctx)
		if err != nil {
			return err
		}
		better = t.state.Best == nil || loss < *t.state.Best
		if better {
			t.state.Best, t.state.BestStep = &loss, step
		}
	}
	if !last && (t.SaveEvery > 0 && step%t.SaveEvery == 0 || t.SaveBest && better) {
		return t.save(t.SaveBest && better)
	}
	return nil
}

func (t *trainer) logLine() error {
	r := Record{}
	for k, v := range t.window {
		switch x := v.(float64); k {
		case "grad_norm", "learning_rate":
			r[k] = x
		default:
			r[k] = x / float64(t.windowSteps)
		}
	}
	s := t.status()
	r["tokens_per_s"], r["total_tokens"], r["eta_s"] = s.TokensPerS, t.state.Tokens, s.ETA.Seconds()
	if t.state.Skipped > 0 {
		r["skipped_steps"] = t.state.Skipped
	}
	t.window, t.windowSteps, t.windowToken, t.windowStart = Record{}, 0, 0, time.Now()
	if err := t.log.write(t.state.Step, t.Loader.Progress(), r); err != nil {
		return err
	}
	if t.Watch.Log != nil {
		t.Watch.Log(t.state.Step, r)
	}
	return nil
}

// evaluate is the mean loss over the validation set's scored targets.
func (t *trainer) evaluate(ctx context.Context) (float64, error) {
	loader, err := t.Validation()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	total, scored := 0.0, int64(0)
	steps := loader.StepsPerEpoch()
	for i := int64(0); i < steps; i++ {
		st, err := loader.Next()
		if err != nil {
			return 0, err
		}
		for _, x := range st.Batches {
			if x.Scored == 0 {
				continue
			}
			r, err := t.Stepper.Evaluate(ctx, x, 1)
			if err != nil {
				return 0, err
			}
			total += r["loss"]
			scored += int64(x.Scored)
		}
		if t.Watch.Eval != nil {
			t.Watch.Eval(i+1, steps)
		}
	}
	loss := total / float64(max(scored, 1))
	t.lastEval = loss
	r := Record{"eval_loss": loss, "eval_runtime": time.Since(start).Seconds(), "perplexity": math.Exp(loss)}
	if err := t.log.write(t.state.Step, t.Loader.Progress(), r); err != nil {
		return 0, err
	}
	if t.Watch.Log != nil {
		t.Watch.Log(t.state.Step, r)
	}
	// Time spent here is not training time.
	t.windowStart = t.windowStart.Add(time.Since(start))
	return loss, nil
}

// stop saves a checkpoint of the steps that are done and ends the run.
func (t *trainer) stop() (Result, error) {
	if t.state.Step == 0 || t.resumed && t.state.Step == t.beganAt {
		return t.result(true), nil
	}
	err := t.save(false)
	return t.result(true), err
}

func (t *trainer) result(stopped bool) Result {
	r := Result{Steps: t.state.Step, Loss: t.lossSum / float64(max(t.lossSteps, 1)), EvalLoss: t.lastEval, Skipped: t.state.Skipped, Tokens: t.state.Tokens, Stopped: stopped}
	return r
}
