package chat

import (
	"sort"
	"strings"
	"unicode/utf8"

	"danlu/chat/jinja"
	"danlu/tokenizer"
)

// Templates print messages and control tokens into one text. To tell both apart in it, a mark is put inside every
// control token that a conversation spells; where the mark comes out again, no control token is read.

// breaker is the mark: a noncharacter, which is not for interchange and so stands in no text that means anything.
const breaker = "\uFDD0"

// parts renders a conversation as parts whose control tokens count and parts whose do not.
func (d *Dialect) parts(c *Conversation) ([]tokenizer.Part, error) {
	marked, found := d.mark(c)
	if !found {
		marked = c
	}
	broken, err := d.Template.Render(marked)
	if err != nil {
		return nil, err
	}
	if !found {
		return []tokenizer.Part{{Text: broken}}, nil
	}
	var parts []tokenizer.Part
	for {
		at := strings.Index(broken, breaker)
		if at < 0 {
			return append(parts, tokenizer.Part{Text: broken}), nil
		}
		_, before := utf8.DecodeLastRuneInString(broken[:at])
		rest := broken[at+len(breaker):]
		_, after := utf8.DecodeRuneInString(rest)
		parts = append(parts, tokenizer.Part{Text: broken[:at-before]}, tokenizer.Part{Text: broken[at-before:at] + rest[:after], Plain: true})
		broken = rest[after:]
	}
}

// mark returns the conversation with marks inside all spellings of control tokens; found is false when there are none.
func (d *Dialect) mark(c *Conversation) (marked *Conversation, found bool) {
	replace := func(s string) string {
		s = strings.ReplaceAll(s, breaker, "\uFFFD")
		out := d.controls.Replace(s)
		found = found || len(out) != len(s)
		return out
	}
	m := *c
	m.Messages = make([]*jinja.Dict, len(c.Messages))
	for i, x := range c.Messages {
		m.Messages[i] = mapStrings(x, replace).(*jinja.Dict)
	}
	m.Tools, m.Documents = mapStrings(c.Tools, replace), mapStrings(c.Documents, replace)
	if c.Variables != nil {
		m.Variables = mapStrings(c.Variables, replace).(*jinja.Dict)
	}
	return &m, found
}

// mapStrings returns v with f applied to every string in it, keys included.
func mapStrings(v jinja.Value, f func(string) string) jinja.Value {
	switch x := v.(type) {
	case string:
		return f(x)
	case jinja.List:
		out := make(jinja.List, len(x))
		for i := range x {
			out[i] = mapStrings(x[i], f)
		}
		return out
	case *jinja.Dict:
		out := jinja.NewDict()
		for i := range x.Len() {
			k, item := x.At(i)
			if s, ok := k.(string); ok {
				k = f(s)
			}
			_ = out.Set(k, mapStrings(item, f)) // the key was a key before
		}
		return out
	}
	return v
}

// sortPairs orders the pairs of a replacer by the length of what is replaced, longest first.
func sortPairs(pairs []string) {
	sort.Sort(byLength(pairs))
}

type byLength []string

func (p byLength) Len() int           { return len(p) / 2 }
func (p byLength) Less(i, j int) bool { return len(p[2*i]) > len(p[2*j]) }
func (p byLength) Swap(i, j int) {
	p[2*i], p[2*j] = p[2*j], p[2*i]
	p[2*i+1], p[2*j+1] = p[2*j+1], p[2*i+1]
}

// thoughtTags open and close the thoughts of the families here.
var thoughtTags = []string{"<think>", "</think>", "<|begin_of_thought|>", "<|end_of_thought|>"}
