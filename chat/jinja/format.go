package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// format is str.format.
func (r *run) format(s string, a *args) string {
	var b strings.Builder
	next := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c:
			b.WriteByte(c)
			i++
		case c == '}':
			r.fail("single '}' encountered in format string")
		case c != '{':
			b.WriteByte(c)
		default:
			end, depth := i+1, 1
			for ; end < len(s) && depth > 0; end++ {
				switch s[end] {
				case '{':
					depth++
				case '}':
					depth--
				}
			}
			if depth > 0 {
				r.fail("expected '}' before end of string")
			}
			text := r.field(s[i+1:end-1], a, &next)
			r.charge(len(text))
			b.WriteString(text)
			i = end - 1
		}
	}
	r.charge(b.Len())
	return b.String()
}

// field resolves "name!conversion:spec" of str.format.
func (r *run) field(s string, a *args, next *int) string {
	name, spec, _ := strings.Cut(s, ":")
	name, conversion, _ := strings.Cut(name, "!")
	if strings.Contains(spec, "{") {
		spec = r.field(strings.Trim(spec, "{}"), a, next)
	}
	end := strings.IndexAny(name, ".[")
	head, path := name, ""
	if end >= 0 {
		head, path = name[:end], name[end:]
	}
	var v Value
	var ok bool
	if n, err := strconv.Atoi(head); err == nil || head == "" {
		if head == "" {
			n = *next
			*next++
		}
		if ok = n >= 0 && n < len(a.pos); ok {
			v = a.pos[n]
		}
	} else {
		v, ok = (&args{names: a.names, named: a.named}).get(0, head)
	}
	if !ok {
		r.fail("format: no argument %q", head)
	}
	for path != "" {
		if path[0] == '.' {
			end := strings.IndexAny(path[1:], ".[") + 1
			if end == 0 {
				end = len(path)
			}
			v, path = r.attr(v, path[1:end]), path[end:]
			continue
		}
		key, rest, ok := strings.Cut(path[1:], "]")
		if !ok {
			r.fail("format: missing ']'")
		}
		if n, err := strconv.ParseInt(key, 10, 64); err == nil {
			v = r.item(v, n)
		} else {
			v = r.item(v, key)
		}
		path = rest
	}
	switch conversion {
	case "r", "a":
		v = r.repr(v)
	case "s":
		v = r.str(v)
	}
	return r.formatSpec(v, spec)
}

// formatSpec is format(v, spec): [[fill]align][sign][#][0][width][,][.precision][type].
func (r *run) formatSpec(v Value, spec string) string {
	r.use(v)
	if spec == "" {
		return r.str(v)
	}
	fill, align, sign := " ", byte(0), byte('-')
	_, n := utf8.DecodeRuneInString(spec)
	if len(spec) > n && strings.IndexByte("<>^=", spec[n]) >= 0 {
		fill, align, spec = spec[:n], spec[n], spec[n+1:]
	} else if strings.IndexByte("<>^=", spec[0]) >= 0 {
		align, spec = spec[0], spec[1:]
	}
	if spec != "" && strings.IndexByte("+- ", spec[0]) >= 0 {
		sign, spec = spec[0], spec[1:]
	}
	spec = strings.TrimPrefix(spec, "#")
	if strings.HasPrefix(spec, "0") && align == 0 {
		fill, align = "0", '='
	}
	width, spec := r.leadingNumber(spec, 0)
	group := byte(0)
	if spec != "" && (spec[0] == ',' || spec[0] == '_') {
		group, spec = spec[0], spec[1:]
	}
	precision := -1
	if strings.HasPrefix(spec, ".") {
		precision, spec = r.leadingNumber(spec[1:], -1)
	}
	text, numeric := r.formatted(v, spec, precision, group)
	if numeric && !strings.HasPrefix(text, "-") && sign != '-' {
		text = string(sign) + text
	}
	switch {
	case align == 0 && numeric, align == '>':
		return r.pad(text, width, fill, 1)
	case align == '^':
		gap := max(0, width-utf8.RuneCountInString(text))
		return r.pad(r.pad(text, utf8.RuneCountInString(text)+gap/2, fill, 1), width, fill, -1)
	case align == '=':
		head := ""
		if text != "" && strings.IndexByte("+- ", text[0]) >= 0 {
			head, text = text[:1], text[1:]
		}
		return head + r.pad(text, width-len(head), fill, 1)
	}
	return r.pad(text, width, fill, -1)
}

// leadingNumber reads a width or precision.
func (r *run) leadingNumber(s string, otherwise int) (int, string) {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n == 0 {
		return otherwise, s
	}
	v, err := strconv.Atoi(s[:n])
	if err != nil || v > 1<<20 {
		r.fail("format: the width or precision %.20s is too large", s[:n])
	}
	return v, s[n:]
}

// formatted is the text of a value under a format type, without padding.
func (r *run) formatted(v Value, kind string, precision int, group byte) (text string, numeric bool) {
	if s, ok := v.(string); ok {
		if kind != "" && kind != "s" {
			r.fail("unknown format code %q for a string", kind)
		}
		if precision >= 0 {
			s = s[:byteOffset(s, precision)]
		}
		return s, false
	}
	i, f, isInt, ok := number(v)
	if big, isBig := v.(*big.Int); isBig {
		return grouped(big.String(), group), true
	}
	if !ok {
		if kind == "" {
			return r.str(v), false
		}
		r.fail("unsupported format %q for %s", kind, typeName(v))
	}
	if precision > 400 {
		r.fail("format: the precision %d is too large", precision)
	}
	switch kind {
	case "d", "n", "":
		if isInt {
			return grouped(strconv.FormatInt(i, 10), group), true
		}
		if kind == "" && precision < 0 {
			return grouped(floatRepr(f), group), true
		}
		if kind == "" {
			return grouped(generalFloat(f, precision), group), true
		}
	case "x", "X", "o", "b", "c":
		if isInt {
			base := map[string]int{"x": 16, "X": 16, "o": 8, "b": 2}[kind]
			if kind == "c" {
				return string(rune(i)), false
			}
			s := strconv.FormatInt(i, base)
			if kind == "X" {
				s = strings.ToUpper(s)
			}
			return s, true
		}
	case "f", "F", "e", "E", "g", "G", "%":
		if precision < 0 {
			precision = 6
		}
		if isInt {
			f = float64(i)
		}
		switch kind {
		case "%":
			return grouped(strconv.FormatFloat(f*100, 'f', precision, 64), group) + "%", true
		case "g":
			return grouped(generalFloat(f, precision), group), true
		case "G":
			return strings.ToUpper(generalFloat(f, precision)), true
		}
		return grouped(strconv.FormatFloat(f, kind[0]|0x20, precision, 64), group), true
	}
	r.fail("unknown format code %q for %s", kind, typeName(v))
	return "", false
}

// generalFloat is C's %g.
func generalFloat(f float64, precision int) string {
	if precision == 0 {
		precision = 1
	}
	if f == 0 || math.IsInf(f, 0) || math.IsNaN(f) {
		return strings.TrimSuffix(floatRepr(f), ".0")
	}
	e := strconv.FormatFloat(f, 'e', precision-1, 64)
	at := strings.IndexByte(e, 'e')
	exp, _ := strconv.Atoi(e[at+1:])
	trim := func(s string) string {
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	if exp < -4 || exp >= precision {
		return trim(e[:at]) + e[at:]
	}
	return trim(strconv.FormatFloat(f, 'f', precision-1-exp, 64))
}

// grouped puts a separator between thousands.
func grouped(s string, sep byte) string {
	if sep == 0 {
		return s
	}
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	whole, rest := s, ""
	if i := strings.IndexAny(s, ".e"); i >= 0 {
		whole, rest = s[:i], s[i:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + string(sep) + whole[i:]
	}
	return sign + whole + rest
}

// printf is Python's "format" % values.
func (r *run) printf(format string, v Value) string {
	values := []Value{v}
	if t, ok := v.(Tuple); ok {
		values = t
	}
	used := 0
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		rest := format[i:]
		if strings.HasPrefix(rest, "%") {
			b.WriteByte('%')
			continue
		}
		var item Value
		named := strings.HasPrefix(rest, "(")
		if named {
			key, after, ok := strings.Cut(rest[1:], ")")
			d, isDict := v.(*Dict)
			if !ok || !isDict {
				r.fail("format requires a mapping")
			}
			if item, ok = d.Get(key); !ok {
				r.fail("format: no key %q", key)
			}
			used, rest = 1, after
		}
		flags := len(rest) - len(strings.TrimLeft(rest, "-+ 0#"))
		flag := rest[:flags]
		width, rest := r.leadingNumber(rest[flags:], 0)
		precision := -1
		if strings.HasPrefix(rest, ".") {
			precision, rest = r.leadingNumber(rest[1:], 0)
		}
		if rest == "" {
			r.fail("incomplete format")
		}
		if !named {
			if used >= len(values) {
				r.fail("not enough arguments for format string")
			}
			item = values[used]
			used++
		}
		text := r.printfItem(item, rest[0], precision)
		if strings.Contains(flag, "+") && rest[0] != 's' && rest[0] != 'r' && !strings.HasPrefix(text, "-") {
			text = "+" + text
		}
		switch {
		case strings.Contains(flag, "-"):
			text = r.pad(text, width, " ", -1)
		case strings.Contains(flag, "0") && rest[0] != 's' && rest[0] != 'r':
			text = r.formatZero(text, width)
		default:
			text = r.pad(text, width, " ", 1)
		}
		r.charge(len(text))
		b.WriteString(text)
		i = len(format) - len(rest)
	}
	if _, isDict := v.(*Dict); used < len(values) && !isDict {
		r.fail("not all arguments converted during string formatting")
	}
	r.charge(b.Len())
	return b.String()
}

func (r *run) formatZero(text string, width int) string {
	sign := ""
	if text != "" && (text[0] == '-' || text[0] == '+') {
		sign, text = text[:1], text[1:]
	}
	return sign + r.pad(text, width-len(sign), "0", 1)
}

func (r *run) printfItem(v Value, kind byte, precision int) string {
	switch kind {
	case 's', 'r', 'a':
		text := r.str(v)
		if kind != 's' {
			text = r.repr(v)
		}
		if precision >= 0 {
			text = text[:byteOffset(text, precision)]
		}
		return text
	case 'd', 'i', 'u':
		if f, ok := v.(float64); ok && math.Abs(f) < 1<<62 {
			v = int64(f)
		}
		text, _ := r.formatted(v, "d", -1, 0)
		return text
	case 'f', 'F', 'e', 'E', 'g', 'G', 'x', 'X', 'o':
		text, _ := r.formatted(v, string(kind), precision, 0)
		return text
	case 'c':
		if s, ok := v.(string); ok {
			return s
		}
		text, _ := r.formatted(v, "c", -1, 0)
		return text
	}
	r.fail("unsupported format character %q", kind)
	return ""
}
