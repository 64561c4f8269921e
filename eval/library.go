package eval

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"danlu/internal/nearest"
)

// builtin are the task files that come with the program.
//
//go:embed all:tasks
var builtin embed.FS

// builtinRoot stands for the folder of the built-in files in messages.
const builtinRoot = "built-in"

// Library is the tasks and groups that can be named.
type Library struct {
	tasks  map[string]entry
	groups map[string]*Group
	tags   map[string][]string
	broken []error // files that cannot be read
}

// entry is a task file that is not read through yet.
type entry struct {
	file     string
	settings []setting
}

// Selection is what to ask.
type Selection struct {
	Tasks  []*Task
	Groups []*Group
}

// NewLibrary returns the built-in tasks and those of folders, which go before.
func NewLibrary(folders ...string) (*Library, error) {
	l := &Library{tasks: map[string]entry{}, groups: map[string]*Group{}, tags: map[string][]string{}}
	inside, err := fs.Sub(builtin, "tasks")
	if err != nil {
		return nil, err
	}
	if err := l.addFolder(inside, builtinRoot); err != nil {
		return nil, err
	}
	for _, dir := range folders {
		if err := l.addFolder(os.DirFS(dir), dir); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// addFolder adds the task files below a folder. A file that names no task is there to be included; one that cannot be
// read is told of when a name is not found.
func (l *Library) addFolder(files fs.FS, root string) error {
	read := func(file string) ([]byte, error) {
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return nil, err
		}
		return fs.ReadFile(files, filepath.ToSlash(rel))
	}
	return fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("eval: %s: %w", root, err)
		}
		if ext := path.Ext(name); d.IsDir() || ext != ".yaml" && ext != ".yml" {
			return nil
		}
		file := filepath.Join(root, filepath.FromSlash(name))
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			return fmt.Errorf("eval: %w", err)
		}
		settings, err := readSettings(file, raw, read, 0)
		if err == nil {
			err = l.add(file, settings)
		}
		if err != nil {
			l.broken = append(l.broken, err)
		}
		return nil
	})
}

// add adds a file under its name.
func (l *Library) add(file string, settings []setting) error {
	at := map[string]setting{}
	for _, s := range settings {
		at[s.key] = s
	}
	named, ok := at["task"]
	if _, grouped := at["group"]; grouped && len(named.entries()) > 0 {
		g, err := newGroup(file, settings)
		if err == nil {
			l.groups[g.Name] = g
		}
		return err
	}
	if !ok || named.node.Value == "" {
		return nil
	}
	if s, ok := at["subjects"]; ok {
		return l.addSubjects(file, named.node.Value, settings, s)
	}
	// In older files a task's group is a tag.
	settings = slices.DeleteFunc(settings, func(s setting) bool { return s.key == "group" })
	name := named.node.Value
	l.tasks[name] = entry{file, settings}
	for _, key := range []string{"tag", "group"} {
		if s, ok := at[key]; ok {
			tags, err := texts(s.node)
			if err != nil {
				return fmt.Errorf("eval: %s: %s: %w", file, key, err)
			}
			for _, t := range tags {
				if !slices.Contains(l.tags[t], name) {
					l.tags[t] = append(l.tags[t], name)
				}
			}
		}
	}
	return nil
}

// subjectMark stands in a description for a subject's words.
const subjectMark = "{subject}"

// addSubjects adds a task for each configuration of a dataset, and their group. The key is danlu's own: subjects maps
// dataset_name to the words that stand for it in the description.
func (l *Library) addSubjects(file, name string, settings []setting, subjects setting) error {
	g := &Group{Name: name}
	err := pairs(subjects.node, func(config string, v *yaml.Node) error {
		words, err := text(v)
		if err != nil {
			return err
		}
		task := name + "_" + config
		own := []setting{{"dataset_name", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: config}}}
		for _, s := range settings {
			switch s.key {
			case "task":
				s.node = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: task, Line: s.node.Line}
			case "description":
				n := *s.node
				n.Value = strings.ReplaceAll(n.Value, subjectMark, words)
				s.node = &n
			case "subjects":
				continue
			}
			own = append(own, s)
		}
		l.tasks[task] = entry{file, own}
		g.members = append(g.members, member{name: task})
		return nil
	})
	if err != nil {
		return fmt.Errorf("eval: %s: subjects: %w", file, err)
	}
	l.groups[name] = g
	return nil
}

// Names lists tasks, groups and tags.
func (l *Library) Names() (tasks, groups, tags []string) {
	return slices.Sorted(maps.Keys(l.tasks)), slices.Sorted(maps.Keys(l.groups)), slices.Sorted(maps.Keys(l.tags))
}

// Select reads the tasks of names: tasks, groups, tags, patterns with *, or task files.
func (l *Library) Select(names []string) (*Selection, error) {
	s := &Selection{}
	for _, n := range names {
		if err := l.selectOne(s, n); err != nil {
			return nil, err
		}
	}
	if len(s.Tasks) == 0 {
		return nil, fmt.Errorf("eval: no task is named")
	}
	return s, nil
}

func (l *Library) selectOne(s *Selection, name string) error {
	if ext := filepath.Ext(name); ext == ".yaml" || ext == ".yml" {
		return l.selectFile(s, name)
	}
	if strings.Contains(name, "*") {
		return l.selectMatching(s, name)
	}
	switch _, isTask := l.tasks[name]; {
	case isTask:
		return l.addTask(s, name, nil)
	case l.groups[name] != nil:
		g := *l.groups[name]
		for _, m := range g.members {
			before := len(s.Tasks)
			if err := l.selectMember(s, m); err != nil {
				return fmt.Errorf("group %s: %w", name, err)
			}
			for _, t := range s.Tasks[before:] {
				g.Tasks = append(g.Tasks, t.Name)
			}
		}
		s.Groups = append(s.Groups, &g)
		return nil
	case l.tags[name] != nil:
		for _, t := range l.tags[name] {
			if err := l.addTask(s, t, nil); err != nil {
				return err
			}
		}
		s.Groups = append(s.Groups, &Group{Name: name, Tasks: slices.Clone(l.tags[name])})
		return nil
	}
	known := slices.Concat(slices.Collect(maps.Keys(l.tasks)), slices.Collect(maps.Keys(l.groups)), slices.Collect(maps.Keys(l.tags)))
	hint := "; danlu eval list shows what there is"
	if n := nearest.Of(name, known); n != "" {
		hint = fmt.Sprintf("; did you mean %s?", n)
	}
	if n := len(l.broken); n > 0 {
		hint += fmt.Sprintf(" (%d files cannot be read, the first: %v)", n, l.broken[0])
	}
	return fmt.Errorf("eval: %q is no task, group or tag%s", name, hint)
}

func (l *Library) selectMember(s *Selection, m member) error {
	if _, isTask := l.tasks[m.name]; isTask {
		return l.addTask(s, m.name, m.settings)
	}
	if m.settings != nil {
		return fmt.Errorf("eval: %s: keys can be changed of tasks only", m.name)
	}
	return l.selectOne(s, m.name)
}

func (l *Library) selectFile(s *Selection, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	settings, err := readSettings(file, raw, os.ReadFile, 0)
	if err != nil {
		return err
	}
	for _, x := range settings {
		if x.key == "group" && slices.ContainsFunc(settings, func(y setting) bool { return y.key == "task" && len(y.entries()) > 0 }) {
			g, err := newGroup(file, settings)
			if err != nil {
				return err
			}
			if err := l.addFolder(os.DirFS(filepath.Dir(file)), filepath.Dir(file)); err != nil {
				return err
			}
			return l.selectOne(s, g.Name)
		}
	}
	t, err := newTask(file, settings)
	if err != nil {
		return err
	}
	s.add(t)
	return nil
}

func (l *Library) selectMatching(s *Selection, pattern string) error {
	found := false
	for _, name := range slices.Sorted(maps.Keys(l.tasks)) {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return fmt.Errorf("eval: %q: %w", pattern, err)
		}
		if ok {
			found = true
			if err := l.addTask(s, name, nil); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("eval: %q fits no task; danlu eval list shows what there is", pattern)
	}
	return nil
}

// addTask reads a task with some keys changed.
func (l *Library) addTask(s *Selection, name string, changes []setting) error {
	e := l.tasks[name]
	settings := slices.Clone(e.settings)
	for _, c := range changes {
		if i := slices.IndexFunc(settings, func(x setting) bool { return x.key == c.key }); i >= 0 {
			settings[i] = c
		} else {
			settings = append(settings, c)
		}
	}
	t, err := newTask(e.file, settings)
	if err != nil {
		return err
	}
	s.add(t)
	return nil
}

// add adds a task; one of the same name is taken once.
func (s *Selection) add(t *Task) {
	if !slices.ContainsFunc(s.Tasks, func(x *Task) bool { return x.Name == t.Name }) {
		s.Tasks = append(s.Tasks, t)
	}
}
