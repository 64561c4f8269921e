package tokenizer

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"danlu/internal/numtest"
)

// TestStreamEqualsDecode streams random ids, so that characters are cut everywhere: no part of a character may show, and
// the whole must be what Decode gives.
func TestStreamEqualsDecode(t *testing.T) {
	root := numtest.Goldens(t, "tokenizers")
	files, _ := filepath.Glob(filepath.Join(root, "*", "*.model"))
	more, _ := filepath.Glob(filepath.Join(root, "*", "tokenizer.json"))
	rng := rand.New(rand.NewPCG(1, 1))
	for _, file := range append(files, more...) {
		tok, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		var bytesOnly []int32 // ids of single bytes, which make most broken characters
		for id := range int32(tok.VocabSize()) {
			if len(tok.Bytes(id)) == 1 && tok.Kind(id) != Control {
				bytesOnly = append(bytesOnly, id)
			}
		}
		for range 300 {
			ids := make([]int32, rng.IntN(12))
			for i := range ids {
				if ids[i] = int32(rng.IntN(tok.VocabSize())); rng.IntN(2) == 0 && len(bytesOnly) > 0 {
					ids[i] = bytesOnly[rng.IntN(len(bytesOnly))]
				}
			}
			for _, skip := range []bool{false, true} {
				s := tok.Stream(skip)
				var got strings.Builder
				for _, id := range ids {
					part := s.Next(id)
					if !utf8.ValidString(part) {
						t.Fatalf("%s: %v: %q is not whole characters", file, ids, part)
					}
					got.WriteString(part)
				}
				got.WriteString(s.Flush())
				// A tokenizer.json with byte fallback replaces a run of bytes as a whole, which a stream cannot know.
				if want := tok.Decode(ids, skip); !tok.decode.wholeRuns && got.String() != want {
					t.Fatalf("%s: %v: got %q, want %q", file, ids, got.String(), want)
				}
			}
		}
	}
}
