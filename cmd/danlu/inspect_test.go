package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

func TestInspect(t *testing.T) {
	for _, name := range []string{filepath.Join(numtest.Goldens(t, "models"), "qwen2"), "qwen3-30b-a3b", "yi-vl-34b"} {
		status, stdout, stderr := execute(t, "inspect", name, "--json")
		var got struct {
			Architecture string `json:"architecture"`
			Total        int64  `json:"params_total"`
			Active       int64  `json:"params_active"`
			KV           int64  `json:"kv_bytes_per_token"`
			Context      int    `json:"context"`
			License      string `json:"license"`
		}
		if err := json.Unmarshal([]byte(stdout), &got); status != exitOK || err != nil || stderr != "" {
			t.Fatalf("%s: status %d, %v, %s", name, status, err, stderr)
		}
		if got.Architecture == "" || got.Total < got.Active || got.Active <= 0 || got.KV <= 0 || got.Context <= 0 || got.License != "apache-2.0" {
			t.Errorf("%s: %+v", name, got)
		}
		if status, stdout, _ := execute(t, "inspect", name); status != exitOK || !strings.Contains(stdout, got.Architecture) {
			t.Errorf("%s: status %d, %s", name, status, stdout)
		}
	}
	refused(t, "no model", []string{"no-such-model"}, "inspect", "no-such-model")
}
