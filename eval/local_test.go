package eval

import (
	"context"
	"math"
	"strings"
	"testing"

	"danlu/engine/cpu"
	"danlu/family"
	"danlu/generate"
	"danlu/kernel"
	"danlu/tokenizer"
	"danlu/weights"
)

// tiny is a small model with random weights.
func tiny(t *testing.T, opts generate.Options) *Local {
	t.Helper()
	eng, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := family.Preset("llama-tiny")
	if err != nil {
		t.Fatal(err)
	}
	specs, err := family.Params(m)
	if err != nil {
		t.Fatal(err)
	}
	store := eng.NewStore()
	for _, s := range specs {
		if err := store.Declare(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := weights.Init(store, specs, 5); err != nil {
		t.Fatal(err)
	}
	r, err := generate.NewRunner(eng, store, m, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Shut(); store.Close(); eng.Close() })
	tok, err := tokenizer.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return &Local{Runner: r, Tokenizer: tok, Label: "tiny", ID: "tiny", End: []int32{tok.EOS()}}
}

// ask returns a model's answers in the order of the requests.
func ask(t *testing.T, m Model, requests []Request) []Response {
	t.Helper()
	out := make([]Response, len(requests))
	told := 0
	err := m.Answer(context.Background(), requests, func(i int, r Response) error {
		out[i] = r
		told++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if told != len(requests) {
		t.Fatalf("told of %d answers of %d", told, len(requests))
	}
	return out
}

// inOnePass scores a text in one pass.
func inOnePass(t *testing.T, l *Local, prompt, target []int32) (ll float64, greedy bool) {
	t.Helper()
	ids := append(append([]int32(nil), prompt...), target...)
	seq, err := l.Runner.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Runner.Close(seq)
	rows, err := l.Runner.Run(context.Background(), []generate.Work{{Sequence: seq, IDs: ids[:len(ids)-1], Logits: len(target)}})
	if err != nil {
		t.Fatal(err)
	}
	greedy = true
	for i, row := range rows {
		ll += float64(row[target[i]]) - float64(kernel.LogSumExp(row))
		greedy = greedy && kernel.ArgMax(row) == int(target[i])
	}
	return ll, greedy
}

func choiceRequests(long string) []Request {
	var list []Request
	for _, prompt := range []string{"Once upon a time", long + " The end", long + " A cat", "", "小猫说"} {
		for _, choice := range []string{" a", " there was a dog", " there was a dog that sang", "。", " x y"} {
			list = append(list, Request{Output: Likelihood, Context: prompt, Target: choice})
		}
	}
	return list
}

// Likelihoods do not depend on what else is in work, on how prompts are shared and on how passes are cut.
func TestLikelihoodIsEachAlone(t *testing.T) {
	long := strings.Repeat("The little bird saw a red ball and said hello. ", 8)
	requests := choiceRequests(long)
	alone := tiny(t, generate.Options{Context: 256})
	var want []Response
	for _, q := range requests {
		prompt, target, err := alone.pair(q)
		if err != nil {
			t.Fatal(err)
		}
		ll, greedy := inOnePass(t, alone, prompt, target)
		want = append(want, Response{LogLikelihood: ll, Greedy: greedy})
	}
	for name, opts := range map[string]generate.Options{
		"one":  {Context: 256},
		"many": {Context: 256, Sequences: 8},
		"cut":  {Context: 256, Sequences: 3, Chunk: 7},
		"few":  {Context: 256, Sequences: 8, Pages: 9, PageLen: 32},
	} {
		for _, apart := range []bool{false, true} {
			m := tiny(t, opts)
			m.Apart = apart
			for i, got := range ask(t, m, requests) {
				if got.LogLikelihood != want[i].LogLikelihood || got.Greedy != want[i].Greedy {
					t.Errorf("%s, apart %v: %q behind %.20q: want %v, got %v", name, apart, requests[i].Target, requests[i].Context, want[i], got)
				}
			}
			if u := m.Usage(); !apart && u.Read >= u.Prompt/2 {
				t.Errorf("%s: %d tokens of %d were read although prompts are shared", name, u.Read, u.Prompt)
			}
		}
	}
}

// Prompts that do not fit lose their beginning; texts longer than the context are scored in windows, each token once.
func TestLongTexts(t *testing.T) {
	m := tiny(t, generate.Options{Context: 16, Sequences: 4})
	q := Request{Output: Likelihood, Context: strings.Repeat("one two three ", 9), Target: " four five"}
	prompt, target, err := m.pair(q)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := inOnePass(t, m, prompt[len(prompt)+len(target)-17:], target)
	if got := ask(t, m, []Request{q}); got[0].LogLikelihood != want {
		t.Errorf("cut prompt: want %v, got %v", want, got[0].LogLikelihood)
	}
	if m.Usage().Shortened != 1 {
		t.Errorf("%d prompts were shortened", m.Usage().Shortened)
	}
	text := strings.Repeat("The bird sang. A dog ran to the river. ", 3)
	ids := m.encode(text, true)
	if len(ids) <= 20 || len(ids)%16 == 0 {
		t.Fatalf("the text has %d tokens", len(ids))
	}
	want = 0
	for at := 0; at < len(ids); {
		to := min(at+16, len(ids))
		before := []int32{m.Tokenizer.BOS()}
		if at > 0 {
			before = ids[to-17 : at]
		}
		ll, _ := inOnePass(t, m, before, ids[at:to])
		want += ll
		at = to
	}
	if got := ask(t, m, []Request{{Output: Rolling, Target: text}}); math.Abs(got[0].LogLikelihood-want) > 1e-9 {
		t.Errorf("windows: want %v, got %v", want, got[0].LogLikelihood)
	}
}

// A generated answer ends before its stop string, at its end token, or at its limit.
func TestWrite(t *testing.T) {
	m := tiny(t, generate.Options{Context: 128, Sequences: 4})
	q := Request{Output: Generate, Context: "Once upon a time", Generation: Generation{MaxTokens: 24, Temperature: 1, Until: []string{}}}
	full := ask(t, m, []Request{q})[0]
	if !full.Cut || len(full.Text) < 8 {
		t.Fatalf("got %+v", full)
	}
	stop := full.Text[5:8]
	at := strings.Index(full.Text, stop)
	cut := q
	cut.Generation.Until = []string{stop}
	other := q
	other.Context = "Once upon a time there"
	got := ask(t, m, []Request{cut, other, q})
	if got[0].Text != full.Text[:at] || got[0].Cut {
		t.Errorf("stopped at %q: want %q, got %+v", stop, full.Text[:at], got[0])
	}
	if got[2] != full {
		t.Errorf("beside others: want %+v, got %+v", full, got[2])
	}
	q.Generation.MaxTokens = 128
	if err := m.Answer(context.Background(), []Request{q}, nil); err == nil || !strings.Contains(err.Error(), "max_gen_toks: 128 leaves no room") {
		t.Errorf("no room for a prompt: %v", err)
	}
}
