package hardware

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFree(t *testing.T) {
	if n, ok := FreeMemory(); !ok || n < 1<<20 || n > 1<<50 {
		t.Errorf("free memory %d, %v", n, ok)
	}
	if n, ok := FreeDisk(filepath.Join(t.TempDir(), "not", "there", "yet")); !ok || n < 1 {
		t.Errorf("free disk %d, %v", n, ok)
	}
}

func TestGroupLeft(t *testing.T) {
	write := func(dir string, files map[string]string) string {
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for _, c := range []struct {
		name    string
		files   map[string]string
		want    int64
		limited bool
	}{
		{"version 2", map[string]string{"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 500\ninactive_file 150\n"}, 450, true},
		{"version 2 without a limit", map[string]string{"memory.max": "max\n", "memory.current": "700\n"}, 0, false},
		{"version 1", map[string]string{"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "900", "memory/memory.stat": "total_inactive_file 0"}, 100, true},
		{"version 1 without a limit", map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "900"}, 0, false},
		{"over its limit", map[string]string{"memory.max": "100", "memory.current": "700"}, 0, true},
		{"none", nil, 0, false},
	} {
		if got, limited := groupLeft(write(t.TempDir(), c.files)); got != c.want || limited != c.limited {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, got, limited, c.want, c.limited)
		}
	}
}
