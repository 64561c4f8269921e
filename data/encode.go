package data

import (
	"errors"
	"fmt"
)

// Tokenizer turns text into ids without adding special tokens.
type Tokenizer interface {
	Encode(text string) []int32
}

// Pair is one round of a conversation as ids: what is given and what the model says. A target may be empty (the end of
// a template after the last answer).
type Pair struct{ Source, Target []int32 }

// Template renders a conversation as pairs, one per round; beginning-of-text, system and tools belong to the first
// source. It must be safe for concurrent use.
type Template interface {
	EncodePairs(system, tools string, turns []Turn) ([]Pair, error)
}

// PairsFromMask cuts a rendered conversation into pairs at the borders of its scored spans.
func PairsFromMask(ids []int32, scored []bool) []Pair {
	var pairs []Pair
	for i := 0; i < len(ids); {
		var p Pair
		start := i
		for i < len(ids) && !scored[i] {
			i++
		}
		p.Source, start = ids[start:i], i
		for i < len(ids) && scored[i] {
			i++
		}
		p.Target = ids[start:i]
		pairs = append(pairs, p)
	}
	return pairs
}

// Encoder turns an Example into a Sample. It must be safe for concurrent use. Its errors drop the example, counted and
// reported with file and line.
type Encoder interface {
	Encode(ex *Example) (*Sample, error)
}

// BatchEncoder is an Encoder that needs neighbouring examples. Examples come in groups of BatchSize in dataset order.
type BatchEncoder interface {
	Encoder
	BatchSize() int
	EncodeBatch(examples []*Example) ([]*Sample, []error)
}

// TextEncoder serves pretraining: every token is scored.
type TextEncoder struct {
	Tokenizer Tokenizer
	BOS, EOS  int32 // -1: none
	CutoffLen int   // 0: keep whole documents, which the wrapped packing cuts; otherwise longer ones are truncated
}

// Encode returns [BOS] text [EOS].
func (t *TextEncoder) Encode(ex *Example) (*Sample, error) {
	text := ex.PlainText()
	if text == "" {
		return nil, errors.New("no text")
	}
	var ids []int32
	if t.BOS >= 0 {
		ids = append(ids, t.BOS)
	}
	ids = append(ids, t.Tokenizer.Encode(text)...)
	if t.EOS >= 0 {
		ids = append(ids, t.EOS)
	}
	s := &Sample{}
	if t.CutoffLen > 0 && len(ids) > t.CutoffLen {
		ids, s.Truncated = ids[:t.CutoffLen], true
	}
	s.Sequences = []Sequence{{IDs: ids}}
	return s, nil
}

// ChatEncoder serves supervised stages, with LLaMA-Factory's masks and truncation.
type ChatEncoder struct {
	Template      Template
	CutoffLen     int
	TrainOnPrompt bool // score everything
	MaskHistory   bool // score the last answer only; the last rounds have priority when truncating
	// EfficientEOS is the end token that templates without one in their turns put behind the last answer; the label of
	// the first token of each later round (with MaskHistory of each round but the last, as LLaMA-Factory counts rounds
	// from the end) is that end token too. -1: the template writes its own ends.
	EfficientEOS int32
	// Pictures lay the pictures of examples out in their texts; nil: examples have none.
	Pictures *Pictures
}

// Encode renders prompt and answer and masks what is not scored.
func (c *ChatEncoder) Encode(ex *Example) (*Sample, error) {
	if len(ex.Answers) != 1 {
		return nil, fmt.Errorf("supervised training: want one answer, got %d", len(ex.Answers))
	}
	if len(ex.Prompt)%2 != 1 {
		return nil, fmt.Errorf("supervised training: want a prompt that ends with a question, got %d turns", len(ex.Prompt))
	}
	turns := ex.Messages(0)
	if c.Pictures != nil {
		turns = marked(ex, turns)
	}
	pairs, err := c.Template.EncodePairs(ex.System, ex.Tools, turns)
	if err == nil && c.Pictures != nil {
		pairs, err = c.Pictures.expand(ex, pairs)
	}
	if err != nil {
		return nil, err
	}
	seq, truncated := c.Join(pairs, func(round int) bool {
		at := 2*round + 1
		return at < len(turns) && turns[at].NoLoss
	})
	if c.Pictures != nil {
		if err := c.Pictures.whole(pairs, seq); err != nil {
			return nil, err
		}
	}
	return &Sample{Sequences: []Sequence{seq}, Truncated: truncated}, nil
}

// Join concatenates pairs into ids and labels within CutoffLen. noLoss, which may be nil, excepts rounds from scoring.
func (c *ChatEncoder) Join(pairs []Pair, noLoss func(round int) bool) (seq Sequence, truncated bool) {
	last := len(pairs) - 1
	for last > 0 && len(pairs[last].Target) == 0 {
		last--
	}
	total := 0
	if c.EfficientEOS >= 0 {
		total = 1
	}
	type span struct{ source, target int }
	cuts := make([]span, len(pairs))
	for k := range pairs {
		i := k
		if c.MaskHistory {
			i = len(pairs) - 1 - k
		}
		p := pairs[i]
		if total >= c.CutoffLen {
			truncated = true
			continue
		}
		s, t := splitBudget(len(p.Source), len(p.Target), c.CutoffLen-total)
		cuts[i] = span{s, t}
		total += s + t
		truncated = truncated || s < len(p.Source) || t < len(p.Target)
	}
	for i, p := range pairs {
		source, target := p.Source[:cuts[i].source], p.Target[:cuts[i].target]
		afterAnswer := i > 0
		if c.MaskHistory {
			afterAnswer = i < len(pairs)-1
		}
		seq.IDs = append(append(seq.IDs, source...), target...)
		for k, id := range source {
			switch {
			case c.TrainOnPrompt:
			case k == 0 && afterAnswer && c.EfficientEOS >= 0:
				id = c.EfficientEOS
			default:
				id = Ignore
			}
			seq.Labels = append(seq.Labels, id)
		}
		scored := (!c.MaskHistory || i == last) && (noLoss == nil || !noLoss(i))
		for _, id := range target {
			if !scored {
				id = Ignore
			}
			seq.Labels = append(seq.Labels, id)
		}
	}
	if c.EfficientEOS >= 0 {
		seq.IDs = append(seq.IDs, c.EfficientEOS)
		seq.Labels = append(seq.Labels, c.EfficientEOS)
	}
	return seq, truncated
}

// splitBudget shares cutoff tokens between a source and its target as LLaMA-Factory does: a target shorter than half
// keeps all of its tokens, else a source shorter than half keeps its, else both are cut in proportion.
func splitBudget(source, target, cutoff int) (int, int) {
	limit := cutoff
	switch {
	case target*2 < cutoff:
	case source*2 < cutoff:
		limit = cutoff - source
	default:
		limit = int(float64(cutoff) * (float64(target) / float64(source+target)))
	}
	t := min(limit, target)
	return min(max(cutoff-t, 0), source), t
}

// oneTurn renders prompt and answer k as given ids and answer ids.
func oneTurn(t Template, ex *Example, answer int, eos int32) (prompt, response []int32, err error) {
	turns := ex.Messages(answer)
	if len(turns) == len(ex.Prompt) { // no answer: render an empty one to get the answer's opening
		turns = append(turns, Turn{Role: Assistant})
	}
	pairs, err := t.EncodePairs(ex.System, ex.Tools, turns)
	if err != nil {
		return nil, nil, err
	}
	if len(pairs) == 0 {
		return nil, nil, errors.New("the template rendered nothing")
	}
	last := len(pairs) - 1
	for last > 0 && len(pairs[last].Target) == 0 {
		last--
	}
	for i, p := range pairs[:last+1] {
		prompt = append(prompt, p.Source...)
		if i < last {
			prompt = append(prompt, p.Target...)
		}
	}
	response = append(response, pairs[last].Target...)
	if eos >= 0 {
		response = append(response, eos)
	}
	return prompt, response, nil
}

func maskedSequence(prompt, response []int32) Sequence {
	s := Sequence{IDs: append(append([]int32(nil), prompt...), response...)}
	s.Labels = make([]int32, 0, len(s.IDs))
	for range prompt {
		s.Labels = append(s.Labels, Ignore)
	}
	s.Labels = append(s.Labels, response...)
	return s
}

// PreferenceEncoder serves rm and dpo: two sequences, chosen then rejected, with the prompt masked. Both are cut to the
// same prompt, by the longer answer, as LLaMA-Factory does.
type PreferenceEncoder struct {
	Template     Template
	CutoffLen    int
	EfficientEOS int32 // -1: none
}

// Encode needs an example with a chosen and a rejected answer.
func (p *PreferenceEncoder) Encode(ex *Example) (*Sample, error) {
	if len(ex.Answers) != 2 {
		return nil, fmt.Errorf("preference training: want chosen and rejected, got %d answers", len(ex.Answers))
	}
	prompt, chosen, err := oneTurn(p.Template, ex, 0, p.EfficientEOS)
	if err != nil {
		return nil, fmt.Errorf("chosen: %w", err)
	}
	_, rejected, err := oneTurn(p.Template, ex, 1, p.EfficientEOS)
	if err != nil {
		return nil, fmt.Errorf("rejected: %w", err)
	}
	longest := max(len(chosen), len(rejected))
	s, t := splitBudget(len(prompt), longest, p.CutoffLen)
	sample := &Sample{Truncated: s < len(prompt) || t < longest}
	for _, answer := range [][]int32{chosen, rejected} {
		sample.Sequences = append(sample.Sequences, maskedSequence(prompt[:s], answer[:min(t, len(answer))]))
	}
	return sample, nil
}

// FeedbackEncoder serves kto: the answer, and the answer of the example before it in the group (the last one's for the
// first) behind this prompt, from which the KL term is estimated.
type FeedbackEncoder struct {
	Template     Template
	CutoffLen    int
	EfficientEOS int32 // -1: none
	Group        int   // examples among which answers are exchanged; 0 means LLaMA-Factory's 1000
}

// BatchSize returns the group size.
func (f *FeedbackEncoder) BatchSize() int {
	if f.Group > 0 {
		return f.Group
	}
	return 1000
}

// Encode serves a group of one.
func (f *FeedbackEncoder) Encode(ex *Example) (*Sample, error) {
	samples, errs := f.EncodeBatch([]*Example{ex})
	return samples[0], errs[0]
}

// EncodeBatch encodes a group.
func (f *FeedbackEncoder) EncodeBatch(examples []*Example) ([]*Sample, []error) {
	samples, errs := make([]*Sample, len(examples)), make([]error, len(examples))
	var valid []int
	for i, ex := range examples {
		if ex.Label == nil || len(ex.Answers) != 1 {
			errs[i] = errors.New("KTO training: want one answer with a true or false label")
			continue
		}
		valid = append(valid, i)
	}
	for k, i := range valid {
		ex := examples[i]
		other := *ex
		other.Answers = examples[valid[(k+len(valid)-1)%len(valid)]].Answers
		sample := &Sample{Label: *ex.Label}
		for _, e := range []*Example{ex, &other} {
			prompt, response, err := oneTurn(f.Template, e, 0, f.EfficientEOS)
			if err != nil {
				errs[i] = err
				break
			}
			s, t := splitBudget(len(prompt), len(response), f.CutoffLen)
			sample.Truncated = sample.Truncated || e == ex && (s < len(prompt) || t < len(response))
			sample.Sequences = append(sample.Sequences, maskedSequence(prompt[:s], response[:t]))
		}
		if errs[i] == nil {
			samples[i] = sample
		}
	}
	return samples, errs
}

// PromptEncoder serves ppo, grpo and rft: the prompt up to the opening of the answer, nothing scored. A prompt longer
// than CutoffLen is an error: cutting it would ask another question.
type PromptEncoder struct {
	Template  Template
	CutoffLen int
}

// Encode ignores answers; a reference answer reaches rewards through Sample.Extra under "answer".
func (p *PromptEncoder) Encode(ex *Example) (*Sample, error) {
	bare := *ex
	bare.Answers = nil
	prompt, _, err := oneTurn(p.Template, &bare, 0, -1)
	if err != nil {
		return nil, err
	}
	if len(prompt) > p.CutoffLen {
		return nil, fmt.Errorf("the prompt has %d tokens, cutoff_len is %d", len(prompt), p.CutoffLen)
	}
	s := &Sample{Sequences: []Sequence{maskedSequence(prompt, nil)}, Extra: map[string]string{}}
	if len(ex.Answers) > 0 {
		s.Extra["answer"] = ex.Answers[0].Content
	}
	return s, nil
}
