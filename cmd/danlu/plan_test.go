package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlan(t *testing.T) {
	t.Setenv("DANLU_LANG", "en")
	recipe := filepath.Join(t.TempDir(), "tune.yaml")
	if err := os.WriteFile(recipe, []byte("model_name_or_path: qwen3-8b\ndataset: x.json\ntemplate: qwen\noutput_dir: out\nfinetuning_type: lora\nbf16: true\ncutoff_len: 1024\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	status, out, errs := execute(t, "plan", recipe, "lora_rank=16", "--batch", "3", "--tokens", "1e8", "--json")
	var p struct {
		Task           string
		Context, Batch int
		GPUs           int
		Memory         map[string]int64 `json:"memory_bytes"`
		CPU            int64            `json:"cpu_memory_bytes"`
		Disk           int64            `json:"disk_bytes"`
		Speed          float64          `json:"tokens_per_s"`
		Hours          float64
		Cost           float64
		Energy         float64 `json:"energy_kwh"`
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil || status != exitOK {
		t.Fatalf("status %d, %v\n%s%s", status, err, out, errs)
	}
	if p.Task != "lora" || p.Context != 1024 || p.Batch != 3 || p.GPUs != 1 || p.CPU == 0 || p.Disk == 0 || p.Speed == 0 || p.Hours == 0 || p.Cost == 0 || p.Energy == 0 {
		t.Errorf("%s", out)
	}
	sum := int64(0)
	for key, n := range p.Memory {
		if key != "total" {
			sum += n
		}
	}
	if len(p.Memory) != 8 || sum != p.Memory["total"] || p.Memory["optimizer"] == 0 {
		t.Errorf("%v", p.Memory)
	}
	if status, out, _ = execute(t, "plan", "70B", "--gpu", "4090", "--gpus", "1"); status != exitFail || !strings.Contains(out, "DOES NOT FIT") || !strings.Contains(out, "change") {
		t.Errorf("status %d\n%s", status, out)
	}
	for _, c := range []struct{ args, want string }{
		{"plan 7B --gpu tpu", "A100-40GB, A100-80GB"},
		{"plan 7B --task sft", "task: want"},
		{"plan 7B extra", "unexpected argument"},
		{"plan table --format pdf", "format: want"},
		{"plan pipeline --schedule GPipe", "schedule: want"},
		{"plan 7B --hardware no-such.yaml", "no-such.yaml"},
	} {
		status, out, errs := execute(t, strings.Fields(c.args)...)
		if status != exitInput || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 || out != "" {
			t.Errorf("%s: status %d, %q", c.args, status, errs)
		}
	}
	page := filepath.Join(t.TempDir(), "plan.html")
	if status, out, errs = execute(t, "plan", recipe, "--html", page); status != exitOK || out != "" {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if data, err := os.ReadFile(page); err != nil || !strings.Contains(string(data), "qwen3-8b") {
		t.Errorf("%v", err)
	}
	svg := filepath.Join(t.TempDir(), "p.svg")
	if status, out, errs = execute(t, "plan", "pipeline", "--schedule", "DualPipe", "--ranks", "8", "--micro-batches", "20", "--svg", svg); status != exitOK || !strings.Contains(out, "6 by the published formula") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if data, err := os.ReadFile(svg); err != nil || !strings.HasPrefix(string(data), "<svg") {
		t.Errorf("%v", err)
	}
}
