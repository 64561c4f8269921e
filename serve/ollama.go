package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"danlu/chat"
)

// Ollama's API asks for the same in other words. A request becomes the fields of OpenAI's, which are read as strictly as
// those; what comes of it is told in lines of JSON.

// ollama adds an endpoint whose errors have Ollama's shape.
func (s *Server) ollama(pattern string, f func(http.ResponseWriter, *http.Request) *apiError) {
	s.handle(pattern, true, func(w http.ResponseWriter, q *http.Request) *apiError {
		if e := f(w, q); e != nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(e.status)
			w.Write(ollamaError(e))
		}
		return nil
	})
}

func ollamaError(e *apiError) []byte {
	return append(jsonOf(map[string]string{"error": e.Message}), '\n')
}

// ollamaSame are options that OpenAI's API has as fields of the same name and meaning.
var ollamaSame = []string{"temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed", "stop"}

// ollamaPlaces are options that say on what a model runs. That was decided when the server started, and no answer depends on it.
var ollamaPlaces = []string{"num_gpu", "main_gpu", "num_thread", "num_batch", "use_mmap", "use_mlock", "numa", "low_vram", "f16_kv"}

// asked is what an Ollama request says beside OpenAI's fields.
type asked struct {
	context int // num_ctx, 0: the server's
}

// fromOllama rewrites the fields that chat and generate share.
func (s *Server) fromOllama(f *fields) asked {
	var a asked
	if v, ok := f.raw["model"]; ok {
		var name string
		if json.Unmarshal(v, &name) == nil && s.model(name) == nil {
			f.raw["model"] = jsonOf(strings.TrimSuffix(name, ":latest"))
		}
	}
	if _, ok := f.raw["stream"]; !ok {
		f.raw["stream"] = json.RawMessage("true")
	}
	f.take("keep_alive") // models stay as long as the server
	f.rename("think", "enable_thinking")
	if v, ok := f.take("format"); ok && string(v) != `""` {
		f.raw["response_format"] = responseFormat(v)
	}
	options, ok := f.take("options")
	if !ok {
		return a
	}
	o, e := readFields(options)
	if e != nil {
		f.fail(badField("options", "want an object, got %s", short(options)))
		return a
	}
	for _, name := range ollamaPlaces {
		o.take(name)
	}
	for _, name := range ollamaSame {
		if v, ok := o.take(name); ok {
			f.raw[name] = v
		}
	}
	o.int("num_ctx", 1, 1<<30, &a.context)
	if most := 0; o.int("num_predict", -2, 1<<30, &most) && most >= 0 { // below 0: as many as fit
		f.raw["max_tokens"] = jsonOf(most)
	}
	if e := o.done(); e != nil {
		f.fail(badField("options", "%s", e.Message))
	}
	return a
}

// responseFormat is OpenAI's word for a format: "json", or a schema.
func responseFormat(format json.RawMessage) json.RawMessage {
	if string(format) == `"json"` {
		return json.RawMessage(`{"type":"json_object"}`)
	}
	return json.RawMessage(`{"type":"json_schema","json_schema":{"name":"format","schema":` + string(format) + `}}`)
}

func (f *fields) rename(from, to string) {
	if v, ok := f.take(from); ok {
		f.raw[to] = v
	}
}

// jsonOf is a value of strings, numbers and JSON as JSON.
func jsonOf(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// bound holds a request to its num_ctx.
func (a asked) bound(r *request, prompts []prompt) *apiError {
	if a.context == 0 {
		return nil
	}
	if most := r.model.Runner.Context(); a.context > most {
		return badField("options", "num_ctx: this server holds %d tokens, want at most that, got %d; --context sets it", most, a.context)
	}
	left := a.context - len(prompts[0].ids)
	if left < 1 {
		return badField("options", "num_ctx: the context is to be %d tokens, the prompt has %d; nothing was cut: shorten it", a.context, len(prompts[0].ids))
	}
	if r.answer.MaxNew == 0 || r.answer.MaxNew > left {
		r.answer.MaxNew = left
	}
	return nil
}

// ollamaChat answers /api/chat.
func (s *Server) ollamaChat(w http.ResponseWriter, q *http.Request) *apiError {
	f, e := s.body(w, q)
	if e != nil {
		return e
	}
	a := s.fromOllama(f)
	if v, ok := f.raw["messages"]; ok {
		messages, e := ollamaMessages(v)
		if e != nil {
			return e
		}
		f.raw["messages"] = messages
	}
	r, prompts, e := s.conversing(q.Context(), f)
	if e == nil {
		e = a.bound(r, prompts)
	}
	if e != nil {
		return e
	}
	return s.inLines(w, q, r, prompts, func(l *line, said chat.Said) {
		l.Message = &ollamaMessage{Role: chat.Assistant, Content: said.Content, Thinking: said.Reasoning}
		for _, c := range said.Calls {
			var x ollamaCall
			x.Function.Name, x.Function.Arguments = c.Name, json.RawMessage(c.Arguments)
			l.Message.Calls = append(l.Message.Calls, x)
		}
	})
}

// ollamaMessages puts pictures, thoughts and names of tools where OpenAI's messages have them.
func ollamaMessages(raw json.RawMessage) (json.RawMessage, *apiError) {
	var list []map[string]json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, badField("messages", "want a list of messages, got %s", short(raw))
	}
	for i, m := range list {
		f := fields{raw: m}
		f.rename("thinking", "reasoning_content")
		f.rename("tool_name", "name")
		images, ok := f.take("images")
		if !ok || string(images) == "null" {
			continue
		}
		content, e := withImages(m["content"], images)
		if e != nil {
			return nil, badField("messages", "[%d].%s", i, e.Message)
		}
		m["content"] = content
	}
	return jsonOf(list), nil
}

// withImages is a content of parts: pictures, which Ollama sends in base64 beside the text, and the text.
func withImages(text, images json.RawMessage) (json.RawMessage, *apiError) {
	var list []string
	if json.Unmarshal(images, &list) != nil {
		return nil, badField("images", "want a list of pictures in base64, got %s", short(images))
	}
	parts := []map[string]any{}
	for _, x := range list {
		parts = append(parts, map[string]any{"type": "image_url", "image_url": map[string]string{"url": "data:;base64," + x}})
	}
	parts = append(parts, map[string]any{"type": "text", "text": text})
	return jsonOf(parts), nil
}

// ollamaGenerate answers /api/generate: one question, or with raw the continuation of a text.
func (s *Server) ollamaGenerate(w http.ResponseWriter, q *http.Request) *apiError {
	f, e := s.body(w, q)
	if e != nil {
		return e
	}
	a := s.fromOllama(f)
	var raw bool
	f.bool("raw", &raw)
	text, system, images := f.raw["prompt"], f.raw["system"], f.raw["images"]
	delete(f.raw, "system")
	delete(f.raw, "images")
	if len(text) == 0 || string(text) == `""` {
		return s.loaded(w, f)
	}
	read := func(_ context.Context, f *fields) (*request, []prompt, *apiError) { return s.continuing(f) }
	if m := s.peek(f); !raw && m != nil && m.Dialect != nil {
		if f.raw["messages"], e = question(text, system, images); e != nil {
			return e
		}
		delete(f.raw, "prompt")
		read = s.conversing
	} else if system != nil || images != nil {
		return cannot("system", "a text that is continued (raw, or a model without a template) has no system prompt and no pictures")
	}
	r, prompts, e := read(q.Context(), f)
	if e == nil {
		e = a.bound(r, prompts)
	}
	if e != nil {
		return e
	}
	return s.inLines(w, q, r, prompts, func(l *line, said chat.Said) { l.Response, l.Thinking = &said.Content, said.Reasoning })
}

// ollamaEmbed answers /api/embed.
func (s *Server) ollamaEmbed(w http.ResponseWriter, q *http.Request) *apiError {
	began := time.Now()
	f, e := s.body(w, q)
	if e != nil {
		return e
	}
	s.fromOllama(f)
	f.take("stream")
	r := &request{n: 1, probs: -1, budget: -1}
	if r.model = s.named(f); r.model == nil {
		return f.err
	}
	size := r.model.Runner.Info().HiddenSize
	f.int("dimensions", 1, size, &size)
	f.only("truncate", "this server cuts no text", "false")
	input, given := f.take("input")
	if !given {
		f.fail(badField("input", "is missing"))
	}
	if e := f.done(); e != nil {
		return e
	}
	prompts, e := r.texts("input", input)
	if e != nil {
		return e
	}
	vectors, e := s.embed(q, r, prompts, true, size)
	if e != nil {
		return e
	}
	tokens := 0
	for _, p := range prompts {
		tokens += len(p.ids)
	}
	writeJSON(w, map[string]any{"model": r.model.ID, "embeddings": vectors, "total_duration": time.Since(began), "load_duration": 0, "prompt_eval_count": tokens})
	return nil
}

// peek is the model that a request names, without taking the name away.
func (s *Server) peek(f *fields) *Model {
	var name string
	if v, ok := f.raw["model"]; ok && json.Unmarshal(v, &name) != nil {
		return nil
	}
	if bases := s.bases(); name == "" && len(bases) == 1 {
		return bases[0]
	}
	return s.model(name)
}

// question is a conversation of one question.
func question(prompt, system, images json.RawMessage) (json.RawMessage, *apiError) {
	if images != nil {
		var e *apiError
		if prompt, e = withImages(prompt, images); e != nil {
			return nil, e
		}
	}
	messages := []map[string]json.RawMessage{{"role": jsonOf(chat.User), "content": prompt}}
	if system != nil && string(system) != `""` {
		messages = slices.Insert(messages, 0, map[string]json.RawMessage{"role": jsonOf(chat.System), "content": system})
	}
	return jsonOf(messages), nil
}

// loaded answers a request without a prompt, by which clients have a model loaded.
func (s *Server) loaded(w http.ResponseWriter, f *fields) *apiError {
	m := s.named(f)
	if f.err != nil {
		return f.err
	}
	l := newLine(m)
	l.Response, l.Done, l.Reason = new(string), true, "load"
	writeJSON(w, l)
	return nil
}

// line is an object of an answer.
type line struct {
	Model    string         `json:"model"`
	Created  time.Time      `json:"created_at"`
	Message  *ollamaMessage `json:"message,omitempty"`
	Response *string        `json:"response,omitempty"`
	Thinking string         `json:"thinking,omitempty"`
	Done     bool           `json:"done"`
	Reason   string         `json:"done_reason,omitempty"`
	*timing
}

type ollamaMessage struct {
	Role     string       `json:"role"`
	Content  string       `json:"content"`
	Thinking string       `json:"thinking,omitempty"`
	Calls    []ollamaCall `json:"tool_calls,omitempty"`
}

type ollamaCall struct {
	Function struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	} `json:"function"`
}

// timing is the end of an answer. Durations are in nanoseconds.
type timing struct {
	Total      time.Duration `json:"total_duration"`
	Load       time.Duration `json:"load_duration"` // the wait for a place among the replies in work
	Prompt     int           `json:"prompt_eval_count"`
	PromptTime time.Duration `json:"prompt_eval_duration"`
	Reply      int           `json:"eval_count"`
	ReplyTime  time.Duration `json:"eval_duration"`
}

func newLine(m *Model) *line { return &line{Model: m.ID, Created: time.Now().UTC()} }

// inLines runs a request for one reply. put writes into a line what was said.
func (s *Server) inLines(w http.ResponseWriter, q *http.Request, r *request, prompts []prompt, put func(*line, chat.Said)) *apiError {
	return s.work(q, r, prompts, func(ctx context.Context, out *feed, replies []*reply) *apiError {
		lines := &lineWriter{w: w, control: http.NewResponseController(w)}
		var whole chat.Said
		for over := false; !over; {
			for _, p := range out.next() {
				if over = p.last; over {
					break
				}
				if !r.stream {
					whole.Add(p.said)
					continue
				}
				l := newLine(r.model)
				put(l, p.said)
				lines.send(l)
			}
			lines.flush()
		}
		if e := failed(ctx, replies); e != nil {
			if !lines.open {
				return e
			}
			lines.write(ollamaError(e))
			return nil
		}
		l := newLine(r.model)
		put(l, whole)
		l.end(replies[0], prompts[0])
		if !r.stream {
			writeJSON(w, l)
			return nil
		}
		lines.send(l)
		lines.flush()
		return nil
	})
}

// end says how an answer ended and what it took.
func (l *line) end(a *reply, p prompt) {
	j := a.job
	if l.Done, l.Reason = true, a.reason(); l.Reason == "tool_calls" {
		l.Reason = "stop"
	}
	l.timing = &timing{Total: time.Since(j.came), Load: j.began.Sub(j.came), Prompt: len(p.ids), PromptTime: j.first.Sub(j.began), Reply: a.tokens, ReplyTime: j.last.Sub(j.first)}
}

// lineWriter writes objects as lines.
type lineWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	open    bool
}

func (x *lineWriter) send(l *line) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(l); err != nil { // arguments of calls were parsed before
		panic(err)
	}
	x.write(b.Bytes())
}

func (x *lineWriter) write(b []byte) {
	if !x.open {
		x.w.Header().Set("Content-Type", "application/x-ndjson")
		x.w.WriteHeader(http.StatusOK)
		x.open = true
	}
	x.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	x.w.Write(b)
}

func (x *lineWriter) flush() {
	if x.open {
		x.control.Flush()
	}
}
