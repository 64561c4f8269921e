package eval

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v4"

	"danlu/chat/jinja"
	"danlu/internal/nearest"
)

// maxTaskBytes bounds a task file.
const maxTaskBytes = 4 << 20

// setting is a key of a task file with its value, after include.
type setting struct {
	key  string
	node *yaml.Node
}

// entries are the entries of a list.
func (s setting) entries() []*yaml.Node {
	if s.node == nil || s.node.Kind != yaml.SequenceNode {
		return nil
	}
	return s.node.Content
}

// readSettings reads a task file and the files that it includes, whose keys give way to its own.
func readSettings(file string, raw []byte, read func(string) ([]byte, error), depth int) ([]setting, error) {
	if depth > 8 {
		return nil, fmt.Errorf("eval: %s: include: files include each other", file)
	}
	if len(raw) > maxTaskBytes {
		return nil, fmt.Errorf("eval: %s: want at most %d bytes, got %d", file, maxTaskBytes, len(raw))
	}
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return nil, fmt.Errorf("eval: %s: %w", file, err)
	}
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = *root.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("eval: %s: want keys and values", file)
	}
	var own, all []setting
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i].Value, root.Content[i+1]
		if key != "include" {
			own = append(own, setting{key, node})
			continue
		}
		if node.Value == "" {
			continue
		}
		path := filepath.Join(filepath.Dir(file), node.Value)
		base, err := read(path)
		if err != nil {
			return nil, fmt.Errorf("eval: %s: include: %w", file, err)
		}
		included, err := readSettings(path, base, read, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, included...)
	}
	for _, s := range own {
		if i := slices.IndexFunc(all, func(x setting) bool { return x.key == s.key }); i >= 0 {
			all[i] = s
		} else {
			all = append(all, s)
		}
	}
	return all, nil
}

// LoadTask reads a task file.
func LoadTask(file string) (*Task, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("eval: %w", err)
	}
	return ParseTask(file, raw)
}

// ParseTask reads a task from the text of a file.
func ParseTask(file string, raw []byte) (*Task, error) {
	settings, err := readSettings(file, raw, os.ReadFile, 0)
	if err != nil {
		return nil, err
	}
	return newTask(file, settings)
}

func newTask(file string, settings []setting) (*Task, error) {
	t := &Task{File: file, TargetDelimiter: " ", FewshotDelimiter: "\n\n", Output: Generate, Repeats: 1, texts: map[string]string{}}
	t.Dataset.base = filepath.Dir(file)
	for _, s := range settings {
		switch s.key {
		case "task": // known tasks' functions are looked up by it
			t.Name = s.node.Value
		case "process_results": // it says what metrics there are
			if err := readJudge(t, s.node); err != nil {
				return nil, fmt.Errorf("eval: %s:%d: %s: %w", file, s.node.Line, s.key, err)
			}
		}
	}
	for _, s := range settings {
		read, ok := taskKeys[s.key]
		if !ok {
			return nil, unknownKey(file, s.key, slices.Collect(maps.Keys(taskKeys)))
		}
		if err := read(t, s.node); err != nil {
			return nil, fmt.Errorf("eval: %s:%d: %s: %w", file, s.node.Line, s.key, err)
		}
	}
	if err := t.complete(); err != nil {
		return nil, fmt.Errorf("eval: %s: %w", file, err)
	}
	return t, nil
}

func unknownKey(file, key string, known []string) error {
	hint := ""
	if n := nearest.Of(key, known); n != "" {
		hint = fmt.Sprintf("; did you mean %s?", n)
	}
	return fmt.Errorf("eval: %s: %s: unknown key%s", file, key, hint)
}

// taskKeys reads the keys of a task file.
var taskKeys map[string]func(*Task, *yaml.Node) error

func init() {
	taskKeys = map[string]func(*Task, *yaml.Node) error{
		"task":       textKey(func(t *Task) *string { return &t.Name }),
		"task_alias": textKey(func(t *Task) *string { return &t.Alias }),
		"tag": func(t *Task, n *yaml.Node) (err error) {
			t.Tags, err = texts(n)
			return err
		},
		"dataset_path":      textKey(func(t *Task) *string { return &t.Dataset.Path }),
		"dataset_name":      textKey(func(t *Task) *string { return &t.Dataset.Name }),
		"dataset_kwargs":    readDatasetOptions,
		"training_split":    textKey(func(t *Task) *string { return &t.Training }),
		"validation_split":  textKey(func(t *Task) *string { return &t.Validation }),
		"test_split":        textKey(func(t *Task) *string { return &t.Testing }),
		"fewshot_split":     textKey(func(t *Task) *string { return &t.fewshot.split }),
		"process_docs":      readProcess,
		"process_results":   readJudge,
		"output_type":       readOutput,
		"description":       fieldKey("description", func(t *Task) **field { return &t.description }),
		"doc_to_text":       fieldKey("doc_to_text", func(t *Task) **field { return &t.text }),
		"doc_to_target":     fieldKey("doc_to_target", func(t *Task) **field { return &t.target }),
		"doc_to_choice":     fieldKey("doc_to_choice", func(t *Task) **field { return &t.choice }),
		"gen_prefix":        fieldKey("gen_prefix", func(t *Task) **field { return &t.prefix }),
		"target_delimiter":  textKey(func(t *Task) *string { return &t.TargetDelimiter }),
		"fewshot_delimiter": textKey(func(t *Task) *string { return &t.FewshotDelimiter }),
		"num_fewshot":       wholeKey(func(t *Task) *int { return &t.Shots }),
		"repeats":           wholeKey(func(t *Task) *int { return &t.Repeats }),
		"fewshot_config":    readFewshot,
		"generation_kwargs": readGeneration,
		"metric_list":       readMetrics,
		"filter_list":       readFilters,
		"metadata":          readMetadata,
		"unsafe_code": func(t *Task, n *yaml.Node) (err error) {
			t.unsafe, err = truth(n)
			return err
		},
		"should_decontaminate":         ignoredKey, // nothing is decontaminated here
		"doc_to_decontamination_query": ignoredKey,
		"doc_to_image":                 refusedKey("pictures are not evaluated yet"),
		"doc_to_audio":                 refusedKey("sound is not evaluated"),
		"use_prompt":                   refusedKey("promptsource is not supported; write the prompt as doc_to_text"),
		"custom_dataset":               refusedKey("functions are not supported; name files with dataset_path: json"),
		"custom_task_class":            refusedKey("functions are not supported"),
		"class":                        refusedKey("functions are not supported"),
	}
}

func ignoredKey(*Task, *yaml.Node) error { return nil }

func refusedKey(why string) func(*Task, *yaml.Node) error {
	return func(*Task, *yaml.Node) error { return errors.New(why) }
}

func textKey(at func(*Task) *string) func(*Task, *yaml.Node) error {
	return func(t *Task, n *yaml.Node) (err error) {
		*at(t), err = text(n)
		return err
	}
}

func wholeKey(at func(*Task) *int) func(*Task, *yaml.Node) error {
	return func(t *Task, n *yaml.Node) (err error) {
		*at(t), err = whole(n)
		return err
	}
}

func fieldKey(key string, at func(*Task) **field) func(*Task, *yaml.Node) error {
	return func(t *Task, n *yaml.Node) (err error) {
		if isNull(n) {
			return nil
		}
		*at(t), err = readField(t, key, n)
		return err
	}
}

// readField reads a template, the name of a column, a number, a list, a dict of choices, or a known task's function.
func readField(t *Task, key string, n *yaml.Node) (*field, error) {
	if name, ok := function(n); ok {
		f, ok := lookUp(t.Name, name, func(k known) map[string]func(Doc) (jinja.Value, error) { return k.fields })
		if !ok {
			return nil, notSupported(name)
		}
		return &field{key: key, call: f}, nil
	}
	v, err := valueOf(n)
	if err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		t.texts[key] = s
		return newFieldHere(key, s)
	}
	t.texts[key] = jinja.Repr(v)
	return &field{key: key, constant: v}, nil
}

// newFieldHere is newField without the key in its error, which the caller names.
func newFieldHere(key, source string) (*field, error) {
	f, err := newField(key, source)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	return f, nil
}

func notSupported(name string) error {
	return fmt.Errorf("!function %s: Python is not run, and there is no built-in of that name for this task; use a template", name)
}

// function is the name behind !function.
func function(n *yaml.Node) (string, bool) { return n.Value, n.Tag == "!function" }

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// valueOf is a YAML value as templates have it.
func valueOf(n *yaml.Node) (jinja.Value, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if name, ok := function(n); ok {
		return nil, notSupported(name)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		list := jinja.List{}
		for _, c := range n.Content {
			v, err := valueOf(c)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		d := jinja.NewDict()
		for i := 0; i+1 < len(n.Content); i += 2 {
			v, err := valueOf(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			d.SetString(n.Content[i].Value, v)
		}
		return d, nil
	}
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		return truth(n)
	case "!!int":
		i, err := strconv.ParseInt(n.Value, 0, 64)
		return i, err
	case "!!float":
		return number(n)
	}
	return n.Value, nil
}

func text(n *yaml.Node) (string, error) {
	switch {
	case isNull(n):
		return "", nil
	case n.Kind != yaml.ScalarNode:
		return "", errors.New("want a text")
	case n.Tag == "!function":
		return "", notSupported(n.Value)
	}
	return n.Value, nil
}

func texts(n *yaml.Node) ([]string, error) {
	if isNull(n) {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		s, err := text(n)
		return []string{s}, err
	}
	var list []string
	for _, c := range n.Content {
		s, err := text(c)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func whole(n *yaml.Node) (int, error) {
	if isNull(n) {
		return 0, nil
	}
	i, err := strconv.Atoi(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode || i < 0 {
		return 0, fmt.Errorf("want a whole number, got %q", n.Value)
	}
	return i, nil
}

func number(n *yaml.Node) (float64, error) {
	x, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || n.Kind != yaml.ScalarNode {
		return 0, fmt.Errorf("want a number, got %q", n.Value)
	}
	return x, nil
}

func truth(n *yaml.Node) (bool, error) {
	var b bool
	if err := n.Decode(&b); err != nil {
		return false, fmt.Errorf("want true or false, got %q", n.Value)
	}
	return b, nil
}

// pairs calls f for each key of a mapping.
func pairs(n *yaml.Node, f func(key string, v *yaml.Node) error) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return errors.New("want keys and values")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if err := f(key, n.Content[i+1]); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}
