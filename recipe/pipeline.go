package recipe

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// stagePrefix refers to an earlier stage of the same pipeline: to its folder, or as a data set to what it collected.
const stagePrefix = "stage:"

// Probe measures the models of a pipeline on data that they do not see in training: it is a recipe for drawing and judging
// answers, carried out before and after stages.
type Probe struct {
	*Recipe
	Of []string // the stages around which it measures; empty: all that leave a model that answers
}

// measures reports whether the probe looks at what a stage does.
func (p *Probe) measures(s *Recipe) bool {
	if len(p.Of) > 0 {
		return slices.Contains(p.Of, s.Name)
	}
	return answers(s)
}

// answers reports whether a stage leaves a model that answers.
func answers(s *Recipe) bool { return s.Method.Stage != "rm" && s.Method.Stage != "rft" }

// part is one mapping of the lists `stages` and `probes`.
type part struct {
	name     string
	of       []string
	settings []setting
}

// parts takes a list of mappings apart. Their names are used once among all.
func parts(list setting, file string, used map[string]bool) ([]part, error) {
	if list.value.Kind != yaml.SequenceNode || len(list.value.Content) == 0 {
		return nil, fmt.Errorf("recipe: %s: %s: want a list of mappings, got %s", list.place, list.key, describe(list.value))
	}
	var all []part
	for i, n := range list.value.Content {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("recipe: %s:%d: %s: want a mapping, got %s", file, n.Line, list.key, describe(n))
		}
		settings, err := mapping(n, file)
		if err != nil {
			return nil, err
		}
		p := part{name: fmt.Sprint(i + 1)}
		for _, k := range settings {
			switch {
			case k.key == "stages" || k.key == "probes":
				return nil, fmt.Errorf("recipe: %s: %s: a part of %s has none of its own", k.place, k.key, list.key)
			case k.key == "name":
				p.name = k.value.Value
			case k.key == "of" && list.key == "probes":
				if err := k.value.Decode(&p.of); err != nil {
					return nil, fmt.Errorf("recipe: %s: of: want a list of stages: %s", k.place, oneLine(err))
				}
			default:
				p.settings = append(p.settings, k)
			}
		}
		if p.name == "" || strings.ContainsAny(p.name, `./\=`) || strings.ContainsFunc(p.name, unicode.IsSpace) || keyIndex[p.name] != nil || used[p.name] {
			return nil, fmt.Errorf("recipe: %s:%d: name: want a word that is no key and used once, got %q", file, n.Line, p.name)
		}
		used[p.name] = true
		all = append(all, p)
	}
	return all, nil
}

// addStages completes the stages: the pipeline's keys, then the stage's own, then the command line's.
func (r *Recipe) addStages(common []setting, stages []part, plain []setting, own func(name string) []setting) error {
	r.root = r.Output.Dir
	common = slices.DeleteFunc(slices.Clone(common), func(s setting) bool { return s.key == "description" || s.key == "published" })
	for _, p := range stages {
		settings := slices.Concat(common, p.settings, plain, own(p.name))
		if dir := stageFolder(common, p, plain, own(p.name)); dir != nil {
			settings = append(settings, *dir)
		}
		s, err := build(r.File, p.name, settings, false)
		if err == nil {
			err = r.link(s)
		}
		if err != nil {
			return fmt.Errorf("%w (stage %s)", err, p.name)
		}
		r.Stages = append(r.Stages, s)
	}
	return nil
}

// stageFolder is the folder of a stage where the pipeline names one for all: inside it, under the stage's name. nil: the
// stage names its own.
func stageFolder(common []setting, p part, plain, own []setting) *setting {
	named := func(list []setting) *setting {
		for _, s := range slices.Backward(list) {
			if s.key == "output_dir" && s.value.Kind == yaml.ScalarNode && !isNull(s.value) {
				return &s
			}
		}
		return nil
	}
	root := named(plain)
	if root == nil && named(p.settings) == nil {
		root = named(common)
	}
	if root == nil || named(own) != nil {
		return nil
	}
	return &setting{"output_dir", &yaml.Node{Kind: yaml.ScalarNode, Value: filepath.Join(root.value.Value, p.name)}, root.place}
}

// addProbes completes the probes: rejection sampling's keys with one answer to a prompt, the most probable one, unless the
// probe says otherwise.
func (r *Recipe) addProbes(common []setting, probes []part, plain []setting, own func(name string) []setting) error {
	if len(probes) > 0 && r.root == "" {
		return r.Errorf("output_dir", "is missing: a pipeline with probes has one folder for all")
	}
	for _, p := range probes {
		for _, name := range p.of {
			if r.stage(name) == nil {
				return fmt.Errorf("recipe: %s: of: there is no stage %q (probe %s)", r.File, name, p.name)
			}
		}
		var fixed []setting
		for _, kv := range [][2]string{{"stage", "rft"}, {"finetuning_type", "full"}, {"num_generations", "1"}, {"temperature", "0"}, {"per_device_train_batch_size", "32"},
			{"gradient_accumulation_steps", "1"}, {"packing", "false"}, {"model_name_or_path", "a stage's"}, {"train_from_scratch", "false"}, {"disable_shuffling", "true"}} {
			fixed = append(fixed, setting{kv[0], &yaml.Node{Kind: yaml.ScalarNode, Value: kv[1]}, "probes"})
		}
		s, err := build(r.File, p.name, slices.Concat(common, fixed, p.settings, own(p.name)), false)
		if err == nil {
			err = r.link(s)
		}
		if err != nil {
			return fmt.Errorf("%w (probe %s)", err, p.name)
		}
		r.Probes = append(r.Probes, &Probe{s, p.of})
	}
	return nil
}

// stage finds a stage by its name, nil if there is none.
func (r *Recipe) stage(name string) *Recipe {
	for _, s := range r.Stages {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// link replaces references to earlier stages by their folders, those among data sets by the files that they made.
func (r *Recipe) link(s *Recipe) error {
	s.root = r.root
	follow := func(key string, value *string, file string) error {
		name, ok := strings.CutPrefix(*value, stagePrefix)
		if !ok {
			return nil
		}
		of := r.stage(name)
		if of == nil {
			return s.Errorf(key, "%s: there is no stage of that name before this one", word(*value))
		}
		*value = filepath.Join(of.Output.Dir, file)
		return nil
	}
	for key, value := range map[string]*string{
		"model_name_or_path": &s.Model.Path, "tokenizer_name_or_path": &s.Model.Tokenizer, "ref_model": &s.Method.RefModel, "ref_model_adapters": &s.Method.RefAdapters,
		"reward_model": &s.Method.RewardModel, "reward_model_adapters": &s.Method.RewardAdapters, "teacher_model": &s.Distill.Teacher,
	} {
		if err := follow(key, value, ""); err != nil {
			return err
		}
	}
	for i := range s.Model.Adapters {
		if err := follow("adapter_name_or_path", &s.Model.Adapters[i], ""); err != nil {
			return err
		}
	}
	for key, list := range map[string][]string{"dataset": s.Data.Dataset, "eval_dataset": s.Data.EvalDataset} {
		for i := range list {
			if err := follow(key, &list[i], keptFile); err != nil {
				return err
			}
		}
	}
	return nil
}
