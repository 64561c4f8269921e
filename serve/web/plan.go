package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"

	"danlu/family"
	"danlu/hardware"
	"danlu/plan"
)

// sizeName is a model named by its size alone.
var sizeName = regexp.MustCompile(`^[0-9]{1,4}(\.[0-9]{1,3})?[bB]$`)

// inline are the scripts and styles inside a sheet.
var inline = regexp.MustCompile(`(?s)<(script|style)>(.*?)</(?:script|style)>`)

// sheets bounds how many sheets are computed at a time: each is some hundred plans.
var sheets = make(chan struct{}, 1)

// planner serves what danlu plan --html writes, for the models that need no file.
func planner() []Route {
	return []Route{{Pattern: "GET /plan/choices", Handler: choices}, {Pattern: "GET /plan/sheet", Handler: sheet}}
}

func choices(w http.ResponseWriter, _ *http.Request) {
	gpus, err := hardware.KnownGPUs("")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, map[string]any{"models": append([]string{"7B", "14B", "32B", "72B"}, family.Presets()...), "tasks": plan.Tasks, "gpus": gpus.Names()})
}

func sheet(w http.ResponseWriter, q *http.Request) {
	ask := q.URL.Query()
	r := plan.Request{Model: ask.Get("model"), Task: plan.Task(ask.Get("task"))}
	if !sizeName.MatchString(r.Model) && !slices.Contains(family.Presets(), r.Model) {
		http.Error(w, "model: want a preset (danlu models list) or a size such as 7B; danlu plan reads files", http.StatusBadRequest)
		return
	}
	gpus, err := hardware.KnownGPUs("")
	if err == nil {
		r.GPU, err = gpus.Find(ask.Get("gpu"))
	}
	var b bytes.Buffer
	if err == nil {
		select {
		case sheets <- struct{}{}:
			err = plan.WritePage(&b, r)
			<-sheets
		case <-q.Context().Done():
			return
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	sources := map[string]string{"script": "", "style": ""}
	for _, m := range inline.FindAllSubmatch(b.Bytes(), -1) {
		sources[string(m[1])] += " " + hash(m[2])
	}
	harden(w.Header(), "default-src 'none'; script-src"+sources["script"]+"; style-src"+sources["style"]+"; base-uri 'none'; form-action 'none'; frame-ancestors 'self'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes())
}

// write answers with JSON.
func write(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(append(b, '\n'))
}
