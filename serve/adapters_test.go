package serve

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"danlu/adapter"
	"danlu/chat"
	"danlu/dtype"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/generate"
	"danlu/tensor"
	"danlu/tokenizer"
	"danlu/weights"
)

// savedAdapter writes an adapter with random factors and returns its folder.
func savedAdapter(t *testing.T, eng engine.Engine, m family.Model, config string, seed uint64) string {
	t.Helper()
	c, err := adapter.ParseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	set, err := adapter.Resolve(c, m)
	if err != nil {
		t.Fatal(err)
	}
	specs, err := family.Params(m, set.Prepare)
	if err != nil {
		t.Fatal(err)
	}
	store, rng := eng.NewStore(), rand.New(rand.NewPCG(seed, 1))
	defer store.Close()
	for _, s := range specs {
		if !adapter.IsFactor(s.Label) {
			continue
		}
		if err := store.Declare(s); err != nil {
			t.Fatal(err)
		}
		for i := range s.Parts() {
			x := tensor.New(dtype.F32, s.PartType().Shape...)
			for k := range x.F32() {
				x.F32()[k] = float32(rng.NormFloat64()) * 0.1
			}
			if err := store.Set(s.PartName(i), x); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	if err := set.Save(dir, store); err != nil {
		t.Fatal(err)
	}
	return dir
}

// adapted serves a model with random weights and what prepare and load make of it.
func adapted(t *testing.T, eng engine.Engine, m family.Model, opts generate.Options, declare, load func(engine.Store) error) *Model {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	specs, err := family.Params(m)
	check(err)
	store := eng.NewStore()
	for _, s := range specs {
		check(store.Declare(s))
	}
	check(weights.Init(store, specs, 3))
	check(declare(store))
	check(load(store))
	opts.Context, opts.Sequences = 256, 6
	r, err := generate.NewRunner(eng, store, m, opts)
	check(err)
	t.Cleanup(func() { r.Shut(); store.Close() })
	tok, err := tokenizer.Builtin()
	check(err)
	f, err := chat.Lookup("chatml", tok)
	check(err)
	return &Model{ID: "tiny", Tokenizer: tok, Dialect: chat.NewDialect(nil, f, tok), Runner: r}
}

// Requests for different adapters share batches, prompts and the prefix cache, and each is answered as by a model that
// has its adapter alone.
func TestAdapterPerRequest(t *testing.T) {
	eng, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	m, _, err := family.Preset("llama-tiny")
	if err != nil {
		t.Fatal(err)
	}
	dirs := []string{
		savedAdapter(t, eng, m, `{"peft_type":"LORA","r":4,"lora_alpha":8,"target_modules":"all-linear"}`, 1),
		savedAdapter(t, eng, m, `{"peft_type":"LORA","r":3,"lora_alpha":12,"target_modules":["q_proj","down_proj"],"rank_pattern":{"layers.1.self_attn.q_proj":2},"layers_to_transform":[1],"layers_pattern":"layers"}`, 2),
	}
	var files []*adapter.File
	body := func(model, question string) string {
		return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}],"temperature":0,"max_tokens":24,"ignore_eos":true}`, model, question)
	}
	long := strings.Repeat("a question that many ask ", 6)
	want := map[string]string{}
	note := func(id string, served *Model) {
		s, err := New(Options{}, served)
		if err != nil {
			t.Fatal(err)
		}
		want[id] = ask(t, listening(t, s)+"/v1/chat/completions", body("tiny", long)).Choices[0].Message.Content
	}
	none := func(engine.Store) error { return nil }
	note("tiny", adapted(t, eng, m, generate.Options{}, none, none))
	for i, dir := range dirs {
		f, err := adapter.Open(dir, m)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
		one, err := family.Params(m, f.Set.Prepare)
		if err != nil {
			t.Fatal(err)
		}
		declare := func(store engine.Store) error {
			for _, s := range one {
				if adapter.IsFactor(s.Label) {
					if err := store.Declare(s); err != nil {
						return err
					}
				}
			}
			return nil
		}
		note(fmt.Sprintf("style-%d", i+1), adapted(t, eng, m, generate.Options{Prepare: f.Set.Prepare}, declare, f.Load))
	}
	if want["tiny"] == want["style-1"] || want["tiny"] == want["style-2"] || want["style-1"] == want["style-2"] {
		t.Fatalf("the adapters make no difference: %q", want)
	}
	bank, err := adapter.NewBank(files...)
	if err != nil {
		t.Fatal(err)
	}
	served := adapted(t, eng, m, generate.Options{Prepare: bank.Prepare, Adapters: bank.Len()}, func(store engine.Store) error { return bank.Declare(store, m, nil) }, bank.Load)
	served.Adapters = []string{"style-1", "style-2"}
	s, err := New(Options{}, served)
	if err != nil {
		t.Fatal(err)
	}
	url := listening(t, s)
	for id, text := range want {
		if got := ask(t, url+"/v1/chat/completions", body(id, long)).Choices[0].Message.Content; got != text {
			t.Errorf("%s: want %q, got %q", id, text, got)
		}
	}
	var wait sync.WaitGroup
	for range 4 {
		for id, text := range want {
			wait.Go(func() {
				status, answer := post(t, url+"/v1/chat/completions", body(id, long))
				if g := parse(t, answer); status != http.StatusOK || g.Choices[0].Message.Content != text || g.Model != id {
					t.Errorf("%s in a crowd: want %q, got %s", id, text, answer)
				}
			})
		}
	}
	wait.Wait()
	if g := ask(t, url+"/v1/chat/completions", strings.Replace(body("tiny", long), `"model":"tiny",`, "", 1)); g.Model != "tiny" {
		t.Errorf("without a name %s answers", g.Model)
	}
	r, err := http.Get(url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var cards struct{ Data []card }
	if err := json.NewDecoder(r.Body).Decode(&cards); err != nil || len(cards.Data) != 3 || cards.Data[0].Parent != "" || cards.Data[2].ID != "style-2" || cards.Data[2].Parent != "tiny" {
		t.Errorf("models: %+v, %v", cards, err)
	}
}

// Adapters that a bank cannot hold are refused by what they change.
func TestNoBank(t *testing.T) {
	eng, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	m, _, err := family.Preset("llama-tiny")
	if err != nil {
		t.Fatal(err)
	}
	for keys, want := range map[string]string{`"target_modules":"all-linear","use_dora":true`: "use_dora", `"target_modules":["q_proj","embed_tokens"]`: "embed_tokens"} {
		f, err := adapter.Open(savedAdapter(t, eng, m, `{"peft_type":"LORA","r":2,"lora_alpha":4,`+keys+`}`, 5), m)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := adapter.NewBank(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error with %q, got %v", keys, want, err)
		}
	}
}
