package serve

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"danlu/generate"
)

// ollamaLines are the objects of an answer.
func ollamaLines(t testing.TB, url, body string) []line {
	t.Helper()
	status, text := post(t, url, body)
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, text)
	}
	var all []line
	for x := range strings.Lines(text) {
		l := line{timing: &timing{}}
		if err := json.Unmarshal([]byte(x), &l); err != nil {
			t.Fatalf("%v in %q", err, x)
		}
		all = append(all, l)
	}
	return all
}

// Ollama's words ask for the answers that OpenAI's ask for, in a stream and as a whole.
func TestOllamaIsTheSameModel(t *testing.T) {
	_, h := tinyServer(t, Options{}, generate.Options{Context: 256, Sequences: 4})
	want := ask(t, h.URL+"/v1/chat/completions", chatBody("tell me", `,"max_tokens":12,"seed":3,"temperature":0.8,"top_k":40`))
	text := want.Choices[0].Message.Content
	const options = `"options":{"num_predict":12,"seed":3,"temperature":0.8,"top_k":40,"num_gpu":1}`
	for _, c := range []struct{ path, body string }{
		{"/api/chat", `{"model":"tiny","messages":[{"role":"user","content":"tell me"}],` + options + `}`},
		{"/api/chat", `{"model":"tiny:latest","stream":false,"keep_alive":"5m","messages":[{"role":"user","content":"tell me"}],` + options + `}`},
		{"/api/generate", `{"model":"tiny","prompt":"tell me",` + options + `}`},
		{"/api/generate", `{"model":"tiny","prompt":"tell me","stream":false,"system":"",` + options + `}`},
	} {
		got := ""
		lines := ollamaLines(t, h.URL+c.path, c.body)
		for i, l := range lines {
			if l.Done != (i == len(lines)-1) || l.Model != "tiny" || l.Created.IsZero() {
				t.Errorf("%s: line %d: %+v", c.body, i, l)
			}
			if l.Message != nil {
				got += l.Message.Content
			} else {
				got += *l.Response
			}
		}
		last := lines[len(lines)-1]
		if strings.Contains(c.body, `"stream":false`) != (len(lines) == 1) || got != text || last.Reason != "length" {
			t.Errorf("%s: want %q, got %q in %d lines, %s", c.body, text, got, len(lines), last.Reason)
		}
		if last.Prompt != want.Usage.Prompt || last.Reply != want.Usage.Completion || last.Total < last.PromptTime+last.ReplyTime || last.PromptTime <= 0 || last.ReplyTime <= 0 {
			t.Errorf("%s: %+v, want %+v", c.body, last.timing, want.Usage)
		}
	}
	raw := ask(t, h.URL+"/v1/completions", `{"prompt":"one","max_tokens":7,"seed":3}`)
	if got := ollamaLines(t, h.URL+"/api/generate", `{"prompt":"one","raw":true,"stream":false,"options":{"num_predict":7,"seed":3}}`); *got[0].Response != raw.Choices[0].Text {
		t.Errorf("raw: want %q, got %q", raw.Choices[0].Text, *got[0].Response)
	}
	short := ollamaLines(t, h.URL+"/api/chat", `{"messages":[{"role":"user","content":"tell me"}],"stream":false,"options":{"num_ctx":40}}`)
	if n := short[0].Prompt + short[0].Reply; n > 40 {
		t.Errorf("a context of 40 tokens held %d", n)
	}
	if loaded := ollamaLines(t, h.URL+"/api/generate", `{"model":"tiny"}`); loaded[0].Reason != "load" || !loaded[0].Done {
		t.Errorf("loading: %+v", loaded[0])
	}
}

func TestOllamaErrors(t *testing.T) {
	_, h := tinyServer(t, Options{}, generate.Options{Context: 64, Sequences: 2})
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/api/chat", `{`, 400, "not a JSON object"},
		{"/api/chat", `{"model":"none","messages":[]}`, 404, "does not exist"},
		{"/api/chat", `{"messages":"x"}`, 400, "want a list"},
		{"/api/chat", `{"messages":[{"role":"user","content":"x"}],"options":{"mirostat":1}}`, 400, "mirostat"},
		{"/api/chat", `{"messages":[{"role":"user","content":"x"}],"options":{"temperature":"hot"}}`, 400, "temperature: want a number"},
		{"/api/chat", `{"messages":[{"role":"user","content":"x"}],"options":{"num_ctx":100}}`, 400, "64 tokens, want at most that, got 100"},
		{"/api/chat", `{"messages":[{"role":"user","content":"a long question"}],"options":{"num_ctx":2}}`, 400, "nothing was cut"},
		{"/api/chat", `{"messages":[{"role":"user","content":"x"}],"think":true}`, 400, "does not think"},
		{"/api/chat", `{"messages":[{"role":"user","content":"x","images":["AAAA"]}]}`, 400, "messages: [0].content[0]"},
		{"/api/generate", `{"prompt":"x","context":[1,2]}`, 400, "context"},
		{"/api/generate", `{"prompt":"x","raw":true,"system":"y"}`, 400, "no system prompt"},
		{"/api/show", `{"model":"none"}`, 404, "does not exist"},
	} {
		status, text := post(t, h.URL+c.path, c.body)
		var e struct{ Error string }
		if err := json.Unmarshal([]byte(text), &e); err != nil || status != c.status || !strings.Contains(e.Error, c.want) {
			t.Errorf("%s: want %d with %q, got %d: %s", c.body, c.status, c.want, status, text)
		}
	}
}

func TestOllamaModels(t *testing.T) {
	s, h := tinyServer(t, Options{}, generate.Options{Context: 64, Sequences: 2})
	s.models[0].Files = Files{Format: "gguf", Bytes: 1 << 20, Parameters: 134515008, Storage: "Q4_0"}
	for path, want := range map[string]string{"/api/tags": `"parameter_size":"135M","quantization_level":"Q4_0"`, "/api/ps": `"context_length":64`, "/api/version": `"version"`} {
		r, err := http.Get(h.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := r.Write(&b); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%s: want %s in %s", path, want, b.String())
		}
	}
	status, text := post(t, h.URL+"/api/show", `{"model":"tiny"}`)
	if status != http.StatusOK || !strings.Contains(text, `"llama.context_length":64`) || !strings.Contains(text, `"capabilities":["completion","chat"]`) {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestOllamaFormat(t *testing.T) {
	_, h := tinyServer(t, Options{}, generate.Options{Context: 256, Sequences: 2})
	const q = `{"messages":[{"role":"user","content":"which?"}],"stream":false,"options":{"temperature":1,"seed":5},"format":`
	for range 3 {
		got := ollamaLines(t, h.URL+"/api/chat", q+`{"type":"object","properties":{"metal":{"enum":["tin","gold"]}},"required":["metal"],"additionalProperties":false}}`)
		var x struct{ Metal string }
		if err := json.Unmarshal([]byte(got[0].Message.Content), &x); err != nil || x.Metal != "tin" && x.Metal != "gold" {
			t.Errorf("not of the schema: %q", got[0].Message.Content)
		}
	}
}

func TestOllamaEmbed(t *testing.T) {
	_, h := tinyServer(t, Options{}, generate.Options{Context: 64, Sequences: 2})
	var want struct {
		Data []struct{ Embedding []float32 }
	}
	var got struct {
		Embeddings [][]float32
		Count      int `json:"prompt_eval_count"`
	}
	for path, to := range map[string]any{"/v1/embeddings": &want, "/api/embed": &got} {
		status, text := post(t, h.URL+path, `{"model":"tiny","input":["one","two three"],"dimensions":5}`)
		if err := json.Unmarshal([]byte(text), to); err != nil || status != http.StatusOK {
			t.Fatalf("%s: status %d: %s", path, status, text)
		}
	}
	if len(got.Embeddings) != 2 || got.Count == 0 || !slices.Equal(got.Embeddings[1], want.Data[1].Embedding) || len(got.Embeddings[0]) != 5 {
		t.Errorf("want %v, got %v", want, got)
	}
	if status, text := post(t, h.URL+"/api/embed", `{"input":"x","truncate":true}`); status != http.StatusBadRequest || !strings.Contains(text, "cuts no text") {
		t.Errorf("truncate: status %d: %s", status, text)
	}
}
