package task

import (
	"strings"
	"testing"
	"time"
)

func TestEqual(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"2x", "2", false},
		{"2 x", "2", false},
		{"5 m", "5", true},
		{"5m", "5", false},
		{"15 m/s", "15", true},
		{"9.8 m/s^2", "9.8", true},
		{"15元", "15", true},
		{"3 million", "3000000", true},
		{"2 or 3", "2", false},
		{`\sqrt{4}`, "2", true},
		{`\sqrt{2}\sqrt{2}`, "2", true},
		{`\sqrt[3]{27}`, "3", true},
		{`\sqrt[3]{-8}`, "-2", true},
		{`4^{1/2}`, "2", true},
		{`\frac{1+\sqrt{5}}{2}`, `0.5+0.5\sqrt{5}`, true},
		{`(1+2)/3`, "1", true},
		{`-2^2`, "-4", true},
		{`2^{-1}`, "0.5", true},
		{"1e3", "1000", true},
		{"3.", "3", true},
		{".5", "1/2", true},
		{"(1,234)", "1234", false},
		{"1,23", "123", false},
		{"1,2,3", "1, 2, 3", true},
		{`\{1,1,2\}`, `\{1,2,2\}`, false},
		{`\{1,2\}`, `(1,2)`, false},
		{`(\frac12, \sqrt{2})`, `(0.5,\sqrt 2)`, true},
		{`[(1,2),(3,4)]`, `[(1,2),(3,4)]`, true},
		{`x^{2}+1`, `x^2 + 1`, true},
		{`x \in [0, 1)`, `[0,1)`, true},
		{`f(x) = 3`, `3`, true},
		{"1/0", "1/0", true}, // the same text
		{"1/0", "2/0", false},
		{"", "", false},
		{`2^{99999999999}`, "3", false},
		{`9^{9^{9^9}}`, "3", false},
		{"yes", "Yes.", true},
		{`7\pi`, `7π`, true},
		{`45^\circ`, "45", true},
		{`(3)`, "3", true},
		{"(A)", "a", true},
		{"0.1+0.2", "0.3", true},
	} {
		if got := Equal(c.a, c.b); got != c.want {
			t.Errorf("%q = %q: want %v, got %v", c.a, c.b, c.want, got)
		}
		if got := Equal(c.b, c.a); got != c.want {
			t.Errorf("%q = %q: want %v, got %v", c.b, c.a, c.want, got)
		}
	}
}

func TestExtract(t *testing.T) {
	for text, want := range map[string]string{
		`\boxedness \boxed{3} \boxes{4}`: "3",
		`\boxed{\{1,2\}}`:                `\{1,2\}`,
		`\boxed 8.`:                      "8",
		"#### 5 apples\n":                "5 apples",
	} {
		if got, ok := Extract(text); !ok || got != want {
			t.Errorf("%q: want %q, got %q %v", text, want, got, ok)
		}
	}
}

func TestLanguageConsistency(t *testing.T) {
	for _, c := range []struct {
		prompt, text string
		want         float64
	}{
		{"3 加 4 等于几", "<think>三加四</think><answer>7</answer>", 1},
		{"3 加 4 等于几", "so 三", 0.5},
		{"what is 3 plus 4", `<think>three and four make \boxed{7}</think>`, 1},
		{"what is 3 plus 4", "7", 1},
		{"what is 3 plus 4", "七", 0},
	} {
		if got := LanguageConsistency(c.prompt, c.text); got != c.want {
			t.Errorf("%q → %q: want %v, got %v", c.prompt, c.text, c.want, got)
		}
	}
}

func TestOverlongAndRepetition(t *testing.T) {
	for n, want := range map[int]float64{0: 0, 16: 0, 18: -0.5, 20: -1, 21: -1} {
		if got := Overlong(n, 20, 4); got != want {
			t.Errorf("%d tokens: want %v, got %v", n, want, got)
		}
	}
	if got := Repetition("a b c a b c", 3); got != -0.25 {
		t.Errorf("repetition: %v", got)
	}
}

func FuzzEqual(f *testing.F) {
	f.Add(`\frac{1}{2}`, "0.5")
	f.Add(`\sqrt[3]{\frac12}`, `(1,2]`)
	f.Add(strings.Repeat("(", 100), `\{`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if Equal(a, b) != Equal(b, a) {
			t.Errorf("%q and %q: not symmetric", a, b)
		}
		Extract(a)
		Format(a)
		FormatStrict(a)
	})
}

// Nested answers take time in proportion to their length, whether they are numbers or not.
func TestEqualIsQuick(t *testing.T) {
	for _, part := range []string{`\frac{`, `\frac1{`, "(", "-(", "((", `\sqrt{`, "{", `2^{`, "1/(", "1+(", "[(", `\{`, "1,("} {
		a := strings.Repeat(part, 1900/len(part))
		b := a + "1" + strings.Repeat("}", 1900/len(part))
		start := time.Now()
		Equal(a, b)
		Equal(b, a[1:])
		if d := time.Since(start); d > time.Second {
			t.Errorf("%q: %v", part, d)
		}
	}
}

func TestStatedAnswer(t *testing.T) {
	for text, want := range map[string]float64{
		"Ones: 5 + 8 = 13. Tens: 2 + 1 + 1 = 4. The answer is 43.": 1,
		"The answer is 4. No: the answer is 43":                    1,
		"答案是 43。再见":                                                1,
		"The answer is 43.5.":                                      0,
		"43":                                                       0,
		"The answer is 43. So what.":                               1,
	} {
		for _, gold := range []string{"43", "Tens and ones. The answer is 43."} {
			if got, err := StatedAnswer(Reply{Text: text, Gold: gold}); err != nil || got != want {
				t.Errorf("%q: want %v, got %v (%v)", text, want, got, err)
			}
		}
	}
}

func TestPattern(t *testing.T) {
	for text, want := range map[string]float64{"a, b": 1, " a, b\n": 1, "a, b, c": 0, "xa, b": 0} {
		if got, err := Pattern(Reply{Text: text, Extra: map[string]string{"pattern": "a, b|c"}}); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "(", "[z-a]"} {
		if _, err := Pattern(Reply{Text: "a", Extra: map[string]string{"pattern": bad}}); err == nil {
			t.Errorf("pattern %q passed", bad)
		}
	}
}
