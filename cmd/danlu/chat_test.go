package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"danlu/chat"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/generate"
	"danlu/tokenizer"
	"danlu/weights"
)

// tinyTalk is a conversation with a small model with random weights.
func tinyTalk(t *testing.T, context int) *generate.Talk {
	t.Helper()
	check := func(err error) {
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
	r, err := generate.NewRunner(eng, store, m, generate.Options{Context: context})
	check(err)
	t.Cleanup(func() { r.Shut(); store.Close(); eng.Close() })
	seq, err := r.Open()
	check(err)
	tok, err := tokenizer.Builtin()
	check(err)
	f, err := chat.Lookup("chatml", tok)
	check(err)
	return &generate.Talk{Runner: r, Sequence: seq, Tokenizer: tok, Dialect: chat.NewDialect(nil, f, tok), MaxNew: 5, Sampling: generate.Sampling{Temperature: 1, Seed: 4}}
}

func TestConverse(t *testing.T) {
	talk := tinyTalk(t, 96)
	var out, errs bytes.Buffer
	in := "hello\n/set temperature 0.5\n/set temperature x\n/set top_p 3\n/nonsense\n\"\"\"\ntwo\nlines\n\"\"\"\n\n/system Be brief.\n/system\n/set\n" +
		strings.Repeat("very long ", 60) + "\n/reset\n你好\n/exit\nnever read\n"
	s := &screen{in: newLines(strings.NewReader(in)), out: &out, errors: &errs}
	if err := converse(context.Background(), talk, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"temperature 0.5", `/set temperature: want a number, got "x"`, "top_p: want 0 to 1, got 3", "unknown command /nonsense", "Be brief.\n",
		"The context is full: the conversation has", "the context 96"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("no %q in\n%s", want, errs.String())
		}
	}
	if n := strings.Count(out.String(), "\n"); n < 3 {
		t.Errorf("want three replies, got %q", out.String())
	}
	if len(talk.Messages) != 2 || talk.System != "Be brief." || talk.Sampling.Temperature != 0.5 {
		t.Errorf("want one question and answer behind the last reset, got %d messages, system %q, temperature %v", len(talk.Messages), talk.System, talk.Sampling.Temperature)
	}
}

// Thoughts are dimmed on a terminal and left out elsewhere.
func TestAnswerShowsThoughts(t *testing.T) {
	parts := []chat.Said{{Reasoning: "hm"}, {Reasoning: "m"}, {Content: "An"}, {Content: "swer"}}
	for _, c := range []struct {
		live, colour bool
		want         string
	}{{true, true, "\x1b[2mhmm\x1b[0m\n\nAnswer\n"}, {true, false, "hmm\n\nAnswer\n"}, {false, false, "Answer\n"}} {
		var out bytes.Buffer
		a := &answer{screen: &screen{out: &out, live: c.live, colour: c.colour}}
		for _, p := range parts {
			a.show(p)
		}
		a.end()
		if out.String() != c.want {
			t.Errorf("live %v, colour %v: want %q, got %q", c.live, c.colour, c.want, out.String())
		}
	}
}

func TestTextVerbsRefuse(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"generate", "x"}, "PROMPT: is missing"},
		{[]string{"generate", "x", "a", "b"}, "quote the prompt"},
		{[]string{"generate", "x", "a", "--prompt-ids", "1"}, "one of"},
		{[]string{"generate", "x", "a", "--system", "s"}, "need --chat"},
		{[]string{"generate", "x", "a", "--special", "maybe"}, "--special"},
		{[]string{"generate", "x", "a", "-n", "0"}, "--max-new"},
		{[]string{"generate", "no-such-model", "a"}, "no-such-model"},
		{[]string{"chat", "no-such-model"}, "no-such-model"},
		{[]string{"chat", "x", "--thinking", "maybe"}, "on or off"},
		{[]string{"chat", "llama-tiny"}, "llama-tiny"},
		{[]string{"serve"}, "MODEL: is missing"},
		{[]string{"serve", "no-such-model"}, "no-such-model"},
		{[]string{"serve", "x", "--port", "70000"}, "--port: want 0 to 65535, got 70000"},
		{[]string{"serve", "x", "--chunk", "8"}, "--chunk: want 32 to 65536, got 8"},
		{[]string{"serve", "x", "--cache-tokens", "100"}, "--cache-tokens: want at least --context"},
		{[]string{"serve", "x", "--served-model-name", "a", "--served-model-name", "b"}, "--served-model-name"},
		{[]string{"template", "show", "no-such-model"}, "no-such-model"},
	} {
		status, _, stderr := execute(t, c.args...)
		if status != exitInput || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: want exit %d and one line with %q, got %d: %s", c.args, exitInput, c.want, status, stderr)
		}
	}
}
