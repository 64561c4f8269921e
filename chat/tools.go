package chat

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"danlu/chat/jinja"
)

// toolFormats are the ways in which formats describe tools and write calls.
var toolFormats = map[string]struct {
	describe func(tools []*jinja.Dict, now time.Time) (string, error)
	call     func(calls []call) (string, error)
}{
	"default": {defaultTools, defaultCalls},
	"glm4":    {glm4Tools, glm4Calls},
	"llama3":  {llama3Tools, llama3Calls},
	"qwen":    {qwenTools, qwenCalls},
}

// call is a function call; arguments are any JSON value.
type call struct {
	name      string
	arguments jinja.Value
}

// toolText describes tools, a JSON list of functions or of {"type": "function", "function": ...}, to the model.
func toolText(format, tools string, now time.Time) (string, error) {
	f, ok := toolFormats[format]
	if !ok {
		return "", fmt.Errorf("tool_format: want default, glm4, llama3 or qwen, got %q", format)
	}
	v, err := jinja.ParseJSON([]byte(tools))
	if err != nil {
		return "", fmt.Errorf("want a JSON list: %w", err)
	}
	items, ok := v.(jinja.List)
	if !ok {
		return "", errors.New("want a JSON list of tools")
	}
	if len(items) == 0 {
		return "", nil
	}
	var list []*jinja.Dict
	for i, x := range items {
		d, ok := x.(*jinja.Dict)
		if !ok {
			return "", fmt.Errorf("tool %d: want an object", i)
		}
		list = append(list, d)
	}
	return f.describe(list, now)
}

// callText rewrites the content of a function turn in a tool format. With words, calls may stand inside call words or
// behind a thought.
func callText(format, content string, words bool) (string, error) {
	f, ok := toolFormats[format]
	if !ok {
		return "", fmt.Errorf("tool_format: want default, glm4, llama3 or qwen, got %q", format)
	}
	before, body := "", content
	if words {
		if whole, inner, ok := between(content, callWords); ok {
			before, body = strings.ReplaceAll(content, whole, ""), inner
		} else if whole, _, ok := between(content, thoughtWords); ok {
			before, body = whole, strings.ReplaceAll(content, whole, "")
		}
	}
	calls, err := parseCalls(body)
	if err != nil {
		return "", err
	}
	text, err := f.call(calls)
	return before + text, err
}

// between finds the first stretch of s that two words enclose.
func between(s string, words [2]string) (whole, inner string, ok bool) {
	from := strings.Index(s, words[0])
	if from < 0 {
		return "", "", false
	}
	inner, _, ok = strings.Cut(s[from+len(words[0]):], words[1])
	return words[0] + inner + words[1], inner, ok
}

func parseCalls(body string) ([]call, error) {
	v, err := jinja.ParseJSON([]byte(body))
	if err != nil {
		return nil, fmt.Errorf("want function calls as JSON: %w", err)
	}
	list, ok := v.(jinja.List)
	if !ok {
		list = jinja.List{v}
	}
	var calls []call
	for _, x := range list {
		d, ok := x.(*jinja.Dict)
		if !ok {
			return nil, errors.New("want function calls as {name, arguments}")
		}
		name, _ := d.Get("name")
		s, ok := name.(string)
		if !ok {
			return nil, errors.New("a function call has no name")
		}
		arguments, ok := d.Get("arguments")
		if !ok {
			return nil, fmt.Errorf("the call of %s has no arguments", s)
		}
		calls = append(calls, call{s, arguments})
	}
	if len(calls) == 0 {
		return nil, errors.New("no function call")
	}
	return calls, nil
}

func dump(v jinja.Value, style jinja.JSONStyle) string {
	s, _ := jinja.DumpJSON(v, style) // what was parsed from JSON can be written
	return s
}

// function unwraps {"type": "function", "function": ...}.
func function(tool *jinja.Dict) (*jinja.Dict, error) {
	if t, _ := tool.Get("type"); t == "function" {
		f, _ := tool.Get("function")
		d, ok := f.(*jinja.Dict)
		if !ok {
			return nil, errors.New(`a tool of type "function" without a function`)
		}
		return d, nil
	}
	return tool, nil
}

// wrapped is the inverse of function.
func wrapped(tool *jinja.Dict) *jinja.Dict {
	if t, _ := tool.Get("type"); t == "function" {
		return tool
	}
	d := jinja.NewDict()
	d.SetString("type", "function")
	d.SetString("function", tool)
	return d
}

func str(d *jinja.Dict, key string) string {
	v, ok := d.Get(key)
	if !ok {
		return ""
	}
	return jinja.Str(v)
}

func defaultTools(tools []*jinja.Dict, _ time.Time) (string, error) {
	var b strings.Builder
	var names []string
	b.WriteString("You have access to the following tools:\n")
	for i, tool := range tools {
		tool, err := function(tool)
		if err != nil {
			return "", fmt.Errorf("tool %d: %w", i, err)
		}
		name := str(tool, "name")
		if name == "" {
			return "", fmt.Errorf("tool %d: no name", i)
		}
		fmt.Fprintf(&b, "> Tool Name: %s\nTool Description: %s\nTool Args:\n", name, str(tool, "description"))
		if err := defaultParameters(&b, tool); err != nil {
			return "", fmt.Errorf("tool %s: %w", name, err)
		}
		b.WriteByte('\n')
		names = append(names, name)
	}
	fmt.Fprintf(&b, "Use the following format if using a tool:\n```\nAction: tool name (one of [%s])\n"+
		"Action Input: the input to the tool, in a JSON format representing the kwargs "+
		"(e.g. ```{\"input\": \"hello world\", \"num_beams\": 5}```)\n```\n", strings.Join(names, ", "))
	return b.String(), nil
}

func defaultParameters(b *strings.Builder, tool *jinja.Dict) error {
	v, _ := tool.Get("parameters")
	parameters, ok := v.(*jinja.Dict)
	if !ok {
		return errors.New("no parameters")
	}
	v, _ = parameters.Get("properties")
	properties, ok := v.(*jinja.Dict)
	if !ok {
		return errors.New("parameters without properties")
	}
	v, _ = parameters.Get("required")
	required, _ := v.(jinja.List)
	for i := range properties.Len() {
		name, v := properties.At(i)
		p, ok := v.(*jinja.Dict)
		if !ok {
			return fmt.Errorf("parameter %v: want an object", name)
		}
		mark, enum, items := "", "", ""
		for _, r := range required {
			if jinja.Equal(r, name) {
				mark = ", required"
			}
		}
		if v, _ := p.Get("enum"); jinja.Truth(v) {
			list, ok := v.(jinja.List)
			var words []string
			for _, x := range list {
				s, isString := x.(string)
				ok = ok && isString
				words = append(words, s)
			}
			if !ok {
				return fmt.Errorf("parameter %v: enum: want a list of strings", name)
			}
			enum = ", should be one of [" + strings.Join(words, ", ") + "]"
		}
		if v, _ := p.Get("items"); jinja.Truth(v) {
			d, ok := v.(*jinja.Dict)
			if !ok {
				return fmt.Errorf("parameter %v: items: want an object", name)
			}
			items = ", where each item should be " + str(d, "type")
		}
		fmt.Fprintf(b, "  - %s (%s%s): %s%s%s\n", name, str(p, "type"), mark, str(p, "description"), enum, items)
	}
	return nil
}

func defaultCalls(calls []call) (string, error) {
	var lines []string
	for _, c := range calls {
		lines = append(lines, "Action: "+c.name+"\nAction Input: "+dump(c.arguments, jinja.JSONStyle{}))
	}
	return strings.Join(lines, "\n"), nil
}

func glm4Tools(tools []*jinja.Dict, _ time.Time) (string, error) {
	var b strings.Builder
	b.WriteString("你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，" +
		"你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具")
	for i, tool := range tools {
		tool, err := function(tool)
		if err != nil {
			return "", fmt.Errorf("tool %d: %w", i, err)
		}
		name := str(tool, "name")
		if name == "" {
			return "", fmt.Errorf("tool %d: no name", i)
		}
		b.WriteString("\n\n## " + name + "\n\n" + dump(tool, jinja.JSONStyle{Indented: true, Indent: "    "}) +
			"\n在调用上述函数时，请使用 Json 格式表示调用的参数。")
	}
	return b.String(), nil
}

func glm4Calls(calls []call) (string, error) {
	if len(calls) > 1 {
		return "", fmt.Errorf("GLM-4 calls one function at a time, got %d", len(calls))
	}
	if d, ok := calls[0].arguments.(*jinja.Dict); ok && calls[0].name == Interpreter && d.Len() == 1 && entry(d, "code") != "" {
		return Interpreter + "\n```python\n" + entry(d, "code") + "\n```", nil // as ChatGLM3 writes it
	}
	return calls[0].name + "\n" + dump(calls[0].arguments, jinja.JSONStyle{}), nil
}

func llama3Tools(tools []*jinja.Dict, now time.Time) (string, error) {
	var b strings.Builder
	b.WriteString("Cutting Knowledge Date: December 2023\nToday Date: " + now.Format("02 Jan 2006") + "\n\n" +
		"You have access to the following functions. To call a function, please respond with JSON for a function call. " +
		`Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}. ` +
		"Do not use variables.\n\n")
	for _, tool := range tools {
		b.WriteString(dump(wrapped(tool), jinja.JSONStyle{Indented: true, Indent: "    "}) + "\n\n")
	}
	return b.String(), nil
}

func namedCall(c call, key string) *jinja.Dict {
	d := jinja.NewDict()
	d.SetString("name", c.name)
	d.SetString(key, c.arguments)
	return d
}

func llama3Calls(calls []call) (string, error) {
	var list jinja.List
	for _, c := range calls {
		list = append(list, namedCall(c, "parameters"))
	}
	if len(list) == 1 {
		return dump(list[0], jinja.JSONStyle{}), nil
	}
	return dump(list, jinja.JSONStyle{}), nil
}

func qwenTools(tools []*jinja.Dict, _ time.Time) (string, error) {
	var b strings.Builder
	b.WriteString("\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n" +
		"You are provided with function signatures within <tools></tools> XML tags:\n<tools>")
	for _, tool := range tools {
		b.WriteString("\n" + dump(wrapped(tool), jinja.JSONStyle{}))
	}
	b.WriteString("\n</tools>\n\nFor each function call, return a json object with function name and arguments within " +
		"<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>")
	return b.String(), nil
}

func qwenCalls(calls []call) (string, error) {
	var lines []string
	for _, c := range calls {
		lines = append(lines, "<tool_call>\n"+dump(namedCall(c, "arguments"), jinja.JSONStyle{})+"\n</tool_call>")
	}
	return strings.Join(lines, "\n"), nil
}
