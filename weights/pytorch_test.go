package weights

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestPyTorchCheckpoints holds the same model in every form of PyTorch's files against its safetensors.
func TestPyTorchCheckpoints(t *testing.T) {
	want, err := Open("testdata/model", OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	for _, kind := range []string{"bin", "sharded", "meta", "bin/pytorch_model.bin"} {
		got, err := Open(filepath.Join("testdata", kind), OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Names()) != len(want.Names()) {
			t.Errorf("%s: %d tensors, want %d", kind, len(got.Names()), len(want.Names()))
		}
		for _, n := range want.Names() {
			a, err := want.Tensor(n)
			if err != nil {
				t.Fatal(err)
			}
			b, err := got.Tensor(n)
			if err != nil || a.String() != b.String() || !bytes.Equal(a.Data, b.Data) {
				t.Errorf("%s: tensor %s: %v (%v), want %v", kind, n, b, err, a)
			}
		}
		got.Close()
	}
}

func TestMetaConfig(t *testing.T) {
	src, err := Open("testdata/meta", OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	data, err := src.(Configured).Config()
	if err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile("testdata/model/config.json")
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(original, &want); err != nil {
		t.Fatal(err)
	}
	for k, v := range want {
		if !reflect.DeepEqual(got[k], v) {
			t.Errorf("%s: got %v, want %v", k, got[k], v)
		}
	}
}

func TestBrokenMeta(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(dir string) error
		want   string
	}{
		{"no params", func(dir string) error { return os.Remove(filepath.Join(dir, "params.json")) }, "params.json"},
		{"params of a list", func(dir string) error { return os.WriteFile(filepath.Join(dir, "params.json"), []byte("[]"), 0o644) }, "params.json"},
		{"no heads", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "params.json"), []byte(`{"dim":16,"n_layers":2}`), 0o644)
		}, "n_heads"},
		{"first part missing", func(dir string) error { return os.Remove(filepath.Join(dir, "consolidated.00.pth")) }, "consolidated.00.pth"},
		{"a part cut", func(dir string) error { return os.Truncate(filepath.Join(dir, "consolidated.01.pth"), 1000) }, "consolidated.01.pth"},
	} {
		dir := filepath.Join(t.TempDir(), "meta")
		if err := os.CopyFS(dir, os.DirFS("testdata/meta")); err != nil {
			t.Fatal(err)
		}
		if err := c.change(dir); err != nil {
			t.Fatal(err)
		}
		if src, err := Open(dir, OpenOptions{}); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", c.name, err)
			if src != nil {
				src.Close()
			}
		}
	}
}
