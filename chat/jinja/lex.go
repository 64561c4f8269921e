package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is the kind of a token.
type kind uint8

const (
	tEOF kind = iota
	tText
	tPrint    // {{
	tPrintEnd // }}
	tBlock    // {%
	tBlockEnd // %}
	tName
	tInt
	tFloat
	tString
	tOp
)

type token struct {
	kind kind
	text string // of a tString: the value
	line int
}

// lexer cuts a template into tokens.
type lexer struct {
	src       string
	trim      bool // trim_blocks and lstrip_blocks
	pos       int
	lineAt    int // line numbers are counted up to here
	line      int
	lineStart bool // what was consumed last ended a line
	tokens    []token
}

// maxSource bounds a template's size in bytes; the largest published ones are near 30 KB.
const maxSource = 1 << 18

// lex cuts a template into tokens. With trim, block tags take the white space of their line and the last line break goes.
func lex(src string, trim bool) []token {
	if len(src) > maxSource {
		panic(&Error{Message: "template: the source is larger than 256 KiB"})
	}
	src = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(src)
	if trim {
		src = strings.TrimSuffix(src, "\n")
	}
	l := &lexer{src: src, trim: trim, line: 1, lineStart: true}
	for l.pos < len(l.src) {
		l.next()
	}
	l.emit(tEOF, "")
	return l.tokens
}

func (l *lexer) fail(format string, args ...any) { failAt(l.currentLine(), format, args...) }

func (l *lexer) currentLine() int {
	at := min(l.pos, len(l.src))
	if at > l.lineAt {
		l.line += strings.Count(l.src[l.lineAt:at], "\n")
		l.lineAt = at
	}
	return l.line
}

func (l *lexer) emit(k kind, text string) {
	l.tokens = append(l.tokens, token{k, text, l.currentLine()})
}

// next reads text up to a tag, and the tag.
func (l *lexer) next() {
	rest := l.src[l.pos:]
	at := 0
	for {
		i := strings.IndexByte(rest[at:], '{')
		if i < 0 || at+i+1 >= len(rest) {
			l.emit(tText, rest)
			l.pos = len(l.src)
			return
		}
		at += i
		if c := rest[at+1]; c == '{' || c == '%' || c == '#' {
			break
		}
		at++
	}
	text, tag := rest[:at], rest[at:at+2]
	body := at + 2
	sign := byte(0)
	if body < len(rest) && (rest[body] == '-' || rest[body] == '+') {
		sign = rest[body]
		body++
	}
	if text = l.trimBefore(text, sign, tag == "{{"); text != "" {
		l.emit(tText, text)
	}
	l.pos += body
	l.lineStart = false
	switch tag {
	case "{#":
		l.comment()
	case "{%":
		if !l.raw() {
			l.emit(tBlock, "")
			l.expression('%', tBlockEnd)
		}
	default:
		l.emit(tPrint, "")
		l.expression('}', tPrintEnd)
	}
}

// trimBefore is what a tag leaves of the text before it: "-" takes all white space; block and comment tags take the
// white space between them and the start of their line, unless they say "+".
func (l *lexer) trimBefore(text string, sign byte, print bool) string {
	if sign == '-' {
		return trimRightSpace(text)
	}
	if sign == '+' || print || !l.trim {
		return text
	}
	from := strings.LastIndexByte(text, '\n') + 1
	if (from > 0 || l.lineStart) && trimRightSpace(text[from:]) == "" {
		return text[:from]
	}
	return text
}

// afterTag consumes what a tag's end takes: "-" all white space, "+" nothing, else one line break if trim is set.
func (l *lexer) afterTag(sign byte, trim bool) {
	from := l.pos
	switch {
	case sign == '-':
		l.pos = len(l.src) - len(trimLeftSpace(l.src[l.pos:]))
	case sign != '+' && trim && l.trim && strings.HasPrefix(l.src[l.pos:], "\n"):
		l.pos++
	}
	l.lineStart = l.pos > from && l.src[l.pos-1] == '\n'
}

func (l *lexer) comment() {
	i := strings.Index(l.src[l.pos:], "#}")
	if i < 0 {
		l.fail("a comment without #}")
	}
	sign := byte(0)
	if i > 0 {
		sign = l.src[l.pos+i-1]
	}
	l.pos += i + 2
	l.afterTag(sign, true)
}

// raw handles {% raw %} ... {% endraw %}; false when the tag at hand is another one.
func (l *lexer) raw() bool {
	rest, ok := strings.CutPrefix(trimLeftSpace(l.src[l.pos:]), "raw")
	if !ok {
		return false
	}
	rest = trimLeftSpace(rest)
	sign := byte(0)
	if strings.HasPrefix(rest, "-%}") {
		sign, rest = '-', rest[1:]
	}
	if rest, ok = strings.CutPrefix(rest, "%}"); !ok {
		return false
	}
	l.pos = len(l.src) - len(rest)
	l.afterTag(sign, false)
	for at := l.pos; ; {
		i := strings.Index(l.src[at:], "{%")
		if i < 0 {
			l.fail("{%% raw %%} without {%% endraw %%}")
		}
		tag := at + i
		at = tag + 2
		tail := l.src[at:]
		sign := byte(0)
		if tail != "" && (tail[0] == '-' || tail[0] == '+') {
			sign, tail = tail[0], tail[1:]
		}
		tail, ok := strings.CutPrefix(trimLeftSpace(tail), "endraw")
		if !ok {
			continue
		}
		tail = trimLeftSpace(tail)
		end := byte(0)
		if tail != "" && (tail[0] == '-' || tail[0] == '+') {
			end, tail = tail[0], tail[1:]
		}
		if tail, ok = strings.CutPrefix(tail, "%}"); !ok {
			continue
		}
		if text := l.trimBefore(l.src[l.pos:tag], sign, false); text != "" {
			l.emit(tText, text)
		}
		l.pos = len(l.src) - len(tail)
		l.afterTag(end, true)
		return true
	}
}

var operators = []string{"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}

// expression reads the tokens inside a tag up to its end, whose first byte is given.
func (l *lexer) expression(end byte, endKind kind) {
	var open []byte
	for {
		l.pos = len(l.src) - len(trimLeftSpace(l.src[l.pos:]))
		if l.pos >= len(l.src) {
			l.fail("a tag without its end")
		}
		rest := l.src[l.pos:]
		if len(open) == 0 {
			sign := byte(0)
			tail := rest
			if rest[0] == '-' || rest[0] == '+' && end == '%' {
				sign, tail = rest[0], rest[1:]
			}
			if len(tail) >= 2 && tail[0] == end && tail[1] == '}' {
				l.emit(endKind, "")
				l.pos = len(l.src) - len(tail) + 2
				l.afterTag(sign, end == '%')
				return
			}
		}
		r, _ := utf8.DecodeRuneInString(rest)
		switch {
		case r >= '0' && r <= '9':
			l.number()
		case isWord(r):
			n := 0
			for n < len(rest) {
				r, size := utf8.DecodeRuneInString(rest[n:])
				if !isWord(r) {
					break
				}
				n += size
			}
			l.emit(tName, rest[:n])
			l.pos += n
		case r == '\'' || r == '"':
			l.stringLiteral()
		default:
			l.operator(&open)
		}
	}
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

func (l *lexer) operator(open *[]byte) {
	rest := l.src[l.pos:]
	for _, op := range operators {
		if !strings.HasPrefix(rest, op) {
			continue
		}
		switch op {
		case "(", "[", "{":
			*open = append(*open, map[string]byte{"(": ')', "[": ']', "{": '}'}[op])
		case ")", "]", "}":
			if n := len(*open); n == 0 || (*open)[n-1] != op[0] {
				l.fail("unexpected %q", op)
			}
			*open = (*open)[:len(*open)-1]
		}
		l.emit(tOp, op)
		l.pos += len(op)
		return
	}
	r, _ := utf8.DecodeRuneInString(rest)
	l.fail("unexpected character %q", r)
}

// number reads an integer or a float; "1.x" is an integer and an attribute.
func (l *lexer) number() {
	s := l.src[l.pos:]
	digits := func(i int, set string) int {
		for i < len(s) && (strings.IndexByte(set, s[i]) >= 0 || s[i] == '_') {
			i++
		}
		return i
	}
	const decimal = "0123456789"
	n, k := 0, tInt
	if len(s) > 2 && s[0] == '0' && strings.IndexByte("xob", s[1]|0x20) >= 0 {
		n = digits(2, decimal+"abcdefABCDEF")
	} else {
		n = digits(0, decimal)
		afterDot := len(l.tokens) > 0 && l.tokens[len(l.tokens)-1].kind == tOp && l.tokens[len(l.tokens)-1].text == "."
		if !afterDot {
			if n+1 < len(s) && s[n] == '.' && s[n+1] >= '0' && s[n+1] <= '9' {
				n, k = digits(n+1, decimal), tFloat
			}
			if n < len(s) && s[n]|0x20 == 'e' {
				e := n + 1
				if e < len(s) && (s[e] == '+' || s[e] == '-') {
					e++
				}
				if e < len(s) && s[e] >= '0' && s[e] <= '9' {
					n, k = digits(e, decimal), tFloat
				}
			}
		}
	}
	l.emit(k, strings.ReplaceAll(s[:n], "_", ""))
	l.pos += n
}

// stringLiteral reads a quoted string with Python's escapes.
func (l *lexer) stringLiteral() {
	s := l.src[l.pos:]
	quote := s[0]
	i := 1
	for i < len(s) && s[i] != quote {
		if s[i] == '\\' {
			i++
		}
		i++
	}
	if i >= len(s) {
		l.fail("a string without its closing quote")
	}
	text, err := unescape(s[1:i])
	if err != "" {
		l.fail("%s", err)
	}
	l.emit(tString, text)
	l.pos += i + 1
}

// unescape resolves the escapes of a Python string; unknown ones stay as they are.
func unescape(s string) (text, fault string) {
	if !strings.Contains(s, `\`) {
		return s, ""
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if at := strings.IndexByte(`\'"abfnrtv`, s[i]); at >= 0 {
			b.WriteByte("\\'\"\a\b\f\n\r\t\v"[at])
			continue
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[i]]
		switch {
		case s[i] == '\n':
		case digits > 0:
			r, ok := rune(0), i+digits < len(s)
			for k := 1; ok && k <= digits; k++ {
				d := strings.IndexByte("0123456789abcdef", s[i+k]|0x20)
				if d < 0 {
					ok = false
				}
				r = r<<4 | rune(d)
			}
			if !ok || r < 0 || r > unicode.MaxRune {
				return "", "a broken \\" + string(s[i]) + " escape"
			}
			b.WriteRune(r)
			i += digits
		case s[i] >= '0' && s[i] <= '7':
			r, k := rune(0), i
			for ; k < len(s) && k < i+3 && s[k] >= '0' && s[k] <= '7'; k++ {
				r = r<<3 | rune(s[k]-'0')
			}
			b.WriteRune(r)
			i = k - 1
		default:
			b.WriteByte('\\')
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
