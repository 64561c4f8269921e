package eval

import (
	"context"

	"danlu/chat/jinja"
)

// Request is a question to a model.
type Request struct {
	Output     Output     `json:"output"`            // Likelihood, Rolling or Generate
	Context    string     `json:"context,omitempty"` // the prompt
	Target     string     `json:"target,omitempty"`  // the text that is scored
	Generation Generation `json:"generation"`
	Repeat     int        `json:"repeat,omitempty"` // which of several answers to the same prompt: the seed
}

// Response is what a model says to a Request.
type Response struct {
	LogLikelihood float64 `json:"ll,omitempty"`     // natural logarithm
	Greedy        bool    `json:"greedy,omitempty"` // every token of the target is the most likely one
	Text          string  `json:"text,omitempty"`
	Cut           bool    `json:"cut,omitempty"` // the text ended at its limit of tokens
}

// Usage counts a model's work.
type Usage struct {
	Prompt    int64 `json:"prompt_tokens"`    // of all requests, targets included
	Read      int64 `json:"read_tokens"`      // that went through the model: what prompts share is read once
	Generated int64 `json:"generated_tokens"` // of answers
	Shortened int64 `json:"shortened"`        // prompts that lost their beginning, since they did not fit
}

func (u Usage) minus(v Usage) Usage {
	return Usage{u.Prompt - v.Prompt, u.Read - v.Read, u.Generated - v.Generated, u.Shortened - v.Shortened}
}

// Model answers requests.
type Model interface {
	// Name is what reports call the model.
	Name() string
	// Identity says what answers depend on besides the request: a cache holds for it alone.
	Identity() string
	// Answer answers requests, in any order, and tells done of each as it is there; done is not called concurrently.
	Answer(ctx context.Context, requests []Request, done func(i int, r Response) error) error
	// Template renders a conversation by the model's chat template. open begins an answer; else the last message stays open.
	Template(messages []*jinja.Dict, open bool) (string, error)
	// Usage is the work since the model was made.
	Usage() Usage
}
