package chat

import (
	"strings"
)

// Jinja is the format as a chat template, for the files of a model that was trained with it and carries none: system
// text, questions, answers and tool results. It writes no tool descriptions and leaves thoughts as they are; models of
// the formats that need those carry templates of their own.
func (f *Format) Jinja() string {
	s := f.spec
	if s.suffix != nil {
		return f.roundsJinja()
	}
	var b strings.Builder
	line := func(parts ...string) { b.WriteString(strings.Join(parts, "")) }
	if f.DefaultSystem != "" {
		line("{% set system = ", quoted(f.DefaultSystem), " %}")
	}
	line("{% set rest = messages %}")
	line("{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}{% endif %}")
	if expr := f.expression(s.prefix, ""); expr != "" {
		line("{{ ", expr, " }}")
	}
	system := s.system
	if system == nil {
		system = contentSlots
	}
	if !s.systemInUser {
		line("{% if system is defined %}{{ ", f.expression(system, "system"), " }}{% endif %}")
	}
	// The number of a question, which one format writes, outlives a turn of the loop in a namespace only.
	numbered := strings.Contains(f.expression(f.slots(User), "content"), numberExpr)
	if numbered {
		line("{% set questions = namespace(n=0) %}")
	}
	line("{% for message in rest %}{% set content = message['content'] %}")
	if s.sees != nil {
		line("{% if content is not string %}{% set content %}{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}",
			"{% elif part['type'] in ['video', 'video_url'] %}{{ ", f.sight(s.sees.video), " }}{% else %}{{ ", f.sight(s.sees.picture), " }}{% endif %}{% endfor %}{% endset %}{% endif %}")
	}
	if s.systemInUser {
		line("{% if loop.first and system is defined %}{% set content = ", f.expression(system, "system"), " + content %}{% endif %}")
	}
	line("{% if message['role'] == 'user' %}{{ ", f.expression(f.slots(User), "content"), " }}")
	line("{% elif message['role'] == 'assistant' %}{{ ", f.expression(f.slots(Assistant), "content"), " }}")
	line("{% elif message['role'] == 'tool' %}{{ ", f.expression(f.slots(Tool), "content"), " }}{% endif %}")
	if numbered {
		line("{% if message['role'] == 'assistant' %}{% set questions.n = questions.n + 1 %}{% endif %}")
	}
	line("{% endfor %}")
	return b.String()
}

// sight is the Jinja expression of a picture or video; one that is no token of the vocabulary cannot be written in text.
func (f *Format) sight(slots []slot) string {
	if len(slots) == 0 || slots[0].id < 0 {
		return "raise_exception(" + quoted("this needs the prompt format "+f.spec.name+" itself (--template "+f.spec.name+")") + ")"
	}
	return f.expression(slots, "")
}

const numberExpr = "(questions.n | string)"

// expression is the Jinja expression of slots, with the variable in the place of {{content}}.
func (f *Format) expression(slots []slot, variable string) string {
	var parts []string
	for _, s := range slots {
		switch {
		case s.token != "":
			parts = append(parts, quoted(s.token))
		case s.bos:
			if id := f.tok.BOS(); id >= 0 {
				parts = append(parts, quoted(f.tok.Piece(id)))
			}
		case s.eos:
			if f.eos >= 0 {
				parts = append(parts, quoted(f.tok.Piece(f.eos)))
			}
		default:
			parts = append(parts, textParts(s.text, variable)...)
		}
	}
	return strings.Join(parts, " + ")
}

// textParts cuts a slot's text at its placeholders.
func textParts(text, variable string) []string {
	var parts []string
	for text != "" {
		at, word := firstOf(text, []string{"{{content}}", "{{idx}}"})
		if at < 0 {
			return append(parts, quoted(text))
		}
		if at > 0 {
			parts = append(parts, quoted(text[:at]))
		}
		if word == "{{idx}}" {
			parts = append(parts, numberExpr)
		} else {
			parts = append(parts, variable)
		}
		text = text[at+len(word):]
	}
	return parts
}

// quoted is a Jinja string literal.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`).Replace(s) + "'"
}
