package generate

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"danlu/engine/cpu"
	"danlu/family"
	"danlu/grammar"
	"danlu/weights"
)

// tinyRunner holds a small model with random weights.
func tinyRunner(t *testing.T, opts Options) *Runner {
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
	if err := weights.Init(store, specs, 3); err != nil {
		t.Fatal(err)
	}
	r, err := NewRunner(eng, store, m, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Shut(); store.Close(); eng.Close() })
	return r
}

// Answers in a batch are those that each request gets alone, however many are in work and however prompts are cut.
func TestBatchIsEachAlone(t *testing.T) {
	var requests []Request
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 9 {
		prompt := make([]int32, 1+rng.IntN(20))
		for k := range prompt {
			prompt[k] = int32(rng.IntN(4000))
		}
		requests = append(requests, Request{Prompt: prompt, MaxNew: 3 + i, Sampling: Sampling{Temperature: float64(i % 2), Seed: uint64(i)}})
	}
	alone := tinyRunner(t, Options{Context: 64})
	var want [][]int32
	for i := range requests {
		seq, err := alone.Open()
		if err != nil {
			t.Fatal(err)
		}
		if i >= 6 { // ends in the middle
			res, err := alone.Generate(context.Background(), seq, requests[i])
			if err != nil {
				t.Fatal(err)
			}
			requests[i].End = []int32{res.Tokens[1].ID}
			alone.Truncate(seq, 0)
		}
		res, err := alone.Generate(context.Background(), seq, requests[i])
		if err != nil {
			t.Fatal(err)
		}
		var ids []int32
		for _, x := range res.Tokens {
			ids = append(ids, x.ID)
		}
		if res.Stop == StopEnd {
			ids = append(ids, requests[i].End[0])
		}
		want = append(want, ids)
		alone.Close(seq)
	}
	for _, opts := range []Options{{Context: 64, Sequences: 1}, {Context: 64, Sequences: 4, Chunk: 7}, {Context: 64, Sequences: 16}} {
		r := tinyRunner(t, opts)
		told := 0
		got, err := r.Batch(context.Background(), requests, func(int, Answer) { told++ })
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if !slices.Equal(got[i].IDs, want[i]) {
				t.Errorf("%d sequences: request %d: want %v, got %v", opts.Sequences, i, want[i], got[i].IDs)
			}
		}
		if told != len(requests) || len(r.free) != r.opts.Pages {
			t.Errorf("told of %d answers, %d of %d pages are free again", told, len(r.free), r.opts.Pages)
		}
	}
}

// Prompts of a batch that begin alike share what they begin with, also where the cache is small; Token is told what
// Generate would tell it, and can end an answer.
func TestBatchSharesPrompts(t *testing.T) {
	long := make([]int32, 40)
	for i := range long {
		long[i] = int32(100 + 7*i)
	}
	alone := tinyRunner(t, Options{Context: 96, PageLen: 8})
	r := tinyRunner(t, Options{Context: 96, PageLen: 8, Sequences: 6, Pages: 24})
	var requests []Request
	var want [][]Token
	got := make([][]Token, 8)
	for i := range got {
		req := Request{Prompt: append(slices.Clone(long), int32(i), int32(i+1)), MaxNew: 6, Sampling: Sampling{RepetitionPenalty: 1.2}}
		seq, err := alone.Open()
		if err != nil {
			t.Fatal(err)
		}
		res, err := alone.Generate(context.Background(), seq, req)
		if err != nil {
			t.Fatal(err)
		}
		alone.Close(seq)
		if i == 3 {
			res.Tokens = res.Tokens[:2]
		}
		want = append(want, res.Tokens)
		req.Token = func(x Token) bool {
			got[i] = append(got[i], x)
			return i == 3 && len(got[i]) == 2
		}
		requests = append(requests, req)
	}
	before := r.Read()
	answers, err := r.Batch(context.Background(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !slices.Equal(got[i], want[i]) || len(answers[i].IDs) != len(want[i]) {
			t.Errorf("request %d: want %v, got %v, answered %v", i, want[i], got[i], answers[i])
		}
	}
	if answers[3].Stop != StopEnd || answers[0].Stop != StopLength {
		t.Errorf("stopped by %s and %s", answers[3].Stop, answers[0].Stop)
	}
	if n := r.Read() - before; n > 42+7*(42-40)+8*6 {
		t.Errorf("%d tokens were read", n)
	}
}

// Drawing from the whole vocabulary without ordering it gives what ordering gives.
func TestDrawIsPick(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	quick, slow := NewSampler(Sampling{Temperature: 0.8, Seed: 5}), NewSampler(Sampling{Temperature: 0.8, Seed: 5})
	for range 500 {
		logits := make([]float32, 50)
		for i := range logits {
			logits[i] = float32(3 * rng.NormFloat64())
		}
		a, err := quick.Next(slices.Clone(logits), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := slow.Next(logits, nil, grammar.Mask{1<<50 - 1})
		if err != nil || a != b {
			t.Fatalf("drew %d, picked %d (%v)", a, b, err)
		}
	}
}
