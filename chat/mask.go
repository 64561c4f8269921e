package chat

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"danlu/chat/jinja"
	"danlu/tokenizer"
)

// ErrNoTarget says that nothing of a conversation would be scored.
var ErrNoTarget = errors.New("no token of the conversation is an answer")

// Marked renders a conversation for training and returns, for every id, whether the model is to write it: what stands
// inside {% generation %} where the template marks that, else what each assistant message adds to the text before it,
// from the end of the answer's opening through the token that ends the turn. Control tokens that messages spell are
// read as such: a dataset is the trainer's own. answers holds the range of ids of each scored stretch.
func (t *Template) Marked(tok *tokenizer.Tokenizer, c *Conversation) (ids []int32, answers [][2]int, err error) {
	res, err := t.render(c, c.Messages)
	if err != nil {
		return nil, nil, err
	}
	spans := res.Generated
	if p, err := t.choose(c); err != nil || !p.MarksGeneration() {
		if spans, err = t.answerSpans(tok, c, res.Text); err != nil {
			return nil, nil, err
		}
	}
	if len(spans) == 0 {
		return nil, nil, fmt.Errorf("chat: %w", ErrNoTarget)
	}
	ids, answers = encodeSpans(tok, res.Text, spans)
	if len(answers) == 0 {
		return nil, nil, fmt.Errorf("chat: %w", ErrNoTarget)
	}
	return ids, answers, nil
}

// answerSpans finds the text of each assistant message: what rendering one more message adds, or, where a template
// renders earlier messages otherwise than last ones (thoughts left out), what changes with that message's text.
func (t *Template) answerSpans(tok *tokenizer.Tokenizer, c *Conversation, text string) ([]jinja.Span, error) {
	opening, err := t.opening(c)
	if err != nil {
		return nil, err
	}
	var spans []jinja.Span
	from := 0
	for i, m := range c.Messages {
		if role(m) != Assistant {
			continue
		}
		s, err := t.answerSpan(c, i, text, opening, from)
		if err != nil {
			return nil, fmt.Errorf("chat: messages[%d]: %w", i, err)
		}
		s.End = turnEnd(tok, text, s)
		if s.Start < s.End {
			spans = append(spans, s)
			from = s.End
		}
	}
	return spans, nil
}

// opening is what add_generation_prompt adds behind the first question.
func (t *Template) opening(c *Conversation) (string, error) {
	for i, m := range c.Messages {
		if role(m) != Assistant || i == 0 {
			continue
		}
		closed, opened, err := t.beforeAfter(c, i)
		if err != nil {
			return "", err
		}
		return strings.TrimPrefix(opened, closed), nil
	}
	return "", nil
}

// beforeAfter renders the first n messages without and with the opening of an answer.
func (t *Template) beforeAfter(c *Conversation, n int) (closed, opened string, err error) {
	head := *c
	head.Open, head.Continue = false, false
	r, err := t.render(&head, c.Messages[:n])
	if err != nil {
		return "", "", err
	}
	head.Open = true
	o, err := t.render(&head, c.Messages[:n])
	return r.Text, o.Text, err
}

func (t *Template) answerSpan(c *Conversation, i int, text, opening string, from int) (jinja.Span, error) {
	if i > 0 {
		_, opened, err := t.beforeAfter(c, i)
		if err == nil && strings.HasPrefix(text, opened) {
			head := *c
			head.Open, head.Continue = false, false
			r, err := t.render(&head, c.Messages[:i+1])
			if err == nil && strings.HasPrefix(text, r.Text) && len(r.Text) >= len(opened) {
				return jinja.Span{Start: len(opened), End: len(r.Text)}, nil
			}
		}
	}
	other, err := t.render(c, replaced(c.Messages, i))
	if err != nil {
		return jinja.Span{}, err
	}
	start, end := difference(text, other.Text)
	if start >= end {
		return jinja.Span{}, errors.New("the template does not render this answer's text")
	}
	// The longest beginning of the opening that stands right before the answer is not the model's.
	for n := len(opening); n > 0; n-- {
		if at := strings.LastIndex(text[from:start], opening[:n]); at >= 0 && len(strings.TrimSpace(opening[:n])) > 0 {
			start = from + at + n
			break
		}
	}
	return jinja.Span{Start: start, End: end}, nil
}

// replaced returns the messages with other texts in message i, of which no character agrees with the old ones.
func replaced(messages []*jinja.Dict, i int) []*jinja.Dict {
	out := append([]*jinja.Dict(nil), messages...)
	m := messages[i].Clone()
	for _, key := range []string{"content", "reasoning_content", "thinking", "reasoning"} {
		if s := entry(m, key); s != "" {
			m.SetString(key, otherText(s))
		}
	}
	if calls, ok := m.Get("tool_calls"); ok {
		m.SetString("tool_calls", mapValues(calls, otherText))
	}
	out[i] = m
	return out
}

// otherText is a text whose first and last characters are not those of s.
func otherText(s string) string {
	first, _ := utf8.DecodeRuneInString(strings.TrimSpace(s))
	last, _ := utf8.DecodeLastRuneInString(strings.TrimSpace(s))
	for _, c := range "QWZ" {
		if c != first && c != last {
			return strings.Repeat(string(c), 3)
		}
	}
	return "K" // both of the others are taken
}

// mapValues applies f to the strings among the values in v, and not to keys.
func mapValues(v jinja.Value, f func(string) string) jinja.Value {
	switch x := v.(type) {
	case string:
		return f(x)
	case jinja.List:
		out := make(jinja.List, len(x))
		for i := range x {
			out[i] = mapValues(x[i], f)
		}
		return out
	case *jinja.Dict:
		out := x.Clone()
		for i := range x.Len() {
			k, item := x.At(i)
			if k != "type" {
				_ = out.Set(k, mapValues(item, f)) // the key was a key before
			}
		}
		return out
	}
	return v
}

// difference is the range of a in which it differs from b: what is left between a common beginning and a common end.
func difference(a, b string) (start, end int) {
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	end = len(a)
	for k := len(b); end > start && k > start && a[end-1] == b[k-1]; k-- {
		end--
	}
	for start > 0 && start < len(a) && !utf8.RuneStart(a[start]) {
		start--
	}
	for end < len(a) && !utf8.RuneStart(a[end]) {
		end++
	}
	return start, end
}

// turnEnd moves the end of an answer to behind the control token that ends the turn: the model stops there, so that
// white space which the template puts after it is not the model's. Without one it is the end that was found.
func turnEnd(tok *tokenizer.Tokenizer, text string, s jinja.Span) int {
	trimmed := strings.TrimRightFunc(text[s.Start:s.End], unicode.IsSpace)
	if _, ok := controlAtEnd(tok, trimmed); ok {
		return s.Start + len(trimmed)
	}
	rest := text[s.End:]
	after := strings.TrimLeftFunc(rest, unicode.IsSpace)
	if n := controlAtStart(tok, after); n > 0 {
		return s.End + len(rest) - len(after) + n
	}
	return s.End
}

// maxControl is the length of the longest spelling of a control token that is looked for, in bytes.
const maxControl = 64

func controlAtEnd(tok *tokenizer.Tokenizer, s string) (int, bool) {
	for n := 1; n <= min(maxControl, len(s)); n++ {
		if id, ok := tok.ID(s[len(s)-n:]); ok && tok.Kind(id) == tokenizer.Control {
			return n, true
		}
	}
	return 0, false
}

func controlAtStart(tok *tokenizer.Tokenizer, s string) int {
	for n := min(maxControl, len(s)); n > 0; n-- {
		if id, ok := tok.ID(s[:n]); ok && tok.Kind(id) == tokenizer.Control {
			return n
		}
	}
	return 0
}

// encodeSpans encodes a text and returns the ranges of ids that lie in spans of it. An id belongs to a span when its
// first byte does.
func encodeSpans(tok *tokenizer.Tokenizer, text string, spans []jinja.Span) (ids []int32, ranges [][2]int) {
	ids = tok.Encode(text, tokenizer.Options{ParseSpecial: true})
	starts, ok := offsets(tok, text, ids)
	if !ok {
		return encodeCut(tok, text, spans)
	}
	i := 0
	for _, s := range spans {
		for i < len(ids) && starts[i] < s.Start {
			i++
		}
		from := i
		for i < len(ids) && starts[i] < s.End {
			i++
		}
		if n := len(ranges); n > 0 && ranges[n-1][1] == from && i > from {
			ranges[n-1][1] = i // one answer marked in parts
		} else if i > from {
			ranges = append(ranges, [2]int{from, i})
		}
	}
	return ids, ranges
}

// offsets returns where in the text each id starts. It fails where the tokenizer changed the text (normalisation).
func offsets(tok *tokenizer.Tokenizer, text string, ids []int32) ([]int, bool) {
	starts := make([]int, len(ids))
	at := 0
	for i, id := range ids {
		b := string(tok.Bytes(id))
		if tok.Kind(id) == tokenizer.Control {
			b = tok.Piece(id)
		}
		switch {
		case strings.HasPrefix(text[at:], b):
		case strings.HasPrefix(b, " ") && strings.HasPrefix(text[at:], b[1:]): // SentencePiece's prefix
			b = b[1:]
		case strings.HasPrefix(strings.TrimLeftFunc(text[at:], unicode.IsSpace), b): // a token that takes the space around it
			at = len(text) - len(strings.TrimLeftFunc(text[at:], unicode.IsSpace))
		default:
			return nil, false
		}
		starts[i] = at
		at += len(b)
	}
	return starts, strings.TrimSpace(text[at:]) == ""
}

// encodeCut encodes the text in pieces that end where spans do.
func encodeCut(tok *tokenizer.Tokenizer, text string, spans []jinja.Span) (ids []int32, ranges [][2]int) {
	at := 0
	add := func(to int) {
		ids = tok.AppendEncode(ids, text[at:to], tokenizer.Options{ParseSpecial: true})
		at = to
	}
	for _, s := range spans {
		add(s.Start)
		from := len(ids)
		add(s.End)
		ranges = append(ranges, [2]int{from, len(ids)})
	}
	add(len(text))
	return ids, ranges
}
