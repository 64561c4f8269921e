package grammar

import (
	"math/rand/v2"
	"strings"
	"testing"

	"danlu/chat"
	"danlu/chat/jinja"
	"danlu/tokenizer"
)

const toolList = `[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":9},
 "unit":{"type":"string","enum":["c","f"]}},"required":["city"]}}},{"type":"function","function":{"name":"stop","parameters":{"type":"object","properties":{}}}}]`

// What is forced is what the family's parser reads: calls of the offered functions with valid arguments.
func TestForcedCallsAreRead(t *testing.T) {
	tools, err := jinja.ParseJSON([]byte(toolList))
	if err != nil {
		t.Fatal(err)
	}
	var functions []Function
	for _, x := range tools.(jinja.List) {
		v, _ := x.(*jinja.Dict).Get("function")
		f := v.(*jinja.Dict)
		name, _ := f.Get("name")
		parameters, _ := f.Get("parameters")
		functions = append(functions, Function{name.(string), parameters})
	}
	schemas := map[string]string{}
	for _, f := range functions {
		if schemas[f.Name], err = jinja.DumpJSON(f.Parameters, jinja.JSONStyle{}); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(2, 3))
	tok, err := tokenizer.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range chat.ToolParsers() {
		speech, _ := chat.Speech{}.WithCalls(name)
		for _, parallel := range []bool{false, true} {
			g, err := FromCalls(Calls{Style: name, Functions: functions, Parallel: parallel}, VocabularyOf(tok, speech.Keep(tok)))
			if err != nil {
				t.Fatal(err)
			}
			read, several := 0, false
			for range 40 {
				text, ok := write(t, g, rng, 0.6, 300)
				if !ok {
					continue
				}
				said := speech.Parse(text, false, tools)
				if strings.TrimSpace(said.Content) != "" || len(said.Calls) == 0 || !parallel && len(said.Calls) > 1 {
					t.Errorf("%s: %q is read as %+v", name, text, said)
					continue
				}
				several = several || len(said.Calls) > 1
				for _, c := range said.Calls {
					schema, ok := schemas[c.Name]
					if !ok {
						t.Errorf("%s: %q calls %q", name, text, c.Name)
						continue
					}
					if err := valid(t, validator(t, schema), c.Arguments); err != nil {
						t.Errorf("%s: %q: %v", name, text, err)
					}
				}
				read++
			}
			if read < 10 || several != (parallel && styles[name].several) {
				t.Errorf("%s, parallel %v: %d replies were read, several calls: %v", name, parallel, read, several)
			}
		}
	}
}

func TestCallsOrAnAnswer(t *testing.T) {
	g, err := FromCalls(Calls{Style: chat.Hermes, Functions: []Function{{Name: "f"}}, Instead: []byte(`{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}`)}, letters())
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{`{"a": 3}`: true, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1]}}\n</tool_call>": true, `{"a": "x"}`: false, "text": false} {
		if admits(g, text) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
	if _, err := FromCalls(Calls{Style: "other", Functions: []Function{{Name: "f"}}}, letters()); err == nil {
		t.Error("an unknown style is no error")
	}
	if _, err := FromCalls(Calls{Style: chat.Hermes, Functions: []Function{{Name: "f", Parameters: jinja.List{}}}}, letters()); err == nil || !strings.Contains(err.Error(), "tools: f") {
		t.Errorf("want an error about f, got %v", err)
	}
}
