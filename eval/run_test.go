package eval

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"danlu/chat/jinja"
)

// letters is a model that finds a text the likelier the shorter it is, and that may fail after some answers.
type letters struct {
	asked, fail int
	bias        string // is likelier
}

func (*letters) Name() string     { return "letters" }
func (*letters) Identity() string { return "letters" }
func (*letters) Usage() Usage     { return Usage{} }
func (*letters) Template(m []*jinja.Dict, open bool) (string, error) {
	return "", errors.New("none")
}

func (l *letters) Answer(_ context.Context, requests []Request, done func(int, Response) error) error {
	for i, q := range requests {
		if l.fail > 0 && l.asked == l.fail {
			return errors.New("pulled the plug")
		}
		l.asked++
		r := Response{LogLikelihood: -float64(len(q.Target)), Text: q.Context}
		if l.bias != "" && strings.Contains(q.Target, l.bias) {
			r.LogLikelihood = 0
		}
		if err := done(i, r); err != nil {
			return err
		}
	}
	return nil
}

func fourItems(t *testing.T) *Selection {
	t.Helper()
	var data strings.Builder
	for _, s := range []string{"one", "two", "three", "four"} {
		data.WriteString(`{"q": "` + s + `", "choices": ["yes", "no"], "label": 1}` + "\n")
	}
	dir := write(t, map[string]string{"t.yaml": choosingTask, "t.jsonl": data.String()})
	task, err := LoadTask(filepath.Join(dir, "t.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return &Selection{Tasks: []*Task{task}}
}

// A run that was cut off asks only what is left, also where the last line of its cache is half written.
func TestRunGoesOn(t *testing.T) {
	s := fourItems(t)
	file := filepath.Join(t.TempDir(), "c", CacheFile)
	m := &letters{fail: 3}
	if _, err := Run(context.Background(), m, s, Options{Cache: file}); err == nil || !strings.Contains(err.Error(), "pulled the plug") {
		t.Fatalf("got %v", err)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"model": "half a li`)
	f.Close()
	m = &letters{}
	r, err := Run(context.Background(), m, s, Options{Cache: file})
	if err != nil {
		t.Fatal(err)
	}
	if m.asked != 5 || r.Efficiency["t"].Cached != 3 || r.Results["t"]["acc,none"] != 1.0 {
		t.Errorf("asked %d, cached %d, results %v", m.asked, r.Efficiency["t"].Cached, r.Results["t"])
	}
	m = &letters{}
	if _, err := Run(context.Background(), m, s, Options{Cache: file, Limit: 2}); err != nil || m.asked != 0 {
		t.Errorf("asked again: %d %v", m.asked, err)
	}
	if err := os.WriteFile(file, []byte("nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), m, s, Options{Cache: file}); err == nil || !strings.Contains(err.Error(), ":1: no line of a cache") {
		t.Errorf("a broken cache: %v", err)
	}
}

// Equal requests are asked once; limits are a number of items or a share of them.
func TestLimitAndRepeats(t *testing.T) {
	s := fourItems(t)
	m := &letters{}
	r, err := Run(context.Background(), m, s, Options{Limit: 0.5})
	if err != nil || m.asked != 4 || r.Counts["t"] != (Count{4, 2}) {
		t.Errorf("half: asked %d, %v %v", m.asked, r, err)
	}
}

func TestCompare(t *testing.T) {
	s := fourItems(t)
	dirs := [2]string{}
	for i, bias := range []string{"", "yes"} {
		r, err := Run(context.Background(), &letters{bias: bias}, s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		dirs[i] = t.TempDir()
		if err := r.Save(dirs[i], true); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dirs[i], ResultsFile)); err != nil || !json.Valid(b) {
			t.Errorf("results: %v", err)
		}
		if md := r.Markdown(); !strings.Contains(md, "| acc | ↑ |") {
			t.Errorf("report:\n%s", md)
		}
	}
	list, err := Compare(dirs[0], dirs[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.Metric != "acc,none" { // by character "yes" is the likelier one in both
			continue
		}
		if d.Task != "t" || d.Items != 4 || d.A != 1 || d.B != 0 || d.Diff != -1 || d.Stderr != 0 || d.Worse != 4 || d.Low != -1 || d.High != -1 || d.P < 0.05 || d.P > 0.2 {
			t.Errorf("got %+v", d) // of 16 ways to turn the signs two are as large
		}
	}
	if len(list) != 2 {
		t.Errorf("%d figures", len(list))
	}
	if _, err := Compare(dirs[0], t.TempDir()); err == nil {
		t.Error("compared with nothing")
	}
}

// Code is not run without a sandbox.
func TestRefusesPrograms(t *testing.T) {
	lib, err := NewLibrary()
	if err != nil {
		t.Fatal(err)
	}
	s, err := lib.Select([]string{"humaneval"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), &letters{}, s, Options{}); err == nil || !strings.Contains(err.Error(), "unsafe_code") {
		t.Errorf("got %v", err)
	}
}

// An endpoint that is busy at first is asked again; echoed log-probabilities are summed over the text behind the prompt.
func TestRemote(t *testing.T) {
	tries := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if tries++; tries == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var body map[string]any
		json.NewDecoder(q.Body).Decode(&body)
		switch {
		case q.Header.Get("Authorization") != "Bearer k":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(q.URL.Path, "/chat/completions"):
			w.Write([]byte(`{"choices": [{"message": {"content": "four STOP five"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}`))
		case body["echo"] == true:
			w.Write([]byte(`{"choices": [{"text": "a b cd", "logprobs": {"tokens": ["a", " b", " c", "d", "x"], "token_logprobs": [null, -1, -2, -0.5, -9],
				"text_offset": [0, 1, 3, 5, 6], "top_logprobs": [null, {" b": -1}, {" c": -2}, {"e": -0.1}, {"x": -9}]}}]}`))
		}
	}))
	defer server.Close()
	r := &Remote{URL: server.URL + "/v1", Key: "k", Model: "m", Wait: time.Millisecond}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	prompt, err := r.Template([]*jinja.Dict{newDoc("role", "user", "content", "2+2")}, true)
	if err != nil {
		t.Fatal(err)
	}
	got := ask(t, r, []Request{{Output: Generate, Context: prompt, Generation: Generation{Until: []string{" STOP"}}}, {Output: Likelihood, Context: "a b", Target: " cd"}})
	if got[0].Text != "four" || got[1].LogLikelihood != -2.5 || got[1].Greedy {
		t.Errorf("got %+v", got)
	}
	if r.Usage().Generated != 3 {
		t.Errorf("usage %+v", r.Usage())
	}
	r.Key = "wrong"
	if err := r.Answer(context.Background(), []Request{{Output: Generate, Context: "x"}}, nil); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a wrong key: %v", err)
	}
	for _, bad := range []*Remote{{URL: "localhost:8000", Model: "m"}, {URL: "http://localhost/v1"}} {
		if bad.Check() == nil {
			t.Errorf("%s %q was taken", bad.URL, bad.Model)
		}
	}
}
