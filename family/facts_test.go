package family

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"danlu/internal/numtest"
)

// TestGoldenModelFacts holds the counts of every published model against the reference, from its config and, where there
// is one, from the preset of its name.
func TestGoldenModelFacts(t *testing.T) {
	f, err := os.Open(filepath.Join(numtest.Goldens(t, "training/planner_facts"), "models.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	presets := 0
	for _, row := range rows[1:] {
		name := row[column["model"]]
		want := func(key string) int64 {
			n, err := strconv.ParseInt(row[column[key]], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		check := func(source string, m Model, err error) {
			if err != nil {
				t.Errorf("%s: %s: %v", source, name, err)
				return
			}
			got, err := Count(m)
			if err != nil || got.ParamsTotal != want("params_total") || got.ParamsActive != want("params_active") || got.KVBytesPerToken != want("kv_bytes_per_token_bf16") {
				t.Errorf("%s: %s: got %+v (%v), want %d, %d active, %d bytes of cache", source, name, got, err, want("params_total"), want("params_active"), want("kv_bytes_per_token_bf16"))
			}
		}
		m, _, err := Load(filepath.Join(numtest.GoldensDir(), filepath.FromSlash(row[column["config"]])))
		check("config", m, err)
		if _, ok := PresetConfig(name); ok {
			presets++
			m, _, err := Preset(name)
			check("preset", m, err)
		}
	}
	numtest.Count(t, "planner_facts", len(rows)-1)
	if presets == 0 {
		t.Error("no model of the reference is a preset")
	}
}

// TestPresets builds every preset; those that have no row in the reference data are held against published sizes.
func TestPresets(t *testing.T) {
	sizes := map[string]int64{
		"llama-2-34b": 33743970304, "yi-1.5-6b": 6061035520, "yi-1.5-9b": 8829407232, "yi-1.5-34b": 34388917248, "codegeex2-6b": 6243584000, "smollm2-135m": 134515008,
		"llama-3.2-1b": 1235814400, "llama-3.2-3b": 3212749824, "qwq-32b": 32763876352,
	}
	for _, name := range Presets() {
		m, _, err := Preset(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		facts, err := Count(m)
		if err != nil || facts.ParamsTotal <= 0 || facts.ParamsActive > facts.ParamsTotal || facts.KVBytesPerToken <= 0 {
			t.Errorf("%s: %+v %v", name, facts, err)
		}
		if want, ok := sizes[name]; ok && facts.ParamsTotal != want {
			t.Errorf("%s: %d parameters, want %d", name, facts.ParamsTotal, want)
		}
	}
	for name := range sizes {
		if _, ok := PresetConfig(name); !ok {
			t.Errorf("%s is missing", name)
		}
	}
}
