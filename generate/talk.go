package generate

import (
	"context"
	"fmt"
	"slices"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/tokenizer"
)

// Talk is a conversation with a model on one sequence. What the cache holds of it is not read again.
type Talk struct {
	Runner    *Runner
	Sequence  *Sequence
	Tokenizer *tokenizer.Tokenizer
	Dialect   *chat.Dialect

	System   string
	Messages []*jinja.Dict // questions and answers so far, without the system message
	Thinking *bool         // enable_thinking as the template is told; nil: not told
	Sampling Sampling
	MaxNew   int       // 0: as far as the context goes
	End      []int32   // tokens that end an answer
	Draft    *Drafting // guesses; nil: none

	Eyes  *Eyes    // of models that read pictures; nil: none are attached
	seen  attached // of the conversation so far
	fresh attached // of the next question
}

// attached are pictures and videos in the order of the messages.
type attached struct{ pictures, videos []*Seen }

func (a attached) with(b attached) attached {
	return attached{slices.Concat(a.pictures, b.pictures), slices.Concat(a.videos, b.videos)}
}

// Attach gives the next question pictures and videos, which stand in the places of <image> and <video> in it, or in front.
func (t *Talk) Attach(pictures, videos []*Seen) { t.fresh = t.fresh.with(attached{pictures, videos}) }

// ContextError says that a prompt leaves no room for an answer.
type ContextError struct{ Prompt, Context int }

// Error names both numbers.
func (e *ContextError) Error() string {
	return fmt.Sprintf("generate: the conversation has %d tokens, the context is %d", e.Prompt, e.Context)
}

// Answered is what a question came to.
type Answered struct {
	chat.Said
	Stop   Stop
	Tokens int // generated
	Prompt int // of the whole conversation up to the answer
	Reused int // of those, in the cache before
}

// Ask puts a question and adds it and the answer to the conversation. show is told of every part of the answer as it
// comes. When ctx ends, the answer is what there is by then; a question that got no answer is forgotten.
func (t *Talk) Ask(ctx context.Context, question string, show func(chat.Said), prefill func(tokens int) func(done, total int)) (Answered, error) {
	c := &chat.Conversation{Open: true}
	if t.System != "" {
		c.Messages = append(c.Messages, chat.NewMessage(chat.System, t.System))
	}
	marked, err := chat.Illustrated(question, len(t.fresh.pictures), len(t.fresh.videos))
	if err != nil {
		return Answered{}, err
	}
	asked := chat.NewQuestion(marked)
	c.Messages = append(append(c.Messages, t.Messages...), asked)
	c.SetThinking(t.Thinking)
	p, err := t.Dialect.Prompt(c)
	if err != nil {
		return Answered{}, err
	}
	var pictures *Pictures
	shown := t.seen.with(t.fresh)
	if t.Eyes != nil {
		if p.IDs, pictures, err = t.Eyes.Lay(p.IDs, shown.pictures, shown.videos); err != nil {
			return Answered{}, err
		}
	}
	if len(p.IDs) >= t.Runner.Context() {
		return Answered{}, &ContextError{len(p.IDs), t.Runner.Context()}
	}
	speech := t.Dialect.Speech()
	parser := speech.Parser(speech.Opened(p.Text), nil)
	var all chat.Said
	put := func(s chat.Said) {
		all.Reasoning += s.Reasoning
		all.Content += s.Content
		if s.Reasoning != "" || s.Content != "" {
			show(s)
		}
	}
	w := Writing{Tokenizer: t.Tokenizer, Fresh: true, Keep: speech.Keep(t.Tokenizer), Write: func(text string) { put(parser.Feed(text)) }}
	w.End, w.Stops = t.Dialect.Stop()
	w.End = append(w.End, t.End...)
	w.MaxNew, w.Sampling, w.Draft = t.MaxNew, t.Sampling, t.Draft
	w.Prompt = t.Runner.Resume(t.Sequence, p.IDs, pictures)
	if prefill != nil {
		w.Prefill = prefill(len(w.Prompt))
	}
	res, err := t.Runner.Write(ctx, t.Sequence, w)
	put(parser.Close())
	out := Answered{Said: all, Stop: res.Stop, Tokens: len(res.Tokens), Prompt: len(p.IDs), Reused: len(p.IDs) - len(w.Prompt)}
	if ctx.Err() != nil {
		out.Stop, err = StopCancel, nil
	}
	if err != nil || len(res.Tokens) == 0 && out.Stop == StopCancel {
		return out, err
	}
	answer := chat.NewMessage(chat.Assistant, all.Content)
	if all.Reasoning != "" {
		answer.SetString("reasoning_content", all.Reasoning)
	}
	t.Messages = append(t.Messages, asked, answer)
	t.seen, t.fresh = shown, attached{}
	return out, nil
}

// Reset forgets the conversation, and keeps the system message.
func (t *Talk) Reset() { t.Messages, t.seen, t.fresh = nil, attached{}, attached{} }
