package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"danlu/family"
	"danlu/generate"
	"danlu/tokenizer"
)

// blankText reads a text for GLM's families: the ids of the text behind what starts one. fills says that it has blanks
// to be filled, rather than a continuation to be written.
func blankText(f family.BlankFiller, t *tokenizer.Tokenizer, text string, parse bool) (ids []int32, fills bool) {
	if start := t.Encode("", tokenizer.Options{AddSpecial: true}); len(start) > 0 && start[0] == t.BOS() {
		ids = append(ids, start[0])
	}
	ids = append(ids, t.Encode(text, tokenizer.Options{ParseSpecial: parse})...)
	b := f.Blanks()
	for i, id := range ids {
		// A last [gMASK] stands for what follows the text.
		if b.IsMask(id) && (id != b.GMask || i+1 < len(ids)) {
			fills = true
		}
		if id == b.SOP && id >= 0 {
			return ids, false
		}
	}
	return ids, fills
}

// filled fills the blanks of the prompt and prints the text.
func filled(o *options, r *generate.Runner, cmd *cobra.Command, seq *generate.Sequence, w generate.Writing) error {
	f, err := r.Fill(cmd.Context(), seq, w.Prompt, w.Request)
	if err != nil {
		return failure{err, exitFail}
	}
	text := w.Tokenizer.Decode(f.IDs, true)
	if !o.json {
		fmt.Println(text)
		return nil
	}
	pieces := []map[string]any{}
	for _, p := range f.Pieces {
		ids, logprobs := []int32{}, []float64{}
		for _, t := range p.Tokens {
			ids, logprobs = append(ids, t.ID), append(logprobs, t.LogProb)
		}
		pieces = append(pieces, map[string]any{"text": w.Tokenizer.Decode(ids, true), "ids": ids, "logprobs": logprobs, "finish_reason": p.Stop})
	}
	return printJSON(map[string]any{"text": text, "pieces": pieces, "prompt_tokens": len(w.Prompt)})
}
