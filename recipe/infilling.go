package recipe

import (
	"strings"
	"unicode/utf8"

	"danlu/data"
	"danlu/family"
	"danlu/tokenizer"
)

// infilling sets up GLM's objective and returns the encoder of its texts and instructions.
func (j *job) infilling(tok *tokenizer.Tokenizer, text data.TextEncoder) (data.Encoder, error) {
	f, ok := j.source.model.(family.BlankFiller)
	if !ok {
		return nil, j.Errorf("pretraining_objective", "infilling needs a model of the GLM family, which sees what is left of a text both ways; %s is %s", j.Model.Path, j.source.model.Info().Family)
	}
	d := &j.Data
	b := f.Blanks()
	for _, need := range []struct {
		id   int32
		text string
		used bool
	}{{b.Mask, "[MASK]", d.InfillShort > 0}, {b.GMask, "[gMASK]", true}, {b.SMask, "[sMASK]", d.InfillSentence > 0}, {b.SOP, "<sop>", true}, {b.EOP, "<eop>", true}} {
		if need.used && need.id < 0 {
			return nil, j.Errorf("pretraining_objective", "infilling needs %s in the vocabulary; give add_special_tokens: %s", need.text, strings.Join(tokenizer.BlankTokens, ","))
		}
	}
	tokens := data.GLMTokens{Mask: b.Mask, GMask: b.GMask, SMask: b.SMask, SOP: b.SOP, EOP: b.EOP, EOS: tok.EOS()}
	j.infill = &data.Infiller{Tokens: tokens, Short: d.InfillShort, Sentence: d.InfillSentence, MaskRatio: d.InfillMaskRatio, Lambda: d.InfillLambda,
		EndsSentence: sentenceEnds(tok), Number: f.Layout}
	return &data.InfillEncoder{TextEncoder: text, Tokens: tokens, Longest: d.CutoffLen}, nil
}

// sentenceEnds tells which tokens end a sentence: those whose text ends with a full stop or the like, or with a line.
func sentenceEnds(t *tokenizer.Tokenizer) func(id int32) bool {
	ends := make([]bool, t.VocabSize())
	for id := range ends {
		last, _ := utf8.DecodeLastRune(t.Bytes(int32(id)))
		ends[id] = strings.ContainsRune(".!?;\n。！？；…", last)
	}
	return func(id int32) bool { return int(id) < len(ends) && ends[id] }
}

// mixOf says how the datasets are mixed: as the recipe says, and with infilling_instruction_share so that instructions
// have their share of all tokens, the texts among each other being mixed as they come.
func (j *job) mixOf(store *data.Store, attrs []*data.Attr) (data.MixOptions, error) {
	opt := j.MixOptions(attrs)
	share := j.Data.InfillInstructions
	if j.infill == nil || share == 0 {
		return opt, nil
	}
	tokens, instructs, err := store.SourceTokens()
	if err != nil {
		return opt, err
	}
	sums := map[bool]float64{}
	for k, n := range tokens {
		sums[instructs[k]] += float64(n)
	}
	if sums[true] == 0 || sums[false] == 0 {
		return opt, j.Errorf("infilling_instruction_share", "needs datasets of both kinds: texts, and records with an answer")
	}
	opt.Strategy, opt.ByTokens, opt.Probs = data.InterleaveOver, true, make([]float64, len(tokens))
	for k, n := range tokens {
		part := 1 - share
		if instructs[k] {
			part = share
		}
		opt.Probs[k] = part * float64(n) / sums[instructs[k]]
	}
	return opt, nil
}
