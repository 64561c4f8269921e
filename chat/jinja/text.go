package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// isSpace is Python's str.isspace for one character.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
}

func trimLeftSpace(s string) string  { return strings.TrimLeftFunc(s, isSpace) }
func trimRightSpace(s string) string { return strings.TrimRightFunc(s, isSpace) }
func trimSpace(s string) string      { return strings.TrimFunc(s, isSpace) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// runeAt returns the character at an index, from the end when negative.
func runeAt(s string, n int64) (string, bool) {
	count := int64(utf8.RuneCountInString(s))
	if n < 0 {
		n += count
	}
	if n < 0 || n >= count {
		return "", false
	}
	if count == int64(len(s)) {
		return s[n : n+1], true
	}
	for i := 0; ; n-- {
		_, size := utf8.DecodeRuneInString(s[i:])
		if n == 0 {
			return s[i : i+size], true
		}
		i += size
	}
}

// byteOffset is the place of character n, which may be one past the end.
func byteOffset(s string, n int) int {
	if isASCII(s) {
		return min(n, len(s))
	}
	i := 0
	for ; n > 0 && i < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[i:])
		i += size
	}
	return i
}

// splitSpace is str.split() at runs of white space, at most limit times when limit >= 0.
func splitSpace(s string, limit int) []string {
	var out []string
	for s = trimLeftSpace(s); s != ""; {
		end := strings.IndexFunc(s, isSpace)
		if end < 0 {
			return append(out, s)
		}
		if limit >= 0 && len(out) >= limit {
			return append(out, trimRightSpace(s))
		}
		out = append(out, s[:end])
		s = trimLeftSpace(s[end:])
	}
	return out
}

// rsplitSpace is str.rsplit() with a limit.
func rsplitSpace(s string, limit int) []string {
	var out []string // last first
	for s = trimRightSpace(s); s != ""; {
		at := strings.LastIndexFunc(s, isSpace)
		if at < 0 {
			out = append(out, s)
			break
		}
		if limit >= 0 && len(out) >= limit {
			out = append(out, trimLeftSpace(s))
			break
		}
		_, size := utf8.DecodeRuneInString(s[at:])
		out = append(out, s[at+size:])
		s = trimRightSpace(s[:at])
	}
	reverse(out)
	return out
}

// rsplit is str.rsplit(sep, limit).
func rsplit(s, sep string, limit int) []string {
	var out []string
	for limit < 0 || len(out) < limit {
		at := strings.LastIndex(s, sep)
		if at < 0 {
			break
		}
		out = append(out, s[at+len(sep):])
		s = s[:at]
	}
	out = append(out, s)
	reverse(out)
	return out
}

func reverse[T any](x []T) {
	for i, j := 0, len(x)-1; i < j; i, j = i+1, j-1 {
		x[i], x[j] = x[j], x[i]
	}
}

// splitLines is str.splitlines.
func splitLines(s string, keep bool) []string {
	var out []string
	for s != "" {
		at := strings.IndexFunc(s, func(r rune) bool {
			return r >= '\n' && r <= '\r' || r >= 0x1c && r <= 0x1e || r == 0x85 || r == 0x2028 || r == 0x2029
		})
		if at < 0 {
			return append(out, s)
		}
		_, size := utf8.DecodeRuneInString(s[at:])
		if strings.HasPrefix(s[at:], "\r\n") {
			size = 2
		}
		end := at
		if keep {
			end += size
		}
		out = append(out, s[:end])
		s = s[at+size:]
	}
	return out
}

// upper and lower map whole strings, as Python does: ß becomes SS.
func upper(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	return cases.Upper(language.Und).String(s)
}

func lower(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	return cases.Lower(language.Und).String(s)
}

// capitalize makes the first character a title-case one and the rest lower-case.
func capitalize(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToTitle(r)) + lower(s[n:])
}

// title is str.title: a letter behind a non-letter is upper-case, others are lower-case.
func title(s string) string {
	var b strings.Builder
	inside := false
	for _, r := range s {
		switch {
		case !unicode.IsLetter(r):
			inside = false
		case inside:
			r = unicode.ToLower(r)
		default:
			r, inside = unicode.ToTitle(r), true
		}
		b.WriteRune(r)
	}
	return b.String()
}

func swapCase(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsUpper(r):
			b.WriteString(lower(string(r)))
		case unicode.IsLower(r):
			b.WriteString(upper(string(r)))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// every reports whether s has characters and all satisfy f.
func every(s string, f func(rune) bool) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !f(r) }) < 0
}

// cased reports str.isupper or str.islower: some cased characters, none of the other case.
func cased(s string, want, other func(rune) bool) bool {
	return strings.IndexFunc(s, want) >= 0 && strings.IndexFunc(s, func(r rune) bool { return other(r) || unicode.IsTitle(r) }) < 0
}

// pad fills s to width characters: side -1 puts s left, 1 right, 0 in the middle.
func (r *run) pad(s string, width int, fill string, side int) string {
	if utf8.RuneCountInString(fill) != 1 {
		r.fail("the fill character has to be one character")
	}
	gap := width - utf8.RuneCountInString(s)
	if gap <= 0 {
		return s
	}
	r.charge(len(s) + product(gap, len(fill)))
	left := 0
	switch side {
	case 1:
		left = gap
	case 0:
		left = gap/2 + gap&width&1 // as CPython splits an odd gap
	}
	return strings.Repeat(fill, left) + s + strings.Repeat(fill, gap-left)
}

// replace is str.replace.
func (r *run) replace(s, from, to string, limit int) string {
	n := strings.Count(s, from)
	if limit >= 0 {
		n = min(n, limit)
	}
	r.charge(len(s) + product(n, len(to)))
	return strings.Replace(s, from, to, limit)
}

// join is sep.join(items) of strings.
func (r *run) join(sep string, items []string) string {
	n := product(len(items), len(sep))
	for _, s := range items {
		n += len(s)
	}
	r.charge(n)
	return strings.Join(items, sep)
}

func (r *run) list(items []string) List {
	r.charge(16 * len(items))
	out := make(List, len(items))
	for i, s := range items {
		out[i] = s
	}
	return out
}
