package chat

import (
	"encoding/json"
	"regexp"
	"strings"

	"danlu/chat/jinja"
)

// jsonCall reads {"name": ..., KEY: ...}. Arguments keep the model's own spelling.
func jsonCall(raw []byte, key string) (Call, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return Call{}, false
	}
	if inner, ok := fields["function"]; ok && fields["name"] == nil && len(inner) > 0 && inner[0] == '{' {
		return jsonCall(inner, key)
	}
	var c Call
	if json.Unmarshal(fields["name"], &c.Name) != nil || c.Name == "" {
		return Call{}, false
	}
	arguments, ok := fields[key]
	if !ok {
		arguments = fields[map[string]string{"arguments": "parameters", "parameters": "arguments"}[key]]
	}
	c.Arguments, ok = argumentsText(arguments)
	return c, ok
}

// argumentsText is the object of arguments as text: the object itself, one inside a string, or {} for none.
func argumentsText(raw json.RawMessage) (string, bool) {
	switch text := strings.TrimSpace(string(raw)); {
	case text == "" || text == "null":
		return "{}", true
	case text[0] == '{':
		return text, true
	case text[0] == '"':
		var inner string
		if json.Unmarshal(raw, &inner) == nil && json.Valid([]byte(inner)) && strings.HasPrefix(strings.TrimSpace(inner), "{") {
			return inner, true
		}
	}
	return "", false
}

func parseHermes(text string, _ []tool) []Call {
	if c, ok := jsonCall([]byte(strings.TrimSpace(text)), "arguments"); ok {
		return []Call{c}
	}
	return nil
}

// maybeLlama3 accepts what can be the beginning of JSON calls: until the reply ends it is not known that nothing follows.
func maybeLlama3(text string, _ []tool) bool {
	rest := strings.TrimLeft(text, " \t\r\n")
	const tag = "<|python_tag|>"
	if after, ok := strings.CutPrefix(rest, tag); ok {
		return len(after) < maxCall
	}
	if strings.HasPrefix(tag, rest) {
		return true
	}
	// {"name" or {"type", or a list of them, with any white space.
	rest = strings.TrimLeft(rest, "[ \t\r\n")
	if rest == "" || rest == "{" {
		return true
	}
	if rest[0] != '{' || len(text) > maxCall {
		return false
	}
	rest = strings.TrimLeft(rest[1:], " \t\r\n")
	for _, key := range []string{`"name"`, `"type"`, `"function"`, `"parameters"`} {
		if strings.HasPrefix(rest, key) || strings.HasPrefix(key, rest) {
			return true
		}
	}
	return false
}

// maxCall bounds the text that is held back for a call, in bytes.
const maxCall = 1 << 20

var builtinCall = regexp.MustCompile(`(?s)^([A-Za-z_][\w.]*)\.call\((.*)\)$`)

func parseLlama3(text string, tools []tool) []Call {
	body, tagged := strings.CutPrefix(strings.TrimSpace(text), "<|python_tag|>")
	body = strings.TrimSpace(body)
	if m := builtinCall.FindStringSubmatch(body); tagged && m != nil {
		if arguments, ok := pythonArguments(m[2]); ok {
			return []Call{{m[1], arguments}}
		}
	}
	var calls []Call
	d := json.NewDecoder(strings.NewReader(body))
	for {
		var raw json.RawMessage
		if d.Decode(&raw) != nil {
			return nil
		}
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			list = []json.RawMessage{raw}
		}
		for _, item := range list {
			c, ok := jsonCall(item, "parameters")
			if !ok || !tagged && !known(tools, c.Name) {
				return nil
			}
			calls = append(calls, c)
		}
		rest := strings.TrimLeft(body[d.InputOffset():], " \t\r\n;")
		if rest == "" {
			return calls
		}
		body = rest
		d = json.NewDecoder(strings.NewReader(body))
	}
}

func known(tools []tool, name string) bool {
	for _, t := range tools {
		if t.name == name {
			return true
		}
	}
	return false
}

// maybeGLM4 accepts the name of an offered tool, or its beginning, as the first line.
func maybeGLM4(text string, tools []tool) bool {
	if len(text) > maxCall {
		return false
	}
	line, _, whole := strings.Cut(strings.TrimLeft(text, " "), "\n")
	line = strings.TrimRight(line, " \r")
	for _, t := range tools {
		if line == t.name || !whole && strings.HasPrefix(t.name, line) {
			return true
		}
	}
	return false
}

func parseGLM4(text string, tools []tool) []Call {
	name, body, ok := strings.Cut(strings.TrimSpace(text), "\n")
	name, body = strings.TrimSpace(name), strings.TrimSpace(body)
	if !ok || !known(tools, name) {
		return nil
	}
	if strings.HasPrefix(body, "{") && json.Valid([]byte(body)) {
		return []Call{{name, body}}
	}
	// ChatGLM3: ```python\ntool_call(city='...')\n```
	body = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(body, "```python"), "```"))
	code := body
	body, ok = strings.CutPrefix(body, "tool_call(")
	if !ok || !strings.HasSuffix(body, ")") {
		if name == Interpreter && code != "" {
			return []Call{{name, codeArgument(code)}}
		}
		return nil
	}
	if arguments, ok := pythonArguments(body[:len(body)-1]); ok {
		return []Call{{name, arguments}}
	}
	return nil
}

// codeArgument is a program as the argument of a call of the interpreter.
func codeArgument(code string) string {
	d := jinja.NewDict()
	d.SetString("code", code)
	return dump(d, jinja.JSONStyle{})
}

// pythonArguments reads name=literal, ... as a JSON object. The literals are those of the template language, which are
// Python's.
func pythonArguments(s string) (string, bool) {
	d, err := jinja.Arguments(s)
	if err != nil {
		return "", false
	}
	text, err := jinja.DumpJSON(d, jinja.JSONStyle{})
	return text, err == nil
}

var glmArgument = regexp.MustCompile(`(?s)^\s*<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>`)

func parseGLM45(text string, tools []tool) []Call {
	at := strings.Index(text, "<arg_key>")
	if at < 0 {
		at = len(text)
	}
	name := strings.TrimSpace(text[:at])
	if name == "" || strings.ContainsAny(name, "\n <>{}") {
		return nil
	}
	var types map[string]bool
	for _, t := range tools {
		if t.name == name {
			types = t.strings
		}
	}
	arguments := jinja.NewDict()
	for text = text[at:]; strings.TrimSpace(text) != ""; {
		m := glmArgument.FindStringSubmatch(text)
		if m == nil {
			return nil
		}
		key := strings.TrimSpace(m[1])
		var value jinja.Value = m[2]
		if !types[key] {
			if v, err := jinja.ParseJSON([]byte(strings.TrimSpace(m[2]))); err == nil {
				value = v
			}
		}
		arguments.SetString(key, value)
		text = text[len(m[0]):]
	}
	s, err := jinja.DumpJSON(arguments, jinja.JSONStyle{})
	if err != nil {
		return nil
	}
	return []Call{{name, s}}
}

func parseDeepSeek(text string, _ []tool) []Call {
	const begin, end, sep = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
	var calls []Call
	for strings.TrimSpace(text) != "" {
		rest, ok := strings.CutPrefix(strings.TrimSpace(text), begin)
		if !ok {
			return nil
		}
		one, after, _ := strings.Cut(rest, end)
		text = after
		name, body, ok := strings.Cut(one, sep)
		if !ok {
			return nil
		}
		name = strings.TrimSpace(name)
		if line, fenced, ok := strings.Cut(strings.TrimSpace(body), "\n"); ok && strings.HasPrefix(strings.TrimSpace(fenced), "```") {
			name = strings.TrimSpace(line) // V3 and R1 write the type first and the name behind it
			body = strings.TrimPrefix(strings.TrimSpace(fenced), "```json")
			body = strings.TrimSuffix(strings.TrimSpace(strings.TrimPrefix(body, "```")), "```")
		}
		arguments, ok := argumentsText(json.RawMessage(strings.TrimSpace(body)))
		if !ok || name == "" || !json.Valid([]byte(arguments)) {
			return nil
		}
		calls = append(calls, Call{name, arguments})
	}
	return calls
}
