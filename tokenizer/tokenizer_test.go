package tokenizer

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

func builtin(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestBuiltin(t *testing.T) {
	tok := builtin(t)
	if tok.VocabSize() != 4096 || tok.BOS() != 0 || tok.EOS() != 0 {
		t.Fatalf("want 4096 ids and BOS and EOS 0, got %d, %d, %d", tok.VocabSize(), tok.BOS(), tok.EOS())
	}
	for b := range 256 {
		if tok.bpe.byteID[b] < 0 {
			t.Errorf("byte %d is no piece", b)
		}
	}
	if ids := tok.Encode("2024", Options{}); len(ids) != 4 {
		t.Errorf("want a piece for each digit, got %v", ids)
	}
}

func TestRoundTripAndStream(t *testing.T) {
	tok := builtin(t)
	for _, s := range []string{"", " ", "Hello,  world!\n\n", "小猫在树下睡觉。3+4=7", "🙂é\u0301\x00 \u2028", strings.Repeat("啊a", 500)} {
		ids := tok.Encode(s, Options{})
		if got := tok.Decode(ids, false); got != s {
			t.Errorf("round trip: got %q, want %q", got, s)
		}
		st := tok.Stream(false)
		var got strings.Builder
		for _, id := range ids {
			got.WriteString(st.Next(id))
		}
		got.WriteString(st.Flush())
		if got.String() != s {
			t.Errorf("stream: got %q, want %q", got.String(), s)
		}
	}
}

func TestQueuedMergesEqualScanned(t *testing.T) {
	m := builtin(t).bpe
	text := strings.Repeat("once upon a time 小猫和小狗 ", 5)
	for n := range len(text) {
		setup := func() *state {
			st := new(state)
			for i := range n {
				st.sym = append(st.sym, symbol{id: m.byteID[text[i]], at: int32(i)})
			}
			st.sym = append(st.sym, symbol{id: -1, at: int32(n)})
			m.rankAll(st.sym, []byte(text[:n]))
			return st
		}
		a, b := setup(), setup()
		k := m.mergeScanned(a.sym, n)
		if k2 := m.mergeQueued(b, n); k2 != k {
			t.Fatalf("%d bytes: got %d symbols, want %d", n, k2, k)
		}
		for i := range k + 1 {
			if i < k && a.sym[i].id != b.sym[i].id || a.sym[i].at != b.sym[i].at {
				t.Fatalf("%d bytes: symbol %d: got %v, want %v", n, i, b.sym[i], a.sym[i])
			}
		}
	}
}

// A folder counts before a preset of its name, as it does for a model's weights.
func TestOpenPrefersFiles(t *testing.T) {
	dir := writeFiles(t, map[string]string{"tokenizer.json": tinyJSON})
	t.Chdir(filepath.Dir(dir))
	for _, name := range builtinModels {
		built, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir, name); err != nil {
			t.Fatal(err)
		}
		own, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if own.VocabSize() == built.VocabSize() {
			t.Errorf("%s: the built-in vocabulary hid the folder's", name)
		}
		if err := os.Rename(name, dir); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzSPM(f *testing.F) {
	f.Add([]byte("\x0a\x05\x0a\x03abc"))
	f.Add([]byte("\x0a\x02\x18\x04")) // a user-defined piece without text
	f.Fuzz(func(t *testing.T, b []byte) {
		if tok, err := fromSPM("fuzz", b); err == nil {
			tok.Decode(tok.Encode("a b\n你", Options{ParseSpecial: true}), false)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if tok, err := fromJSON("fuzz", b); err == nil {
			tok.Decode(tok.Encode("ab 1\n你", Options{ParseSpecial: true, AddSpecial: true}), false)
		}
	})
}

func FuzzTiktoken(f *testing.F) {
	f.Add([]byte("IQ== 0\nIg== 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = fromTiktoken("fuzz", b, "qwen", nil, nil) })
}

func FuzzVocabMerges(f *testing.F) {
	f.Add([]byte(`{"a":0,"b":1,"ab":2}`), []byte("#version: 0.2\na b\n"))
	f.Fuzz(func(t *testing.T, vocab, merges []byte) {
		if tok, err := fromVocabMerges("fuzz", vocab, merges, "gpt-2"); err == nil {
			tok.Decode(tok.Encode("ab 1\n你", Options{}), false)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"bos_token":"<s>","add_bos_token":true,"added_tokens_decoder":{"7":{"content":"<x>"}}}`), []byte(`{"<y>":9}`))
	f.Fuzz(func(t *testing.T, config, added []byte) {
		dir := writeFiles(t, map[string]string{"tokenizer.json": tinyJSON, "tokenizer_config.json": string(config), "added_tokens.json": string(added)})
		if tok, err := Load(dir); err == nil {
			tok.Decode(tok.Encode("ab<s><x>", Options{ParseSpecial: true, AddSpecial: true}), true)
		}
	})
}

func FuzzGGUFVocabulary(f *testing.F) {
	f.Add("gpt2", "llama-bpe", "a\x00b\x00ab", "a b", uint32(1))
	f.Fuzz(func(t *testing.T, model, pre, tokens, merges string, bos uint32) {
		pieces := strings.Split(tokens, "\x00")
		kv := map[string]any{"tokenizer.ggml.model": model, "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": pieces, "tokenizer.ggml.bos_token_id": bos,
			"tokenizer.ggml.merges": strings.Split(merges, "\x00"), "tokenizer.ggml.scores": make([]float32, len(pieces))}
		if tok, err := FromGGUF("fuzz", kv); err == nil {
			tok.Decode(tok.Encode("ab 1\n你", Options{ParseSpecial: true, AddSpecial: true}), false)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add([]byte(stateMagic + "{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = binary.LittleEndian.AppendUint32(data, crc32.ChecksumIEEE(data))
		dir := writeFiles(t, map[string]string{"state": string(data)})
		_, _ = (&Counting{State: filepath.Join(dir, "state")}).load(DefaultSPM())
	})
}

func FuzzPattern(f *testing.F) {
	for _, p := range []string{patternGPT2, `\s?[a-c\p{L}]+`, `a|b\|c`, `[^\r\n]{1,3}$`} {
		f.Add(p, "ab 1\n你 c")
	}
	f.Fuzz(func(t *testing.T, expr, text string) {
		p, err := newPattern(expr)
		if err != nil {
			return
		}
		text = strings.ToValidUTF8(text, "\uFFFD")
		at := 0
		for _, s := range (&splitter{expr: expr, pattern: p}).spans(nil, []byte(text)) {
			if s.from != at || s.to <= s.from {
				t.Fatalf("%q on %q: span %v after %d", expr, text, s, at)
			}
			at = s.to
		}
		if at != len(text) {
			t.Fatalf("%q on %q: ends at %d", expr, text, at)
		}
	})
}

func FuzzDecodeValid(f *testing.F) {
	f.Add([]byte("\xe4\xb8a\xf0\x9f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := string(appendValid(nil, b)), strings.ToValidUTF8(string(b), "\uFFFD"); strings.ReplaceAll(got, "\uFFFD", "") != strings.ReplaceAll(want, "\uFFFD", "") {
			t.Fatalf("got %q, want the valid characters of %q", got, want)
		}
	})
}

func benchText(b *testing.B) string {
	root := numtest.Goldens(b, "tokenizer_training/corpus")
	var parts [2][]string
	for i, n := range []string{"en.txt", "zh.txt"} {
		data, err := os.ReadFile(filepath.Join(root, n))
		if err != nil {
			b.Fatal(err)
		}
		parts[i] = strings.SplitAfter(string(data), "\n")
	}
	var s strings.Builder
	for i := range max(len(parts[0]), len(parts[1])) {
		for _, p := range parts {
			if i < len(p) {
				s.WriteString(p[i])
			}
		}
	}
	return s.String()
}

// BenchmarkEncode encodes 3 MB of English and Chinese lines in turn, each line once, with a new encoder state.
func BenchmarkEncode(b *testing.B) {
	text := benchText(b)
	root := numtest.Goldens(b, "tokenizers")
	for _, name := range []string{"llama-spm/tokenizer.model", "llama-bpe/tokenizer.model", "qwen2/ggml-vocab-qwen2.gguf", "baichuan/ggml-vocab-baichuan.gguf",
		"deepseek-llm/ggml-vocab-deepseek-llm.gguf", "deepseek-v3/tokenizer.json", "glm-10b-chinese/tokenizer.model"} {
		tok, err := Load(filepath.Join(root, name))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(filepath.Dir(name), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			ids := make([]int32, 0, len(text))
			for b.Loop() {
				tok.free = nil
				ids = tok.AppendEncode(ids[:0], text, Options{})
			}
		})
	}
}
