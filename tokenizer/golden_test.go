package tokenizer

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"danlu/internal/numtest"
)

func readLines[T any](t *testing.T, path string) []T {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []T
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		var v T
		if err := json.Unmarshal(sc.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, v)
	}
	return out
}

type goldenCase struct {
	Text        string
	IDs         []int32
	Parse       []int32 `json:"ids_parse"`
	Cross       []int32 `json:"ids_cross"`
	Decoded     string
	DecodedSkip *string `json:"decoded_skip_special"`
}

func TestGoldenTokenizers(t *testing.T) {
	root := numtest.Goldens(t, "tokenizers")
	dirs, _ := filepath.Glob(filepath.Join(root, "*"))
	cases := 0
	for _, dir := range dirs {
		var files []string
		for _, pat := range []string{"*.gguf", "*.model", "*.tiktoken", "tokenizer.json", "vocab.json"} {
			f, _ := filepath.Glob(filepath.Join(dir, pat))
			files = append(files, f...)
		}
		for _, file := range files {
			t.Run(filepath.Base(dir)+"/"+filepath.Base(file), func(t *testing.T) { cases += runGolden(t, dir, file) })
		}
	}
	numtest.Count(t, "tokenizers", cases)
}

func runGolden(t *testing.T, dir, file string) (n int) {
	tok, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	var meta struct {
		Reference string
		Special   []struct {
			Text string
			IDs  []int32
		} `json:"add_special_examples"`
	}
	if b, err := os.ReadFile(filepath.Join(dir, "meta.json")); err == nil {
		if err := json.Unmarshal(b, &meta); err != nil {
			t.Fatal(err)
		}
	}
	skip := !tok.byteLevel // sentencepiece's own decoder leaves control pieces out
	within := func(ids []int32) bool { return len(ids) == 0 || int(slices.Max(ids)) < tok.VocabSize() }
	parse := strings.Contains(meta.Reference, "added tokens parsed")
	check := func(text string, want []int32, o Options) {
		t.Helper()
		n++
		if got := tok.Encode(text, o); !slices.Equal(got, want) {
			t.Errorf("encode %+v %q:\n got %v\nwant %v", o, clip(text), got[:min(len(got), 40)], want[:min(len(want), 40)])
		}
	}
	for _, c := range readLines[goldenCase](t, filepath.Join(dir, "cases.jsonl")) {
		if !within(c.IDs) {
			continue // a vocabulary file without the folder's added tokens
		}
		want := c.IDs
		if strings.HasSuffix(file, ".tiktoken") && c.Cross != nil {
			want = c.Cross // tiktoken files do not normalise
		}
		check(c.Text, want, Options{ParseSpecial: parse})
		if c.Parse != nil && within(c.Parse) {
			check(c.Text, c.Parse, Options{ParseSpecial: true})
		}
		if got := tok.Decode(c.IDs, skip); got != c.Decoded {
			t.Errorf("decode %v:\n got %q\nwant %q", c.IDs[:min(len(c.IDs), 40)], got, c.Decoded)
		}
		if c.DecodedSkip != nil {
			if got := tok.Decode(c.IDs, true); got != *c.DecodedSkip {
				t.Errorf("decode without special %v: got %q, want %q", c.IDs, got, *c.DecodedSkip)
			}
		}
	}
	for _, c := range readLines[goldenCase](t, filepath.Join(dir, "decode.jsonl")) {
		if !within(c.IDs) {
			continue
		}
		n++
		if got := tok.Decode(c.IDs, skip); got != c.Text {
			t.Errorf("decode %v:\n got %q\nwant %q", c.IDs, got, c.Text)
		}
	}
	for _, c := range readLines[struct {
		Bytes string `json:"bytes_b64"`
		IDs   []int32
	}](t, filepath.Join(dir, "invalid_utf8.jsonl")) {
		b, err := base64.StdEncoding.DecodeString(c.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		check(string(b), c.IDs, Options{})
	}
	for _, c := range meta.Special {
		if within(c.IDs) && !strings.HasSuffix(file, "rebuilt.model") {
			check(c.Text, c.IDs, Options{ParseSpecial: true, AddSpecial: true})
		}
	}
	if in, err := os.ReadFile(file + ".inp"); err == nil {
		out, err := os.ReadFile(file + ".out")
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
		for i, text := range strings.Split(string(in), "\n__ggml_vocab_test__\n") {
			if i >= len(lines) {
				break
			}
			var want []int32
			for _, f := range strings.Fields(lines[i]) {
				var v int32
				if err := json.Unmarshal([]byte(f), &v); err != nil {
					t.Fatal(err)
				}
				want = append(want, v)
			}
			check(text, want, Options{})
		}
	}
	return n
}
