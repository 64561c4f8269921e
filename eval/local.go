package eval

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/generate"
	"danlu/tokenizer"
)

// Local is a model in this process.
type Local struct {
	Runner    *generate.Runner
	Tokenizer *tokenizer.Tokenizer
	Dialect   *chat.Dialect // nil: the model has no chat template
	Label     string        // what reports call the model
	ID        string        // what answers depend on: files, precision, adapters
	End       []int32       // tokens that end an answer
	// Apart reads prompts anew where texts share their beginning; choices of one token are still told by one reading.
	Apart bool

	usage Usage
}

// Name implements Model.
func (l *Local) Name() string { return l.Label }

// Identity implements Model.
func (l *Local) Identity() string { return l.ID }

// Usage implements Model.
func (l *Local) Usage() Usage {
	u := l.usage
	u.Read = l.Runner.Read()
	return u
}

// Template implements Model. A format, which is not made of one text, is rendered by its template.
func (l *Local) Template(messages []*jinja.Dict, open bool) (string, error) {
	if l.Dialect == nil {
		return "", fmt.Errorf("the model has no chat template")
	}
	t := l.Dialect.Template
	if t == nil {
		var err error
		if t, err = chat.NewTemplate(l.Dialect.Format.Jinja(), nil); err != nil {
			return "", err
		}
	}
	return t.Render(&chat.Conversation{Messages: messages, Open: open, Continue: !open})
}

// Answer implements Model.
func (l *Local) Answer(ctx context.Context, requests []Request, done func(i int, r Response) error) error {
	var scored, written []int
	for i, q := range requests {
		if q.Output == Generate {
			written = append(written, i)
		} else {
			scored = append(scored, i)
		}
	}
	if err := l.likelihoods(ctx, requests, scored, done); err != nil {
		return err
	}
	return l.write(ctx, requests, written, done)
}

// encode is a text's tokens: with what the tokenizer puts before a text, unless the text brings that itself.
func (l *Local) encode(text string, special bool) []int32 {
	if special && l.startsMarked(text) {
		special = false
	}
	return l.Tokenizer.Encode(text, tokenizer.Options{ParseSpecial: true, AddSpecial: special})
}

// startsMarked reports whether a text begins with the spelling of the token that begins texts, as those of chat
// templates do.
func (l *Local) startsMarked(text string) bool {
	id, ok := l.first()
	return ok && strings.HasPrefix(text, l.Tokenizer.Piece(id))
}

// first is the token that stands before a text without a prompt.
func (l *Local) first() (int32, bool) {
	if id := l.Tokenizer.BOS(); id >= 0 {
		return id, true
	}
	id := l.Tokenizer.EOS()
	return id, id >= 0
}

// scored is a text whose last tokens are scored given those before.
type scored struct {
	request        int // whose likelihood it is, or a part of
	prompt, target []int32
}

// pair cuts a prompt and a text behind it into tokens. White space at the prompt's end belongs to the text.
func (l *Local) pair(q Request) (prompt, target []int32, err error) {
	if q.Context == "" {
		first, ok := l.first()
		if !ok {
			return nil, nil, fmt.Errorf("an empty prompt: the model has no token that begins a text")
		}
		target = l.encode(q.Target, false)
		if len(target) > 1 && target[0] == first {
			return target[:1], target[1:], nil
		}
		prompt = []int32{first}
	} else {
		bare := strings.TrimRightFunc(q.Context, unicode.IsSpace)
		prompt = l.encode(bare, true)
		target = l.encode(q.Context+q.Target, true)
		target = target[min(len(prompt), len(target)):]
	}
	if len(prompt) == 0 || len(target) == 0 {
		return nil, nil, fmt.Errorf("the text %q behind %q has no token of its own", short(q.Target), short(tail(q.Context)))
	}
	return prompt, target, nil
}

func tail(s string) string {
	r := []rune(s)
	return string(r[max(0, len(r)-40):])
}

// windows cuts a whole text into windows of the context, each token scored once: the first given the token that begins
// texts, a later window given the last token before it.
func (l *Local) windows(at int, q Request) ([]scored, error) {
	ids := l.encode(q.Target, true)
	first, ok := l.first()
	if !ok {
		return nil, fmt.Errorf("the model has no token that begins a text")
	}
	size := l.Runner.Context()
	var out []scored
	for from := 0; from < len(ids); {
		to := min(from+size, len(ids))
		if from == 0 {
			out = append(out, scored{at, []int32{first}, ids[:to]})
		} else {
			// a last window that is not full begins so much earlier
			out = append(out, scored{at, ids[max(0, to-size-1):from:from], ids[from:to]})
		}
		from = to
	}
	return out, nil
}

// likelihoods answers the requests with the given indices.
func (l *Local) likelihoods(ctx context.Context, requests []Request, which []int, done func(int, Response) error) error {
	var all []scored
	left := map[int]int{}
	sums := map[int]*Response{}
	for _, i := range which {
		parts := []scored{{request: i}}
		var err error
		if q := requests[i]; q.Output == Rolling {
			parts, err = l.windows(i, q)
		} else {
			parts[0].prompt, parts[0].target, err = l.pair(q)
		}
		if err != nil {
			return err
		}
		left[i], sums[i] = len(parts), &Response{Greedy: true}
		for _, p := range parts {
			if len(p.target) > l.Runner.Context() {
				return fmt.Errorf("a text of %d tokens to be scored does not fit the context of %d", len(p.target), l.Runner.Context())
			}
			// What does not fit goes from the left.
			if extra := len(p.prompt) + len(p.target) - l.Runner.Context() - 1; extra > 0 {
				p.prompt = p.prompt[extra:]
				l.usage.Shortened++
			}
			l.usage.Prompt += int64(len(p.prompt) + len(p.target))
			all = append(all, p)
		}
	}
	return l.score(ctx, all, func(p scored, ll float64, greedy bool) error {
		r := sums[p.request]
		r.LogLikelihood += ll
		r.Greedy = r.Greedy && greedy
		if left[p.request]--; left[p.request] > 0 {
			return nil
		}
		return done(p.request, *r)
	})
}
