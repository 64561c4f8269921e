package chat

// Roles of a message. OpenAI's names; Observation and Function are what LLaMA-Factory's datasets call a tool's result
// and an assistant message that calls functions.
const (
	System      = "system"
	User        = "user"
	Assistant   = "assistant"
	Tool        = "tool"
	Observation = "observation"
	Function    = "function"
)

// Interpreter is the tool that runs Python code, by ChatGLM3's name.
const Interpreter = "interpreter"

// Turn is a message as the prompt formats of LLaMA-Factory know it: text alone. The text of a Function turn is the JSON
// of the calls, [{"name": ..., "arguments": {...}}, ...], which may stand behind the reasoning.
type Turn struct {
	Role    string // User, Assistant, Observation or Function
	Content string
}
