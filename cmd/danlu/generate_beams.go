package main

import (
	"errors"
	"fmt"
	"math"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"danlu/chat"
	"danlu/generate"
	"danlu/internal/locale"
)

// beamFlags are the flags of danlu generate that search instead of drawing.
type beamFlags struct {
	n       int
	penalty float64
}

func (b *beamFlags) flags(f *pflag.FlagSet) {
	f.IntVar(&b.n, "beams", 0, locale.Text("search for the most probable answer with so many beams; 0: do not search", "以指定束宽搜索概率最大的回答；0 表示不搜索"))
	f.Float64Var(&b.penalty, "length-penalty", 1, locale.Text("with --beams: log-probabilities are divided by the length to this power", "配合 --beams：对数概率除以长度的该次幂"))
}

// check refuses what a search cannot honour.
func (b *beamFlags) check(w generate.Writing, drafts, fills bool) error {
	switch s := w.Sampling; {
	case b.n == 0:
		return nil
	case b.n < 1 || b.n > 64:
		return fmt.Errorf("--beams: want 1 to 64, got %d", b.n)
	case math.IsNaN(b.penalty) || math.Abs(b.penalty) > 100:
		return fmt.Errorf("--length-penalty: want -100 to 100, got %v", b.penalty)
	case w.Form != nil || drafts || fills || w.Pictures != nil || len(w.Stops) > 0:
		return errors.New("--beams: cannot be combined with --grammar, --json-schema, --draft, --stop, pictures or blanks")
	case s.Temperature != 0 || s.RepetitionPenalty > 1:
		return errors.New("--beams: searches and does not sample: want --temperature 0 and no --repetition-penalty")
	}
	return nil
}

// search prints the best answer, or all beams as JSON.
func (b *beamFlags) search(cmd *cobra.Command, o *options, r *generate.Runner, w generate.Writing) error {
	found, err := r.Search(cmd.Context(), w.Prompt, generate.BeamSearch{Beams: b.n, LengthPenalty: b.penalty, MaxNew: min(w.MaxNew, r.Context()-len(w.Prompt)), End: w.End})
	if err != nil {
		return failure{err, exitFail}
	}
	text := func(x generate.Beam) string {
		if w.Tokenizer == nil {
			return fmt.Sprint(x.IDs)
		}
		return chat.Decode(w.Tokenizer, x.IDs, w.Keep)
	}
	if !o.json {
		fmt.Println(text(found[0]))
		return nil
	}
	list := []map[string]any{}
	for _, x := range found {
		list = append(list, map[string]any{"ids": x.IDs, "text": text(x), "score": x.Score, "logprob": x.LogProb})
	}
	return printJSON(map[string]any{"beams": list, "prompt_tokens": len(w.Prompt)})
}
