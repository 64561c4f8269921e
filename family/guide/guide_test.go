package guide

import (
	"strings"
	"testing"

	"danlu/family"
)

func TestEveryPresetIsInTheGuide(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, v := range all {
		for _, s := range v.Sizes {
			known[s.Preset] = true
		}
	}
	// Shapes for tests and benchmarks are no published families of the guide.
	for _, p := range family.Presets() {
		if m, _, err := family.Preset(p); err != nil || m.Info().VocabSize <= 49152 && !strings.HasPrefix(p, "llama-") && !strings.HasPrefix(p, "codellama") {
			continue
		}
		if p == "llama-tiny" || p == "llama-33b" || strings.HasSuffix(p, "-v0") {
			continue
		}
		if !known[p] {
			t.Errorf("preset %s is in no version of the guide", p)
		}
	}
}

func TestVersionsAreWhole(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, v := range all {
		if seen[v.ID] {
			t.Errorf("%s is there twice", v.ID)
		}
		seen[v.ID] = true
		for name, s := range map[string]string{"name": v.Name, "family": v.Family, "tokens": v.Tokens, "context": v.Context, "tokenizer": v.Tokenizer, "norm": v.Norm,
			"activation": v.Activation, "positions": v.Positions, "attention": v.Attention, "objective": v.Objective, "licence": v.Licence.Name,
			"strengths": v.Strengths[0], "strengths in Chinese": v.Strengths[1], "limits": v.Limits[0], "limits in Chinese": v.Limits[1]} {
			if s == "" {
				t.Errorf("%s: %s is missing", v.ID, name)
			}
		}
		if (v.Licence.Note[0] == "") != (v.Licence.Note[1] == "") {
			t.Errorf("%s: the licence's note has one language", v.ID)
		}
		for _, d := range v.Disputes {
			if len(d.Values) < 2 {
				t.Errorf("%s: %s: one value is no dispute", v.ID, d.What[0])
			}
		}
	}
}

func TestFind(t *testing.T) {
	for name, want := range map[string]string{"llama2": "llama2", "Qwen3 (dense)": "qwen3", "qwen3-8b": "qwen3", "GLM-130B": "glm-130b"} {
		if v, err := Find(name); err != nil || v.ID != want {
			t.Errorf("Find(%q) = %v, %v, want %s", name, v, err, want)
		}
	}
	if _, err := Find("gpt-9"); err == nil || !strings.Contains(err.Error(), "qwen3") {
		t.Errorf("an unknown name: %v, want an error that lists the known ones", err)
	}
}

func TestRender(t *testing.T) {
	a, err := Find("baichuan-7b")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Find("llama")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range Formats {
		for _, chinese := range []bool{false, true} {
			var out strings.Builder
			if err := Compare(&out, []*Version{a, b}, format, chinese); err != nil {
				t.Fatal(err)
			}
			want := []string{"7B", "1.2T", "1.4T", "2048", "4096", "33B", "arXiv:2302.13971"}
			if chinese {
				want = append(want, "训练 token 数")
			}
			for _, w := range want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%s, Chinese %v: %q is missing", format, chinese, w)
				}
			}
		}
	}
	if err := List(&strings.Builder{}, []*Version{a}, "pdf", false); err == nil {
		t.Error("format pdf was taken")
	}
}
