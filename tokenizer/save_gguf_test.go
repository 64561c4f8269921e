package tokenizer

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/format/gguf"
	"danlu/internal/numtest"
)

// TestGoldenGGUFVocabulary writes every vocabulary into a GGUF, reads that back, and holds the ids of all texts against
// each other.
func TestGoldenGGUFVocabulary(t *testing.T) {
	root := numtest.Goldens(t, "tokenizers")
	dirs, _ := filepath.Glob(filepath.Join(root, "*"))
	files := 0
	for _, dir := range dirs {
		for _, pat := range []string{"*.gguf", "*.model", "*.tiktoken", "tokenizer.json"} {
			found, _ := filepath.Glob(filepath.Join(dir, pat))
			for _, file := range found {
				files++
				t.Run(filepath.Base(dir)+"/"+filepath.Base(file), func(t *testing.T) { checkGGUF(t, dir, file) })
			}
		}
	}
	numtest.Count(t, "tokenizers", files)
}

func checkGGUF(t *testing.T, dir, file string) {
	want, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	const spare = 3
	kv, err := want.GGUF(want.VocabSize() + spare)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vocabulary.gguf")
	if err := gguf.Write(path, kv, nil, nil); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.VocabSize() != want.VocabSize()+spare || got.BOS() != want.BOS() || got.EOS() != want.EOS() || got.PAD() != want.PAD() || got.ChatTemplate() != want.ChatTemplate() {
		t.Errorf("size, BOS, EOS, PAD: got %d %d %d %d, want %d %d %d %d", got.VocabSize(), got.BOS(), got.EOS(), got.PAD(), want.VocabSize()+spare, want.BOS(), want.EOS(), want.PAD())
	}
	for _, c := range readLines[goldenCase](t, filepath.Join(dir, "cases.jsonl")) {
		for _, o := range []Options{{}, {ParseSpecial: true, AddSpecial: true}} {
			if a, b := want.Encode(c.Text, o), got.Encode(c.Text, o); !slices.Equal(a, b) {
				t.Errorf("%+v %q:\n got %v\nwant %v", o, clip(c.Text), b[:min(len(b), 40)], a[:min(len(a), 40)])
			}
		}
	}
	if strings.HasSuffix(file, ".gguf") { // llama.cpp's own vocabularies keep their names and merges
		checkEntries(t, file, path)
	}
}

func checkEntries(t *testing.T, original, written string) {
	a, err := gguf.Open(original)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := gguf.Open(written)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, key := range []string{"model", "pre"} {
		x, err := a.Text("tokenizer.ggml." + key)
		if err != nil {
			continue // older than the key
		}
		if y, err := b.Text("tokenizer.ggml." + key); x != y {
			t.Errorf("%s: want %q, got %q %v", key, x, y, err)
		}
	}
	for _, key := range []string{"tokens", "merges"} {
		x, err := a.Texts("tokenizer.ggml." + key)
		if err != nil {
			continue
		}
		y, err := b.Texts("tokenizer.ggml." + key)
		if err != nil || len(y) < len(x) || !slices.Equal(x, y[:len(x)]) {
			t.Errorf("%s: %d entries come back as %d others, %v", key, len(x), len(y), err)
		}
	}
}
