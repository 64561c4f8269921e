package task

import (
	"math"
	"regexp"
	"strings"
	"unicode"
)

// Equal reports whether two answers are the same: rational numbers exactly (fractions, decimals, mixed numbers,
// thousands commas, powers, powers of ten), numbers with roots or π to 1e-9, tuples and intervals element by element with
// their brackets, sets in any order, anything else as text without regard to case and white space. A unit behind a
// number, signs of currency, per cent and degrees and a leading "x =" do not count.
func Equal(a, b string) bool {
	x, y := clean(a), clean(b)
	if x == "" || y == "" {
		return false
	}
	return x == y || parseAnswer(x, true).equal(parseAnswer(y, true))
}

// maxAnswer bounds what is read as mathematics; a longer answer is text.
const maxAnswer = 2000

// answer is a value, a list or a text.
type answer struct {
	value *number  // nil: no number
	open  byte     // '(' or '[' or '{' of a list, ',' for one without brackets; 0: no list
	close byte     // its other end
	items []answer // of a list
	text  string   // normalised
}

func (a answer) equal(b answer) bool {
	switch {
	case a.value != nil && b.value != nil:
		return a.value.equal(b.value)
	case a.open != 0 && b.open != 0:
		if a.open != b.open || a.close != b.close || len(a.items) != len(b.items) {
			return false
		}
		if a.open == '{' {
			return sameSet(a.items, b.items)
		}
		for i := range a.items {
			if !a.items[i].equal(b.items[i]) {
				return false
			}
		}
		return true
	case a.value != nil || b.value != nil || a.open != 0 || b.open != 0:
		return false
	}
	return a.text != "" && a.text == b.text
}

// sameSet matches the elements of two lists of one length in any order. Equality is transitive but for the last digits
// of irrational numbers, so the first match is as good as any.
func sameSet(a, b []answer) bool {
	used := make([]bool, len(b))
next:
	for _, x := range a {
		for i, y := range b {
			if !used[i] && x.equal(y) {
				used[i] = true
				continue next
			}
		}
		return false
	}
	return true
}

var (
	// spacing and sizing commands, which carry nothing
	decoration = regexp.MustCompile(`\\(left|right|displaystyle|textstyle|big|Big|bigl|bigr|Bigl|Bigr|quad|qquad)\b|\\[,;:! ]|~`)
	fractions  = regexp.MustCompile(`\\[dtc]frac\b`)
	wording    = regexp.MustCompile(`\\(text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}`)
	assignment = regexp.MustCompile(`^[A-Za-z](_\{?\w+\}?)?(\([A-Za-z]\))?\s*(=|\\in\b|∈)\s*`)
	symbols    = strings.NewReplacer("$", "", `\$`, "", `\(`, "", `\)`, "", `\[`, "", `\]`, "", "−", "-", "–", "-", "π", `\pi `, "√", `\sqrt `, "×", `\times `,
		"·", `\cdot `, "÷", `\div `, "，", ",", "（", "(", "）", ")", "％", "%", "{,}", ",", "\n", " ", "\t", " ", "￥", "", "¥", "", "€", "", "£", "")
)

// clean drops what says nothing about an answer: delimiters of formulas, spacing, currency, a leading "x =", the full
// stop of its sentence.
func clean(s string) string {
	s = symbols.Replace(strings.TrimSpace(s))
	s = fractions.ReplaceAllString(decoration.ReplaceAllString(s, " "), `\frac`)
	s = wording.ReplaceAllString(s, ` $2 `)
	s = strings.TrimSpace(s)
	s = strings.TrimSpace(s[len(assignment.FindString(s)):])
	return strings.TrimSpace(strings.TrimRight(s, ".。"))
}

// parseAnswer reads a cleaned answer. Commas between groups of three digits belong to numbers at the outside only.
func parseAnswer(s string, outside bool) answer {
	s = strings.TrimSpace(s)
	if len(s) > maxAnswer {
		return answer{text: normal(s)}
	}
	if v, ok := parseNumber(s, outside); ok {
		return answer{value: &v}
	}
	if open, inside, closed, ok := bracketed(s); ok {
		items := splitTop(inside)
		if len(items) == 1 && open == '(' && closed == ')' {
			return parseAnswer(inside, true)
		}
		return answer{open: open, close: closed, items: parseAll(items)}
	}
	if items := splitTop(s); len(items) > 1 {
		return answer{open: ',', items: parseAll(items)}
	}
	return answer{text: normal(s)}
}

func parseAll(items []string) []answer {
	list := make([]answer, len(items))
	for i, s := range items {
		list[i] = parseAnswer(s, false)
	}
	return list
}

// bracketed takes the brackets off a text that they enclose as a whole.
func bracketed(s string) (open byte, inside string, closed byte, ok bool) {
	if body, found := strings.CutPrefix(s, `\{`); found {
		body, found = strings.CutSuffix(body, `\}`)
		return '{', body, '}', found && enclosed(body)
	}
	if len(s) < 2 || !strings.ContainsRune("([", rune(s[0])) || !strings.ContainsRune(")]", rune(s[len(s)-1])) {
		return 0, "", 0, false
	}
	return s[0], s[1 : len(s)-1], s[len(s)-1], enclosed(s[1 : len(s)-1])
}

// enclosed reports whether brackets inside a text close in it, so that the pair around it belongs together.
func enclosed(s string) bool {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth--; depth < 0 {
				return false
			}
		}
	}
	return depth == 0
}

// splitTop cuts at the commas that stand in no brackets.
func splitTop(s string) []string {
	var parts []string
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case ',':
			if depth == 0 {
				parts = append(parts, s[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, s[from:])
}

var looseBraces = regexp.MustCompile(`\{(\w)\}`)

// normal is a text for comparison: lower case, no white space, no braces around single signs.
func normal(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
	return looseBraces.ReplaceAllString(s, "$1")
}

// equal compares exactly where both numbers are rational, else to 1e-9.
func (a *number) equal(b *number) bool {
	if a.exact != nil && b.exact != nil {
		return a.exact.Cmp(b.exact) == 0
	}
	x, y := a.float(), b.float()
	return math.Abs(x-y) <= 1e-9*max(1, math.Abs(x), math.Abs(y))
}
