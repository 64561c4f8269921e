package recipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"danlu/internal/locale"
	"danlu/train"
)

// pipelineFile says in a pipeline's folder how far it has come.
const pipelineFile = "pipeline.json"

// stageState is how far a stage has come.
type stageState struct {
	Begun    bool        `json:"begun"`
	Finished bool        `json:"finished"`
	Settings [][2]string `json:"settings,omitempty"` // it was finished with
	Seconds  float64     `json:"seconds"`            // of all runs together, as far as they were not killed
	Outcome  *Outcome    `json:"outcome,omitempty"`
	Around   [2]string   `json:"models"` // names of the model before and after it, in pipelineState.Marks; "": none
}

// pipelineState is how far a pipeline has come.
type pipelineState struct {
	Stages map[string]*stageState      `json:"stages"`
	Marks  map[string]map[string]*Mark `json:"marks"` // by model and probe
}

// pipeline is a pipeline being carried out.
type pipeline struct {
	*Recipe
	RunOptions
	state pipelineState
}

// runPipeline carries out the stages that are not finished yet, with the probes around them. A kill at any moment loses
// what came behind the last checkpoint of one stage, or one probe.
func runPipeline(ctx context.Context, r *Recipe, o RunOptions) ([]*Outcome, error) {
	p := &pipeline{Recipe: r, RunOptions: o}
	if err := p.open(); err != nil {
		return nil, err
	}
	var outcomes []*Outcome
	for i, s := range r.Stages {
		p.announce(i)
		out, err := p.pass(ctx, s)
		if err != nil && ctx.Err() != nil { // while it was measured
			out, err = &Outcome{Stage: s.Method.Stage, Dir: s.Output.Dir, Stopped: true}, nil
		}
		if err != nil {
			return outcomes, err
		}
		outcomes = append(outcomes, out)
		if out.Stopped {
			break
		}
	}
	if !r.Stages[0].Output.Quiet {
		fmt.Fprintf(o.Stderr, locale.Text("report: %s\n", "报告：%s\n"), filepath.Join(r.root, pageName))
	}
	return outcomes, p.writePage()
}

// open reads how far the pipeline has come.
func (p *pipeline) open() error {
	if err := os.MkdirAll(p.root, 0o755); err != nil {
		return p.Errorf("output_dir", "%v", err)
	}
	p.state = pipelineState{Stages: map[string]*stageState{}, Marks: map[string]map[string]*Mark{}}
	path := filepath.Join(p.root, pipelineFile)
	if p.Output.Overwrite {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p.Errorf("output_dir", "%v", err)
		}
	}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return p.Errorf("output_dir", "%v", err)
	}
	if err := json.Unmarshal(raw, &p.state); err != nil {
		return fmt.Errorf("recipe: %s: %w", path, err)
	}
	return nil
}

func (p *pipeline) save() error {
	return replaceJSON(filepath.Join(p.root, pipelineFile), p.state)
}

func (p *pipeline) announce(i int) {
	if !p.Stages[i].Output.Quiet {
		fmt.Fprintf(p.Stderr, locale.Text("\nstage %d of %d: %s (%s)\n", "\n第 %d / %d 阶段：%s（%s）\n"), i+1, len(p.Stages), p.Stages[i].Name, p.Stages[i].Method.Stage)
	}
}

// pass carries out a stage that is not finished yet, and measures before and after it.
func (p *pipeline) pass(ctx context.Context, s *Recipe) (*Outcome, error) {
	st := p.state.Stages[s.Name]
	if st == nil {
		st = &stageState{}
		p.state.Stages[s.Name] = st
	}
	if !st.Finished {
		if err := p.carryOut(ctx, s, st); err != nil || st.Outcome.Stopped {
			return st.Outcome, err
		}
	} else if err := sameSettings(s, st.Settings); err != nil {
		return nil, err
	}
	if answers(s) {
		st.Around[1] = s.Name
		if err := p.measure(ctx, s, s.Name, after(s)); err != nil {
			return nil, err
		}
	}
	return st.Outcome, p.writePage()
}

// carryOut measures the model that a stage starts from, and runs the stage.
func (p *pipeline) carryOut(ctx context.Context, s *Recipe, st *stageState) error {
	for _, later := range p.Stages[slices.Index(p.Stages, s)+1:] {
		if l := p.state.Stages[later.Name]; l != nil && l.Finished {
			return s.Errorf("output_dir", "stage %s is to be carried out, but stage %s behind it is finished; choose another output_dir, or set overwrite_output_dir: true", s.Name, later.Name)
		}
	}
	if from := before(s); answers(s) && !s.Model.FromScratch {
		st.Around[0] = p.nameOf(from)
		if err := p.measure(ctx, s, st.Around[0], from); err != nil {
			return err
		}
	}
	if st.Begun && !p.Output.Overwrite {
		if newest, _, err := train.Newest(s.Output.Dir); err == nil && newest == "" { // it came to no checkpoint
			s.Output.Overwrite = true
		}
	}
	st.Begun = true
	if err := p.save(); err != nil {
		return err
	}
	begun := time.Now()
	out, err := runStage(ctx, s, p.RunOptions)
	if err != nil {
		return err
	}
	st.Outcome, st.Finished, st.Settings = out, !out.Stopped, settled(s)
	st.Seconds += time.Since(begun).Seconds()
	return p.save()
}

// before is the model that a stage starts from, after the one that it leaves.
func before(s *Recipe) probed {
	m := probed{path: s.Model.Path}
	for _, dir := range s.Model.Adapters {
		m.adapters = append(m.adapters, filepath.Join(s.Model.AdapterFolder, dir))
	}
	return m
}

func after(s *Recipe) probed {
	if s.Method.FinetuningType != "lora" {
		return probed{path: s.Output.Dir}
	}
	m := before(s)
	m.adapters = append(m.adapters, s.Output.Dir)
	return m
}

// nameOf is the stage that left a model, else where it lies.
func (p *pipeline) nameOf(m probed) string {
	dir := m.path
	if n := len(m.adapters); n > 0 {
		dir = m.adapters[n-1]
	}
	for _, s := range p.Stages {
		if s.Output.Dir == dir {
			return s.Name
		}
	}
	return dir
}

// measure takes the marks of a model that the probes around a stage ask for and that are not there yet.
func (p *pipeline) measure(ctx context.Context, s *Recipe, name string, m probed) error {
	for _, probe := range p.Probes {
		if !probe.measures(s) || p.state.Marks[name][probe.Name] != nil {
			continue
		}
		mark, err := probe.run(ctx, m, p.RunOptions)
		if err != nil {
			return fmt.Errorf("%w (probe %s of %s)", err, probe.Name, name)
		}
		if p.state.Marks[name] == nil {
			p.state.Marks[name] = map[string]*Mark{}
		}
		p.state.Marks[name][probe.Name] = mark
		if err := p.save(); err != nil {
			return err
		}
		p.tell(name, probe.Name, mark)
	}
	return nil
}

func (p *pipeline) tell(model, probe string, m *Mark) {
	if p.Stages[0].Output.Quiet {
		return
	}
	fmt.Fprintf(p.Stderr, locale.Text("%s of %s, %d prompts:", "%s（%s，%d 条提示）："), probe, model, m.Prompts)
	for _, name := range m.names() {
		fmt.Fprintf(p.Stderr, " %s %.3f", name, m.Rewards[name].Mean)
	}
	fmt.Fprintln(p.Stderr)
}

// passing are settings that change nothing of what is learned.
var passing = words("quiet force overwrite_output_dir resume_from_checkpoint threads logging_steps save_steps save_total_limit report_to plot_loss preprocessing_num_workers sample_prompts sample_steps")

// settled are the settings of a stage that its result depends on.
func settled(s *Recipe) [][2]string {
	return slices.DeleteFunc(s.Settings(), func(kv [2]string) bool { return passing[kv[0]] })
}

// sameSettings refuses to go on behind a stage that was finished with other settings.
func sameSettings(s *Recipe, finished [][2]string) error {
	was := map[string]string{}
	for _, kv := range finished {
		was[kv[0]] = kv[1]
	}
	now := settled(s)
	for _, kv := range now {
		old, ok := was[kv[0]]
		if !ok {
			old = "its default"
		}
		if old != kv[1] {
			return s.Errorf(kv[0], "stage %s was finished with %s, got %s; choose another output_dir, or set overwrite_output_dir: true", s.Name, old, kv[1])
		}
		delete(was, kv[0])
	}
	for key, old := range was {
		return s.Errorf(key, "stage %s was finished with %s, got its default; choose another output_dir, or set overwrite_output_dir: true", s.Name, old)
	}
	return nil
}
