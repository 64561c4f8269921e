package serve

import (
	"encoding/json"
	"net/http"
	"time"
)

// writeTimeout is how long a client may take to accept a part of a reply.
const writeTimeout = 30 * time.Second

// stream writes server-sent events. Headers go out with the first one, so that an error before it has a status.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	open    bool
}

func newStream(w http.ResponseWriter) *stream {
	return &stream{w: w, control: http.NewResponseController(w)}
}

// event writes one line of data; flush sends what was written.
func (s *stream) event(data []byte) {
	if !s.open {
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		s.w.WriteHeader(http.StatusOK)
		s.open = true
	}
	s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a writer without deadlines keeps the server's
	s.w.Write([]byte("data: "))
	s.w.Write(data)
	s.w.Write([]byte("\n\n"))
}

func (s *stream) send(v any) {
	b, err := json.Marshal(v)
	if err != nil { // strings and numbers alone
		panic(err)
	}
	s.event(b)
}

func (s *stream) flush() { s.control.Flush() }

// fail ends the stream with an error.
func (s *stream) fail(e *apiError) {
	if !s.open {
		e.write(s.w)
		return
	}
	s.event(e.body())
	s.flush()
}

// done ends the stream.
func (s *stream) done() {
	s.event([]byte("[DONE]"))
	s.flush()
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Write(append(b, '\n'))
}
