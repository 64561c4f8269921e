package tokenizer

// The patterns of the families, written as the files spell them.
const (
	patternGPT2     = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternGPT2Open = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)` // a lone space is a gap: the same pieces
	patternLlama3   = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2    = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen35   = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternDeepSeek = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
)

// patternEnds matches the spaces at both ends of a text.
const patternEnds = `\A +| +\z`

type endsPattern struct{}

func (endsPattern) match(text []byte, i int) int {
	j := i
	for j < len(text) && text[j] == ' ' {
		j++
	}
	if i == 0 || j == len(text) {
		return j
	}
	return i
}

// knownPattern returns the hand-written scanner for a pattern as spelled in a file, or nil.
func knownPattern(expr string) pattern {
	switch expr {
	case patternGPT2, patternGPT2Open:
		return &gpt2Pattern{classTable()}
	case patternLlama3:
		return &wordPattern{c: classTable(), letters: clLetter, maxDigits: 3}
	case patternQwen2:
		return &wordPattern{c: classTable(), letters: clLetter, maxDigits: 1}
	case patternQwen35:
		return &wordPattern{c: classTable(), letters: clLetter | clMark, maxDigits: 1}
	case patternDeepSeek:
		return &deepSeekPattern{classTable()}
	case patternEnds:
		return endsPattern{}
	}
	return nil
}

// spaceEnd matches \s+(?!\S)|\s+ at text[i], which is white space: all of a run at the end of the text, else the run
// without its last character, which belongs to the next word, unless the run is that character.
func (t *classes) spaceEnd(text []byte, i int) int {
	j, last := i, i
	for j < len(text) {
		c, n := t.at(text, j)
		if c&clSpace == 0 {
			break
		}
		last = j
		j += n
	}
	if j == len(text) || last == i {
		return j
	}
	return last
}

// newlineEnd matches \s*[\r\n]+ at text[i]: up to the last line break of the run of white space. It returns i when the
// run holds none.
func (t *classes) newlineEnd(text []byte, i int) int {
	end := i
	for j := i; j < len(text); {
		c, n := t.at(text, j)
		if c&clSpace == 0 {
			break
		}
		j += n
		if c&clNewline != 0 {
			end = j
		}
	}
	return end
}

// run returns the end of the longest run of characters at text[i] with any of the bits.
func (t *classes) run(text []byte, i int, bits uint8) int {
	for i < len(text) {
		c, n := t.at(text, i)
		if c&bits == 0 {
			break
		}
		i += n
	}
	return i
}

// runNot returns the end of the longest run of characters at text[i] with none of the bits.
func (t *classes) runNot(text []byte, i int, bits uint8) int {
	for i < len(text) {
		c, n := t.at(text, i)
		if c&bits != 0 {
			break
		}
		i += n
	}
	return i
}

// contraction matches 's|'t|'re|'ve|'m|'ll|'d at text[i], which is an apostrophe. Without regard to case, U+017F also
// folds to s.
func contraction(text []byte, i int, fold bool) int {
	if i+1 >= len(text) {
		return i
	}
	lower := func(b byte) byte {
		if fold && b >= 'A' && b <= 'Z' {
			return b + 32
		}
		return b
	}
	a := lower(text[i+1])
	switch a {
	case 's', 't', 'm', 'd':
		return i + 2
	case 0xc5:
		if fold && i+2 < len(text) && text[i+2] == 0xbf {
			return i + 3
		}
	case 'r', 'v', 'l':
		if i+2 < len(text) {
			b := lower(text[i+2])
			if a == 'l' && b == 'l' || a != 'l' && b == 'e' {
				return i + 3
			}
		}
	}
	return i
}

// gpt2Pattern is patternGPT2.
type gpt2Pattern struct{ c *classes }

func (p *gpt2Pattern) match(text []byte, i int) int {
	t := p.c
	if text[i] == '\'' {
		if e := contraction(text, i, false); e > i {
			return e
		}
	}
	j := i
	if text[i] == ' ' && i+1 < len(text) {
		j++
	}
	c, n := t.at(text, j)
	switch {
	case c&clLetter != 0:
		return t.run(text, j+n, clLetter)
	case c&clNumber != 0:
		return t.run(text, j+n, clNumber)
	case c&clSpace == 0:
		return t.runNot(text, j+n, clSpace|clLetter|clNumber)
	}
	return t.spaceEnd(text, i)
}

// wordPattern is patternLlama3 and its variants: letters says what makes a word, maxDigits how many digits go together.
type wordPattern struct {
	c         *classes
	letters   uint8
	maxDigits int
}

func (p *wordPattern) match(text []byte, i int) int {
	t := p.c
	if text[i] == '\'' {
		if e := contraction(text, i, true); e > i {
			return e
		}
	}
	c, n := t.at(text, i)
	if c&p.letters != 0 {
		return t.run(text, i+n, p.letters)
	}
	if c&clNumber != 0 {
		i += n
		for k := 1; k < p.maxDigits && i < len(text); k++ {
			c, n = t.at(text, i)
			if c&clNumber == 0 {
				break
			}
			i += n
		}
		return i
	}
	others := clSpace | clNumber | p.letters
	if i+n < len(text) && c&clNewline == 0 {
		c2, n2 := t.at(text, i+n)
		if c2&p.letters != 0 {
			return t.run(text, i+n+n2, p.letters)
		}
		if text[i] == ' ' && c2&others == 0 {
			return t.run(text, t.runNot(text, i+n+n2, others), clNewline)
		}
	}
	if c&clSpace == 0 {
		return t.run(text, t.runNot(text, i+n, others), clNewline)
	}
	if e := t.newlineEnd(text, i); e > i {
		return e
	}
	return t.spaceEnd(text, i)
}

// deepSeekPattern is patternDeepSeek, the third split of the DeepSeek V3 and R1 tokenizer.
type deepSeekPattern struct{ c *classes }

func asciiLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

func (p *deepSeekPattern) match(text []byte, i int) int {
	t := p.c
	c, n := t.at(text, i)
	if text[i] < 0x80 && c&(clPunct|clSymbol) != 0 && i+1 < len(text) && asciiLetter(text[i+1]) {
		for i += 2; i < len(text) && asciiLetter(text[i]); i++ {
		}
		return i
	}
	const word = clLetter | clMark
	if i+n < len(text) && c&(clNewline|clLetter|clPunct|clSymbol) == 0 {
		if c2, n2 := t.at(text, i+n); c2&word != 0 {
			return t.run(text, i+n+n2, word)
		}
	}
	if c&word != 0 {
		return t.run(text, i+n, word)
	}
	j, cj, nj := i, c, n
	if text[i] == ' ' && i+1 < len(text) {
		j++
		cj, nj = t.at(text, j)
	}
	if cj&(clPunct|clSymbol) != 0 {
		return t.run(text, t.run(text, j+nj, clPunct|clSymbol), clNewline)
	}
	if c&clSpace == 0 {
		return i
	}
	if e := t.newlineEnd(text, i); e > i {
		return e
	}
	return t.spaceEnd(text, i)
}

// DigitPattern is Qwen2's pre-tokenizer pattern, in which every digit is a piece of its own.
const DigitPattern = patternQwen2
