package eval

import (
	"fmt"
	"regexp"
	"strings"

	"danlu/task"
)

// mathItem adds the answer of a MATH item (Hendrycks et al. 2021): what its solution boxes last.
func mathItem(d Doc) (Doc, error) {
	solution, err := column(d, "solution")
	if err != nil {
		return nil, err
	}
	answer, ok := boxed(solution)
	if !ok {
		return nil, fmt.Errorf("solution: boxes no answer")
	}
	out := d.Clone()
	out.SetString("answer", answer)
	return out, nil
}

// boxed is the argument of the last \boxed or \fbox.
func boxed(s string) (string, bool) {
	if i := strings.LastIndex(s, `\boxed `); i >= 0 {
		rest, _, _ := strings.Cut(s[i+len(`\boxed `):], "$")
		return rest, true
	}
	i := strings.LastIndex(s, `\boxed`)
	if i < 0 {
		i = strings.LastIndex(s, `\fbox`)
	}
	if i < 0 {
		return "", false
	}
	open := strings.IndexByte(s[i:], '{')
	if open < 0 {
		return "", false
	}
	depth := 0
	for k := i + open; k < len(s); k++ {
		switch s[k] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return s[i+open+1 : k], true
			}
		}
	}
	return "", false
}

// judgeMath compares an answer, which stands between the first and the last dollar sign where there are two, with the
// right one: exact_match by MATH's own normal form of the two texts, math_equal by their values.
func judgeMath(d Doc, answers []string) (map[string]Value, error) {
	gold, err := column(d, "answer")
	if err != nil {
		return nil, err
	}
	answer := answers[0]
	if from, to := strings.IndexByte(answer, '$'), strings.LastIndexByte(answer, '$'); from < to {
		answer = answer[from+1 : to]
	}
	said := answers[0]
	if b, ok := boxed(said); ok {
		said = b
	} else {
		said = answer
	}
	return map[string]Value{
		"exact_match": {X: oneIf(mathNormal(answer) == mathNormal(gold))},
		"math_equal":  {X: oneIf(task.Equal(said, gold))},
	}, nil
}

var (
	mathRoot  = regexp.MustCompile(`\\sqrt([^{])`)
	mathSlash = regexp.MustCompile(`^(-?\d+)/(-?\d+)$`)
	mathPlain = strings.NewReplacer("\n", "", `\!`, "", `\\`, `\`, "tfrac", "frac", "dfrac", "frac", `\left`, "", `\right`, "", `^{\circ}`, "", `^\circ`, "", `\$`, "")
)

// mathNormal is the form in which MATH compares answers as texts.
func mathNormal(s string) string {
	s = mathPlain.Replace(s)
	if head, _, ok := strings.Cut(s, `\text{ `); ok { // a unit
		s = head
	}
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\%`, ""), "%", "")
	s = strings.ReplaceAll(strings.ReplaceAll(s, " .", " 0."), "{.", "{0.")
	if s == "" {
		return s
	}
	if s[0] == '.' {
		s = "0" + s
	}
	if parts := strings.Split(s, "="); len(parts) == 2 && len(parts[0]) <= 2 {
		s = parts[1]
	}
	s = mathRoot.ReplaceAllString(s, `\sqrt{$1}`)
	s = mathFractions(strings.ReplaceAll(s, " ", ""))
	if s == "0.5" {
		return `\frac{1}{2}`
	}
	if m := mathSlash.FindStringSubmatch(s); m != nil && canonical(m[1]) && canonical(m[2]) {
		s = `\frac{` + m[1] + "}{" + m[2] + "}"
	}
	return s
}

// canonical reports whether digits are how a whole number prints.
func canonical(s string) bool {
	t := strings.TrimPrefix(s, "-")
	return t == "0" && s == "0" || t != "" && t[0] != '0'
}

// mathFractions puts braces around the arguments of \frac that have none.
func mathFractions(s string) string {
	parts := strings.Split(s, `\frac`)
	out := parts[0]
	for _, p := range parts[1:] {
		out += `\frac`
		if p != "" && p[0] == '{' {
			out += p
			continue
		}
		r := []rune(p)
		if len(r) < 2 {
			return s
		}
		a, b, rest := string(r[0]), string(r[1]), string(r[2:])
		if b == "{" {
			out += "{" + a + "}" + b + rest
		} else {
			out += "{" + a + "}{" + b + "}" + rest
		}
	}
	return out
}
