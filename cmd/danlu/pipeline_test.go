package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// everyStage is a pipeline with each kind of stage, on a model whose steps take milliseconds.
const everyStage = `
model_name_or_path: stage:pt
finetuning_type: full
template: default
cutoff_len: 48
seed: 1
report_to: none
logging_steps: 1
save_steps: 2
save_total_limit: 1
max_steps: 8
learning_rate: 1.0e-3
per_device_train_batch_size: 4
num_generations: 2
max_completion_length: 8
max_new_tokens: 8
reward_funcs: [language, repetition]
output_dir: OUT
stages:
- {name: pt, stage: pt, model_name_or_path: CONFIG, train_from_scratch: true, tokenizer_name_or_path: llama-tiny, dataset: "corpus:documents:400"}
- {name: sft, stage: sft, dataset: "corpus:additions:80"}
- {name: rm, stage: rm, dataset: "corpus:pairs:80"}
- {name: dpo, stage: dpo, dataset: "corpus:pairs:80"}
- {name: kto, stage: kto, dataset: KTO}
- {name: ppo, stage: ppo, dataset: "corpus:questions:80", reward_model: stage:rm, reward_model_type: full}
- {name: grpo, stage: grpo, dataset: "corpus:questions:80"}
- {name: distill, stage: distill, teacher_model: stage:sft, dataset: "corpus:additions:80"}
- {name: rft, stage: rft, dataset: "corpus:questions:400", reward_threshold: -9}
- {name: last, stage: sft, dataset: stage:rft}
probes:
- {name: held, of: [sft, grpo], dataset: "corpus:held-out-questions:20", reward_funcs: [language]}
`

// pipelineArgs are the words that train everyStage into a folder.
func pipelineArgs(t *testing.T, out string) []string {
	t.Helper()
	dir := t.TempDir()
	config := `{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":16,"intermediate_size":32,"num_hidden_layers":2,"num_attention_heads":2,
"rms_norm_eps":1e-5,"vocab_size":4096,"max_position_embeddings":64,"tie_word_embeddings":true}`
	row := `{"instruction": "2 + 3", "output": "5", "kto_tag": true}` + "\n" + `{"instruction": "2 + 4", "output": "5", "kto_tag": false}` + "\n"
	text := strings.NewReplacer("OUT", out, "CONFIG", filepath.Join(dir, "config.json"), "KTO", filepath.Join(dir, "kto.jsonl")).Replace(everyStage)
	for name, data := range map[string]string{"config.json": config, "kto.jsonl": strings.Repeat(row, 20), "every.yaml": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"train", filepath.Join(dir, "every.yaml")}
}

// A pipeline that is killed in every stage comes to the same models, data and marks as one that is not.
func TestKilledPipelineGoesOn(t *testing.T) {
	whole, killed := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "killed")
	if status, _, stderr := execute(t, pipelineArgs(t, whole)...); status != exitOK {
		t.Fatal(stderr)
	}
	args := pipelineArgs(t, killed)
	stages := []string{"pt", "sft", "rm", "dpo", "kto", "ppo", "grpo", "distill", "rft", "last"}
	for _, stage := range stages {
		cmd, out := program(t, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitInside(t, filepath.Join(killed, stage), out)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
	}
	cmd, out := program(t, args...)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, stage := range stages {
		name := "model.safetensors"
		if stage == "rft" {
			name = "rft.jsonl"
		}
		a, err := os.ReadFile(filepath.Join(whole, stage, name))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(killed, stage, name)); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %s differs (%v)", stage, name, err)
		}
	}
	page, err := os.ReadFile(filepath.Join(killed, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"Held-out evaluation", "留出集评测", "<polyline", "<h3>held</h3>"} {
		if !strings.Contains(string(page), part) {
			t.Errorf("the report does not hold %q", part)
		}
	}
	if strings.Contains(string(page), "src=") || strings.Contains(string(page), "href=") {
		t.Error("the report is not one file")
	}
	// A finished pipeline has nothing to do; with another rate in a finished stage it is refused.
	start := time.Now()
	if status, _, stderr := execute(t, args...); status != exitOK || time.Since(start) > 10*time.Second {
		t.Errorf("a finished pipeline: %d, %v, %s", status, time.Since(start), stderr)
	}
	if status, _, stderr := execute(t, append(args, "dpo.learning_rate=2e-3")...); status != exitInput || !strings.Contains(stderr, "learning_rate") || !strings.Contains(stderr, "dpo") {
		t.Errorf("%d %s", status, stderr)
	}
}

// waitInside waits until a stage has done some steps, or collected some answers.
func waitInside(t *testing.T, dir string, out *bytes.Buffer) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		if data, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl")); err == nil && bytes.Count(data, []byte("\n")) >= 3 {
			return
		}
		if _, err := os.Stat(filepath.Join(dir, "answers", "progress.json")); err == nil {
			return
		}
		if time.Since(start) > 2*time.Minute {
			t.Fatalf("%s: no steps within two minutes\n%s", dir, out)
		}
	}
}
