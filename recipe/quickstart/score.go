package quickstart

import (
	"context"
	"fmt"
	"io"
	"strings"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/data/corpus"
	"danlu/engine"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/nn"
	"danlu/tokenizer"
	"danlu/weights"
)

// Pupil is a trained model that answers requests, many at a time.
type Pupil struct {
	runner  *generate.Runner
	store   engine.Store
	dialect *chat.Dialect
	tok     *tokenizer.Tokenizer
	end     []int32
}

// longest is the most tokens of a prompt with its answer: the longest story has 130.
const longest = 256

// Open loads the model in a folder.
func Open(dir string, eng engine.Engine) (_ *Pupil, err error) {
	f, err := family.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Weights.Close()
	p := &Pupil{store: eng.NewStore()}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	specs, err := family.Params(f.Model)
	if err != nil {
		return nil, err
	}
	for _, s := range specs {
		if err := p.store.Declare(s); err != nil {
			return nil, err
		}
	}
	if err := weights.Load(p.store, specs, f.Weights, weights.LoadOptions{Ignored: f.Model.Info().Ignored}); err != nil {
		return nil, err
	}
	if p.tok, err = tokenizer.Load(dir); err != nil {
		return nil, err
	}
	if p.dialect, err = chat.Open(dir, "", p.tok); err != nil {
		return nil, err
	}
	p.end, _ = p.dialect.Stop()
	p.runner, err = generate.NewRunner(eng, p.store, f.Model, generate.Options{Policy: nn.Float32, Context: longest, Sequences: 64})
	return p, err
}

// Close frees the model.
func (p *Pupil) Close() {
	if p.runner != nil {
		p.runner.Shut()
	}
	p.store.Close()
}

// Ask answers each prompt; temperature 0 takes the most probable tokens.
func (p *Pupil) Ask(ctx context.Context, prompts []string, temperature float64) ([]string, error) {
	requests := make([]generate.Request, len(prompts))
	for i, text := range prompts {
		prompt, err := p.dialect.Prompt(&chat.Conversation{Messages: []*jinja.Dict{chat.NewMessage(chat.User, text)}, Open: true})
		if err != nil {
			return nil, err
		}
		requests[i] = generate.Request{Prompt: prompt.IDs, End: p.end, Sampling: generate.Sampling{Temperature: temperature, Seed: uint64(i)}}
	}
	answers, err := p.runner.Batch(ctx, requests, nil)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(answers))
	for i, a := range answers {
		texts[i] = strings.TrimSpace(p.tok.Decode(a.IDs, true))
	}
	return texts, nil
}

// Score is how well a pupil learned, counted over answers to requests of the held-out split.
type Score struct {
	Stories int // that parse by the grammar of the language that was asked for
	Copied  int // whole from the training text
	Sums    int // that are right
	Of      int // stories asked for, and additions
}

// String is the score in words.
func (s Score) String() string {
	share := func(n int) float64 { return 100 * float64(n) / float64(max(1, s.Of)) }
	return fmt.Sprintf(locale.Text("of %d stories never seen in training %.0f%% follow the grammar, %.0f%% are copies; of %d new additions %.0f%% are right",
		"训练中未出现过的 %d 个故事：%.0f%% 符合语法，%.0f%% 为照抄；%d 道新加法题：%.0f%% 正确"), s.Of, share(s.Stories), share(s.Copied), s.Of, share(s.Sums))
}

// temperature at which stories are drawn.
const temperature = 0.3

// Score asks for n stories, half in each language, and n additions.
func (p *Pupil) Score(ctx context.Context, n int) (Score, error) {
	var stories, sums []string
	var problems []corpus.Problem
	for i := range uint64(n) {
		lang := corpus.Lang(i % 2)
		stories = append(stories, corpus.StoryRequest(lang, corpus.HeldOut, i/2).Prompt)
		problems = append(problems, corpus.ProblemAt(lang, corpus.HeldOut, i/2))
		sums = append(sums, problems[i].Question)
	}
	s := Score{Of: n}
	told, err := p.Ask(ctx, stories, temperature)
	if err != nil {
		return s, err
	}
	learned := map[string]bool{}
	for i := range uint64(documents) {
		learned[corpus.Document(corpus.Train, i)] = true
	}
	for i := range uint64(conversations) {
		for _, t := range conversation(i) {
			learned[t.Reply] = true
		}
	}
	for i, text := range told {
		if _, lang, err := corpus.ParseStory(text); err == nil && lang == corpus.Lang(i%2) {
			s.Stories++
		}
		if learned[text] {
			s.Copied++
		}
	}
	worked, err := p.Ask(ctx, sums, 0)
	if err != nil {
		return s, err
	}
	for i, text := range worked {
		if sum, ok := corpus.ReadAnswer(text); ok && sum == problems[i].Answer() {
			s.Sums++
		}
	}
	return s, nil
}

// Show prints what the pupil answers to a few requests.
func (p *Pupil) Show(ctx context.Context, w io.Writer) error {
	prompts := []string{
		corpus.StoryRequest(corpus.English, corpus.HeldOut, 1).Prompt, corpus.StoryRequest(corpus.Chinese, corpus.HeldOut, 1).Prompt,
		corpus.ProblemAt(corpus.English, corpus.HeldOut, 1).Question, corpus.ProblemAt(corpus.Chinese, corpus.HeldOut, 2).Question,
	}
	answers, err := p.Ask(ctx, prompts, temperature)
	if err != nil {
		return err
	}
	for i, a := range answers {
		fmt.Fprintf(w, "\n> %s\n%s\n", prompts[i], a)
	}
	return nil
}
