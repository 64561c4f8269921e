package tokenizer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

// Vocabularies of all kinds take new tokens, and a saved folder gives the same ids.
func TestGoldenExtend(t *testing.T) {
	dir := numtest.Goldens(t, "tokenizers")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "tiny-") {
			continue
		}
		cases++
		t.Run(e.Name(), func(t *testing.T) {
			x, err := Load(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			before := x.VocabSize()
			text := "The cat [MASK] on 炼丹炉 mats<sop>x"
			old := x.Encode("The cat", Options{ParseSpecial: true})
			n, err := x.Extend([]string{"炼丹炉", "炼丹炉x"}, false)
			if err != nil || n != 2 {
				t.Fatalf("want 2 tokens added, got %d, %v", n, err)
			}
			if n, err = x.Extend(x.Blanks().Missing(), true); err != nil || n != len(BlankTokens) {
				t.Fatalf("want %d tokens added, got %d, %v", len(BlankTokens), n, err)
			}
			if n, err = x.Extend(append([]string{"炼丹炉"}, BlankTokens...), true); err != nil || n != 0 {
				t.Fatalf("tokens were added twice: %d, %v", n, err)
			}
			if x.VocabSize() != before+7 || len(x.Blanks().Missing()) != 0 {
				t.Errorf("want %d ids, got %d; missing %v", before+7, x.VocabSize(), x.Blanks().Missing())
			}
			ids := x.Encode(text, Options{ParseSpecial: true})
			for _, token := range []string{"[MASK]", "炼丹炉", "<sop>"} {
				if id, ok := x.ID(token); !ok || !slices.Contains(ids, id) {
					t.Errorf("%s is not read as a token in %v", token, ids)
				}
			}
			// The mask takes the space before it.
			if mask, _ := x.ID("[MASK]"); !slices.Equal(ids[:slices.Index(ids, mask)], old) {
				t.Errorf("before the mask: want %v, got %v", old, ids)
			}
			if _, err := x.GGUF(x.VocabSize()); err != nil && x.unigram == nil {
				t.Error(err)
			}
			out := t.TempDir()
			if err := x.Save(out); err != nil {
				t.Fatal(err)
			}
			y, err := Load(out)
			if err != nil {
				t.Fatal(err)
			}
			if again := y.Encode(text, Options{ParseSpecial: true}); !slices.Equal(again, ids) || y.VocabSize() != x.VocabSize() || y.Blanks() != x.Blanks() {
				t.Errorf("saved: want %v of %d, got %v of %d", ids, x.VocabSize(), again, y.VocabSize())
			}
		})
	}
	numtest.Count(t, "tokenizers", cases)
	if _, err := (&Tokenizer{}).Extend([]string{""}, true); err == nil {
		t.Error("an empty token passed")
	}
}
