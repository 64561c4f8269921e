package browsertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"danlu/serve/web"
)

// api is the pages over answers that are written here: what a model says to a question is looked up.
type api struct {
	*http.ServeMux
	models  string            // answer of /v1/models
	replies map[string]string // question → reply; <think>, <call> and <slow> are understood
	key     string            // "" : none is asked for

	mu   sync.Mutex
	asks []map[string]any // bodies of chat requests
}

const oneModel = `{"data":[{"id":"qwen3-0.6b","object":"model","max_model_len":8192,"capabilities":["completion","chat","tools","code_interpreter","thinking","vision"]},
	{"id":"poet","object":"model","parent":"qwen3-0.6b","max_model_len":8192,"capabilities":["completion","chat"]},
	{"id":"tiny-base","object":"model","max_model_len":512,"capabilities":["completion"]}]}`

func newAPI(t *testing.T, runs string) *api {
	t.Helper()
	a := &api{ServeMux: http.NewServeMux(), models: oneModel, replies: map[string]string{}}
	routes, err := web.Routes(runs)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		a.Handle(r.Pattern, r.Handler)
	}
	a.HandleFunc("GET /v1/models", a.guarded(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(a.models)) }))
	a.HandleFunc("POST /v1/chat/completions", a.guarded(a.chat))
	return a
}

func (a *api) guarded(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		if a.key != "" && q.Header.Get("Authorization") != "Bearer "+a.key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		f(w, q)
	}
}

// last is the newest chat request.
func (a *api) last() map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asks[len(a.asks)-1]
}

func (a *api) chat(w http.ResponseWriter, q *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(q.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.asks = append(a.asks, body)
	n := len(a.asks)
	a.mu.Unlock()
	messages := body["messages"].([]any)
	reply, ok := a.replies[text(messages[len(messages)-1])]
	if !ok {
		reply = fmt.Sprintf("Answer %d to %q.", n, text(messages[len(messages)-1]))
	}
	if after, bad := strings.CutPrefix(reply, "<error>"); bad {
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": after}})
		return
	}
	a.stream(w, q, reply)
}

// text is what a message says.
func text(message any) string {
	switch c := message.(map[string]any)["content"].(type) {
	case string:
		return c
	case []any:
		for _, p := range c {
			if s, ok := p.(map[string]any)["text"].(string); ok {
				return s
			}
		}
	}
	return ""
}

func (a *api) stream(w http.ResponseWriter, q *http.Request, reply string) {
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(v any) {
		b, _ := json.Marshal(v)
		fmt.Fprintf(w, "data: %s\n\n", b)
		w.(http.Flusher).Flush()
	}
	delta := func(d map[string]any, reason any) {
		send(map[string]any{"choices": []any{map[string]any{"index": 0, "delta": d, "finish_reason": reason}}})
	}
	pause := time.Millisecond
	if after, ok := strings.CutPrefix(reply, "<slow>"); ok {
		reply, pause = after, 100*time.Millisecond
	}
	reason := "stop"
	if after, ok := strings.CutPrefix(reply, "<long>"); ok {
		reply, reason = after, "length"
	}
	tokens := 0
	say := func(key, s string) bool {
		words := strings.SplitAfter(s, " ")
		if len(words) > 1000 {
			words = []string{s}
		}
		for _, word := range words {
			delta(map[string]any{key: word}, nil)
			tokens++
			select {
			case <-time.After(pause):
			case <-q.Context().Done():
				return false
			}
		}
		return true
	}
	delta(map[string]any{"role": "assistant", "content": ""}, nil)
	if thought, after, ok := strings.Cut(reply, "</think>"); ok {
		if !say("reasoning_content", thought) {
			return
		}
		reply = after
	}
	if code, after, ok := strings.Cut(reply, "</code>"); ok {
		delta(map[string]any{"code_interpreter": []any{map[string]any{"code": code, "output": "42\n", "exit_code": 0}}}, nil)
		reply = after
	}
	reply, call, called := strings.Cut(reply, "<call>")
	if reply != "" && !say("content", reply) {
		return
	}
	if called {
		name, arguments, _ := strings.Cut(call, " ")
		delta(map[string]any{"tool_calls": []any{map[string]any{"index": 0, "id": "call_1", "type": "function", "function": map[string]string{"name": name, "arguments": arguments}}}}, nil)
		reason = "tool_calls"
	}
	delta(map[string]any{}, reason)
	send(map[string]any{"choices": []any{}, "usage": map[string]any{"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}})
	fmt.Fprint(w, "data: [DONE]\n\n")
}
