package recipe

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"danlu/engine"
	"danlu/engine/cpu"
)

// runRecipe carries out a recipe given as key=value words and returns the folder's metrics.
func runRecipe(t *testing.T, ctx context.Context, words ...string) (string, []map[string]any) {
	t.Helper()
	r, err := Parse(nil, "test", append([]string{"quiet=true", "report_to=none", "template=default", "logging_steps=1", "save_steps=100", "finetuning_type=full"}, words...))
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	newEngine := func(string, int) (engine.Engine, error) { return cpu.New(cpu.Options{Threads: 2}) }
	if _, err := Run(ctx, r, RunOptions{NewEngine: newEngine, Stderr: stderr}); err != nil {
		text, _ := os.ReadFile(stderr.Name())
		t.Fatalf("%v\n%s", err, text)
	}
	return r.Output.Dir, readLines(t, filepath.Join(r.Output.Dir, "metrics.jsonl"))
}

func readLines(t *testing.T, path string) (lines []map[string]any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var m map[string]any
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, m)
	}
	return lines
}

// scratch is a small model to start from.
func scratch(extra ...string) []string {
	return append([]string{"model_name_or_path=llama-tiny", "train_from_scratch=true", "seed=3"}, extra...)
}

func writeRows(t *testing.T, rows ...any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, r := range rows {
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(f, string(line))
	}
	return path
}

// preferences are pairs whose chosen answer is polite.
func preferences(n int) (rows []any) {
	for i := range n {
		rows = append(rows, map[string]any{"instruction": fmt.Sprintf("where is item %d?", i), "chosen": "please look there", "rejected": "who cares about it"})
	}
	return rows
}

// last reads a metric of the last logged line.
func last(lines []map[string]any, name string) float64 {
	for i := len(lines) - 1; i >= 0; i-- {
		if v, ok := lines[i][name].(float64); ok {
			return v
		}
	}
	return math.NaN()
}

func TestStageRewardModel(t *testing.T) {
	dir, lines := runRecipe(t, context.Background(), scratch("stage=rm", "dataset="+writeRows(t, preferences(24)...), "output_dir="+t.TempDir(), "cutoff_len=64",
		"per_device_train_batch_size=4", "gradient_accumulation_steps=2", "num_train_epochs=10", "learning_rate=2e-3")...)
	if first, end := lines[0]["loss"].(float64), last(lines, "loss"); !(math.Abs(first-math.Ln2) < 0.2) || !(end < 0.5) || !(last(lines, "accuracy") > 0.9) {
		t.Errorf("loss from %v to %v, accuracy %v", first, end, last(lines, "accuracy"))
	}
	for _, name := range []string{"model.safetensors", "value_head.safetensors", "config.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// A column of margins pushes the rewards of a pair further apart.
func TestRewardModelMargins(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	margins := map[float64]float64{}
	for _, m := range []float64{0, 3} {
		rows := preferences(24)
		for _, r := range rows {
			r.(map[string]any)["margin"] = m
		}
		_, lines := runRecipe(t, context.Background(), scratch("stage=rm", "dataset="+writeRows(t, rows...), "output_dir="+t.TempDir(), "cutoff_len=64",
			"per_device_train_batch_size=8", "num_train_epochs=20", "learning_rate=2e-3")...)
		if first := lines[0]["loss"].(float64); !(math.Abs(first-math.Log1p(math.Exp(m))) < 0.2) {
			t.Errorf("margin %v: first loss %v", m, first)
		}
		margins[m] = last(lines, "rewards/margins")
	}
	if !(margins[3] > margins[0]+0.5) {
		t.Errorf("rewards are apart by %v without and %v with a margin", margins[0], margins[3])
	}
	rows := preferences(4)
	rows[0].(map[string]any)["margin"], rows[1].(map[string]any)["margin"] = 1.0, "much"
	_, err := attempt(t, "stage: rm\nmodel_name_or_path: llama-tiny\ntrain_from_scratch: true\ntemplate: default\nreport_to: none\ndisable_shuffling: true\n",
		"dataset="+writeRows(t, rows...), "output_dir="+t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "margin") {
		t.Errorf("a margin that is no number: %v", err)
	}
}

func TestStageDPO(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	data := writeRows(t, preferences(16)...)
	for _, loss := range []string{"sigmoid", "simpo", "orpo", "kto_pair"} {
		_, lines := runRecipe(t, context.Background(), scratch("stage=dpo", "pref_loss="+loss, "dataset="+data, "output_dir="+t.TempDir(), "cutoff_len=64",
			"per_device_train_batch_size=2", "gradient_accumulation_steps=2", "num_train_epochs=5", "learning_rate=5e-4")...)
		if loss == "sigmoid" && !(math.Abs(lines[0]["loss"].(float64)-math.Ln2) < 1e-5) {
			t.Errorf("the first loss is %v: policy and reference differ", lines[0]["loss"])
		}
		if a := last(lines, "rewards/accuracies"); !(a > 0.9) {
			t.Errorf("%s: accuracy %v", loss, a)
		}
	}
}

func TestStageKTO(t *testing.T) {
	var rows []any
	for i, p := range preferences(16) {
		q := p.(map[string]any)
		rows = append(rows, map[string]any{"instruction": q["instruction"], "output": q[[]string{"chosen", "rejected"}[i%2]], "kto_tag": i%2 == 0})
	}
	_, lines := runRecipe(t, context.Background(), scratch("stage=kto", "dataset="+writeRows(t, rows...), "output_dir="+t.TempDir(), "cutoff_len=64",
		"per_device_train_batch_size=4", "num_train_epochs=6", "learning_rate=5e-4", "pref_ftx=0.1")...)
	if good, bad := last(lines, "rewards/chosen"), last(lines, "rewards/rejected"); !(good > bad+0.05) {
		t.Errorf("rewards of good %v and of bad answers %v", good, bad)
	}
	if kl := last(lines, "kl"); !(kl >= 0) {
		t.Errorf("kl %v", kl)
	}
}

// A run that was cut off goes on as if it had not been.
func TestStageDPOResumes(t *testing.T) {
	data := writeRows(t, preferences(16)...)
	words := func(dir string, steps int) []string {
		return scratch("stage=dpo", "dataset="+data, "output_dir="+dir, "cutoff_len=64", "per_device_train_batch_size=4", "learning_rate=5e-4", "lr_scheduler_type=constant",
			fmt.Sprintf("max_steps=%d", steps))
	}
	whole, parts := t.TempDir(), t.TempDir()
	runRecipe(t, context.Background(), words(whole, 6)...)
	runRecipe(t, context.Background(), words(parts, 3)...)
	runRecipe(t, context.Background(), words(parts, 6)...)
	sameModel(t, whole, parts)
}

func sameModel(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(filepath.Join(a, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(filepath.Join(b, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if string(x) != string(y) {
		t.Error("the models differ")
	}
}

// sums are additions of one-digit numbers with their results.
func sums(n int) (rows []any) {
	for i := range n {
		rows = append(rows, map[string]any{"instruction": fmt.Sprintf("%d+%d", i%5, i/5%5), "output": fmt.Sprintf("\\boxed{%d}", i%5+i/5%5)})
	}
	return rows
}

// fours are the same questions, whose answer is always four: what a policy that answers at random learns first.
func fours(n int) (rows []any) {
	for _, r := range sums(n) {
		q := r.(map[string]any)
		q["output"] = "4"
		rows = append(rows, q)
	}
	return rows
}

var answering struct {
	once sync.Once
	dir  string
}

func TestMain(m *testing.M) {
	status := m.Run()
	os.RemoveAll(answering.dir)
	os.Exit(status)
}

// answeringModel is a model that has seen answers in the right form. It is trained once for all tests.
func answeringModel(t *testing.T) string {
	t.Helper()
	answering.once.Do(func() {
		dir, err := os.MkdirTemp("", "answering")
		if err != nil {
			t.Fatal(err)
		}
		runRecipe(t, context.Background(), scratch("stage=sft", "dataset="+writeRows(t, sums(25)...), "output_dir="+dir, "cutoff_len=32",
			"per_device_train_batch_size=9", "num_train_epochs=30", "learning_rate=3e-3")...)
		answering.dir = dir
	})
	return answering.dir
}

func TestStageGRPO(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	base := answeringModel(t)
	data := writeRows(t, fours(25)...)
	words := func(dir string, steps int, more ...string) []string {
		return append([]string{"stage=grpo", "model_name_or_path=" + base, "dataset=" + data, "output_dir=" + dir, "cutoff_len=32", "per_device_train_batch_size=20",
			"gradient_accumulation_steps=2", "num_generations=8", "max_completion_length=12", "reward_funcs=accuracy", "learning_rate=1e-3", "lr_scheduler_type=constant",
			fmt.Sprintf("max_steps=%d", steps)}, more...)
	}
	whole := t.TempDir()
	_, lines := runRecipe(t, context.Background(), words(whole, 20)...)
	before, after := lines[0]["reward"].(float64), last(lines, "reward")
	t.Logf("reward from %v to %v", before, after)
	if !(after > before+0.2) {
		t.Errorf("reward from %v to %v", before, after)
	}
	for _, name := range []string{"reward_std", "frac_reward_zero_std", "rewards/accuracy/mean", "completions/mean_length", "completions/clipped_ratio", "entropy", "clip_ratio/region_mean"} {
		if v := last(lines, name); math.IsNaN(v) {
			t.Errorf("%s is not logged", name)
		}
	}
	parts := t.TempDir()
	runRecipe(t, context.Background(), words(parts, 4)...)
	runRecipe(t, context.Background(), words(parts, 8)...)
	direct := t.TempDir()
	runRecipe(t, context.Background(), words(direct, 8)...)
	sameModel(t, parts, direct)
	_, lines = runRecipe(t, context.Background(), words(t.TempDir(), 2, "beta=0.1", "num_iterations=2", "loss_type=grpo", "dynamic_sampling=true", "mask_truncated_completions=true",
		"overlong_cache=4", "scale_rewards=batch", "val_size=5", "eval_strategy=steps", "eval_steps=2")...)
	if v := last(lines, "eval_reward"); !(v >= 0) {
		t.Errorf("eval_reward %v", v)
	}
	if kl := last(lines, "kl"); !(kl >= 0) {
		t.Errorf("kl %v", kl)
	}
	if v := last(lines, "rewards/overlong/mean"); !(v <= 0) {
		t.Errorf("overlong reward %v", v)
	}
}

func TestStagePPO(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	base := answeringModel(t)
	data := writeRows(t, fours(25)...)
	words := func(dir string, steps int, more ...string) []string {
		return append([]string{"stage=ppo", "model_name_or_path=" + base, "dataset=" + data, "output_dir=" + dir, "cutoff_len=32", "per_device_train_batch_size=10",
			"gradient_accumulation_steps=2", "ppo_buffer_size=2", "ppo_epochs=2", "max_new_tokens=12", "temperature=1", "top_k=0", "top_p=1", "reward_funcs=accuracy",
			"learning_rate=5e-4", "lr_scheduler_type=constant", "kl_coef=0.02", fmt.Sprintf("max_steps=%d", steps)}, more...)
	}
	dir, lines := runRecipe(t, context.Background(), words(t.TempDir(), 12)...)
	before, after := lines[0]["objective/scores"].(float64), last(lines, "objective/scores")
	t.Logf("scores from %v to %v, kl per token %v", before, after, last(lines, "objective/kl_per_token"))
	if !(after > before+0.3) {
		t.Errorf("scores from %v to %v", before, after)
	}
	if v := lines[0]["objective/kl"].(float64); !(math.Abs(v) < 1e-3) {
		t.Errorf("the first divergence is %v: policy and reference differ", v)
	}
	if _, err := os.Stat(filepath.Join(dir, "value_head.safetensors")); err != nil {
		t.Error(err)
	}
	parts, direct := t.TempDir(), t.TempDir()
	runRecipe(t, context.Background(), words(parts, 2, "ppo_score_norm=true", "ppo_whiten_rewards=true")...)
	runRecipe(t, context.Background(), words(parts, 4, "ppo_score_norm=true", "ppo_whiten_rewards=true")...)
	runRecipe(t, context.Background(), words(direct, 4, "ppo_score_norm=true", "ppo_whiten_rewards=true")...)
	sameModel(t, parts, direct)
}

// A reward model that was trained here judges answers.
func TestStagePPOWithRewardModel(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	base := answeringModel(t)
	var pairs []any
	for _, r := range fours(25) {
		pairs = append(pairs, map[string]any{"instruction": r.(map[string]any)["instruction"], "chosen": "\\boxed{4}", "rejected": "\\boxed{7}"})
	}
	judge, _ := runRecipe(t, context.Background(), "stage=rm", "model_name_or_path="+base, "dataset="+writeRows(t, pairs...), "output_dir="+t.TempDir(), "cutoff_len=32",
		"per_device_train_batch_size=5", "num_train_epochs=4", "learning_rate=1e-3")
	_, lines := runRecipe(t, context.Background(), "stage=ppo", "model_name_or_path="+base, "dataset="+writeRows(t, fours(25)...), "output_dir="+t.TempDir(), "cutoff_len=32",
		"per_device_train_batch_size=20", "ppo_epochs=2", "max_new_tokens=12", "temperature=1", "top_k=0", "top_p=1", "reward_model="+judge, "reward_model_type=full",
		"learning_rate=5e-4", "lr_scheduler_type=constant", "max_steps=12")
	before, after := lines[0]["rewards/reward_model/mean"].(float64), last(lines, "rewards/reward_model/mean")
	t.Logf("rewards from %v to %v", before, after)
	if !(after > before) {
		t.Errorf("rewards from %v to %v", before, after)
	}
}

func TestStageDistill(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	teacher := answeringModel(t)
	data := writeRows(t, sums(25)...)
	words := func(more ...string) []string {
		return scratch(append([]string{"stage=distill", "teacher_model=" + teacher, "dataset=" + data, "output_dir=" + t.TempDir(), "cutoff_len=32",
			"per_device_train_batch_size=9", "learning_rate=3e-3", "tokenizer_name_or_path=" + teacher}, more...)...)
	}
	for _, o := range [][]string{{"distill_loss=forward_kl"}, {"distill_loss=reverse_kl", "distill_temperature=2"}, {"distill_loss=jsd", "distill_alpha=0.3"}, {"distill_loss=forward_kl", "distill_top_k=5"}} {
		_, lines := runRecipe(t, context.Background(), words(append(o, "num_train_epochs=6", "val_size=5", "eval_strategy=epoch")...)...)
		first, end := lines[0]["divergence"].(float64), last(lines, "divergence")
		if !(end < 0.85*first) || !(last(lines, "eval_divergence") > 0) {
			t.Errorf("%v: divergence from %v to %v", o, first, end)
		}
	}
	// The teacher's answers, drawn here and by an endpoint.
	dir, lines := runRecipe(t, context.Background(), words("distill_loss=sequence", "max_new_tokens=12", "num_train_epochs=4", "temperature=0")...)
	if !(last(lines, "loss") < lines[0]["loss"].(float64)) {
		t.Errorf("loss from %v to %v", lines[0]["loss"], last(lines, "loss"))
	}
	if answers := readLines(t, filepath.Join(dir, "answers", "answers.jsonl")); len(answers) < 20 {
		t.Errorf("%d answers", len(answers))
	}
	calls := atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		finish := "stop"
		if n == 2 {
			finish = "length"
		}
		fmt.Fprintf(w, `{"choices":[{"message":{"content":"\\boxed{4}"},"finish_reason":%q}]}`, finish)
	}))
	defer server.Close()
	dir, _ = runRecipe(t, context.Background(), words("distill_loss=sequence", "teacher_model=some-name", "teacher_api_base="+server.URL, "num_train_epochs=1")...)
	answers := readLines(t, filepath.Join(dir, "answers", "answers.jsonl"))
	if len(answers) != 24 { // one of 25 was cut off
		t.Errorf("%d answers of the endpoint", len(answers))
	}
}

func TestStageRejectionSampling(t *testing.T) {
	words := func(dir string) []string {
		return []string{"stage=rft", "model_name_or_path=" + answeringModel(t), "dataset=" + writeRows(t, fours(25)...), "output_dir=" + dir, "cutoff_len=32",
			"num_generations=6", "max_completion_length=12", "reward_funcs=accuracy", "keep_per_prompt=2", "disable_shuffling=true"}
	}
	whole := t.TempDir()
	r, err := Parse(nil, "test", append(words(whole), "quiet=true", "template=default", "finetuning_type=full"))
	if err != nil {
		t.Fatal(err)
	}
	newEngine := func(string, int) (engine.Engine, error) { return cpu.New(cpu.Options{Threads: 2}) }
	out, err := Run(context.Background(), r, RunOptions{NewEngine: newEngine, Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	lines := readLines(t, filepath.Join(whole, "rft.jsonl"))
	kept := out[0].Results["kept"].(float64)
	if kept == 0 || float64(len(lines)) != kept {
		t.Errorf("%d lines, %v kept", len(lines), kept)
	}
	for _, l := range lines {
		said := l["messages"].([]any)
		if text := said[len(said)-1].(map[string]any)["content"]; text != "\\boxed{4}" {
			t.Errorf("kept %q", text)
		}
	}
	if p1, pn := out[0].Results["pass@1"].(float64), out[0].Results["pass@6"].(float64); !(p1 > 0 && p1 < pn && pn <= 1) {
		t.Errorf("pass@1 %v, pass@6 %v", p1, pn)
	}
	// What was lost behind the last whole part is drawn again, the same.
	want, err := os.ReadFile(filepath.Join(whole, "rft.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(whole, "answers", "progress.json")
	var state answered
	readGolden(t, path, &state)
	state.Prompts, state.Bytes = 0, 0
	if err := writeJSON(path, state); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), r, RunOptions{NewEngine: newEngine, Stderr: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(whole, "rft.jsonl"))
	if err != nil || string(got) != string(want) {
		t.Errorf("drawn again, other answers were kept (%v)", err)
	}
	// The dataset trains.
	_, metrics := runRecipe(t, context.Background(), "stage=sft", "model_name_or_path="+answeringModel(t), "dataset=rft", "dataset_dir="+whole, "output_dir="+t.TempDir(),
		"cutoff_len=64", "per_device_train_batch_size=8", "max_steps=2")
	if !(last(metrics, "loss") > 0) {
		t.Error("no loss")
	}
}

// Stages train adapters too: the reference is then the same weights without the adapter, and a reward model may be an
// adapter of the model in training.
func TestStagesWithLora(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	base := answeringModel(t)
	lora := func(words ...string) []string {
		return append([]string{"model_name_or_path=" + base, "finetuning_type=lora", "lora_rank=4", "output_dir=" + t.TempDir(), "cutoff_len=32", "lr_scheduler_type=constant"}, words...)
	}
	_, lines := runRecipe(t, context.Background(), lora("stage=dpo", "dataset="+writeRows(t, preferences(16)...), "per_device_train_batch_size=4", "num_train_epochs=5", "learning_rate=2e-3")...)
	if first := lines[0]["loss"].(float64); !(math.Abs(first-math.Ln2) < 1e-5) || !(last(lines, "rewards/accuracies") > 0.9) {
		t.Errorf("dpo: first loss %v, accuracy %v", first, last(lines, "rewards/accuracies"))
	}
	var pairs []any
	for _, r := range fours(25) {
		pairs = append(pairs, map[string]any{"instruction": r.(map[string]any)["instruction"], "chosen": "\\boxed{4}", "rejected": "\\boxed{7}"})
	}
	judge, _ := runRecipe(t, context.Background(), lora("stage=rm", "dataset="+writeRows(t, pairs...), "per_device_train_batch_size=5", "num_train_epochs=4", "learning_rate=5e-3")...)
	for _, name := range []string{"adapter_model.safetensors", "value_head.safetensors"} {
		if _, err := os.Stat(filepath.Join(judge, name)); err != nil {
			t.Error(err)
		}
	}
	_, lines = runRecipe(t, context.Background(), lora("stage=ppo", "dataset="+writeRows(t, fours(25)...), "per_device_train_batch_size=20", "ppo_epochs=2", "max_new_tokens=12",
		"temperature=1", "top_k=0", "top_p=1", "reward_model="+judge, "learning_rate=2e-3", "max_steps=8")...)
	if v := lines[0]["objective/kl"].(float64); !(math.Abs(v) < 1e-3) {
		t.Errorf("ppo: the first divergence is %v", v)
	}
	if before, after := lines[0]["rewards/reward_model/mean"].(float64), last(lines, "rewards/reward_model/mean"); !(after > before) {
		t.Errorf("ppo: rewards from %v to %v", before, after)
	}
	_, lines = runRecipe(t, context.Background(), lora("stage=grpo", "dataset="+writeRows(t, fours(25)...), "per_device_train_batch_size=20", "num_generations=10", "max_completion_length=12",
		"reward_funcs=accuracy", "beta=0.01", "learning_rate=3e-3", "max_steps=10")...)
	if before, after := lines[0]["reward"].(float64), last(lines, "reward"); !(after > before) {
		t.Errorf("grpo: rewards from %v to %v", before, after)
	}
}
