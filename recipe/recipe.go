package recipe

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Groups are the keys of a recipe by subject.
type Groups struct {
	Model      Model
	Data       Data
	Method     Method
	Reinforce  Reinforce
	Distill    Distill
	Optim      Optim
	Output     Output
	Generation Generation
	Export     Export
}

// Recipe is a parsed and checked recipe, or one stage of a pipeline.
type Recipe struct {
	Groups
	Name        string // `name` of a recipe or stage, else the file's
	Description string
	File        string
	// Stages are the parts of a pipeline, in order; each is complete: the pipeline's keys, then its own, then the
	// command line's. Empty for a plain recipe.
	Stages []*Recipe
	// Probes measure what the stages of a pipeline do.
	Probes []*Probe
	// Published holds the hyper-parameters of the paper that a recipe scales down, as free text by key.
	Published map[string]any
	// Ignored lists the keys set that mean nothing here, and Notes other remarks; the caller prints both to standard
	// error, a line each.
	Ignored []string
	Notes   []string

	root   string            // the folder of the pipeline that a stage belongs to, or of the pipeline; "": none
	places map[string]string // where each key was set: "file:line" or "command line"
	order  []string
	values map[string]*yaml.Node
}

// IsSet reports whether the recipe or the command line gives the key a value.
func (r *Recipe) IsSet(key string) bool { _, ok := r.places[key]; return ok }

// Place says where a key was set, for error messages: "recipe.yaml:12", "command line" or "default".
func (r *Recipe) Place(key string) string {
	if p, ok := r.places[key]; ok {
		return p
	}
	return "default"
}

// Errorf makes an error that names the place and the key.
func (r *Recipe) Errorf(key, format string, args ...any) error {
	return fmt.Errorf("recipe: %s: %s: %s", r.where(key), key, fmt.Sprintf(format, args...))
}

func (r *Recipe) where(key string) string {
	if p, ok := r.places[key]; ok {
		return p
	}
	return r.File
}

const maxRecipeBytes = 1 << 20

// Load reads a recipe file and applies key=value overrides.
func Load(path string, overrides []string) (*Recipe, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	if info.Size() > maxRecipeBytes {
		return nil, fmt.Errorf("recipe: %s: want at most %d bytes, got %d", path, maxRecipeBytes, info.Size())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	return Parse(raw, path, overrides)
}

// LoadExport reads a recipe for `danlu export`: the same keys, of which model_name_or_path, adapter_name_or_path and
// export_dir matter, without what only training needs.
func LoadExport(path string, overrides []string) (*Recipe, error) {
	var raw []byte
	if path != "" { // else the overrides are all
		var err error
		if raw, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("recipe: %w", err)
		}
	}
	root, err := parseYAML(raw, path)
	if err != nil {
		return nil, err
	}
	settings, err := mapping(root, path)
	if err != nil {
		return nil, err
	}
	extra, err := parseOverrides(overrides)
	if err != nil {
		return nil, err
	}
	r, err := build(path, "", append(settings, extra...), true)
	switch {
	case err != nil:
		return nil, err
	case r.Model.Path == "":
		return nil, r.Errorf("model_name_or_path", "is missing; give a folder or a GGUF file")
	case r.Export.Dir == "":
		return nil, r.Errorf("export_dir", "is missing")
	}
	return r, nil
}

// Parse reads the text of a recipe; file names it in errors. An empty text with overrides is a recipe too.
func Parse(raw []byte, file string, overrides []string) (*Recipe, error) {
	if len(raw) > maxRecipeBytes {
		return nil, fmt.Errorf("recipe: %s: want at most %d bytes, got %d", file, maxRecipeBytes, len(raw))
	}
	root, err := parseYAML(raw, file)
	if err != nil {
		return nil, err
	}
	common, stages, probes, err := splitParts(root, file)
	if err != nil {
		return nil, err
	}
	extra, err := parseOverrides(overrides)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, p := range slices.Concat(stages, probes) {
		names[p.name] = true
	}
	plain := overridesOf(extra, "", names)
	own := func(name string) []setting { return overridesOf(extra, name, names) }
	r, err := build(file, "", slices.Concat(common, plain), len(stages) > 0)
	if err != nil {
		return nil, err
	}
	if err := r.addStages(common, stages, plain, own); err != nil {
		return nil, err
	}
	return r, r.addProbes(common, probes, plain, own)
}

// Describe reads the description of a recipe, which need not be complete.
func Describe(raw []byte, file string) (string, error) {
	root, err := parseYAML(raw, file)
	if err != nil {
		return "", err
	}
	settings, err := mapping(root, file)
	if err != nil {
		return "", err
	}
	for _, s := range settings {
		if s.key == "description" {
			return s.value.Value, nil
		}
	}
	return "", nil
}

// setting is one key with its value and place.
type setting struct {
	key   string
	value *yaml.Node
	place string
}

func parseYAML(raw []byte, file string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("recipe: %s: %s", file, oneLine(err))
	}
	if doc.Kind == 0 || len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return &yaml.Node{Kind: yaml.MappingNode}, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("recipe: %s:%d: want a mapping of keys, got %s", file, root.Line, describe(root))
	}
	return root, nil
}

// word shows a key in an error message: as it is, or quoted and cut when it would break the line.
func word(s string) string {
	if len(s) > 80 || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s[:min(len(s), 80)])
	}
	return s
}

// oneLine is the text of a YAML error without its prefix and line breaks.
func oneLine(err error) string {
	return strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " ")
}

// mapping lists the settings of a YAML mapping; a key given twice is an error.
func mapping(n *yaml.Node, file string) ([]setting, error) {
	seen := map[string]int{}
	var out []setting
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("recipe: %s:%d: want a key, got %s", file, k.Line, describe(k))
		}
		if line, ok := seen[k.Value]; ok {
			return nil, fmt.Errorf("recipe: %s:%d: %s: stands in line %d too", file, k.Line, word(k.Value), line)
		}
		seen[k.Value] = k.Line
		if v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		out = append(out, setting{k.Value, v, fmt.Sprintf("%s:%d", file, k.Line)})
	}
	return out, nil
}

// splitParts takes the lists under `stages` and `probes` out of the common keys.
func splitParts(root *yaml.Node, file string) (common []setting, stages, probes []part, err error) {
	all, err := mapping(root, file)
	if err != nil {
		return nil, nil, nil, err
	}
	used := map[string]bool{}
	for _, s := range all {
		switch s.key {
		case "stages":
			stages, err = parts(s, file, used)
		case "probes":
			probes, err = parts(s, file, used)
		default:
			common = append(common, s)
		}
		if err != nil {
			return nil, nil, nil, err
		}
	}
	if len(probes) > 0 && len(stages) == 0 {
		return nil, nil, nil, fmt.Errorf("recipe: %s: probes: want stages that they measure", file)
	}
	return common, stages, probes, nil
}

// parseOverrides reads key=value words. Dots reach into mappings (lr_scheduler_kwargs.min_lr_rate=0.1) and stages
// (cold_start.learning_rate=1e-5).
func parseOverrides(words []string) ([]setting, error) {
	var out []setting
	for _, w := range words {
		key, value, ok := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("recipe: command line: want key=value, got %q", w)
		}
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(value), &doc); err != nil {
			return nil, fmt.Errorf("recipe: command line: %s: %s", word(key), oneLine(err))
		}
		node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
		if len(doc.Content) > 0 {
			node = doc.Content[0]
		}
		out = append(out, setting{key, node, "command line"})
	}
	return out, nil
}

// overridesOf picks the overrides of a part of a pipeline by its name before the dot; of "" those that name no part.
func overridesOf(all []setting, name string, names map[string]bool) []setting {
	var list []setting
	for _, s := range all {
		head, rest, dotted := strings.Cut(s.key, ".")
		switch {
		case !dotted || !names[head]:
			if name == "" {
				list = append(list, s)
			}
		case head == name:
			s.key = rest
			list = append(list, s)
		}
	}
	return list
}

// build applies settings in order, later ones winning, and checks the result. The common part of a pipeline is not
// checked by itself: only its stages are run.
func build(file, name string, settings []setting, pipeline bool) (*Recipe, error) {
	r := &Recipe{Name: name, File: file, places: map[string]string{}, values: map[string]*yaml.Node{}}
	if err := r.defaults(); err != nil {
		return nil, err
	}
	for _, s := range settings {
		if err := r.apply(s); err != nil {
			return nil, err
		}
	}
	sort.Strings(r.Ignored)
	if pipeline {
		return r, nil
	}
	return r, r.finish()
}

// Each calls f with the recipe, or with each stage of a pipeline.
func (r *Recipe) Each(f func(*Recipe)) {
	if len(r.Stages) == 0 {
		f(r)
	}
	for _, s := range r.Stages {
		f(s)
	}
}

func (r *Recipe) field(k *Key) reflect.Value {
	return reflect.ValueOf(&r.Groups).Elem().Field(k.group).Field(k.field)
}

func (r *Recipe) defaults() error {
	for i := range keyTable {
		if err := r.reset(&keyTable[i]); err != nil {
			return err
		}
	}
	return nil
}

// reset gives a key its default.
func (r *Recipe) reset(k *Key) error {
	f := r.field(k)
	f.SetZero()
	if k.Default == "" {
		return nil
	}
	if err := k.set(f, &yaml.Node{Kind: yaml.ScalarNode, Value: k.Default}); err != nil {
		return fmt.Errorf("recipe: default of %s: %w", k.Name, err)
	}
	return nil
}

func (r *Recipe) apply(s setting) error {
	name, rest, dotted := strings.Cut(s.key, ".")
	switch name {
	case "name", "description":
		if s.value.Kind != yaml.ScalarNode {
			return fmt.Errorf("recipe: %s: %s: want a string, got %s", s.place, name, describe(s.value))
		}
		if name == "name" && r.Name == "" {
			r.Name = s.value.Value
		} else if name == "description" {
			r.Description = s.value.Value
		}
		return nil
	case "published":
		if s.value.Kind != yaml.MappingNode {
			return fmt.Errorf("recipe: %s: published: want a mapping, got %s", s.place, describe(s.value))
		}
		if err := s.value.Decode(&r.Published); err != nil {
			return fmt.Errorf("recipe: %s: published: %s", s.place, oneLine(err))
		}
		return nil
	}
	if to, ok := aliases[name]; ok {
		r.note(fmt.Sprintf("%s is read as %s", name, to))
		name = to
	}
	k := keyIndex[name]
	switch {
	case k == nil:
		return r.other(name, s)
	case dotted:
		return r.applyNested(k, rest, s)
	case isNull(s.value):
		delete(r.places, name)
		delete(r.values, name)
		return r.reset(k)
	}
	if err := k.set(r.field(k), s.value); err != nil {
		return fmt.Errorf("recipe: %s: %s: %w", s.place, name, err)
	}
	if _, ok := r.values[name]; !ok {
		r.order = append(r.order, name)
	}
	r.places[name], r.values[name] = s.place, s.value
	return nil
}

func (r *Recipe) note(text string) {
	for _, n := range r.Notes {
		if n == text {
			return
		}
	}
	r.Notes = append(r.Notes, text)
}

// other handles keys that are not in the table.
func (r *Recipe) other(name string, s setting) error {
	if meaningless[name] {
		for _, k := range r.Ignored {
			if k == name {
				return nil
			}
		}
		r.Ignored = append(r.Ignored, name)
		return nil
	}
	if f, ok := refused[name]; ok {
		if isNull(s.value) || s.value.Kind == yaml.ScalarNode && sameValue(s.value.Value, f.off) {
			return nil
		}
		return fmt.Errorf("recipe: %s: %s: not supported; %s", s.place, name, f.instead)
	}
	hint := "; `danlu recipe keys` lists the keys"
	if n := nearestKey(name); n != "" {
		hint = fmt.Sprintf("; did you mean %s?", n)
	}
	return fmt.Errorf("recipe: %s: %s: unknown key%s", s.place, word(name), hint)
}

func sameValue(got, off string) bool {
	if strings.EqualFold(got, off) {
		return true
	}
	a, okA := parseNumber(got)
	b, okB := parseNumber(off)
	return okA && okB && a == b
}

// applyNested sets one entry of a mapping key.
func (r *Recipe) applyNested(k *Key, path string, s setting) error {
	if k.Type != "mapping" {
		return fmt.Errorf("recipe: %s: %s: %s is %s, not a mapping", s.place, word(s.key), k.Name, k.want())
	}
	f := r.field(k)
	if f.IsNil() {
		f.Set(reflect.ValueOf(map[string]any{}))
	}
	var v any
	if err := s.value.Decode(&v); err != nil {
		return fmt.Errorf("recipe: %s: %s: %s", s.place, word(s.key), oneLine(err))
	}
	m := f.Interface().(map[string]any)
	parts := strings.Split(path, ".")
	for _, p := range parts[:len(parts)-1] {
		next, ok := m[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[p] = next
		}
		m = next
	}
	m[parts[len(parts)-1]] = v
	r.places[k.Name] = s.place
	return nil
}

// IgnoredLine is the one line about keys without meaning here, "" when there are none.
func (r *Recipe) IgnoredLine() string {
	if len(r.Ignored) == 0 {
		return ""
	}
	return "these keys mean nothing here and were passed over: " + strings.Join(r.Ignored, ", ")
}

// Settings returns the keys that were set with their values, sorted, for the model card and the log.
func (r *Recipe) Settings() [][2]string {
	var out [][2]string
	for i := range keyTable {
		k := &keyTable[i]
		if r.IsSet(k.Name) {
			v := r.field(k)
			if v.Kind() == reflect.Pointer && !v.IsNil() {
				v = v.Elem()
			}
			out = append(out, [2]string{k.Name, fmt.Sprint(v.Interface())})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i][0] < out[j][0] })
	return out
}

// YAML writes the complete recipe with defaults, for the run folder.
func (r *Recipe) YAML() ([]byte, error) {
	doc := &yaml.Node{Kind: yaml.MappingNode}
	for i := range keyTable {
		v := r.field(&keyTable[i])
		if v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
			if v.IsNil() {
				continue
			}
		} else if v.IsZero() && keyTable[i].Default == "" {
			continue
		}
		var n yaml.Node
		if err := n.Encode(v.Interface()); err != nil {
			return nil, fmt.Errorf("recipe: %s: %w", keyTable[i].Name, err)
		}
		doc.Content = append(doc.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: keyTable[i].Name}, &n)
	}
	out, err := yaml.Marshal(doc)
	if err != nil {
		return nil, errors.New("recipe: " + err.Error())
	}
	return out, nil
}
