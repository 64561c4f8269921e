package serve

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"danlu/generate"
)

// Bounds of histograms in seconds, those of vLLM, so that dashboards port by a rename of the prefix.
var (
	firstBounds = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	tokenBounds = []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	wholeBounds = []float64{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
)

// histogram counts durations by bounds.
type histogram struct {
	bounds []float64
	counts []uint64 // by the first bound that is not exceeded; the last one has none
	sum    float64
}

func newHistogram(bounds []float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

func (h *histogram) observe(d time.Duration) {
	x, i := d.Seconds(), 0
	for i < len(h.bounds) && x > h.bounds[i] {
		i++
	}
	h.counts[i]++
	h.sum += x
}

// metrics are what a scheduler has done so far. It is safe for concurrent use.
type metrics struct {
	mu                                            sync.Mutex
	prompt, generated, suspended                  uint64
	asked, hits                                   uint64            // tokens of prompts looked up in the cache, and found
	drafts, drafted, agreed                       uint64            // passes with guesses, guesses, right ones; of replies that ended
	ended                                         map[string]uint64 // by reason
	first, token, whole, queued, reading, writing *histogram
	used                                          float64 // share of the cache
}

func newMetrics() *metrics {
	h := newHistogram
	return &metrics{ended: map[string]uint64{"stop": 0, "length": 0, "abort": 0, "error": 0}, first: h(firstBounds), token: h(tokenBounds),
		whole: h(wholeBounds), queued: h(wholeBounds), reading: h(wholeBounds), writing: h(wholeBounds)}
}

// joined counts what the cache held of a job's prompt.
func (m *metrics) joined(j *job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !j.anew {
		m.asked += uint64(len(j.req.Prompt))
		m.hits += uint64(j.cached)
	}
}

// drew counts the tokens of a pass.
func (m *metrics) drew(j *job, now time.Time, tokens int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generated += uint64(tokens)
	if j.first.IsZero() {
		m.prompt += uint64(len(j.req.Prompt))
		m.first.observe(now.Sub(j.came))
		j.first = now
	} else {
		for range tokens {
			m.token.observe(now.Sub(j.last) / time.Duration(tokens))
		}
	}
	j.last = now
}

// read counts a prompt behind which nothing is written.
func (m *metrics) read(j *job) {
	m.mu.Lock()
	m.prompt += uint64(len(j.req.Prompt))
	m.mu.Unlock()
}

// fill notes how full the cache is.
func (m *metrics) fill(r *generate.Runner) {
	m.mu.Lock()
	m.used = 1 - float64(r.Room())/float64(r.Capacity())
	m.mu.Unlock()
}

// left counts a job that has ended.
func (m *metrics) left(j *job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	reason := "length"
	switch {
	case j.err != nil:
		reason = "error"
	case j.stop == generate.StopCancel:
		reason = "abort"
	case j.stop == generate.StopEnd:
		reason = "stop"
	}
	m.ended[reason]++
	if d := j.draft; d != nil {
		m.drafts += uint64(d.Passes)
		m.drafted += uint64(d.Drafted)
		m.agreed += uint64(d.Agreed)
	}
	if j.first.IsZero() {
		return
	}
	m.whole.observe(time.Since(j.came))
	m.queued.observe(j.began.Sub(j.came))
	m.reading.observe(j.first.Sub(j.began))
	m.writing.observe(j.last.Sub(j.first))
}

// text writes metrics in Prometheus' format.
type text struct {
	strings.Builder
	label string // of the model
}

func (t *text) head(name, kind, help string) {
	fmt.Fprintf(t, "# HELP danlu:%s %s\n# TYPE danlu:%s %s\n", name, help, name, kind)
}

func (t *text) value(name, more string, x float64) {
	fmt.Fprintf(t, "danlu:%s{%s%s} %s\n", name, t.label, more, strconv.FormatFloat(x, 'g', -1, 64))
}

func (t *text) histogram(name string, h *histogram) {
	sum := uint64(0)
	for i, n := range h.counts {
		sum += n
		bound := "+Inf"
		if i < len(h.bounds) {
			bound = strconv.FormatFloat(h.bounds[i], 'g', -1, 64)
		}
		t.value(name+"_bucket", `,le="`+bound+`"`, float64(sum))
	}
	t.value(name+"_sum", "", h.sum)
	t.value(name+"_count", "", float64(sum))
}

// series is a metric of all models.
type series struct {
	name, kind, help string
	write            func(t *text, name string, m *Model)
}

// number is a series of single values.
func number(name, kind, help string, of func(m *Model) float64) series {
	return series{name, kind, help, func(t *text, name string, m *Model) { t.value(name, "", of(m)) }}
}

func times(name, help string, of func(m *metrics) *histogram) series {
	return series{name, "histogram", help, func(t *text, name string, m *Model) { t.histogram(name, of(m.sched.metrics)) }}
}

var allSeries = []series{
	number("num_requests_running", "gauge", "Replies in work.", func(m *Model) float64 { n, _ := m.sched.load(); return float64(n) }),
	number("num_requests_waiting", "gauge", "Replies that wait.", func(m *Model) float64 { _, n := m.sched.load(); return float64(n) }),
	number("kv_cache_usage_perc", "gauge", "Share of the cache in use, 1 is all.", func(m *Model) float64 { return m.sched.metrics.used }),
	number("num_preemptions_total", "counter", "Replies that gave their part of the cache to others for a while.", func(m *Model) float64 { return float64(m.sched.metrics.suspended) }),
	number("prefix_cache_queries_total", "counter", "Tokens of prompts that were looked up in the cache.", func(m *Model) float64 { return float64(m.sched.metrics.asked) }),
	number("prefix_cache_hits_total", "counter", "Tokens of prompts that the cache held.", func(m *Model) float64 { return float64(m.sched.metrics.hits) }),
	number("spec_decode_num_drafts_total", "counter", "Passes that read guesses.", func(m *Model) float64 { return float64(m.sched.metrics.drafts) }),
	number("spec_decode_num_draft_tokens_total", "counter", "Guesses.", func(m *Model) float64 { return float64(m.sched.metrics.drafted) }),
	number("spec_decode_num_accepted_tokens_total", "counter", "Guesses that were right.", func(m *Model) float64 { return float64(m.sched.metrics.agreed) }),
	number("prompt_tokens_total", "counter", "Tokens of prompts.", func(m *Model) float64 { return float64(m.sched.metrics.prompt) }),
	number("generation_tokens_total", "counter", "Tokens of replies.", func(m *Model) float64 { return float64(m.sched.metrics.generated) }),
	{"request_success_total", "counter", "Replies that ended, by reason.", func(t *text, name string, m *Model) {
		for _, reason := range []string{"stop", "length", "abort", "error"} {
			t.value(name, `,finished_reason="`+reason+`"`, float64(m.sched.metrics.ended[reason]))
		}
	}},
	times("time_to_first_token_seconds", "From a request to its first token.", func(m *metrics) *histogram { return m.first }),
	times("inter_token_latency_seconds", "From a token to the next.", func(m *metrics) *histogram { return m.token }),
	times("e2e_request_latency_seconds", "From a request to its end.", func(m *metrics) *histogram { return m.whole }),
	times("request_queue_time_seconds", "From a request to its start.", func(m *metrics) *histogram { return m.queued }),
	times("request_prefill_time_seconds", "From the start to the first token.", func(m *metrics) *histogram { return m.reading }),
	times("request_decode_time_seconds", "From the first token to the last.", func(m *metrics) *histogram { return m.writing }),
}

// metrics answers /metrics.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) *apiError {
	var t text
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	for _, x := range allSeries {
		t.head(x.name, x.kind, x.help)
		for _, m := range s.bases() {
			t.label = `model_name="` + escape.Replace(m.ID) + `"`
			m.sched.metrics.mu.Lock()
			x.write(&t, x.name, m)
			m.sched.metrics.mu.Unlock()
		}
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write([]byte(t.String()))
	return nil
}
