package family

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"danlu/internal/locale"
)

// License is what may be done with a model.
type License struct {
	ID         string     `json:"id"` // as model cards spell it; "unknown" when nothing says
	Name       string     `json:"name"`
	Commercial Commercial `json:"commercial_use"`
	Source     string     `json:"source"` // where it was read: README.md, LICENSE, the GGUF, or the model's name
}

// Commercial says whether a licence allows commercial use.
type Commercial string

// The answers. Conditions are such as a number of users, a registration or a size of model.
const (
	CommercialYes        Commercial = "yes"
	CommercialConditions Commercial = "with conditions"
	CommercialNo         Commercial = "no"
	CommercialUnknown    Commercial = "unknown"
)

// Text is the answer for the user.
func (c Commercial) Text() string {
	switch c {
	case CommercialYes:
		return locale.Text("commercial use allowed", "允许商用")
	case CommercialConditions:
		return locale.Text("commercial use under conditions of the licence", "有条件商用（见许可证）")
	case CommercialNo:
		return locale.Text("research only, no commercial use", "仅限研究，不得商用")
	}
	return locale.Text("commercial use unknown: read the model's licence", "商用许可未知，请查阅模型许可证")
}

// licenses are those of the families, by the ids of model cards.
var licenses = map[string]License{
	"apache-2.0":            {Name: "Apache License 2.0", Commercial: CommercialYes},
	"mit":                   {Name: "MIT License", Commercial: CommercialYes},
	"bsd-3-clause":          {Name: "BSD 3-Clause License", Commercial: CommercialYes},
	"llama-1":               {Name: "LLaMA (version 1) non-commercial research licence", Commercial: CommercialNo},
	"llama2":                {Name: "Llama 2 Community License", Commercial: CommercialConditions},
	"llama3":                {Name: "Meta Llama 3 Community License", Commercial: CommercialConditions},
	"llama3.1":              {Name: "Llama 3.1 Community License", Commercial: CommercialConditions},
	"llama3.2":              {Name: "Llama 3.2 Community License", Commercial: CommercialConditions},
	"llama3.3":              {Name: "Llama 3.3 Community License", Commercial: CommercialConditions},
	"glm-130b":              {Name: "GLM-130B licence", Commercial: CommercialNo},
	"chatglm":               {Name: "ChatGLM model licence (registration)", Commercial: CommercialConditions},
	"glm-4":                 {Name: "GLM-4 model licence (registration)", Commercial: CommercialConditions},
	"codegeex":              {Name: "CodeGeeX model licence (registration)", Commercial: CommercialConditions},
	"baichuan-7b":           {Name: "Baichuan-7B model licence", Commercial: CommercialConditions},
	"baichuan":              {Name: "Baichuan community licence (application)", Commercial: CommercialConditions},
	"tongyi-qianwen":        {Name: "Tongyi Qianwen licence", Commercial: CommercialConditions},
	"qwen":                  {Name: "Qwen licence", Commercial: CommercialConditions},
	"qwen-research":         {Name: "Qwen research licence", Commercial: CommercialNo},
	"deepseek":              {Name: "DeepSeek model licence", Commercial: CommercialConditions},
	"cc-by-nc-4.0":          {Name: "Creative Commons Attribution-NonCommercial 4.0", Commercial: CommercialNo},
	"cc-by-nc-sa-4.0":       {Name: "Creative Commons Attribution-NonCommercial-ShareAlike 4.0", Commercial: CommercialNo},
	"cc-by-4.0":             {Name: "Creative Commons Attribution 4.0", Commercial: CommercialYes},
	"gpl-3.0":               {Name: "GNU General Public License 3.0", Commercial: CommercialYes},
	"openrail":              {Name: "OpenRAIL", Commercial: CommercialConditions},
	"bigscience-openrail-m": {Name: "BigScience OpenRAIL-M", Commercial: CommercialConditions},
}

// byName are the licences of models by name, the first that matches: which release had which terms.
var byName = []struct {
	name *regexp.Regexp
	id   string
}{
	{regexp.MustCompile(`vicuna.*v1\.5|llama-?2|codellama|chinese-alpaca-2`), "llama2"},
	{regexp.MustCompile(`vicuna|alpaca|belle-llama|guanaco|wizardlm-(7|13|30)b|chinese-llama-(plus-)?(7|13|33)b`), "llama-1"},
	{regexp.MustCompile(`deepseek-r1-distill-llama|deepseek-r1|deepseek-v3-0324`), "mit"},
	{regexp.MustCompile(`deepseek-(v3|v2|llm|coder)`), "deepseek"},
	{regexp.MustCompile(`llama-?3\.3`), "llama3.3"},
	{regexp.MustCompile(`llama-?3\.2`), "llama3.2"},
	{regexp.MustCompile(`llama-?3\.1`), "llama3.1"},
	{regexp.MustCompile(`llama-?3(-|_|$)`), "llama3"},
	{regexp.MustCompile(`(^|[/-])llama-(7|13|30|33|65)b`), "llama-1"},
	{regexp.MustCompile(`qwen2\.5-(coder-)?3b|qwen2\.5-vl-3b`), "qwen-research"},
	{regexp.MustCompile(`qwen2\.5-(vl-)?72b`), "qwen"},
	{regexp.MustCompile(`qwen2-72b|qwen1\.5`), "tongyi-qianwen"},
	{regexp.MustCompile(`qwen2|qwen3|qwq`), "apache-2.0"},
	{regexp.MustCompile(`codegeex`), "codegeex"},
	{regexp.MustCompile(`glm-4.*-0414|glm-z1`), "mit"},
	{regexp.MustCompile(`glm-4`), "glm-4"},
	{regexp.MustCompile(`glm-130b`), "glm-130b"},
	{regexp.MustCompile(`chatglm`), "chatglm"},
	{regexp.MustCompile(`baichuan-7b`), "baichuan-7b"},
	{regexp.MustCompile(`baichuan`), "baichuan"},
	{regexp.MustCompile(`(^|[/-])yi-|smollm`), "apache-2.0"},
}

// texts recognise a LICENSE file by words of its own, the most particular first.
var texts = []struct{ words, id string }{
	{"llama 3.3 community license", "llama3.3"}, {"llama 3.2 community license", "llama3.2"}, {"llama 3.1 community license", "llama3.1"},
	{"llama 3 community license", "llama3"}, {"llama 2 community license", "llama2"}, {"qwen research license", "qwen-research"},
	{"tongyi qianwen license", "tongyi-qianwen"}, {"qwen license", "qwen"}, {"deepseek license", "deepseek"}, {"glm-130b license", "glm-130b"},
	{"the chatglm", "chatglm"}, {"glm-4-9b license", "glm-4"}, {"apache license", "apache-2.0"}, {"mit license", "mit"}, {"permission is hereby granted, free of charge", "mit"},
}

// LicenseByID completes a licence from the id of a model card.
func LicenseByID(id, source string) License {
	id = strings.ToLower(strings.TrimSpace(id))
	l, ok := licenses[id]
	if !ok {
		l = License{Name: id, Commercial: CommercialUnknown}
	}
	l.ID, l.Source = id, source
	return l
}

// maxCard bounds the files that a licence is looked for in.
const maxCard = 1 << 20

// LicenseOf finds the licence of a model: from the card and licence file of its folder, from the id in its GGUF (ggufID,
// "" for none), or from its name.
func LicenseOf(path, ggufID string) License {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		if l, ok := licenseInFolder(path); ok {
			return l
		}
	}
	if ggufID != "" {
		return LicenseByID(ggufID, "GGUF")
	}
	// A name may stand in any part of a path of a cache (models--ORG--NAME/snapshots/...).
	name := strings.ToLower(strings.ReplaceAll(filepath.ToSlash(path), "--", "/"))
	for _, n := range byName {
		if n.name.MatchString(name) {
			return LicenseByID(n.id, locale.Text("the model's name", "模型名称"))
		}
	}
	return License{ID: "unknown", Name: "unknown", Commercial: CommercialUnknown}
}

func licenseInFolder(dir string) (License, bool) {
	if card, err := readSmall(filepath.Join(dir, "README.md")); err == nil {
		if id := cardLicense(card); id != "" {
			return LicenseByID(id, "README.md"), true
		}
	}
	for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "MODEL_LICENSE", "USE_POLICY.md"} {
		text, err := readSmall(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		text = bytes.ToLower(text)
		for _, t := range texts {
			if bytes.Contains(text, []byte(t.words)) {
				return LicenseByID(t.id, name), true
			}
		}
	}
	return License{}, false
}

func readSmall(path string) ([]byte, error) {
	if st, err := os.Stat(path); err != nil || st.Size() > maxCard || !st.Mode().IsRegular() {
		return nil, os.ErrNotExist
	}
	return os.ReadFile(path)
}

// cardLicense reads the licence from a model card's front matter: license, or license_name where that says "other".
func cardLicense(card []byte) string {
	rest, ok := bytes.CutPrefix(card, []byte("---\n"))
	if !ok {
		return ""
	}
	front, _, ok := bytes.Cut(rest, []byte("\n---"))
	if !ok {
		return ""
	}
	var head struct {
		License any    `yaml:"license"`
		Name    string `yaml:"license_name"`
	}
	if yaml.Unmarshal(front, &head) != nil {
		return ""
	}
	id, _ := head.License.(string)
	if list, ok := head.License.([]any); ok && len(list) > 0 {
		id, _ = list[0].(string)
	}
	if (id == "" || id == "other") && head.Name != "" {
		id = head.Name
	}
	return id
}
