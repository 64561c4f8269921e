package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A model of the GLM family trained here fills the blanks of a text, continues a text without any, and is scored by
// perplexity; all from its folder alone.
func TestGenerateFills(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("The cat sat on the mat.\n", 60)), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	say := func(args ...string) string {
		t.Helper()
		cmd, said := program(t, args...)
		var stdout strings.Builder
		cmd.Stdout = &stdout
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, said)
		}
		return stdout.String()
	}
	say("train", "stage=pt", "model_name_or_path=glm-tiny", "train_from_scratch=true", "pretraining_objective=infilling", "infilling_mask_ratio=0.4", "dataset="+text, "text_unit=line",
		"cutoff_len=32", "max_steps=150", "per_device_train_batch_size=16", "learning_rate=2e-3", "report_to=none", "output_dir="+out)
	if got := say("generate", out, "The cat [MASK] on the [MASK].", "--temperature", "0", "--quiet"); strings.TrimSpace(got) != "The cat sat on the mat." {
		t.Errorf("filled: %q", got)
	}
	if got := say("generate", out, "The cat sat", "--temperature", "0", "--quiet"); strings.TrimSpace(got) != "on the mat." {
		t.Errorf("continued: %q", got)
	}
	var filled struct {
		Text   string `json:"text"`
		Pieces []struct {
			Text     string    `json:"text"`
			LogProbs []float64 `json:"logprobs"`
			Reason   string    `json:"finish_reason"`
		} `json:"pieces"`
	}
	if err := json.Unmarshal([]byte(say("generate", out, "The [MASK] sat.", "--temperature", "0", "--json", "--max-new", "3")), &filled); err != nil {
		t.Fatal(err)
	}
	if len(filled.Pieces) != 1 || len(filled.Pieces[0].LogProbs) == 0 || !strings.HasPrefix(filled.Text, "The ") {
		t.Errorf("as JSON: %+v", filled)
	}
	var score struct {
		Perplexity float64 `json:"perplexity"`
		Scored     int     `json:"scored_tokens"`
	}
	if err := json.Unmarshal([]byte(say("perplexity", out, "--file", text, "--ctx", "16", "--json")), &score); err != nil {
		t.Fatal(err)
	}
	if score.Scored == 0 || !(score.Perplexity > 1 && score.Perplexity < 1e4) {
		t.Errorf("perplexity %+v", score)
	}
}

// An adapter that was trained with new tokens brings their rows and its tokenizer.
func TestAdapterBringsItsVocabulary(t *testing.T) {
	dir := t.TempDir()
	base, run := filepath.Join(dir, "base"), filepath.Join(dir, "run")
	words := tinyRun(t, base, "max_steps=1")
	for _, args := range [][]string{words, {"train", "stage=pt", "finetuning_type=lora", "model_name_or_path=" + base, "add_tokens=炼丹炉", "dataset=" + strings.TrimPrefix(words[5], "dataset="),
		"cutoff_len=32", "max_steps=1", "report_to=none", "output_dir=" + run}} {
		if cmd, said := program(t, args...); cmd.Run() != nil {
			t.Fatalf("%v:\n%s", args, said)
		}
	}
	tokens := func(more ...string) int {
		t.Helper()
		cmd, said := program(t, append([]string{"generate", base, "炼丹炉", "--max-new", "1", "--json"}, more...)...)
		var stdout strings.Builder
		cmd.Stdout = &stdout
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		var out struct {
			Prompt int `json:"prompt_tokens"`
		}
		if err := json.Unmarshal([]byte(stdout.String()), &out); err != nil {
			t.Fatal(err)
		}
		return out.Prompt
	}
	if with, without := tokens("--adapter", run), tokens(); with != 1 || without < 2 {
		t.Errorf("the new token's text is read as %d tokens with the adapter, %d without", with, without)
	}
}
