package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// BuildOptions says what Build encodes.
type BuildOptions struct {
	Datasets   []*Attr
	MediaDir   string // of relative image paths
	Encoder    Encoder
	MaxSamples int  // per dataset, 0: all
	Strict     bool // a malformed record is fatal
	// TokenBudget stops the reading of a dataset once about that many tokens are encoded (streaming: no more is prepared
	// than the run will use); 0: none. The samples kept are the same for any number of workers.
	TokenBudget int64
	// Path keeps the encoded samples in that folder and reuses them when files and Fingerprint are unchanged; "" uses a
	// temporary folder that Close removes.
	Path      string
	Overwrite bool // replace a store at Path that was made from other data
	// Fingerprint identifies the encoder: tokenizer, template, cutoff_len, masks. The contents of the files are added.
	Fingerprint string
	Media       bool // the encoder reads pictures and videos; without, examples that have any are dropped
	AllowNone   bool // nothing scored is no error (stages that only read prompts)
	Workers     int  // encoding goroutines, 0: GOMAXPROCS
	// Progress, if set, is called now and then with the records read so far.
	Progress func(records int64)
}

// Report counts what happened to the records.
type Report struct {
	Sources []SourceReport `json:"sources"`
	Reused  bool           `json:"-"` // the store at Path was taken as it was
}

// SourceReport counts one dataset.
type SourceReport struct {
	Name      string           `json:"name"`
	Records   int64            `json:"records"`          // read, malformed ones included
	Samples   int64            `json:"samples"`          // encoded
	Malformed int64            `json:"malformed"`        // unreadable or not of the dataset's format
	Dropped   int64            `json:"dropped"`          // refused by the encoder
	Truncated int64            `json:"truncated"`        // cut to cutoff_len
	Tokens    int64            `json:"tokens"`           // of all sequences
	Scored    int64            `json:"scored"`           // trained on
	Languages map[string]int64 `json:"languages"`        // tokens by language
	Errors    []string         `json:"errors,omitempty"` // the first few, with file and line
}

const maxReported = 5

func (r *SourceReport) bad(err error) {
	if len(r.Errors) < maxReported {
		r.Errors = append(r.Errors, err.Error())
	}
}

// Total sums the sources.
func (r *Report) Total() SourceReport {
	t := SourceReport{Name: "total", Languages: map[string]int64{}}
	for _, s := range r.Sources {
		t.Records += s.Records
		t.Samples += s.Samples
		t.Malformed += s.Malformed
		t.Dropped += s.Dropped
		t.Truncated += s.Truncated
		t.Tokens += s.Tokens
		t.Scored += s.Scored
		t.Errors = append(t.Errors, s.Errors...)
		for k, v := range s.Languages {
			t.Languages[k] += v
		}
	}
	return t
}

// String is a line per dataset, with the first errors below it.
func (r *Report) String() string {
	var b strings.Builder
	for _, s := range r.Sources {
		share := 0.0
		if s.Tokens > 0 {
			share = 100 * float64(s.Scored) / float64(s.Tokens)
		}
		fmt.Fprintf(&b, "%s: %d of %d records, %d tokens, %.1f%% scored, %d truncated, %d malformed, %d dropped\n", s.Name, s.Samples, s.Records, s.Tokens, share, s.Truncated, s.Malformed, s.Dropped)
		for _, e := range s.Errors {
			fmt.Fprintf(&b, "  %s\n", e)
		}
		if more := s.Malformed + s.Dropped - int64(len(s.Errors)); more > 0 {
			fmt.Fprintf(&b, "  and %d more\n", more)
		}
	}
	return b.String()
}

// job is a group of records on its way through the workers; results come out in file order whatever the timing.
type job struct {
	source int
	rows   []Row
	bad    []error // malformed records among them
	done   chan result
}

type result struct {
	samples         []*Sample
	malformed, lost []error
}

// Build reads, converts and encodes datasets into a store. Memory use is bounded by a few groups of records.
// errors: unreadable files, an empty dataset, nothing scored at all, and with Strict the first malformed record.
func Build(ctx context.Context, opt BuildOptions) (*Store, error) {
	if len(opt.Datasets) == 0 {
		return nil, errors.New("data: dataset: none given")
	}
	if len(opt.Datasets) > 1<<15 {
		return nil, fmt.Errorf("data: dataset: want at most %d, got %d", 1<<15, len(opt.Datasets))
	}
	var fingerprint string
	if opt.Path != "" {
		var err error
		if fingerprint, err = contentFingerprint(opt); err != nil {
			return nil, err
		}
		s, err := OpenStore(opt.Path)
		switch {
		case err == nil && s.Fingerprint() == fingerprint:
			s.meta.Report.Reused = true
			return s, nil
		case err == nil:
			s.Close()
			if !opt.Overwrite {
				return nil, fmt.Errorf("data: tokenized_path: %s was prepared from other files or settings; choose another folder or set overwrite_cache: true", opt.Path)
			}
		case !errors.Is(err, os.ErrNotExist) && !opt.Overwrite:
			return nil, err
		}
		if err := os.Remove(opt.Path + "/meta.json"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("data: tokenized_path: %w", err)
		}
	}
	w, err := newStoreWriter(opt.Path)
	if err != nil {
		return nil, err
	}
	report, ranges, err := opt.run(ctx, w)
	if err != nil {
		w.abort()
		return nil, err
	}
	total := report.Total()
	switch {
	case total.Samples == 0:
		err = fmt.Errorf("data: empty dataset: none of %d records could be used%s", total.Records, firstError(total))
	case total.Scored == 0 && !opt.AllowNone:
		err = fmt.Errorf("data: nothing is scored in %d samples: there would be nothing to learn; check template, mask_history and the dataset's columns", total.Samples)
	}
	for _, r := range report.Sources {
		if err == nil && r.Samples == 0 {
			err = fmt.Errorf("data: dataset %s: empty: none of %d records could be used%s", r.Name, r.Records, firstError(r))
		}
	}
	if err != nil {
		w.abort()
		return nil, err
	}
	return w.finish(fingerprint, report, ranges)
}

func firstError(r SourceReport) string {
	if len(r.Errors) == 0 {
		return ""
	}
	return ": " + r.Errors[0]
}

// groupSize returns how many records a job holds.
func (opt *BuildOptions) groupSize() int {
	if b, ok := opt.Encoder.(BatchEncoder); ok {
		return max(b.BatchSize(), 1)
	}
	return 64
}

func (opt *BuildOptions) run(ctx context.Context, w *storeWriter) (*Report, []Range, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := opt.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	ordered, work := make(chan *job, 2*workers), make(chan *job, 2*workers)
	full := make([]atomic.Bool, len(opt.Datasets)) // whose budget is spent
	readErr := make(chan error, 1)
	var group sync.WaitGroup
	group.Add(1)
	go func() {
		defer group.Done()
		defer close(ordered)
		defer close(work)
		readErr <- opt.read(ctx, ordered, work, full)
	}()
	for range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			for j := range work {
				j.done <- opt.encode(j)
			}
		}()
	}
	report := &Report{Sources: make([]SourceReport, len(opt.Datasets))}
	ranges := make([]Range, len(opt.Datasets))
	for i, a := range opt.Datasets {
		report.Sources[i] = SourceReport{Name: a.Name, Languages: map[string]int64{}}
		ranges[i].Name = a.Name
	}
	var err error
	records := int64(0)
	for j := range ordered {
		r := <-j.done
		if err != nil || full[j.source].Load() {
			continue
		}
		if err = opt.collect(w, &report.Sources[j.source], j, r); err != nil {
			cancel()
			continue
		}
		if opt.TokenBudget > 0 && report.Sources[j.source].Tokens >= opt.TokenBudget {
			full[j.source].Store(true)
		}
		for k := j.source; k < len(ranges); k++ {
			if k > j.source {
				ranges[k].First = w.store.meta.Samples
			}
			ranges[k].Last = w.store.meta.Samples
		}
		if records += int64(len(j.rows) + len(j.bad)); opt.Progress != nil {
			opt.Progress(records)
		}
	}
	group.Wait()
	if e := <-readErr; err == nil {
		err = e
	}
	if err != nil {
		return nil, nil, err
	}
	return report, ranges, nil
}

// read sends groups of records to the workers and to the collector, which takes them in order.
func (opt *BuildOptions) read(ctx context.Context, ordered, work chan<- *job, full []atomic.Bool) error {
	size := opt.groupSize()
	for source, a := range opt.Datasets {
		files, err := Open(a.Paths, ReadOptions{TextUnit: a.TextUnit})
		if err != nil {
			return fmt.Errorf("data: dataset %s: %w", a.Name, trimPrefix(err))
		}
		send := func(j *job) error {
			for _, c := range []chan<- *job{ordered, work} {
				select {
				case c <- j:
				case <-ctx.Done():
					if c == work { // the collector waits for it
						j.done <- result{}
					}
					return ctx.Err()
				}
			}
			return nil
		}
		newJob := func() *job { return &job{source: source, done: make(chan result, 1)} }
		j, bytes, taken := newJob(), 0, 0
		for !full[source].Load() && (opt.MaxSamples <= 0 || a.NumSamples > 0 || taken < opt.MaxSamples) {
			row, err := files.Next()
			if err == io.EOF {
				break
			}
			var bad *RowError
			if errors.As(err, &bad) {
				if opt.Strict {
					files.Close()
					return bad
				}
				j.bad = append(j.bad, bad)
			} else if err != nil {
				files.Close()
				return err
			} else {
				j.rows = append(j.rows, row)
				taken++
				for _, f := range row.Fields {
					bytes += len(f.Raw) + len(f.Text)
				}
			}
			_, batch := opt.Encoder.(BatchEncoder)
			if len(j.rows)+len(j.bad) >= size || !batch && bytes > 1<<20 {
				if err := send(j); err != nil {
					files.Close()
					return err
				}
				j, bytes = newJob(), 0
			}
		}
		if err := files.Close(); err != nil {
			return err
		}
		if len(j.rows)+len(j.bad) > 0 {
			if err := send(j); err != nil {
				return err
			}
		}
	}
	return nil
}

func trimPrefix(err error) error {
	if s, ok := strings.CutPrefix(err.Error(), "data: "); ok {
		return errors.New(s)
	}
	return err
}

func (opt *BuildOptions) encode(j *job) result {
	var r result
	var examples []*Example
	for i := range j.rows {
		ex, err := opt.Datasets[j.source].Convert(&j.rows[i], opt.MediaDir)
		if err != nil {
			r.malformed = append(r.malformed, err)
			continue
		}
		ex.Source = j.source
		examples = append(examples, ex)
	}
	var samples []*Sample
	var errs []error
	if b, ok := opt.Encoder.(BatchEncoder); ok {
		samples, errs = b.EncodeBatch(examples)
	} else {
		for _, ex := range examples {
			s, err := opt.Encoder.Encode(ex)
			samples, errs = append(samples, s), append(errs, err)
		}
	}
	for i, ex := range examples {
		if n := len(ex.Images) + len(ex.Videos); len(ex.Audios) > 0 || n > 0 && !opt.Media {
			errs[i] = fmt.Errorf("holds %d pictures or videos and %d sounds, which are not read here", n, len(ex.Audios))
		}
		if errs[i] == nil && (samples[i] == nil || len(samples[i].Sequences) == 0 || len(samples[i].Sequences[0].IDs) == 0) {
			errs[i] = errors.New("no tokens")
		}
		if errs[i] != nil {
			r.lost = append(r.lost, &RowError{File: ex.File, Line: ex.Line, Err: errs[i]})
			continue
		}
		s := samples[i]
		s.Source, s.File, s.Line, s.Language = ex.Source, ex.File, ex.Line, ex.language()
		s.Images, s.Videos, s.Audios = ex.Images, ex.Videos, ex.Audios
		for _, f := range ex.Extra {
			if s.Extra == nil {
				s.Extra = map[string]string{}
			}
			if _, ok := s.Extra[f.Name]; ok {
				continue
			}
			if text, ok := f.String(); ok {
				s.Extra[f.Name] = text
			} else {
				s.Extra[f.Name] = string(f.Raw)
			}
		}
		r.samples = append(r.samples, s)
	}
	return r
}

func (opt *BuildOptions) collect(w *storeWriter, s *SourceReport, j *job, r result) error {
	s.Records += int64(len(j.rows) + len(j.bad))
	s.Malformed += int64(len(j.bad) + len(r.malformed))
	s.Dropped += int64(len(r.lost))
	for _, errs := range [][]error{j.bad, r.malformed, r.lost} {
		for _, e := range errs {
			if opt.Strict {
				return e
			}
			s.bad(e)
		}
	}
	for _, sample := range r.samples {
		s.Samples++
		if sample.Truncated {
			s.Truncated++
		}
		for _, q := range sample.Sequences {
			s.Tokens += int64(len(q.IDs))
			s.Scored += int64(q.Scored())
			s.Languages[Languages[sample.Language]] += int64(len(q.IDs))
		}
		if err := w.add(sample); err != nil {
			return fmt.Errorf("data: %s: %w", w.store.dir, err)
		}
	}
	return nil
}

// contentFingerprint hashes the encoder's description, how the columns are read and the bytes of every file.
func contentFingerprint(opt BuildOptions) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\nmax_samples %d strict %v budget %d\n", storeFormat, opt.Fingerprint, opt.MaxSamples, opt.Strict, opt.TokenBudget)
	for _, a := range opt.Datasets {
		fmt.Fprintf(h, "%s %q %v %d %+v %+v\n", a.Formatting, a.TextUnit, a.Ranking, a.NumSamples, a.Columns, a.Tags)
		files, err := expand(a.Paths)
		if err != nil {
			return "", err
		}
		for _, p := range files {
			f, err := os.Open(p)
			if err != nil {
				return "", fmt.Errorf("data: %w", err)
			}
			n, err := io.Copy(h, f)
			f.Close()
			if err != nil {
				return "", fmt.Errorf("data: %s: %w", p, err)
			}
			fmt.Fprintf(h, "\n%d\n", n)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
