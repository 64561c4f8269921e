package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a task is told in one line before a model is looked for.
func TestEvalBadInput(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "t.yaml")
	const task = "task: t\ndataset_path: json\ndataset_kwargs: {data_files: {test: t.jsonl}}\noutput_type: multiple_choice\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\ndoc_to_choice: c\n"
	if err := os.WriteFile(filepath.Join(dir, "t.jsonl"), []byte(`{"q": "x", "a": 0, "c": []}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		task:                     "task t: item 0: doc_to_choice: the item has no choices",
		task + "num_fewshots: 1": "num_fewshots: unknown key; did you mean num_fewshot?",
		strings.Replace(task, "doc_to_text: q", "doc_to_text: \"{{z}}\"", 1): "doc_to_text: template line 1: 'z' is undefined; the columns are q, a, c",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		status, out, errs := execute(t, "eval", "no-such-model", "--tasks", file)
		if status != exitInput || out != "" || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("want %q, got %d %q", want, status, errs)
		}
	}
	for _, args := range [][]string{{"eval", "m"}, {"eval", "m", "--tasks", "danlu_storys"}, {"eval", "m", "--tasks", "danlu_stories", "--limit", "-1"},
		{"eval", "m", "--tasks", "danlu_stories", "--gen_kwargs", "top_q=1"}, {"eval", "m", "--tasks", "danlu_stories", "--fewshot-as-multiturn"},
		{"eval", "compare", dir, dir}, {"eval", "pairwise", file, file}} {
		if status, _, errs := execute(t, args...); status != exitInput || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: %d %q", args, status, errs)
		}
	}
}

func TestEvalList(t *testing.T) {
	status, out, _ := execute(t, "eval", "list", "--json")
	var list struct{ Tasks, Groups, Tags []string }
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != exitOK || len(list.Tasks) < 100 || len(list.Groups) < 3 {
		t.Errorf("%d %v: %d tasks, %d groups", status, err, len(list.Tasks), len(list.Groups))
	}
}
