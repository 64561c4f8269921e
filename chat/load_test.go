package chat

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/tokenizer"
)

// folder writes a model folder with a tokenizer and the given files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	vocabulary, err := os.ReadFile("testdata/bpe/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), vocabulary, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFromModel(t *testing.T) {
	const plain, tooled = `[{"role":"user","content":"x"}]`, `{"messages":[{"role":"user","content":"x"}],"tools":[{"name":"f"}]}`
	for name, c := range map[string]struct {
		files      map[string]string
		in, want   string
		fault      string
		noTemplate bool
	}{
		"string":              {files: map[string]string{"tokenizer_config.json": `{"chat_template":"{{ eos_token }}{{ messages[0].content }}","eos_token":"<|im_end|>"}`}, in: plain, want: "<|im_end|>x"},
		"token as object":     {files: map[string]string{"tokenizer_config.json": `{"chat_template":"{{ bos_token }}","bos_token":{"content":"<s>","lstrip":false}}`}, in: plain, want: "<s>"},
		"token from the map":  {files: map[string]string{"tokenizer_config.json": `{"chat_template":"{{ unk_token }}"}`, "special_tokens_map.json": `{"unk_token":"<unk>"}`}, in: plain, want: "<unk>"},
		"list, default":       {files: map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"default","template":"D"},{"name":"tool_use","template":"T"}]}`}, in: plain, want: "D"},
		"list, tool_use":      {files: map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"default","template":"D"},{"name":"tool_use","template":"T"}]}`}, in: tooled, want: "T"},
		"jinja file wins":     {files: map[string]string{"tokenizer_config.json": `{"chat_template":"C"}`, "chat_template.jinja": "J\n"}, in: plain, want: "J"},
		"additional template": {files: map[string]string{"chat_template.jinja": "J", "additional_chat_templates/tool_use.jinja": "A"}, in: tooled, want: "A"},
		"processor's file":    {files: map[string]string{"chat_template.json": `{"chat_template":"P"}`}, in: plain, want: "P"},
		"none":                {files: map[string]string{"tokenizer_config.json": `{"eos_token":"</s>"}`}, noTemplate: true},
		"null":                {files: map[string]string{"tokenizer_config.json": `{"chat_template":null}`}, noTemplate: true},
		"broken template":     {files: map[string]string{"chat_template.jinja": "a\n{% if %}"}, fault: "line 2"},
		"broken JSON":         {files: map[string]string{"tokenizer_config.json": `{"chat_template":`}, fault: "tokenizer_config.json"},
		"wrong type":          {files: map[string]string{"tokenizer_config.json": `{"chat_template":5}`}, fault: "want a string or a list"},
	} {
		dir := folder(t, c.files)
		var tok *tokenizer.Tokenizer
		if c.fault == "" {
			var err error
			if tok, err = tokenizer.Load(dir); err != nil {
				t.Fatal(err)
			}
		}
		tmpl, err := FromModel(dir, tok)
		switch {
		case c.noTemplate:
			if !errors.Is(err, ErrNoTemplate) {
				t.Errorf("%s: want ErrNoTemplate, got %v", name, err)
			}
			continue
		case c.fault != "":
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s: want an error with %q, got %v", name, c.fault, err)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := tmpl.Render(parseConversation(t, c.in)); err != nil || got != c.want {
			t.Errorf("%s: want %q, got %q, %v", name, c.want, got, err)
		}
	}
}

func TestParseConversationRefuses(t *testing.T) {
	for in, want := range map[string]string{
		``: "EOF", `5`: "want a JSON list", `{}`: "want a JSON list", `[1]`: "messages[0]", `[{"content":"x"}]`: "role", `[{"role":1}]`: "role",
		`{"messages":[],"tools":5}`: "tools", `{"messages":[],"add_generation_prompt":"yes"}`: "add_generation_prompt", `{"messages":[],"kwargs":[]}`: "kwargs",
		`{"messages":[],"toolz":[]}`: "toolz: unknown key", `[{"role":"user"}] x`: "more text",
	} {
		if _, err := ParseConversation([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error with %q, got %v", in, want, err)
		}
	}
}

func TestContinue(t *testing.T) {
	tmpl := realTemplate(t, "qwen2.5")
	c := parseConversation(t, `{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"The answer is "}],"continue_final_message":true}`)
	want := "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nThe answer is "
	if got, err := tmpl.Render(c); err != nil || got != want {
		t.Errorf("want %q, got %q, %v", want, got, err)
	}
	c.Open = true
	if _, err := tmpl.Render(c); err == nil {
		t.Error("continued and opened at once: want an error")
	}
}

// A dialect by format reads OpenAI messages: calls, results that follow each other, parts.
func TestFormatReadsMessages(t *testing.T) {
	tok, err := tokenizer.Load("testdata/bpe")
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open("", "qwen", tok)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.Prompt(parseConversation(t, `{"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"q"}]},
		{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]},
		{"role":"tool","content":"one"},{"role":"tool","content":"two"}],"add_generation_prompt":true}`))
	if err != nil {
		t.Fatal(err)
	}
	want := "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call><|im_end|>\n" +
		"<|im_start|>user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
	if got := tok.Decode(p.IDs, false); got != want {
		t.Errorf("want %q\ngot  %q", want, got)
	}
	for _, in := range []string{`[{"role":"assistant","content":"x"}]`, `[{"role":"user","content":"x"},{"role":"user","content":"y"}]`, `[{"role":"judge","content":"x"}]`,
		`[{"role":"user","content":"x"},{"role":"system","content":"y"}]`, `[{"role":"user","content":[{"type":"image"}]}]`} {
		if _, err := d.Prompt(parseConversation(t, in)); err == nil {
			t.Errorf("%s: want an error", in)
		}
	}
}
