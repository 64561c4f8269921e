package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// firstLongest is what the matcher has to find, by trying all tokens.
func firstLongest(list []AddedToken, text string, i int) *AddedToken {
	var best *AddedToken
	for k := range list {
		if strings.HasPrefix(text[i:], list[k].Content) && (best == nil || len(list[k].Content) > len(best.Content)) {
			best = &list[k]
		}
	}
	return best
}

func TestMatcherFindsTheLongest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab<>"[rng.IntN(4)]
		}
		return string(b)
	}
	for range 200 {
		var list []AddedToken
		for i := range 12 {
			list = append(list, AddedToken{ID: int32(i), Content: word(1 + rng.IntN(5))})
		}
		m, text := newMatcher(list), word(60)
		for i := range text {
			if got, want := m.longest([]byte(text), i, nil), firstLongest(list, text, i); (got == nil) != (want == nil) || got != nil && got.ID != want.ID {
				t.Fatalf("%q at %d: got %v, want %v of %v", text, i, got, want, list)
			}
		}
	}
}

// matching is the time per byte of a text of n beginnings of tokens, of which there are so many.
func matching(tokens, n int) time.Duration {
	var list []AddedToken
	for i := range tokens {
		list = append(list, AddedToken{ID: int32(i), Content: fmt.Sprintf("<|reserved_%d|>", i)})
	}
	m, text := newMatcher(list), []byte(strings.Repeat("<|reserved_", n))
	best := time.Duration(1 << 62)
	for range 5 {
		start := time.Now()
		m.split(text, nil, func([]byte, int32, bool) {})
		best = min(best, time.Since(start))
	}
	return best
}

// A thousand times as many tokens that begin alike cost a text no more than a few times as much.
func TestMatcherIsLinear(t *testing.T) {
	few, many := matching(20, 4000), matching(20000, 4000)
	if many > 10*few {
		t.Errorf("4,000 beginnings: %v with 20 tokens, %v with 20,000", few, many)
	}
}
