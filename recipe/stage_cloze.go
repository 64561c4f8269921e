package recipe

import (
	"context"
	"maps"
	"slices"
	"strings"

	"danlu/data"
	"danlu/family"
	"danlu/tensor"
	"danlu/tokenizer"
	"danlu/train"
)

func init() { stages["cloze"] = clozeTask }

// clozeTask learns a classification as a blank that one of several words fills, as GLM does.
func clozeTask(ctx context.Context, j *job) error {
	tok, err := j.tokenizer()
	if err != nil {
		return err
	}
	encoder, err := j.clozeEncoder(tok)
	if err != nil {
		return err
	}
	rows, err := j.rows(ctx, tok, encoder)
	if err != nil {
		return err
	}
	defer rows.close()
	model, err := j.model(tok)
	if err != nil {
		return err
	}
	defer model.store.Close()
	c := cloze{len(encoder.Labels)}
	done, err := j.train(ctx, training{model: model, rows: rows, objective: train.Cloze{Choices: c.choices}.Objective(), prepare: c.prepare, count: c.examples})
	if err != nil {
		return err
	}
	return j.report(done)
}

// clozeEncoder reads cloze_pattern and cloze_verbalizer.
func (j *job) clozeEncoder(tok *tokenizer.Tokenizer) (*data.ClozeEncoder, error) {
	f, ok := j.source.model.(family.BlankFiller)
	if !ok {
		return nil, j.Errorf("stage", "cloze needs a model of the GLM family, which fills blanks; %s is %s", j.Model.Path, j.source.model.Info().Family)
	}
	b := f.Blanks()
	if b.Mask < 0 || b.SOP < 0 || b.EOP < 0 {
		return nil, j.Errorf("stage", "cloze needs [MASK], <sop> and <eop> in the vocabulary; give add_special_tokens: %s", strings.Join(tokenizer.BlankTokens, ","))
	}
	e := &data.ClozeEncoder{Tokenizer: plainText{tok, false}, Tokens: data.GLMTokens{Mask: b.Mask, GMask: -1, SMask: -1, SOP: b.SOP, EOP: b.EOP, EOS: tok.EOS()},
		Pattern: j.Data.ClozePattern, Labels: slices.Sorted(maps.Keys(j.Data.ClozeWords)), CutoffLen: j.Data.CutoffLen}
	if bos := beginning(tok); bos >= 0 {
		e.Start = []int32{bos}
	}
	for _, label := range e.Labels {
		word, ok := j.Data.ClozeWords[label].(string)
		if !ok || word == "" {
			return nil, j.Errorf("cloze_verbalizer", "%s: want a word, got %v", label, j.Data.ClozeWords[label])
		}
		e.Words = append(e.Words, word)
	}
	return e, nil
}

// cloze adds to batches which of each example's rows is right.
type cloze struct{ choices int }

// prepare implements train.Options.Prepare.
func (c cloze) prepare(_ context.Context, st *data.Step) ([]*data.Step, error) {
	for _, x := range st.Batches {
		right, n := make([]float32, x.B), x.B/c.choices
		for i := range x.Rows / c.choices {
			s, err := x.Store.Sample(x.Samples[i][0])
			if err != nil {
				return nil, err
			}
			label, err := s.ClozeLabel()
			if err != nil {
				return nil, err
			}
			right[label*n+i] = 1
		}
		x.Extra = map[string]*tensor.Tensor{"right": vectorOf(right)}
	}
	return []*data.Step{st}, nil
}

// examples implements train.Options.Count.
func (c cloze) examples(st *data.Step) float64 {
	n := 0
	for _, x := range st.Batches {
		n += x.Rows / c.choices
	}
	return float64(n)
}
