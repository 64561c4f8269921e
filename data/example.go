package data

import "encoding/json"

// Roles of a turn. User and Observation (a tool's result) ask; Assistant and Function (a tool call) answer.
const (
	User        = "user"
	Assistant   = "assistant"
	Observation = "observation"
	Function    = "function"
	System      = "system"
)

// Turn is one message. Content of a Function turn is the JSON list of the called functions ({name, arguments}).
type Turn struct {
	Role      string
	Content   string
	Reasoning string          // reasoning_content of an OpenAI message
	ToolCalls json.RawMessage // tool_calls as given, for templates that render them
	NoLoss    bool            // an answer that is not to be scored (an answer inside a TRL prompt, weight 0)
}

func (t Turn) asks() bool { return t.Role == User || t.Role == Observation }

// Example is a record in the one form that all stages read.
type Example struct {
	Text   string // plain text for pretraining; then Prompt is empty
	System string
	Tools  string // JSON, or the dataset's own text
	// Prompt alternates asking and answering turns, starts and ends with an asking one.
	Prompt []Turn
	// Answers holds one answering turn (supervised, KTO), two (chosen, rejected) or none (prompts alone).
	Answers []Turn
	Label   *bool // KTO: whether the answer is a good one
	Images  []string
	Videos  []string
	Audios  []string
	Extra   []Field // columns not named by the Attr, such as a reward function's reference answer
	Source  int     // index of the dataset
	File    string
	Line    int64
}

// PlainText returns what a pretraining stage reads: Text, or the first turn of a record read as alpaca (LLaMA-Factory
// maps a text column to "prompt").
func (e *Example) PlainText() string {
	if e.Text == "" && len(e.Prompt) > 0 {
		return e.Prompt[0].Content
	}
	return e.Text
}

// Messages returns prompt and one answer as a single conversation.
func (e *Example) Messages(answer int) []Turn {
	turns := append([]Turn(nil), e.Prompt...)
	if answer < len(e.Answers) {
		turns = append(turns, e.Answers[answer])
	}
	return turns
}

// ExtraValue returns an unmapped column.
func (e *Example) ExtraValue(name string) (Field, bool) {
	for _, f := range e.Extra {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}
