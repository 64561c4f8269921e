package recipe

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"danlu/data"
	"danlu/engine"
	"danlu/engine/xla/hosts"
	"danlu/family"
	"danlu/hub"
	"danlu/internal/locale"
	"danlu/train"
)

// RunOptions say how recipes are carried out, besides what they hold themselves.
type RunOptions struct {
	NewEngine func(name string, threads int) (engine.Engine, error)
	Stderr    *os.File // remarks and progress
	// Hosts says which of several processes this is; nil: the only one.
	Hosts *hosts.Options
}

// Outcome is what a stage left behind.
type Outcome struct {
	Stage    string         `json:"stage"`
	Dir      string         `json:"output_dir"`
	Steps    int64          `json:"steps"`
	Stopped  bool           `json:"stopped"` // by the user; the newest checkpoint goes on from there
	Results  map[string]any `json:"results"` // all_results.json
	Finished bool           `json:"finished_before"`
}

// stage carries out a recipe: a file stage_NAME.go.
type stage func(ctx context.Context, j *job) error

// stages are what `stage:` may name.
var stages = map[string]stage{}

// job is a recipe being carried out.
type job struct {
	*Recipe
	RunOptions
	engine   engine.Engine
	source   *source        // the model to be trained
	run      *runDir        // the run's folder
	format   *template      // of the conversations; nil: there are none
	pictures *data.Pictures // of the datasets; nil: there are none
	infill   *data.Infiller // GLM's objective; nil: next tokens are predicted
	outcome  *Outcome
	preview  func(*rows) error // in the place of training
	// vocabulary is what becomes of the model's; nil: it stays as it is.
	vocabulary *vocabulary
}

// Run carries out a recipe, or the stages of a pipeline one after the other.
func Run(ctx context.Context, r *Recipe, o RunOptions) ([]*Outcome, error) {
	if r.root != "" && len(r.Stages) > 0 {
		return runPipeline(ctx, r, o)
	}
	todo := r.Stages
	if len(todo) == 0 {
		todo = []*Recipe{r}
	}
	var outcomes []*Outcome
	for _, s := range todo {
		out, err := runStage(ctx, s, o)
		if err != nil {
			return outcomes, err
		}
		outcomes = append(outcomes, out)
		if out.Stopped {
			break
		}
	}
	return outcomes, nil
}

func runStage(ctx context.Context, r *Recipe, o RunOptions) (_ *Outcome, err error) {
	j := &job{Recipe: r, RunOptions: o, outcome: &Outcome{Stage: r.Method.Stage, Dir: r.Output.Dir}}
	j.sayNotes()
	open := openRunDir
	if r.Method.Stage == "rft" {
		open = openAnswersDir
	}
	if j.run, err = open(j); err != nil {
		return nil, err
	}
	defer j.run.close()
	if err := j.carryOut(ctx, stages[j.Method.Stage]); err != nil {
		return nil, err
	}
	return j.outcome, nil
}

// carryOut opens what every stage needs and runs one.
func (j *job) carryOut(ctx context.Context, do stage) (err error) {
	if do == nil {
		return j.Errorf("stage", "%s cannot be run; stages are %s", j.Method.Stage, strings.Join(stageNames(), ", "))
	}
	if methods[j.Method.FinetuningType] == nil {
		return j.Errorf("finetuning_type", "%s cannot be run with stage: %s", j.Method.FinetuningType, j.Method.Stage)
	}
	if j.source, err = j.openModel("model_name_or_path", j.Model.Path, j.Model.FromScratch); err != nil {
		return err
	}
	defer j.source.close()
	if err := j.reshape(j.source); err != nil {
		return err
	}
	if j.engine, err = j.NewEngine(j.Model.Engine, j.Model.Threads); err != nil {
		return err
	}
	defer j.engine.Close()
	if err := j.partition(); err != nil {
		return err
	}
	if err := j.join(); err != nil {
		return err
	}
	return do(ctx, j)
}

func stageNames() []string {
	var names []string
	for n := range stages {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// say writes a remark, unless the recipe is quiet.
func (j *job) say(format string, args ...any) {
	if !j.Output.Quiet {
		fmt.Fprintf(j.Stderr, format+"\n", args...)
	}
}

// sayNotes writes what the reading of the recipe left to remark on.
func (j *job) sayNotes() {
	if line := j.IgnoredLine(); line != "" {
		fmt.Fprintln(j.Stderr, line)
	}
	for _, n := range j.Notes {
		fmt.Fprintln(j.Stderr, n)
	}
}

// source is where a model comes from.
type source struct {
	path   string
	model  family.Model
	config []byte             // config.json
	files  *family.Checkpoint // nil: there are no weights
}

// notModels are files of a model folder that hold other tensors than the model's.
var notModels = []string{train.OptimizerFile, "value_head.safetensors", "adapter_model.safetensors"}

// openModel opens the model that a key names; scratch takes only its shape.
func (j *job) openModel(key, path string, scratch bool) (*source, error) {
	path = hub.Resolve(path)
	s := &source{path: path}
	var err error
	if scratch {
		s.model, s.config, err = family.Shape(path)
	} else if s.files, err = family.Open(path, notModels...); err == nil {
		s.model, s.config = s.files.Model, s.files.Config
	}
	if _, preset := family.PresetConfig(path); err != nil && preset && !scratch {
		return nil, j.Errorf(key, "%s is a shape without weights; set train_from_scratch: true to train it, or give a model folder or GGUF file", path)
	}
	if err != nil {
		return nil, j.Errorf(key, "%v", err)
	}
	if unknown := s.model.Info().Unknown; len(unknown) > 0 {
		j.say(locale.Text("%s: keys of config.json without meaning here: %s", "%s：config.json 中此处无意义的键：%s"), path, strings.Join(unknown, ", "))
	}
	return s, nil
}

func (s *source) close() error {
	if s.files == nil {
		return nil
	}
	return s.files.Close()
}
