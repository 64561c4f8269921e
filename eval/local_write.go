package eval

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"danlu/chat"
	"danlu/generate"
	"danlu/tokenizer"
)

// defaultTokens is the most tokens of an answer where a task does not say.
const defaultTokens = 256

// writing is an answer in work.
type writing struct {
	at   int
	text *chat.Text
	b    strings.Builder
}

// write generates the answers to the requests with the given indices.
func (l *Local) write(ctx context.Context, requests []Request, which []int, done func(int, Response) error) error {
	list := make([]generate.Request, len(which))
	answers := make([]*writing, len(which))
	order := slices.Clone(which)
	sort.SliceStable(order, func(i, j int) bool { return requests[order[i]].Context < requests[order[j]].Context })
	for i, at := range order {
		w := &writing{at: at}
		var err error
		if list[i], err = l.writing(requests[at], w); err != nil {
			return err
		}
		l.usage.Prompt += int64(len(list[i].Prompt))
		answers[i] = w
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	_, err := l.Runner.Batch(ctx, list, func(i int, a generate.Answer) {
		w := answers[i]
		w.b.WriteString(w.text.Flush())
		l.usage.Generated += int64(len(a.IDs))
		cut := a.Stop == generate.StopLength || a.Stop == generate.StopContext
		if err := done(w.at, Response{Text: w.b.String(), Cut: cut}); err != nil && failed == nil {
			failed = err
			cancel()
		}
	})
	if failed != nil {
		return failed
	}
	return err
}

// writing makes the generation of a request. A prompt that leaves no room for the answer loses its beginning.
func (l *Local) writing(q Request, w *writing) (generate.Request, error) {
	g := q.Generation
	if g.MaxTokens == 0 {
		g.MaxTokens = defaultTokens
	}
	room := l.Runner.Context() - g.MaxTokens
	if room < 1 {
		return generate.Request{}, fmt.Errorf("generation_kwargs: max_gen_toks: %d leaves no room for a prompt in the context of %d", g.MaxTokens, l.Runner.Context())
	}
	ids := l.encode(q.Context, true)
	if extra := len(ids) - room; extra > 0 {
		ids = ids[extra:]
		l.usage.Shortened++
	}
	r := generate.Request{Prompt: ids, MaxNew: g.MaxTokens, End: slices.Clone(l.End)}
	r.Sampling = generate.Sampling{Temperature: g.Temperature, TopP: g.TopP, TopK: g.TopK, Seed: uint64(q.Repeat)}
	var stops []string
	for _, s := range g.Until {
		if id, ok := l.Tokenizer.ID(s); ok && l.Tokenizer.Kind(id) == tokenizer.Control {
			r.End = append(r.End, id)
		} else {
			stops = append(stops, s)
		}
	}
	w.text = chat.NewText(l.Tokenizer, nil, stops, nil)
	r.Token = func(t generate.Token) bool {
		s, stop := w.text.Next(t.ID)
		w.b.WriteString(s)
		return stop
	}
	return r, nil
}
