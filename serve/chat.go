package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/generate"
	"danlu/tokenizer"
)

// talk is the shape of /v1/chat/completions.
type talk struct{ calls map[int]int } // tool calls of each reply so far

type message struct {
	Role      string     `json:"role,omitempty"`
	Content   *string    `json:"content,omitempty"`
	Reasoning string     `json:"reasoning_content,omitempty"`
	Calls     []toolCall `json:"tool_calls,omitempty"`
	Ran       []ran      `json:"code_interpreter,omitempty"` // programs that the server ran for the reply
}

// wholeMessage is a message whose content is there even when it is null.
type wholeMessage struct {
	message
	Content *string `json:"content"`
}

type toolCall struct {
	Index    *int   `json:"index,omitempty"` // in streams
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type talkChoice struct {
	Index   int           `json:"index"`
	Message *wholeMessage `json:"message,omitempty"`
	Delta   *message      `json:"delta,omitempty"`
	Probs   *talkProbs    `json:"logprobs"`
	Reason  *string       `json:"finish_reason"`
}

type talkProbs struct {
	Content []tokenProb `json:"content"`
}

type tokenProb struct {
	Token   string      `json:"token"`
	Logprob float64     `json:"logprob"`
	Bytes   []int       `json:"bytes"`
	Top     []tokenProb `json:"top_logprobs,omitempty"`
}

func (*talk) opening(index int) any {
	return talkChoice{Index: index, Delta: &message{Role: chat.Assistant, Content: new(string)}}
}

func (*talk) id() string { return "chatcmpl-" }

func (*talk) kind(streamed bool) string {
	if streamed {
		return "chat.completion.chunk"
	}
	return "chat.completion"
}

func (c *talk) delta(m *Model, p piece) any {
	d := &message{Reasoning: p.said.Reasoning, Calls: c.toolCalls(p.index, p.said.Calls, true), Ran: p.ran}
	if p.said.Content != "" {
		d.Content = &p.said.Content
	}
	return talkChoice{Index: p.index, Delta: d, Probs: chatProbs(m, p.probs)}
}

func (c *talk) closing(m *Model, p piece, reason string) any {
	return talkChoice{Index: p.index, Delta: &message{}, Probs: chatProbs(m, p.probs), Reason: &reason}
}

func (c *talk) whole(m *Model, p piece, reason string) any {
	index, said := p.index, p.said
	msg := &wholeMessage{message: message{Role: chat.Assistant, Reasoning: said.Reasoning, Calls: c.toolCalls(index, said.Calls, false), Ran: p.ran}}
	if said.Content != "" || len(said.Calls) == 0 {
		msg.Content = &said.Content
	}
	return talkChoice{Index: index, Message: msg, Probs: chatProbs(m, p.probs), Reason: &reason}
}

func (c *talk) toolCalls(index int, calls []chat.Call, numbered bool) []toolCall {
	var out []toolCall
	for _, x := range calls {
		t := toolCall{ID: "call_" + newID(), Type: "function"}
		if n := c.calls[index]; numbered {
			t.Index = &n
		}
		c.calls[index]++
		t.Function.Name, t.Function.Arguments = x.Name, x.Arguments
		out = append(out, t)
	}
	return out
}

func chatProbs(m *Model, tokens []drawn) *talkProbs {
	if len(tokens) == 0 {
		return nil
	}
	p := &talkProbs{}
	for _, t := range tokens {
		x := tokenProb{Logprob: t.logprob}
		x.Token, x.Bytes = m.spelling(t.id)
		for _, c := range t.top {
			y := tokenProb{Logprob: c.Logit}
			y.Token, y.Bytes = m.spelling(c.ID)
			x.Top = append(x.Top, y)
		}
		p.Content = append(p.Content, x)
	}
	return p
}

// chat answers /v1/chat/completions.
func (s *Server) chat(w http.ResponseWriter, q *http.Request) *apiError {
	f, e := s.body(w, q)
	if e != nil {
		return e
	}
	r, prompts, e := s.conversing(q.Context(), f)
	if e != nil {
		return e
	}
	return s.answer(w, q, r, prompts, &talk{map[int]int{}})
}

// conversing reads a request for an answer to a conversation.
func (s *Server) conversing(ctx context.Context, f *fields) (*request, []prompt, *apiError) {
	r := s.common(f)
	if f.err != nil {
		return nil, nil, f.err
	}
	if r.model.Dialect == nil {
		return nil, nil, fault(http.StatusBadRequest, invalidRequest, "no_chat_template", "the model %q has no chat template: use /v1/completions, or start the server with --template", r.model.ID)
	}
	speech := r.model.Dialect.Speech()
	r.logprobs(f)
	choice, _ := f.take("tool_choice")
	var a *album
	if r.model.sight != nil {
		a = &album{}
	}
	c, e := conversation(f, speech, a)
	if e != nil {
		return nil, nil, e
	}
	if e := r.choose(f, choice, c, speech); e != nil {
		return nil, nil, e
	}
	thinking(f, c, r.model.Dialect, speech)
	r.thinkingBudget(f, speech)
	if r.promptProbs >= 0 {
		f.fail(cannot("prompt_logprobs", "is for /v1/completions"))
	}
	if e := f.done(); e != nil {
		return nil, nil, e
	}
	if e := r.compile(true); e != nil {
		return nil, nil, e
	}
	ends, words := r.model.Dialect.Stop()
	if !r.unended {
		r.answer.End = slices.Concat(r.answer.End, ends)
	}
	r.stops = slices.Concat(r.stops, words)
	p, e := r.lay(ctx, c, a)
	if e != nil {
		return nil, nil, e
	}
	if runsCode(c) {
		if e := s.mayRun(r); e != nil {
			return nil, nil, e
		}
		p.interpreter = r.interpreter(c, a)
	}
	return r, []prompt{p}, nil
}

// lay makes a conversation the prompt of a reply.
func (r *request) lay(ctx context.Context, c *chat.Conversation, a *album) (prompt, *apiError) {
	speech := r.model.Dialect.Speech()
	p, err := r.model.Dialect.Prompt(c)
	if err != nil {
		return prompt{}, badField("messages", "%v", err)
	}
	var pictures *generate.Pictures
	if a != nil && len(a.data) > 0 {
		if p.IDs, pictures, err = r.model.look(ctx, p.IDs, a); err != nil {
			return prompt{}, badField("messages", "%v", err)
		}
	}
	if e := r.fits("messages", p.IDs); e != nil {
		return prompt{}, e
	}
	parser := func() *chat.Parser { return speech.Parser(speech.Opened(p.Text), c.Tools) }
	return prompt{ids: p.IDs, pictures: pictures, parser: parser, thought: begins(c, speech, p.Text), keep: speech.Keep(r.model.Tokenizer),
		closing: r.model.Tokenizer.Encode(speech.Think[1], tokenizer.Options{ParseSpecial: true})}, nil
}

// begins says whether a reply to a conversation begins with a thought.
func begins(c *chat.Conversation, speech chat.Speech, prompt string) thought {
	if speech.Think[0] == "" {
		return noThought
	}
	if speech.Opened(prompt) {
		return midThought
	}
	if c.Variables != nil {
		if on, ok := c.Variables.Get("enable_thinking"); ok && !jinja.Truth(on) {
			return noThought
		}
	}
	return mayThink
}

// maxThinking is the largest budget of thoughts that Qwen3's service takes.
const maxThinking = 38912

// thinkingBudget reads how many tokens a thought may have.
func (r *request) thinkingBudget(f *fields, speech chat.Speech) {
	before := ""
	for _, name := range []string{"thinking_budget", "thinking_token_budget", "thinking_budget_tokens", "reasoning_budget_tokens"} { // Qwen's, vLLM's, llama.cpp's
		if !f.int(name, 0, maxThinking, &r.budget) {
			continue
		}
		switch {
		case speech.Think[0] == "":
			f.fail(cannot(name, "this model does not think"))
		case before != "":
			f.fail(badField(name, "is %s by another name; give one", before))
		}
		before = name
	}
}

func (r *request) logprobs(f *fields) {
	var on bool
	f.bool("logprobs", &on)
	top := 0
	if f.int("top_logprobs", 0, maxTop, &top) && !on {
		f.fail(badField("top_logprobs", "needs logprobs: true"))
	}
	if on {
		r.probs = top
	}
}

// conversation reads messages and tools; pictures go into the album, where there is one.
func conversation(f *fields, speech chat.Speech, a *album) (*chat.Conversation, *apiError) {
	members := map[string]json.RawMessage{}
	names := []string{"messages", "tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message"}
	for _, name := range names {
		if v, ok := f.take(name); ok {
			members[name] = v
		}
	}
	if members["messages"] == nil {
		return nil, badField("messages", "is missing")
	}
	c := &chat.Conversation{}
	// One member at a time, so that the one at fault is known.
	for _, name := range names {
		v, ok := members[name]
		if !ok {
			continue
		}
		one := map[string]json.RawMessage{"messages": members["messages"], name: v}
		x, err := chat.ParseConversation(object(one))
		if err != nil {
			return nil, badField(name, "%s", strings.TrimPrefix(err.Error(), "chat: "))
		}
		switch name {
		case "messages":
			c.Messages = x.Messages
		case "tools":
			c.Tools = x.Tools
		case "chat_template_kwargs":
			c.Variables = x.Variables
		case "continue_final_message":
			c.Continue = x.Continue
		}
	}
	c.Open = !c.Continue
	if v, ok := members["add_generation_prompt"]; ok {
		if c.Open = string(v) == "true"; c.Open && c.Continue {
			return nil, badField("add_generation_prompt", "and continue_final_message exclude each other")
		}
	}
	if len(c.Messages) == 0 {
		return nil, badField("messages", "is empty")
	}
	for i, m := range c.Messages {
		clean, err := ordinary(m, a)
		if err != nil {
			return nil, badField("messages", "[%d]%v", i, err)
		}
		c.Messages[i] = clean
	}
	return c, offered(c)
}

// ordinary returns a message as templates expect it: content is a text or has pictures, arguments of calls are objects, and developers
// are the system.
func ordinary(m *jinja.Dict, a *album) (*jinja.Dict, error) {
	m = m.Clone()
	role, _ := m.Get("role")
	switch role {
	case chat.System, chat.User, chat.Assistant, chat.Tool:
	case "developer":
		m.SetString("role", chat.System)
	default:
		return nil, fmt.Errorf(".role: want system, developer, user, assistant or tool, got %s", jinja.Repr(role))
	}
	content, _ := m.Get("content")
	calls, _ := m.Get("tool_calls")
	switch x := content.(type) {
	case string:
	case nil:
		if !jinja.Truth(calls) {
			return nil, errors.New(".content: is missing")
		}
	case jinja.List:
		parts, err := a.parts(x)
		if err != nil {
			return nil, err
		}
		m.SetString("content", parts)
	default:
		return nil, errors.New(".content: want a text or a list of parts")
	}
	return m, argumentObjects(m, calls)
}

// argumentObjects reads the arguments of a message's calls, which the API writes as a text.
func argumentObjects(m *jinja.Dict, calls jinja.Value) error {
	if !jinja.Truth(calls) {
		return nil
	}
	list, ok := calls.(jinja.List)
	if !ok {
		return errors.New(".tool_calls: want a list")
	}
	out := make(jinja.List, len(list))
	for i, x := range list {
		call, ok := x.(*jinja.Dict)
		if !ok {
			return fmt.Errorf(".tool_calls[%d]: want an object", i)
		}
		inner, _ := call.Get("function")
		function, ok := inner.(*jinja.Dict)
		if !ok {
			return fmt.Errorf(".tool_calls[%d].function: want an object", i)
		}
		arguments, _ := function.Get("arguments")
		if s, ok := arguments.(string); ok {
			v, err := jinja.ParseJSON([]byte(s))
			if _, isObject := v.(*jinja.Dict); err != nil || !isObject {
				return fmt.Errorf(".tool_calls[%d].function.arguments: want a JSON object as a text", i)
			}
			function, call = function.Clone(), call.Clone()
			function.SetString("arguments", v)
			call.SetString("function", function)
		}
		out[i] = call
	}
	m.SetString("tool_calls", out)
	return nil
}

// offered checks the tools of a conversation.
func offered(c *chat.Conversation) *apiError {
	tools, _ := c.Tools.(jinja.List)
	for i, x := range tools {
		d, _ := x.(*jinja.Dict)
		var name jinja.Value
		if d != nil {
			kind, _ := d.Get("type")
			if kind == "code_interpreter" && d.Len() == 1 {
				tools[i] = interpreterTool
				d, kind = interpreterTool, "function"
			}
			inner, _ := d.Get("function")
			if function, ok := inner.(*jinja.Dict); ok && kind == "function" {
				name, _ = function.Get("name")
			}
		}
		if s, ok := name.(string); !ok || s == "" {
			return badField("tools", "[%d]: want {\"type\": \"function\", \"function\": {\"name\": ...}}", i)
		}
	}
	if len(tools) == 0 {
		c.Tools = nil
	}
	return nil
}

// choose reads which tools a reply may or has to call: none are offered where none is to be called, and a call that has to
// come is held to the model's format and the tools' schemas.
func (r *request) choose(f *fields, choice json.RawMessage, c *chat.Conversation, speech chat.Speech) *apiError {
	several := true
	f.bool("parallel_tool_calls", &several)
	r.single = !several
	kind, name := "auto", ""
	if choice != nil && json.Unmarshal(choice, &kind) != nil {
		var one struct {
			Type     string
			Function struct{ Name string }
		}
		if json.Unmarshal(choice, &one) != nil || one.Type != "function" || one.Function.Name == "" {
			return badField("tool_choice", "want auto, none, required or a function with its name, got %s", short(choice))
		}
		kind, name = "required", one.Function.Name
	}
	if kind == "none" {
		c.Tools = nil
	}
	tools, _ := c.Tools.(jinja.List)
	switch {
	case kind != "auto" && kind != "none" && kind != "required":
		return badField("tool_choice", "want auto, none or required, got %q", kind)
	case kind == "required" && tools == nil:
		return badField("tool_choice", "there are no tools to choose from")
	case tools == nil:
		return nil
	case speech.Calls() == "":
		return cannot("tools", "this model's format has no way to call tools")
	case kind == "required":
		r.calls(f, "tool_choice", speech, tools, name, several, false)
	default:
		r.calls(f, "tools", speech, tools, "", several, true)
	}
	return nil
}

// thinking reads the switches for thoughts.
func thinking(f *fields, c *chat.Conversation, d *chat.Dialect, speech chat.Speech) {
	var on bool
	name := "enable_thinking"
	given := f.bool(name, &on)
	if v, ok := f.raw["reasoning_effort"]; ok {
		f.only("reasoning_effort", "this server can only switch thoughts off (\"none\")", `"none"`)
		if given && on {
			f.fail(badField("reasoning_effort", "%s contradicts enable_thinking", short(v)))
		}
		name, given, on = "reasoning_effort", true, false
	}
	if !given {
		return
	}
	thinks := speech.Think[0] != ""
	switches := d.Format != nil || strings.Contains(d.Template.Source(), "enable_thinking")
	switch {
	case !thinks && on:
		f.fail(cannot(name, "this model does not think"))
	case thinks && !switches:
		f.fail(cannot(name, "this model's template has no switch for thoughts"))
	case thinks:
		c.SetThinking(&on)
	}
}
