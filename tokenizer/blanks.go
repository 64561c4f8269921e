package tokenizer

// Blanks are the tokens of GLM's blank infilling (arXiv:2103.10360); -1 where a vocabulary has none.
type Blanks struct {
	Mask, GMask, SMask int32 // stand for a short span, for all that follows, for a sentence
	SOP, EOP           int32 // start and end of a piece that fills a blank
}

// blankSpellings are the texts of the tokens in the order of the fields: GLM's, then those of GLM-130B and ChatGLM.
var blankSpellings = [5][]string{{"[MASK]"}, {"[gMASK]"}, {"[sMASK]"}, {"<|startofpiece|>", "<sop>", "sop"}, {"<|endofpiece|>", "<eop>", "eop"}}

// BlankTokens are the texts of a vocabulary's blank tokens where it is given new ones (Extend).
var BlankTokens = []string{"[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"}

func (b *Blanks) fields() [5]*int32 { return [5]*int32{&b.Mask, &b.GMask, &b.SMask, &b.SOP, &b.EOP} }

// Blanks finds the tokens by their texts. A plain piece that reads "sop" or "eop" is none.
func (t *Tokenizer) Blanks() Blanks {
	var b Blanks
	for i, f := range b.fields() {
		*f = -1
		for _, text := range blankSpellings[i] {
			if id, ok := t.ID(text); ok && *f < 0 && (text[0] == '[' || text[0] == '<' || t.Kind(id) != Normal) {
				*f = id
			}
		}
	}
	return b
}

// Missing are the texts of the tokens that are not there.
func (b Blanks) Missing() (texts []string) {
	for i, f := range b.fields() {
		if *f < 0 {
			texts = append(texts, BlankTokens[i])
		}
	}
	return texts
}

// Or is b with what it lacks taken from other.
func (b Blanks) Or(other Blanks) Blanks {
	theirs := other.fields()
	for i, f := range b.fields() {
		if *f < 0 {
			*f = *theirs[i]
		}
	}
	return b
}

// IsMask reports whether a token stands for a blank.
func (b Blanks) IsMask(id int32) bool {
	return id >= 0 && (id == b.Mask || id == b.GMask || id == b.SMask)
}

// Masks are the places of the masks in the order in which pieces fill them: those of [gMASK], then the others.
func (b Blanks) Masks(ids []int32) []int {
	var first, rest []int
	for i, id := range ids {
		switch {
		case id == b.GMask && id >= 0:
			first = append(first, i)
		case b.IsMask(id):
			rest = append(rest, i)
		}
	}
	return append(first, rest...)
}
