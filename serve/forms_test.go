package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"danlu/chat"
	"danlu/generate"
)

// Replies of a model that writes at random have the form that the request wants.
func TestForms(t *testing.T) {
	_, h := tinyServer(t, Options{}, generate.Options{Context: 512, Sequences: 4})
	object := `{"type":"object","properties":{"a":{"type":"integer","minimum":5,"maximum":7},"b":{"enum":["x","y"]}},"required":["a","b"]}`
	isObject := func(s string) bool {
		var v struct {
			A int
			B string
		}
		return json.Unmarshal([]byte(s), &v) == nil && v.A >= 5 && v.A <= 7 && (v.B == "x" || v.B == "y")
	}
	for more, fits := range map[string]func(string) bool{
		`"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":` + object + `}}`: isObject,
		`"json_schema":` + object:                        isObject,
		`"structured_outputs":{"json":` + object + `}`:   isObject,
		`"structured_outputs":{"choice":["yes","no"]}`:   func(s string) bool { return s == "yes" || s == "no" },
		`"structured_outputs":{"regex":"[a-c]{3}-\\d"}`:  func(s string) bool { return len(s) == 5 && s[3] == '-' },
		`"grammar":"root ::= \"<\" [一-龥]{2,4} \">\""`:    func(s string) bool { return strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") },
		`"grammar":"root ::= \"abc\"","ignore_eos":true`: func(s string) bool { return s == "abc" },
	} {
		for seed := range 3 {
			body := fmt.Sprintf(`,"max_tokens":200,"seed":%d,"n":2,%s`, seed, more)
			g := ask(t, h.URL+"/v1/chat/completions", chatBody("go", body))
			texts, reasons, _ := streamed(t, h.URL+"/v1/chat/completions", chatBody("go", body+`,"stream":true`))
			for _, c := range g.Choices {
				if !fits(c.Message.Content) || c.Reason != "stop" || texts[c.Index] != c.Message.Content || reasons[c.Index] != c.Reason {
					t.Errorf("%s: %q (%s), streamed %q (%s)", more, c.Message.Content, c.Reason, texts[c.Index], reasons[c.Index])
				}
			}
		}
	}
	g := ask(t, h.URL+"/v1/completions", `{"prompt":"go","max_tokens":60,"response_format":{"type":"json_object"},"seed":1}`)
	if text := g.Choices[0].Text; !strings.HasPrefix(text, "{") || g.Choices[0].Reason == "stop" && !json.Valid([]byte(text)) {
		t.Errorf("JSON mode: %q", text)
	}
}

// toolServer serves a small model that converses as a family does.
func toolServer(t *testing.T, format string) (*Model, *httptest.Server) {
	t.Helper()
	m := tinyModel(t, generate.Options{Context: 2048, Sequences: 2})
	f, err := chat.Lookup(format, m.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	m.Dialect = chat.NewDialect(nil, f, m.Tokenizer)
	s, err := New(Options{}, m)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.Close(); s.Close() })
	return m, h
}

func TestForcedTools(t *testing.T) {
	_, h := toolServer(t, "qwen3")
	tool := func(name string) string {
		return `{"type":"function","function":{"name":"` + name + `","parameters":{"type":"object","properties":{"n":{"type":"integer","minimum":3,"maximum":4}},"required":["n"]}}}`
	}
	tools := `,"enable_thinking":false,"max_tokens":300,"tools":[` + tool("add") + "," + tool("sub") + "]"
	for more, names := range map[string][]string{`,"tool_choice":"required"`: {"add", "sub"}, `,"tool_choice":{"type":"function","function":{"name":"sub"}}`: {"sub"},
		`,"tool_choice":"required","parallel_tool_calls":false,"stream":true`: {"add", "sub"}} {
		for seed := range 3 {
			status, text := post(t, h.URL+"/v1/chat/completions", chatBody("go", fmt.Sprintf(`%s%s,"seed":%d`, tools, more, seed)))
			if status != http.StatusOK {
				t.Fatalf("%d %s", status, text)
			}
			found := 0
			for _, name := range names {
				found += strings.Count(text, `"name":"`+name+`","arguments":"{`)
			}
			single := strings.Contains(more, "parallel")
			if found == 0 || single && found != 1 || !strings.Contains(text, `"finish_reason":"tool_calls"`) || strings.Count(text, `"name":"`) != found {
				t.Errorf("%s: %d calls of %v in %s", more, found, names, text)
			}
		}
	}
	for more, want := range map[string]string{`,"tool_choice":{"type":"function","function":{"name":"mul"}}`: `no tool is named`, `,"grammar":"root ::= \"a\""`: "exclude each other"} {
		if status, text := post(t, h.URL+"/v1/chat/completions", chatBody("go", tools+more)); status != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", more, status, text)
		}
	}
}

// A form begins behind the thoughts.
func TestFormBehindThoughts(t *testing.T) {
	m := tinyModel(t, generate.Options{Context: 256, Sequences: 2})
	source := "{# </think> #}{{ messages[0].content }}{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>\n{% endif %}"
	template, err := chat.NewTemplate(source, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Dialect = chat.NewDialect(template, nil, m.Tokenizer)
	s, err := New(Options{}, m)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.Close(); s.Close() })
	for more, thinks := range map[string]bool{`,"thinking_budget":5`: true, `,"enable_thinking":false`: false} {
		for seed := range 4 {
			g := ask(t, h.URL+"/v1/chat/completions", chatBody("go", fmt.Sprintf(`,"max_tokens":40,"seed":%d,"structured_outputs":{"choice":["one","two"]}%s`, seed, more)))
			if msg := g.Choices[0].Message; msg.Content != "one" && msg.Content != "two" || (msg.Reasoning != "") != thinks {
				t.Errorf("%s: %q behind %q", more, msg.Content, msg.Reasoning)
			}
		}
	}
}

// Guesses change no reply, alone or beside others, and are counted.
func TestGuesses(t *testing.T) {
	opts := generate.Options{Context: 512, Sequences: 4}
	_, plain := tinyServer(t, Options{}, opts)
	m := tinyModel(t, opts)
	m.Drafter = func() (generate.Drafter, error) { return &generate.NGrams{}, nil }
	s, err := New(Options{}, m)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.Close(); s.Close() })
	for _, more := range []string{`,"max_tokens":60,"temperature":0`, `,"max_tokens":50,"seed":4,"n":3`, `,"max_tokens":40,"seed":1,"logprobs":true`, `,"max_tokens":90,"temperature":0,"structured_outputs":{"regex":"[a-h]{3,70}"}`} {
		want, got := ask(t, plain.URL+"/v1/chat/completions", chatBody("a b a b a b", more)), ask(t, h.URL+"/v1/chat/completions", chatBody("a b a b a b", more))
		for i := range want.Choices {
			if got.Choices[i].Message.Content != want.Choices[i].Message.Content || got.Choices[i].Reason != want.Choices[i].Reason {
				t.Errorf("%s: %q, without guesses %q", more, got.Choices[i].Message.Content, want.Choices[i].Message.Content)
			}
		}
	}
	want := ask(t, plain.URL+"/v1/chat/completions", chatBody("go", `,"max_tokens":60,"temperature":0`))
	text, _ := json.Marshal(want.Choices[0].Message.Content)
	got := ask(t, plain.URL+"/v1/chat/completions", chatBody("go", fmt.Sprintf(`,"max_tokens":60,"temperature":0,"prediction":{"type":"content","content":%s}`, text)))
	if d := got.Usage.Details; got.Choices[0].Message.Content != want.Choices[0].Message.Content || d.Accepted+d.Rejected == 0 {
		t.Errorf("predicted: %q with %+v, want %q", got.Choices[0].Message.Content, d, want.Choices[0].Message.Content)
	}
	if n := metric(t, metricsOf(t, plain.URL), "spec_decode_num_draft_tokens_total"); n != float64(got.Usage.Details.Accepted+got.Usage.Details.Rejected) {
		t.Errorf("%v guesses in the metrics, %+v in the usage", n, got.Usage.Details)
	}
}
