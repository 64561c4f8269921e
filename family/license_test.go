package family

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLicense(t *testing.T) {
	folder := func(name string, files map[string]string) string {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for f, text := range files {
			if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for _, c := range []struct {
		path, gguf, id string
		use            Commercial
	}{
		{folder("m1", map[string]string{"README.md": "---\nlicense: apache-2.0\ntags: [x]\n---\n# Card\n"}), "", "apache-2.0", CommercialYes},
		{folder("m2", map[string]string{"README.md": "---\nlicense: other\nlicense_name: qwen-research\n---\n"}), "", "qwen-research", CommercialNo},
		{folder("m3", map[string]string{"README.md": "---\nlicense:\n- mit\n---\n"}), "", "mit", CommercialYes},
		{folder("m4", map[string]string{"README.md": "no front matter", "LICENSE": "LLAMA 2 COMMUNITY LICENSE AGREEMENT"}), "", "llama2", CommercialConditions},
		{folder("m5", map[string]string{"README.md": "---\nlicense: strange-1\n---\n"}), "", "strange-1", CommercialUnknown},
		{folder("m6", map[string]string{"README.md": "---\n: [\n---\n"}), "", "unknown", CommercialUnknown},
		{folder("vicuna-7b-v1.3", nil), "", "llama-1", CommercialNo},
		{folder("vicuna-7b-v1.5", nil), "", "llama2", CommercialConditions},
		{"/cache/models--Qwen--Qwen3-0.6B/snapshots/abc", "", "apache-2.0", CommercialYes},
		{"x.gguf", "MIT", "mit", CommercialYes},
		{"llama-7b", "", "llama-1", CommercialNo}, {"llama-33b", "", "llama-1", CommercialNo}, {"llama-2-34b", "", "llama2", CommercialConditions},
		{"llama-3.1-8b", "", "llama3.1", CommercialConditions}, {"deepseek-r1-distill-qwen-7b", "", "mit", CommercialYes},
		{"deepseek-v3", "", "deepseek", CommercialConditions}, {"yi-1.5-9b", "", "apache-2.0", CommercialYes}, {"glm-130b", "", "glm-130b", CommercialNo},
		{"qwen2.5-3b", "", "qwen-research", CommercialNo}, {"qwen2.5-7b", "", "apache-2.0", CommercialYes}, {"codegeex2-6b", "", "codegeex", CommercialConditions},
		{"llama-tiny", "", "unknown", CommercialUnknown},
	} {
		if l := LicenseOf(c.path, c.gguf); l.ID != c.id || l.Commercial != c.use {
			t.Errorf("%s: %+v, want %s, %s", c.path, l, c.id, c.use)
		}
	}
}
