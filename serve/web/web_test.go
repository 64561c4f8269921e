package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// site serves the pages over a folder of runs.
func site(t *testing.T, runs string) http.Handler {
	t.Helper()
	routes, err := Routes(runs)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.Pattern, r.Handler)
	}
	return mux
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestPages(t *testing.T) {
	h := site(t, "")
	for path, kind := range map[string]string{"/": "text/html", "/runs": "text/html", "/plan": "text/html", "/assets/chat.js": "text/javascript", "/assets/page.css": "text/css", "/assets/icon.svg": "image/svg+xml"} {
		w := get(h, path)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: status %d, headers %v", path, w.Code, w.Header())
		}
		q := httptest.NewRequest("GET", path, nil)
		q.Header.Set("If-None-Match", w.Header().Get("ETag"))
		again := httptest.NewRecorder()
		h.ServeHTTP(again, q)
		if again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%s: asked again: status %d", path, again.Code)
		}
	}
	// What the policy of the pages forbids is not in them.
	entries, err := assets.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := assets.ReadFile("assets/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", " style=\"", "onclick=\"", "https://", "//cdn"} {
			if strings.Contains(strings.ReplaceAll(string(data), "http://www.w3.org", ""), bad) {
				t.Errorf("%s has %s", e.Name(), bad)
			}
		}
	}
}

// Words of both languages are the same.
func TestWords(t *testing.T) {
	data, err := assets.ReadFile("assets/words.js")
	if err != nil {
		t.Fatal(err)
	}
	en, zh, ok := strings.Cut(string(data), "\n  zh: {")
	if !ok {
		t.Fatal("words.js has no Chinese")
	}
	keys := func(text string) map[string]bool {
		found := map[string]bool{}
		for _, field := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
			if name, value, ok := strings.Cut(strings.TrimSpace(field), ": \""); ok && value != "" && !strings.ContainsAny(name, " \"") {
				found[name] = true
			}
		}
		return found
	}
	a, b := keys(en), keys(zh)
	if len(a) < 80 {
		t.Errorf("only %d English words", len(a))
	}
	for k := range a {
		if !b[k] {
			t.Errorf("%s has no Chinese", k)
		}
	}
	for k := range b {
		if !a[k] {
			t.Errorf("%s has no English", k)
		}
	}
}

func TestSheet(t *testing.T) {
	h := site(t, "")
	w := get(h, "/plan/sheet?model=7B&task=qlora&gpu=A100-80GB")
	if w.Code != http.StatusOK || strings.Contains(w.Header().Get("Content-Security-Policy"), "unsafe") || strings.Count(w.Header().Get("Content-Security-Policy"), "'sha256-") != 2 {
		t.Errorf("status %d, policy %s", w.Code, w.Header().Get("Content-Security-Policy"))
	}
	for _, q := range []string{"", "model=/etc/passwd&task=qlora&gpu=A100-80GB", "model=7B&task=dance&gpu=A100-80GB", "model=7B&task=qlora&gpu=abacus"} {
		if w := get(h, "/plan/sheet?"+q); w.Code != http.StatusBadRequest {
			t.Errorf("%q: status %d", q, w.Code)
		}
	}
}

// put writes a file and the folders around it.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRunsList(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a", metricsFile), `{"step":10,"loss":2.5,"eta_s":30}`+"\n"+`{"step":20,"eval_loss":2.4}`+"\n"+`{"step":30,"lo`)
	put(t, filepath.Join(dir, "a", logFile), `{"current_steps":20,"total_steps":40}`+"\n")
	put(t, filepath.Join(dir, "a", "checkpoint-10", stateFile), `{"global_step":10,"max_steps":40,"log_history":[]}`)
	put(t, filepath.Join(dir, "b", "c", metricsFile), `{"step":5,"loss":"NaN"}`+"\n")
	put(t, filepath.Join(dir, "b", "c", resultsFile), `{}`)
	put(t, filepath.Join(dir, "d", ".new", metricsFile), `{"step":1,"loss":4}`+"\n")
	put(t, filepath.Join(dir, ".hidden", metricsFile), `{"step":1}`+"\n")
	old := time.Now().Add(-time.Hour)
	for _, f := range []string{"b/c/" + metricsFile, "d/.new/" + metricsFile} {
		if err := os.Chtimes(filepath.Join(dir, f), old, old.Add(time.Duration(len(f))*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	var got struct{ Runs []run }
	w := get(site(t, dir), "/runs/list")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Runs) != 3 {
		t.Fatalf("runs: %s", w.Body)
	}
	a := got.Runs[0]
	if a.Name != "a" || !a.Live || a.Step != 20 || a.Steps != 40 || a.Loss == nil || *a.Loss != 2.5 || a.Left != 30 {
		t.Errorf("the first run: %+v", a)
	}
	for i, name := range []string{"d/.new", "b/c"} {
		if r := got.Runs[i+1]; r.Name != name || r.Live {
			t.Errorf("run %d: want %s, ended; got %+v", i+1, name, r)
		}
	}
}

// A log is read on from where the last look ended; one that was cut or replaced is read anew, and one in the making waits.
func TestRunsNews(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", metricsFile)
	h := site(t, dir)
	n := news{}
	look := func(want int, restarted bool) {
		t.Helper()
		q := url.Values{"run": {"a"}, "after": {strconv.FormatInt(n.Next, 10)}, "mark": {n.Mark}}
		w := get(h, "/runs/metrics?"+q.Encode())
		n = news{}
		if err := json.Unmarshal(w.Body.Bytes(), &n); err != nil || w.Code != http.StatusOK {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		if len(n.Rows) != want || n.Restarted != restarted {
			t.Errorf("want %d rows, anew %v; got %s", want, restarted, w.Body)
		}
	}
	put(t, path, `{"step":1}`+"\n"+`{"step":2}`+"\n"+`{"st`)
	look(2, false)
	look(0, false)
	put(t, path, `{"step":1}`+"\n"+`{"step":2}`+"\n"+`{"step":3}`+"\n")
	look(1, false)
	put(t, path, `{"step":1}`+"\n"+`{"step":9}`+"\n"+`{"step":3}`+"\n"+`{"step":4}`+"\n")
	look(4, true)
	put(t, path, `{"step":1}`+"\n")
	look(1, true)
	put(t, filepath.Join(dir, "a", samplesFile), `{"step":1,"prompt":"p","text":"t"}`+"\n")
	if look(0, false); len(n.Samples) != 1 {
		t.Errorf("samples: %s", n.Samples)
	}
}

// No request leads out of the folder.
func TestRunsStayInside(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "secret", metricsFile), `{"step":1}`+"\n")
	put(t, filepath.Join(dir, "runs", "a", metricsFile), `{"step":1}`+"\n")
	if err := os.Symlink("../secret", filepath.Join(dir, "runs", "way")); err != nil {
		t.Log(err)
	}
	h := site(t, filepath.Join(dir, "runs"))
	for _, name := range []string{"../secret", "way", "/etc", "a/../../secret", "", "none"} {
		if w := get(h, "/runs/metrics?"+url.Values{"run": {name}, "after": {"0"}}.Encode()); w.Code == http.StatusOK {
			t.Errorf("%q: %s", name, w.Body)
		}
	}
	for _, after := range []string{"", "-1", "x"} {
		if w := get(h, "/runs/metrics?run=a&after="+after); w.Code != http.StatusBadRequest {
			t.Errorf("after %q: status %d", after, w.Code)
		}
	}
}
