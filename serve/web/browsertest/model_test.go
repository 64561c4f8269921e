package browsertest

import (
	"testing"

	"github.com/chromedp/chromedp"

	"danlu/chat"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/generate"
	"danlu/serve"
	"danlu/tokenizer"
	"danlu/weights"
)

// tinyServer serves a small model with random weights.
func tinyServer(t *testing.T) *serve.Server {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	eng, err := cpu.New(cpu.Options{})
	check(err)
	m, _, err := family.Preset("llama-tiny")
	check(err)
	specs, err := family.Params(m)
	check(err)
	store := eng.NewStore()
	for _, s := range specs {
		check(store.Declare(s))
	}
	check(weights.Init(store, specs, 3))
	r, err := generate.NewRunner(eng, store, m, generate.Options{Context: 256, Sequences: 4})
	check(err)
	tok, err := tokenizer.Builtin()
	check(err)
	f, err := chat.Lookup("chatml", tok)
	check(err)
	s, err := serve.New(serve.Options{}, &serve.Model{ID: "tiny", Tokenizer: tok, Dialect: chat.NewDialect(nil, f, tok), Runner: r, Sampling: generate.Sampling{Temperature: 1}})
	check(err)
	t.Cleanup(func() { s.Close(); r.Shut(); store.Close(); eng.Close() })
	return s
}

// A model answers on the page as the server serves it, and a full context is said to be one.
func TestModel(t *testing.T) {
	b := open(t, tinyServer(t), "en-US")
	b.visit("/")
	b.until(`document.querySelector("#model").options.length === 1`)
	b.say("hello")
	b.idle()
	want(b, `document.querySelector(".answer").textContent.length > 20`, true)
	want(b, `document.querySelector(".end").textContent`, "The answer ended at a limit.")
	want(b, `document.querySelector(".assistant .bar .quiet").textContent.startsWith("tiny · ")`, true)
	b.run(chromedp.Navigate(b.home + "/runs"))
	b.until(`document.querySelector("#none").textContent.includes("--runs")`)
}
