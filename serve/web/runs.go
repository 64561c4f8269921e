package web

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"danlu/train"
)

// Files of a run folder.
const (
	metricsFile = "metrics.jsonl"
	samplesFile = "samples.jsonl"
	logFile     = "trainer_log.jsonl"
	stateFile   = "trainer_state.json" // of runs of other programs, which have no metrics.jsonl
	resultsFile = "all_results.json"   // is written when a run has ended
)

const (
	mostRuns    = 500
	deepest     = 4        // folders below the one that is followed
	mostNews    = 4 << 20  // bytes of a log in one answer; the rest follows
	mostState   = 64 << 20 // bytes of a trainer_state.json
	tailBytes   = 64 << 10 // from the end of a log, in which the newest values are looked for
	mostSamples = 40
	liveFor     = 10 * time.Minute // a run that logged nothing for so long is over, whatever it left
)

// follower reads the run folders under one folder.
type follower struct {
	folder string
	root   *os.Root // what a request names cannot lead out of it
}

func follow(folder string) ([]Route, error) {
	f := &follower{folder: folder}
	if folder != "" {
		var err error
		if f.root, err = os.OpenRoot(folder); err != nil {
			return nil, fmt.Errorf("web: runs: %w", err)
		}
	}
	return []Route{{"GET /runs/list", true, f.list}, {"GET /runs/metrics", true, f.metrics}}, nil
}

// run is a line of the list.
type run struct {
	Name  string   `json:"name"`
	Live  bool     `json:"live"`
	Step  int64    `json:"step"`
	Steps int64    `json:"steps,omitempty"` // of the whole run, where it is known
	Loss  *float64 `json:"loss,omitempty"`
	Left  float64  `json:"left,omitempty"` // seconds
	time  time.Time
}

// list answers with the runs, the newest first.
func (f *follower) list(w http.ResponseWriter, _ *http.Request) {
	runs := []run{}
	if f.root != nil {
		fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || !d.IsDir():
				return nil
			case len(runs) == mostRuns:
				return fs.SkipAll
			case name != "." && !follows(d.Name()), strings.Count(name, "/") >= deepest:
				return fs.SkipDir
			}
			if r, ok := f.run(name); ok {
				runs = append(runs, r)
			}
			return nil
		})
	}
	slices.SortStableFunc(runs, func(a, b run) int { return b.time.Compare(a.time) })
	write(w, map[string]any{"folder": f.folder, "runs": runs})
}

// follows reports whether runs are looked for in a folder: not in checkpoints and hidden folders, except the one in which
// a run works that will replace an older one.
func follows(name string) bool {
	return (!strings.HasPrefix(name, ".") || name == train.NewRun) && !strings.HasPrefix(name, "checkpoint-")
}

// run looks at a folder; false when no run is in it.
func (f *follower) run(name string) (run, bool) {
	r := run{Name: name}
	info, err := f.root.Stat(path.Join(name, metricsFile))
	if err != nil {
		s, info, err := f.state(name)
		if err != nil {
			return r, false
		}
		r.Step, r.Steps, r.time = s.Step, s.Max, info.ModTime()
		r.Live = s.Step < s.Max && time.Since(r.time) < liveFor
		for _, line := range s.History {
			r.newest(line)
		}
		return r, true
	}
	r.time = info.ModTime()
	for line := range bytes.Lines(f.tail(name, metricsFile, tailBytes)) {
		r.newest(line)
	}
	var last struct {
		Steps int64 `json:"total_steps"`
	}
	for line := range bytes.Lines(f.tail(name, logFile, tailBytes)) {
		json.Unmarshal(line, &last) // a line in the making says nothing yet
	}
	r.Steps = max(0, last.Steps)
	results, err := f.root.Stat(path.Join(name, resultsFile))
	over := err == nil && !results.ModTime().Before(info.ModTime())
	r.Live = !over && time.Since(r.time) < liveFor
	return r, true
}

// newest takes over what a line of a log says.
func (r *run) newest(line []byte) {
	var x struct {
		Step int64    `json:"step"`
		Loss *float64 `json:"loss"`
		ETA  *float64 `json:"eta_s"`
	}
	if json.Unmarshal(line, &x) != nil {
		return
	}
	if r.Step = x.Step; x.Loss != nil {
		r.Loss = x.Loss
	}
	if x.ETA != nil {
		r.Left = *x.ETA
	}
}

// tail is the end of a file, from a line's beginning on; empty when there is no such file.
func (f *follower) tail(name, file string, most int64) []byte {
	h, err := f.root.Open(path.Join(name, file))
	if err != nil {
		return nil
	}
	defer h.Close()
	info, err := h.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	from := max(0, info.Size()-most)
	data, err := io.ReadAll(io.NewSectionReader(h, from, most))
	if err != nil {
		return nil
	}
	if from > 0 {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return data
}

// state is what is read of a trainer_state.json.
type state struct {
	Step    int64             `json:"global_step"`
	Max     int64             `json:"max_steps"`
	History []json.RawMessage `json:"log_history"`
}

func (f *follower) state(name string) (*state, fs.FileInfo, error) {
	h, err := f.root.Open(path.Join(name, stateFile))
	if err != nil {
		return nil, nil, err
	}
	defer h.Close()
	info, err := h.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > mostState {
		return nil, nil, fmt.Errorf("web: %s has more than %d bytes", stateFile, mostState)
	}
	s := &state{}
	return s, info, json.NewDecoder(h).Decode(s)
}

// news is what a log has more than at the last look.
type news struct {
	Rows      []json.RawMessage `json:"rows"`
	Samples   []json.RawMessage `json:"samples"` // the newest, all of them each time
	Next      int64             `json:"next"`    // where the next look begins
	Mark      string            `json:"mark"`    // tells whether the log up to there is still the same
	Restarted bool              `json:"restarted,omitempty"`
}

// metrics answers with what a run has logged behind a place in its log. A log that was cut or written anew starts again.
func (f *follower) metrics(w http.ResponseWriter, q *http.Request) {
	ask := q.URL.Query()
	name := ask.Get("run")
	after, err := strconv.ParseInt(ask.Get("after"), 10, 64)
	if f.root == nil || err != nil || after < 0 {
		http.Error(w, "runs: want run, and after as a number of bytes", http.StatusBadRequest)
		return
	}
	n, err := f.news(name, after, ask.Get("mark"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, "runs: no such run", http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n.Samples = rows(f.tail(name, samplesFile, 4*tailBytes))
	n.Samples = n.Samples[max(0, len(n.Samples)-mostSamples):]
	write(w, n)
}

func (f *follower) news(name string, after int64, mark string) (*news, error) {
	h, err := f.root.Open(path.Join(name, metricsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return f.stateNews(name, mark)
	}
	if err != nil {
		return nil, err
	}
	defer h.Close()
	n := &news{}
	if after > 0 && markAt(h, after) != mark {
		after, n.Restarted = 0, true
	}
	data, err := io.ReadAll(bufio.NewReader(io.NewSectionReader(h, after, mostNews)))
	if err != nil {
		return nil, err
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1] // a line in the making is read when it is whole
	n.Rows, n.Next = rows(data), after+int64(len(data))
	n.Mark = markAt(h, n.Next)
	return n, nil
}

// stateNews are all rows of a trainer_state.json when it has changed.
func (f *follower) stateNews(name, mark string) (*news, error) {
	s, info, err := f.state(name)
	if err != nil {
		return nil, err
	}
	n := &news{Rows: []json.RawMessage{}, Next: info.Size(), Mark: fmt.Sprint(info.ModTime().UnixNano())}
	if n.Mark != mark {
		n.Rows, n.Restarted = s.History, true
	}
	return n, nil
}

// markAt is a sum over the bytes before a place, "" where there are fewer.
func markAt(r io.ReaderAt, at int64) string {
	before := make([]byte, min(at, 256))
	if n, _ := r.ReadAt(before, at-int64(len(before))); n < len(before) {
		return ""
	}
	sum := sha256.Sum256(before)
	return hex.EncodeToString(sum[:8])
}

// rows are the lines that are JSON objects.
func rows(data []byte) []json.RawMessage {
	out := []json.RawMessage{}
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] == '{' && json.Valid(line) {
			out = append(out, line)
		}
	}
	return out
}
