package tokenizer

// A pattern is one regular expression of a pre-tokenizer as a hand-written scanner. match returns the end of the match
// that starts exactly at text[i], or i when there is none. The text is valid UTF-8.
type pattern interface {
	match(text []byte, i int) int
}

// A finder also knows where the next match from text[i] on starts, the end of the text for none.
type finder interface {
	find(text []byte, i int) int
}

// splitBehavior says what becomes of matches and gaps, as in the Split pre-tokenizer of Hugging Face tokenizers.
type splitBehavior uint8

const (
	splitIsolated splitBehavior = iota // matches and gaps are pieces
	splitRemoved                       // matches are dropped
	splitWithPrevious
	splitWithNext
	splitContiguous // neighbouring matches are one piece
)

// A splitter cuts a text into pieces, one at a time.
type splitter struct {
	expr     string // the pattern as files spell it
	pattern  pattern
	behavior splitBehavior
	invert   bool
}

// span is text[from:to], and whether it matched.
type span struct {
	from, to int
	matched  bool
}

// next returns the piece that starts at i < len(text): the end of the match there, else the start of the next match.
func (s *splitter) next(text []byte, i int) (end int, matched bool) {
	if e := s.pattern.match(text, i); e > i {
		return e, true
	}
	if f, ok := s.pattern.(finder); ok {
		return f.find(text, i+charLen(text[i])), false
	}
	for j := i + charLen(text[i]); j < len(text); j += charLen(text[j]) {
		if s.pattern.match(text, j) > j {
			return j, false
		}
	}
	return len(text), false
}

// spans cuts the whole text by the general rules; the common behaviours do not come here.
func (s *splitter) spans(dst []span, text []byte) []span {
	var all []span
	if re, ok := s.pattern.(*regexpPattern); ok {
		all = re.spans(nil, text)
	} else {
		for i := 0; i < len(text); {
			e, m := s.next(text, i)
			all = append(all, span{i, e, m})
			i = e
		}
	}
	for i := range all {
		all[i].matched = all[i].matched != s.invert
	}
	switch s.behavior {
	case splitIsolated:
		dst = append(dst, all...)
	case splitRemoved:
		for _, p := range all {
			if !p.matched {
				dst = append(dst, p)
			}
		}
	case splitContiguous:
		for _, p := range all {
			if n := len(dst); n > 0 && dst[n-1].matched == p.matched {
				dst[n-1].to = p.to
			} else {
				dst = append(dst, p)
			}
		}
	case splitWithPrevious:
		joined := true // a match joins the gap before it, not another match
		for _, p := range all {
			if n := len(dst); p.matched && n > 0 && !joined {
				dst[n-1].to = p.to
				joined = true
			} else {
				dst = append(dst, p)
				joined = p.matched
			}
		}
	case splitWithNext:
		for _, p := range all {
			if n := len(dst); !p.matched && n > 0 && dst[n-1].matched {
				dst[n-1].to, dst[n-1].matched = p.to, false
			} else {
				dst = append(dst, p)
			}
		}
	}
	return dst
}

// A preStep is one stage of the pre-tokenizer: a split, or a space put before each piece that has none.
type preStep struct {
	split       *splitter
	prefixSpace bool // ByteLevel add_prefix_space
	firstOnly   bool // Metaspace prepend_scheme "first": only the piece at the start of the text
}

// isolates reports whether all stages make pieces of matches and gaps, with scanners that look at nothing before them.
func isolates(steps []preStep) bool {
	for _, p := range steps {
		if p.prefixSpace || p.split.behavior != splitIsolated {
			return false
		}
		if _, slow := p.split.pattern.(*regexpPattern); slow {
			return false
		}
	}
	return true
}

// cut runs stages that isolate and returns where the pieces end.
func cut(steps []preStep, text []byte, st *state) []int32 {
	ends, spare := append(st.ends[0][:0], int32(len(text))), st.ends[1]
	for _, p := range steps {
		next := spare[:0]
		i := 0
		for _, e := range ends {
			for i < int(e) {
				i, _ = p.split.next(text[:e], i)
				next = append(next, int32(i))
			}
		}
		ends, spare = next, ends
	}
	st.ends[0], st.ends[1] = ends, spare
	return ends
}

// pretokenize runs the stages from level on and hands each final piece to emit. first says that the piece starts the
// whole text.
func pretokenize(steps []preStep, text []byte, first bool, emit func([]byte)) {
	if len(text) == 0 {
		return
	}
	if len(steps) == 0 {
		emit(text)
		return
	}
	step, rest := &steps[0], steps[1:]
	if step.prefixSpace {
		if text[0] != ' ' && (first || !step.firstOnly) {
			text = append([]byte{' '}, text...)
		}
		pretokenize(rest, text, first, emit)
		return
	}
	s := step.split
	if _, slow := s.pattern.(*regexpPattern); s.behavior == splitIsolated && !slow {
		for i := 0; i < len(text); {
			e, _ := s.next(text, i)
			if len(rest) == 0 {
				emit(text[i:e:e])
			} else {
				pretokenize(rest, text[i:e:e], first && i == 0, emit)
			}
			i = e
		}
		return
	}
	for _, p := range s.spans(nil, text) {
		pretokenize(rest, text[p.from:p.to:p.to], first && p.from == 0, emit)
	}
}
