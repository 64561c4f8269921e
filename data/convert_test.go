package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// flat writes an example as one line, for tables.
func flat(ex *Example) string {
	var b strings.Builder
	if ex.Text != "" {
		fmt.Fprintf(&b, "text(%s) ", ex.Text)
	}
	if ex.System != "" {
		fmt.Fprintf(&b, "system(%s) ", ex.System)
	}
	if ex.Tools != "" {
		fmt.Fprintf(&b, "tools(%s) ", ex.Tools)
	}
	turn := func(t Turn) {
		fmt.Fprintf(&b, "%s(%s)", t.Role, t.Content)
		if t.NoLoss {
			b.WriteString("!")
		}
		if t.Reasoning != "" {
			fmt.Fprintf(&b, "<%s>", t.Reasoning)
		}
		b.WriteByte(' ')
	}
	for _, t := range ex.Prompt {
		turn(t)
	}
	b.WriteString("-> ")
	for _, t := range ex.Answers {
		turn(t)
	}
	if ex.Label != nil {
		fmt.Fprintf(&b, "label(%v) ", *ex.Label)
	}
	if len(ex.Images) > 0 {
		fmt.Fprintf(&b, "images%v ", ex.Images)
	}
	for _, f := range ex.Extra {
		fmt.Fprintf(&b, "+%s ", f.Name)
	}
	return strings.TrimSpace(b.String())
}

func firstRow(t *testing.T, path string) Row {
	t.Helper()
	files, err := Open([]string{path}, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	row, err := files.Next()
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func TestDetectAndConvert(t *testing.T) {
	for _, c := range []struct{ name, file, row, want string }{
		{"text", "a.jsonl", `{"text": "hello", "id": 3}`, "text(hello) -> +id"},
		{"content", "a.jsonl", `{"content": "hello"}`, "text(hello) ->"},
		{"txt", "a.txt", "hello", "text(hello) ->"},
		{"alpaca", "a.json", `[{"instruction": "add", "input": "1 2", "output": "3", "system": "s", "history": [["q", "a"]]}]`, "system(s) user(q) assistant(a) user(add\n1 2) -> assistant(3)"},
		{"alpaca without input", "a.json", `[{"instruction": "add", "input": "", "output": ""}]`, "user(add) -> assistant()"},
		{"alpaca csv", "a.csv", "instruction,input,output\n\"a, b\",,c\n", "user(a, b) -> assistant(c)"},
		{"alpaca pair", "a.json", `[{"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"}]`, "user(q) -> assistant(good) assistant(bad)"},
		{"alpaca kto", "a.json", `[{"instruction": "q", "output": "a", "kto_tag": false}]`, "user(q) -> assistant(a) label(false)"},
		{"sharegpt", "a.json", `[{"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "function_call", "value": "{}"}, {"from": "observation", "value": "o"}, {"from": "gpt", "value": "a"}], "tools": "[]"}]`,
			"system(s) tools([]) user(q) function({}) observation(o) -> assistant(a)"},
		{"sharegpt pair", "a.json", `[{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}}]`,
			"user(q) -> assistant(good) assistant(bad)"},
		{"sharegpt prompt alone", "a.json", `[{"conversations": [{"from": "human", "value": "q"}]}]`, "user(q) ->"},
		{"openai", "a.jsonl", `{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "r"}]}`, "system(s) user(q) -> assistant(a)<r>"},
		{"openai tools", "a.jsonl", `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name":"f","arguments":"{\"x\":1}"}}]}, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "a"}], "tools": [{"name": "f"}]}`,
			`tools([{"name": "f"}]) user(q) function([{"name": "f", "arguments": "{\"x\":1}"}]) observation(1` + "\n</tool_response>\n<tool_response>\n" + `2) -> assistant(a)`},
		{"openai parts", "a.jsonl", `{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x.png"}}, {"type": "text", "text": "what"}]}, {"role": "assistant", "content": "a"}]}`, "user(<image>what) -> assistant(a) images[x.png]"},
		{"openai weight", "a.jsonl", `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b", "weight": 1}]}`, "user(q) assistant(a)! user(r) -> assistant(b)"},
		{"images", "a.json", `[{"messages": [{"role": "user", "content": "<image>see"}, {"role": "assistant", "content": "a"}], "images": ["d/x.png"]}]`, "user(<image>see) -> assistant(a) images[d/x.png]"},
		{"trl", "a.jsonl", `{"prompt": "q", "completion": "a"}`, "user(q)! -> assistant(a)"},
		{"trl messages", "a.jsonl", `{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}`, "system(s) user(q)! -> assistant(a)"},
		{"trl prompt", "a.jsonl", `{"prompt": "q", "answer_key": "4"}`, "user(q)! -> +answer_key"},
		{"trl kto", "a.jsonl", `{"prompt": "q", "completion": "a", "label": true}`, "user(q)! -> assistant(a) label(true)"},
		{"trl pair", "a.jsonl", `{"prompt": "q", "chosen": "good", "rejected": "bad"}`, "user(q) -> assistant(good) assistant(bad)"},
		{"trl implicit prompt", "a.jsonl", `{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]}`, "user(q) -> assistant(good) assistant(bad)"},
		{"trl repeated prompt", "a.jsonl", `{"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]}`, "user(q) -> assistant(good) assistant(bad)"},
		{"transcripts", "a.jsonl", `{"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: bad"}`, "user(q) assistant(a) user(r) -> assistant(good) assistant(bad)"},
		{"gsm8k", "a.jsonl", `{"question": "q", "answer": "a #### 4"}`, "user(q)! -> assistant(a #### 4)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := writeFile(t, t.TempDir(), c.file, c.row)
			a, err := Detect(path)
			if err != nil {
				t.Fatal(err)
			}
			row := firstRow(t, path)
			ex, err := a.Convert(&row, "media")
			if err != nil {
				t.Fatalf("%v: %v", a, err)
			}
			if got := flat(ex); got != c.want {
				t.Errorf("%v\nwant %s\ngot  %s", a, c.want, got)
			}
			if !strings.Contains(a.String(), a.Formatting) {
				t.Errorf("description: %s", a)
			}
		})
	}
}

func TestConvertRefusesWithReason(t *testing.T) {
	sharegpt := &Attr{Formatting: ShareGPT, Columns: DefaultColumns, Tags: DefaultTags}
	openai := &Attr{Formatting: OpenAI, Columns: Columns{Messages: "messages", Images: "images"}, Tags: MessageTags}
	for _, c := range []struct {
		attr      *Attr
		row, want string
	}{
		{&Attr{Formatting: Alpaca, Columns: DefaultColumns}, `{"output": "a"}`, `no column "instruction"; the record has output`},
		{&Attr{Formatting: Alpaca, Columns: DefaultColumns}, `{"instruction": 3}`, "column instruction: want a string, got number"},
		{&Attr{Formatting: Alpaca, Columns: DefaultColumns}, `{"instruction": ""}`, "empty prompt"},
		{&Attr{Formatting: Alpaca, Columns: Columns{Prompt: "p", History: "h"}}, `{"p": "x", "h": [["a"]]}`, "entry 0: want [question, answer], got 1"},
		{&Attr{Formatting: Alpaca, Ranking: true, Columns: Columns{Prompt: "p", Chosen: "c", Rejected: "r"}}, `{"p": "x", "c": "a"}`, `no column "r"`},
		{&Attr{Formatting: Alpaca, Columns: Columns{Prompt: "p", Response: "r", KTOTag: "k"}}, `{"p": "x", "r": "a", "k": "yes"}`, "want true or false"},
		{&Attr{Formatting: Text, Columns: Columns{Prompt: "text"}}, `{"text": "  "}`, "no text"},
		{sharegpt, `{"conversations": []}`, "no message"},
		{sharegpt, `{"conversations": "x"}`, "want a list of messages"},
		{sharegpt, `{"conversations": [{"from": "gpt", "value": "a"}]}`, "message 0: want user or a tool's result, got role assistant"},
		{sharegpt, `{"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]}`, "message 1: want an answer"},
		{sharegpt, `{"conversations": [{"from": "robot", "value": "a"}]}`, `got "robot"`},
		{sharegpt, `{"conversations": [{"value": "a"}]}`, `no "from"`},
		{openai, `{"messages": [{"role": "user", "content": [{"type": "smell"}]}]}`, `unknown type "smell"`},
		{openai, `{"messages": [{"role": "user", "content": "no mark"}, {"role": "assistant", "content": ""}], "images": ["a.png"]}`, "0 <image> in the text, 1 files"},
		{&Attr{Formatting: TRL, Ranking: true, Columns: Columns{Chosen: "chosen", Rejected: "rejected"}, Tags: MessageTags}, `{"chosen": "a", "rejected": "b"}`, "no prompt"},
	} {
		fields, err := parseObject([]byte(c.row))
		if err != nil {
			t.Fatal(err)
		}
		row := Row{File: "f.jsonl", Line: 7, Fields: fields}
		_, err = c.attr.Convert(&row, "")
		var bad *RowError
		if !errors.As(err, &bad) || bad.Line != 7 || !strings.HasPrefix(err.Error(), "data: f.jsonl:7: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", c.row, c.want, err)
		}
	}
}

func TestDatasetInfo(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, InfoFile, `{
		"plain": {"file_name": "a.json"},
		"wiki": {"file_name": "wiki.txt", "columns": {"prompt": "text"}},
		"pairs": {"file_name": "p.json", "ranking": true, "formatting": "sharegpt", "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}, "num_samples": 5},
		"chat": {"file_name": "c.json", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}},
		"hub": {"hf_hub_url": "a/b", "ms_hub_url": "c/d", "subset": "s", "folder": "f"},
		"script": {"script_url": "x.py"}
	}`)
	writeFile(t, dir, "direct.jsonl", `{"text": "t"}`)
	attrs, err := Find([]string{"plain", " wiki", "pairs", "chat", "hub", "direct.jsonl"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if a := attrs[0]; a.Formatting != Alpaca || a.Columns != DefaultColumns || a.Tags != DefaultTags || len(a.Paths) != 1 {
		t.Errorf("plain: %+v", a)
	}
	if a := attrs[1]; a.Columns != (Columns{Prompt: "text"}) {
		t.Errorf("wiki: naming columns has to clear the defaults, got %+v", a.Columns)
	}
	if a := attrs[2]; !a.Ranking || a.NumSamples != 5 || a.Tags != DefaultTags {
		t.Errorf("pairs: %+v", a)
	}
	if a := attrs[3]; a.Tags.System != "" || a.Tags.User != "user" {
		t.Errorf("chat: %+v", a.Tags)
	}
	if a := attrs[4]; a.HubURL != "a/b" || a.ModelScope != "c/d" || a.Subset != "s" || a.Folder != "f" {
		t.Errorf("hub: %+v", a)
	}
	if a := attrs[5]; !a.Detected || a.Formatting != Text {
		t.Errorf("direct: %+v", a)
	}
	for _, c := range []struct{ name, want string }{{"plian", `did you mean "plain"?`}, {"script", "loading scripts are Python"}, {"", "empty name"}} {
		if _, err := Find([]string{c.name}, dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: want an error with %q, got %v", c.name, c.want, err)
		}
	}
	for _, c := range []struct{ info, want string }{
		{`{"x": {"file_name": "a", "colums": {}}}`, "colums"},
		{`{"x": {"file_name": "a", "formatting": "csv"}}`, "formatting"},
		{`{"x": {}}`, "want file_name"},
		{`{"x": {"file_name": 3}}`, "file_name"},
		{`[]`, InfoFile},
	} {
		bad := t.TempDir()
		writeFile(t, bad, InfoFile, c.info)
		if _, err := Find([]string{"x"}, bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", c.info, c.want, err)
		}
	}
}

func TestDetectRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ file, text, want string }{
		{"empty.jsonl", "", "empty dataset"},
		{"blank.txt", "\n \n", "empty dataset"},
		{"array.json", "[]", "empty dataset"},
		{"broken.jsonl", "{\n[\n", "broken.jsonl:1"},
		{"odd.jsonl", `{"foo": 1}`, "unknown columns foo"},
		{"odd2.jsonl", `{"messages": "x"}`, "column messages"},
	} {
		if _, err := Detect(writeFile(t, dir, c.file, c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", c.file, c.want, err)
		}
	}
}

func TestTextUnitIsDetected(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{"a\nb\n": "line", "a\nb\n\nc\n": "paragraph", "a\r\n\r\nb": "paragraph"} {
		a, err := Detect(writeFile(t, dir, "a.txt", text))
		if err != nil {
			t.Fatal(err)
		}
		if a.TextUnit != want {
			t.Errorf("%q: want %s, got %s", text, want, a.TextUnit)
		}
	}
}

func FuzzConvert(f *testing.F) {
	for _, s := range []string{
		`{"messages": [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "tool_calls": [{"function": {"a": [1, "x"]}}]}], "images": [{"path": "x"}], "tools": [1]}`,
		`{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"value": 3}}`,
		`{"instruction": "a", "input": null, "output": [], "history": [["a", "b"]], "kto_tag": true}`,
		`{"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}`,
		`{"prompt": [{"role": "tool"}], "completion": "x", "label": 3}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fields, err := parseObject([]byte(s))
		if err != nil {
			return
		}
		if !json.Valid([]byte(s)) {
			t.Fatalf("invalid JSON passed: %q", s)
		}
		row := Row{File: "f", Line: 1, Fields: fields}
		a, err := detectRow(&row)
		if err != nil {
			return
		}
		ex, err := a.Convert(&row, os.DevNull)
		if err != nil {
			return
		}
		if err := alternate(ex.Prompt); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if ex.Text == "" && (len(ex.Prompt)%2 == 0 || len(ex.Answers) > 2) {
			t.Errorf("%s: %d prompt turns, %d answers", s, len(ex.Prompt), len(ex.Answers))
		}
	})
}

// LLaMA-Factory's newer format: parts with a value, thoughts and calls among them, and weights of messages.
func TestConvertParts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "parts.jsonl")
	row := `{"messages": [{"role": "system", "content": [{"type": "text", "value": "Be kind."}], "loss_weight": 0.0},
		{"role": "user", "content": [{"type": "text", "value": "Hi"}, {"type": "image_url", "value": "a.png"}]},
		{"role": "assistant", "content": [{"type": "text", "value": "Hello"}], "loss_weight": 0.0},
		{"role": "user", "content": "Call"},
		{"role": "assistant", "content": [{"type": "reasoning", "value": "They want f."}, {"type": "tool_call", "value": "{\"name\": \"f\", \"arguments\": {}}"}], "loss_weight": 1.0}]}`
	bad := `{"messages": [{"role": "user", "content": [{"type": "text"}]}, {"role": "assistant", "content": "x"}]}`
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(row, "\n", " ")+"\n"+bad+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	attrs, err := Find([]string{path}, dir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := Open(attrs[0].Paths, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	first, err := files.Next()
	if err != nil {
		t.Fatal(err)
	}
	ex, err := attrs[0].Convert(&first, dir)
	if err != nil {
		t.Fatal(err)
	}
	if ex.System != "Be kind." || len(ex.Prompt) != 3 || ex.Prompt[0].Content != "Hi<image>" || !ex.Prompt[1].NoLoss || len(ex.Images) != 1 {
		t.Errorf("got %+v", ex)
	}
	if a := ex.Answers[0]; a.Role != Function || a.Reasoning != "They want f." || a.Content != `[{"name": "f", "arguments": {}}]` || a.NoLoss {
		t.Errorf("answer %+v", a)
	}
	second, err := files.Next()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attrs[0].Convert(&second, dir); err == nil || !strings.Contains(err.Error(), "without a text") {
		t.Errorf("a part without a text: %v", err)
	}
}
