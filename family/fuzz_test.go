package family

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/dtype"
	"danlu/internal/numtest"
	"danlu/weights"
)

// smallGGUF is a reference model as the bytes of a GGUF.
func smallGGUF(t testing.TB, name string) []byte {
	t.Helper()
	dir := filepath.Join(numtest.Goldens(t, "models"), name)
	config, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		t.Fatal(err)
	}
	src, err := weights.Open(dir, weights.OpenOptions{Skip: notWeights})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	path := filepath.Join(t.TempDir(), "x.gguf")
	if _, err := weights.WriteGGUF(path, src, config, weights.GGUFOptions{DType: dtype.Q8_0, Name: name}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// inspectBytes inspects a damaged file: whatever is wrong with it is one line that names it.
func inspectBytes(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	in, err := Inspect(path)
	if err != nil && (!strings.Contains(err.Error(), filepath.Base(path)) || strings.Contains(err.Error(), "\n")) {
		t.Errorf("the error is %q", err)
	}
	if err == nil && in.WeightBytes > int64(len(data))*8 {
		t.Errorf("%d bytes of tensors in a file of %d", in.WeightBytes, len(data))
	}
}

// TestFlippedGGUF flips bits all over the header of a GGUF.
func TestFlippedGGUF(t *testing.T) {
	good := smallGGUF(t, "qwen2")
	path := filepath.Join(t.TempDir(), "x.gguf")
	inspectBytes(t, path, good)
	header := min(len(good), 4096)
	for i := 0; i < header*8; i += 61 {
		bad := append([]byte(nil), good...)
		bad[i/8] ^= 1 << (i % 8)
		inspectBytes(t, path, bad)
	}
	for n := 0; n < len(good); n += 1 + len(good)/100 {
		inspectBytes(t, path, good[:n])
	}
}

func FuzzGGUF(f *testing.F) {
	f.Add(smallGGUF(f, "qwen2"))
	f.Fuzz(func(t *testing.T, data []byte) { inspectBytes(t, filepath.Join(t.TempDir(), "x.gguf"), data) })
}

// FuzzConfig reads configurations and builds what they describe.
func FuzzConfig(f *testing.F) {
	for _, name := range Presets() {
		data, _ := PresetConfig(name)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, _, err := Parse("x/config.json", data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %q", err)
			}
			return
		}
		if _, err := Count(m); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("the error is %q", err)
		}
	})
}
