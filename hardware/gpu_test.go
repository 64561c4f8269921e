package hardware

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

// TestGoldenGPUs compares the table with the vendors' figures in the reference data.
func TestGoldenGPUs(t *testing.T) {
	f, err := os.Open(filepath.Join(numtest.Goldens(t, "training/planner_facts"), "gpus.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	known, err := KnownGPUs("")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows[1:] {
		g, err := known.Find(strings.TrimSuffix(r[0], " SXM"))
		if err != nil {
			t.Error(err)
			continue
		}
		for i, got := range []float64{g.MemoryGiB, g.Bandwidth, g.TFLOPS16, g.TFLOPS32, g.TOPSInt8, g.TFLOPSFP8, g.Link, g.Watts} {
			want := 0.0
			if r[i+1] != "" {
				if want, err = strconv.ParseFloat(r[i+1], 64); err != nil {
					t.Fatal(err)
				}
			}
			if got != want {
				t.Errorf("%s: %s: %v, want %v", r[0], rows[0][i+1], got, want)
			}
		}
	}
	numtest.Count(t, "planner_facts gpus", len(rows)-1)
}

func TestFindGPU(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.yaml")
	card := "- {name: rtx-3090, memory_gib: 48, bandwidth_gb_s: 900, tflops_16bit: 70, tflops_fp32: 30, watts: 300, per_node: 2}\n"
	if err := os.WriteFile(file, []byte(card), 0o644); err != nil {
		t.Fatal(err)
	}
	known, err := KnownGPUs(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a10": "A10", "H100": "H100-80GB", "4090": "RTX 4090", "RTX 3090": "rtx-3090"} {
		if g, err := known.Find(name); err != nil || g.Name != want {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
	for name, want := range map[string]string{"a100": "A100-40GB or A100-80GB", "tpu": "is not in the table, which has A100-40GB", "": "is not in the table"} {
		if _, err := known.Find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, bad := range []string{"- {name: x}", card + card, "- {name: x, memory: 3}", "name: x", "- null", "- {name: x, memory_gib: .nan, bandwidth_gb_s: 1, tflops_16bit: 1, tflops_fp32: 1, watts: 1, per_node: 1}"} {
		if l, err := parseGPUs("mine.yaml", []byte(bad)); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v", bad, l, err)
		}
	}
}

func FuzzGPUs(f *testing.F) {
	f.Add(gpusFile)
	f.Add([]byte("- {name: x, memory_gib: 1e999}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseGPUs("fuzz.yaml", data)
		if err != nil {
			return
		}
		for _, g := range list {
			if g.Memory() < 0 {
				t.Errorf("%v", g)
			}
		}
	})
}
