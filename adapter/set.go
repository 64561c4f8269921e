package adapter

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"danlu/dtype"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
)

// Set is a configuration applied to a model: which weights it changes, at which ranks.
type Set struct {
	Config  *Config
	Model   family.Model
	Targets []Target
	of      map[string]place // weight name → its place
	twin    string           // parameter that files hold as the head's too; "": none
}

// Target is a module that the adapter changes, in some or all of its parts.
type Target struct {
	nn.Module
	Rank   int   // the largest of Ranks: that of the factors in the store
	Ranks  []int // of each part of the weight; 0: that part is not changed
	Scales []float64
	DoRA   bool
}

type place struct{ target, part int }

// Resolve finds what a configuration means on a model.
func Resolve(c *Config, m family.Model) (*Set, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("adapter: %w", err)
	}
	modules, err := family.Modules(m)
	if err != nil {
		return nil, err
	}
	s := &Set{Config: c, Model: m, of: map[string]place{}}
	for _, mod := range modules {
		t, err := s.target(mod)
		if err != nil {
			return nil, fmt.Errorf("adapter: %w", err)
		}
		if t.Rank == 0 {
			continue
		}
		for i, r := range t.Ranks {
			if r > 0 {
				s.of[mod.Weight.PartName(i)] = place{len(s.Targets), i}
			}
		}
		s.Targets = append(s.Targets, t)
	}
	if len(s.Targets) == 0 {
		return nil, fmt.Errorf("adapter: target_modules: no module of the model is named so; there are %s", strings.Join(Kinds(modules), ", "))
	}
	if err := s.findTwin(); err != nil {
		return nil, err
	}
	return s, s.checkNames(modules)
}

// Kinds lists the last parts of the modules' names, each once.
func Kinds(modules []nn.Module) []string {
	var kinds []string
	for _, m := range modules {
		if k := last(m.Name(0)); !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	slices.Sort(kinds)
	return kinds
}

func last(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// target works out a module's ranks and scales.
func (s *Set) target(mod nn.Module) (Target, error) {
	c := s.Config
	t := Target{Module: mod}
	t.DoRA = c.DoRA
	for i := range mod.Weight.Parts() {
		name := mod.Name(i)
		if !c.matches(name, mod.Kind) {
			t.Ranks, t.Scales = append(t.Ranks, 0), append(t.Scales, 0)
			continue
		}
		r := int(c.RankPattern.of(name, float64(c.Rank)))
		t.Ranks, t.Scales = append(t.Ranks, r), append(t.Scales, c.scale(name, r))
		t.Rank = max(t.Rank, r)
	}
	if t.Rank == 0 {
		return t, nil
	}
	if t.DoRA && slices.Contains(t.Ranks, 0) {
		return t, fmt.Errorf("use_dora: %s: some layers have an adapter and some have none; DoRA takes all or none", mod.Weight.Label)
	}
	if t.DoRA && (mod.Kind == nn.ExpertModule || mod.Kind == nn.EmbeddingModule) {
		return t, fmt.Errorf("use_dora: %s: experts and embeddings take plain LoRA only", mod.Weight.Label)
	}
	if mod.Kind == nn.ExpertModule {
		experts := mod.Weight.Stack[len(mod.Weight.Stack)-1].Count
		for i, x := range t.Scales {
			if x != t.Scales[i/experts*experts] {
				return t, fmt.Errorf("%s: the experts of one layer need one rank and alpha", mod.Weight.Label)
			}
		}
	}
	return t, nil
}

// scale is what an adapter of rank r is multiplied by: alpha/r, or alpha/sqrt(r) (rsLoRA, arXiv:2312.03732).
func (c *Config) scale(name string, r int) float64 {
	alpha := c.AlphaPattern.of(name, c.Alpha)
	if c.RSLora {
		return alpha / math.Sqrt(float64(r))
	}
	return alpha / float64(r)
}

// matches reports whether the configuration means the module called name.
func (c *Config) matches(name string, kind nn.ModuleKind) bool {
	if c.excludes(name) || c.Saves(name) {
		return false
	}
	switch {
	case c.Targets.Pattern == allLinear:
		return kind == nn.LinearModule || kind == nn.ExpertModule
	case c.Targets.Pattern != "":
		return c.target.MatchString(name)
	case slices.Contains(c.Targets.List, name):
		return true
	}
	return endsWith(c.Targets.List, name) && c.inLayers(name)
}

func endsWith(list []string, name string) bool {
	return slices.ContainsFunc(list, func(x string) bool { return name == x || strings.HasSuffix(name, "."+x) })
}

func (c *Config) excludes(name string) bool {
	if c.Excluded.Pattern != "" {
		return c.excluded != nil && c.excluded.MatchString(name)
	}
	return endsWith(c.Excluded.List, name)
}

// inLayers reports whether name lies in one of layers_to_transform.
func (c *Config) inLayers(name string) bool {
	if len(c.Layers) == 0 {
		return true
	}
	for _, re := range c.layersPatterns {
		if m := re.FindStringSubmatch(name); m != nil {
			n, err := strconv.Atoi(m[1])
			return err == nil && slices.Contains(c.Layers, n)
		}
	}
	return false
}

// Saves reports whether the module called name is trained as a whole and stored beside the adapter (modules_to_save), by
// itself or within a module that is: as in PEFT, one whose path ends with the letters of an entry ("norm" means
// "input_layernorm" too).
func (c *Config) Saves(name string) bool {
	for path := name; path != ""; path = moduleOf(path) {
		if slices.ContainsFunc(c.Saved, func(x string) bool { return strings.HasSuffix(path, x) }) {
			return true
		}
	}
	return false
}

// checkNames refuses names that mean nothing in the model: a misspelt one would train less than was asked for.
func (s *Set) checkNames(modules []nn.Module) error {
	specs, err := family.Params(s.Model)
	if err != nil {
		return err
	}
	for _, want := range s.Config.Saved {
		if want == tiedHead && s.twin != "" {
			continue
		}
		one := &Config{Saved: []string{want}}
		if !slices.ContainsFunc(specs, func(p *graph.StateSpec) bool { return one.Saves(moduleOf(p.PartName(0))) }) {
			return fmt.Errorf("adapter: modules_to_save: %s: the model has no parameters of that name", want)
		}
	}
	for _, want := range s.Config.Targets.List {
		re := regexp.MustCompile(`(^|\.)` + regexp.QuoteMeta(want) + `$`)
		if !slices.ContainsFunc(modules, func(m nn.Module) bool {
			for i := range m.Weight.Parts() {
				if re.MatchString(m.Name(i)) {
					return true
				}
			}
			return false
		}) {
			return fmt.Errorf("adapter: target_modules: %s: the model has no such module; there are %s", want, strings.Join(Kinds(modules), ", "))
		}
	}
	return nil
}

// moduleOf is the path of the module that a parameter belongs to.
func moduleOf(param string) string {
	if i := strings.LastIndexByte(param, '.'); i >= 0 {
		return param[:i]
	}
	return ""
}

// Prepare puts the adapters into a build.
func (s *Set) Prepare(b *nn.Build) {
	b.Adapters = &nn.Adapters{Of: map[string]nn.Adapter{}, Dropout: s.Config.Dropout}
	for _, t := range s.Targets {
		for i, scale := range t.Scales {
			b.Adapters.Of[t.Weight.PartName(i)] = nn.Adapter{Kind: t.Kind, Rank: t.Rank, Scale: scale, DoRA: t.DoRA}
		}
	}
}

// Storage keeps the frozen linear layers of a model in one type, and everything else in float32.
func (s *Set) Storage(d dtype.DType) (nn.Storage, error) {
	modules, err := family.Modules(s.Model)
	if err != nil {
		return nil, err
	}
	storage := nn.Storage{}
	for _, m := range modules {
		for i := range m.Weight.Parts() {
			if (m.Kind == nn.LinearModule || m.Kind == nn.ExpertModule) && !s.Config.Saves(m.Name(i)) {
				storage[m.Weight.PartName(i)] = d
			}
		}
	}
	return storage, nil
}

// IsFactor reports whether a parameter belongs to an adapter rather than to the model.
func IsFactor(name string) bool { return strings.Contains(name, ".lora_") }

// Trains reports whether a parameter is trained: a factor, or one of a module that is stored as a whole.
func (s *Set) Trains(spec *graph.StateSpec) bool {
	return spec.Role == graph.Param && (IsFactor(spec.Label) || s.Config.Saves(moduleOf(spec.PartName(0))))
}

// Params is the number of trained numbers: those of the factors at their own ranks, and of modules stored as a whole.
func (s *Set) Params() (int64, error) {
	specs, err := family.Params(s.Model)
	if err != nil {
		return 0, err
	}
	n := int64(0)
	for _, spec := range specs {
		if s.Trains(spec) {
			n += int64(spec.Type.Len())
		}
	}
	for _, t := range s.Targets {
		for _, r := range t.Ranks {
			n += int64(r * (t.In + t.Out))
			if t.DoRA {
				n += int64(t.Out)
			}
		}
	}
	return n, nil
}
