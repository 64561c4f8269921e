package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/task"
)

const twoStages = `
model_name_or_path: stage:base
template: default
finetuning_type: full
output_dir: out
stages:
- {name: base, stage: pt, model_name_or_path: llama-tiny, train_from_scratch: true, dataset: "corpus:documents:10", published: {tokens: 1}}
- {name: answers, stage: rft, dataset: "corpus:questions:10", reward_funcs: accuracy}
- {name: chat, dataset: [stage:answers, other.jsonl], ref_model: stage:base}
probes:
- {name: held, dataset: "corpus:held-out-questions:4", reward_funcs: accuracy}
- {name: only, of: [chat], dataset: "corpus:held-out-questions:4", reward_model: stage:base, reward_model_type: full, num_generations: 2, temperature: 1}
`

func TestStagesAreLinked(t *testing.T) {
	for root, words := range map[string][]string{"out": nil, "other": {"output_dir=other"}} {
		r, err := Parse([]byte(twoStages), "two.yaml", append(words, "chat.learning_rate=3e-4", "held.max_completion_length=9"))
		if err != nil {
			t.Fatal(err)
		}
		dir := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
		base, chat := r.Stages[0], r.Stages[2]
		if base.Output.Dir != dir("base") || base.Published["tokens"] != 1 || chat.Published != nil {
			t.Errorf("base: %s %v", base.Output.Dir, base.Published)
		}
		if chat.Model.Path != dir("base") || chat.Method.RefModel != dir("base") || chat.Output.Dir != dir("chat") || chat.Optim.LearningRate != 3e-4 {
			t.Errorf("chat: %+v", chat.Groups)
		}
		if got := chat.Data.Dataset; got[0] != dir("answers", keptFile) || got[1] != "other.jsonl" {
			t.Errorf("datasets: %v", got)
		}
		held, only := r.Probes[0], r.Probes[1]
		if held.Generation.Temperature != 0 || held.Reinforce.NumGenerations != 1 || held.Reinforce.MaxCompletionLength != 9 || held.Method.Stage != "rft" {
			t.Errorf("held: %+v", held.Groups)
		}
		if only.Generation.Temperature != 1 || only.Method.RewardModel != dir("base") {
			t.Errorf("only: %+v", only.Groups)
		}
		if !held.measures(base) || held.measures(r.Stages[1]) || only.measures(base) || !only.measures(chat) {
			t.Error("the probes measure other stages than they are for")
		}
	}
	r, err := Parse([]byte(twoStages), "two.yaml", []string{"chat.output_dir=mine"})
	if err != nil || r.Stages[2].Output.Dir != "mine" || r.Stages[0].Output.Dir != filepath.Join("out", "base") {
		t.Errorf("%v %v", r, err)
	}
}

func TestPipelineMistakes(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"ref_model: stage:base", "ref_model: stage:later", "ref_model"},
		{"stage:answers, other", "stage:chat, other", "dataset"},
		{"of: [chat]", "of: [nobody]", "nobody"},
		{"of: [chat]", "of: {a: 1}", "of"},
		{"output_dir: out", "", "output_dir"},
		{"name: held", "name: chat", "name"},
		{"name: held", `name: "a\nb"`, "name"},
		{"reward_funcs: accuracy}\n- {name: only", "stages: []}\n- {name: only", "stages"},
	} {
		text := strings.Replace(twoStages, c.from, c.to, 1)
		if text == twoStages {
			t.Fatalf("%q is not in the recipe", c.from)
		}
		if _, err := Parse([]byte(text), "two.yaml", nil); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want an error about %s", c.to, err, c.want)
		}
	}
	if _, err := Parse([]byte("probes:\n- {name: a}\n"), "p.yaml", nil); err == nil || !strings.Contains(err.Error(), "probes") {
		t.Errorf("probes without stages: %v", err)
	}
}

func TestCorpusDatasets(t *testing.T) {
	dir := t.TempDir()
	parse := func(name string) (*Recipe, error) {
		return Parse([]byte("model_name_or_path: m\ntemplate: default\nfinetuning_type: full\n"), "r.yaml", []string{"dataset=" + name, "output_dir=" + dir})
	}
	r, err := parse("corpus:lists:7")
	if err != nil {
		t.Fatal(err)
	}
	attrs, err := r.Datasets(false)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, dataFolder, "lists-7.jsonl"))
	if err != nil || strings.Count(string(raw), "\n") != 7 || len(attrs) != 1 {
		t.Errorf("%d sets, %d lines, %v", len(attrs), strings.Count(string(raw), "\n"), err)
	}
	for _, name := range []string{"corpus:none", "corpus:lists:0", "corpus:lists:x", "corpus:lists:99999999999"} {
		r, err := parse(name)
		if err == nil {
			_, err = r.Datasets(false)
		}
		if err == nil || !strings.Contains(err.Error(), "dataset") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A row's column rewards says which of a recipe's rewards count for it.
func TestRewardsByRow(t *testing.T) {
	for _, c := range []struct {
		column, name string
		want         bool
	}{{"accuracy, format", "format", true}, {"accuracy format", "language", false}, {"accuracy", "accuracy_reward", true}, {"accuracy", "overlong", true}, {"", "accuracy", false}} {
		if got := asksFor(task.Reply{Extra: map[string]string{rewardsColumn: c.column}}, c.name); got != c.want {
			t.Errorf("%q asks for %s: %v", c.column, c.name, got)
		}
	}
	if !asksFor(task.Reply{}, "accuracy") {
		t.Error("without the column all rewards count")
	}
}

// A context that is stretched twice is stretched from where it began.
func TestSecondStretching(t *testing.T) {
	for config, want := range map[string]int{
		`{}`:                     1024,
		`{"rope_scaling": null}`: 1024,
		`{"rope_scaling": {"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 128}}`:    128,
		`{"rope_parameters": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 256}}`: 256,
		`{"rope_scaling": {"rope_type": "linear", "factor": 4}}`:                                           256,
	} {
		if got, err := firstContext([]byte(config), 1024); err != nil || got != want {
			t.Errorf("%s: %d %v, want %d", config, got, err, want)
		}
	}
}
