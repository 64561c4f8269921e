package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/internal/numtest"
)

// TestGoldenMerge merges each pair: the base is the vocabulary of tokenizers/ that the merged one begins with, the second
// the trained one of the size that meta.json names.
func TestGoldenMerge(t *testing.T) {
	root := numtest.Goldens(t, "tokenizer_training")
	metas, _ := filepath.Glob(filepath.Join(root, "*", "meta.json"))
	cases := 0
	for _, file := range metas {
		dir := filepath.Dir(file)
		var meta struct {
			Base   int `json:"base_size"`
			Second int `json:"second_size"`
			Merged int `json:"merged_size"`
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &meta); err != nil {
			t.Fatal(err)
		}
		want, err := Load(filepath.Join(dir, "tokenizer.model"))
		if err != nil {
			t.Fatal(err)
		}
		base := findModel(t, filepath.Join(numtest.Goldens(t, "tokenizers"), "*", "*.model"), want.pieces[:meta.Base], true)
		second := findModel(t, filepath.Join(root, "sp_*", "tokenizer.model"), want.pieces[meta.Base:], false)
		model, report, err := Merge(base, second)
		if err != nil {
			t.Fatal(err)
		}
		if report.Base != meta.Base || report.Second != meta.Second || report.Size != meta.Merged || report.Overlap+report.Appended != report.Second {
			t.Errorf("%s: report %+v, want %+v", filepath.Base(dir), report, meta)
		}
		got, err := FromSPM("merged", model)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.pieces, want.pieces) {
			t.Errorf("%s: pieces differ", filepath.Base(dir))
		}
		for _, a := range readLines[struct {
			ID    int32
			Piece string
			Score float32
		}](t, filepath.Join(dir, "appended.jsonl")) {
			if got.Piece(a.ID) != a.Piece {
				t.Errorf("%s: id %d: got %q, want %q", filepath.Base(dir), a.ID, got.Piece(a.ID), a.Piece)
			}
			cases++
		}
		for _, c := range readLines[goldenCase](t, filepath.Join(dir, "cases.jsonl")) {
			if ids := got.Encode(c.Text, Options{}); !slices.Equal(ids, c.IDs) {
				t.Errorf("%s: encode %q: got %v, want %v", filepath.Base(dir), clip(c.Text), ids, c.IDs)
			}
			cases++
		}
	}
	numtest.Count(t, "tokenizer_training merge", cases)
}

// findModel returns the vocabulary that consists of the pieces, or holds them all.
func findModel(t *testing.T, pattern string, pieces []string, whole bool) *Tokenizer {
	t.Helper()
	files, _ := filepath.Glob(pattern)
	for _, f := range files {
		tok, err := Load(f)
		if err != nil {
			t.Fatal(err)
		}
		if whole && slices.Equal(tok.pieces, pieces) {
			return tok
		}
		if !whole && !slices.ContainsFunc(pieces, func(p string) bool { _, ok := tok.ID(p); return !ok }) {
			return tok
		}
	}
	t.Fatalf("%s: no vocabulary has the %d pieces", pattern, len(pieces))
	return nil
}
