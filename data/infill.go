package data

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// Layout is one row of an objective whose targets are not simply the next tokens.
type Layout struct {
	IDs       []int32
	Targets   []int32   // token to predict at each place (no further shift), Ignore where not scored
	Labels    []int32   // before the shift, for the causal and ChatGLM layouts; nil for blank infilling
	Positions [][]int32 // one or two rows
	Prefix    int       // the first Prefix tokens attend to each other both ways: k is seen from q when k < Prefix or k <= q
}

// GLMTokens are the special tokens of GLM's objective; an unused one may be -1.
type GLMTokens struct {
	Mask, GMask, SMask int32 // [MASK], [gMASK], [sMASK]
	SOP, EOP           int32 // start and end of piece
	EOS                int32
}

// Span is a range of tokens, Start <= i < End.
type Span struct{ Start, End int }

// BlankInfill builds GLM's autoregressive blank infilling (arXiv:2103.10360, section 2.1). Part A is the text with each
// span replaced by mask; part B holds, in the given order, sop and the span, with span and eop as targets. Positions row
// 1: the index in part A from base on, and in part B that of the span's mask; row 2: 0 in part A, 1.. in each span.
func BlankInfill(ids []int32, spans []Span, order []int, mask int32, t GLMTokens, base int) (Layout, error) {
	if len(order) != len(spans) {
		return Layout{}, fmt.Errorf("data: blank infilling: order: want %d entries, got %d", len(spans), len(order))
	}
	end := 0
	for i, s := range spans {
		if s.Start < end || s.End <= s.Start || s.End > len(ids) {
			return Layout{}, fmt.Errorf("data: blank infilling: span %d: [%d, %d) of %d tokens, after one that ends at %d", i, s.Start, s.End, len(ids), end)
		}
		end = s.End
	}
	l := Layout{Positions: make([][]int32, 2)}
	partA := func(id int32) {
		l.Positions[0] = append(l.Positions[0], int32(base+len(l.IDs)))
		l.Positions[1] = append(l.Positions[1], 0)
		l.IDs = append(l.IDs, id)
		l.Targets = append(l.Targets, Ignore)
	}
	at := 0
	masks := make([]int32, len(spans))
	for i, s := range spans {
		for ; at < s.Start; at++ {
			partA(ids[at])
		}
		masks[i] = int32(base + len(l.IDs))
		partA(mask)
		at = s.End
	}
	for ; at < len(ids); at++ {
		partA(ids[at])
	}
	l.Prefix = len(l.IDs)
	used := make([]bool, len(spans))
	for _, i := range order {
		if i < 0 || i >= len(spans) || used[i] {
			return Layout{}, fmt.Errorf("data: blank infilling: order: %v is no permutation of %d spans", order, len(spans))
		}
		used[i] = true
		span := ids[spans[i].Start:spans[i].End]
		l.IDs = append(append(l.IDs, t.SOP), span...)
		l.Targets = append(append(l.Targets, span...), t.EOP)
		for k := range len(span) + 1 {
			l.Positions[0] = append(l.Positions[0], masks[i])
			l.Positions[1] = append(l.Positions[1], int32(k+1))
		}
	}
	return l, nil
}

// GenerationInfill builds GLM's document-level objective: the last length tokens, the closing eos among them, become one
// span behind [gMASK], which stands at the end of part A; the targets end with that eos.
func GenerationInfill(ids []int32, length int, t GLMTokens) (Layout, error) {
	n := len(ids) - 1
	if n < 1 || ids[n] != t.EOS {
		return Layout{}, errors.New("data: generation span: want a document that ends with eos")
	}
	if length < 2 || length > n+1 {
		return Layout{}, fmt.Errorf("data: generation span: want 2..%d tokens, got %d", n+1, length)
	}
	closing := t
	closing.EOP = t.EOS
	return BlankInfill(ids[:n], []Span{{n + 1 - length, n}}, []int{0}, t.GMask, closing, 0)
}

// GLM130B builds GLM-130B's long-span layout (arXiv:2210.02414): prompt, [gMASK], sop, answer with one row of rotary
// positions, both-ways attention over prompt and [gMASK], and answer and eop as targets.
func GLM130B(prompt, answer []int32, t GLMTokens) Layout {
	l := Layout{Positions: make([][]int32, 1), Prefix: len(prompt) + 1}
	l.IDs = append(append(append(append(l.IDs, prompt...), t.GMask), t.SOP), answer...)
	for i := range l.IDs {
		l.Positions[0] = append(l.Positions[0], int32(i))
		switch {
		case i < l.Prefix:
			l.Targets = append(l.Targets, Ignore)
		case i+1 < len(l.IDs):
			l.Targets = append(l.Targets, l.IDs[i+1])
		default:
			l.Targets = append(l.Targets, t.EOP)
		}
	}
	return l
}

// ChatGLM6B builds the first ChatGLM's layout: context, [gMASK] (unless the context holds a [MASK] or [gMASK] already),
// sop, answer, eop; sop and what follows take the mask's place in position row 1 and count from 1 in row 2. scoreSOP
// also labels sop, as the released p-tuning script does.
func ChatGLM6B(prompt, answer []int32, t GLMTokens, scoreSOP bool) Layout {
	l := Layout{Positions: make([][]int32, 2)}
	l.IDs = append(l.IDs, prompt...)
	mask := -1
	for _, wanted := range []int32{t.Mask, t.GMask} {
		for i, id := range prompt {
			if mask < 0 && id == wanted && id >= 0 {
				mask = i
			}
		}
	}
	if mask < 0 {
		mask = len(l.IDs)
		l.IDs = append(l.IDs, t.GMask)
	}
	l.Prefix = len(l.IDs)
	l.IDs = append(append(append(l.IDs, t.SOP), answer...), t.EOP)
	l.Labels = make([]int32, len(l.IDs))
	for i, id := range l.IDs {
		first, second := int32(i), int32(0)
		if i >= l.Prefix {
			first, second = int32(mask), int32(i-l.Prefix+1)
		}
		l.Positions[0], l.Positions[1] = append(l.Positions[0], first), append(l.Positions[1], second)
		l.Labels[i] = Ignore
		if i > l.Prefix || i == l.Prefix && scoreSOP {
			l.Labels[i] = id
		}
	}
	l.Targets = shift(l.Labels)
	return l
}

// ChatGLM2 builds the causal layout of ChatGLM2, ChatGLM3 and GLM-4: [gMASK] sop prompt answer eos, one position row.
func ChatGLM2(prompt, answer []int32, t GLMTokens) Layout {
	l := Layout{Positions: make([][]int32, 1)}
	l.IDs = append(append([]int32{t.GMask, t.SOP}, prompt...), answer...)
	l.IDs = append(l.IDs, t.EOS)
	for i, id := range l.IDs {
		l.Positions[0] = append(l.Positions[0], int32(i))
		if i < 2+len(prompt) {
			id = Ignore
		}
		l.Labels = append(l.Labels, id)
	}
	l.Targets = shift(l.Labels)
	return l
}

// shift turns labels into targets.
func shift(labels []int32) []int32 {
	targets := make([]int32, len(labels))
	for i := range targets {
		targets[i] = Ignore
		if i+1 < len(labels) {
			targets[i] = labels[i+1]
		}
	}
	return targets
}

// Allowed reports whether place q sees place k.
func (l *Layout) Allowed(q, k int) bool { return k < l.Prefix || k <= q }

// Infiller draws GLM's pretraining objective for documents: with probability Short blanks of Poisson length that cover
// MaskRatio of the text, with probability Sentence whole sentences, else one long generation span.
type Infiller struct {
	Tokens          GLMTokens
	Short, Sentence float64 // default 0.5 and 0: GLM's multi-task pretraining gives half to blanks
	MaskRatio       float64 // default 0.15
	Lambda          float64 // mean of the Poisson length, default 3
	MinGeneration   float64 // the generation span covers at least this share of the text, default 0.5
	// EndsSentence tells whether a token ends a sentence; needed when Sentence > 0.
	EndsSentence func(id int32) bool
	// Number, if set, numbers the rows of generation spans instead (GLM-130B's go on counting).
	Number Numbering
}

func (f *Infiller) defaults() Infiller {
	g := *f
	if g.Short == 0 && g.Sentence == 0 {
		g.Short = 0.5
	}
	if g.MaskRatio == 0 {
		g.MaskRatio = 0.15
	}
	if g.Lambda == 0 {
		g.Lambda = 3
	}
	if g.MinGeneration == 0 {
		g.MinGeneration = 0.5
	}
	return g
}

// Check validates the settings.
func (f *Infiller) Check() error {
	g := f.defaults()
	switch {
	case !(g.Short >= 0 && g.Sentence >= 0 && g.Short+g.Sentence <= 1):
		return fmt.Errorf("data: infilling: shares of short blanks and sentences: want at most 1 together, got %v and %v", g.Short, g.Sentence)
	case !(g.MaskRatio > 0 && g.MaskRatio < 1):
		return fmt.Errorf("data: infilling: mask ratio: want between 0 and 1, got %v", g.MaskRatio)
	case !(g.Lambda > 0 && g.Lambda <= 100):
		return fmt.Errorf("data: infilling: Poisson mean: want above 0 and at most 100, got %v", g.Lambda)
	case !(g.MinGeneration > 0 && g.MinGeneration <= 1):
		return fmt.Errorf("data: infilling: smallest generation share: want up to 1, got %v", g.MinGeneration)
	case g.Sentence > 0 && g.EndsSentence == nil:
		return errors.New("data: infilling: sentence spans need to know which tokens end a sentence")
	}
	return nil
}

// Window returns how many tokens of a document fit a row of t tokens for certain, whatever is drawn.
func (f *Infiller) Window(t int) int {
	g := f.defaults()
	// Each blank adds its mask and its sop; in the worst case every blank is one token long.
	n := int(float64(t-4) / (1 + 2*g.MaskRatio))
	if g.Sentence > 0 {
		n = min(n, (t-4)/3)
	}
	return max(n, 1)
}

// Draw builds the row for a document of at least 2 tokens.
func (f *Infiller) Draw(ids []int32, r *rand.Rand) (Layout, error) {
	g := f.defaults()
	if len(ids) < 2 {
		return Layout{}, fmt.Errorf("data: infilling: want at least 2 tokens, got %d", len(ids))
	}
	switch u := r.Float64(); {
	case u < g.Short:
		spans := g.blanks(len(ids), r)
		return BlankInfill(ids, spans, r.Perm(len(spans)), g.Tokens.Mask, g.Tokens, 0)
	case u < g.Short+g.Sentence:
		if spans := g.sentences(ids, r); len(spans) > 0 {
			return BlankInfill(ids, spans, r.Perm(len(spans)), g.Tokens.SMask, g.Tokens, 0)
		}
	}
	l, err := g.generation(ids, r)
	if err == nil && g.Number != nil {
		l.Positions, l.Prefix = g.Number(l.IDs)
	}
	return l, err
}

// generation draws one long span to the end of a text.
func (f *Infiller) generation(ids []int32, r *rand.Rand) (Layout, error) {
	n := len(ids)
	whole := ids[n-1] == f.Tokens.EOS
	if whole {
		n--
	}
	least := max(1, int(math.Ceil(f.MinGeneration*float64(n))))
	length := least + r.IntN(n-least+1)
	if whole {
		return GenerationInfill(ids, length+1, f.Tokens)
	}
	// A window that stops before the document does must not teach its end: the piece ends with eop.
	return BlankInfill(ids, []Span{{n - length, n}}, []int{0}, f.Tokens.GMask, f.Tokens, 0)
}

// blanks draws disjoint spans that do not touch, of Poisson lengths, until MaskRatio of n tokens are covered: the lengths
// first, then the gaps between them, so that every arrangement is equally likely.
func (f *Infiller) blanks(n int, r *rand.Rand) []Span {
	budget := max(1, int(math.Round(f.MaskRatio*float64(n))))
	var lengths []int
	for covered := 0; covered < budget; {
		l := min(max(1, poisson(f.Lambda, r)), budget-covered)
		lengths = append(lengths, l)
		covered += l
	}
	k := len(lengths)
	free := n - budget - (k - 1) // gap tokens beyond the one between neighbours
	for free < 0 {               // too little room to keep them apart: join two
		lengths[k-2] += lengths[k-1]
		lengths, k, free = lengths[:k-1], k-1, free+1
	}
	r.Shuffle(k, func(i, j int) { lengths[i], lengths[j] = lengths[j], lengths[i] })
	cuts := make([]int, k)
	for i := range cuts {
		cuts[i] = r.IntN(free + 1)
	}
	insertionSort(cuts)
	spans := make([]Span, k)
	at := 0
	for i, l := range lengths {
		start := at + cuts[i]
		if i > 0 {
			start -= cuts[i-1]
		}
		spans[i] = Span{start, start + l}
		at = start + l + 1
	}
	return spans
}

func insertionSort(a []int) {
	for i := 1; i < len(a); i++ {
		for j := i; j > 0 && a[j] < a[j-1]; j-- {
			a[j], a[j-1] = a[j-1], a[j]
		}
	}
}

// sentences draws whole sentences until MaskRatio of the tokens are covered, at most half of them.
func (f *Infiller) sentences(ids []int32, r *rand.Rand) []Span {
	var all []Span
	start := 0
	for i, id := range ids {
		if f.EndsSentence(id) && i+1 > start {
			all = append(all, Span{start, i + 1})
			start = i + 1
		}
	}
	if len(all) < 2 {
		return nil
	}
	chosen := make([]bool, len(all))
	covered := 0
	for _, i := range r.Perm(len(all))[:len(all)/2] {
		if float64(covered) >= f.MaskRatio*float64(len(ids)) {
			break
		}
		chosen[i] = true
		covered += all[i].End - all[i].Start
	}
	var spans []Span
	for i, s := range all {
		if chosen[i] {
			spans = append(spans, s)
		}
	}
	return spans
}

// poisson draws by multiplication of uniforms (Knuth 1969, section 3.4.1), which suits small means.
func poisson(lambda float64, r *rand.Rand) int {
	limit := math.Exp(-lambda)
	k, p := 0, r.Float64()
	for p > limit {
		k++
		p *= r.Float64()
	}
	return k
}
