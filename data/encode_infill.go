package data

import (
	"errors"
	"strings"
)

// InfillEncoder serves GLM's pretraining: texts whole, of which the loader draws blanks, and instructions (records with
// an answer) as GLM-130B has them in pretraining: prompt, [gMASK], sop, answer, eop, with answer and eop scored.
type InfillEncoder struct {
	TextEncoder
	Tokens  GLMTokens
	Longest int // tokens of an instruction's row; longer ones are cut as LLaMA-Factory cuts them
}

// Encode implements Encoder.
func (e *InfillEncoder) Encode(ex *Example) (*Sample, error) {
	if len(ex.Answers) == 0 {
		return e.TextEncoder.Encode(ex)
	}
	var said []string
	for _, t := range append([]Turn{{Content: ex.System}}, ex.Prompt...) {
		if t.Content != "" {
			said = append(said, t.Content)
		}
	}
	prompt, answer := e.Tokenizer.Encode(strings.Join(said, "\n")), e.Tokenizer.Encode(ex.Answers[0].Content)
	if len(prompt) == 0 || len(answer) == 0 {
		return nil, errors.New("an instruction without a prompt or an answer")
	}
	s, t := splitBudget(len(prompt), len(answer), e.Longest-3) // for [gMASK], sop and eop
	l := ChatGLM6B(prompt[:s], answer[:t], e.Tokens, false)
	return &Sample{Sequences: []Sequence{{IDs: l.IDs, Labels: l.Labels}}, Truncated: s < len(prompt) || t < len(answer)}, nil
}
