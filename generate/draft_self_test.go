package generate

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"danlu/dtype"
	"danlu/format/safetensors"
	"danlu/internal/numtest"
)

// The module guesses through its cache what the reference data say that it predicts, and answers with guesses are those
// without.
func TestGoldenSelfDraft(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "models"), "*", "golden.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, path := range paths {
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if !slices.Contains(f.Names(), "mtp_logits") {
			continue
		}
		cases++
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			m, src, prompt := goldenModel(t, filepath.Dir(path))
			r := runnerOf(t, m, src, Options{Context: 96, Sequences: 2, PageLen: 8, Store: dtype.F32, Chunk: 5})
			guessesAsReferred(t, r, f)
			answersAreTheSame(t, r, prompt)
		})
	}
	if cases == 0 {
		t.Skip("SKIPPED: the committed subset has no case with a prediction module")
	}
	numtest.Count(t, "models (prediction modules)", cases)
}

func guessesAsReferred(t *testing.T, r *Runner, f *safetensors.File) {
	t.Helper()
	want, err := f.Tensor("mtp_logits")
	if err != nil {
		t.Fatal(err)
	}
	input, err := f.Tensor("input_ids")
	if err != nil {
		t.Fatal(err)
	}
	n, vocab := input.Shape[1], want.Shape[2]
	for row := range input.Shape[0] {
		var ids []int32
		for _, id := range input.I64()[row*n : (row+1)*n] {
			ids = append(ids, int32(id))
		}
		seq, err := r.Open()
		if err != nil {
			t.Fatal(err)
		}
		d, err := r.NewSelfDraft(seq)
		if err != nil {
			t.Fatal(err)
		}
		d.Surest = -1
		for at := 1; at < n; at += 1 + at%3 {
			for len(seq.IDs) < at {
				if _, err := r.Run(context.Background(), []Work{r.Next(seq, ids[:at], r.Chunk())}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := d.Draft(context.Background(), ids[:at+1], 3)
			if err != nil {
				t.Fatal(err)
			}
			best, _ := greedy(slices.Clone(want.F32()[(row*(n-1)+at-1)*vocab:][:vocab]), nil)
			if len(got) != 1 || got[0] != best {
				t.Errorf("row %d: behind %d tokens: guessed %v, want %d", row, at+1, got, best)
			}
		}
		d.Close()
		r.Close(seq)
	}
}

func answersAreTheSame(t *testing.T, r *Runner, prompt []int32) {
	t.Helper()
	for _, sampling := range []Sampling{{}, {Temperature: 1, Seed: 3}} {
		var answers [2][]int32
		for i := range answers {
			seq, err := r.Open()
			if err != nil {
				t.Fatal(err)
			}
			req := Request{Prompt: prompt, MaxNew: 60, Sampling: sampling}
			if i == 1 {
				d, err := r.NewSelfDraft(seq)
				if err != nil {
					t.Fatal(err)
				}
				d.Surest = -1
				req.Draft = &Drafting{Drafter: d, Most: 1}
			}
			res, err := r.Generate(context.Background(), seq, req)
			if err != nil {
				t.Fatal(err)
			}
			answers[i] = idsOf(res)
			if i == 1 && req.Draft.Drafted == 0 {
				t.Error("nothing was guessed")
			}
			req.Draft.Close()
			r.Close(seq)
		}
		if !slices.Equal(answers[0], answers[1]) {
			t.Errorf("with guesses %v, without %v", answers[1], answers[0])
		}
	}
}
