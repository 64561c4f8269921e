package chat

import (
	"fmt"
	"strings"

	"danlu/tokenizer"
)

// ChatGLM-6B reads a conversation as one text behind which [gMASK] and <sop> stand; the answer follows and ends with
// <eop>. A first question stands for itself, later ones are numbered rounds (modeling_chatglm.py, chat).
const chatGLM6B = "chatglm"

// rounds is the text of turns that end with a question, in parts.
func (f *Format) rounds(system string, turns []Turn) ([]tokenizer.Part, error) {
	var parts []tokenizer.Part
	add := func(text string) { parts = append(parts, tokenizer.Part{Text: text}) }
	say := func(text string) { parts = append(parts, tokenizer.Part{Text: text, Plain: !f.Trusted}) }
	if system != "" {
		say(system)
		add("\n")
	}
	for i, t := range turns {
		switch {
		case t.Role != User && t.Role != Assistant:
			return nil, fmt.Errorf("chat: turn %d: template %s knows no %s turns", i, f.spec.name, t.Role)
		case i%2 == 1:
			say(t.Content)
			add("\n")
		case len(turns) == 1:
			say(t.Content)
		default:
			add(fmt.Sprintf("[Round %d]\n问：", i/2))
			say(t.Content)
			add("\n答：")
		}
	}
	return parts, nil
}

// roundsPrompt is Prompt in ChatGLM-6B's way.
func (f *Format) roundsPrompt(system, tools string, turns []Turn) ([]int32, error) {
	if strings.Trim(tools, "[] \n") != "" {
		return nil, fmt.Errorf("chat: tools: template %s knows no tools", f.spec.name)
	}
	parts, err := f.rounds(system, turns)
	if err != nil {
		return nil, err
	}
	return f.appendSlots(f.tok.EncodeParts(parts), f.spec.suffix, "", -1), nil
}

// roundsPairs is Pairs in ChatGLM-6B's way: one pair, whose target is the last answer.
func (f *Format) roundsPairs(system, tools string, turns []Turn) ([]Pair, error) {
	last := len(turns) - 1
	source, err := f.roundsPrompt(system, tools, turns[:last])
	if err != nil {
		return nil, err
	}
	return []Pair{{source, f.appendSlots(nil, f.assistantSlots(), turns[last].Content, -1)}}, nil
}

// roundsJinja is the format as a chat template.
func (f *Format) roundsJinja() string {
	return "{% set rest = messages %}" +
		"{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\\n' }}{% set rest = messages[1:] %}{% endif %}" +
		"{% if rest | length == 1 %}{{ rest[0]['content'] }}{% else %}{% for message in rest %}" +
		"{% if message['role'] == 'user' %}{{ '[Round ' + (loop.index0 // 2) | string + ']\\n问：' + message['content'] + '\\n答：' }}" +
		"{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}{% endif %}" +
		"{% if rest[-1]['role'] == 'user' %}{{ " + f.expression(f.spec.suffix, "") + " }}{% endif %}"
}
