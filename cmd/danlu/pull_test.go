package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

// TestPull downloads a reference model from a server that speaks the Hugging Face hub's protocol, and uses it by name.
func TestPull(t *testing.T) {
	model := filepath.Join(numtest.Goldens(t, "models"), "qwen2")
	const commit = "0123456789abcdef0123456789abcdef01234567"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, "/org/qwen2/resolve/"+commit+"/"); ok {
			http.ServeFile(w, r, filepath.Join(model, name))
			return
		}
		if r.URL.Path != "/api/models/org/qwen2/revision/main" {
			http.NotFound(w, r)
			return
		}
		var files []map[string]any
		for _, name := range []string{"config.json", "model.safetensors"} {
			st, err := os.Stat(filepath.Join(model, name))
			if err != nil {
				t.Error(err)
				return
			}
			files = append(files, map[string]any{"rfilename": name, "size": st.Size()})
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"sha": commit, "siblings": files, "cardData": map[string]any{"license": "apache-2.0"}}); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	t.Setenv("HF_ENDPOINT", server.URL)
	t.Setenv("HF_HOME", t.TempDir())
	t.Setenv("MODELSCOPE_CACHE", t.TempDir())
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "USE_MODELSCOPE_HUB", "HF_TOKEN"} {
		t.Setenv(name, "")
	}
	refused(t, "not downloaded", []string{"danlu pull org/qwen2"}, "generate", "org/qwen2", "--prompt-ids", "1")
	status, stdout, stderr := execute(t, "pull", "org/qwen2")
	if status != exitOK || !strings.Contains(stderr, "Apache License 2.0") || !strings.Contains(stdout, commit) {
		t.Fatalf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	for _, args := range [][]string{{"inspect", "org/qwen2", "--json"}, {"list"}, {"generate", "org/qwen2", "--prompt-ids", "1,2", "--max-new", "2", "--json"}} {
		if status, stdout, stderr := execute(t, args...); status != exitOK || stdout == "" {
			t.Errorf("%v: status %d, %s", args, status, stderr)
		}
	}
	t.Setenv("HF_HUB_OFFLINE", "1")
	if status, again, stderr := execute(t, "pull", "org/qwen2"); status != exitOK || again != stdout {
		t.Errorf("offline: status %d, %q, %s", status, again, stderr)
	}
	refused(t, "offline", []string{"HF_HUB_OFFLINE"}, "pull", "org/other")
	if status, _, stderr := execute(t, "rm", "org/qwen2"); status != exitOK {
		t.Errorf("rm: status %d, %s", status, stderr)
	}
	refused(t, "removed", []string{"local store is empty"}, "rm", "org/qwen2")
}
