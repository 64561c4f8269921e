package jinja

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// What a hostile template may try ends soon, with an error and without much memory.
func TestLimits(t *testing.T) {
	vars, _ := readLanguage(t)
	many := func(s string, n int) string { return strings.Repeat(s, n) }
	for name, source := range map[string]string{
		"endless work":        "{% for a in range(100000) %}{% for b in range(100000) %}{% set x = a * b %}{% endfor %}{% endfor %}",
		"doubling":            "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
		"doubling lists":      "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"doubling sets":       "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set q %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = q %}{% endfor %}",
		"repeat":              "{{ 'x' * 99999999999 }}",
		"repeat lists":        "{{ [1] * 99999999999 }}",
		"pad":                 "{{ 'x'.center(2147483647) }}",
		"pad filter":          "{{ 'x'|center(2147483647) }}",
		"zfill":               "{{ 'x'.zfill(2147483647) }}",
		"format":              "{{ '%99999999999d' % 1 }}",
		"format spec":         "{{ '{:99999999999}'.format(1) }}",
		"format many":         "{{ ('{0:1000000}' * 10000).format(1) }}",
		"replace":             "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
		"join":                "{{ range(100000)|join('y' * 1000000) }}",
		"indent":              "{{ ('x\n' * 1000000)|indent(1000000) }}",
		"expandtabs":          "{{ ('\t' * 100000).expandtabs(1000000) }}",
		"tojson":              "{{ range(100000)|list|tojson(indent='x' * 100000) }}",
		"batch":               "{{ [1]|batch(2147483647, 1)|list }}",
		"slice":               "{{ [1]|slice(2147483647)|list }}",
		"power":               "{{ 9 ** 9999999 }}",
		"power of powers":     "{{ 9 ** 4096 ** 4096 }}",
		"power growing":       "{% set ns = namespace(n=3) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
		"recursion":           "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
		"mutual recursion":    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
		"caller recursion":    "{% macro m() %}{% call m() %}x{% endcall %}{{ caller() }}{% endmacro %}{% call m() %}{% endcall %}",
		"loop recursion":      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
		"fork bomb":           "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(90) }}",
		"deep values":         "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
		"deep JSON":           "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}",
		"deep comparison":     "{% set ns = namespace(l=[], m=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
		"wide values":         "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
		"wide comparison":     "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
		"wide keys":           "{% set ns = namespace(l=(1,)) %}{% for i in range(40) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ {ns.l: 1} }}",
		"namespace in itself": "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
		"cycle in a list":     "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ [ns]|string }}{{ ns == [ns] }}{% for i in range(99999999) %}{% endfor %}",
		"parentheses":         "{{ " + many("(", 100000) + "1" + many(")", 100000) + " }}",
		"brackets":            "{{ " + many("[", 100000) + many("]", 100000) + " }}",
		"nots":                "{{ " + many("not ", 50000) + "1 }}",
		"signs":               "{{ " + many("-", 100000) + "1 }}",
		"ifs":                 many("{% if 1 %}", 20000) + many("{% endif %}", 20000),
		"inline ifs":          "{{ " + many("1 if 1 else ", 20000) + "1 }}",
		"size":                many("x", maxSource+1),
		"long integer":        "{{ " + many("9", 10000) + " }}",
	} {
		start := time.Now()
		tmpl, err := Parse(source)
		if err == nil {
			_, err = tmpl.Render(vars, Options{Now: fixedNow, Limits: Limits{Bytes: 1 << 26, Steps: 500_000}})
		}
		var fault *Error
		if !errors.As(err, &fault) {
			t.Errorf("%s: want an error, got %v", name, err)
		}
		if spent := time.Since(start); spent > 10*time.Second {
			t.Errorf("%s: took %v", name, spent)
		}
	}
}

// Long chains are no nesting: they work.
func TestLongChains(t *testing.T) {
	for source, want := range map[string]string{
		"{{ (" + strings.Repeat("1 + ", 20000) + "1) }}":                               "20001",
		"{{ ''" + strings.Repeat(" ~ 'x'", 5000) + " }}":                               strings.Repeat("x", 5000),
		"{{ 'x'" + strings.Repeat("|trim", 5000) + " }}":                               "x",
		"{% if 0 %}{% " + strings.Repeat("elif 0 %}{% ", 2000) + "else %}y{% endif %}": "y",
	} {
		tmpl, err := Parse(source)
		if err != nil {
			t.Errorf("%.40s: %v", source, err)
			continue
		}
		if res, err := tmpl.Render(NewDict(), Options{}); err != nil || res.Text != want {
			t.Errorf("%.40s: %v", source, err)
		}
	}
}

func FuzzRender(f *testing.F) {
	vars, cases := readLanguage(f)
	for _, c := range cases {
		f.Add(c.Source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := Parse(source)
		if err != nil {
			return
		}
		limits := Limits{Bytes: 1 << 22, Steps: 100_000}
		a, errA := tmpl.Render(vars, Options{Now: fixedNow, Limits: limits})
		b, errB := tmpl.Render(vars, Options{Now: fixedNow, Limits: limits})
		if a.Text != b.Text || (errA == nil) != (errB == nil) {
			t.Fatalf("two renderings differ: %q, %v; %q, %v", a.Text, errA, b.Text, errB)
		}
		for _, s := range a.Generated {
			if s.Start < 0 || s.Start >= s.End || s.End > len(a.Text) {
				t.Fatalf("span %v of %d bytes", s, len(a.Text))
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a": [1, 1.0, -0.0, 1e400, "\u4f60\ud83d\ude00", null, true]}`, `[[[]]]`, `12345678901234567890`, `{"a":1,"a":2}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseJSON([]byte(s))
		if err != nil {
			return
		}
		for _, style := range []JSONStyle{{}, {Indented: true, Indent: "  "}, {EnsureASCII: true, SortKeys: true}} {
			text, err := DumpJSON(v, style)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, "Infinity") {
				continue // Python writes it, JSON has it not
			}
			back, err := ParseJSON([]byte(text))
			if err != nil || !Equal(v, back) {
				t.Fatalf("%s became %s: %v", s, text, err)
			}
		}
	})
}
