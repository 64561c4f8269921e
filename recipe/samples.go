package recipe

import (
	"context"
	"fmt"
	"strings"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/tokenizer"
	"danlu/train"
)

// samples shows during training what the model writes: sample_prompts, every sample_steps.
type samples struct {
	*generate.Runner
	job     *job
	tok     *tokenizer.Tokenizer
	prompts [][]int32
	end     []int32
	next    int // prompt that is shown next
}

// samples prepares the sampling that the recipe asks for, nil when it asks for none. In stages of conversations a
// prompt is what the user says, otherwise the beginning of a text.
func (j *job) samples(m *trainee, t *tokenizer.Tokenizer) (*samples, error) {
	o := &j.Output
	if len(o.SamplePrompts) == 0 || j.Output.Quiet {
		return nil, nil
	}
	s := &samples{job: j, tok: t, end: []int32{t.EOS()}}
	longest := 0
	for _, text := range o.SamplePrompts {
		ids, err := j.samplePrompt(t, text)
		if err != nil {
			return nil, err
		}
		s.prompts = append(s.prompts, ids)
		longest = max(longest, len(ids))
	}
	if f, ok := m.Model.(family.BlankFiller); ok {
		s.end = append(s.end, f.Blanks().EOP)
	}
	if j.format != nil {
		end, _ := j.format.Stop()
		s.end = append(s.end, end...)
	}
	var err error
	s.Runner, err = generate.NewRunner(j.engine, m.store, m.Model, generate.Options{Policy: m.policy, Prepare: m.prepare, Context: longest + o.SampleTokens, Chunk: longest})
	return s, err
}

// samplePrompt encodes one of sample_prompts.
func (j *job) samplePrompt(t *tokenizer.Tokenizer, text string) ([]int32, error) {
	if j.format != nil {
		p, err := j.format.Prompt(&chat.Conversation{Messages: []*jinja.Dict{chat.NewMessage(chat.User, text)}, Open: true})
		return p.IDs, err
	}
	var ids []int32
	if bos := beginning(t); bos >= 0 {
		ids = append(ids, bos)
	}
	blanks, fills := j.source.model.(family.BlankFiller)
	ids = append(ids, t.Encode(text, tokenizer.Options{ParseSpecial: fills})...)
	if len(ids) == 0 {
		return nil, j.Errorf("sample_prompts", "want texts, got an empty one")
	}
	if !fills {
		return ids, nil
	}
	ids, err := generate.BlankPrompt(ids, blanks.Blanks())
	if err != nil {
		return nil, j.Errorf("sample_prompts", "%v", err)
	}
	return ids, nil
}

// show prints and logs the next prompt with what the model makes of it when its time has come.
func (s *samples) show(ctx context.Context, at train.Status, bar *progress.Bar) {
	o := &s.job.Output
	if at.Step%max(1, Every(o.SampleSteps, at.Steps)) != 0 {
		return
	}
	i := s.next % len(s.prompts)
	s.next++
	seq, err := s.Open()
	if err != nil {
		bar.Print(err.Error())
		return
	}
	defer s.Close(seq)
	g := &s.job.Generation
	w, err := s.Write(ctx, seq, generate.Writing{Tokenizer: s.tok, Request: generate.Request{Prompt: s.prompts[i], MaxNew: o.SampleTokens, End: s.end,
		Sampling: generate.Sampling{Temperature: g.Temperature, TopP: g.TopP, TopK: g.TopK, MinP: g.MinP, Seed: mixed(uint64(s.job.Optim.Seed), uint64(at.Step))}}})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		bar.Print(err.Error())
	default:
		text := strings.Join(strings.Fields(w.Text), " ")
		if err := train.LogSample(at.Dir, at.Step, o.SamplePrompts[i], w.Text); err != nil {
			bar.Print(err.Error())
		}
		bar.Print(fmt.Sprintf(locale.Text("step %d | %s → %s", "第 %d 步 | %s → %s"), at.Step, o.SamplePrompts[i], text))
	}
}
