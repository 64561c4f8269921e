package serve

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"danlu/chat"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/numtest"
	"danlu/tokenizer"
	"danlu/weights"
)

// sightedModel is a model that sees, in the shape of reference data whose pictures are no piece of a vocabulary, with
// random weights and the built-in vocabulary.
func sightedModel(t *testing.T) (*Model, []byte) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tok, err := tokenizer.Builtin()
	check(err)
	images, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "models"), "*", "image.png"))
	check(err)
	for _, path := range images {
		dir := filepath.Dir(path)
		config, err := os.ReadFile(filepath.Join(dir, "config.json"))
		check(err)
		config = regexp.MustCompile(`"vocab_size": *\d+`).ReplaceAll(config, fmt.Appendf(nil, `"vocab_size": %d`, tok.VocabSize()))
		m, _, err := family.Parse(path, config)
		check(err)
		if picture, _ := m.(family.Viewer).Placeholders(); picture >= 0 {
			continue
		}
		eng, err := cpu.New(cpu.Options{})
		check(err)
		specs, err := family.Params(m)
		check(err)
		store := eng.NewStore()
		for _, s := range specs {
			check(store.Declare(s))
		}
		check(weights.Init(store, specs, 3))
		r, err := generate.NewRunner(eng, store, m, generate.Options{Context: 1024, Sequences: 4, Chunk: 50})
		check(err)
		eyes, err := r.Eyes(dir)
		check(err)
		t.Cleanup(func() { eyes.Close(); r.Shut(); store.Close(); eng.Close() })
		f, err := chat.Lookup("yi_vl", tok)
		check(err)
		data, err := os.ReadFile(path)
		check(err)
		return &Model{ID: "tiny", Tokenizer: tok, Dialect: chat.NewDialect(nil, f, tok), Runner: r, Eyes: eyes}, data
	}
	t.Skip("SKIPPED: no reference data of a model that sees and whose pictures are no piece of a vocabulary")
	return nil, nil
}

func drawnPNG(t *testing.T, width, height int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, width, height))
	for i := range min(width, height) {
		img.Set(i, i, color.White)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pictured(question string, more string, pictures ...[]byte) string {
	parts := ""
	for _, p := range pictures {
		parts += `{"type":"image_url","image_url":{"url":"data:image/png;base64,` + base64.StdEncoding.EncodeToString(p) + `","detail":"auto"}},`
	}
	return `{"messages":[{"role":"user","content":[` + parts + `{"type":"text","text":"` + question + `"}]}],"temperature":0,"max_tokens":16,"ignore_eos":true` + more + `}`
}

// An answer about a picture is what the model says to that picture: not to another one, nor to none, whatever else is in
// work, and the same through Ollama's words.
func TestPictures(t *testing.T) {
	m, one := sightedModel(t)
	s, err := New(Options{}, m)
	if err != nil {
		t.Fatal(err)
	}
	h := listening(t, s)
	other := drawnPNG(t, 60, 40)
	say := func(body string) string {
		return ask(t, h+"/v1/chat/completions", body).Choices[0].Message.Content
	}
	first, second, none := say(pictured("what is it?", "", one)), say(pictured("what is it?", "", other)), say(pictured("what is it?", ""))
	if first == second || first == none || first == "" {
		t.Errorf("the picture makes no difference: %q, %q, %q", first, second, none)
	}
	both := say(pictured("what is it?", "", one, other))
	var wait sync.WaitGroup
	for range 3 {
		for body, want := range map[string]string{pictured("what is it?", "", one): first, pictured("what is it?", "", other): second, pictured("what is it?", "", one, other): both, pictured("what is it?", ""): none} {
			wait.Go(func() {
				if status, text := post(t, h+"/v1/chat/completions", body); status != http.StatusOK || parse(t, text).Choices[0].Message.Content != want {
					t.Errorf("in a crowd: want %q, got %s", want, text)
				}
			})
		}
	}
	wait.Wait()
	ollama := ollamaLines(t, h+"/api/chat", `{"messages":[{"role":"user","content":"what is it?","images":["`+base64.StdEncoding.EncodeToString(one)+`"]}],"stream":false,"options":{"temperature":0,"num_predict":16}}`)
	if got := ollama[0].Message.Content; !strings.HasPrefix(first, got) || got == "" {
		t.Errorf("Ollama's: want %q, got %q", first, got)
	}
	if strings.Join(m.abilities(), " ") != "completion chat vision" {
		t.Errorf("abilities: %v", m.abilities())
	}
}

func TestBadPictures(t *testing.T) {
	m, one := sightedModel(t)
	s, err := New(Options{}, m)
	if err != nil {
		t.Fatal(err)
	}
	h := listening(t, s)
	with := func(url string) string {
		return `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"` + url + `"}}]}]}`
	}
	var many [][]byte
	for range maxPictures + 1 {
		many = append(many, drawnPNG(t, 2, 2))
	}
	for _, c := range []struct{ body, want string }{
		{with("https://example.com/a.png"), "loads nothing from other places"},
		{with("file:///etc/passwd"), "loads nothing from other places"},
		{with("data:image/png,abc"), "base64"},
		{with("data:image/png;base64,!!"), "base64"},
		{with("data:image/png;base64,AAAA"), "unknown format"},
		{with("data:image/png;base64," + base64.StdEncoding.EncodeToString(one[:len(one)/2])), "image"},
		{pictured("x", "", drawnPNG(t, 5000, 5000)), "pixels"},
		{pictured("x", "", many...), "at most 16 pictures"},
		{strings.Replace(pictured("x", "", one), `"auto"`, `"low"`, 1), "detail"},
		{`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":7}]}]}`, "want {"},
		{`{"messages":[{"role":"user","content":[{"type":"input_audio"}]}]}`, "type text or image_url"},
	} {
		status, text := post(t, h+"/v1/chat/completions", c.body)
		if e := parse(t, text).Error; e == nil || status != http.StatusBadRequest || !strings.Contains(e.Message, c.want) {
			t.Errorf("%.90s: want 400 with %q, got %d %s", c.body, c.want, status, text)
		}
	}
	if got := ask(t, h+"/v1/chat/completions", pictured("still there?", "", one)); got.Choices[0].Message.Content == "" {
		t.Error("no answer afterwards")
	}
}
