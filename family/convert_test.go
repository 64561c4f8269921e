package family

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/internal/numtest"
	"danlu/quant"
	"danlu/weights"
)

// TestGoldenRoundTrip writes every reference model as sharded safetensors and holds each tensor and each file beside them
// against the original, bit by bit.
func TestGoldenRoundTrip(t *testing.T) {
	root := numtest.Goldens(t, "models")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		cases++
		src, dst := filepath.Join(root, e.Name()), filepath.Join(t.TempDir(), "copy")
		r, err := Convert(src, dst, ConvertOptions{ShardBytes: 40000})
		if err != nil {
			t.Errorf("%s: %v", e.Name(), err)
			continue
		}
		if len(r.Files) < 2 {
			t.Errorf("%s: files %v", e.Name(), r.Files)
		}
		sameTensors(t, e.Name(), src, dst)
		for _, name := range []string{"config.json", "preprocessor_config.json", "vit/config.json"} {
			a, err := os.ReadFile(filepath.Join(src, name))
			if err != nil {
				continue
			}
			if b, err := os.ReadFile(filepath.Join(dst, name)); err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s: %s differs (%v)", e.Name(), name, err)
			}
		}
	}
	numtest.Count(t, "models", cases)
}

func sameTensors(t *testing.T, name, a, b string) {
	t.Helper()
	x, err := weights.Open(a, weights.OpenOptions{Skip: notWeights})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	y, err := weights.Open(b, weights.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	if len(x.Names()) != len(y.Names()) {
		t.Errorf("%s: %d tensors come back as %d", name, len(x.Names()), len(y.Names()))
	}
	for _, n := range x.Names() {
		want, err := x.Tensor(n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := y.Tensor(n)
		if err != nil || got.String() != want.String() || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: tensor %s comes back as %v, want %v (%v)", name, n, got, want, err)
		}
	}
}

func TestConvertTypes(t *testing.T) {
	src := filepath.Join(numtest.Goldens(t, "models"), "qwen2")
	dir := t.TempDir()
	half := filepath.Join(dir, "half")
	if _, err := Convert(src, half, ConvertOptions{DType: dtype.BF16}); err != nil {
		t.Fatal(err)
	}
	if config, err := os.ReadFile(filepath.Join(half, configFile)); err != nil || !strings.Contains(string(config), `"torch_dtype": "bfloat16"`) {
		t.Errorf("config.json: %s %v", config, err)
	}
	x, err := weights.Open(src, weights.OpenOptions{Skip: notWeights})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	y, err := weights.Open(half, weights.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	for _, n := range x.Names() {
		a, err := x.Tensor(n)
		if err != nil {
			t.Fatal(err)
		}
		b, err := y.Tensor(n)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, len(b.Data))
		if err := quant.Quantize(dtype.BF16, want, a.F32()); err != nil || !bytes.Equal(want, b.Data) || b.DType != dtype.BF16 {
			t.Errorf("tensor %s: %v (%v)", n, b, err)
		}
	}
}

// TestConvertRefuses holds what cannot be written, and that nothing is left of it.
func TestConvertRefuses(t *testing.T) {
	src := filepath.Join(numtest.Goldens(t, "models"), "qwen2")
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	if err := os.Mkdir(full, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		src, dst string
		opts     ConvertOptions
		want     string
	}{
		{src, full, ConvertOptions{}, "is not empty"},
		{src, filepath.Join(dir, "a"), ConvertOptions{DType: dtype.Q8_0}, "safetensors hold f32, bf16 or f16"},
		{src, filepath.Join(dir, "a.gguf"), ConvertOptions{Format: FormatSafetensors}, "want the name of a folder"},
		{src, filepath.Join(dir, "a"), ConvertOptions{Format: FormatGGUF}, "ends in .gguf"},
		{src, filepath.Join(dir, "a"), ConvertOptions{Format: "onnx"}, "want safetensors, gguf or mmproj"},
		{filepath.Join(numtest.Goldens(t, "models"), "yi-vl"), filepath.Join(dir, "a.gguf"), ConvertOptions{}, "has no architecture in GGUF"},
		{filepath.Join(dir, "none"), filepath.Join(dir, "a"), ConvertOptions{}, "none"},
		{"qwen3-0.6b", filepath.Join(dir, "a"), ConvertOptions{}, "is a shape"},
	} {
		if _, err := Convert(c.src, c.dst, c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: want an error about %q, got %v", c.src, c.dst, c.want, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", fmt.Sprint(left), err)
	}
}
