package jinja

import (
	"math"
	"math/big"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// filterFunc computes v|name(args).
type filterFunc func(r *run, v Value, a *args) Value

// filters are Jinja's filters, without those that guess (random) or make HTML (urlize, xmlattr). They are filled by
// init, since map and select name others.
var filters map[string]filterFunc

// soft is the text of a value for filters that take any.
func soft(f func(r *run, s string, a *args) Value) filterFunc {
	return func(r *run, v Value, a *args) Value { return f(r, r.str(v), a) }
}

// method makes a filter of a string method.
func method(name string) filterFunc {
	return soft(func(r *run, s string, a *args) Value { return stringMethods[name](r, s, a) })
}

func init() {
	filters = map[string]filterFunc{
		"upper": method("upper"), "lower": method("lower"), "capitalize": method("capitalize"), "trim": method("strip"),
		"string":      soft(func(_ *run, s string, _ *args) Value { return s }),
		"safe":        func(r *run, v Value, _ *args) Value { return markup(r.str(v)) },
		"escape":      func(r *run, v Value, _ *args) Value { return r.escape(v) },
		"e":           func(r *run, v Value, _ *args) Value { return r.escape(v) },
		"forceescape": func(r *run, v Value, _ *args) Value { return r.escape(plain(v)) },
		"title":       soft(titleFilter),
		"center": soft(func(r *run, s string, a *args) Value {
			return r.pad(s, a.integer(r, 0, "width", 80), " ", 0)
		}),
		"replace": soft(func(r *run, s string, a *args) Value {
			return r.replace(s, r.str(a.value(0, "old", nil)), r.str(a.value(1, "new", nil)), a.integerOrNone(r, 2, "count", -1))
		}),
		"indent":   soft(indent),
		"truncate": soft(truncate),
		"wordwrap": soft(wordwrap),
		"wordcount": soft(func(r *run, s string, _ *args) Value {
			r.charge(len(s))
			return int64(len(wordPattern.FindAllString(s, -1)))
		}),
		"striptags":      soft(stripTags),
		"urlencode":      urlEncode,
		"pprint":         func(r *run, v Value, _ *args) Value { r.charge(r.size(v, 0)); return Repr(v) },
		"format":         formatFilter,
		"tojson":         toJSON,
		"int":            intFilter,
		"float":          floatFilter,
		"abs":            absFilter,
		"round":          roundFilter,
		"default":        defaultFilter,
		"d":              defaultFilter,
		"length":         lengthFilter,
		"count":          lengthFilter,
		"first":          func(r *run, v Value, _ *args) Value { return edge(r.items(v), 0) },
		"last":           func(r *run, v Value, _ *args) Value { l := r.items(v); return edge(l, len(l)-1) },
		"list":           func(r *run, v Value, _ *args) Value { return List(r.items(v)) },
		"items":          itemsFilter,
		"join":           joinFilter,
		"reverse":        reverseFilter,
		"attr":           func(r *run, v Value, a *args) Value { return attrFilter(r, v, a.text(r, 0, "name")) },
		"sort":           sortFilter,
		"dictsort":       dictSort,
		"unique":         uniqueFilter,
		"groupby":        groupBy,
		"min":            func(r *run, v Value, a *args) Value { return extreme(r, v, a, -1) },
		"max":            func(r *run, v Value, a *args) Value { return extreme(r, v, a, 1) },
		"sum":            sumFilter,
		"batch":          batch,
		"slice":          sliceFilter,
		"map":            mapFilter,
		"select":         func(r *run, v Value, a *args) Value { return selecting(r, v, a, false, true) },
		"reject":         func(r *run, v Value, a *args) Value { return selecting(r, v, a, false, false) },
		"selectattr":     func(r *run, v Value, a *args) Value { return selecting(r, v, a, true, true) },
		"rejectattr":     func(r *run, v Value, a *args) Value { return selecting(r, v, a, true, false) },
		"filesizeformat": func(r *run, v Value, a *args) Value { return fileSize(r, v, a.truth(0, "binary")) },
	}
}

// integerOrNone is integer with None for the default.
func (a *args) integerOrNone(r *run, i int, name string, otherwise int) int {
	if v := a.value(i, name, nil); v != nil {
		return r.integer(v)
	}
	return otherwise
}

func edge(list []Value, at int) Value {
	if len(list) == 0 {
		return &Undefined{"the sequence was empty"}
	}
	return list[at]
}

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
		b.WriteString(strings.ToUpper(w[:n]) + strings.ToLower(w[n:]))
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
	quote := func(v Value, keep string) string {
		s := r.str(v)
		r.charge(3 * len(s))
		s = strings.NewReplacer("+", "%20", "%7E", "~").Replace(url.QueryEscape(s))
		if keep != "" {
			s = strings.ReplaceAll(s, "%2F", "/")
		}
		return s
	}
	var list List
	switch x := v.(type) {
	case *Dict:
		list = r.pairs(x)
	case List:
		list = x
	default:
		return quote(v, "/")
	}
	var out []string
	for _, pair := range list {
		p, _ := listOf(pair)
		if len(p) != 2 {
			r.fail("urlencode: want pairs")
		}
		out = append(out, quote(p[0], "")+"="+quote(p[1], ""))
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

// parseInt is Python's int(s, base).
func parseInt(s string, base int) (Value, bool) {
	s = strings.ReplaceAll(trimSpace(s), "_", "")
	if n, err := strconv.ParseInt(s, base, 64); err == nil {
		return n, true
	}
	if n, ok := new(big.Int).SetString(s, base); ok && len(s) <= 4300 {
		return n, true
	}
	return nil, false
}

func parseFloat(s string) (float64, bool) {
	s = trimSpace(s)
	if strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	return f, err == nil || math.IsInf(f, 0)
}

func intFilter(r *run, v Value, a *args) Value {
	otherwise, base := a.value(0, "default", int64(0)), a.integer(r, 1, "base", 10)
	r.use(v)
	f := 0.0
	switch x := v.(type) {
	case string:
		if base < 0 || base == 1 || base > 36 {
			r.fail("int: a base of %d", base)
		}
		if n, ok := parseInt(x, base); ok {
			return n
		}
		var ok bool
		if f, ok = parseFloat(x); !ok {
			return otherwise
		}
	case *big.Int:
		return x
	default:
		n, g, isInt, ok := number(v)
		switch {
		case !ok:
			return otherwise
		case isInt:
			return n
		}
		f = g
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return otherwise
	}
	if math.Abs(f) < 1<<62 {
		return int64(f)
	}
	n, _ := big.NewFloat(f).Int(nil)
	return n
}

func floatFilter(r *run, v Value, a *args) Value {
	r.use(v)
	if s, ok := v.(string); ok {
		if f, ok := parseFloat(s); ok {
			return f
		}
		return a.value(0, "default", 0.0)
	}
	n, f, isInt, ok := number(v)
	switch {
	case !ok:
		return a.value(0, "default", 0.0)
	case isInt:
		return float64(n)
	}
	return f
}

func absFilter(r *run, v Value, _ *args) Value {
	r.use(v)
	switch x := v.(type) {
	case float64:
		return math.Abs(x)
	case *big.Int:
		return new(big.Int).Abs(x)
	}
	n, _, _, ok := number(v)
	if !ok {
		r.fail("bad operand type for abs(): '%s'", typeName(v))
	}
	if n < 0 {
		return (&signExpr{e: &constExpr{n}, minus: true}).eval(r, nil)
	}
	return n
}

func roundFilter(r *run, v Value, a *args) Value {
	r.use(v)
	n, f, isInt, ok := number(v)
	precision, how := a.integer(r, 0, "precision", 0), "common"
	if x, ok := a.get(1, "method"); ok {
		how = r.text(x)
	}
	if !ok || precision < -300 || precision > 300 {
		r.fail("round: bad value or precision")
	}
	if isInt {
		f = float64(n)
	}
	switch how {
	case "common":
		if isInt && precision >= 0 {
			return n
		}
		if precision < 0 {
			p := math.Pow(10, float64(-precision))
			f = math.RoundToEven(f/p) * p
		} else if rounded, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64); err == nil {
			f = rounded // decimal rounding of the exact value, as CPython does
		}
		if isInt {
			return int64(f)
		}
		return f
	case "ceil", "floor":
		p := math.Pow(10, float64(precision))
		if how == "ceil" {
			return math.Ceil(f*p) / p
		}
		return math.Floor(f*p) / p
	}
	r.fail("round: method must be common, ceil or floor")
	return nil
}

func defaultFilter(_ *run, v Value, a *args) Value {
	if _, undefined := v.(*Undefined); undefined || a.truth(1, "boolean") && !Truth(v) {
		return a.value(0, "default_value", "")
	}
	return v
}

func lengthFilter(r *run, v Value, _ *args) Value {
	if s, ok := v.(string); ok {
		r.step(len(s) >> 8)
		return int64(utf8.RuneCountInString(s))
	}
	if l, ok := v.(*loop); ok {
		return int64(len(l.items))
	}
	if it, ok := v.(*iterator); ok && it.view != "" {
		return int64(len(it.items))
	}
	switch v.(type) {
	case List, Tuple, *Dict, *Undefined:
		return int64(len(r.items(v)))
	}
	r.fail("object of type '%s' has no len()", typeName(v))
	return nil
}

func itemsFilter(r *run, v Value, _ *args) Value {
	switch x := v.(type) {
	case *Undefined:
		return &iterator{}
	case *Dict:
		return &iterator{"", r.pairs(x)}
	}
	r.fail("can only get item pairs from a mapping")
	return nil
}

func joinFilter(r *run, v Value, a *args) Value {
	items := r.items(v)
	get := r.getter(a.value(1, "attribute", nil), nil)
	texts := make([]string, len(items))
	for i, x := range items {
		texts[i] = r.str(get(x))
	}
	return r.join(r.str(a.value(0, "d", "")), texts)
}

func reverseFilter(r *run, v Value, _ *args) Value {
	items := append([]Value(nil), r.items(v)...)
	reverse(items)
	if _, ok := v.(string); !ok {
		return &iterator{"", items}
	}
	var b strings.Builder
	for _, c := range items {
		b.WriteString(c.(string))
	}
	return b.String()
}

func attrFilter(r *run, v Value, name string) Value {
	if _, isDict := v.(*Dict); isDict && methodOf(v, name) == nil {
		return missing(v, name)
	}
	return r.attr(v, name)
}

// getter returns what looks up an attribute path such as "a.b.0" in a value; nil is the value itself. otherwise, if not
// nil, takes the place of what is undefined.
func (r *run) getter(attribute, otherwise Value) func(Value) Value {
	if attribute == nil {
		return func(v Value) Value { return v }
	}
	var path []Value
	switch x := attribute.(type) {
	case string:
		for _, p := range strings.Split(x, ".") {
			if n, err := strconv.ParseInt(p, 10, 64); err == nil && n >= 0 {
				path = append(path, n)
			} else {
				path = append(path, p)
			}
		}
	default:
		path = []Value{attribute}
	}
	return func(v Value) Value {
		for _, key := range path {
			v = r.item(v, key)
			if _, undefined := v.(*Undefined); undefined && otherwise != nil {
				v = otherwise
			}
		}
		return v
	}
}

// folded makes letters of strings comparable without case.
func folded(v Value, caseSensitive bool) Value {
	if s, ok := v.(string); ok && !caseSensitive {
		return strings.ToLower(s)
	}
	return v
}

// sortBy sorts a copy of items stably by keys.
func (r *run) sortBy(items []Value, descending bool, key func(Value) Value) List {
	type row struct{ key, item Value }
	rows := make([]row, len(items))
	for i, x := range items {
		rows[i] = row{key(x), x}
	}
	sort.SliceStable(rows, func(i, j int) bool {
		r.step(1)
		a, b := rows[i].key, rows[j].key
		if descending {
			a, b = b, a
		}
		less, err := lessThan(a, b)
		if err != nil {
			r.use(a)
			r.use(b)
			r.fail("%v", err)
		}
		return less
	})
	out := make(List, len(rows))
	for i := range rows {
		out[i] = rows[i].item
	}
	r.charge(16 * len(out))
	return out
}

func sortFilter(r *run, v Value, a *args) Value {
	caseSensitive := a.truth(1, "case_sensitive")
	var getters []func(Value) Value
	if s, ok := a.value(2, "attribute", nil).(string); ok && strings.Contains(s, ",") {
		for _, p := range strings.Split(s, ",") {
			getters = append(getters, r.getter(p, nil))
		}
	} else {
		getters = append(getters, r.getter(a.value(2, "attribute", nil), nil))
	}
	return r.sortBy(r.items(v), a.truth(0, "reverse"), func(x Value) Value {
		var keys Tuple
		for _, get := range getters {
			keys = append(keys, folded(get(x), caseSensitive))
		}
		if len(keys) == 1 {
			return keys[0]
		}
		return keys
	})
}

func dictSort(r *run, v Value, a *args) Value {
	d, ok := v.(*Dict)
	if !ok {
		r.fail("dictsort: want a mapping, got %s", typeName(v))
	}
	at := 0
	switch a.value(1, "by", "key") {
	case "key":
	case "value":
		at = 1
	default:
		r.fail(`dictsort: by must be "key" or "value"`)
	}
	return r.sortBy(r.pairs(d), a.truth(2, "reverse"), func(x Value) Value {
		return folded(x.(Tuple)[at], a.truth(0, "case_sensitive"))
	})
}

func uniqueFilter(r *run, v Value, a *args) Value {
	get := r.getter(a.value(1, "attribute", nil), nil)
	seen := NewDict()
	out := List{}
	for _, x := range r.items(v) {
		key := folded(get(x), a.truth(0, "case_sensitive"))
		if _, ok := seen.Get(key); !ok {
			r.put(seen, key, true)
			out = append(out, x)
		}
	}
	return &iterator{"", out}
}

func groupBy(r *run, v Value, a *args) Value {
	get := r.getter(a.value(0, "attribute", nil), a.value(1, "default", nil))
	key := func(x Value) Value { return folded(get(x), a.truth(2, "case_sensitive")) }
	out := List{}
	var last Value
	for i, x := range r.sortBy(r.items(v), false, key) {
		k := key(x)
		if i == 0 || !Equal(k, last) {
			group := NewDict() // unpacked below as (grouper, list)
			group.SetString("grouper", get(x))
			group.SetString("list", List{})
			out = append(out, group)
		}
		last = k
		g := out[len(out)-1].(*Dict)
		list, _ := g.Get("list")
		g.SetString("list", append(list.(List), x))
	}
	for i, g := range out {
		out[i] = Tuple(g.(*Dict).vals)
	}
	return out
}

func extreme(r *run, v Value, a *args, sign int) Value {
	items := r.items(v)
	if len(items) == 0 {
		return &Undefined{"no aggregated item, the sequence was empty"}
	}
	get := r.getter(a.value(1, "attribute", nil), nil)
	best, bestKey := Value(nil), Value(nil)
	for i, x := range items {
		r.step(1)
		key := folded(get(x), a.truth(0, "case_sensitive"))
		if i > 0 {
			c, ordered, err := compare(key, bestKey, "<")
			if err != nil {
				r.fail("%v", err)
			}
			if !ordered || c*sign <= 0 {
				continue
			}
		}
		best, bestKey = x, key
	}
	return best
}

func sumFilter(r *run, v Value, a *args) Value {
	get := r.getter(a.value(0, "attribute", nil), nil)
	total := a.value(1, "start", int64(0))
	for _, x := range r.items(v) {
		r.step(1)
		y := get(x)
		r.use(y)
		total = r.add(total, y)
	}
	return total
}

func batch(r *run, v Value, a *args) Value {
	n := a.integer(r, 0, "linecount", 0)
	if n < 1 {
		r.fail("batch: want at least 1 item a line")
	}
	fill, filled := a.get(1, "fill_with")
	filled = filled && fill != nil
	out := List{}
	for items := r.items(v); len(items) > 0; {
		k := min(n, len(items))
		line := append(List(nil), items[:k]...)
		items = items[k:]
		if filled && k < n {
			r.charge(product(16, n))
			for len(line) < n {
				line = append(line, fill)
			}
		}
		out = append(out, line)
	}
	return &iterator{"", out}
}

func sliceFilter(r *run, v Value, a *args) Value {
	n := a.integer(r, 0, "slices", 0)
	if n < 1 {
		r.fail("slice: want at least 1 slice")
	}
	fill, filled := a.get(1, "fill_with")
	filled = filled && fill != nil
	items := r.items(v)
	r.charge(product(32, n))
	each, extra, at := len(items)/n, len(items)%n, 0
	out := List{}
	for i := range n {
		k := each
		if i < extra {
			k++
		}
		line := append(List{}, items[at:at+k]...)
		if at += k; filled && i >= extra && extra > 0 {
			line = append(line, fill)
		}
		out = append(out, line)
	}
	return &iterator{"", out}
}

func mapFilter(r *run, v Value, a *args) Value {
	apply := r.getter(a.value(math.MaxInt, "attribute", nil), a.value(math.MaxInt, "default", nil))
	if len(a.pos) > 0 {
		name := r.text(a.pos[0])
		f, ok := filters[name]
		if !ok {
			r.fail("no filter named %q", name)
		}
		rest := &args{a.pos[1:], a.names, a.named}
		apply = func(x Value) Value { return f(r, x, rest) }
	} else if len(a.names) == 0 {
		r.fail("map requires a filter or an attribute")
	}
	out := List{}
	if !Truth(v) {
		return &iterator{} // None too
	}
	for _, x := range r.items(v) {
		r.step(1)
		out = append(out, apply(x))
	}
	r.charge(16 * len(out))
	return &iterator{"", out}
}

// selecting is select, reject, selectattr and rejectattr.
func selecting(r *run, v Value, a *args, byAttribute, keep bool) Value {
	rest := a.pos
	get := r.getter(nil, nil)
	if byAttribute {
		if len(rest) == 0 {
			r.fail("missing the name of an attribute")
		}
		get, rest = r.getter(rest[0], nil), rest[1:]
	}
	ok := func(x Value) bool { return Truth(x) }
	if len(rest) > 0 {
		name := r.text(rest[0])
		test, known := tests[name]
		if !known {
			r.fail("no test named %q", name)
		}
		arguments := &args{rest[1:], a.names, a.named}
		ok = func(x Value) bool { return test(r, x, arguments) }
	}
	out := List{}
	if !Truth(v) {
		return &iterator{} // None too
	}
	for _, x := range r.items(v) {
		r.step(1)
		if ok(get(x)) == keep {
			out = append(out, x)
		}
	}
	r.charge(16 * len(out))
	return &iterator{"", out}
}

func fileSize(r *run, v Value, binary bool) Value {
	f, _ := floatFilter(r, v, &args{}).(float64)
	base, units := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if binary {
		base, units = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	if f == 1 {
		return "1 Byte"
	}
	if f < base {
		return strconv.FormatInt(int64(f), 10) + " Bytes"
	}
	i := 0
	for f /= base; f >= base && i < len(units)-1; i++ {
		f /= base
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}
