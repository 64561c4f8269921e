package data

// Sequence is a row of token ids with its labels.
type Sequence struct {
	IDs    []int32
	Labels []int32 // nil: every token is scored
}

// Scored counts the labels that a causal model is trained on: those after the first token.
func (s Sequence) Scored() int {
	if s.Labels == nil {
		return max(len(s.IDs)-1, 0)
	}
	n := 0
	for i, l := range s.Labels {
		if i > 0 && l != Ignore {
			n++
		}
	}
	return n
}

// Sample is an encoded Example.
type Sample struct {
	// Sequences holds one row (pretraining, supervised, prompts) or two: chosen and rejected, or KTO's answer and the
	// mismatched answer of its KL estimate.
	Sequences []Sequence
	Label     bool // KTO
	Truncated bool // something was cut to fit cutoff_len
	Language  byte // index into Languages
	Source    int
	File      string
	Line      int64
	Images    []string
	Videos    []string
	Audios    []string
	Extra     map[string]string // unmapped columns: strings as text, others as JSON
}

// Languages are what a text is counted as: by the share of Han characters and Latin letters.
var Languages = []string{"other", "en", "zh"}

// language classifies a text. A Han character carries about as much as three Latin letters, so text is Chinese when Han
// characters times three outnumber the Latin letters.
func language(texts ...string) byte {
	han, latin := 0, 0
	for _, t := range texts {
		if len(t) > 4096 {
			t = t[:4096]
		}
		for _, r := range t {
			switch {
			case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
				latin++
			case r >= 0x3400 && r <= 0x9fff || r >= 0x20000 && r <= 0x323af || r >= 0xf900 && r <= 0xfaff:
				han++
			}
		}
	}
	switch {
	case han == 0 && latin == 0:
		return 0
	case 3*han >= latin:
		return 2
	}
	return 1
}

func (e *Example) language() byte {
	texts := []string{e.Text}
	for _, t := range e.Prompt {
		texts = append(texts, t.Content)
	}
	for _, t := range e.Answers {
		texts = append(texts, t.Content)
	}
	return language(texts...)
}
