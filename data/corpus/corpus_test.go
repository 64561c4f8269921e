package corpus

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"
)

func TestStoriesParse(t *testing.T) {
	for _, lang := range []Lang{English, Chinese} {
		for _, split := range []Split{Train, HeldOut} {
			for i := range uint64(200) {
				s := StoryAt(lang, split, i)
				got, gotLang, err := ParseStory(s.Text)
				if err != nil || gotLang != lang || got.Name != s.Name || got.Animal != s.Animal {
					t.Fatalf("story %d: %+v read back as %+v, language %d, %v", i, s, got, gotLang, err)
				}
			}
		}
	}
}

func TestStoriesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for i := range uint64(2000) {
		seen[StoryAt(English, Train, i).Text] = true
	}
	if len(seen) < 1990 {
		t.Errorf("%d of 2000 stories differ", len(seen))
	}
}

func TestParseRefuses(t *testing.T) {
	s := StoryAt(English, Train, 3)
	for _, bad := range []string{"", s.Text + " And then?", s.Text[:len(s.Text)/2], strings.Replace(s.Text, s.Name, "Zorro", 1), strings.ToUpper(s.Text)} {
		if _, _, err := ParseStory(bad); err == nil {
			t.Errorf("%q passes for a story", bad)
		}
	}
}

func TestSplitsAreApart(t *testing.T) {
	held := map[[2]int]bool{}
	for i := range uint64(2000) {
		p := ProblemAt(English, HeldOut, i)
		held[[2]int{p.A, p.B}] = true
	}
	if len(held) < 200 {
		t.Errorf("only %d held-out additions", len(held))
	}
	for i := range uint64(5000) {
		for _, lang := range []Lang{English, Chinese} {
			if p := ProblemAt(lang, Train, i); held[[2]int{p.A, p.B}] {
				t.Fatalf("%d + %d is in both splits", p.A, p.B)
			}
		}
	}
}

func TestWorkedAnswers(t *testing.T) {
	for _, lang := range []Lang{English, Chinese} {
		for a := 10; a < 100; a += 7 {
			for b := 10; b < 100; b += 3 {
				p := NewProblem(lang, a, b)
				if got, ok := ReadAnswer(p.Worked); !ok || got != a+b {
					t.Fatalf("%q states %d, want %d", p.Worked, got, a+b)
				}
			}
		}
	}
	if _, ok := ReadAnswer("I do not know."); ok {
		t.Error("an answer was read where there is none")
	}
}

func TestDocumentsRepeat(t *testing.T) {
	for i := range uint64(8) {
		first, again := Document(Train, i), Document(Train, i)
		if first != again || first == Document(HeldOut, i) {
			t.Errorf("document %d is not a function of split and number", i)
		}
		if turn := TurnAt(Train, i); turn.Prompt == "" || turn.Reply == "" {
			t.Errorf("turn %d is empty", i)
		}
	}
}

func TestListsFitTheirPatterns(t *testing.T) {
	held := map[string]bool{}
	for i := range uint64(300) {
		for _, lang := range []Lang{English, Chinese} {
			l := ListAt(lang, HeldOut, i)
			held[l.Prompt] = true
			fits := regexp.MustCompile(`^(?:` + l.Pattern() + `)$`)
			if wrong := l.Wrong(i); !fits.MatchString(l.Reply) || fits.MatchString(wrong) {
				t.Fatalf("%q: reply %q, wrong %q, pattern %s", l.Prompt, l.Reply, wrong, l.Pattern())
			}
		}
	}
	for i := range uint64(2000) {
		if l := ListAt(English, Train, i); held[l.Prompt] {
			t.Fatalf("%q is in both splits", l.Prompt)
		}
	}
}

func TestSetsAreWritten(t *testing.T) {
	for _, name := range Sets() {
		seen := map[string]bool{}
		for _, name := range []string{name, "held-out-" + name} {
			var out strings.Builder
			if err := WriteSet(&out, name, 8); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if len(lines) != 8 {
				t.Errorf("%s: %d lines, want 8", name, len(lines))
			}
			for _, l := range lines {
				if !json.Valid([]byte(l)) || seen[l] {
					t.Errorf("%s: %s is no JSON, or stands twice", name, l)
				}
				if strings.HasPrefix(name, "held-out-") { // lists repeat within a split
					continue
				}
				seen[l] = true
			}
		}
	}
	if err := WriteSet(io.Discard, "no-such-set", 1); err == nil {
		t.Error("an unknown set was written")
	}
}

func TestThoughtsAreInTheFormatThatIsRewarded(t *testing.T) {
	for i := range uint64(40) {
		p := problem(Train, i)
		a := inMode(question(p), true)
		if said := qwenThought(p).Output; !regexp.MustCompile(`^(?:` + a.Pattern + `)$`).MatchString(said) {
			t.Errorf("%q does not match %s", said, a.Pattern)
		}
		if quiet := inMode(question(p), false); !regexp.MustCompile(`^(?:` + quiet.Pattern + `)$`).MatchString("<think>\n\n</think>\n\n" + p.Worked) {
			t.Errorf("%s does not match an empty thought", quiet.Pattern)
		}
	}
}
