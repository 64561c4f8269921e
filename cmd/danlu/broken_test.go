package main

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

// caseFolder copies a reference model into a folder of its own, where a test can damage it.
func caseFolder(t *testing.T, name string) string {
	t.Helper()
	from, to := filepath.Join(numtest.Goldens(t, "models"), name), filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// reheader changes the JSON header of a safetensors file.
func reheader(change func(h map[string]map[string]any)) func([]byte) []byte {
	return func(data []byte) []byte {
		n := binary.LittleEndian.Uint64(data)
		var h map[string]map[string]any
		if err := json.Unmarshal(data[8:8+n], &h); err != nil {
			panic(err)
		}
		change(h)
		header, err := json.Marshal(h)
		if err != nil {
			panic(err)
		}
		out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
		return append(append(out, header...), data[8+n:]...)
	}
}

// reconfig sets keys of config.json.
func reconfig(changes map[string]any) func([]byte) []byte {
	return func(data []byte) []byte {
		var c map[string]any
		if err := json.Unmarshal(data, &c); err != nil {
			panic(err)
		}
		for k, v := range changes {
			c[k] = v
			if v == nil {
				delete(c, k)
			}
		}
		data, err := json.Marshal(c)
		if err != nil {
			panic(err)
		}
		return data
	}
}

const (
	weightsFile = "model.safetensors"
	normTensor  = "model.norm.weight"
)

// damages are ways in which a model folder can be broken, with what the one line of the error must name.
var damages = []struct {
	name, file string
	change     func([]byte) []byte
	want       []string
}{
	{"cut in half", weightsFile, func(b []byte) []byte { return b[:len(b)/2] }, []string{weightsFile, "data_offsets"}},
	{"cut in the header", weightsFile, func(b []byte) []byte { return b[:20] }, []string{weightsFile, "header"}},
	{"empty", weightsFile, func(b []byte) []byte { return nil }, []string{weightsFile, "header"}},
	{"not weights", weightsFile, func(b []byte) []byte { return []byte("<!DOCTYPE html><html>rate limited</html>") }, []string{weightsFile, "header"}},
	{"header too long", weightsFile, func(b []byte) []byte { b[7] = 0x7f; return b }, []string{weightsFile, "header", "exceeds"}},
	{"header flipped", weightsFile, func(b []byte) []byte { b[12] ^= 0x80; return b }, []string{weightsFile, "header", "UTF-8"}},
	{"bytes after the end", weightsFile, func(b []byte) []byte { return append(b, 1, 2, 3, 4) }, []string{weightsFile, "4 bytes belong to no tensor"}},
	{"missing tensor", weightsFile, reheader(func(h map[string]map[string]any) { h["stray"] = h[normTensor]; delete(h, normTensor) }), []string{"missing", normTensor}},
	{"wrong shape", weightsFile, reheader(func(h map[string]map[string]any) {
		n := h[normTensor]["shape"].([]any)[0].(float64)
		h[normTensor]["shape"] = []any{2, n / 2}
	}), []string{normTensor, "want shape"}},
	{"wrong size", weightsFile, reheader(func(h map[string]map[string]any) { h[normTensor]["dtype"] = "F64" }), []string{weightsFile, normTensor, "F64"}},
	{"wrong type", weightsFile, reheader(func(h map[string]map[string]any) { h[normTensor]["dtype"] = "I32" }), []string{normTensor, "want real numbers, got i32"}},
	{"overlap", weightsFile, reheader(func(h map[string]map[string]any) { h["twin"] = h[normTensor] }), []string{weightsFile, "overlap"}},
	{"config cut", "config.json", func(b []byte) []byte { return b[:len(b)/2] }, []string{"config.json"}},
	{"config of a list", "config.json", func(b []byte) []byte { return []byte("[1]") }, []string{"config.json"}},
	{"no architecture", "config.json", reconfig(map[string]any{"architectures": nil}), []string{"config.json", "architectures"}},
	{"strange architecture", "config.json", reconfig(map[string]any{"architectures": []string{"GPT9"}}), []string{"config.json", "architectures", "GPT9"}},
	{"no size", "config.json", reconfig(map[string]any{"hidden_size": nil}), []string{"config.json", "hidden_size", "missing"}},
	{"text as size", "config.json", reconfig(map[string]any{"hidden_size": "64"}), []string{"config.json", "hidden_size"}},
	{"negative size", "config.json", reconfig(map[string]any{"hidden_size": -64}), []string{"config.json", "hidden_size"}},
	{"size overflows", "config.json", reconfig(map[string]any{"hidden_size": 1 << 40}), []string{"config.json", "hidden_size"}},
	{"huge vocabulary", "config.json", reconfig(map[string]any{"vocab_size": 1<<31 - 1}), []string{"want shape"}},
	{"huge width", "config.json", reconfig(map[string]any{"hidden_size": 1 << 30, "head_dim": 16}), []string{"want shape"}},
	{"huge layers", "config.json", reconfig(map[string]any{"num_hidden_layers": 1<<31 - 1}), []string{"config.json", "num_hidden_layers"}},
	{"more layers", "config.json", reconfig(map[string]any{"num_hidden_layers": 8000}), []string{"missing", "model.layers."}},
	{"heads do not divide", "config.json", reconfig(map[string]any{"num_attention_heads": 11, "head_dim": nil}), []string{"config.json", "heads"}},
	{"huge heads", "config.json", reconfig(map[string]any{"head_dim": 1 << 30}), []string{"config.json", "head_dim"}},
	{"strange rope", "config.json", reconfig(map[string]any{"rope_scaling": map[string]any{"rope_type": "spiral", "factor": 2}}), []string{"config.json", "rope_scaling"}},
	{"strange activation", "config.json", reconfig(map[string]any{"hidden_act": "tanhshrink"}), []string{"config.json", "hidden_act"}},
}

// TestBrokenFolders holds every damage against the contract for bad input: exit status 2, one line on standard error that
// names file and field, nothing on standard output, little memory.
func TestBrokenFolders(t *testing.T) {
	for _, d := range damages {
		dir := caseFolder(t, "qwen2")
		rewrite(t, filepath.Join(dir, d.file), d.change)
		refused(t, d.name, d.want, "verify", "--json", dir)
		refused(t, d.name, d.want, "inspect", "--json", dir)
	}
}

// refused runs a command that must fail on its input.
func refused(t *testing.T, name string, want []string, args ...string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	status, stdout, stderr := execute(t, args...)
	runtime.ReadMemStats(&after)
	if status != exitInput || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "danlu "+args[0]+": ") {
		t.Errorf("%s: %s: status %d, stdout %q, stderr %q", args[0], name, status, stdout, stderr)
	}
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			t.Errorf("%s: %s: want %q in %q", args[0], name, w, stderr)
		}
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 100<<20 {
		t.Errorf("%s: %s: allocated %d bytes", args[0], name, used)
	}
}

// TestBrokenIndex gives a folder an index of shards that is not to be trusted.
func TestBrokenIndex(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"above", "../qwen2/model.safetensors", "plain file name"},
		{"absolute", "/etc/passwd", "plain file name"},
		{"below", "sub/model.safetensors", "plain file name"},
		{"back", `..\model.safetensors`, "plain file name"},
		{"drive", "c:model.safetensors", "plain file name"},
		{"parent", "..", "plain file name"},
		{"missing", "model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors"},
		{"folder", "folder", "folder"},
		{"pipe", "pipe", "pipe"},
		{"dangling link", "dangling", "dangling"},
		{"link to itself", "loop", "loop"},
		{"link to other data", "passwd", "passwd"},
	} {
		dir := caseFolder(t, "qwen2")
		if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]string{"dangling": "nowhere", "loop": "loop", "passwd": "/etc/passwd"} {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Skip("SKIPPED: the system makes no links here: ", err)
			}
		}
		if err := makePipe(filepath.Join(dir, "pipe")); err != nil {
			t.Skip("SKIPPED: the system has no named pipes: ", err)
		}
		index, err := json.Marshal(map[string]any{"weight_map": map[string]string{normTensor: c.file}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), index, 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, c.name, []string{c.want}, "verify", "--json", dir)
		refused(t, c.name, []string{c.want}, "inspect", "--json", dir)
	}
}
