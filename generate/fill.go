package generate

import (
	"context"
	"fmt"
	"slices"

	"danlu/family"
	"danlu/tokenizer"
)

// BlankPrompt is a text as GLM's families read it: with [gMASK] behind it where it has no blank, and the start of the
// piece that fills the first one. A text that has a start of piece already stays as it is.
func BlankPrompt(text []int32, b tokenizer.Blanks) ([]int32, error) {
	if b.SOP < 0 || b.EOP < 0 {
		return nil, fmt.Errorf("generate: the vocabulary has no start and end of piece, with which blanks are filled")
	}
	if slices.Contains(text, b.SOP) {
		return text, nil
	}
	prompt := slices.Clone(text)
	if len(b.Masks(prompt)) == 0 {
		if b.GMask < 0 {
			return nil, fmt.Errorf("generate: the text has no blank and the vocabulary no [gMASK]")
		}
		prompt = append(prompt, b.GMask)
	}
	return append(prompt, b.SOP), nil
}

// Filled is a text whose blanks are filled.
type Filled struct {
	IDs    []int32  // the text with the pieces in the places of the masks
	Pieces []Result // in the order of the masks in the text
}

// Fill fills the blanks of a text one after another, each in view of those before, as GLM was trained (arXiv:2103.10360).
// req says how each piece is drawn; its Prompt is not looked at.
func (r *Runner) Fill(ctx context.Context, s *Sequence, text []int32, req Request) (Filled, error) {
	f, ok := r.model.(family.BlankFiller)
	if !ok {
		return Filled{}, fmt.Errorf("generate: the %s family fills no blanks", r.model.Info().Family)
	}
	b := f.Blanks()
	read, err := BlankPrompt(text, b)
	if err != nil {
		return Filled{}, err
	}
	order := b.Masks(read)
	pieces := make(map[int]Result, len(order))
	req.End = append(slices.Clone(req.End), b.EOP)
	for i, at := range order {
		if i > 0 {
			read = append(read, b.SOP)
		}
		req.Prompt = read[len(s.IDs):]
		res, err := r.Generate(ctx, s, req)
		if err != nil {
			return Filled{}, err
		}
		pieces[at] = res
		for _, t := range res.Tokens {
			read = append(read, t.ID)
		}
		if res.Stop == StopCancel || res.Stop == StopContext {
			break
		}
	}
	return splice(text, order, pieces), nil
}

// splice puts pieces into the places of the masks. A mask beyond the text was added behind it.
func splice(text []int32, order []int, pieces map[int]Result) Filled {
	slices.Sort(order)
	var out Filled
	last := 0
	for _, at := range order {
		res, ok := pieces[at]
		if !ok { // the context ended before
			continue
		}
		out.IDs = append(out.IDs, text[last:min(at, len(text))]...)
		last = min(at+1, len(text))
		out.Pieces = append(out.Pieces, res)
		for _, t := range res.Tokens {
			out.IDs = append(out.IDs, t.ID)
		}
	}
	out.IDs = append(out.IDs, text[last:]...)
	return out
}
