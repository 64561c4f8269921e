package generate

import (
	"context"
	"errors"
	"strings"
	"testing"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/tokenizer"
)

func tinyTalk(t *testing.T, opts Options) *Talk {
	t.Helper()
	tok, err := tokenizer.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	f, err := chat.Lookup("chatml", tok)
	if err != nil {
		t.Fatal(err)
	}
	r := tinyRunner(t, opts)
	seq, err := r.Open()
	if err != nil {
		t.Fatal(err)
	}
	return &Talk{Runner: r, Sequence: seq, Tokenizer: tok, Dialect: chat.NewDialect(nil, f, tok), MaxNew: 6, Sampling: Sampling{Temperature: 1, Seed: 4}}
}

func ask(t *testing.T, talk *Talk, question string) Answered {
	t.Helper()
	var shown chat.Said
	a, err := talk.Ask(context.Background(), question, func(s chat.Said) { shown.Content += s.Content; shown.Reasoning += s.Reasoning }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if shown.Content != a.Content || shown.Reasoning != a.Reasoning {
		t.Errorf("%q: shown %+v, returned %+v", question, shown, a.Said)
	}
	return a
}

// A later answer is the one that a fresh cache gives, though most of the conversation is not read again.
func TestTalkReusesTheCache(t *testing.T) {
	talk := tinyTalk(t, Options{Context: 256})
	questions := []string{"one and two", "three, 四", "five"}
	before := 0
	for i, q := range questions {
		history := append([]*jinja.Dict(nil), talk.Messages...)
		a := ask(t, talk, q)
		if a.Reused < before { // an answer's text may be other ids when it is read again
			t.Errorf("question %d: %d of the %d tokens before were reused", i, a.Reused, before)
		}
		before = a.Prompt
		fresh := tinyTalk(t, Options{Context: 256})
		fresh.Messages = history
		if want := ask(t, fresh, q); want.Content != a.Content || want.Reused != 0 {
			t.Errorf("question %d: a fresh cache answers %q (reused %d), this one %q", i, want.Content, want.Reused, a.Content)
		}
	}
	if len(talk.Messages) != 2*len(questions) {
		t.Errorf("want %d messages, got %d", 2*len(questions), len(talk.Messages))
	}
	talk.Reset()
	if a := ask(t, talk, questions[0]); a.Reused == 0 || len(talk.Messages) != 2 {
		t.Errorf("after a reset: %d reused, %d messages", a.Reused, len(talk.Messages))
	}
}

func TestTalkFillsTheContext(t *testing.T) {
	talk := tinyTalk(t, Options{Context: 64})
	talk.MaxNew = 0
	if a := ask(t, talk, "go on"); a.Stop != StopContext && a.Stop != StopEnd {
		t.Errorf("want the context to fill, got %s after %d tokens", a.Stop, a.Tokens)
	}
	before := len(talk.Messages)
	_, err := talk.Ask(context.Background(), strings.Repeat("many words ", 40), func(chat.Said) {}, nil)
	var full *ContextError
	if !errors.As(err, &full) || full.Context != 64 || full.Prompt < 64 {
		t.Errorf("want a ContextError of 64, got %v", err)
	}
	if len(talk.Messages) != before {
		t.Error("the question that was refused stayed in the conversation")
	}
}

func TestTalkStops(t *testing.T) {
	talk := tinyTalk(t, Options{Context: 256})
	talk.MaxNew = 0
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	a, err := talk.Ask(ctx, "long", func(chat.Said) {
		if n++; n == 5 {
			cancel()
		}
	}, nil)
	if err != nil || a.Stop != StopCancel || a.Content == "" || len(talk.Messages) != 2 {
		t.Errorf("want a stopped answer that is kept, got %+v, %v", a, err)
	}
	if _, err := talk.Ask(ctx, "again", func(chat.Said) {}, nil); err != nil || len(talk.Messages) != 2 {
		t.Errorf("a question that was stopped at once: %v, %d messages", err, len(talk.Messages))
	}
	if a := ask(t, talk, "and now"); a.Tokens == 0 {
		t.Error("no answer after a stop")
	}
}

// Stop strings end a text and never show.
func TestWriteStops(t *testing.T) {
	talk := tinyTalk(t, Options{Context: 256})
	w := Writing{Tokenizer: talk.Tokenizer}
	w.Prompt, w.MaxNew, w.Sampling = talk.Tokenizer.Encode("once", tokenizer.Options{}), 40, talk.Sampling
	whole, err := talk.Runner.Write(context.Background(), talk.Sequence, w)
	if err != nil {
		t.Fatal(err)
	}
	half := []rune(whole.Text)[len([]rune(whole.Text))/2:]
	stop := string(half[:min(3, len(half))])
	w.Stops = []string{stop}
	var shown strings.Builder
	w.Write = func(s string) { shown.WriteString(s) }
	talk.Runner.Truncate(talk.Sequence, 0)
	got, err := talk.Runner.Write(context.Background(), talk.Sequence, w)
	if err != nil {
		t.Fatal(err)
	}
	if want, _, _ := strings.Cut(whole.Text, stop); got.Text != want || shown.String() != want || got.Stop != StopEnd {
		t.Errorf("stop %q: want %q, got %q, shown %q, %s", stop, want, got.Text, shown.String(), got.Stop)
	}
}
