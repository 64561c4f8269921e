package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/generate"
	"danlu/tokenizer"
	"danlu/weights"
)

// tinyModel is a small model with random weights.
func tinyModel(t testing.TB, opts generate.Options) *Model {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	eng, err := cpu.New(cpu.Options{})
	check(err)
	m, _, err := family.Preset("llama-tiny")
	check(err)
	specs, err := family.Params(m)
	check(err)
	store := eng.NewStore()
	for _, s := range specs {
		check(store.Declare(s))
	}
	check(weights.Init(store, specs, 3))
	r, err := generate.NewRunner(eng, store, m, opts)
	check(err)
	t.Cleanup(func() { r.Shut(); store.Close(); eng.Close() })
	tok, err := tokenizer.Builtin()
	check(err)
	f, err := chat.Lookup("chatml", tok)
	check(err)
	return &Model{ID: "tiny", Tokenizer: tok, Dialect: chat.NewDialect(nil, f, tok), Runner: r, Sampling: generate.Sampling{Temperature: 1}}
}

// tinyServer listens on a port of its own until the test ends.
func tinyServer(t testing.TB, o Options, opts generate.Options) (*Server, *httptest.Server) {
	t.Helper()
	s, err := New(o, tinyModel(t, opts))
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.Close(); s.Close() })
	return s, h
}

// listening serves until the test ends, and returns the address.
func listening(t testing.TB, s *Server) string {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.Close(); s.Close() })
	return h.URL
}

// post sends a body and returns the status and the answer.
func post(t testing.TB, url, body string) (int, string) {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// got is what tests read of an answer or of an event.
type got struct {
	ID, Object, Model string
	Choices           []struct {
		Index          int
		Text           string
		Message, Delta struct {
			Role      string
			Content   string
			Reasoning string `json:"reasoning_content"`
		}
		Logprobs *struct {
			Content []struct {
				Token   string
				Logprob float64
				Top     []struct{ Token string } `json:"top_logprobs"`
			}
			Tokens []string
		}
		Reason string `json:"finish_reason"`
	}
	Usage *usage
	Error *apiError
}

func parse(t testing.TB, body string) got {
	t.Helper()
	var g got
	if err := json.Unmarshal([]byte(body), &g); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return g
}

// ask sends a request that has to succeed.
func ask(t testing.TB, url, body string) got {
	t.Helper()
	status, text := post(t, url, body)
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, text)
	}
	return parse(t, text)
}

// streamed adds up the events of each reply.
func streamed(t testing.TB, url, body string) (texts, reasons map[int]string, last got) {
	t.Helper()
	status, all := post(t, url, body)
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, all)
	}
	texts, reasons = map[int]string{}, map[int]string{}
	lines := bufio.NewScanner(strings.NewReader(all))
	done := false
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			done = true
			continue
		}
		last = parse(t, data)
		for _, c := range last.Choices {
			texts[c.Index] += c.Text + c.Delta.Content
			reasons[c.Index] += c.Reason
		}
	}
	if !done {
		t.Errorf("the stream does not end with [DONE]: %s", all)
	}
	return texts, reasons, last
}

func chatBody(question, more string) string {
	q, _ := json.Marshal(question)
	return fmt.Sprintf(`{"model":"tiny","messages":[{"role":"user","content":%s}]%s}`, q, more)
}

func TestStreamIsTheWhole(t *testing.T) {
	_, h := tinyServer(t, Options{}, generate.Options{Context: 256, Sequences: 4})
	for _, more := range []string{`,"max_tokens":12,"seed":3`, `,"max_tokens":9,"temperature":0`, `,"max_completion_tokens":15,"seed":5,"n":3`,
		`,"max_tokens":20,"seed":4,"stop":["e","a"]`, `,"max_tokens":5,"seed":1,"logprobs":true,"top_logprobs":2`, `,"seed":2`} {
		whole := ask(t, h.URL+"/v1/chat/completions", chatBody("tell me 一 story", more))
		texts, reasons, last := streamed(t, h.URL+"/v1/chat/completions", chatBody("tell me 一 story", more+`,"stream":true,"stream_options":{"include_usage":true}`))
		if whole.Object != "chat.completion" || last.Object != "chat.completion.chunk" || whole.Model != "tiny" || len(texts) != len(whole.Choices) {
			t.Errorf("%s: %s of %s with %d replies, %s with %d", more, whole.Object, whole.Model, len(whole.Choices), last.Object, len(texts))
		}
		for _, c := range whole.Choices {
			if c.Message.Role != "assistant" || c.Message.Content != texts[c.Index] || c.Reason != reasons[c.Index] || c.Reason == "" {
				t.Errorf("%s: %q (%s), streamed %q (%s)", more, c.Message.Content, c.Reason, texts[c.Index], reasons[c.Index])
			}
		}
		if last.Usage == nil || *last.Usage != *whole.Usage || whole.Usage.Total != whole.Usage.Prompt+whole.Usage.Completion || whole.Usage.Completion == 0 {
			t.Errorf("%s: usage %+v, streamed %+v", more, whole.Usage, last.Usage)
		}
	}
}

func TestCompletions(t *testing.T) {
	s, h := tinyServer(t, Options{}, generate.Options{Context: 128, Sequences: 4})
	body := `{"model":"tiny","prompt":["one","two three"],"max_tokens":7,"seed":3,"n":2,"logprobs":1`
	whole := ask(t, h.URL+"/v1/completions", body+"}")
	texts, _, _ := streamed(t, h.URL+"/v1/completions", body+`,"stream":true}`)
	if whole.Object != "text_completion" || len(whole.Choices) != 4 || len(texts) != 4 {
		t.Fatalf("%s with %d and %d replies", whole.Object, len(whole.Choices), len(texts))
	}
	for _, c := range whole.Choices {
		if c.Text != texts[c.Index] || c.Reason != "length" || len(c.Logprobs.Tokens) != 7 {
			t.Errorf("reply %d: %q, streamed %q, %s, %v", c.Index, c.Text, texts[c.Index], c.Reason, c.Logprobs)
		}
	}
	ids := s.models[0].Tokenizer.Encode("one", tokenizer.Options{ParseSpecial: true, AddSpecial: true})
	list, _ := json.Marshal(ids)
	again := ask(t, h.URL+"/v1/completions", fmt.Sprintf(`{"prompt":%s,"max_tokens":7,"seed":3}`, list))
	if again.Choices[0].Text != whole.Choices[0].Text {
		t.Errorf("by ids %q, by text %q", again.Choices[0].Text, whole.Choices[0].Text)
	}
	full := ask(t, h.URL+"/v1/completions", `{"prompt":"go","temperature":0}`)
	if full.Choices[0].Reason != "length" || full.Usage.Total != 129 { // the last token is drawn from a full context
		t.Errorf("a full context: %s after %d tokens", full.Choices[0].Reason, full.Usage.Total)
	}
}

// Token ids that a request admits, bans and asks for at least.
func TestTokenFields(t *testing.T) {
	s, h := tinyServer(t, Options{}, generate.Options{Context: 128, Sequences: 2})
	var words []int32 // two tokens that are letters
	for id := int32(1000); len(words) < 2; id++ {
		if text := s.models[0].Tokenizer.Decode([]int32{id}, false); len(strings.Trim(text, "abcdefghijklmnopqrstuvwxyz")) == 0 {
			words = append(words, id)
		}
	}
	two := fmt.Sprintf(`,"allowed_token_ids":[%d,%d]`, words[0], words[1])
	drawn := func(more string) (all, shown int) {
		g := ask(t, h.URL+"/v1/completions", `{"prompt":"go","max_tokens":6,"seed":3,"logprobs":0`+more+`}`)
		if p := g.Choices[0].Logprobs; p != nil {
			shown = len(p.Tokens)
		}
		return g.Usage.Completion, shown
	}
	one := func(more string) string {
		return ask(t, h.URL+"/v1/completions", `{"prompt":"go","max_tokens":1,"temperature":0`+two+more+`}`).Choices[0].Text
	}
	first, other, last := one(""), one(fmt.Sprintf(`,"logit_bias":{"%d":-100}`, words[0])), one(fmt.Sprintf(`,"logit_bias":{"%d":-100}`, words[1]))
	if other == last || first != other && first != last {
		t.Errorf("of two tokens %q came, without the first %q, without the second %q", first, other, last)
	}
	if all, shown := drawn(two + fmt.Sprintf(`,"stop_token_ids":[%d,%d]`, words[0], words[1])); all != 1 || shown != 0 {
		t.Errorf("an end token at once: %d tokens, %d shown", all, shown)
	}
	if all, shown := drawn(two + fmt.Sprintf(`,"stop_token_ids":[%d],"min_tokens":6`, words[0])); all != 6 || shown < 5 {
		t.Errorf("no end token before the sixth: %d tokens, %d shown", all, shown)
	}
}

// What a request is answered does not depend on what else is in work, or on a cache too small for all of it.
func TestAnswersInACrowd(t *testing.T) {
	var bodies []string
	for i := range 8 {
		bodies = append(bodies, chatBody(strings.Repeat(fmt.Sprintf("question %d ", i), 1+3*i), fmt.Sprintf(`,"max_tokens":%d,"temperature":%d,"seed":7,"ignore_eos":true`, 50+4*i, i%2)))
	}
	_, alone := tinyServer(t, Options{}, generate.Options{Context: 256, Sequences: 1})
	var want []string
	for _, b := range bodies {
		want = append(want, ask(t, alone.URL+"/v1/chat/completions", b).Choices[0].Message.Content)
	}
	for name, opts := range map[string]generate.Options{"all at once": {Context: 256, Sequences: 8}, "two at a time": {Context: 256, Sequences: 2, Chunk: 7},
		"a small cache": {Context: 256, Sequences: 8, Pages: 16, PageLen: 16}} {
		s, h := tinyServer(t, Options{}, opts)
		var wait sync.WaitGroup
		for i, b := range bodies {
			wait.Go(func() {
				status, text := post(t, h.URL+"/v1/chat/completions", b)
				if g := parse(t, text); status != http.StatusOK || g.Choices[0].Message.Content != want[i] {
					t.Errorf("%s: request %d: status %d, want %q, got %s", name, i, status, want[i], text)
				}
			})
		}
		wait.Wait()
		free(t, s)
	}
}

// free waits until no reply is in work and the cache is empty.
func free(t testing.TB, s *Server) {
	t.Helper()
	for range 500 {
		if running, waiting := s.models[0].sched.load(); running+waiting == 0 {
			s.models[0].sched.close() // the runner is ours from here on
			r := s.models[0].Runner
			if r.Room() < r.Context() {
				t.Errorf("room for %d tokens of %d is left", r.Room(), r.Context())
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("replies are still in work")
}

func TestDisconnectFrees(t *testing.T) {
	s, h := tinyServer(t, Options{}, generate.Options{Context: 4096, Sequences: 2})
	var stop []func()
	for _, more := range []string{`,"stream":true,"ignore_eos":true`, `,"ignore_eos":true`, `,"stream":true,"ignore_eos":true`} {
		ctx, cancel := context.WithCancel(context.Background())
		q, err := http.NewRequestWithContext(ctx, "POST", h.URL+"/v1/chat/completions", strings.NewReader(chatBody("go on", more)))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if r, err := http.DefaultClient.Do(q); err == nil {
				io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
		}()
		stop = append(stop, cancel)
	}
	for {
		if running, waiting := s.models[0].sched.load(); running == 2 && waiting == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, f := range stop {
		f()
	}
	began := time.Now()
	free(t, s)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestBadRequests(t *testing.T) {
	_, h := tinyServer(t, Options{MaxBody: 4000}, generate.Options{Context: 64, Sequences: 2})
	for _, c := range []struct {
		body   string
		status int
		param  string
		want   string
	}{
		{``, 400, "", "not a JSON object"},
		{`[]`, 400, "", "not a JSON object"},
		{`{"messages":`, 400, "", "not a JSON object"},
		{`{} {}`, 400, "", "more text"},
		{`{}`, 400, "messages", "is missing"},
		{`{"messages":[]}`, 400, "messages", "is empty"},
		{`{"messages":"hi"}`, 400, "messages", "list"},
		{`{"messages":[{"role":"king","content":"x"}]}`, 400, "messages", "[0].role"},
		{`{"messages":[{"role":"user"}]}`, 400, "messages", "[0].content"},
		{`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`, 400, "messages", "reads no pictures"},
		{`{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}]}`, 400, "messages", "arguments"},
		{chatBody("x", `,"model":"tiny"`), 400, "model", "twice"},
		{`{"model":"large","messages":[{"role":"user","content":"x"}]}`, 404, "model", `"large" does not exist`},
		{chatBody("x", `,"temperature":2.5`), 400, "temperature", "want 0 to 2, got 2.5"},
		{chatBody("x", `,"temperature":"hot"`), 400, "temperature", `want a number, got "hot"`},
		{chatBody("x", `,"Temperature":1`), 400, "Temperature", "unknown field"},
		{chatBody("x", `,"top_p":-1`), 400, "top_p", "want 0 to 1"},
		{chatBody("x", `,"top_k":1.5`), 400, "top_k", "whole number"},
		{chatBody("x", `,"n":0`), 400, "n", "1 to 128"},
		{chatBody("x", `,"max_tokens":0`), 400, "max_tokens", "got 0"},
		{chatBody("x", `,"max_tokens":3,"max_completion_tokens":4`), 400, "max_tokens", "give one"},
		{chatBody("x", `,"stop":["a",""]`), 400, "stop", "not empty"},
		{chatBody("x", `,"logit_bias":{"999999":1}`), 400, "logit_bias", "999999"},
		{chatBody("x", `,"logit_bias":{"9":101}`), 400, "logit_bias", "-100 to 100"},
		{chatBody("x", `,"top_logprobs":3`), 400, "top_logprobs", "needs logprobs"},
		{chatBody("x", `,"stream_options":{"include_usage":true}`), 400, "stream_options", "for streams"},
		{chatBody("x", `,"stream":true,"stream_options":{"extra":true}`), 400, "stream_options", "stream_options.extra: unknown field"},
		{chatBody("x", `,"response_format":{"type":"xml"}`), 400, "response_format", "json_schema"},
		{chatBody("x", `,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"not":{}}}}`), 400, "response_format", `"not" is not supported`},
		{chatBody("x", `,"response_format":{"type":"json_schema","json_schema":{"name":"x"}}`), 400, "response_format", "schema: is missing"},
		{chatBody("x", `,"response_format":{"type":"json_object"},"grammar":"root ::= \"a\""`), 400, "grammar", "exclude each other"},
		{chatBody("x", `,"grammar":"root ::= root"`), 400, "grammar", "no text satisfies"},
		{chatBody("x", `,"structured_outputs":{"choice":[]}`), 400, "structured_outputs", "at least one"},
		{chatBody("x", `,"structured_outputs":{}`), 400, "structured_outputs", "is missing"},
		{chatBody("x", `,"prediction":{"type":"content"}`), 400, "prediction", "is missing"},
		{chatBody("x", `,"thinking_budget":5`), 400, "thinking_budget", "does not think"},
		{chatBody("x", `,"thinking_token_budget":5`), 400, "thinking_token_budget", "does not think"},
		{chatBody("x", `,"thinking_budget_tokens":-1`), 400, "thinking_budget_tokens", "want a whole number"},
		{chatBody("x", `,"mirostat":2`), 400, "mirostat", "cannot honour"},
		{chatBody("x", `,"tools":[{"type":"function","function":{"name":"f"}}]`), 400, "tools", "no way to call tools"},
		{chatBody("x", `,"tools":[{"type":"function"}]`), 400, "tools", "[0]"},
		{chatBody("x", `,"tool_choice":"required"`), 400, "tool_choice", "no tools"},
		{chatBody("x", `,"tool_choice":"some"`), 400, "tool_choice", "auto, none or required"},
		{chatBody("x", `,"tool_choice":{"type":"function"}`), 400, "tool_choice", "with its name"},
		{chatBody("x", `,"enable_thinking":true`), 400, "enable_thinking", "does not think"},
		{chatBody("x", `,"reasoning_effort":"high"`), 400, "reasoning_effort", "high"},
		{chatBody("x", `,"allowed_token_ids":[]`), 400, "", "no token can come next"},
		{chatBody("x", `,"min_tokens":9,"max_tokens":8`), 400, "min_tokens", "at most"},
		{chatBody(strings.Repeat("word ", 100), ""), 400, "messages", "context is 64 tokens, the prompt has"},
		{chatBody(strings.Repeat("x", 5000), ""), 413, "", "4000 bytes"},
	} {
		status, text := post(t, h.URL+"/v1/chat/completions", c.body)
		e := parse(t, text).Error
		if e == nil {
			t.Errorf("%s: want an error, got %d %s", c.body, status, text)
			continue
		}
		param := ""
		if e.Param != nil {
			param = *e.Param
		}
		if status != c.status || param != c.param || !strings.Contains(e.Message, c.want) || e.Type != invalidRequest {
			t.Errorf("%s: want %d about %q with %q, got %d about %q: %s", c.body, c.status, c.param, c.want, status, param, e.Message)
		}
	}
	for path, want := range map[string]int{"/nothing": 404, "/v1/models/none": 404, "/v1/models/tiny": 200, "/health": 200, "/v1/models": 200} {
		r, err := http.Get(h.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: want %d, got %d", path, want, r.StatusCode)
		}
	}
	if g := ask(t, h.URL+"/v1/chat/completions", chatBody("x", `,"max_tokens":2,"user":"me","temperature":null`)); g.Choices[0].Reason == "" {
		t.Errorf("after all that: %+v", g)
	}
}

func TestKeys(t *testing.T) {
	_, h := tinyServer(t, Options{Keys: []string{"one", "two"}}, generate.Options{Context: 64})
	for key, want := range map[string]int{"Bearer one": 200, "Bearer two": 200, "Bearer three": 401, "one": 401, "": 401, "Bearer ": 401} {
		q, err := http.NewRequest("GET", h.URL+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", key)
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%q: want %d, got %d", key, want, r.StatusCode)
		}
	}
}

func TestQueueAndTimeout(t *testing.T) {
	s, h := tinyServer(t, Options{Queue: 1, Timeout: 2 * time.Second}, generate.Options{Context: 4096, Sequences: 1})
	long := chatBody("go on", `,"ignore_eos":true`)
	results := make(chan int, 2)
	for range 2 {
		go func() { status, _ := post(t, h.URL+"/v1/chat/completions", long); results <- status }()
	}
	for {
		if running, waiting := s.models[0].sched.load(); running == 1 && waiting == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	status, text := post(t, h.URL+"/v1/chat/completions", long)
	if status != http.StatusTooManyRequests || parse(t, text).Error.Type != rateLimit {
		t.Errorf("want 429, got %d: %s", status, text)
	}
	for range 2 {
		if got := <-results; got != http.StatusGatewayTimeout {
			t.Errorf("want 504, got %d", got)
		}
	}
	free(t, s)
}

// A server that is told to end takes no more requests and finishes the replies in work.
func TestShutdownFinishes(t *testing.T) {
	s, err := New(Options{}, tinyModel(t, generate.Options{Context: 512, Sequences: 2}))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l, time.Minute) }()
	url := "http://" + l.Addr().String() + "/v1/chat/completions"
	reply := make(chan got, 1)
	go func() { reply <- ask(t, url, chatBody("go on", `,"ignore_eos":true,"max_tokens":200`)) }()
	for {
		if running, _ := s.models[0].sched.load(); running == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	end()
	if g := <-reply; g.Usage.Completion != 200 {
		t.Errorf("want 200 tokens, got %+v", g.Usage)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	s.Close()
	if _, err := http.Post(url, "application/json", strings.NewReader("{}")); err == nil {
		t.Error("the server still answers")
	}
}

// A reply with thoughts and calls is split while it comes.
func TestReplySplits(t *testing.T) {
	m := tinyModel(t, generate.Options{Context: 64})
	f, err := chat.Lookup("qwen3", m.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	speech := chat.NewDialect(nil, f, m.Tokenizer).Speech()
	c, err := chat.ParseConversation([]byte(`{"messages":[],"tools":[{"type":"function","function":{"name":"add"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	close(ended)
	r := &reply{text: chat.NewText(m.Tokenizer, nil, nil, speech.Keep(m.Tokenizer)), parser: speech.Parser(false, c.Tools), out: &feed{wake: make(chan struct{}, 1)},
		budget: -1, job: &job{probabilities: -1, ended: ended, stop: generate.StopEnd}}
	for _, id := range m.Tokenizer.Encode("<think>\nsum\n</think>\n\nI add.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>", tokenizer.Options{ParseSpecial: true}) {
		r.token(drawn{id: id})
	}
	r.finish()
	var said piece
	look := &talk{map[int]int{}}
	for _, p := range r.out.next() {
		said.add(p)
	}
	b, err := json.Marshal(look.whole(m, said, r.reason()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"reasoning_content":"sum"`, `"content":"I add."`, `"name":"add"`, `"arguments":"{\"a\": 1}"`, `"finish_reason":"tool_calls"`} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	if r.reasoning == 0 || r.reasoning >= r.tokens {
		t.Errorf("%d of %d tokens are thoughts", r.reasoning, r.tokens)
	}
}

func TestTokenize(t *testing.T) {
	s, h := tinyServer(t, Options{}, generate.Options{Context: 64})
	tokens := func(body string) (ids []int32, words []string) {
		status, text := post(t, h.URL+"/tokenize", body)
		var out struct {
			Tokens []int32  `json:"tokens"`
			Words  []string `json:"token_strs"`
			Count  int      `json:"count"`
		}
		if err := json.Unmarshal([]byte(text), &out); status != http.StatusOK || err != nil || out.Count != len(out.Tokens) || out.Count == 0 {
			t.Fatalf("%s: %d %s", body, status, text)
		}
		return out.Tokens, out.Words
	}
	ids, words := tokens(`{"model":"tiny","prompt":"one 二","add_special_tokens":false,"return_token_strs":true}`)
	list, _ := json.Marshal(ids)
	if status, text := post(t, h.URL+"/detokenize", fmt.Sprintf(`{"tokens":%s}`, list)); status != http.StatusOK || strings.TrimSpace(text) != `{"prompt":"one 二"}` || len(words) != len(ids) {
		t.Errorf("%v (%q) is %d %s", ids, words, status, text)
	}
	ids, _ = tokens(`{"messages":[{"role":"user","content":"one"}]}`)
	p, err := s.models[0].Dialect.Prompt(&chat.Conversation{Open: true, Messages: []*jinja.Dict{chat.NewMessage(chat.User, "one")}})
	if err != nil || !slices.Equal(ids, p.IDs) {
		t.Errorf("want %v, got %v (%v)", p.IDs, ids, err)
	}
	for path, body := range map[string]string{"/tokenize": `{}`, "/detokenize": `{"tokens":[-1]}`} {
		if status, text := post(t, h.URL+path, body); status != http.StatusBadRequest {
			t.Errorf("%s %s: %d %s", path, body, status, text)
		}
	}
}

func TestMetrics(t *testing.T) {
	_, h := tinyServer(t, Options{}, generate.Options{Context: 64, Sequences: 2})
	u := ask(t, h.URL+"/v1/chat/completions", chatBody("go", `,"max_tokens":5,"ignore_eos":true,"n":2`)).Usage
	r, err := http.Get(h.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"generation_tokens_total{%s}": 10, "prompt_tokens_total{%s}": 2 * u.Prompt, `request_success_total{%s,finished_reason="length"}`: 2,
		`request_success_total{%s,finished_reason="abort"}`: 0, "time_to_first_token_seconds_count{%s}": 2, "inter_token_latency_seconds_count{%s}": 8,
		`e2e_request_latency_seconds_bucket{%s,le="+Inf"}`: 2, "num_requests_waiting{%s}": 0} {
		line := fmt.Sprintf("\ndanlu:"+name+" %d\n", `model_name="tiny"`, want)
		if !strings.Contains(string(b), line) {
			t.Errorf("no line %q in\n%s", line, b)
		}
	}
}

// A thought that has spent its budget is closed, and the answer follows.
func TestThinkingBudget(t *testing.T) {
	m := tinyModel(t, generate.Options{Context: 256, Sequences: 2})
	for source, opened := range map[string]bool{"{# </think> #}{{ messages[0].content }}<think>\n": true, "{# </think> #}{{ messages[0].content }}": false} {
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
		for budget, want := range []int{0, 1, 2, 3} {
			g := ask(t, h.URL+"/v1/chat/completions", chatBody("go", fmt.Sprintf(`,"max_tokens":40,"temperature":0,"ignore_eos":true,"thinking_budget":%d`, budget)))
			msg, u := g.Choices[0].Message, g.Usage
			if !opened {
				want = 0
			}
			if u.Details.Reasoning != want || u.Completion != 40 || msg.Content == "" || (msg.Reasoning == "") != (want == 0) || strings.Contains(msg.Content+msg.Reasoning, "think>") {
				t.Errorf("opened %v, budget %d: %d tokens of thoughts of %d, %q, %q", opened, budget, u.Details.Reasoning, u.Completion, msg.Reasoning, msg.Content)
			}
		}
		if g := ask(t, h.URL+"/v1/chat/completions", chatBody("go", `,"max_tokens":40,"temperature":0,"ignore_eos":true`)); opened != (g.Usage.Details.Reasoning == 40) {
			t.Errorf("opened %v, no budget: %d tokens of thoughts", opened, g.Usage.Details.Reasoning)
		}
		h.Close()
		s.Close()
	}
}

func FuzzRequest(f *testing.F) {
	s, err := New(Options{Timeout: 200 * time.Millisecond}, tinyModel(f, generate.Options{Context: 64, Sequences: 16}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	for _, body := range []string{chatBody("hi", `,"max_tokens":2,"stream":true`), `{"prompt":[1,2],"max_tokens":1}`, `{"messages":[{"role":"tool","content":[{"type":"text","text":"x"}]}]}`,
		`{"prompt":"x","logit_bias":{"1":-100},"stop":"a"}`, `{"n":1e99}`, `{"a":`, "\x00"} {
		f.Add(true, []byte(body))
		f.Add(false, []byte(body))
	}
	f.Fuzz(func(t *testing.T, talk bool, body []byte) {
		path := "/v1/completions"
		if talk {
			path = "/v1/chat/completions"
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", path, bytes.NewReader(body)))
		if w.Code >= 500 && w.Code != http.StatusGatewayTimeout {
			t.Errorf("status %d for %q: %s", w.Code, body, w.Body)
		}
		if w.Code >= 400 && parse(t, w.Body.String()).Error == nil {
			t.Errorf("status %d without an error: %s", w.Code, w.Body)
		}
	})
}
