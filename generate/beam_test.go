package generate

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/dtype"
	"danlu/family"
	"danlu/internal/numtest"
	"danlu/weights"
)

// Greedy answers, with penalties, and beams as Hugging Face's generate gives them.
func TestGoldenGenerate(t *testing.T) {
	dir := numtest.Goldens(t, "training/sampling")
	data, err := os.ReadFile(filepath.Join(dir, "generate.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Prompts [][]int32
		Runs    []struct {
			Name    string
			Options struct {
				MaxNew     int      `json:"max_new_tokens"`
				Repetition float64  `json:"repetition_penalty"`
				NGram      int      `json:"no_repeat_ngram_size"`
				Beams      int      `json:"num_beams"`
				Wanted     int      `json:"num_return_sequences"`
				Penalty    *float64 `json:"length_penalty"`
				Early      bool     `json:"early_stopping"`
			}
			EOS       int32
			Sequences [][]int32
			Scores    []float64 `json:"sequence_scores"`
		}
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	model, _, err := family.Load(filepath.Join(dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	src, err := weights.Open(filepath.Join(dir, "model"), weights.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	r := runnerOf(t, model, src, Options{Context: 32, Sequences: 8, PageLen: 4, Store: dtype.F32})
	for _, run := range g.Runs {
		o := run.Options
		per := max(1, o.Wanted)
		for i, prompt := range g.Prompts {
			var got []Beam
			if o.Beams > 0 {
				search := BeamSearch{Beams: o.Beams, LengthPenalty: 1, Early: o.Early, MaxNew: o.MaxNew, End: []int32{run.EOS}}
				if o.Penalty != nil {
					search.LengthPenalty = *o.Penalty
				}
				if got, err = r.Search(context.Background(), prompt, search); err != nil {
					t.Fatal(err)
				}
				got = got[:per]
			} else {
				answers, err := r.Batch(context.Background(), []Request{{Prompt: prompt, MaxNew: o.MaxNew, End: []int32{run.EOS},
					Sampling: Sampling{RepetitionPenalty: o.Repetition, NoRepeatNGram: o.NGram}}}, nil)
				if err != nil {
					t.Fatal(err)
				}
				got = []Beam{{IDs: answers[0].IDs}}
			}
			for k, x := range got {
				want := run.Sequences[per*i+k][len(prompt):]
				for n := len(want); n > len(x.IDs) && (want[n-1] == 0 || want[n-1] == run.EOS); n-- { // padding
					want = want[:n-1]
				}
				if !slices.Equal(x.IDs, want) {
					t.Errorf("%s, prompt %d, answer %d: %v, want %v", run.Name, i, k, x.IDs, want)
				}
				if run.Scores != nil && !(math.Abs(x.Score-run.Scores[per*i+k]) <= 1e-5) {
					t.Errorf("%s, prompt %d, answer %d: score %v, want %v", run.Name, i, k, x.Score, run.Scores[per*i+k])
				}
			}
		}
	}
	numtest.Count(t, "training/sampling (generate)", len(g.Runs))
}
