package eval

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"danlu/chat/jinja"
)

func TestPythonRandom(t *testing.T) {
	r := newPythonRandom(1234)
	for i, c := range []struct {
		n, k int
		want []int
	}{{20, 3, []int{14, 3, 0}}, {20, 3, []int{2, 18, 1}}, {20, 3, []int{2, 3, 11}}, {1000, 6, []int{242, 17, 31, 807, 16, 354}}, {30, 8, []int{20, 19, 15, 28, 14, 4, 2, 5}}} {
		if got := r.sample(c.n, c.k); !reflect.DeepEqual(got, c.want) {
			t.Errorf("sample %d: want %v, got %v", i, c.want, got)
		}
	}
	if got := newPythonRandom(1<<40+5).sample(100, 4); !reflect.DeepEqual(got, []int{64, 66, 34, 84}) {
		t.Errorf("a large seed: %v", got)
	}
}

const choosingTask = `task: t
dataset_path: json
dataset_kwargs: {data_files: {test: t.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}}"
doc_to_target: label
doc_to_choice: choices
`

// write puts files into a folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, s := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// itemsOf reads a task and its items' requests.
func itemsOf(dir string, o Options) ([]*item, error) {
	t, err := LoadTask(filepath.Join(dir, "t.yaml"))
	if err != nil {
		return nil, err
	}
	o.defaults()
	items, _, err := t.items(nil, o)
	return items, err
}

// Every fault of a task file or its data is one line that says where it is.
func TestBadTasks(t *testing.T) {
	const good = `{"q": "1+1", "choices": ["1", "2"], "label": 1}` + "\n"
	for _, c := range []struct{ task, data, want string }{
		{choosingTask + "doc_to_txt: x\n", good, "t.yaml: doc_to_txt: unknown key; did you mean doc_to_text?"},
		{strings.Replace(choosingTask, "{{q}}", "{{question}}", 1), good, "item 0: doc_to_text: template line 1: 'question' is undefined; the columns are q, choices, label"},
		{strings.Replace(choosingTask, `"{{q}}"`, `"{{q"`, 1), good, "t.yaml:6: doc_to_text: template line 1"},
		{choosingTask, `{"q": "1", "choices": [], "label": 0}`, "item 0: doc_to_choice: the item has no choices"},
		{choosingTask, `{"q": "1", "choices": ["a", ""], "label": 0}`, "item 0: doc_to_choice: choice 1 is empty"},
		{choosingTask, `{"q": "x", "choices": ["a"], "label": 1}`, "item 0: doc_to_target: 1 is none of the 1 choices"},
		{choosingTask, `{"q": "1", "label": 1}`, "item 0: doc_to_choice: want a list, got"},
		{choosingTask, "", "split test: " /* path */},
		{choosingTask + "num_fewshot: 2\n", good, "num_fewshot: want at most the 1 examples that there are, got 2"},
		{choosingTask + "metric_list:\n  - metric: accuracy\n", good, `t.yaml:10: metric_list: metric: "accuracy" is not known`},
		{choosingTask + "metric_list:\n  - metric: word_perplexity\n", good, "metric_list: word_perplexity does not go with output_type multiple_choice"},
		{choosingTask + "process_docs: !function utils.shuffle\n", good, "t.yaml:9: process_docs: !function utils.shuffle: Python is not run"},
		{choosingTask + "use_prompt: x\n", good, "use_prompt: promptsource is not supported"},
		{strings.Replace(choosingTask, "multiple_choice", "multi_choice", 1), good, "output_type: want one of"},
		{strings.Replace(choosingTask, "test_split: test\n", "", 1), good, "test_split: is missing"},
		{strings.Replace(choosingTask, "t.jsonl", "u.jsonl", 1), good, "data_files: u.jsonl: no such file"},
		{strings.Replace(choosingTask, "json\n", "no/such-data\n", 1) + "include: other.yaml\n", good, "include: "},
		{choosingTask + "filter_list:\n  - name: a\n    filter:\n      - function: regexp\n", good, `function: "regexp" is not known; there is regex`},
		{choosingTask + "filter_list:\n  - name: a\n    filter:\n      - {function: regex, regex_pattern: \"(\"}\n", good, "pattern"},
		{choosingTask + "generation_kwargs: {max_toks: 5}\n", good, "generation_kwargs: max_toks: unknown key"},
		{"- a\n", good, "want keys and values"},
		{"task: [\n", good, "t.yaml"},
	} {
		dir := write(t, map[string]string{"t.yaml": c.task, "t.jsonl": c.data})
		_, err := itemsOf(dir, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\nwant %q, got %v", c.task, c.want, err)
		}
	}
}

func FuzzParseTask(f *testing.F) {
	f.Add(choosingTask)
	f.Add("task: t\nmetric_list: [{metric: acc, k: [1]}]\nfilter_list: [{name: x, filter: [{function: regex}]}]\nfewshot_config: {samples: [{a: 1}]}\n")
	f.Fuzz(func(t *testing.T, s string) {
		if task, err := ParseTask("t.yaml", []byte(s)); err == nil && task.Name == "" {
			t.Error("a task without a name")
		}
	})
}

// Prompts have the harness's form: description, examples drawn as Python draws them, delimiters, beginnings of answers.
func TestPrompts(t *testing.T) {
	task := choosingTask + `description: "Sums of {{kind}}.\n"
num_fewshot: 2
fewshot_split: test
gen_prefix: "Answer:"
`
	var data strings.Builder
	for _, s := range []string{"a", "b", "c", "d"} {
		data.WriteString(`{"q": "` + s + `?", "choices": ["no", "yes"], "label": 1, "kind": "fun"}` + "\n")
	}
	dir := write(t, map[string]string{"t.yaml": task, "t.jsonl": data.String()})
	items, err := itemsOf(dir, Options{System: "Be short."})
	if err != nil {
		t.Fatal(err)
	}
	// random.Random(1234).sample of 4 items, 3 of them drawn, gives 3, 0, 2 first.
	const want = "Be short.\n\nSums of fun.\nd? Answer: yes\n\nc? Answer: yes\n\na? Answer:"
	if got := items[0].requests[1]; got.Context != want || got.Target != " yes" {
		t.Errorf("want %q, got %q and %q", want, got.Context, got.Target)
	}
}

// In a conversation the examples are one question, or turns of their own.
func TestChatPrompts(t *testing.T) {
	task := &Task{TargetDelimiter: " ", FewshotDelimiter: "\n\n", Shots: 1, fewshot: fewshot{sampler: "first_n", split: "train"}, Testing: "test"}
	var err error
	if task.text, err = newField("doc_to_text", "q"); err != nil {
		t.Fatal(err)
	}
	if task.target, err = newField("doc_to_target", "a"); err != nil {
		t.Fatal(err)
	}
	for multiturn, want := range map[bool]string{
		false: `system:S|user:one? 1\n\ntwo?|`,
		true:  `system:S|user:one?|assistant:1|user:two?|`,
	} {
		p := &prompter{task: task, docs: []Doc{newDoc("q", "one?", "a", "1")}, system: "S", multiturn: multiturn}
		p.template = func(list []*jinja.Dict, open bool) (string, error) {
			s := ""
			for _, m := range list {
				role, _ := m.Get("role")
				content, _ := m.Get("content")
				s += role.(string) + ":" + strings.ReplaceAll(content.(string), "\n", `\n`) + "|"
			}
			return s, nil
		}
		got, err := p.prompts(newDoc("q", "two?", "a", "2"))
		if err != nil || got[0] != want {
			t.Errorf("multiturn %v: want %q, got %q %v", multiturn, want, got, err)
		}
	}
}

// Every built-in file is a task, a group or there to be included, and danlu's own make their items.
func TestBuiltinTasks(t *testing.T) {
	lib, err := NewLibrary()
	if err != nil {
		t.Fatal(err)
	}
	names, groups, _ := lib.Names()
	files := 0
	fs.WalkDir(builtin, ".", func(name string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(name, ".yaml") && !strings.HasPrefix(filepath.Base(name), "_") {
			files++
		}
		return nil
	})
	if len(names) != files-len(groups)+57+52+67 || len(groups) != 3 { // MMLU, C-Eval and CMMLU are a group of subjects each
		t.Errorf("%d files make %d tasks and %d groups", files, len(names), len(groups))
	}
	s, err := lib.Select(names)
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, task := range s.Tasks {
		if !strings.HasPrefix(task.Dataset.Path, generatorPrefix) {
			continue
		}
		own++
		o := Options{Limit: 5}
		o.defaults()
		items, all, err := task.items(nil, o)
		if err != nil || len(items) != 5 || all < 40 {
			t.Errorf("%s: %d of %d items: %v", task.Name, len(items), all, err)
		}
	}
	if own < 8 {
		t.Errorf("only %d tasks of our own", own)
	}
	if _, err := lib.Select([]string{"danlu_storys"}); err == nil || !strings.Contains(err.Error(), "did you mean danlu_stories?") {
		t.Errorf("a misspelt name: %v", err)
	}
}

// A file of a folder that cannot be read keeps no other from being asked, and is told of where a name is not found.
func TestBrokenFile(t *testing.T) {
	dir := write(t, map[string]string{"a.yaml": strings.Replace(choosingTask, "task: t", "task: a", 1), "b.yaml": "task: [", "c.yaml": "group: g\ntask: [a]\naggregate_metrics: []\n"})
	lib, err := NewLibrary(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := lib.Select([]string{"a"}); err != nil || len(s.Tasks) != 1 {
		t.Errorf("%v", err)
	}
	if _, err := lib.Select([]string{"g"}); err == nil || !strings.Contains(err.Error(), "2 files cannot be read, the first: eval: "+dir+"/b.yaml") {
		t.Errorf("%v", err)
	}
}

func TestGroups(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": strings.Replace(choosingTask, "task: t", "task: a\ntag: both", 1), "b.yaml": strings.Replace(choosingTask, "task: t", "task: b\ntag: both", 1),
		"g.yaml": "group: g\ntask:\n  - a\n  - {task: b, num_fewshot: 3}\naggregate_metric_list:\n  - {metric: acc, weight_by_size: false}\n",
	})
	lib, err := NewLibrary(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := lib.Select([]string{"g", "both"})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Tasks) != 2 || s.Tasks[1].Shots != 3 || len(s.Groups) != 2 || !reflect.DeepEqual(s.Groups[0].Tasks, []string{"a", "b"}) || !reflect.DeepEqual(s.Groups[1].Tasks, []string{"a", "b"}) {
		t.Errorf("got %d tasks, groups %+v", len(s.Tasks), s.Groups)
	}
	r := &Report{Results: map[string]Result{"a": {"acc,none": 0.5, "acc_stderr,none": 0.1}, "b": {"acc,none": 1.0, "acc_stderr,none": 0.2}},
		Counts: map[string]Count{"a": {10, 10}, "b": {30, 30}}, values: map[string]map[string][]Value{"a": {"acc,none": nil}}}
	r.group(s.Groups)
	if x := r.Groups["g"]["acc,none"]; x != 0.75 {
		t.Errorf("unweighted mean: %v", x)
	}
	if x := r.Groups["both"]["acc,none"]; x != 0.875 {
		t.Errorf("weighted mean: %v", x)
	}
}

// A file of values without types gives each column the type that all its values have.
func TestColumnTypes(t *testing.T) {
	dir := write(t, map[string]string{"t.csv": "q,label,x,s\na,1,1.5,7\nb,,2,x\n", "t.txt": "12\n"})
	docs, err := readDocs([]string{filepath.Join(dir, "t.csv")})
	if err != nil {
		t.Fatal(err)
	}
	if got := jinja.Repr(docs[0]) + jinja.Repr(docs[1]); got != "{'q': 'a', 'label': 1, 'x': 1.5, 's': '7'}{'q': 'b', 'label': None, 'x': 2.0, 's': 'x'}" {
		t.Errorf("got %s", got)
	}
	if docs, err = readDocs([]string{filepath.Join(dir, "t.txt")}); err != nil || jinja.Repr(docs[0]) != "{'text': '12'}" {
		t.Errorf("text: %s %v", jinja.Repr(docs[0]), err)
	}
}
