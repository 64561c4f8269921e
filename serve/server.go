package serve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"danlu/chat"
	"danlu/generate"
	"danlu/grammar"
	"danlu/serve/web"
	"danlu/tokenizer"
)

// Model is a model that is served. Its runner belongs to the server from New on.
type Model struct {
	ID        string // by which requests name it
	Created   time.Time
	Tokenizer *tokenizer.Tokenizer
	Dialect   *chat.Dialect // nil: a base model, which does not converse
	Runner    *generate.Runner
	Sampling  generate.Sampling // where a request says nothing
	End       []int32           // tokens that end a text
	Files     Files
	// Drafter makes the drafter of one reply; nil: no guesses are read, unless a request predicts its reply.
	Drafter func() (generate.Drafter, error)
	Guesses int // most guesses of one pass [8]

	Eyes     *generate.Eyes // of models that read pictures
	Adapters []string       // names of the runner's adapters, by which requests ask for the model with one of them

	sched    *scheduler
	forms    *forms
	sight    *sight // nil: none
	runsCode bool   // the server has a code interpreter
	base     *Model // of a model with an adapter: the one without
	adapter  int    // of the runner's, from 1 on
}

// with is the model with its k-th adapter, from 1 on.
func (m *Model) with(k int) *Model {
	return &Model{ID: m.Adapters[k-1], Created: m.Created, Tokenizer: m.Tokenizer, Dialect: m.Dialect, Runner: m.Runner, Sampling: m.Sampling, End: m.End, Files: m.Files,
		Eyes: m.Eyes, Drafter: m.Drafter, Guesses: m.Guesses, forms: m.forms, sched: m.sched, sight: m.sight, runsCode: m.runsCode, base: m, adapter: k}
}

// scope sets the pages of the cache apart that are an adapter's.
func (m *Model) scope(salt string) string {
	return fmt.Sprintf("%d\x00%s", m.adapter, salt)
}

// Files are facts of the files that a model came from.
type Files struct {
	Format     string // gguf or safetensors
	Bytes      int64  // of all weights
	Parameters int64
	Storage    string // the type in which most of them are kept
}

// Options of a Server. Zero values stand for the defaults in brackets.
type Options struct {
	Keys    []string      // API keys, one of which a request has to carry; none: no request needs one
	MaxBody int64         // most bytes of a request's body [8 MiB]
	Queue   int           // most replies that wait for a sequence; more are refused [128]
	Timeout time.Duration // of one request [10 minutes]
	Log     *slog.Logger  // a line for each request [none]
	// CodeInterpreter lets requests have their replies run Python (sandbox).
	CodeInterpreter bool
	Runs            string // folder whose training runs are shown [none]
}

// bodyTimeout is how long a client may take to send a request.
const bodyTimeout = 30 * time.Second

// Server answers requests to its models.
type Server struct {
	opts   Options
	keys   [][sha256.Size]byte
	origin *http.CrossOriginProtection
	models []*Model // each followed by itself with its adapters
	mux    *http.ServeMux
}

// New starts the schedulers of the models. Close ends them.
func New(o Options, models ...*Model) (*Server, error) {
	if o.MaxBody == 0 {
		o.MaxBody = 8 << 20
	}
	if o.Queue == 0 {
		o.Queue = 128
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: o, mux: http.NewServeMux(), origin: http.NewCrossOriginProtection()}
	pages, err := web.Routes(o.Runs)
	if err != nil {
		return nil, err
	}
	for _, k := range o.Keys {
		if strings.TrimSpace(k) == "" {
			return nil, errors.New("serve: an API key is empty")
		}
		s.keys = append(s.keys, sha256.Sum256([]byte(k)))
	}
	if len(models) == 0 {
		return nil, errors.New("serve: no model")
	}
	for _, m := range models {
		if s.model(m.ID) != nil {
			return nil, fmt.Errorf("serve: two models are named %q", m.ID)
		}
		s.models = append(s.models, m)
		for _, name := range m.Adapters {
			if s.model(name) != nil {
				return nil, fmt.Errorf("serve: two models or adapters are named %q", name)
			}
			s.models = append(s.models, &Model{ID: name})
		}
	}
	s.models = nil
	for _, m := range models {
		m.forms = &forms{vocabs: map[bool]*grammar.Vocabulary{}, made: map[string]*grammar.Grammar{}}
		m.runsCode = o.CodeInterpreter
		m.sched = newScheduler(m.Runner, o.Queue)
		if m.Eyes != nil && m.Dialect != nil {
			m.sight = newSight(m.Eyes)
		}
		s.models = append(s.models, m)
		for k := range m.Adapters {
			s.models = append(s.models, m.with(k+1))
		}
	}
	s.routes(pages)
	return s, nil
}

func (s *Server) routes(pages []web.Route) {
	for _, p := range pages {
		s.handle(p.Pattern, p.Guarded, func(w http.ResponseWriter, q *http.Request) *apiError {
			p.Handler(w, q)
			return nil
		})
	}
	s.handle("GET /health", false, func(w http.ResponseWriter, _ *http.Request) *apiError {
		writeJSON(w, map[string]string{"status": "ok"})
		return nil
	})
	s.handle("GET /v1/models", true, s.list)
	s.handle("GET /v1/models/{name...}", true, s.show)
	s.handle("POST /v1/chat/completions", true, s.chat)
	s.handle("POST /v1/completions", true, s.completions)
	s.handle("POST /v1/embeddings", true, s.embeddings)
	s.handle("POST /tokenize", true, s.tokenize)
	s.handle("POST /detokenize", true, s.detokenize)
	s.handle("GET /metrics", true, s.metrics)
	s.ollama("POST /api/chat", s.ollamaChat)
	s.ollama("POST /api/generate", s.ollamaGenerate)
	s.ollama("POST /api/embed", s.ollamaEmbed)
	s.ollama("GET /api/tags", s.ollamaTags)
	s.ollama("GET /api/ps", s.ollamaRunning)
	s.ollama("POST /api/show", s.ollamaShow)
	s.ollama("GET /api/version", s.ollamaVersion)
	s.handle("/", false, func(_ http.ResponseWriter, q *http.Request) *apiError {
		return fault(http.StatusNotFound, invalidRequest, "unknown_url", "no such endpoint: %s %s", q.Method, q.URL.Path)
	})
}

// Close lets the replies in work end and ends the schedulers.
func (s *Server) Close() {
	for _, m := range s.bases() {
		m.sched.close()
	}
}

// Serve answers on a listener until ctx ends; then it takes no more requests and lets those in work end, for at most
// grace.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	h := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.opts.Log.Info("shutting down")
	end, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := h.Shutdown(end); err != nil {
		return errors.Join(fmt.Errorf("serve: replies were cut off: %w", err), h.Close())
	}
	return nil
}

// note is what a request's log line tells beside the path.
type note struct {
	model              string
	prompt, completion int
	gone               bool // the client left before the end
}

type noteKey struct{}

func noted(q *http.Request) *note {
	n, _ := q.Context().Value(noteKey{}).(*note)
	return n
}

// recorder remembers a response's status and when its first byte went out.
type recorder struct {
	http.ResponseWriter
	status int
	first  time.Time
}

// Unwrap lets http.ResponseController through.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.first.IsZero() {
		r.first = time.Now()
	}
	return r.ResponseWriter.Write(b)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	n := &note{}
	began := time.Now()
	rec := &recorder{ResponseWriter: w}
	q = q.WithContext(context.WithValue(q.Context(), noteKey{}, n))
	s.mux.ServeHTTP(rec, q)
	line := []any{"method", q.Method, "path", q.URL.Path, "status", rec.status, "ms", time.Since(began).Milliseconds()}
	if !rec.first.IsZero() {
		line = append(line, "first_ms", rec.first.Sub(began).Milliseconds())
	}
	if n.model != "" {
		line = append(line, "model", n.model, "prompt_tokens", n.prompt, "completion_tokens", n.completion)
	}
	if n.gone {
		line = append(line, "gone", true)
	}
	s.opts.Log.Info("request", line...)
}

// handle adds an endpoint.
func (s *Server) handle(pattern string, guarded bool, f func(http.ResponseWriter, *http.Request) *apiError) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, q *http.Request) {
		if err := s.origin.Check(q); err != nil { // a page of another site has no business here
			fault(http.StatusForbidden, invalidRequest, "cross_origin", "%v", err).write(w)
			return
		}
		if guarded && !s.admits(q) {
			e := fault(http.StatusUnauthorized, authentication, "invalid_api_key", "missing or wrong API key; send it as Authorization: Bearer KEY")
			w.Header().Set("WWW-Authenticate", "Bearer")
			e.write(w)
			return
		}
		if e := f(w, q); e != nil {
			e.write(w)
		}
	})
}

// admits compares the request's key with all keys in the same time, whether one fits or not.
func (s *Server) admits(q *http.Request) bool {
	if len(s.keys) == 0 {
		return true
	}
	key, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	sum, fits := sha256.Sum256([]byte(key)), 0
	for _, k := range s.keys {
		fits |= subtle.ConstantTimeCompare(sum[:], k[:])
	}
	return ok && fits == 1
}

// body reads a request's JSON object.
func (s *Server) body(w http.ResponseWriter, q *http.Request) (*fields, *apiError) {
	// The deadline is for the body alone: one that went on would end the reply.
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(bodyTimeout))
	b, err := io.ReadAll(http.MaxBytesReader(w, q.Body, s.opts.MaxBody))
	control.SetReadDeadline(time.Time{})
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return nil, fault(http.StatusRequestEntityTooLarge, invalidRequest, "body_too_large", "the body is longer than %d bytes", s.opts.MaxBody)
	case err != nil:
		return nil, fault(http.StatusBadRequest, invalidRequest, "", "the body could not be read: %v", err)
	}
	return readFields(b)
}

// bases are the models without adapters.
func (s *Server) bases() []*Model {
	return slices.DeleteFunc(slices.Clone(s.models), func(m *Model) bool { return m.base != nil })
}

func (s *Server) model(name string) *Model {
	for _, m := range s.models {
		if m.ID == name {
			return m
		}
	}
	return nil
}

// card is a model in a list.
type card struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	Owner   string `json:"owned_by"`
	Parent  string `json:"parent,omitempty"` // of a model with an adapter: the one without
	Context int    `json:"max_model_len"`
	// Abilities are what a client can ask of the model: completion, chat, tools, thinking, vision.
	Abilities []string `json:"capabilities"`
}

func (m *Model) card() card {
	c := card{ID: m.ID, Object: "model", Created: m.Created.Unix(), Owner: "danlu", Context: m.Runner.Context(), Abilities: m.abilities()}
	if m.base != nil {
		c.Parent = m.base.ID
	}
	return c
}

func (m *Model) abilities() []string {
	can := []string{"completion"}
	if m.Dialect == nil {
		return can
	}
	can = append(can, "chat")
	speech := m.Dialect.Speech()
	if speech.Calls() != "" {
		can = append(can, "tools")
		if m.runsCode {
			can = append(can, "code_interpreter")
		}
	}
	if speech.Think[0] != "" {
		can = append(can, "thinking")
	}
	if m.sight != nil {
		can = append(can, "vision")
	}
	return can
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) *apiError {
	cards := []card{}
	for _, m := range s.models {
		cards = append(cards, m.card())
	}
	writeJSON(w, map[string]any{"object": "list", "data": cards})
	return nil
}

func (s *Server) show(w http.ResponseWriter, q *http.Request) *apiError {
	m := s.model(q.PathValue("name"))
	if m == nil {
		return fault(http.StatusNotFound, invalidRequest, "model_not_found", "the model %q does not exist", q.PathValue("name"))
	}
	writeJSON(w, m.card())
	return nil
}

// newID is a random name.
func newID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
