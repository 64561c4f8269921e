package tokenizer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

// TestSaveKeepsIDs writes every vocabulary as tokenizer.json and reads that back.
func TestSaveKeepsIDs(t *testing.T) {
	root := numtest.Goldens(t, "tokenizers")
	dirs, _ := filepath.Glob(filepath.Join(root, "*"))
	files := 0
	for _, dir := range dirs {
		for _, pat := range []string{"*.gguf", "*.model", "*.tiktoken"} {
			found, _ := filepath.Glob(filepath.Join(dir, pat))
			for _, file := range found {
				files++
				t.Run(filepath.Base(dir)+"/"+filepath.Base(file), func(t *testing.T) { checkSaved(t, dir, file) })
			}
		}
	}
	if files == 0 {
		t.Fatal("no vocabulary was saved")
	}
}

func checkSaved(t *testing.T, dir, file string) {
	want, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if err := want.Save(out); err != nil {
		t.Fatal(err)
	}
	if name := filepath.Base(file); !strings.HasSuffix(name, ".gguf") {
		a, _ := os.ReadFile(file)
		if b, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(a) != string(b) {
			t.Errorf("%s was not copied (%v)", name, err)
		}
	}
	got, err := Load(out)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(got.Source) != "tokenizer.json" {
		t.Fatalf("want tokenizer.json, got %s", got.Source)
	}
	if got.BOS() != want.BOS() || got.EOS() != want.EOS() || got.PAD() != want.PAD() {
		t.Errorf("BOS, EOS, PAD: got %d %d %d, want %d %d %d", got.BOS(), got.EOS(), got.PAD(), want.BOS(), want.EOS(), want.PAD())
	}
	for _, c := range readLines[goldenCase](t, filepath.Join(dir, "cases.jsonl")) {
		for _, o := range []Options{{}, {ParseSpecial: true, AddSpecial: true}} {
			if a, b := want.Encode(c.Text, o), got.Encode(c.Text, o); !slices.Equal(a, b) {
				t.Errorf("%+v %q:\n got %v\nwant %v", o, clip(c.Text), b[:min(len(b), 40)], a[:min(len(a), 40)])
			}
		}
	}
}

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const tinyJSON = `{"added_tokens":[{"id":3,"content":"<s>","special":true}],"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},` +
	`"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`

func TestConfigBesideVocabulary(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"tokenizer.json":          tinyJSON,
		"tokenizer_config.json":   `{"bos_token":{"content":"<s>"},"eos_token":"</s>","pad_token":null,"add_bos_token":true,"added_tokens_decoder":{"4":{"content":"</s>","special":true}}}`,
		"special_tokens_map.json": `{"eos_token":"<s>","pad_token":"<s>"}`,
		"added_tokens.json":       `{"<tool>":5}`,
		"chat_template.jinja":     `{{ messages }}`,
	})
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tok.BOS() != 3 || tok.EOS() != 4 || tok.PAD() != 3 || tok.VocabSize() != 6 || tok.ChatTemplate() != "{{ messages }}" {
		t.Errorf("got BOS %d EOS %d PAD %d size %d template %q", tok.BOS(), tok.EOS(), tok.PAD(), tok.VocabSize(), tok.ChatTemplate())
	}
	if got := tok.Encode("ab</s><tool>b", Options{ParseSpecial: true, AddSpecial: true}); !slices.Equal(got, []int32{3, 2, 4, 5, 1}) {
		t.Errorf("got %v", got)
	}
	if got := tok.Encode("a<tool>", Options{}); !slices.Equal(got, []int32{0, 5}) {
		t.Errorf("a plain added token is matched without parsing: got %v", got)
	}
	if got := tok.Decode([]int32{3, 2, 5}, true); got != "ab<tool>" {
		t.Errorf("got %q", got)
	}
}

// TestErrorsNameFileAndField breaks one file at a time.
func TestErrorsNameFileAndField(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"tokenizer.json", `{"model":{"type":"WordPiece","vocab":{"a":0}}}`, "model.type"},
		{"tokenizer.json", `{"model":{"vocab":{"a":-1}}}`, "model.vocab"},
		{"tokenizer.json", `{"model":{"vocab":{"a":4000000000}}}`, "model.vocab"},
		{"tokenizer.json", `{"model":{"vocab":{"a":0},"merges":["a b"]}}`, "merges[0]"},
		{"tokenizer.json", `{"model":{"type":"Unigram","vocab":[["a"]]}}`, "model.vocab"},
		{"tokenizer.json", `{"model":{"type":"Unigram","vocab":[["a",-1]],"unk_id":7}}`, "model.unk_id"},
		{"tokenizer.json", `{"model":{"vocab":{"a":0}},"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"}}`, "pre_tokenizer"},
		{"tokenizer.json", `{"model":{"vocab":{"a":0}},"normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"}}`, "precompiled_charsmap"},
		{"tokenizer.json", `{"model":`, "unexpected end"},
		{"tokenizer.model", "\x0a\x7f", "sentencepiece model"},
		{"tokenizer.model", "\x0a\x05\x0a\x03abc\x12\x02\x18\x03", "model_type"},
		{"qwen.tiktoken", "IQ== 0\nIg== 7\n", "line 2"},
		{"qwen.tiktoken", "IQ== 0\n", "ranks"},
		{"tokenizer.model", longPiece(spmBPE), "want at most 1024 bytes"},
		{"tokenizer.model", longPiece(spmUnigram), "want at most 1024 bytes"},
		{"tokenizer.json", `{"model":{"type":"Unigram","vocab":[["` + strings.Repeat("a", 5000) + `",-1]]}}`, "want at most 1024 bytes"},
		{"tokenizer.model", longReplacement(1025), "want at most 1024 bytes"},
		{"tokenizer.model", string(appendPiece(appendPiece(nil, "a", 0, Normal), "<0x41>", 0, Byte)), "256 byte pieces"},
	} {
		dir := writeFiles(t, map[string]string{c.name: c.data})
		checkError(t, dir, c.name, c.want)
	}
	for name, c := range map[string][2]string{
		"tokenizer_config.json":   {`{"added_tokens_decoder":{"x":{"content":"y"}}}`, "added_tokens_decoder"},
		"added_tokens.json":       {`{"<a>":-5}`, "<a>"},
		"special_tokens_map.json": {`{"bos_token":7}`, "bos_token"},
	} {
		checkError(t, writeFiles(t, map[string]string{"tokenizer.json": tinyJSON, name: c[0]}), name, c[1])
	}
}

func checkError(t *testing.T, dir, file, field string) {
	t.Helper()
	_, err := Load(dir)
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: want one line with %q and %q, got %v", file, file, field, err)
	}
}

// longPiece is a SentencePiece model with one piece of 5,000 bytes, over which a text of as many would be read for each of
// its bytes.
func longPiece(model uint64) string {
	return string(appendBytes(appendPiece(nil, strings.Repeat("a", 5000), 0, Normal), 2, appendVarint(nil, 3, model)))
}

// longReplacement is a SentencePiece model that makes n bytes of every a.
func longReplacement(n int) string {
	return string(appendBytes(appendPiece(nil, "b", 0, Normal), 3, appendBytes(nil, 2, compileMap(map[string]string{"a": strings.Repeat("b", n)}))))
}

func TestLongestReplacement(t *testing.T) {
	tok, err := fromSPM("test", []byte(longReplacement(maxReplacement)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(tok.normalizer[0].apply([]byte("aa"))); n != 2*maxReplacement+1 { // and the dummy prefix
		t.Errorf("want two replacements of %d bytes, got %d bytes", maxReplacement, n)
	}
}
