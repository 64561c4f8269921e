package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// feed makes text the standard input of the rest of the test.
func feed(t *testing.T, text string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdin
	os.Stdin = f
	t.Cleanup(func() { os.Stdin = old; f.Close() })
}

func TestTokenizerEncodeDecode(t *testing.T) {
	text := "炼丹 with danlu\n<|im_start|>"
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, special := range []string{"text", "parse"} {
		feed(t, string(quoted)+"\n\"\"\n")
		status, ids, stderr := execute(t, "tokenizer", "encode", "llama-tiny", "--special="+special, "--json")
		if status != exitOK || !strings.HasSuffix(ids, "\n[]\n") {
			t.Fatalf("status %d: %s%s", status, ids, stderr)
		}
		feed(t, ids)
		status, back, stderr := execute(t, "tokenizer", "decode", "llama-tiny", "--json")
		var got string
		if err := json.Unmarshal([]byte(strings.SplitN(back, "\n", 2)[0]), &got); err != nil || status != exitOK || got != text {
			t.Errorf("--special=%s: status %d: got %q, want %q (%v) %s", special, status, got, text, err, stderr)
		}
	}
	feed(t, text)
	_, ids, _ := execute(t, "tokenizer", "encode", "llama-tiny")
	feed(t, strings.ReplaceAll(ids, " ", ", "))
	if _, got, _ := execute(t, "tokenizer", "decode", "llama-tiny"); got != text {
		t.Errorf("got %q, want %q", got, text)
	}
}

func TestTokenizerBadInput(t *testing.T) {
	for _, c := range []struct {
		in, want string
		args     []string
	}{
		{"x\n", "line 1: want a JSON string", []string{"encode", "llama-tiny", "--json"}},
		{"[99999]\n", "line 1: id: want 0 to 4095", []string{"decode", "llama-tiny", "--json"}},
		{"1 -2", "id: want 0 to 4095", []string{"decode", "llama-tiny"}},
		{"", "--special", []string{"encode", "llama-tiny", "--special=x"}},
		{"", "neither a folder", []string{"encode", "no-such-model"}},
		{"", "--input: is missing", []string{"train", "--output_dir", "x"}},
		{"", "character_coverage: want 0.98 to 1", []string{"train", "-q", "--input", "tokenizer_test.go", "--output_dir", "x", "--character_coverage", "0.5"}},
		{"", "--pattern: is for", []string{"train", "--input", "tokenizer_test.go", "--output_dir", "x", "--pattern", "gpt2"}},
		{"", "vocab_size: want more than", []string{"train", "-q", "--input", "tokenizer_test.go", "--output_dir", "x", "--vocab_size", "10", "--normalization_rule_name=identity"}},
	} {
		feed(t, c.in)
		status, _, stderr := execute(t, append([]string{"tokenizer"}, c.args...)...)
		if status != exitInput || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: want status 2 and one line with %q, got %d: %s", c.args, c.want, status, stderr)
		}
	}
}

func TestTokenizerTrainMergeStats(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("the cat sat on the mat\n小猫坐在垫子上，小狗也在\n", 50)), 0o644); err != nil {
		t.Fatal(err)
	}
	a, b, m := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "m")
	for _, args := range [][]string{
		{"train", "--input", text, "--output_dir", a, "--vocab_size", "300", "--byte_fallback", "--normalization_rule_name", "identity", "--json"},
		{"train", "--input", text, "--output_dir", b, "--vocab_size", "45", "--normalization-rule-name=identity", "--json"},
		{"merge", filepath.Join(a, "tokenizer.model"), filepath.Join(b, "tokenizer.model"), "--output_dir", m, "--json"},
		{"train", "--input", text, "--output_dir", filepath.Join(dir, "c"), "--model_type", "byte_bpe", "--vocab_size", "280", "--pattern", "qwen2", "--special_tokens", "<|end|>", "--json"},
		{"stats", a, m, filepath.Join(dir, "c"), "--file", text, "--json"},
	} {
		status, stdout, stderr := execute(t, append([]string{"tokenizer"}, args...)...)
		if status != exitOK || !json.Valid([]byte(stdout)) {
			t.Fatalf("%v: status %d: %s%s", args, status, stdout, stderr)
		}
	}
	_, table, _ := execute(t, "tokenizer", "stats", a, m, "--file", text, "--format", "md")
	if !strings.Contains(table, "| zh | m |") || !strings.Contains(table, "| latin | a |") {
		t.Errorf("got %s", table)
	}
	status, stdout, stderr := execute(t, "bench", "tokenizer", a, "--file", text, "--reps", "1", "--json")
	if status != exitOK || !strings.Contains(stdout, "encode_mb_per_s") {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}
