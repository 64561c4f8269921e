package grammar

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"danlu/tokenizer"
)

// letters is a vocabulary of all bytes and some longer tokens.
func letters() *Vocabulary {
	texts := []string{""}
	for b := range 256 {
		texts = append(texts, string([]byte{byte(b)}))
	}
	return NewVocabulary(append(texts, `{"`, `":`, `": "`, `",`, "true", "12", "abc", "é", "中文", `"}`, "ab", "ab"))
}

func builtin(t testing.TB) *Vocabulary {
	t.Helper()
	tok, err := tokenizer.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return VocabularyOf(tok, nil)
}

// admits reports whether a whole text is of a grammar.
func admits(g *Grammar, text string) bool {
	m := g.Matcher()
	return m.AcceptText(text) == nil && m.Complete()
}

// write draws tokens at random until the text is complete, from then on ending it with the given chance, and fails where
// none can come. Shorter tokens are not preferred, so that token borders lie anywhere.
func write(t testing.TB, g *Grammar, rng *rand.Rand, ending float64, most int) (text string, complete bool) {
	t.Helper()
	m := g.Matcher()
	for range most {
		mask, complete, err := m.Mask()
		if err != nil {
			t.Fatal(err)
		}
		if m.Ended() || complete && rng.Float64() < ending {
			return text, true
		}
		var ids []int32
		for id := range g.vocab.texts {
			if mask.Has(int32(id)) {
				ids = append(ids, int32(id))
			}
		}
		if len(ids) == 0 {
			t.Fatalf("nothing can follow %q", text)
		}
		id := ids[rng.IntN(len(ids))]
		if err := m.Accept(id); err != nil {
			t.Fatalf("after %q the mask has %q: %v", text, g.vocab.texts[id], err)
		}
		text += g.vocab.texts[id]
	}
	return text, false
}

func TestGBNF(t *testing.T) {
	for _, c := range []struct {
		source  string
		yes, no []string
	}{
		{`root ::= "a" | "bc"`, []string{"a", "bc"}, []string{"", "b", "ab", "abc"}},
		{"# sums\nroot ::= term (\"+\" term)* # end\nterm ::= [0-9]+ | \"(\" root \")\"\n", []string{"1", "1+23", "(1+(2))+3"}, []string{"", "+", "1+", "(1", "1)"}},
		{`root ::= [^a-c\n]{2,3}`, []string{"xy", "é中", "xyz"}, []string{"x", "ab", "x\ny", "wxyz"}},
		{`root ::= "\x41\u00e9\"\\" .? `, []string{"Aé\"\\", "Aé\"\\中"}, []string{"Aé", "Aé\"\\zz"}},
		{"root ::= (\"a\"\n  | \"b\"\n)+", []string{"ab", "bba"}, []string{"", "c"}},
		{`root ::= x{3} x{0,1} y{2,}` + "\nx ::= \"x\"\ny ::= \"y\"*", []string{"xxx", "xxxxyy"}, []string{"xx", "xxxxx"}},
		{`root ::= "a" root "b" | ""`, []string{"", "ab", "aaabbb"}, []string{"a", "aab", "abb"}},
		{`root ::= a root | a` + "\na ::= [-a]", []string{"a", "-a-"}, []string{"", "b"}},
		{`root ::= ""`, []string{""}, []string{"a"}},
	} {
		g, err := FromGBNF(c.source, letters())
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		for _, s := range c.yes {
			if !admits(g, s) {
				t.Errorf("%s: %q is not admitted", c.source, s)
			}
		}
		for _, s := range c.no {
			if admits(g, s) {
				t.Errorf("%s: %q is admitted", c.source, s)
			}
		}
	}
}

func TestGBNFErrors(t *testing.T) {
	for source, want := range map[string]string{
		``:                               `"root" is not defined`,
		`x ::= "a"`:                      `"root" is not defined`,
		`root ::= x`:                     `"x" is not defined`,
		`root ::= "a`:                    "line 1",
		"root ::= \"a\"\nroot ::= \"b\"": "defined twice",
		`root ::= root "a" | "b"`:        "left recursion",
		"root ::= a | \"x\"\na ::= b? root\nb ::= \"\"": "left recursion",
		`root ::= "a" root`:                             "no text satisfies",
		`root ::= [z-a]`:                                "no characters",
		`root ::= [`:                                    "]",
		`root ::= ("a"`:                                 "want )",
		`root ::= "a"{3,2}`:                             "smaller",
		`root ::= "a"{99999999}`:                        "at most",
		`root ::= "aaaaaaaaaa"{60000}`:                  "more than",
		`root ::= "\q"`:                                 `\q`,
		`root := "a"`:                                   "::=",
		`root ::= "a" )`:                                `unexpected ")"`,
		`root ::= <[12]>`:                               "angle",
		strings.Repeat("(", 1000):                       "name of a rule",
		`root ::= ` + strings.Repeat("(", 1000):         "nest deeper",
		"\xff":                                          "UTF-8",
	} {
		if _, err := FromGBNF(source, letters()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: want an error with %q, got %v", source, want, err)
		}
	}
}

// A mask has exactly the tokens after which the text can go on.
func TestMaskIsExact(t *testing.T) {
	v := letters()
	schema := `{"type":"object","properties":{"abc":{"enum":[true,"中文"]},"é":{"type":"array","items":{"type":"integer","minimum":5,"maximum":123}}},"required":["é"]}`
	g, err := FromSchema([]byte(schema), v)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		m, text := g.Matcher(), ""
		for range 40 {
			mask, _, err := m.Mask()
			if err != nil {
				t.Fatal(err)
			}
			var ids []int32
			for id, s := range v.texts {
				again := g.Matcher()
				fits := s != "" && again.AcceptText(text+s) == nil
				if fits != mask.Has(int32(id)) {
					t.Fatalf("after %q: token %q fits: %v, mask: %v", text, s, fits, !fits)
				}
				if fits {
					ids = append(ids, int32(id))
				}
			}
			if len(ids) == 0 {
				break
			}
			id := ids[rng.IntN(len(ids))]
			if err := m.Accept(id); err != nil {
				t.Fatal(err)
			}
			text += v.texts[id]
		}
	}
}

func TestRegexMatchesLikeGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	v := letters()
	for _, expr := range []string{`a+b?|c{2,4}`, `^[a-f]*[^a-y]$`, `(ab|a)(c|bcd)*`, `\d{3}-\w+`, `(?i)hello wörld`, `[\x{4e00}-\x{9fff}]+x?`, `.`, ``, `a.c`, `(?s)a.c`} {
		g, err := FromRegex(expr, v)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		whole := regexp.MustCompile(`\A(?:` + expr + `)\z`)
		for range 30 {
			if s, ok := write(t, g, rng, 0.3, 30); ok && !whole.MatchString(s) {
				t.Errorf("%s: wrote %q", expr, s)
			}
		}
		for _, s := range []string{"", "a", "ab", "aab", "ccc", "z", "bz", "abcbcd", "123-x_", "HELLO WÖRLD", "中文x", "é", "\n", "a\nc", "abc"} {
			if admits(g, s) != whole.MatchString(s) {
				t.Errorf("%s: %q is admitted: %v", expr, s, admits(g, s))
			}
		}
	}
	for _, expr := range []string{`(`, `a\bc`, `(?=a)`, `a^b`, `(^a)`} {
		if _, err := FromRegex(expr, v); err == nil {
			t.Errorf("%s: no error", expr)
		}
	}
}

func TestChoice(t *testing.T) {
	g, err := FromChoice([]string{"yes", "no", "not", "no"}, letters())
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{"yes": true, "no": true, "not": true, "n": false, "yesno": false} {
		if admits(g, s) != want {
			t.Errorf("%q: want %v", s, want)
		}
	}
}

// Configurations that were dropped do not change what a matcher admits.
func TestForgetting(t *testing.T) {
	g, err := FromGBNF("root ::= [a-z]{0,3000}", builtin(t))
	if err != nil {
		t.Fatal(err)
	}
	m, n := g.Matcher(), 0
	for range 1500 {
		mask, _, err := m.Mask()
		if err != nil {
			t.Fatal(err)
		}
		id := slices.IndexFunc(g.vocab.texts, func(s string) bool { return s == "a" })
		if mask.Has(int32(id)) != (n < 3000) {
			t.Fatalf("after %d letters", n)
		}
		for range 2 {
			if err := m.Accept(int32(id)); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	if mask, complete, _ := m.Mask(); !m.Ended() || !complete || slices.Max(mask) != 0 {
		t.Error("3000 letters are not the end")
	}
	if g.masks > maxMasks {
		t.Errorf("%d masks are kept", g.masks)
	}
}

// A grammar that can be read in very many ways is an error, and does not hang.
func TestAmbiguous(t *testing.T) {
	g, err := FromGBNF("root ::= \"a\" root root | \"a\" root | \"a\"", letters())
	if err != nil {
		t.Fatal(err)
	}
	m := g.Matcher()
	for range 4000 {
		if _, _, err = m.Mask(); err != nil {
			break
		}
		if err = m.AcceptText("a"); err != nil {
			break
		}
	}
	if err != nil && !strings.Contains(err.Error(), "too many ways") {
		t.Error(err)
	}
}

func FuzzGBNF(f *testing.F) {
	for _, s := range []string{`root ::= "a" | [b-c]+`, "root ::= x{2,3}\nx ::= (\"a\" | .)? root", "root ::= \"\\x41\" # c", "root ::= (((", "root ::= [^\\u4e00]"} {
		f.Add(s)
	}
	v := letters()
	f.Fuzz(func(t *testing.T, source string) {
		if len(source) > 2000 {
			return
		}
		g, err := FromGBNF(source, v)
		if err != nil {
			if strings.Contains(err.Error(), "\n") && !strings.Contains(source, "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		m := g.Matcher()
		rng := rand.New(rand.NewPCG(1, 2))
		for range 10 {
			mask, _, err := m.Mask()
			if err != nil {
				return
			}
			var ids []int32
			for id := range v.texts {
				if mask.Has(int32(id)) {
					ids = append(ids, int32(id))
				}
			}
			if len(ids) == 0 {
				if !m.Ended() {
					t.Errorf("%q: nothing can follow, and the text is not complete", source)
				}
				return
			}
			if err := m.Accept(ids[rng.IntN(len(ids))]); err != nil {
				t.Fatal(err)
			}
		}
	})
}
