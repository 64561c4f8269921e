package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"danlu/data/corpus"
	"danlu/train"
)

// asProgram makes the test binary behave as danlu itself, for tests that kill it.
const asProgram = "DANLU_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is danlu as a process of its own.
func program(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "DANLU_LANG=en")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

// tinyRun is a run from scratch of steps that take milliseconds.
func tinyRun(t *testing.T, out string, more ...string) []string {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	for i := range uint64(200) {
		text.WriteString(corpus.StoryAt(corpus.Lang(i%2), corpus.Train, i).Text + "\n")
	}
	config := `{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":16,"intermediate_size":32,"num_hidden_layers":2,"num_attention_heads":2,
"rms_norm_eps":1e-5,"vocab_size":4096,"max_position_embeddings":64,"tie_word_embeddings":true}`
	for name, data := range map[string]string{"config.json": config, "stories.txt": text.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return append([]string{"train", "stage=pt", "model_name_or_path=" + dir, "train_from_scratch=true", "tokenizer_name_or_path=llama-tiny",
		"dataset=" + filepath.Join(dir, "stories.txt"), "output_dir=" + out, "cutoff_len=32", "per_device_train_batch_size=2", "logging_steps=1",
		"learning_rate=1e-3", "report_to=none"}, more...)
}

// stepLosses are the losses of metrics.jsonl by step; a step that stands twice is an error.
func stepLosses(t *testing.T, dir string) map[float64]float64 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	losses := map[float64]float64{}
	for line := range strings.Lines(string(data)) {
		var r struct{ Step, Loss float64 }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if _, ok := losses[r.Step]; ok {
			t.Errorf("step %v stands twice in %s", r.Step, dir)
		}
		losses[r.Step] = r.Loss
	}
	return losses
}

// waitFor waits until a run has logged n steps.
func waitFor(t *testing.T, dir string, n int, out *bytes.Buffer) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		data, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
		if err == nil && bytes.Count(data, []byte("\n")) >= n {
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("no %d steps within a minute", n)
		}
	}
}

func TestKilledRunsGoOn(t *testing.T) {
	whole, killed := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "killed")
	more := []string{"max_steps=60", "save_steps=3", "save_total_limit=2"}
	if status, _, stderr := execute(t, tinyRun(t, whole, more...)...); status != exitOK {
		t.Fatal(stderr)
	}
	args := tinyRun(t, killed, more...)
	// Each kill comes later in the run, and at another moment of a step or a checkpoint.
	for k := range 9 {
		cmd, out := program(t, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, killed, 4+6*k, out)
		time.Sleep(time.Duration(k) * 1700 * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if newest, damaged, err := train.Newest(killed); err != nil || newest == "" || len(damaged) > 0 {
			t.Fatalf("after kill %d: newest checkpoint %q, damaged %v, %v\n%s", k, newest, damaged, err, out)
		}
	}
	cmd, out := program(t, args...)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := stepLosses(t, killed), stepLosses(t, whole); len(want) != 60 || !reflect.DeepEqual(got, want) {
		t.Errorf("the losses of a run killed nine times differ:\n%v\n%v", got, want)
	}
	a, err := os.ReadFile(filepath.Join(whole, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(killed, "model.safetensors")); err != nil || !bytes.Equal(a, b) {
		t.Errorf("the models differ (%v)", err)
	}
	if status, _, stderr := execute(t, args...); status != exitOK || !strings.Contains(stderr, "60") {
		t.Errorf("a finished run: %d %s", status, stderr)
	}
}

func TestInterruptSavesAndExits(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no way to send another process an interrupt")
	}
	out := filepath.Join(t.TempDir(), "out")
	args := tinyRun(t, out, "max_steps=100000", "save_steps=50000")
	cmd, text := program(t, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, out, 5, text)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	newest, damaged, err := train.Newest(out)
	if err != nil || newest == "" || len(damaged) > 0 {
		t.Fatalf("%q %v %v\n%s", newest, damaged, err, text)
	}
	steps := len(stepLosses(t, out))
	if want := fmt.Sprintf("checkpoint-%d", steps); filepath.Base(newest) != want {
		t.Errorf("%s was saved, and %d steps were logged", newest, steps)
	}
}

func TestOutputDirectory(t *testing.T) {
	base := t.TempDir()
	dir := func(name string) string { return filepath.Join(base, name) }
	run := func(out string, more ...string) (int, string) {
		status, _, stderr := execute(t, tinyRun(t, out, more...)...)
		return status, stderr
	}
	if err := os.MkdirAll(dir("full"), 0o755); err != nil {
		t.Fatal(err)
	}
	notes := filepath.Join(dir("full"), "notes.md")
	if err := os.WriteFile(notes, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if status, stderr := run(dir("full"), "max_steps=2"); status != exitInput || !strings.Contains(stderr, "output_dir") || !strings.Contains(stderr, "overwrite_output_dir") {
		t.Errorf("a folder of other files: %d %s", status, stderr)
	}
	// Overwriting leaves what no run wrote.
	if status, stderr := run(dir("full"), "max_steps=2", "overwrite_output_dir=true"); status != exitOK {
		t.Errorf("%d %s", status, stderr)
	}
	if text, err := os.ReadFile(notes); err != nil || string(text) != "mine" {
		t.Errorf("the user's file: %q %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir("full"), "checkpoint-2", "model.safetensors")); err != nil {
		t.Error(err)
	}
	// A folder with checkpoints is gone on from, also where none is asked for; with false it is an error.
	if status, stderr := run(dir("full"), "max_steps=4", "resume_from_checkpoint=false"); status != exitInput || !strings.Contains(stderr, "checkpoint-2") {
		t.Errorf("%d %s", status, stderr)
	}
	if status, stderr := run(dir("full"), "max_steps=4"); status != exitOK || len(stepLosses(t, dir("full"))) != 4 {
		t.Errorf("%d %s", status, stderr)
	}
	// A run that never comes to a checkpoint leaves the old one in its place.
	if status, stderr := run(dir("full"), "max_steps=20", "overwrite_output_dir=true", "learning_rate=1e30", "max_grad_norm=0"); status != exitFail {
		t.Errorf("%d %s", status, stderr)
	}
	if newest, _, err := train.Newest(dir("full")); err != nil || filepath.Base(newest) != "checkpoint-4" || len(stepLosses(t, dir("full"))) != 4 {
		t.Errorf("the old run is not as it was: %s %v", newest, err)
	}
	// true starts where there is nothing; a path that is no checkpoint is an error.
	if status, stderr := run(dir("new"), "max_steps=1", "resume_from_checkpoint=true"); status != exitOK {
		t.Errorf("%d %s", status, stderr)
	}
	if status, stderr := run(dir("other"), "max_steps=1", "resume_from_checkpoint="+dir("none")); status != exitInput || !strings.Contains(stderr, "resume_from_checkpoint") {
		t.Errorf("%d %s", status, stderr)
	}
	// Other data than the checkpoint's are refused.
	if status, stderr := run(dir("full"), "max_steps=6", "cutoff_len=24"); status != exitInput || !strings.Contains(stderr, "cutoff_len") {
		t.Errorf("%d %s", status, stderr)
	}
}

func TestBuiltinRecipes(t *testing.T) {
	status, out, stderr := execute(t, "recipe", "list", "--json")
	var list []described
	if err := json.Unmarshal([]byte(out), &list); status != exitOK || err != nil || len(list) == 0 {
		t.Fatalf("%d %s %v", status, stderr, err)
	}
	for _, r := range list {
		if r.Description == "" {
			t.Errorf("%s has no description", r.Name)
		}
		// Only what a user has to name is missing.
		args := []string{r.Name, "output_dir=y"}
		text, err := builtinRecipe(r.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\nmodel_name_or_path:") {
			args = append(args, "model_name_or_path=z")
		}
		if !strings.Contains(string(text), "\n    dataset: ") {
			args = append(args, "dataset=x")
		}
		if _, err := loadRecipe(args); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		if status, out, _ := execute(t, "recipe", "show", r.Name); status != exitOK || !strings.Contains(out, "stage: ") {
			t.Errorf("show %s: %d %s", r.Name, status, out)
		}
	}
	t.Chdir(t.TempDir())
	if err := os.Mkdir(list[0].Name, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := loadRecipe([]string{list[0].Name}); err != nil {
		t.Errorf("beside a folder of its name: %v", err)
	}
	if status, _, stderr := execute(t, "train", "nothing_like_it"); status != exitInput || !strings.Contains(stderr, list[0].Name) {
		t.Errorf("%d %s", status, stderr)
	}
}

func TestDataPreview(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	args := append([]string{"data", "preview"}, tinyRun(t, out)[1:]...)
	status, text, stderr := execute(t, append(args, "--samples", "2")...)
	if status != exitOK || strings.Count(text, "ids [") != 2 || !strings.Contains(text, "<|endoftext|>") {
		t.Errorf("%d %s %s", status, text, stderr)
	}
	if status, text, stderr := execute(t, append(args, "--svg")...); status != exitOK || !strings.HasPrefix(text, "<svg") {
		t.Errorf("%d %.200s %s", status, text, stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a preview made the output folder")
	}
}
