package generate

import (
	"context"
	"fmt"
	"math"

	"danlu/family"
)

// Perplexity is how well a model predicts a text.
type Perplexity struct {
	NLL    float64 // negative log-likelihood of the scored tokens, natural log
	Scored int
	// Windows are the perplexities after each window.
	Windows []float64
}

// Value is e to the mean negative log-likelihood.
func (p *Perplexity) Value() float64 { return math.Exp(p.NLL / float64(p.Scored)) }

// scorePass is the number of tokens of a pass whose logits are all held.
const scorePass = 128

// PerplexityOptions says how a text is cut.
type PerplexityOptions struct {
	Window int   // tokens of a window; windows do not overlap, and a last partial one is dropped
	BOS    int32 // takes the place of the first token of each window; negative: none
	// Progress, if set, is called with the windows read so far and in all.
	Progress func(done, total int)
	// Logits, if set, is called with the logits from which each scored token is predicted, in order.
	Logits func(logits []float32)
}

// WindowContext is the context that a runner needs for windows of so many tokens: GLM's families read two more.
func WindowContext(m family.Model, window int) int {
	if _, ok := m.(family.BlankFiller); ok {
		return window + 2
	}
	return window
}

// Perplexity scores the tokens of each window's second half given all before them in the window, as llama.cpp does.
func (r *Runner) Perplexity(ctx context.Context, ids []int32, o PerplexityOptions) (*Perplexity, error) {
	if most := r.opts.Context - WindowContext(r.model, 0); o.Window < 4 || o.Window > most {
		return nil, fmt.Errorf("generate: perplexity: want windows of 4 to %d tokens, got %d", most, o.Window)
	}
	windows := len(ids) / o.Window
	if windows == 0 {
		return nil, fmt.Errorf("generate: perplexity: a text of %d tokens has no window of %d", len(ids), o.Window)
	}
	p := &Perplexity{}
	for w := range windows {
		if err := r.scoreWindow(ctx, p, append([]int32(nil), ids[w*o.Window:(w+1)*o.Window]...), o); err != nil {
			return nil, err
		}
		p.Windows = append(p.Windows, p.Value())
		if o.Progress != nil {
			o.Progress(w+1, windows)
		}
	}
	return p, nil
}

// scoreWindow adds up the tokens behind the first of a window's second half, which GLM's families read as the piece that
// fills a [gMASK] behind the first half.
func (r *Runner) scoreWindow(ctx context.Context, p *Perplexity, ids []int32, o PerplexityOptions) error {
	if o.BOS >= 0 {
		ids[0] = o.BOS
	}
	read, first := ids, len(ids)/2
	if f, ok := r.model.(family.BlankFiller); ok {
		prompt, err := BlankPrompt(ids[:first], f.Blanks())
		if err != nil {
			return err
		}
		read, first = append(prompt, ids[first:]...), len(prompt)
	}
	s, err := r.Open()
	if err != nil {
		return err
	}
	defer r.Close(s)
	for len(s.IDs) < len(read) {
		at := len(s.IDs)
		room := min(scorePass, r.opts.Chunk)
		if at < first {
			room = min(first-at, r.opts.Chunk)
		}
		work := r.Next(s, read, room)
		work.Logits = 0
		if at >= first {
			work.Logits = len(work.IDs)
		}
		logits, err := r.Run(ctx, []Work{work})
		if err != nil {
			return err
		}
		for i, row := range logits {
			if next := at + i + 1; next < len(read) {
				p.NLL += logSumExp(row) - float64(row[read[next]])
				p.Scored++
				if o.Logits != nil {
					o.Logits(row)
				}
			}
		}
	}
	return nil
}
