package generate

import (
	"context"
	"fmt"
	"math"
	"slices"

	"danlu/tokenizer"
)

// surest is the least probability of a guess: a less likely one costs more to read than it brings.
const surest = 0.4

// SmallModel guesses by a smaller model's most probable tokens.
type SmallModel struct {
	runner *Runner
	seq    *Sequence
	vocab  int
}

// NewSmallModel opens a sequence of a model whose tokens below vocab are those of the model that it guesses for.
func NewSmallModel(r *Runner, vocab int) (*SmallModel, error) {
	seq, err := r.Open()
	if err != nil {
		return nil, err
	}
	return &SmallModel{r, seq, vocab}, nil
}

// Draft implements Drafter.
func (m *SmallModel) Draft(ctx context.Context, text []int32, n int) ([]int32, error) {
	n = min(n, m.runner.Context()-len(text))
	if n <= 0 {
		return nil, nil
	}
	m.runner.Resume(m.seq, text, nil)
	all := slices.Clone(text)
	for range n {
		var logits [][]float32
		for len(m.seq.IDs) < len(all) {
			var err error
			if logits, err = m.runner.Run(ctx, []Work{m.runner.Next(m.seq, all, m.runner.Chunk())}); err != nil {
				return nil, err
			}
		}
		id, err := greedy(logits[0], nil)
		if err != nil {
			return nil, err
		}
		if int(id) >= m.vocab || math.Exp(float64(logits[0][id])-logSumExp(logits[0])) < surest {
			break
		}
		all = append(all, id)
	}
	return all[len(text):], nil
}

// Close implements Drafter.
func (m *SmallModel) Close() { m.runner.Close(m.seq) }

// SameVocabulary says where two vocabularies differ in the tokens that both have.
func SameVocabulary(a, b *tokenizer.Tokenizer) error {
	for id := range int32(min(a.VocabSize(), b.VocabSize())) {
		if x, y := a.Piece(id), b.Piece(id); x != y && a.Kind(id) != tokenizer.Unused && b.Kind(id) != tokenizer.Unused {
			return fmt.Errorf("generate: token %d is %q in one vocabulary and %q in the other", id, x, y)
		}
	}
	return nil
}

// CanDraft says why guesses of several tokens would change what the model writes, nil where they do not.
func (r *Runner) CanDraft() error {
	if !r.sharing.on {
		return fmt.Errorf("generate: keys of this model depend on the length that the text is to have, so that guesses would change its answers")
	}
	return nil
}
