package chat

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"danlu/chat/jinja"
)

const testTools = `[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"n":{"type":"integer"}}}}},{"name":"now","parameters":{"type":"object","properties":{}}}]`

func speechOf(t testing.TB, think bool, calls string) Speech {
	t.Helper()
	var s Speech
	if think {
		s.Think = [2]string{"<think>", "</think>"}
	}
	if calls == "" {
		return s
	}
	s, ok := s.WithCalls(calls)
	if !ok {
		t.Fatalf("no style %q", calls)
	}
	return s
}

var replies = []struct {
	name   string
	think  bool
	calls  string
	opened bool
	text   string
	want   Said
}{
	{"plain", false, "", false, "Hello.\n", Said{Content: "Hello."}},
	{"thought", true, Hermes, false, "<think>\nhm\nyes\n</think>\n\nHi <b>", Said{Reasoning: "hm\nyes", Content: "Hi <b>"}},
	{"opened thought", true, Hermes, true, "hm\n</think>\n\nHi", Said{Reasoning: "hm", Content: "Hi"}},
	{"empty thought", true, Hermes, false, "<think>\n\n</think>\n\nHi", Said{Content: "Hi"}},
	{"unfinished thought", true, Hermes, false, "<think>\nhm</thi", Said{Reasoning: "hm</thi"}},
	{"no thought", true, Hermes, false, "\n\nHi", Said{Content: "Hi"}},
	{"think in the middle", true, Hermes, false, "a <think> b", Said{Content: "a <think> b"}},
	{"call", true, Hermes, false, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"北京\", \"n\": 1.0}}\n</tool_call>",
		Said{Calls: []Call{{"get_weather", `{"city": "北京", "n": 1.0}`}}}},
	{"text, thought, calls", true, Hermes, false, "<think>\nx\n</think>\n\nLet me look.\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": \"{\\\"city\\\": \\\"a\\\"}\"}\n</tool_call>\n",
		Said{Reasoning: "x", Content: "Let me look.", Calls: []Call{{"now", "{}"}, {"get_weather", `{"city": "a"}`}}}},
	{"malformed call", false, Hermes, false, "ok\n<tool_call>\n{\"name\": \"now\", \n</tool_call>", Said{Content: "ok\n<tool_call>\n{\"name\": \"now\", \n</tool_call>"}},
	{"unclosed call", false, Hermes, false, "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}", Said{Calls: []Call{{"now", "{}"}}}},
	{"cut call", false, Hermes, false, "<tool_call>\n{\"name\": \"no", Said{Content: "<tool_call>\n{\"name\": \"no"}},
	{"text between calls", false, Hermes, false, "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call> and <tool_call>1</tool_call>!", Said{Content: " and <tool_call>1</tool_call>!", Calls: []Call{{"now", "{}"}}}},
	{"llama", false, Llama3, false, `{"name": "get_weather", "parameters": {"city": "SF"}}`, Said{Calls: []Call{{"get_weather", `{"city": "SF"}`}}}},
	{"llama, two", false, Llama3, false, "<|python_tag|>{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"other\", \"parameters\": {\"a\": [1]}}", Said{Calls: []Call{{"now", "{}"}, {"other", `{"a": [1]}`}}}},
	{"llama, builtin", false, Llama3, false, `<|python_tag|>brave_search.call(query="a, b", n=-2)`, Said{Calls: []Call{{"brave_search", `{"query": "a, b", "n": -2}`}}}},
	{"llama, JSON answer", false, Llama3, false, `{"nameless": 1}`, Said{Content: `{"nameless": 1}`}},
	{"llama, unknown function", false, Llama3, false, `{"name": "Bob", "parameters": {}}`, Said{Content: `{"name": "Bob", "parameters": {}}`}},
	{"llama, text behind", false, Llama3, false, `{"name": "now", "parameters": {}} is it`, Said{Content: `{"name": "now", "parameters": {}} is it`}},
	{"llama, text", false, Llama3, false, "Hello {", Said{Content: "Hello {"}},
	{"glm4", false, GLM4, false, "get_weather\n{\"city\": \"上海\"}", Said{Calls: []Call{{"get_weather", `{"city": "上海"}`}}}},
	{"glm4, text", false, GLM4, false, "\nget_weather is a tool.", Said{Content: "get_weather is a tool."}},
	{"glm4, malformed", false, GLM4, false, "get_weather\n{\"city\": ", Said{Content: "get_weather\n{\"city\": "}},
	{"chatglm3", false, GLM4, false, "get_weather\n```python\ntool_call(city='北京', n=3)\n```", Said{Calls: []Call{{"get_weather", `{"city": "北京", "n": 3}`}}}},
	{"chatglm3, code", false, GLM4, false, "get_weather\n```python\ntool_call(city=f())\n```", Said{Content: "get_weather\n```python\ntool_call(city=f())\n```"}},
	{"glm4.5", true, GLM45, false, "\n<think>hm</think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>12</arg_value>\n<arg_key>n</arg_key>\n<arg_value>12</arg_value>\n</tool_call>",
		Said{Reasoning: "hm", Calls: []Call{{"get_weather", `{"city": "12", "n": 12}`}}}},
	{"deepseek v3", false, DeepSeekV3, false, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"x\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
		Said{Calls: []Call{{"get_weather", `{"city": "x"}`}, {"now", "{}"}}}},
	{"deepseek v3.1", true, DeepSeekV3, true, "hm</think>Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
		Said{Reasoning: "hm", Content: "Sure.", Calls: []Call{{"now", "{}"}}}},
	{"deepseek, malformed", false, DeepSeekV3, false, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now", Said{Content: "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now"}},
}

func parseTools(t testing.TB) jinja.Value {
	t.Helper()
	tools, err := jinja.ParseJSON([]byte(testTools))
	if err != nil {
		t.Fatal(err)
	}
	return tools
}

func TestSpeech(t *testing.T) {
	tools := parseTools(t)
	for _, c := range replies {
		if got := speechOf(t, c.think, c.calls).Parse(c.text, c.opened, tools); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\nwant %+v\ngot  %+v", c.name, c.want, got)
		}
	}
}

// feedPieces parses a text that arrives in pieces which end where cut says.
func feedPieces(s Speech, opened bool, tools jinja.Value, text string, cut func() bool) Said {
	p := s.Parser(opened, tools)
	var said Said
	from := 0
	for i := 1; i <= len(text); i++ {
		if i == len(text) || cut() {
			said.Add(p.Feed(text[from:i]))
			from = i
		}
	}
	said.Add(p.Close())
	return said
}

// However a reply is cut, its parts are the same.
func TestSpeechInPieces(t *testing.T) {
	tools := parseTools(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range replies {
		s := speechOf(t, c.think, c.calls)
		for range 200 {
			n := 1 + rng.IntN(8)
			if got := feedPieces(s, c.opened, tools, c.text, func() bool { return rng.IntN(n) == 0 }); !reflect.DeepEqual(got, c.want) {
				t.Fatalf("%s:\nwant %+v\ngot  %+v", c.name, c.want, got)
			}
		}
	}
}

func FuzzSpeech(f *testing.F) {
	for i, c := range replies {
		f.Add(c.text, uint64(i), c.opened)
	}
	tools := parseTools(f)
	f.Fuzz(func(t *testing.T, text string, seed uint64, opened bool) {
		for i, name := range append(ToolParsers(), "") {
			s := speechOf(t, i%2 == 0, name)
			rng := rand.New(rand.NewPCG(seed, 1))
			want := s.Parse(text, opened, tools)
			if got := feedPieces(s, opened, tools, text, func() bool { return rng.IntN(3) == 0 }); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: %q\nwhole  %+v\npieces %+v", name, text, want, got)
			}
		}
	})
}

// ChatGLM3 writes a program in a block of its own, and it is written so again in the turns that follow.
func TestInterpreterBlock(t *testing.T) {
	tools, err := jinja.ParseJSON([]byte(`[{"type":"function","function":{"name":"interpreter","parameters":{"type":"object","properties":{"code":{"type":"string"}}}}}]`))
	if err != nil {
		t.Fatal(err)
	}
	speech, _ := Speech{}.WithCalls(GLM4)
	const block = "interpreter\n```python\nprint('一' * 2)\nprint(\"a\")\n```"
	said := speech.Parse(block, false, tools)
	if len(said.Calls) != 1 || said.Calls[0].Name != Interpreter || said.Calls[0].Arguments != `{"code": "print('一' * 2)\nprint(\"a\")"}` || said.Content != "" {
		t.Fatalf("%+v", said)
	}
	arguments, err := jinja.ParseJSON([]byte(said.Calls[0].Arguments))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := glm4Calls([]call{{Interpreter, arguments}}); err != nil || text != block {
		t.Errorf("want %q, got %q, %v", block, text, err)
	}
}
