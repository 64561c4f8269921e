package family

import (
	"slices"

	"danlu/tokenizer"
)

// BlankFiller is implemented by the families that learn texts by filling blanks (GLM, GLM-130B, ChatGLM-6B).
type BlankFiller interface {
	Layouter
	// Blanks are the ids by which texts are laid out, SetBlanks replaces them. Configs of published models leave some or
	// all of them to the tokenizer.
	Blanks() tokenizer.Blanks
	SetBlanks(b tokenizer.Blanks)
}

// FindBlanks takes the ids that a model's config leaves out from its tokenizer. Models that fill no blanks stay as they
// are.
func FindBlanks(m Model, t *tokenizer.Tokenizer) {
	if f, ok := m.(BlankFiller); ok && t != nil {
		f.SetBlanks(f.Blanks().Or(t.Blanks()))
	}
}

// Prefixed reports whether the first tokens of a family's texts see each other both ways.
func Prefixed(m Model) bool {
	l, ok := m.(Layouter)
	if !ok {
		return false
	}
	_, prefix := l.Layout([]int32{-1}) // a token without a meaning of its own
	return prefix > 0
}

// blanks implements BlankFiller for the families that embed it, but for Layout.
type blanks struct{ tokens tokenizer.Blanks }

func (b *blanks) Blanks() tokenizer.Blanks     { return b.tokens }
func (b *blanks) SetBlanks(t tokenizer.Blanks) { b.tokens = t }

// blankKeys are the keys of config.json that hold the ids.
func blankKeys(b *tokenizer.Blanks) map[string]*int32 {
	return map[string]*int32{"mask_token_id": &b.Mask, "gmask_token_id": &b.GMask, "smask_token_id": &b.SMask, "sop_token_id": &b.SOP, "eop_token_id": &b.EOP}
}

// BlankConfig are the ids as a config.json holds them.
func BlankConfig(b tokenizer.Blanks) map[string]any {
	keys := map[string]any{}
	for key, id := range blankKeys(&b) {
		if *id >= 0 {
			keys[key] = *id
		}
	}
	return keys
}

// readBlanks reads the ids from a config.
func readBlanks(c *Config) blanks {
	var b blanks
	for key, id := range blankKeys(&b.tokens) {
		*id = int32(c.IntOr(key, -1))
	}
	return b
}

// layout numbers a text whose blanks are filled one after another: tokens before the first start of piece count up in the
// first row and see each other both ways; those of a piece have the position of the mask that it fills, and 1, 2, ... in
// the second row. Pieces fill the masks in the order of Blanks.Masks, so that one piece alone fills [gMASK], else the
// first mask, as in the released code. With counting the tokens that fill a [gMASK] go on counting in the first row.
func (b *blanks) layout(ids []int32, counting bool) (positions [][]int32, prefix int) {
	positions = [][]int32{make([]int32, len(ids)), make([]int32, len(ids))}
	prefix = len(ids)
	if at := slices.Index(ids, b.tokens.SOP); b.tokens.SOP >= 0 && at >= 0 {
		prefix = at
	}
	masks := b.tokens.Masks(ids[:prefix])
	piece, start := -1, prefix
	for i, id := range ids {
		positions[0][i] = int32(i)
		if i < prefix {
			continue
		}
		if id == b.tokens.SOP && piece+1 < max(1, len(masks)) {
			piece, start = piece+1, i
		}
		positions[1][i] = int32(i - start + 1)
		if len(masks) > 0 && !(counting && ids[masks[piece]] == b.tokens.GMask) {
			positions[0][i] = int32(masks[piece])
		}
	}
	return positions, prefix
}
