package serve

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"danlu/chat"
	"danlu/generate"
	"danlu/sandbox"
	"danlu/tokenizer"
)

// coded is what tests read of an answer that ran code.
type coded struct {
	Choices []struct {
		Message, Delta struct {
			Content string
			Ran     []ran `json:"code_interpreter"`
			Calls   []any `json:"tool_calls"`
		}
		Reason string `json:"finish_reason"`
	}
	Usage *usage
}

// isolated skips a test, loudly, where the system gives no isolation.
func isolated(t *testing.T) {
	t.Helper()
	if err := sandbox.Check(t.Context()); errors.Is(err, sandbox.ErrNoIsolation) || errors.Is(err, exec.ErrNotFound) {
		t.Skipf("SKIPPED, nothing was tested: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
}

// interpreting serves a model whose first reply is held to a call of the interpreter.
func interpreting(t *testing.T) (url, body string) {
	t.Helper()
	m := tinyModel(t, generate.Options{Context: 1024, Sequences: 4})
	f, err := chat.Lookup("qwen", m.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	m.Dialect = chat.NewDialect(nil, f, m.Tokenizer)
	s, err := New(Options{CodeInterpreter: true}, m)
	if err != nil {
		t.Fatal(err)
	}
	// Its random weights would not find the end of a program: a quote is made likely.
	quote := m.Tokenizer.Encode(`"`, tokenizer.Options{})[0]
	return listening(t, s) + "/v1/chat/completions", codeBody + fmt.Sprintf(`,"logit_bias":{"%d":6}`, quote)
}

const codeBody = `{"messages":[{"role":"user","content":"compute"}],"tools":[{"type":"code_interpreter"}],"tool_choice":"required","temperature":1,"seed":9,"max_tokens":300`

// A call of the interpreter is run here, and the reply goes on with what came of it.
func TestCodeRuns(t *testing.T) {
	isolated(t)
	url, body := interpreting(t)
	status, text := post(t, url, body+"}")
	var whole coded
	if err := json.Unmarshal([]byte(text), &whole); err != nil || status != http.StatusOK {
		t.Fatalf("status %d: %s", status, text)
	}
	c := whole.Choices[0]
	if len(c.Message.Ran) == 0 || c.Message.Ran[0].Code == "" || c.Message.Ran[0].Output == "" || len(c.Message.Calls) > 0 || c.Reason == "tool_calls" {
		t.Fatalf("no code ran: %s", text)
	}
	status, text = post(t, url, body+`,"stream":true}`)
	var sum struct {
		content string
		ran     []ran
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: {")
		if !ok {
			continue
		}
		var x coded
		if err := json.Unmarshal([]byte("{"+data), &x); err != nil {
			t.Fatal(err)
		}
		for _, c := range x.Choices {
			sum.content += c.Delta.Content
			sum.ran = append(sum.ran, c.Delta.Ran...)
		}
	}
	if status != http.StatusOK || sum.content != c.Message.Content || len(sum.ran) != len(c.Message.Ran) || sum.ran[0] != c.Message.Ran[0] {
		t.Errorf("streamed %+v, whole %+v", sum, c.Message)
	}
	if whole.Usage.Completion > 300 {
		t.Errorf("%d tokens of at most 300", whole.Usage.Completion)
	}
}

func TestRunCode(t *testing.T) {
	isolated(t)
	for arguments, want := range map[string]ran{
		`{"code":"print(6 * 7)"}`: {"print(6 * 7)", "42\n", 0},
		`{"code":"x = 6\nx * 7"}`: {"x = 6\nx * 7", "42\n", 0},
		`{"code":"x = 1"}`:        {"x = 1", "[no output]", 0},
		`{"code":7}`:              {`{"code":7}`, `want {"code": "..."}`, 1},
		`{}`:                      {`{}`, `want {"code": "..."}`, 1},
	} {
		if got, err := run(t.Context(), chat.Call{Name: chat.Interpreter, Arguments: arguments}); err != nil || got != want {
			t.Errorf("%s: want %+v, got %+v, %v", arguments, want, got, err)
		}
	}
	if got, err := run(t.Context(), chat.Call{Name: chat.Interpreter, Arguments: `{"code":"1/0"}`}); err != nil || got.Exit != 1 || !strings.Contains(got.Output, "ZeroDivisionError") {
		t.Errorf("a failing program: %+v, %v", got, err)
	}
}

// Without the switch no code runs, and what cannot be mixed with it is refused.
func TestNoCode(t *testing.T) {
	_, h := tinyServer(t, Options{}, generate.Options{Context: 256})
	status, text := post(t, h.URL+"/v1/chat/completions", chatBody("x", `,"tools":[{"type":"code_interpreter"}]`))
	if status != http.StatusBadRequest || parse(t, text).Error == nil {
		t.Errorf("status %d: %s", status, text)
	}
	url, _ := interpreting(t)
	for more, want := range map[string]string{
		`,"response_format":{"type":"json_object"}`: "cannot be held to a form",
	} {
		status, text := post(t, url, strings.Replace(codeBody, `"tool_choice":"required",`, "", 1)+more+"}")
		if e := parse(t, text).Error; status != http.StatusBadRequest || e == nil || !strings.Contains(e.Message, want) {
			t.Errorf("%s: status %d: %s", more, status, text)
		}
	}
}
