package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/generate"
	"danlu/sandbox"
)

const (
	maxRounds    = 8 // times that one reply may run code
	runsAtOnce   = 2 // programs that run at a time, of all requests
	codeTime     = 10 * time.Second
	maxRunOutput = 8 << 10 // bytes of a program's output that the model reads
)

// interpreterTool is what a model is offered where a request has the tool {"type": "code_interpreter"}.
var interpreterTool = func() *jinja.Dict {
	v, err := jinja.ParseJSON([]byte(`{"type": "function", "function": {"name": "` + chat.Interpreter + `",
		"description": "Runs Python code without network access and returns what it prints.",
		"parameters": {"type": "object", "properties": {"code": {"type": "string", "description": "Python code"}}, "required": ["code"]}}}`))
	if err != nil {
		panic(err) // written here
	}
	return v.(*jinja.Dict)
}()

// runsCode reports whether a conversation offers the interpreter.
func runsCode(c *chat.Conversation) bool {
	tools, _ := c.Tools.(jinja.List)
	return slices.ContainsFunc(tools, func(x jinja.Value) bool { return x == jinja.Value(interpreterTool) })
}

// interpreter lets replies to a conversation run code: what they call is run here, and they go on with the result.
type interpreter struct {
	conversation *chat.Conversation
	// prompt lays out the conversation with what was said since.
	prompt func(ctx context.Context, c *chat.Conversation) (prompt, *apiError)
	// job continues a reply from a prompt.
	job func(a *reply, p prompt) error
}

// mayRun refuses to run code where the server was not told to, and where it cannot be mixed with what a request asks for.
func (s *Server) mayRun(r *request) *apiError {
	switch {
	case !s.opts.CodeInterpreter:
		return cannot("tools", "this server runs no code; danlu serve --code-interpreter does")
	case r.form != nil && r.form.field != "tool_choice":
		return cannot(r.form.field, "a reply that runs code cannot be held to a form")
	}
	return nil
}

// interpreter is that of a request's replies to a conversation.
func (r *request) interpreter(c *chat.Conversation, a *album) *interpreter {
	free := *r
	free.grammar = nil // a call that had to come has come
	return &interpreter{
		conversation: c,
		prompt:       func(ctx context.Context, c *chat.Conversation) (prompt, *apiError) { return r.lay(ctx, c, a) },
		job: func(x *reply, p prompt) error {
			if err := free.prepare(x.job.ctx, x, p, x.job.req.Sampling.Seed+1); err != nil {
				return err
			}
			return r.model.sched.submit(x.job)
		},
	}
}

// ran is a program that ran for a reply.
type ran struct {
	Code   string `json:"code"`
	Output string `json:"output"`
	Exit   int    `json:"exit_code"` // -1: it was ended from outside
}

// round is what a reply has said since it last ran code.
type round struct {
	said  chat.Said
	calls []chat.Call // of the interpreter, which the client is not told of
	count int
}

// note takes calls of the interpreter out of what is told to the client.
func (r *reply) note(s chat.Said) chat.Said {
	if r.interpreter == nil {
		return s
	}
	rest := s.Calls[:0:0]
	for _, c := range s.Calls {
		if c.Name == chat.Interpreter {
			r.round.calls = append(r.round.calls, c)
		} else {
			rest = append(rest, c)
		}
	}
	s.Calls = rest
	r.round.said.Add(s)
	return s
}

// goOn runs the code that a reply has called for and continues it; false when it has ended. Calls that are not run are
// the client's to see.
func (r *reply) goOn() bool {
	if r.interpreter == nil || len(r.round.calls) == 0 {
		return false
	}
	calls := r.round.calls
	if r.called || r.job.err != nil || r.job.stop != generate.StopEnd || r.round.count == maxRounds {
		r.interpreter = nil
		r.put(chat.Said{Calls: calls})
		return false
	}
	c := *r.interpreter.conversation
	c.Messages = append(slices.Clone(c.Messages), r.round.message())
	for _, call := range calls {
		x, err := run(r.job.ctx, call)
		if err != nil {
			r.job.err = err
			return false
		}
		r.out.put(piece{index: r.index, ran: []ran{x}})
		m := chat.NewMessage(chat.Tool, x.Output)
		m.SetString("name", chat.Interpreter)
		c.Messages = append(c.Messages, m)
	}
	r.interpreter.conversation = &c
	r.round = round{count: r.round.count + 1}
	return r.goOnFrom(&c)
}

// goOnFrom puts a reply in work again, behind what the conversation has come to.
func (r *reply) goOnFrom(c *chat.Conversation) bool {
	p, e := r.interpreter.prompt(r.job.ctx, c)
	switch {
	case e != nil && e.Code != nil && *e.Code == contextExceeded:
		r.job.stop = generate.StopContext
		return false
	case e != nil:
		r.job.err = e
		return false
	case r.job.req.MaxNew > 0 && r.tokens >= r.most:
		r.job.stop = generate.StopLength
		return false
	}
	if err := r.interpreter.job(r, p); err != nil {
		r.job.err = err
		return false
	}
	return true
}

// message is a round as a message of the conversation.
func (o *round) message() *jinja.Dict {
	m := chat.NewMessage(chat.Assistant, o.said.Content)
	if o.said.Reasoning != "" {
		m.SetString("reasoning_content", o.said.Reasoning)
	}
	var calls jinja.List
	for _, c := range o.calls {
		function, call := jinja.NewDict(), jinja.NewDict()
		function.SetString("name", c.Name)
		arguments, err := jinja.ParseJSON([]byte(c.Arguments))
		if err != nil {
			arguments = c.Arguments
		}
		function.SetString("arguments", arguments)
		call.SetString("type", "function")
		call.SetString("function", function)
		calls = append(calls, call)
	}
	m.SetString("tool_calls", calls)
	return m
}

// notebook runs the program on its standard input as a cell of a notebook: the value of a last expression is shown.
const notebook = `
import ast, sys
tree = ast.parse(sys.stdin.read(), "code")
last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
space = {"__name__": "__main__"}
exec(compile(tree, "code", "exec"), space)
if last is not None:
    value = eval(compile(ast.Expression(last.value), "code", "eval"), space)
    if value is not None:
        print(repr(value))
`

var programs = make(chan struct{}, runsAtOnce)

// run runs a call's code. The error is about the sandbox.
func run(ctx context.Context, call chat.Call) (ran, error) {
	var in struct{ Code *string }
	if err := json.Unmarshal([]byte(call.Arguments), &in); err != nil || in.Code == nil {
		return ran{Code: call.Arguments, Output: `want {"code": "..."}`, Exit: 1}, nil
	}
	select {
	case programs <- struct{}{}:
		defer func() { <-programs }()
	case <-ctx.Done():
		return ran{}, ctx.Err()
	}
	r, err := sandbox.Run(ctx, notebook, *in.Code, sandbox.Limits{Time: codeTime, Output: maxRunOutput})
	if err != nil {
		return ran{}, err
	}
	out := strings.ToValidUTF8(r.Stdout+r.Stderr, "�")
	if r.Over != "" {
		out += fmt.Sprintf("\n[ended: over the limit of %s]", r.Over)
	}
	if out == "" {
		out = "[no output]"
	}
	return ran{Code: *in.Code, Output: out, Exit: r.Exit}, nil
}
