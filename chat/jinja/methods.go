package jinja

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// methodFunc is a method of a type; v is the value it is called on.
type methodFunc func(r *run, v Value, a *args) Value

// methodOf returns a method of a value's type, nil when it has none of that name.
func methodOf(v Value, name string) methodFunc {
	switch v.(type) {
	case string:
		return stringMethods[name]
	case *Dict:
		return dictMethods[name]
	case List, Tuple:
		return listMethods[name]
	case *loop:
		return loopMethods[name]
	case float64:
		if name == "is_integer" {
			return func(_ *run, v Value, _ *args) Value { return v.(float64) == math.Trunc(v.(float64)) }
		}
	}
	return nil
}

// immutable refuses what would change a value in place.
func immutable(name string) methodFunc {
	return func(r *run, v Value, _ *args) Value {
		r.fail("access to attribute '%s' of '%s' object is unsafe: templates cannot change values", name, typeName(v))
		return nil
	}
}

var dictMethods = map[string]methodFunc{
	"keys":   func(r *run, v Value, _ *args) Value { return &iterator{"dict_keys", v.(*Dict).keys} },
	"values": func(r *run, v Value, _ *args) Value { return &iterator{"dict_values", v.(*Dict).vals} },
	"items":  func(r *run, v Value, _ *args) Value { return &iterator{"dict_items", r.pairs(v.(*Dict))} },
	"copy":   func(r *run, v Value, _ *args) Value { r.charge(64 * v.(*Dict).Len()); return v.(*Dict).Clone() },
	"get": func(r *run, v Value, a *args) Value {
		key, ok := a.get(0, "key")
		if !ok {
			r.fail("get expected at least 1 argument, got 0")
		}
		if x, ok := v.(*Dict).Get(key); ok {
			return x
		}
		return a.value(1, "default", nil)
	},
	"clear": immutable("clear"), "pop": immutable("pop"), "popitem": immutable("popitem"),
	"setdefault": immutable("setdefault"), "update": immutable("update"),
}

func (r *run) pairs(d *Dict) List {
	r.charge(48 * d.Len())
	out := make(List, d.Len())
	for i := range out {
		out[i] = Tuple{d.keys[i], d.vals[i]}
	}
	return out
}

var listMethods = map[string]methodFunc{
	"copy": func(r *run, v Value, _ *args) Value { return v },
	"count": func(r *run, v Value, a *args) Value {
		list, _ := listOf(v)
		n := int64(0)
		for _, x := range list {
			r.step(1)
			if r.equal(x, a.value(0, "value", nil), 0) {
				n++
			}
		}
		return n
	},
	"index": func(r *run, v Value, a *args) Value {
		list, _ := listOf(v)
		for i, x := range list {
			r.step(1)
			if r.equal(x, a.value(0, "value", nil), 0) {
				return int64(i)
			}
		}
		r.fail("the value is not in the list")
		return nil
	},
	"append": immutable("append"), "clear": immutable("clear"), "pop": immutable("pop"), "reverse": immutable("reverse"),
	"insert": immutable("insert"), "sort": immutable("sort"), "extend": immutable("extend"), "remove": immutable("remove"),
}

var loopMethods = map[string]methodFunc{
	"cycle": func(r *run, v Value, a *args) Value {
		if len(a.pos) == 0 {
			r.fail("no items for cycling given")
		}
		return a.pos[v.(*loop).index%len(a.pos)]
	},
	"changed": func(r *run, v Value, a *args) Value {
		l, now := v.(*loop), Tuple(a.pos)
		if l.seen && r.equal(l.last, now, 0) {
			return false
		}
		l.last, l.seen = now, true
		return true
	},
}

// stringMethods are filled by init, since format refers back to them.
var stringMethods map[string]methodFunc

// strip is str.strip, lstrip and rstrip.
func strip(left, right bool) methodFunc {
	return func(r *run, v Value, a *args) Value {
		s := v.(string)
		r.step(len(s) >> 8)
		in := isSpace
		if chars := a.value(0, "chars", nil); chars != nil {
			set := r.text(chars)
			in = func(c rune) bool { return strings.ContainsRune(set, c) }
		}
		if left {
			s = strings.TrimLeftFunc(s, in)
		}
		if right {
			s = strings.TrimRightFunc(s, in)
		}
		return s
	}
}

func mapped(f func(string) string) methodFunc {
	return func(r *run, v Value, _ *args) Value { r.charge(len(v.(string))); return f(v.(string)) }
}

func asks(f func(string) bool) methodFunc {
	return func(r *run, v Value, _ *args) Value { r.step(len(v.(string)) >> 6); return f(v.(string)) }
}

// affix is str.startswith and endswith, with a string or a tuple of them and optional bounds.
func affix(has func(s, affix string) bool) methodFunc {
	return func(r *run, v Value, a *args) Value {
		s := r.between(v.(string), a, 1)
		x := a.value(0, "prefix", nil)
		if t, ok := x.(Tuple); ok {
			for _, p := range t {
				if has(s, r.text(p)) {
					return true
				}
			}
			return false
		}
		return has(s, r.text(x))
	}
}

// between cuts s to the optional bounds at arguments i and i+1.
func (r *run) between(s string, a *args, i int) string {
	if len(a.pos) <= i {
		return s
	}
	n := utf8.RuneCountInString(s)
	to, hasTo := 0, len(a.pos) > i+1 && a.pos[i+1] != nil
	if hasTo {
		to = r.integer(a.pos[i+1])
	}
	from, hasFrom := 0, a.pos[i] != nil
	if hasFrom {
		from = r.integer(a.pos[i])
	}
	from, to = clampSlice(n, from, hasFrom, to, hasTo, 1)
	if from >= to {
		return ""
	}
	return s[byteOffset(s, from):byteOffset(s, to)]
}

// find is str.find, index, rfind and rindex.
func find(last, must bool) methodFunc {
	return func(r *run, v Value, a *args) Value {
		s := v.(string)
		r.step(len(s) >> 6)
		part := r.between(s, a, 1)
		skipped := 0
		if len(a.pos) > 1 && a.pos[1] != nil {
			skipped, _ = clampSlice(utf8.RuneCountInString(s), r.integer(a.pos[1]), true, 0, false, 1)
		}
		at := 0
		if last {
			at = strings.LastIndex(part, a.text(r, 0, "sub"))
		} else {
			at = strings.Index(part, a.text(r, 0, "sub"))
		}
		if at < 0 {
			if must {
				r.fail("substring not found")
			}
			return int64(-1)
		}
		return int64(skipped + utf8.RuneCountInString(part[:at]))
	}
}

func split(last bool) methodFunc {
	return func(r *run, v Value, a *args) Value {
		s, limit := v.(string), a.integer(r, 1, "maxsplit", -1)
		r.charge(len(s))
		sep := a.value(0, "sep", nil)
		switch {
		case sep == nil && last:
			return r.list(rsplitSpace(s, limit))
		case sep == nil:
			return r.list(splitSpace(s, limit))
		}
		text := r.text(sep)
		switch {
		case text == "":
			r.fail("empty separator")
		case last:
			return r.list(rsplit(s, text, limit))
		case limit >= 0:
			return r.list(strings.SplitN(s, text, limit+1))
		}
		return r.list(strings.Split(s, text))
	}
}

func partition(last bool) methodFunc {
	return func(r *run, v Value, a *args) Value {
		s, sep := v.(string), a.text(r, 0, "sep")
		r.charge(len(s))
		if sep == "" {
			r.fail("empty separator")
		}
		at := strings.Index(s, sep)
		if last {
			at = strings.LastIndex(s, sep)
		}
		switch {
		case at >= 0:
			return Tuple{s[:at], sep, s[at+len(sep):]}
		case last:
			return Tuple{"", "", s}
		}
		return Tuple{s, "", ""}
	}
}

func padded(side int) methodFunc {
	return func(r *run, v Value, a *args) Value {
		fill := " "
		if x, ok := a.get(1, "fillchar"); ok {
			fill = r.text(x)
		}
		return r.pad(v.(string), a.integer(r, 0, "width", 0), fill, side)
	}
}

func init() {
	stringMethods = map[string]methodFunc{
		"strip": strip(true, true), "lstrip": strip(true, false), "rstrip": strip(false, true),
		"upper": mapped(upper), "lower": mapped(lower), "casefold": mapped(func(s string) string { return cases.Fold().String(s) }),
		"capitalize": mapped(capitalize), "title": mapped(title), "swapcase": mapped(swapCase),
		"startswith": affix(strings.HasPrefix), "endswith": affix(strings.HasSuffix),
		"find": find(false, false), "rfind": find(true, false), "index": find(false, true), "rindex": find(true, true),
		"split": split(false), "rsplit": split(true), "partition": partition(false), "rpartition": partition(true),
		"center": padded(0), "ljust": padded(-1), "rjust": padded(1),
		"zfill": func(r *run, v Value, a *args) Value {
			s := v.(string)
			sign := ""
			if s != "" && (s[0] == '-' || s[0] == '+') {
				sign, s = s[:1], s[1:]
			}
			return sign + r.pad(s, a.integer(r, 0, "width", 0)-len(sign), "0", 1)
		},
		"count": func(r *run, v Value, a *args) Value {
			s, sub := r.between(v.(string), a, 1), a.text(r, 0, "sub")
			r.step(len(s) >> 6)
			return int64(strings.Count(s, sub))
		},
		"replace": func(r *run, v Value, a *args) Value {
			return r.replace(v.(string), a.text(r, 0, "old"), a.text(r, 1, "new"), a.integer(r, 2, "count", -1))
		},
		"removeprefix": func(r *run, v Value, a *args) Value { return strings.TrimPrefix(v.(string), a.text(r, 0, "prefix")) },
		"removesuffix": func(r *run, v Value, a *args) Value { return strings.TrimSuffix(v.(string), a.text(r, 0, "suffix")) },
		"splitlines": func(r *run, v Value, a *args) Value {
			r.charge(len(v.(string)))
			return r.list(splitLines(v.(string), a.truth(0, "keepends")))
		},
		"join": func(r *run, v Value, a *args) Value {
			var items []string
			for i, x := range r.items(a.value(0, "iterable", nil)) {
				s, ok := x.(string)
				if !ok {
					r.fail("sequence item %d: expected str instance, %s found", i, typeName(x))
				}
				items = append(items, s)
			}
			return r.join(v.(string), items)
		},
		"expandtabs": func(r *run, v Value, a *args) Value {
			size := a.integer(r, 0, "tabsize", 8)
			var b strings.Builder
			column := 0
			for _, c := range v.(string) {
				switch {
				case c == '\t' && size > 0:
					n := size - column%size
					r.charge(n)
					b.WriteString(strings.Repeat(" ", n))
					column += n
				case c == '\t':
				default:
					b.WriteRune(c)
					column++
					if c == '\n' || c == '\r' {
						column = 0
					}
				}
			}
			r.charge(b.Len())
			return b.String()
		},
		"format": func(r *run, v Value, a *args) Value { return r.format(v.(string), a) },
		"format_map": func(r *run, v Value, a *args) Value {
			d, ok := a.value(0, "mapping", nil).(*Dict)
			if !ok {
				r.fail("format_map: want a mapping")
			}
			b := &args{}
			for i, k := range d.keys {
				b.names, b.named = append(b.names, Str(k)), append(b.named, d.vals[i])
			}
			return r.format(v.(string), b)
		},
		"isspace":   asks(func(s string) bool { return every(s, isSpace) }),
		"isalpha":   asks(func(s string) bool { return every(s, unicode.IsLetter) }),
		"isdigit":   asks(func(s string) bool { return every(s, unicode.IsDigit) }),
		"isdecimal": asks(func(s string) bool { return every(s, unicode.IsDigit) }),
		"isnumeric": asks(func(s string) bool { return every(s, unicode.IsNumber) }),
		"isalnum": asks(func(s string) bool {
			return every(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) })
		}),
		"isascii": asks(isASCII),
		"isupper": asks(func(s string) bool { return cased(s, unicode.IsUpper, unicode.IsLower) }),
		"islower": asks(func(s string) bool { return cased(s, unicode.IsLower, unicode.IsUpper) }),
		"istitle": asks(func(s string) bool { return s == title(s) && strings.IndexFunc(s, unicode.IsLetter) >= 0 }),
		"isidentifier": asks(func(s string) bool {
			return every(s, isWord) && !unicode.IsDigit([]rune(s)[0])
		}),
	}
}
