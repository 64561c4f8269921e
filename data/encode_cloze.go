package data

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ClozeEncoder turns classification into blanks (arXiv:2103.10360, section 2.3): the record's columns go into a pattern
// with one [MASK], and each label's word is one way of filling it. A sample has a sequence for each word, of which the
// piece is scored.
type ClozeEncoder struct {
	Tokenizer Tokenizer
	Tokens    GLMTokens
	Start     []int32 // of every text
	Pattern   string  // {prompt} is the record's question, {NAME} another column
	Labels    []string
	Words     []string // what each label is called in the pattern
	CutoffLen int
}

// clozeColumn keeps the number of the record's label among a sample's other columns.
const clozeColumn = "danlu.cloze"

var clozeField = regexp.MustCompile(`\{[\pL_][\pL\pN_]*\}`)

// Encode implements Encoder. Of a text that is too long for cutoff_len the record's columns lose their ends.
func (c *ClozeEncoder) Encode(ex *Example) (*Sample, error) {
	if len(ex.Answers) != 1 {
		return nil, fmt.Errorf("cloze: want one answer, the label, got %d", len(ex.Answers))
	}
	label := slices.Index(c.Labels, strings.TrimSpace(ex.Answers[0].Content))
	if label < 0 {
		return nil, fmt.Errorf("cloze: the label %q has no word in cloze_verbalizer; there are %s", ex.Answers[0].Content, strings.Join(c.Labels, ", "))
	}
	words := make([][]int32, len(c.Words))
	longest := 0
	for k, w := range c.Words {
		words[k] = c.Tokenizer.Encode(w)
		longest = max(longest, len(words[k]))
	}
	text, truncated, err := c.text(ex, c.CutoffLen-longest-2) // for sop and eop
	if err != nil {
		return nil, err
	}
	s := &Sample{Truncated: truncated, Extra: map[string]string{clozeColumn: strconv.Itoa(label)}}
	for _, w := range words {
		l := ChatGLM6B(text, w, c.Tokens, false)
		s.Sequences = append(s.Sequences, Sequence{IDs: l.IDs, Labels: l.Labels})
	}
	return s, nil
}

// text fills the pattern with a record in at most room tokens.
func (c *ClozeEncoder) text(ex *Example, room int) (ids []int32, truncated bool, err error) {
	var fixed, filled [][]int32 // stretches of the pattern, and between them those of the record
	at := 0
	for _, m := range clozeField.FindAllStringIndex(c.Pattern, -1) {
		fixed = append(fixed, c.Tokenizer.Encode(c.Pattern[at:m[0]]))
		value, err := column(ex, c.Pattern[m[0]+1:m[1]-1])
		if err != nil {
			return nil, false, err
		}
		filled = append(filled, c.Tokenizer.Encode(value))
		at = m[1]
	}
	fixed = append(fixed, c.Tokenizer.Encode(c.Pattern[at:]))
	over := len(c.Start) - room
	for _, part := range slices.Concat(fixed, filled) {
		over += len(part)
	}
	for over > 0 { // the longest loses first
		k := 0
		for i := range filled {
			if len(filled[i]) > len(filled[k]) {
				k = i
			}
		}
		if len(filled) == 0 || len(filled[k]) == 0 {
			return nil, false, fmt.Errorf("cloze: the pattern does not fit cutoff_len %d", c.CutoffLen)
		}
		filled[k], over, truncated = filled[k][:len(filled[k])-1], over-1, true
	}
	ids = slices.Clone(c.Start)
	for i, part := range fixed {
		ids = append(ids, part...)
		if i < len(filled) {
			ids = append(ids, filled[i]...)
		}
	}
	if n := count(ids, c.Tokens.Mask); n != 1 {
		return nil, false, fmt.Errorf("cloze: want one [MASK] in the text, got %d", n)
	}
	return ids, truncated, nil
}

func count(ids []int32, id int32) (n int) {
	for _, v := range ids {
		if v == id {
			n++
		}
	}
	return n
}

// column is the text of a record's column.
func column(ex *Example, name string) (string, error) {
	if name == "prompt" {
		return ex.PlainText(), nil
	}
	f, ok := ex.ExtraValue(name)
	if !ok {
		return "", fmt.Errorf("cloze: the record has no column %s", name)
	}
	if text, ok := f.String(); ok {
		return text, nil
	}
	return "", fmt.Errorf("cloze: column %s: want a text", name)
}

// ClozeLabel is the number of the label that is right for a sample.
func (s *Sample) ClozeLabel() (int, error) {
	n, err := strconv.Atoi(s.Extra[clozeColumn])
	if err != nil || n < 0 || n >= len(s.Sequences) {
		return 0, errors.New("data: the sample is no cloze")
	}
	return n, nil
}
