package jinja

import (
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;")

var (
	wordPattern = regexp.MustCompile(`[\pL\pN_]+`)
	wordStart   = regexp.MustCompile(`[-\s({\[<]+`)
	tagPattern  = regexp.MustCompile(`(?s)<!--.*?-->|<[^>]*>`)
)

func titleFilter(r *run, s string, _ *args) Value {
	r.charge(len(s))
	var b strings.Builder
	word := func(w string) {
		_, n := utf8.DecodeRuneInString(w)
		b.WriteString(upper(w[:n]) + lower(w[n:]))
	}
	at := 0
	for _, m := range wordStart.FindAllStringIndex(s, -1) {
		word(s[at:m[0]])
		b.WriteString(s[m[0]:m[1]])
		at = m[1]
	}
	word(s[at:])
	return b.String()
}

func indent(r *run, s string, a *args) Value {
	lead := "    "
	switch w := a.value(0, "width", int64(4)).(type) {
	case string:
		lead = w
	default:
		n := r.integer(w)
		r.charge(max(n, 0))
		lead = strings.Repeat(" ", max(n, 0))
	}
	lines := splitLines(s+"\n", false)
	r.charge(len(s) + product(len(lines), len(lead)+16))
	for i, l := range lines {
		if i > 0 && (l != "" || a.truth(2, "blank")) || i == 0 && a.truth(1, "first") {
			lines[i] = lead + l
		}
	}
	return strings.Join(lines, "\n")
}

func truncate(r *run, s string, a *args) Value {
	length, leeway, end := a.integer(r, 0, "length", 255), a.integerOrNone(r, 3, "leeway", 5), "..."
	if x, ok := a.get(2, "end"); ok {
		end = r.text(x)
	}
	n := utf8.RuneCountInString(s)
	if n <= length+leeway {
		return s
	}
	keep := max(0, length-utf8.RuneCountInString(end))
	cut := s[:byteOffset(s, keep)]
	r.charge(len(s))
	if at := strings.LastIndexByte(cut, ' '); at >= 0 && !a.truth(1, "killwords") {
		cut = cut[:at]
	}
	return cut + end
}

// wordwrap breaks lines at white space so that they are at most width characters long.
func wordwrap(r *run, s string, a *args) Value {
	width, sep := a.integer(r, 0, "width", 79), "\n"
	if x := a.value(2, "wrapstring", nil); x != nil {
		sep = r.text(x)
	}
	long := Truth(a.value(1, "break_long_words", true))
	if width < 1 {
		r.fail("wordwrap: the width has to be at least 1")
	}
	r.charge(2 * len(s))
	var out []string
	for _, line := range splitLines(s, false) {
		current, used := "", 0
		flush := func() {
			out = append(out, trimRightSpace(current))
			current, used = "", 0
		}
		for _, word := range splitSpace(line, -1) {
			n := utf8.RuneCountInString(word)
			if used > 0 && used+1+n > width {
				flush()
			}
			for long && n > width {
				at := byteOffset(word, width)
				out = append(out, word[:at])
				word, n = word[at:], n-width
			}
			if used > 0 {
				current, used = current+" ", used+1
			}
			current, used = current+word, used+n
		}
		flush()
	}
	return r.join(sep, out)
}

func stripTags(r *run, s string, _ *args) Value {
	r.charge(len(s))
	return strings.Join(splitSpace(tagPattern.ReplaceAllString(s, ""), -1), " ")
}

func urlEncode(r *run, v Value, _ *args) Value {
	quote := func(v Value) string {
		s := r.str(v)
		r.charge(3 * len(s))
		return strings.ReplaceAll(url.QueryEscape(s), "%7E", "~")
	}
	var list List
	switch x := v.(type) {
	case *Dict:
		list = r.pairs(x)
	case List:
		list = x
	default:
		return strings.NewReplacer("+", "%20", "%2F", "/").Replace(quote(v))
	}
	var out []string
	for _, pair := range list {
		p, _ := listOf(pair)
		if len(p) != 2 {
			r.fail("urlencode: want pairs")
		}
		out = append(out, quote(p[0])+"="+quote(p[1]))
	}
	return r.join("&", out)
}

func formatFilter(r *run, v Value, a *args) Value {
	if len(a.names) > 0 {
		d := NewDict()
		for i, n := range a.names {
			d.SetString(n, a.named[i])
		}
		return r.printf(r.str(v), d)
	}
	return r.printf(r.str(v), Tuple(a.pos))
}

// toJSON is transformers' tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False).
func toJSON(r *run, v Value, a *args) Value {
	style := JSONStyle{EnsureASCII: a.truth(0, "ensure_ascii"), SortKeys: a.truth(3, "sort_keys")}
	switch x := a.value(1, "indent", nil).(type) {
	case nil:
	case string:
		style.Indented, style.Indent = true, x
	default:
		n := r.integer(x)
		if n > 64 {
			r.fail("tojson: an indent of %d is too large", n)
		}
		style.Indented, style.Indent = true, strings.Repeat(" ", max(0, n))
	}
	if x := a.value(2, "separators", nil); x != nil {
		pair, _ := listOf(x)
		if len(pair) != 2 {
			r.fail("tojson: separators: want two strings")
		}
		style.ItemSep, style.KeySep, style.exact = r.text(pair[0]), r.text(pair[1]), true
	}
	r.charge(product(r.size(v, 0), 2+len(style.Indent)))
	s, err := DumpJSON(v, style)
	if err != nil {
		r.fail("tojson: %v", err)
	}
	r.charge(len(s))
	return s
}
