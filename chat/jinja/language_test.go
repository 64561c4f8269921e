package jinja

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"
)

type languageCase struct {
	Source   string
	Rendered *string
	Error    string
	Raised   bool
	Spans    [][2]int
}

// readLanguage reads snippets of templates with what transformers 5.24 (Jinja 3.1.6) makes of them.
func readLanguage(t testing.TB) (*Dict, []languageCase) {
	t.Helper()
	raw, err := os.ReadFile("testdata/language.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Variables json.RawMessage
		Cases     []languageCase
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	v, err := ParseJSON(file.Variables)
	if err != nil {
		t.Fatal(err)
	}
	return v.(*Dict), file.Cases
}

func fixedNow() time.Time { return time.Date(2024, 7, 6, 9, 8, 7, 0, time.UTC) }

func TestLanguage(t *testing.T) {
	vars, cases := readLanguage(t)
	if len(cases) < 500 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		var res Result
		tmpl, err := Parse(c.Source)
		if err == nil {
			res, err = tmpl.Render(vars, Options{Now: fixedNow})
		}
		var raised *RaisedError
		switch {
		case c.Rendered == nil && err == nil:
			t.Errorf("%s: want %s, got %q", c.Source, c.Error, res.Text)
		case c.Rendered == nil && errors.As(err, &raised) != c.Raised:
			t.Errorf("%s: want %s (raised: %v), got %v", c.Source, c.Error, c.Raised, err)
		case c.Rendered != nil && (err != nil || res.Text != *c.Rendered):
			t.Errorf("%s: want %q, got %q, %v", c.Source, *c.Rendered, res.Text, err)
		}
		if c.Spans != nil && err == nil {
			if len(res.Generated) != len(c.Spans) {
				t.Errorf("%s: want spans %v, got %v", c.Source, c.Spans, res.Generated)
				continue
			}
			for i, s := range c.Spans {
				if res.Generated[i] != (Span{s[0], s[1]}) {
					t.Errorf("%s: want spans %v, got %v", c.Source, c.Spans, res.Generated)
				}
			}
		}
	}
}
