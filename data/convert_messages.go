package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// message is one entry of a conversation; the keys for role and content depend on the dataset's tags.
type message map[string]json.RawMessage

func (m message) text(key string) (string, error) {
	raw, ok := m[key]
	if !ok || string(raw) == "null" {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("%s: want a string, got %s", key, kindOfJSON(raw))
	}
	return s, nil
}

// content returns the text of a message. A list of OpenAI content parts becomes text with <image>, <video> and <audio>
// placeholders, and the media are added to the example. Parts may hold a thought (reasoning) and function calls, as
// LLaMA-Factory's newer format has them, whose parts keep what they hold under "value".
func (c *converter) content(m message, t *Turn) (string, error) {
	key := c.attr.Tags.Content
	raw := m[key]
	if len(raw) == 0 || raw[0] != '[' {
		return m.text(key)
	}
	var parts []struct {
		Type     string          `json:"type"`
		Text     *string         `json:"text"`
		Value    json.RawMessage `json:"value"`
		Image    json.RawMessage `json:"image"`
		ImageURL json.RawMessage `json:"image_url"`
		Video    json.RawMessage `json:"video"`
		VideoURL json.RawMessage `json:"video_url"`
		Audio    json.RawMessage `json:"audio"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", fmt.Errorf("%s: want a string or a list of content parts: %v", key, err)
	}
	var b strings.Builder
	var calls []json.RawMessage
	for i, p := range parts {
		var mark, text string
		var to *[]string
		var value json.RawMessage
		switch {
		case p.Text != nil:
			text = *p.Text
		case (p.Type == "text" || p.Type == "" || p.Type == "reasoning" || p.Type == "tool_call") && json.Unmarshal(p.Value, &text) != nil:
			return "", fmt.Errorf("%s: part %d: a %s without a text", key, i, p.Type)
		}
		switch p.Type {
		case "text", "":
			b.WriteString(text)
			continue
		case "reasoning":
			t.Reasoning += text
			continue
		case "tool_call":
			if !json.Valid([]byte(text)) {
				return "", fmt.Errorf("%s: part %d: want a function call as JSON, got %q", key, i, text)
			}
			calls = append(calls, json.RawMessage(`{"function":`+text+`}`))
			continue
		case "image", "image_url":
			mark, to, value = "<image>", &c.ex.Images, firstOf(p.Image, p.ImageURL, p.Value)
		case "video", "video_url":
			mark, to, value = "<video>", &c.ex.Videos, firstOf(p.Video, p.VideoURL, p.Value)
		case "audio":
			mark, to, value = "<audio>", &c.ex.Audios, firstOf(p.Audio, p.Value)
		default:
			return "", fmt.Errorf("%s: part %d: unknown type %q", key, i, p.Type)
		}
		b.WriteString(mark)
		var s string
		var object struct {
			URL string `json:"url"`
		}
		switch {
		case len(value) == 0 || string(value) == "null": // TRL keeps the images in a column of their own
		case json.Unmarshal(value, &s) == nil:
			*to = append(*to, s)
		case json.Unmarshal(value, &object) == nil && object.URL != "":
			*to = append(*to, object.URL)
		default:
			return "", fmt.Errorf("%s: part %d: want a path or {url}", key, i)
		}
	}
	if calls != nil {
		var err error
		if t.ToolCalls, err = json.Marshal(calls); err != nil {
			return "", fmt.Errorf("%s: %v", key, err)
		}
	}
	return b.String(), nil
}

func firstOf(list ...json.RawMessage) json.RawMessage {
	for _, raw := range list {
		if len(raw) > 0 {
			return raw
		}
	}
	return nil
}

// turn converts one message of a conversation.
func (c *converter) turn(m message) (Turn, error) {
	tags := c.attr.Tags
	role, err := m.text(tags.Role)
	if err != nil {
		return Turn{}, err
	}
	var t Turn
	if t.Content, err = c.content(m, &t); err != nil {
		return Turn{}, err
	}
	switch {
	case role == "":
		return Turn{}, fmt.Errorf("no %q", tags.Role)
	case role == tags.User:
		t.Role = User
	case role == tags.Assistant:
		t.Role = Assistant
	case role == tags.Observation:
		t.Role = Observation
	case role == tags.Function:
		t.Role = Function
	case role == tags.System, c.attr.Formatting != ShareGPT && role == "developer":
		t.Role = System
	default:
		return Turn{}, fmt.Errorf("%s: want one of %s, got %q", tags.Role, strings.Join(tags.words(), ", "), role)
	}
	if t.Role == Assistant || t.Role == Function {
		thought, err := m.text("reasoning_content")
		if err != nil {
			return Turn{}, err
		}
		t.Reasoning += thought
		if raw := firstOf(t.ToolCalls, m["tool_calls"]); len(raw) > 0 && string(raw) != "null" && string(raw) != "[]" {
			calls, err := functionCalls(raw)
			if err != nil {
				return Turn{}, err
			}
			t.Role, t.ToolCalls, t.Content = Function, raw, calls
		}
		for _, name := range []string{"weight", "loss_weight"} {
			if raw, ok := m[name]; ok && (string(raw) == "0" || string(raw) == "0.0") {
				t.NoLoss = true
			}
		}
		if raw, ok := m["train"]; ok && string(raw) == "false" {
			t.NoLoss = true
		}
	}
	return t, nil
}

func (t Tags) words() []string {
	var words []string
	for _, w := range []string{t.User, t.Assistant, t.Observation, t.Function, t.System} {
		if w != "" {
			words = append(words, w)
		}
	}
	return words
}

// functionCalls reduces OpenAI tool calls to the JSON list of their functions, spaced as Python's json.dumps does,
// because that text is what LLaMA-Factory's tool formats read.
func functionCalls(raw json.RawMessage) (string, error) {
	var calls []struct {
		Function json.RawMessage `json:"function"`
	}
	if err := json.Unmarshal(raw, &calls); err != nil {
		return "", fmt.Errorf("tool_calls: want a list of {function}: %v", err)
	}
	var b bytes.Buffer
	b.WriteByte('[')
	for i, call := range calls {
		if len(call.Function) == 0 || call.Function[0] != '{' {
			return "", fmt.Errorf("tool_calls: entry %d: no function", i)
		}
		if i > 0 {
			b.WriteString(", ")
		}
		spaceJSON(&b, call.Function)
	}
	b.WriteByte(']')
	return b.String(), nil
}

// spaceJSON writes valid JSON with ", " and ": " as separators and no other white space.
func spaceJSON(out *bytes.Buffer, raw []byte) {
	for i := 0; i < len(raw); {
		switch c := raw[i]; c {
		case ' ', '\n', '\t', '\r':
			i++
		case '"':
			end := skipString(raw, i)
			var s string
			if err := json.Unmarshal(raw[i:end], &s); err != nil {
				s = string(raw[i:end])
			}
			out.Write(quoteJSON(s))
			i = end
		case ',', ':':
			out.WriteByte(c)
			out.WriteByte(' ')
			i++
		default:
			out.WriteByte(c)
			i++
		}
	}
}

// turns converts a list of messages; a leading system message becomes the example's system text, and tool results that
// follow each other become one observation.
func (c *converter) turns(raw json.RawMessage) ([]Turn, error) {
	var messages []message
	if err := json.Unmarshal(raw, &messages); err != nil {
		return nil, fmt.Errorf("want a list of messages, got %s", kindOfJSON(raw))
	}
	var turns []Turn
	for i, m := range messages {
		t, err := c.turn(m)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		if t.Role == System {
			if i != 0 {
				return nil, fmt.Errorf("message %d: a system message has to come first", i)
			}
			c.ex.System = t.Content
			continue
		}
		if n := len(turns); t.Role == Observation && n > 0 && turns[n-1].Role == Observation && c.attr.Formatting != ShareGPT {
			turns[n-1].Content += "\n</tool_response>\n<tool_response>\n" + t.Content
			continue
		}
		turns = append(turns, t)
	}
	return turns, nil
}

// alternate checks that turns alternate between asking and answering, starting with an asking one.
func alternate(turns []Turn) error {
	for i, t := range turns {
		if t.asks() != (i%2 == 0) {
			want := "user or a tool's result"
			if i%2 == 1 {
				want = "an answer"
			}
			return fmt.Errorf("message %d: want %s, got role %s", i, want, t.Role)
		}
	}
	return nil
}

func (c *converter) conversation() error {
	col := c.attr.Columns
	f, ok := c.row.Get(col.Messages)
	if !ok {
		return fmt.Errorf("no column %q; the record has %s", col.Messages, strings.Join(c.row.Names(), ", "))
	}
	turns, err := c.turns(f.JSON())
	if err != nil {
		return fmt.Errorf("column %s: %w", col.Messages, err)
	}
	if len(turns) == 0 {
		return fmt.Errorf("column %s: no message", col.Messages)
	}
	if err := alternate(turns); err != nil {
		return fmt.Errorf("column %s: %w", col.Messages, err)
	}
	if c.attr.Ranking {
		if len(turns)%2 == 0 {
			return fmt.Errorf("column %s: a preference record has to end with a question, got %d messages", col.Messages, len(turns))
		}
		c.ex.Prompt = turns
		return c.pair(c.answer)
	}
	last := len(turns) - 1
	if turns[last].asks() {
		// Prompts alone serve PPO and GRPO; supervised stages refuse them when they encode.
		c.ex.Prompt = turns
		return nil
	}
	c.ex.Prompt, c.ex.Answers = turns[:last], turns[last:]
	return c.label()
}

// answer reads a chosen or rejected value: a string, a message, or a list whose last message is the answer.
func (c *converter) answer(f Field) (Turn, error) {
	if s, ok := f.String(); ok && f.JSON()[0] == '"' {
		return Turn{Role: Assistant, Content: s}, nil
	}
	raw := f.JSON()
	if raw[0] == '[' {
		turns, err := c.turns(raw)
		if err != nil {
			return Turn{}, err
		}
		if len(turns) == 0 {
			return Turn{}, errors.New("no message")
		}
		return turns[len(turns)-1], nil
	}
	var m message
	if err := json.Unmarshal(raw, &m); err != nil {
		return Turn{}, fmt.Errorf("want a message, got %s", kindOfJSON(raw))
	}
	return c.turn(m)
}

// asTurns reads a TRL value: a string becomes one turn of the given role, a list its messages.
func (c *converter) asTurns(f Field, role string) ([]Turn, error) {
	raw := f.JSON()
	if raw[0] == '[' {
		return c.turns(raw)
	}
	s, ok := f.String()
	if !ok {
		return nil, fmt.Errorf("want a string or a list of messages, got %s", f.kind())
	}
	return []Turn{{Role: role, Content: s}}, nil
}

func (c *converter) trl() error {
	col := c.attr.Columns
	var prompt []Turn
	if f, ok := c.row.Get(col.Prompt); ok && !f.IsNull() {
		turns, err := c.asTurns(f, User)
		if err != nil {
			return fmt.Errorf("column %s: %w", col.Prompt, err)
		}
		prompt = turns
	} else if !c.attr.Ranking {
		return fmt.Errorf("no column %q; the record has %s", col.Prompt, strings.Join(c.row.Names(), ", "))
	}
	if c.attr.Ranking {
		return c.trlPair(prompt)
	}
	for i := range prompt {
		prompt[i].NoLoss = true
	}
	var completion []Turn
	if f, ok := c.row.Get(col.Response); ok && !f.IsNull() {
		turns, err := c.asTurns(f, Assistant)
		if err != nil {
			return fmt.Errorf("column %s: %w", col.Response, err)
		}
		completion = turns
	}
	all := append(prompt, completion...)
	if err := alternate(all); err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.New("no message")
	}
	if last := len(all) - 1; all[last].asks() {
		c.ex.Prompt = all
	} else {
		c.ex.Prompt, c.ex.Answers = all[:last], all[last:]
	}
	return c.label()
}

// trlPair reads chosen and rejected as strings or conversations. Conversations may repeat the prompt (an implicit
// prompt, as in Anthropic's HH data): what both share up to the last message is the prompt.
func (c *converter) trlPair(prompt []Turn) error {
	var sides [2][]Turn
	for i, column := range []string{c.attr.Columns.Chosen, c.attr.Columns.Rejected} {
		f, ok := c.row.Get(column)
		if !ok || f.IsNull() {
			return fmt.Errorf("no column %q; the record has %s", column, strings.Join(c.row.Names(), ", "))
		}
		turns, err := c.asTurns(f, Assistant)
		if err != nil {
			return fmt.Errorf("column %s: %w", column, err)
		}
		if len(turns) == 0 {
			return fmt.Errorf("column %s: no message", column)
		}
		sides[i] = turns
	}
	if len(sides[0]) > 1 || len(sides[1]) > 1 {
		shared := 0
		for shared < len(sides[0])-1 && shared < len(sides[1])-1 && sides[0][shared].Role == sides[1][shared].Role && sides[0][shared].Content == sides[1][shared].Content {
			shared++
		}
		if shared != len(sides[0])-1 || shared != len(sides[1])-1 {
			return errors.New("chosen and rejected differ before their last message")
		}
		if len(prompt) == 0 || prompt[0].Content == sides[0][0].Content {
			prompt = sides[0][:shared]
		} else {
			prompt = append(prompt, sides[0][:shared]...)
		}
		sides[0], sides[1] = sides[0][shared:], sides[1][shared:]
	} else if len(prompt) == 0 {
		// HH transcripts as text: "\n\nHuman: ...\n\nAssistant: ..." with a shared beginning.
		if err := splitTranscripts(&prompt, sides[0], sides[1]); err != nil {
			return err
		}
	}
	if len(prompt)%2 == 0 {
		return fmt.Errorf("a preference record has to end with a question, got %d messages before the answers", len(prompt))
	}
	if err := alternate(prompt); err != nil {
		return err
	}
	for _, s := range sides {
		if s[0].asks() {
			return fmt.Errorf("want an answer, got role %s", s[0].Role)
		}
	}
	c.ex.Prompt = prompt
	c.ex.Answers = []Turn{sides[0][0], sides[1][0]}
	return nil
}

// splitTranscripts reads the text form of Anthropic's HH data.
func splitTranscripts(prompt *[]Turn, chosen, rejected []Turn) error {
	const human, assistant = "\n\nHuman: ", "\n\nAssistant: "
	at := strings.LastIndex(chosen[0].Content, assistant)
	if at < 0 || !strings.HasPrefix(chosen[0].Content, human) || !strings.HasPrefix(rejected[0].Content, chosen[0].Content[:at]+assistant) {
		return errors.New("no prompt: give a prompt column, message lists, or transcripts that share all but the last answer")
	}
	for _, round := range strings.Split(chosen[0].Content[:at], human)[1:] {
		q, a, answered := strings.Cut(round, assistant)
		*prompt = append(*prompt, Turn{Role: User, Content: q})
		if answered {
			*prompt = append(*prompt, Turn{Role: Assistant, Content: a})
		}
	}
	rejected[0].Content = rejected[0].Content[at+len(assistant):]
	chosen[0].Content = chosen[0].Content[at+len(assistant):]
	return nil
}
