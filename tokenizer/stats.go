package tokenizer

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// Count is how long a text is in several units.
type Count struct {
	Bytes, Chars, Words, Tokens int64
}

// Stats are counts by language.
type Stats map[string]*Count

// The languages that Language tells apart, by script.
const (
	Chinese  = "zh"
	Japanese = "ja"
	Korean   = "ko"
	Latin    = "latin"
	Cyrillic = "cyrillic"
	Arabic   = "arabic"
	Other    = "other"
)

// Languages lists the languages in the order that tables show them.
var Languages = []string{Chinese, Japanese, Korean, Latin, Cyrillic, Arabic, Other}

var scripts = []struct {
	name  string
	table *unicode.RangeTable
}{{Latin, unicode.Latin}, {Chinese, unicode.Han}, {Japanese, unicode.Hiragana}, {Japanese, unicode.Katakana},
	{Korean, unicode.Hangul}, {Cyrillic, unicode.Cyrillic}, {Arabic, unicode.Arabic}}

// Language tells a line's language by the script of most of its letters. Chinese characters count twice, for a character
// holds about as much as half a word; a line of them with any kana is Japanese.
func Language(line []byte) string {
	counts := map[string]int{}
	for _, r := range string(line) {
		for _, s := range scripts {
			if unicode.Is(s.table, r) {
				counts[s.name]++
				break
			}
		}
	}
	counts[Chinese] *= 2
	if counts[Japanese] > 0 {
		counts[Japanese], counts[Chinese] = counts[Japanese]+counts[Chinese], 0
	}
	best := Other
	for _, name := range Languages {
		if counts[name] > counts[best] {
			best = name
		}
	}
	return best
}

// Words counts words: runs of letters, marks and digits, and each character of scripts that are written without spaces.
func Words(line []byte) (n int64) {
	inside := false
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRune(line[i:])
		i += size
		switch {
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana):
			n, inside = n+1, false
		case unicode.In(r, unicode.L, unicode.M, unicode.N):
			if !inside {
				n++
			}
			inside = true
		default:
			inside = false
		}
	}
	return n
}

// Measure counts a text's lines with each tokenizer. Line breaks are left out.
func Measure(toks []*Tokenizer, text []byte, threads int) []Stats {
	out := make([]Stats, len(toks))
	var lines []string
	var languages []string
	for _, l := range bytes.Split(text, []byte("\n")) {
		if l = bytes.TrimSuffix(l, []byte("\r")); len(l) > 0 {
			lines, languages = append(lines, string(l)), append(languages, Language(l))
		}
	}
	for i, t := range toks {
		out[i] = Stats{}
		for k, ids := range t.EncodeBatch(lines, Options{}, threads) {
			c := out[i][languages[k]]
			if c == nil {
				c = &Count{}
				out[i][languages[k]] = c
			}
			l := view(lines[k])
			c.Bytes += int64(len(l))
			c.Chars += int64(utf8.RuneCount(l))
			c.Words += Words(l)
			c.Tokens += int64(len(ids))
		}
	}
	return out
}

// Add adds other counts.
func (s Stats) Add(o Stats) {
	for name, c := range o {
		to := s[name]
		if to == nil {
			to = &Count{}
			s[name] = to
		}
		to.Bytes += c.Bytes
		to.Chars += c.Chars
		to.Words += c.Words
		to.Tokens += c.Tokens
	}
}
