package generate

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
)

// logitsOf reads a text in passes of at most room tokens and returns the last one's logits.
func logitsOf(t *testing.T, r *Runner, s *Sequence, text []int32, room int) []float32 {
	t.Helper()
	for {
		out, err := r.Run(context.Background(), []Work{r.Next(s, text, room)})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.IDs) == len(text) {
			return slices.Clone(out[0])
		}
	}
}

// Texts with common beginnings, adopted, evicted and cut back at random, have the logits of a cache of their own.
func TestAdoptedPagesChangeNothing(t *testing.T) {
	r := tinyRunner(t, Options{Context: 96, Sequences: 4, PageLen: 8, Pages: 30})
	alone := tinyRunner(t, Options{Context: 96, PageLen: 8})
	rng := rand.New(rand.NewPCG(3, 4))
	vocab := r.Info().VocabSize
	some := func(n int) (ids []int32) {
		for range n {
			ids = append(ids, int32(rng.IntN(vocab)))
		}
		return ids
	}
	beginnings := [][]int32{some(40), some(33), some(8)}
	want := func(text []int32) []float32 {
		s, err := alone.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer alone.Close(s)
		return logitsOf(t, alone, s, text, 96)
	}
	open := map[*Sequence]bool{}
	adopted, scopes := 0, []string{"", "other"}
	for range 120 {
		if len(open) == 4 || r.Room() < 96 {
			for s := range open {
				r.Close(s)
				delete(open, s)
				break
			}
			continue
		}
		s, err := r.Open()
		if err != nil {
			t.Fatal(err)
		}
		open[s] = true
		text := append(slices.Clone(beginnings[rng.IntN(3)]), some(1+rng.IntN(30))...)
		scope := scopes[rng.IntN(2)]
		expected := r.Cached(text, scope)
		if n := r.Adopt(s, text, scope); n != expected || n >= len(text) {
			t.Fatalf("adopted %d tokens of %d, %d were cached", n, len(text), expected)
		}
		adopted += expected
		if got := logitsOf(t, r, s, text, 1+rng.IntN(40)); !slices.Equal(got, want(text)) {
			t.Fatalf("other logits with %d of %d tokens adopted", expected, len(text))
		}
		r.Share(s)
		if cut := rng.IntN(2 * len(text)); cut < len(text) {
			r.Truncate(s, cut)
			if n := len(s.IDs); n > cut || n <= cut-8 {
				t.Fatalf("cut to %d of %d, %d are left", cut, len(text), n)
			}
			text = append(text[:len(s.IDs):len(s.IDs)], some(3)...)
			if got := logitsOf(t, r, s, text, 40); !slices.Equal(got, want(text)) {
				t.Fatal("other logits after a cut")
			}
		}
	}
	if adopted < 500 {
		t.Errorf("only %d tokens were adopted", adopted)
	}
	for s := range open {
		r.Close(s)
	}
	if r.Room() != r.Capacity() {
		t.Errorf("room for %d of %d tokens after all sequences were closed", r.Room(), r.Capacity())
	}
	if n := len(r.sharing.roots); n > len(scopes) {
		t.Errorf("%d scopes are kept, %d were used", n, len(scopes))
	}
	if n := len(r.free) + r.sharing.idle.Len(); n != 30 {
		t.Errorf("%d pages of 30 are left", n)
	}
}

// Two sequences that read the same at the same time come to hold it once.
func TestShareMerges(t *testing.T) {
	r := tinyRunner(t, Options{Context: 64, Sequences: 2, PageLen: 8})
	text := make([]int32, 40)
	for i := range text {
		text[i] = int32(3 * i)
	}
	var open []*Sequence
	for range 2 {
		s, err := r.Open()
		if err != nil {
			t.Fatal(err)
		}
		r.Adopt(s, text, "")
		open = append(open, s)
		logitsOf(t, r, s, text, 40)
	}
	for _, s := range open {
		r.Share(s)
	}
	if used := r.Capacity() - r.Room(); used != 40 {
		t.Errorf("%d tokens of cache hold a text of 40", used)
	}
	r.Truncate(open[0], 33) // the other one goes on using the page
	if n := len(open[0].IDs); n != 32 {
		t.Errorf("want the cut at the page's beginning, %d tokens are left", n)
	}
	r.Close(open[1])
	r.Truncate(open[0], 20)
	if n := len(open[0].IDs); n != 16 {
		t.Errorf("a page that others go on from was cut: %d tokens are left", n)
	}
}

// Scopes of which no page is left are forgotten, so that clients cannot fill the memory with their names.
func TestScopesAreForgotten(t *testing.T) {
	r := tinyRunner(t, Options{Context: 64, PageLen: 8, Pages: 8})
	for i := range 50 {
		s, err := r.Open()
		if err != nil {
			t.Fatal(err)
		}
		text := make([]int32, 1+i%30)
		r.Adopt(s, text, string(rune('a'+i)))
		logitsOf(t, r, s, text, 64)
		r.Close(s)
	}
	if n := len(r.sharing.roots); n > 8 {
		t.Errorf("%d scopes are kept for 8 pages", n)
	}
}
