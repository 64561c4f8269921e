package generate

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"danlu/grammar"
	"danlu/tokenizer"
)

// liar guesses at random, some of it right.
type liar struct {
	rng   *rand.Rand
	truth []int32 // of the whole text
	vocab int
}

func (l *liar) Draft(_ context.Context, text []int32, n int) (ids []int32, err error) {
	for i := range l.rng.IntN(n + 1) {
		id := int32(l.rng.IntN(l.vocab))
		if at := len(text) + i; at < len(l.truth) && l.rng.IntN(4) > 0 {
			id = l.truth[at]
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (*liar) Close() {}

// An answer is the same with any guesses and without, sampled too, and under a form.
func TestDraftsChangeNothing(t *testing.T) {
	r := tinyRunner(t, Options{Context: 96, PageLen: 16})
	small := tinyRunner(t, Options{Context: 96})
	tok, err := tokenizer.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	form, err := grammar.FromGBNF(`root ::= ([a-m] | " " [n-z]+ ".")+`, grammar.VocabularyOf(tok, nil))
	if err != nil {
		t.Fatal(err)
	}
	prompt := tok.Encode("one two three one two three one", tokenizer.Options{})
	agreed := 0
	for i, c := range []struct {
		sampling Sampling
		form     bool
		most     int
	}{{most: 50}, {sampling: Sampling{Temperature: 1, Seed: 3}, most: 50}, {sampling: Sampling{Temperature: 0.7, TopK: 9, RepetitionPenalty: 1.2, Seed: 4}}, {form: true, most: 40},
		{sampling: Sampling{Temperature: 1, Seed: 9}, form: true, most: 33}, {}} {
		answer := func(d *Drafting) Result {
			t.Helper()
			s, err := r.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close(s)
			req := Request{Prompt: prompt, MaxNew: c.most, Sampling: c.sampling, Draft: d, End: []int32{7}}
			if c.form {
				req.End = []int32{2}
				req.Form = NewForm(form, req.End)
			}
			res, err := r.Generate(context.Background(), s, req)
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		want := answer(nil)
		truth := slices.Clone(prompt)
		for _, x := range want.Tokens {
			truth = append(truth, x.ID)
		}
		model, err := NewSmallModel(small, r.Info().VocabSize)
		if err != nil {
			t.Fatal(err)
		}
		for name, d := range map[string]*Drafting{"liar": {Drafter: &liar{rand.New(rand.NewPCG(1, uint64(i))), truth, r.Info().VocabSize}, Most: 7}, "n-grams": {Drafter: &NGrams{}, Most: 4},
			"model": {Drafter: model, Most: 5}, "truth": {Drafter: &NGrams{Before: truth}, Most: 8}} {
			got := answer(d)
			if got.Stop != want.Stop || !slices.Equal(got.Tokens, want.Tokens) {
				t.Errorf("%d, %s: %v (%s), without guesses %v (%s)", i, name, got.Tokens, got.Stop, want.Tokens, want.Stop)
			}
			if d.Agreed > d.Drafted || d.Passes > d.Drafted {
				t.Errorf("%d, %s: %d of %d guesses were right in %d passes", i, name, d.Agreed, d.Drafted, d.Passes)
			}
			if name == "truth" && d.Drafted > 0 {
				agreed += d.Agreed
			}
			d.Drafter.Close()
		}
	}
	if agreed < 100 {
		t.Errorf("only %d guesses were right of those that should be", agreed)
	}
}

func TestNGrams(t *testing.T) {
	for _, c := range []struct {
		text, before []int32
		n            int
		want         []int32
	}{
		{[]int32{1, 2, 3, 4, 9, 1, 2, 3}, nil, 2, []int32{4, 9}},
		{[]int32{1, 2, 3, 7, 2, 3, 8, 1, 2, 3}, nil, 1, []int32{7}}, // the longer one of two
		{[]int32{2, 3, 7, 2, 3, 8, 2, 3}, nil, 1, []int32{8}},       // the later one of two
		{[]int32{1, 2, 3}, nil, 4, nil},
		{[]int32{5, 1, 2}, []int32{1, 2, 6, 7}, 4, []int32{6, 7}},
		{[]int32{1}, nil, 4, nil},
		{nil, nil, 4, nil},
	} {
		got, err := (&NGrams{c.before}).Draft(context.Background(), c.text, c.n)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v after %v: %v, want %v", c.text, c.before, got, c.want)
		}
	}
}
