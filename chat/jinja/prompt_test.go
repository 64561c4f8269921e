package jinja

import (
	"strings"
	"testing"
)

func TestParsePrompt(t *testing.T) {
	vars := NewDict()
	vars.SetString("q", "Is it 5 %?")
	vars.SetString("choices", List{"a", "it's"})
	for source, want := range map[string]string{
		"Q: {{q}}\n":                                  "Q: Is it 5 %?\n",
		"  {% if q %}\n yes{% endif %}\n":             "  \n yes\n",
		"{{q | regex_replace('(\\\\d)', '<\\\\1>')}}": "Is it <5> %?",
		"{{choices}}":                                 `['a', "it's"]`,
		"{{choices[1:] | first}}":                     "it's",
		"{{x is defined}}":                            "False",
		"{{x | default('none')}}":                     "none",
		"{{missing}}":                                 "'missing' is undefined",
		"{% if missing %}a{% endif %}":                "'missing' is undefined",
		"{{missing.a}}":                               "'missing' is undefined",
		"{% for x in missing %}a{% endfor %}":         "'missing' is undefined",
	} {
		p, err := ParsePrompt(source)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Render(vars, Options{})
		if err != nil {
			got.Text = err.Error()
		}
		if got.Text != want && (err == nil || !strings.Contains(got.Text, want)) {
			t.Errorf("%q: want %q, got %q", source, want, got.Text)
		}
	}
}

func TestLiteral(t *testing.T) {
	for _, source := range []string{`['a', "it's", '\n"']`, "7", "-1.5", "('x',)", "{'a': [1, None]}", "True"} {
		v, err := Literal(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got := Repr(v); got != source {
			t.Errorf("%s: got %s", source, got)
		}
	}
	for _, source := range []string{"a", "[x]", "1 }} 2", "", "f()", "1 + 2"} {
		if v, err := Literal(source); err == nil {
			t.Errorf("%s: taken as %s", source, Repr(v))
		}
	}
}
