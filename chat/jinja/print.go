package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Str is Python's str(v), as {{ v }} prints it; Undefined prints as nothing.
func Str(v Value) string {
	switch x := v.(type) {
	case string:
		return x
	case markup:
		return string(x)
	case *Undefined:
		return ""
	}
	var b strings.Builder
	writeRepr(&b, v, 0)
	return b.String()
}

// Repr is Python's repr(v).
func Repr(v Value) string {
	var b strings.Builder
	writeRepr(&b, v, 0)
	return b.String()
}

// maxNesting bounds how deep values may nest where they are printed or read.
const maxNesting = 500

func writeRepr(b *strings.Builder, v Value, depth int) {
	if depth > maxNesting {
		b.WriteString("...")
		return
	}
	sequence := func(open string, list []Value, shut string) {
		b.WriteString(open)
		for i, x := range list {
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, x, depth+1)
		}
		b.WriteString(shut)
	}
	switch x := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if x {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(x, 10))
	case *big.Int:
		b.WriteString(x.String())
	case float64:
		b.WriteString(floatRepr(x))
	case string:
		writeStringRepr(b, x)
	case markup:
		b.WriteString("Markup(")
		writeStringRepr(b, string(x))
		b.WriteByte(')')
	case *Undefined:
		b.WriteString("Undefined")
	case List:
		sequence("[", x, "]")
	case Tuple:
		if len(x) == 1 {
			sequence("(", x, ",)")
		} else {
			sequence("(", x, ")")
		}
	case *Dict:
		b.WriteByte('{')
		for i, k := range x.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, k, depth+1)
			b.WriteString(": ")
			writeRepr(b, x.vals[i], depth+1)
		}
		b.WriteByte('}')
	case *iterator:
		if x.view == "" {
			b.WriteString("<generator object>")
			return
		}
		b.WriteString(x.view + "(")
		writeRepr(b, List(x.items), depth+1)
		b.WriteByte(')')
	case *namespace:
		b.WriteString("<Namespace ")
		writeRepr(b, x.vars, depth+1)
		b.WriteByte('>')
	default:
		b.WriteString("<" + typeName(v) + ">")
	}
}

// floatRepr is Python's repr of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
func floatRepr(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f == 0:
		if math.Signbit(f) {
			return "-0.0"
		}
		return "0.0"
	}
	if a := math.Abs(f); a < 1e-4 || a >= 1e16 {
		return strconv.FormatFloat(f, 'e', -1, 64) // two digits of exponent at least, as in Python
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func writeStringRepr(b *strings.Builder, s string) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteByte(quote)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\\' || r == rune(quote):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || r > ' ' && r < 0x7f:
			b.WriteByte(byte(r))
		case r < 0x20 || r == 0x7f:
			writeHex(b, 'x', uint32(r), 2)
		case unicode.IsPrint(r):
			b.WriteString(s[i : i+n])
		case r <= 0xff:
			writeHex(b, 'x', uint32(r), 2)
		case r <= 0xffff:
			writeHex(b, 'u', uint32(r), 4)
		default:
			writeHex(b, 'U', uint32(r), 8)
		}
		i += n
	}
	b.WriteByte(quote)
}

func writeHex(b *strings.Builder, kind byte, r uint32, digits int) {
	const hex = "0123456789abcdef"
	b.WriteByte('\\')
	b.WriteByte(kind)
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		b.WriteByte(hex[r>>shift&15])
	}
}
