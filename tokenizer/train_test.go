package tokenizer

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

func TestGoldenByteTraining(t *testing.T) {
	root := numtest.Goldens(t, "tokenizer_training")
	dirs, _ := filepath.Glob(filepath.Join(root, "*"))
	cases := 0
	for _, dir := range dirs {
		var o struct {
			Trainer   string
			Input     []string
			VocabSize int      `json:"vocab_size"`
			MinFreq   int64    `json:"min_frequency"`
			Special   []string `json:"special_tokens"`
			Pattern   []string
			Norm      *string `json:"normalizer"`
		}
		b, err := os.ReadFile(filepath.Join(dir, "options.json"))
		if err != nil {
			continue
		}
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		if o.Trainer != "HF tokenizers BpeTrainer" {
			continue
		}
		tr := &ByteTrainer{VocabSize: o.VocabSize, MinFrequency: o.MinFreq, SpecialTokens: o.Special, NFC: o.Norm != nil && *o.Norm == "NFC"}
		if o.Pattern[0] != "GPT2" {
			tr.Pattern = o.Pattern[0]
		}
		countCorpus(t, tr, root, o.Input)
		got, err := tr.Train()
		if err != nil {
			t.Fatal(err)
		}
		want, err := Load(filepath.Join(dir, "tokenizer.json"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.pieces, want.pieces) {
			for i := range want.pieces {
				if i >= len(got.pieces) || got.pieces[i] != want.pieces[i] {
					t.Errorf("%s: first difference at id %d: want %q", filepath.Base(dir), i, want.pieces[i])
					break
				}
			}
		}
		for _, c := range readLines[goldenCase](t, filepath.Join(dir, "cases.jsonl")) {
			if ids := got.Encode(c.Text, Options{ParseSpecial: true}); !slices.Equal(ids, c.IDs) {
				t.Errorf("%s: encode %q: got %v, want %v", filepath.Base(dir), clip(c.Text), ids, c.IDs)
			}
			cases++
		}
	}
	numtest.Count(t, "tokenizer_training byte-level", cases)
}

func countCorpus(t *testing.T, tr Trainer, root string, names []string) {
	t.Helper()
	var files []string
	for _, n := range names {
		files = append(files, filepath.Join(root, "corpus", n))
	}
	if err := (&Counting{Files: files, Threads: 2}).Run(context.Background(), tr); err != nil {
		t.Fatal(err)
	}
}

// TestGoldenSPMTraining trains with each case's options: pieces, types and scores must be equal, in id order.
func TestGoldenSPMTraining(t *testing.T) {
	root := numtest.Goldens(t, "tokenizer_training")
	dirs, _ := filepath.Glob(filepath.Join(root, "*"))
	cases := 0
	for _, dir := range dirs {
		var o struct {
			Trainer string
			Input   []string
			Options map[string]any
		}
		b, err := os.ReadFile(filepath.Join(dir, "options.json"))
		if err != nil {
			continue
		}
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		if o.Trainer != "sentencepiece" {
			continue
		}
		tr := DefaultSPM()
		for name, v := range o.Options {
			if err := tr.Set(name, fmt.Sprint(v)); err != nil {
				t.Fatal(err)
			}
		}
		countCorpus(t, tr, root, o.Input)
		got, err := tr.Train()
		if err != nil {
			t.Fatal(err)
		}
		want, err := Load(filepath.Join(dir, "tokenizer.model"))
		if err != nil {
			t.Fatal(err)
		}
		gm, wm := parsed(t, got.original["tokenizer.model"]), parsed(t, want.original["tokenizer.model"])
		if !reflect.DeepEqual(gm, wm) {
			for i := range wm.pieces {
				if i >= len(gm.pieces) || gm.pieces[i] != wm.pieces[i] || gm.scores[i] != wm.scores[i] || gm.kinds[i] != wm.kinds[i] {
					t.Errorf("%s: first difference at id %d: want %q %g, got %q", filepath.Base(dir), i, wm.pieces[i], wm.scores[i], got.Piece(int32(i)))
					break
				}
			}
			gm.pieces, gm.scores, gm.kinds, wm.pieces, wm.scores, wm.kinds = nil, nil, nil, nil, nil, nil
			if !reflect.DeepEqual(gm, wm) {
				t.Errorf("%s: options: got %+v, want %+v", filepath.Base(dir), gm, wm)
			}
		}
		for _, c := range readLines[goldenCase](t, filepath.Join(dir, "cases.jsonl")) {
			if ids := got.Encode(c.Text, Options{}); !slices.Equal(ids, c.IDs) {
				t.Errorf("%s: encode %q: got %v, want %v", filepath.Base(dir), clip(c.Text), ids, c.IDs)
			}
			cases++
		}
	}
	numtest.Count(t, "tokenizer_training SentencePiece", cases)
}

func parsed(t *testing.T, data []byte) *spmModel {
	t.Helper()
	m, err := parseSPM(data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCountingResumes counts with one and with three goroutines, and from a state kept half way.
func TestCountingResumes(t *testing.T) {
	root := numtest.Goldens(t, "tokenizer_training/corpus")
	files := []string{filepath.Join(root, "en.txt"), filepath.Join(root, "zh.txt")}
	count := func(files []string, threads int, state string) *wordCount {
		t.Helper()
		tr := DefaultSPM()
		tr.NormalizationRuleName = "identity"
		c := &Counting{Files: files, Threads: threads, State: state}
		if err := c.Run(context.Background(), tr); err != nil {
			t.Fatal(err)
		}
		return tr.words()
	}
	words := func(c *wordCount) map[string]int64 {
		m := map[string]int64{}
		c.table.each(func(w []byte, n int64) { m[string(w)] = n })
		return m
	}
	want := count(files, 1, "")
	if got := count(files, 3, ""); !maps.Equal(words(got), words(want)) || !maps.Equal(got.chars, want.chars) || got.lines != want.lines {
		t.Error("3 goroutines: counts differ")
	}
	state := filepath.Join(t.TempDir(), "state")
	count(files, 2, state)
	tr := DefaultSPM()
	tr.NormalizationRuleName = "identity"
	c := &Counting{Files: files, State: state}
	if err := c.Run(context.Background(), tr); err != nil {
		t.Fatal(err)
	}
	if got := tr.words(); c.Resumed == 0 || !maps.Equal(words(got), words(want)) || !maps.Equal(got.chars, want.chars) || got.lines != want.lines {
		t.Errorf("resumed counts differ (%d bytes resumed)", c.Resumed)
	}
	other := DefaultSPM()
	other.NormalizationRuleName, other.SplitDigits = "identity", true
	if err := (&Counting{Files: files, State: state}).Run(context.Background(), other); err == nil || !strings.Contains(err.Error(), "other files or options") {
		t.Errorf("want an error for a state of other options, got %v", err)
	}
	data, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(state, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (&Counting{Files: files, State: state}).Run(context.Background(), DefaultSPM()); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("want a checksum error, got %v", err)
	}
}

func TestPruneBoundsWords(t *testing.T) {
	name := filepath.Join(t.TempDir(), "text")
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "common w%dx%d\n", i, i*i)
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	tr := &ByteTrainer{VocabSize: 260}
	c := &Counting{Files: []string{name}, Threads: 1, MaxWords: 100}
	if err := c.Run(context.Background(), tr); err != nil {
		t.Fatal(err)
	}
	if c.Dropped == 0 || tr.words().table.n > 100 {
		t.Errorf("dropped %d, left %d", c.Dropped, tr.words().table.n)
	}
}
