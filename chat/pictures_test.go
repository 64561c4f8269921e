package chat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"danlu/chat/jinja"
	"danlu/tokenizer"
)

// withTokens is the byte-level test vocabulary with more control tokens.
func withTokens(t *testing.T, words ...string) *tokenizer.Tokenizer {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/bpe")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tokenizer.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range words {
		file["added_tokens"] = append(file["added_tokens"].([]any), map[string]any{"id": tok.VocabSize() + i, "content": w, "special": true})
	}
	if data, err = json.Marshal(file); err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err == nil {
		tok, err = tokenizer.Load(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// The format, and the template that a trained model carries, write pictures and videos alike; what a message spells is
// text.
func TestFormatPictures(t *testing.T) {
	tok := withTokens(t, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
	f, err := Lookup("qwen2_vl", tok)
	if err != nil {
		t.Fatal(err)
	}
	tpl, err := NewTemplate(f.Jinja(), jinja.NewDict())
	if err != nil {
		t.Fatal(err)
	}
	marked, err := Illustrated("Compare <image> and <image>. <|image_pad|> is text."+PictureMark, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := &Conversation{Messages: []*jinja.Dict{NewQuestion(marked)}, Open: true}
	want, err := NewDialect(nil, f, tok).Prompt(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewDialect(tpl, nil, tok).Prompt(c)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.IDs, want.IDs) {
		t.Errorf("template %q, format %q", tok.Decode(got.IDs, false), tok.Decode(want.IDs, false))
	}
	for word, n := range map[string]int{"<|image_pad|>": 2, "<|video_pad|>": 1} {
		id, ok := tok.ID(word)
		if !ok {
			t.Fatalf("no %s in the vocabulary", word)
		}
		count := 0
		for _, x := range want.IDs {
			if x == id {
				count++
			}
		}
		if count != n {
			t.Errorf("%d %s in %q, want %d", count, word, tok.Decode(want.IDs, false), n)
		}
	}
}

// Yi-VL's pictures are an id of no vocabulary, on a line of their own in front of a question.
func TestFormatPictureIDs(t *testing.T) {
	_, toks := readLLaMAFactory(t)
	tok := toks["bpe"]
	f, err := Lookup("yi_vl", tok)
	if err != nil {
		t.Fatal(err)
	}
	marked, err := Illustrated("What?", 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewDialect(nil, f, tok).Prompt(&Conversation{Messages: []*jinja.Dict{NewQuestion(marked)}, Open: true})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(p.IDs, yiPicture)
	if at < 0 || slices.Contains(p.IDs[at+1:], yiPicture) {
		t.Fatalf("want one picture, got %v", p.IDs)
	}
	if before, after := tok.Decode(p.IDs[:at], false), tok.Decode(p.IDs[at+1:], false); before != f.DefaultSystem+"### Human: " || after != "\nWhat?\n### Assistant:" {
		t.Errorf("%q, a picture, %q", before, after)
	}
	plain, err := Lookup("vicuna", tok)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewDialect(nil, plain, tok).Prompt(&Conversation{Messages: []*jinja.Dict{NewQuestion(marked)}, Open: true}); err == nil {
		t.Error("a format without pictures takes one")
	}
}

func TestIllustratedCounts(t *testing.T) {
	if _, err := Illustrated("<image> and <image>", 1, 0); err == nil {
		t.Error("two places for one picture pass")
	}
	if s, err := Illustrated("an <image> tag", 0, 0); err != nil || s != "an <image> tag" {
		t.Errorf("without pictures the word is text, got %q, %v", s, err)
	}
}
