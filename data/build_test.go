package data

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func chatFile(t testing.TB, dir, name string, n int) *Attr {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"instruction\": \"q%d\", \"output\": \"%s\"}\n", i, strings.Repeat("x", 1+i%9))
	}
	a, err := Detect(writeFile(t, dir, name, b.String()))
	if err != nil {
		t.Fatal(err)
	}
	a.Name = name
	return a
}

func chatEncoder() *ChatEncoder {
	return &ChatEncoder{Template: byteTemplate{}, CutoffLen: 64, EfficientEOS: -1}
}

func build(t testing.TB, opt BuildOptions) *Store {
	t.Helper()
	s, err := Build(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestBuildCountsAndNamesWhatItDrops(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, dir, "a.jsonl", strings.Join([]string{
		`{"instruction": "one", "output": "1"}`,
		`{"instruction": "broken"`,
		`{"instruction": "", "output": "1"}`,
		`{"instruction": "no answer"}`,
		`{"instruction": "long ` + strings.Repeat("y", 100) + `", "output": "1"}`,
		`{"instruction": "中文问题", "output": "好"}`,
	}, "\n"))
	a, err := Detect(path)
	if err != nil {
		t.Fatal(err)
	}
	s := build(t, BuildOptions{Datasets: []*Attr{a}, Encoder: chatEncoder()})
	r := s.Report().Sources[0]
	if r.Records != 6 || r.Samples != 3 || r.Malformed != 2 || r.Dropped != 1 || r.Truncated != 1 || r.Languages["zh"] == 0 || r.Languages["en"] == 0 {
		t.Errorf("got %+v", r)
	}
	text := s.Report().String()
	for _, want := range []string{"a.jsonl:2: ", "a.jsonl:3: ", "a.jsonl:4: ", "3 of 6 records"} {
		if !strings.Contains(text, want) {
			t.Errorf("report without %q:\n%s", want, text)
		}
	}
	sample, err := s.Sample(1)
	if err != nil {
		t.Fatal(err)
	}
	if sample.File != path || sample.Line != 5 || !sample.Truncated || len(sample.Sequences[0].IDs) != 64 {
		t.Errorf("sample 1: %+v", sample)
	}
	_, err = Build(context.Background(), BuildOptions{Datasets: []*Attr{a}, Encoder: chatEncoder(), Strict: true})
	var bad *RowError
	if !errors.As(err, &bad) || bad.Line != 2 {
		t.Errorf("strict: want an error of line 2, got %v", err)
	}
}

func TestBuildRefusesNothingToLearn(t *testing.T) {
	dir := t.TempDir()
	a := chatFile(t, dir, "a.jsonl", 3)
	prompts := &PromptEncoder{Template: byteTemplate{}, CutoffLen: 64}
	if _, err := Build(context.Background(), BuildOptions{Datasets: []*Attr{a}, Encoder: prompts}); err == nil || !strings.Contains(err.Error(), "nothing is scored") {
		t.Errorf("got %v", err)
	}
	s := build(t, BuildOptions{Datasets: []*Attr{a}, Encoder: prompts, AllowNone: true})
	if x, err := s.Sample(1); err != nil || x.Extra["answer"] != "xx" || x.Sequences[0].IDs[0] != 1 || slices.Contains(x.Sequences[0].IDs, 3) {
		t.Errorf("prompt: %+v %v", x, err)
	}
	broken := *a
	broken.Columns.Prompt = "missing"
	broken.Name = "broken"
	if _, err := Build(context.Background(), BuildOptions{Datasets: []*Attr{a, &broken}, Encoder: chatEncoder()}); err == nil || !strings.Contains(err.Error(), "dataset broken: empty") {
		t.Errorf("got %v", err)
	}
	if _, err := Build(context.Background(), BuildOptions{Encoder: chatEncoder()}); err == nil {
		t.Error("no dataset was accepted")
	}
}

func TestBuildStopsWhenCancelled(t *testing.T) {
	a := chatFile(t, t.TempDir(), "a.jsonl", 5000)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Build(ctx, BuildOptions{Datasets: []*Attr{a}, Encoder: chatEncoder(), Progress: func(int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("want a cancelled build, got %v", err)
	}
}

func TestBuildIsTheSameForAnyWorkers(t *testing.T) {
	a := chatFile(t, t.TempDir(), "a.jsonl", 700)
	var first []byte
	for _, workers := range []int{1, 2, 7} {
		dir := filepath.Join(t.TempDir(), "tokens")
		build(t, BuildOptions{Datasets: []*Attr{a}, Encoder: chatEncoder(), Workers: workers, Path: dir})
		raw, err := os.ReadFile(filepath.Join(dir, "samples.bin"))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = raw
		} else if !slices.Equal(raw, first) {
			t.Errorf("%d workers write other bytes", workers)
		}
	}
}

func TestTokenBudgetStopsReading(t *testing.T) {
	dir := t.TempDir()
	sets := []*Attr{chatFile(t, dir, "a.jsonl", 2000), chatFile(t, dir, "b.jsonl", 2000)}
	var want [2]int64
	for _, workers := range []int{1, 2, 5} {
		s := build(t, BuildOptions{Datasets: sets, Encoder: chatEncoder(), Workers: workers, TokenBudget: 3000})
		for k, r := range s.Report().Sources {
			if r.Tokens < 3000 || r.Tokens > 5000 {
				t.Errorf("%d workers: %d tokens of %s", workers, r.Tokens, r.Name)
			}
			if want[k] == 0 {
				want[k] = r.Samples
			} else if want[k] != r.Samples {
				t.Errorf("%d workers: %d samples of %s, before %d", workers, r.Samples, r.Name, want[k])
			}
		}
	}
}

func TestTokenizedPathIsReused(t *testing.T) {
	dir := t.TempDir()
	a := chatFile(t, dir, "a.jsonl", 20)
	opt := BuildOptions{Datasets: []*Attr{a}, Encoder: chatEncoder(), Path: filepath.Join(dir, "tokens"), Fingerprint: "tokenizer 1"}
	one := build(t, opt)
	if one.Report().Reused {
		t.Error("the first build was reused")
	}
	two := build(t, opt)
	if !two.Report().Reused || two.Len() != one.Len() || two.Tokens() != one.Tokens() || two.Scored() != one.Scored() {
		t.Errorf("reused: %v, %d samples", two.Report().Reused, two.Len())
	}
	for i := range one.Len() {
		x, err1 := one.Sample(i)
		y, err2 := two.Sample(i)
		if err1 != nil || err2 != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("sample %d: %v %v", i, err1, err2)
		}
	}
	changed := opt
	changed.Fingerprint = "tokenizer 2"
	if _, err := Build(context.Background(), changed); err == nil || !strings.Contains(err.Error(), "overwrite_cache") {
		t.Errorf("another tokenizer: got %v", err)
	}
	changed.Overwrite = true
	build(t, changed)
	writeFile(t, dir, "a.jsonl", `{"instruction": "new", "output": "data"}`)
	if _, err := Build(context.Background(), opt); err == nil {
		t.Error("changed files were not noticed")
	}
}

func TestOpenStoreFindsDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokens")
	build(t, BuildOptions{Datasets: []*Attr{chatFile(t, dir, "a.jsonl", 20)}, Encoder: chatEncoder(), Path: path})
	for _, name := range []string{"samples.bin", "index.bin", "meta.json"} {
		file := filepath.Join(path, name)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		flipped := slices.Clone(good)
		flipped[len(flipped)/3] ^= 0x40
		for what, bytes := range map[string][]byte{"flipped": flipped, "cut": good[:len(good)-5]} {
			if err := os.WriteFile(file, bytes, 0o666); err != nil {
				t.Fatal(err)
			}
			s, err := OpenStore(path)
			if err == nil && name != "meta.json" {
				t.Errorf("%s %s was accepted", name, what)
			}
			if err == nil {
				s.Close()
			}
		}
		if err := os.WriteFile(file, good, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(path, "meta.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an incomplete store: got %v", err)
	}
}

func TestPreferenceAndFeedback(t *testing.T) {
	dir := t.TempDir()
	pairs, err := Detect(writeFile(t, dir, "p.jsonl", "{\"prompt\": \"q\", \"chosen\": \"good\", \"rejected\": \"bad one\"}\n{\"prompt\": \"r\", \"chosen\": \"x\", \"rejected\": \"y\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := build(t, BuildOptions{Datasets: []*Attr{pairs}, Encoder: &PreferenceEncoder{Template: byteTemplate{}, CutoffLen: 10, EfficientEOS: -1}})
	l, err := NewLoader(&Set{Store: s}, LoaderOptions{CutoffLen: 10, BatchSize: 2, FixedShape: true})
	if err != nil {
		t.Fatal(err)
	}
	step, err := l.Next()
	if err != nil {
		t.Fatal(err)
	}
	b := step.Batches[0]
	if b.B != 4 || b.Sequences != 2 || b.Rows != 4 || b.T != 10 {
		t.Fatalf("batch: %+v", b)
	}
	if !slices.Equal(b.Samples[0], b.Samples[2]) || b.Labels[0] != Ignore || b.Labels[2] != Ignore || b.Labels[3] != 'g'+10 || b.Labels[20+3] != 'b'+10 {
		t.Errorf("rows: %v labels %v", b.Samples, b.Labels)
	}
	kto, err := Detect(writeFile(t, dir, "k.jsonl", "{\"prompt\": \"q\", \"completion\": \"a\", \"label\": true}\n{\"prompt\": \"r\", \"completion\": \"b\", \"label\": false}\n{\"prompt\": \"s\", \"completion\": \"c\", \"label\": true}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s = build(t, BuildOptions{Datasets: []*Attr{kto}, Encoder: &FeedbackEncoder{Template: byteTemplate{}, CutoffLen: 10, EfficientEOS: -1}})
	want := []string{"q a c", "r b a", "s c b"}
	for i := range s.Len() {
		x, err := s.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		char := func(k, at int) string { return string(rune(x.Sequences[k].IDs[at] - 10)) }
		if got := char(0, 1) + " " + char(0, 3) + " " + char(1, 3); got != want[i] || x.Label != (i != 1) {
			t.Errorf("sample %d: want %s, got %s, label %v", i, want[i], got, x.Label)
		}
	}
	if l, err = NewLoader(&Set{Store: s}, LoaderOptions{CutoffLen: 10, BatchSize: 3}); err != nil {
		t.Fatal(err)
	}
	if step, err = l.Next(); err != nil || !slices.Equal(step.Batches[0].Labelled, []bool{true, false, true}) {
		t.Errorf("labels: %v %v", step.Batches[0].Labelled, err)
	}
}

func TestChatEncoderMasksAndCuts(t *testing.T) {
	ids := func(n int, from int32) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = from + int32(i)
		}
		return out
	}
	pairs := []Pair{{ids(3, 10), ids(2, 20)}, {ids(2, 30), ids(2, 40)}}
	x := Ignore
	for _, c := range []struct {
		name   string
		e      ChatEncoder
		ids    []int32
		labels []int32
	}{
		{"plain", ChatEncoder{CutoffLen: 99, EfficientEOS: -1}, []int32{10, 11, 12, 20, 21, 30, 31, 40, 41}, []int32{x, x, x, 20, 21, x, x, 40, 41}},
		{"mask history", ChatEncoder{CutoffLen: 99, EfficientEOS: -1, MaskHistory: true}, []int32{10, 11, 12, 20, 21, 30, 31, 40, 41}, []int32{x, x, x, x, x, x, x, 40, 41}},
		{"train on prompt", ChatEncoder{CutoffLen: 99, EfficientEOS: -1, TrainOnPrompt: true}, []int32{10, 11, 12, 20, 21, 30, 31, 40, 41}, []int32{10, 11, 12, 20, 21, 30, 31, 40, 41}},
		{"efficient eos", ChatEncoder{CutoffLen: 99, EfficientEOS: 2}, []int32{10, 11, 12, 20, 21, 30, 31, 40, 41, 2}, []int32{x, x, x, 20, 21, 2, x, 40, 41, 2}},
		{"cut the last round", ChatEncoder{CutoffLen: 7, EfficientEOS: -1}, []int32{10, 11, 12, 20, 21, 30, 40}, []int32{x, x, x, 20, 21, x, 40}},
		{"cut the first round", ChatEncoder{CutoffLen: 7, EfficientEOS: -1, MaskHistory: true}, []int32{10, 11, 20, 30, 31, 40, 41}, []int32{x, x, x, x, x, 40, 41}},
		{"no room for the second", ChatEncoder{CutoffLen: 5, EfficientEOS: -1}, []int32{10, 11, 12, 20, 21}, []int32{x, x, x, 20, 21}},
	} {
		got, truncated := c.e.Join(pairs, nil)
		if !slices.Equal(got.IDs, c.ids) || !slices.Equal(got.Labels, c.labels) || truncated != (c.e.CutoffLen < 9) {
			t.Errorf("%s: want %v %v, got %v %v (truncated %v)", c.name, c.ids, c.labels, got.IDs, got.Labels, truncated)
		}
	}
	got, _ := (&ChatEncoder{CutoffLen: 99, EfficientEOS: -1}).Join(pairs, func(round int) bool { return round == 0 })
	if !slices.Equal(got.Labels, []int32{x, x, x, x, x, x, x, 40, 41}) {
		t.Errorf("an excepted round is scored: %v", got.Labels)
	}
}

func TestMixSharesAndSplits(t *testing.T) {
	dir := t.TempDir()
	s := build(t, BuildOptions{Datasets: []*Attr{chatFile(t, dir, "a.jsonl", 300), chatFile(t, dir, "b.jsonl", 100), chatFile(t, dir, "c.jsonl", 50)}, Encoder: chatEncoder()})
	for _, c := range []struct {
		strategy string
		probs    []float64
		tokens   bool
		rows     func(n int64) bool
	}{
		{Concat, nil, false, func(n int64) bool { return n == 450 }},
		{InterleaveUnder, nil, false, func(n int64) bool { return n >= 148 && n <= 150 }},
		{InterleaveUnder, []float64{0.5, 0.3, 0.2}, false, func(n int64) bool { return n >= 245 && n <= 251 }},
		{InterleaveOver, []float64{0.5, 0.3, 0.2}, false, func(n int64) bool { return n >= 595 && n <= 602 }},
		{InterleaveOver, []float64{1, 1, 2}, true, func(n int64) bool { return n > 900 }},
		{InterleaveOnce, []float64{0.5, 0.3, 0.2}, false, func(n int64) bool { return n == 450 }},
		{InterleaveUnder, []float64{1, 0, 1}, false, func(n int64) bool { return n >= 99 && n <= 101 }},
	} {
		train, val, err := Mix(s, MixOptions{Strategy: c.strategy, Probs: c.probs, ByTokens: c.tokens, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if val != nil || !c.rows(train.Len()) {
			t.Errorf("%s %v: %d rows", c.strategy, c.probs, train.Len())
		}
		if c.strategy == Concat || c.strategy == InterleaveOnce {
			continue
		}
		for _, m := range train.Mix {
			got := m.RowShare
			if c.tokens {
				got = m.TokenShare
			}
			if !(math.Abs(got-m.Asked) <= 0.01) {
				t.Errorf("%s %v: %s", c.strategy, c.probs, m)
			}
		}
	}
	for size, want := range map[float64]int64{0.1: 45, 0.001: 1, 1: 1, 7: 7} {
		train, val, err := Mix(s, MixOptions{Strategy: InterleaveOver, ValSize: size, Seed: 3})
		if err != nil {
			t.Fatal(err)
		}
		if val.Len() != want {
			t.Errorf("val_size %v: want %d rows, got %d", size, want, val.Len())
		}
		for _, i := range train.Order {
			if slices.Contains(val.Order, i) {
				t.Fatalf("val_size %v: row %d is in both", size, i)
			}
		}
	}
	train, _, err := Mix(s, MixOptions{NumSamples: []int{10, 150, 0}, MaxSamples: 120, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	if m := train.Mix; m[0].Rows != 10 || m[1].Rows != 120 || m[2].Rows != 50 {
		t.Errorf("num_samples: %v", m)
	}
	for _, bad := range []MixOptions{
		{Strategy: "shuffle"}, {Probs: []float64{1, 1, 1}}, {Strategy: InterleaveOver, Probs: []float64{1}}, {Strategy: InterleaveOver, Probs: []float64{0, 0, 0}},
		{Strategy: InterleaveOver, Probs: []float64{1, math.NaN(), 1}}, {ValSize: 450}, {ValSize: -1}, {ValSize: math.NaN()},
	} {
		if _, _, err := Mix(s, bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestInfillerDrawsWhatItPromises(t *testing.T) {
	tokens := GLMTokens{Mask: 300, GMask: 301, SMask: 302, SOP: 303, EOP: 304, EOS: 2}
	for _, f := range []Infiller{{Short: 1}, {Short: 0.5, Sentence: 0.2, EndsSentence: func(id int32) bool { return id%5 == 0 }}, {}} {
		f.Tokens = tokens
		if err := f.Check(); err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(300) {
			r := newRand(seed, streamInfill, 0)
			n := 2 + r.IntN(200)
			width := n + 2
			for f.Window(width) < n {
				width++
			}
			ids := make([]int32, n)
			for i := range ids {
				ids[i] = int32(10 + r.IntN(200))
			}
			if seed%2 == 0 {
				ids[n-1] = tokens.EOS
			}
			l, err := f.Draw(ids, r)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.IDs) > width {
				t.Fatalf("%d tokens of a document give %d, the window promised %d", n, len(l.IDs), width)
			}
			if got := restore(t, l, tokens); !slices.Equal(got, ids) {
				t.Fatalf("want %v back, got %v from %+v", ids, got, l)
			}
		}
	}
	var covered, total int
	f := Infiller{Tokens: tokens, Short: 1}
	for seed := range uint64(50) {
		spans := (&Infiller{Tokens: tokens, Short: 1, MaskRatio: 0.15, Lambda: 3}).blanks(200, newRand(seed, streamInfill, 1))
		total += 200
		for _, s := range spans {
			covered += s.End - s.Start
		}
	}
	if covered*100 != total*15 {
		t.Errorf("blanks cover %d of %d tokens, want 15%% (window %d)", covered, total, f.Window(100))
	}
}

// restore rebuilds a document from its layout, checking position row 2 on the way.
func restore(t *testing.T, l Layout, tokens GLMTokens) []int32 {
	t.Helper()
	fill := map[int32][]int32{} // by the mask's position
	for i := l.Prefix; i < len(l.IDs); i++ {
		at := l.Positions[0][i]
		if l.IDs[i] == tokens.SOP && l.Positions[1][i] != 1 || l.IDs[i] != tokens.SOP && l.Positions[1][i] != l.Positions[1][i-1]+1 {
			t.Fatalf("place %d: second position %d", i, l.Positions[1][i])
		}
		if l.Targets[i] != tokens.EOP {
			fill[at] = append(fill[at], l.Targets[i])
		}
	}
	var out []int32
	for i, id := range l.IDs[:l.Prefix] {
		if id == tokens.Mask || id == tokens.GMask || id == tokens.SMask {
			out = append(out, fill[l.Positions[0][i]]...)
		} else {
			out = append(out, id)
		}
		if l.Targets[i] != Ignore || l.Positions[1][i] != 0 {
			t.Fatalf("place %d of part A is scored or counted", i)
		}
	}
	return out
}

func FuzzDecodeSample(f *testing.F) {
	f.Add([]byte{1, labelsBits, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, '{', '}'})
	f.Add([]byte{2, labelsNone, 0, 0, 0, 0, labelsFull, 1, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, '{', '}'})
	f.Add([]byte{255, 9, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, _, err := decodeSample(b)
		if err == nil {
			for _, q := range s.Sequences {
				if q.Labels != nil && len(q.Labels) != len(q.IDs) {
					t.Error("labels and ids of different lengths")
				}
			}
		}
	})
}
