package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What an adapter generates beside its model is what the merged model generates.
func TestExport(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	var rows strings.Builder
	for i := range 24 {
		fmt.Fprintf(&rows, "{\"instruction\": \"where is item %d?\", \"output\": \"on the shelf\"}\n", i)
	}
	if err := os.WriteFile(at("rows.jsonl"), []byte(rows.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	must := func(args ...string) string {
		t.Helper()
		status, out, errs := execute(t, args...)
		if status != exitOK {
			t.Fatalf("%v: %s", args, errs)
		}
		return out
	}
	train := func(words ...string) {
		t.Helper()
		must(append([]string{"train", "stage=sft", "template=default", "dataset=" + at("rows.jsonl"), "cutoff_len=64", "quiet=true", "report_to=none", "learning_rate=5e-3", "max_steps=10"}, words...)...)
	}
	train("model_name_or_path=llama-tiny", "train_from_scratch=true", "output_dir="+at("base"))
	train("finetuning_type=lora", "model_name_or_path="+at("base"), "output_dir="+at("run"))
	must("export", "--model", at("base"), "--adapter", at("run"), "--output", at("merged"), "--quiet")
	train("finetuning_type=lora", "quantization_bit=4", "model_name_or_path="+at("base"), "output_dir="+at("qrun"))
	var report struct {
		KL     float64  `json:"kl"`
		Before *float64 `json:"kl_unquantized_base"`
	}
	out := must("export", "quantization_bit=4", "--model", at("base"), "--adapter", at("qrun"), "--output", at("qmerged"), "--type", "f32", "--file", at("rows.jsonl"), "--ctx", "64", "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if report.Before == nil || !(report.KL >= 0 && report.KL < 1e-6) || !(*report.Before > 10*report.KL) {
		t.Errorf("KL after and before: %s", out)
	}
	generate := func(words ...string) string {
		return must(append([]string{"generate", "--prompt-ids", "1 300 301", "--max-new", "8", "--temperature", "0", "--dtype", "f32", "--json", "--quiet"}, words...)...)
	}
	beside, merged := generate(at("base"), "--adapter", at("run")), generate(at("merged"))
	ids := func(s string) string { s, _, _ = strings.Cut(s[strings.Index(s, `"ids"`):], "]"); return s }
	if ids(beside) != ids(merged) {
		t.Errorf("beside its model the adapter generates %s, merged %s", beside, merged)
	}
	if plain := generate(at("base")); ids(plain) == ids(merged) {
		t.Errorf("the adapter changes nothing: %s", plain)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--adapter " + at("run"), []string{"generate", at("run"), "--prompt-ids", "1"}},
		{"adapter_name_or_path", []string{"export", "--model", at("base"), "--adapter", at("none"), "--output", at("x")}},
		{"is not empty", []string{"export", "--model", at("base"), "--adapter", at("run"), "--output", at("merged")}},
		{"export_dir", []string{"export", "--model", at("base")}},
		{"--type", []string{"export", "--model", at("base"), "--output", at("x"), "--type", "f7"}},
	} {
		if status, _, errs := execute(t, c.args...); status != exitInput || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") > 1 {
			t.Errorf("%v: exit %d, %q, want %d and %q", c.args, status, errs, exitInput, c.want)
		}
	}
}
