package eval

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"danlu/chat"
	"danlu/chat/jinja"
)

// message is a part of a prompt: in a conversation a turn, in plain text its content and what is behind it.
type message struct {
	role, content, behind string
}

// prompter builds the prompts of a task.
type prompter struct {
	task      *Task
	docs      []Doc // that examples are drawn from
	random    *pythonRandom
	system    string
	template  func(messages []*jinja.Dict, open bool) (string, error) // nil: plain text
	multiturn bool
}

// prompts are the texts before an item's answer: one, or one for each choice where choices stand in them.
func (p *prompter) prompts(d Doc) ([]string, error) {
	t := p.task
	prefix, err := t.prefix.text(d)
	if err != nil {
		return nil, err
	}
	before, err := p.before(d)
	if err != nil {
		return nil, err
	}
	if t.many {
		choices, err := t.choices(d)
		if err != nil {
			return nil, err
		}
		out := make([]string, len(choices))
		for i, c := range choices {
			if out[i], err = p.render(append(before[:len(before):len(before)], turn(c, nil, prefix, "", "")...), prefix); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	question, err := t.text.text(d)
	if err != nil {
		return nil, err
	}
	s, err := p.render(append(before, turn(question, nil, prefix, t.TargetDelimiter, "")...), prefix)
	return []string{s}, err
}

// before is the system message and the worked examples.
func (p *prompter) before(d Doc) ([]message, error) {
	t := p.task
	description, err := t.description.text(d)
	if err != nil {
		return nil, err
	}
	var list []message
	if s := joined(p.system, description, t.FewshotDelimiter); s != "" {
		list = append(list, message{"system", s, ""})
	}
	examples, err := p.examples(d)
	if err != nil {
		return nil, err
	}
	for _, x := range examples {
		turns, err := p.example(x)
		if err != nil {
			return nil, fmt.Errorf("few-shot example: %w", err)
		}
		list = append(list, turns...)
	}
	return list, nil
}

// example is a worked example.
func (p *prompter) example(d Doc) ([]message, error) {
	t, f := p.task, &p.task.fewshot
	text, target, choice, gen := or(f.text, t.text), or(f.target, t.target), or(f.choice, t.choice), or(f.prefix, t.prefix)
	question, err := text.target(d, t.choice != nil)
	if err != nil {
		return nil, err
	}
	var choices []string
	if choice != nil {
		if choices, err = choice.list(d); err != nil {
			return nil, err
		}
	}
	answer, err := target.target(d, t.choice != nil)
	if err != nil {
		return nil, err
	}
	prefix, err := gen.text(d)
	if err != nil {
		return nil, err
	}
	if n, number := question.(int64); number && t.many && choices != nil {
		if question, err = pick(choices, n); err != nil {
			return nil, err
		}
		choices = nil
	}
	said, err := spelled(answer, choices)
	if err != nil {
		return nil, err
	}
	delimiter, behind := t.TargetDelimiter, t.FewshotDelimiter
	if f.targetDelimiter != "" {
		delimiter = f.targetDelimiter
	}
	if f.exampleDelimiter != "" {
		behind = f.exampleDelimiter
	}
	return turn(jinja.Str(question), &said, prefix, delimiter, behind), nil
}

func or(a, b *field) *field {
	if a != nil {
		return a
	}
	return b
}

func pick(choices []string, n int64) (string, error) {
	if n < 0 || n >= int64(len(choices)) {
		return "", fmt.Errorf("choice %d is none of the %d choices", n, len(choices))
	}
	return choices[n], nil
}

// spelled is an answer as text: an index becomes its choice, a list its first.
func spelled(v jinja.Value, choices []string) (string, error) {
	switch x := v.(type) {
	case int64:
		if choices != nil {
			return pick(choices, x)
		}
	case jinja.List:
		if len(x) == 0 {
			return "", fmt.Errorf("doc_to_target: an empty list")
		}
		return jinja.Str(x[0]), nil
	}
	return jinja.Str(v), nil
}

// turn is a question and, where given, its answer or the beginning of one.
func turn(question string, answer *string, prefix, delimiter, behind string) []message {
	answered := answer != nil && *answer != ""
	between := ""
	if answered && prefix == "" || prefix != "" && apart(question, prefix) {
		between = delimiter
	}
	list := []message{{"user", question, between}}
	switch {
	case answered:
		list = append(list, message{"assistant", joined(prefix, *answer, " "), behind})
	case prefix != "":
		list = append(list, message{"assistant", prefix, ""})
	}
	return list
}

// joined puts a delimiter between two texts where no white space meets there.
func joined(a, b, delimiter string) string {
	if a == "" || b == "" || !apart(a, b) {
		return a + b
	}
	return a + delimiter + b
}

// apart reports whether a delimiter has to stand between two texts.
func apart(a, b string) bool {
	if a == "" {
		return false
	}
	last, _ := utf8.DecodeLastRuneInString(a)
	first, _ := utf8.DecodeRuneInString(b)
	return !unicode.IsSpace(last) && !unicode.IsSpace(first)
}

// render makes a text of a prompt, which ends with the beginning of an answer where prefix is not "".
func (p *prompter) render(list []message, prefix string) (string, error) {
	if p.template == nil {
		var b strings.Builder
		for _, m := range list {
			b.WriteString(m.content + m.behind)
		}
		return b.String(), nil
	}
	if !p.multiturn {
		list = oneTurn(list)
	}
	messages := make([]*jinja.Dict, len(list))
	for i, m := range list {
		messages[i] = chat.NewMessage(m.role, m.content)
	}
	return p.template(messages, prefix == "")
}

// oneTurn joins everything between the system message and the opened answer into one question.
func oneTurn(list []message) []message {
	var out []message
	if list[0].role == "system" {
		out, list = list[:1:1], list[1:]
	}
	var opened []message
	if last := len(list) - 1; list[last].role == "assistant" {
		opened, list = list[last:], list[:last]
	}
	var b strings.Builder
	for i, m := range list {
		b.WriteString(m.content)
		if i < len(list)-1 {
			b.WriteString(m.behind)
		}
	}
	return append(append(out, message{"user", b.String(), ""}), opened...)
}

// examples draws the worked examples of an item. Where they come from the split that is asked, the item itself is left
// out.
func (p *prompter) examples(d Doc) ([]Doc, error) {
	t := p.task
	n := t.Shots
	if n == 0 {
		return nil, nil
	}
	self := t.fewshot.split == t.Testing
	if t.fewshot.sampler == "first_n" {
		docs := p.docs
		if self {
			docs = others(docs, d)
		}
		if n > len(docs) {
			return nil, fmt.Errorf("num_fewshot: want at most the %d examples that there are, got %d", len(docs), n)
		}
		return docs[:n], nil
	}
	draw := n
	if self {
		draw++
	}
	if draw > len(p.docs) {
		return nil, fmt.Errorf("num_fewshot: want at most the %d examples that there are, got %d", len(p.docs), draw)
	}
	var drawn []Doc
	for _, i := range p.random.sample(len(p.docs), draw) {
		drawn = append(drawn, p.docs[i])
	}
	if !self {
		return drawn, nil
	}
	if drawn = others(drawn, d); len(drawn) < n { // the item was there more than once
		pool := others(p.docs, d)
		if n > len(pool) {
			return nil, fmt.Errorf("num_fewshot: want at most the %d other examples that there are, got %d", len(pool), n)
		}
		drawn = drawn[:0]
		for _, i := range p.random.sample(len(pool), n) {
			drawn = append(drawn, pool[i])
		}
	}
	return drawn[:n], nil
}

// others is a list without the items that equal d.
func others(docs []Doc, d Doc) []Doc {
	var out []Doc
	for _, x := range docs {
		if x != d && !jinja.Equal(x, d) {
			out = append(out, x)
		}
	}
	return out
}
