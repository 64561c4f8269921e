package chat

import (
	"strings"

	"danlu/chat/jinja"
	"danlu/tokenizer"
)

// Speech is how a model writes thoughts and calls of tools.
type Speech struct {
	Think [2]string // what opens and closes a thought; empty: the model has none
	calls *callStyle
}

// callStyle is one family's way to write tool calls.
type callStyle struct {
	name string
	// open and close enclose calls in the reply; without them a call is a whole reply.
	open, close string
	// parse reads the text between open and close, or the whole reply. It returns nil where that is no call.
	parse func(text string, tools []tool) []Call
	// maybe says whether the beginning of a reply can still become a call, for styles without tags.
	maybe func(text string, tools []tool) bool
	keep  []string // control tokens that parse reads
}

// Call is a function call that a model wrote; Arguments is JSON.
type Call struct{ Name, Arguments string }

// Names of the tool-call styles, as serving programs call them.
const (
	Hermes     = "hermes"      // Qwen: <tool_call>{"name": ..., "arguments": ...}</tool_call>
	Llama3     = "llama3_json" // {"name": ..., "parameters": ...}
	GLM4       = "glm4"        // name, line break, JSON; ChatGLM3: a Python call in a code block
	GLM45      = "glm45"       // <tool_call>name<arg_key>...</arg_key><arg_value>...</arg_value></tool_call>
	DeepSeekV3 = "deepseek_v3" // <｜tool▁calls▁begin｜>..., of V3, R1 and V3.1
)

var callStyles = []*callStyle{
	{name: Hermes, open: "<tool_call>", close: "</tool_call>", parse: parseHermes},
	{name: GLM45, open: "<tool_call>", close: "</tool_call>", parse: parseGLM45},
	{name: DeepSeekV3, open: "<｜tool▁calls▁begin｜>", close: "<｜tool▁calls▁end｜>", parse: parseDeepSeek,
		keep: []string{"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"}},
	{name: Llama3, parse: parseLlama3, maybe: maybeLlama3, keep: []string{"<|python_tag|>"}},
	{name: GLM4, parse: parseGLM4, maybe: maybeGLM4},
}

// ToolParsers are the names of the tool-call styles.
func ToolParsers() []string {
	var names []string
	for _, s := range callStyles {
		names = append(names, s.name)
	}
	return names
}

// WithCalls returns the speech with another style of tool calls; ok is false for an unknown name.
func (s Speech) WithCalls(name string) (_ Speech, ok bool) {
	for _, style := range callStyles {
		if style.name == name {
			s.calls = style
			return s, true
		}
	}
	return s, false
}

// Calls is the name of the style of tool calls, "" where the model calls none.
func (s Speech) Calls() string {
	if s.calls == nil {
		return ""
	}
	return s.calls.name
}

// Keep returns the control tokens that carry meaning for the parser; other control tokens are no part of a reply.
func (s Speech) Keep(tok *tokenizer.Tokenizer) map[int32]bool {
	keep := map[int32]bool{}
	words := s.Think[:]
	if s.calls != nil {
		words = append(append([]string{s.calls.open, s.calls.close}, words...), s.calls.keep...)
	}
	for _, w := range words {
		if id, ok := tok.ID(w); ok && w != "" {
			keep[id] = true
		}
	}
	return keep
}

// Speech tells how the dialect's model writes, by what its template or format renders for earlier turns.
func (d *Dialect) Speech() Speech {
	think := [2]string{"<think>", "</think>"}
	var s Speech
	if f := d.Format; f != nil {
		if f.spec.reasoning {
			s.Think = think
		}
		style := map[string]string{"qwen": Hermes, "llama3": Llama3, "glm4": GLM4}[f.ToolFormat]
		if strings.HasPrefix(f.spec.name, "deepseek") {
			style = DeepSeekV3
		}
		s, _ = s.WithCalls(style)
		return s
	}
	source := d.Template.Source()
	if t, ok := d.Template.named["tool_use"]; ok {
		source += t.Source()
	}
	has := func(w string) bool { return strings.Contains(source, w) }
	if has(think[1]) {
		s.Think = think
	}
	switch {
	case has("<arg_key>"):
		s, _ = s.WithCalls(GLM45)
	case has("<tool_call>"):
		s, _ = s.WithCalls(Hermes)
	case has("tool▁calls▁begin"):
		s, _ = s.WithCalls(DeepSeekV3)
	case has("<|python_tag|>"), has("<|start_header_id|>") && has("tool"):
		s, _ = s.WithCalls(Llama3)
	case has("<|observation|>"):
		s, _ = s.WithCalls(GLM4)
	}
	return s
}

// tool is what parsers know of an offered function.
type tool struct {
	name    string
	strings map[string]bool // parameters of type string
}

func readTools(tools jinja.Value) []tool {
	list, _ := tools.(jinja.List)
	var out []tool
	for _, x := range list {
		d, ok := x.(*jinja.Dict)
		if !ok {
			continue
		}
		if d, _ = function(d); d == nil {
			continue
		}
		t := tool{name: str(d, "name"), strings: map[string]bool{}}
		v, _ := d.Get("parameters")
		if p, ok := v.(*jinja.Dict); ok {
			v, _ = p.Get("properties")
		}
		if p, ok := v.(*jinja.Dict); ok {
			for i := range p.Len() {
				k, v := p.At(i)
				if schema, ok := v.(*jinja.Dict); ok && entry(schema, "type") == "string" {
					t.strings[jinja.Str(k)] = true
				}
			}
		}
		out = append(out, t)
	}
	return out
}

// Said is what a model said, or a further part of it.
type Said struct {
	Reasoning string
	Content   string
	Calls     []Call
}

// Parser splits a reply into reasoning, content and tool calls while it arrives. However the text is cut into pieces,
// the parts add up to the same. What is malformed is content.
type Parser struct {
	speech  Speech
	tools   []tool
	state   state
	held    string // text that is not decided yet
	blank   string // line breaks that are dropped if nothing follows them
	started bool   // the current part has text
}

type state uint8

const (
	beginning state = iota // a thought or a call may begin
	thinking
	speaking
	calling
)

// Parser returns a parser for one reply. opened says that the prompt already opened the thought; tools are those
// that the model was offered (a jinja.List, nil for none).
func (s Speech) Parser(opened bool, tools jinja.Value) *Parser {
	p := &Parser{speech: s, tools: readTools(tools)}
	if opened && s.Think[0] != "" {
		p.state = thinking
	}
	if len(p.tools) == 0 {
		p.speech.calls = nil // calls of tools that were never offered are text
	}
	return p
}

// Opened reports whether a rendered prompt ends inside a thought that the model is to go on with.
func (s Speech) Opened(prompt string) bool {
	return s.Think[0] != "" && strings.HasSuffix(strings.TrimSpace(prompt), s.Think[0])
}

// Parse splits a whole reply.
func (s Speech) Parse(text string, opened bool, tools jinja.Value) Said {
	p := s.Parser(opened, tools)
	said := p.Feed(text)
	said.Add(p.Close())
	return said
}

// Add appends a further part.
func (s *Said) Add(more Said) {
	s.Reasoning += more.Reasoning
	s.Content += more.Content
	s.Calls = append(s.Calls, more.Calls...)
}

// Feed takes the next piece of text and returns what is certain by now.
func (p *Parser) Feed(text string) Said {
	p.held += text
	var said Said
	for p.step(&said, false) {
	}
	return said
}

// Close ends the reply and returns what was held back.
func (p *Parser) Close() Said {
	var said Said
	for p.step(&said, true) {
	}
	return said
}

// Thinking reports whether the reply is inside a thought.
func (p *Parser) Thinking() bool { return p.state == thinking }

// step decides about the beginning of the held text; false when more is needed.
func (p *Parser) step(said *Said, end bool) bool {
	switch p.state {
	case beginning:
		return p.begin(end)
	case thinking:
		return p.upTo(&said.Reasoning, end, mark{p.speech.Think[1], speaking})
	case speaking:
		var marks []mark
		if c := p.speech.calls; c != nil && c.open != "" {
			marks = append(marks, mark{c.open, calling})
		}
		return p.upTo(&said.Content, end, marks...)
	}
	return p.call(said, end)
}

// begin decides whether a reply starts with a thought, a call without tags, or text.
func (p *Parser) begin(end bool) bool {
	rest := strings.TrimLeft(p.held, " \t\r\n")
	if open := p.speech.Think[0]; open != "" {
		if after, ok := strings.CutPrefix(rest, open); ok {
			p.held = after
			p.enter(thinking)
			return true
		}
		if !end && strings.HasPrefix(open, rest) {
			return false
		}
	}
	if rest == "" && !end {
		return false
	}
	p.speak()
	return true
}

// speak goes on to the answer, which may be a call without tags.
func (p *Parser) speak() {
	p.enter(speaking)
	if c := p.speech.calls; c != nil && c.open == "" {
		p.enter(calling)
	}
}

func (p *Parser) enter(s state) { p.state, p.started, p.blank = s, false, "" }

// mark is a tag and what comes behind it.
type mark struct {
	tag  string
	next state
}

// upTo moves held text to out up to the first tag. What may be the beginning of a tag is held back. Line breaks at the
// beginning and the end of each part are dropped.
func (p *Parser) upTo(out *string, end bool, marks ...mark) bool {
	at, found := -1, mark{}
	for _, m := range marks {
		if i := strings.Index(p.held, m.tag); i >= 0 && (at < 0 || i < at) {
			at, found = i, m
		}
	}
	if at >= 0 {
		p.put(out, p.held[:at])
		p.held = p.held[at+len(found.tag):]
		if found.next == speaking {
			p.speak()
		}
		p.state = max(p.state, found.next)
		return true
	}
	keep := 0
	if !end {
		for _, m := range marks {
			keep = max(keep, overlap(p.held, m.tag))
		}
	}
	p.put(out, p.held[:len(p.held)-keep])
	p.held = p.held[len(p.held)-keep:]
	return false
}

// put appends text without line breaks at the part's beginning; those at its end wait for what follows.
func (p *Parser) put(out *string, text string) {
	if !p.started {
		if text = strings.TrimLeft(text, "\r\n"); text == "" {
			return
		}
		p.started = true
	}
	text = p.blank + text
	kept := strings.TrimRight(text, "\r\n")
	*out += kept
	p.blank = text[len(kept):]
}

// overlap is the length of the longest end of s that begins tag.
func overlap(s, tag string) int {
	for n := min(len(s), len(tag)-1); n > 0; n-- {
		if strings.HasSuffix(s, tag[:n]) {
			return n
		}
	}
	return 0
}

// call reads a call up to its closing tag, or a reply that is a call as a whole.
func (p *Parser) call(said *Said, end bool) bool {
	c := p.speech.calls
	if c.open == "" {
		if !end && c.maybe(p.held, p.tools) {
			return false
		}
		var calls []Call
		if end {
			calls = c.parse(p.held, p.tools)
		}
		if calls != nil {
			said.Calls = append(said.Calls, calls...)
			p.held = ""
			return false
		}
		for _, w := range c.keep {
			p.held = strings.TrimPrefix(p.held, w)
		}
		p.enter(speaking)
		p.speech.calls = nil
		return true
	}
	inner, rest, closed := strings.Cut(p.held, c.close)
	if !closed && !end {
		return false
	}
	calls := c.parse(inner, p.tools)
	p.state = speaking
	p.held = rest
	if calls == nil {
		whole := c.open + inner
		if closed {
			whole += c.close
		}
		p.put(&said.Content, whole)
		return true
	}
	said.Calls = append(said.Calls, calls...)
	return true
}
