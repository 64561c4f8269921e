package generate

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"danlu/data"
	"danlu/dtype"
	"danlu/family"
	"danlu/tokenizer"
)

// testBlanks are the tokens of glmConfigs, with a sentence mask and an end of piece.
var testBlanks = tokenizer.Blanks{Mask: 50, GMask: 51, SMask: 54, SOP: 52, EOP: 53}

// glmRunner is a runner of one of glmConfigs with random weights.
func glmRunner(t *testing.T, name string, opts Options) (*Runner, family.BlankFiller) {
	t.Helper()
	m := parseModel(t, "config.json", []byte(glmConfigs[name]))
	f := m.(family.BlankFiller)
	f.SetBlanks(testBlanks)
	opts.Store = dtype.F32
	return runnerOf(t, m, nil, opts), f
}

// allLogits reads a row in one pass.
func allLogits(t *testing.T, r *Runner, row []int32) [][]float32 {
	t.Helper()
	s, err := r.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(s)
	w := r.Next(s, row, r.Chunk())
	w.Logits = len(row)
	out, err := r.Run(context.Background(), []Work{w})
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]float32
	for _, x := range out {
		rows = append(rows, slices.Clone(x))
	}
	return rows
}

// Blanks are filled one after another as a row of the objective is laid out that has all of them.
func TestFillSeesWhatWasTrained(t *testing.T) {
	text := []int32{7, 50, 9, 10, 54, 12, 13}
	for name := range glmConfigs {
		t.Run(name, func(t *testing.T) {
			r, f := glmRunner(t, name, Options{Context: 60, Sequences: 2})
			s, err := r.Open()
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Fill(context.Background(), s, text, Request{MaxNew: 5})
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Pieces) != 2 {
				t.Fatalf("want 2 pieces, got %d", len(got.Pieces))
			}
			row, whole := slices.Clone(text), []int32{7}
			var spans []data.Span
			add := func(p Result, behind ...int32) {
				spans = append(spans, data.Span{Start: len(whole), End: len(whole) + len(p.Tokens)})
				row = append(row, 52)
				for _, x := range p.Tokens {
					row, whole = append(row, x.ID), append(whole, x.ID)
				}
				whole = append(whole, behind...)
			}
			add(got.Pieces[0], 9, 10)
			add(got.Pieces[1], 12, 13)
			if !slices.Equal(got.IDs, whole) {
				t.Errorf("text: want %v, got %v", whole, got.IDs)
			}
			want, err := data.BlankInfill(whole, spans, []int{0, 1}, 50, data.GLMTokens{SOP: 52, EOP: 53}, 0)
			if err != nil {
				t.Fatal(err)
			}
			positions, _ := f.Layout(row)
			if !slices.Equal(positions[0], want.Positions[0]) || !slices.Equal(positions[1], want.Positions[1]) {
				t.Errorf("positions: want %v, got %v", want.Positions, positions)
			}
			logits, at := allLogits(t, r, row), len(text)
			for _, p := range got.Pieces {
				for _, x := range p.Tokens {
					best := int32(slices.Index(logits[at], slices.Max(logits[at])))
					if lp := float64(logits[at][x.ID]) - logSumExp(logits[at]); best != x.ID || math.Abs(lp-x.LogProb) > 1e-4 {
						t.Errorf("place %d: drawn %d at %v, the row gives %d at %v", at, x.ID, x.LogProb, best, lp)
					}
					at++
				}
				at++ // the start of the next piece
			}
		})
	}
}

func TestBlankPrompt(t *testing.T) {
	for _, c := range []struct{ text, want []int32 }{
		{[]int32{5, 6}, []int32{5, 6, 51, 52}},
		{[]int32{5, 50, 6}, []int32{5, 50, 6, 52}},
		{[]int32{5, 51, 52, 6}, []int32{5, 51, 52, 6}},
	} {
		got, err := BlankPrompt(c.text, testBlanks)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v: want %v, got %v, %v", c.text, c.want, got, err)
		}
	}
	if _, err := BlankPrompt([]int32{5}, tokenizer.Blanks{Mask: 50, GMask: 51, SMask: -1, SOP: -1, EOP: -1}); err == nil {
		t.Error("a vocabulary without a start of piece passed")
	}
}

// The second half of a window is scored as the piece that follows the first.
func TestPerplexityOfGLM(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	ids := make([]int32, 40)
	for i := range ids {
		ids[i] = int32(4 + rng.IntN(40))
	}
	const window = 20
	for name := range glmConfigs {
		t.Run(name, func(t *testing.T) {
			r, f := glmRunner(t, name, Options{Context: WindowContext(parseModel(t, name, []byte(glmConfigs[name])), window), Sequences: 2})
			p, err := r.Perplexity(context.Background(), ids, PerplexityOptions{Window: window, BOS: -1})
			if err != nil {
				t.Fatal(err)
			}
			nll, scored := 0.0, 0
			for at := 0; at < len(ids); at += window {
				half := at + window/2
				row := slices.Concat(ids[at:half], []int32{f.Blanks().GMask, f.Blanks().SOP}, ids[half:at+window])
				logits := allLogits(t, r, row)
				for i := window/2 + 2; i+1 < len(row); i++ {
					nll += logSumExp(logits[i]) - float64(logits[i][row[i+1]])
					scored++
				}
			}
			if p.Scored != scored || math.Abs(p.NLL-nll) > 1e-3 {
				t.Errorf("want %v over %d tokens, got %v over %d", nll, scored, p.NLL, p.Scored)
			}
		})
	}
}
