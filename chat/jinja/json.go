package jinja

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ParseJSON reads one JSON value. Objects keep their order, integers and floats stay distinct.
func ParseJSON(data []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := readJSON(d, 0)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more text behind the JSON value at byte %d", d.InputOffset())
	}
	return v, nil
}

func readJSON(d *json.Decoder, depth int) (Value, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("JSON nests deeper than %d", maxNesting)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch x := t.(type) {
	case json.Number:
		return readNumber(string(x))
	case json.Delim:
		if x == '[' {
			list := List{}
			for d.More() {
				v, err := readJSON(d, depth+1)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			_, err := d.Token()
			return list, err
		}
		dict := NewDict()
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := readJSON(d, depth+1)
			if err != nil {
				return nil, err
			}
			dict.SetString(k.(string), v)
		}
		_, err := d.Token()
		return dict, err
	}
	return t, nil // nil, bool, string
}

func readNumber(s string) (Value, error) {
	if !strings.ContainsAny(s, ".eE") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n, nil
		}
		if len(s) > 4300 { // Python's own limit
			return nil, fmt.Errorf("an integer of %d digits", len(s))
		}
		n, ok := new(big.Int).SetString(s, 10)
		if !ok {
			return nil, fmt.Errorf("bad number %q", s)
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return nil, err
	}
	return f, nil
}

// JSONStyle says how JSON is written, with the names and defaults of Python's json.dumps.
type JSONStyle struct {
	Indent      string // of one level, when Indented
	Indented    bool
	ItemSep     string // "": ", ", or "," when Indented
	KeySep      string // "": ": "
	SortKeys    bool
	EnsureASCII bool
	exact       bool // the separators are as given, though they be empty
}

// DumpJSON writes v as Python's json.dumps does. An Undefined or a function is an error.
func DumpJSON(v Value, style JSONStyle) (string, error) {
	if style.ItemSep == "" && !style.exact {
		style.ItemSep = ", "
		if style.Indented {
			style.ItemSep = ","
		}
	}
	if style.KeySep == "" && !style.exact {
		style.KeySep = ": "
	}
	var b strings.Builder
	err := style.write(&b, v, 0)
	return b.String(), err
}

func (s *JSONStyle) newline(b *strings.Builder, depth int) {
	if s.Indented {
		b.WriteByte('\n')
		for range depth {
			b.WriteString(s.Indent)
		}
	}
}

func (s *JSONStyle) write(b *strings.Builder, v Value, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("JSON nests deeper than %d", maxNesting)
	}
	switch x := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(x))
	case int64:
		b.WriteString(strconv.FormatInt(x, 10))
	case *big.Int:
		b.WriteString(x.String())
	case float64:
		b.WriteString(jsonFloat(x))
	case string:
		s.quote(b, x)
	case markup:
		s.quote(b, string(x))
	case List:
		return s.list(b, x, depth)
	case Tuple:
		return s.list(b, x, depth)
	case *Dict:
		return s.dict(b, x, depth)
	default:
		return fmt.Errorf("a value of type %s has no JSON form", typeName(v))
	}
	return nil
}

func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return floatRepr(f)
}

func (s *JSONStyle) list(b *strings.Builder, list []Value, depth int) error {
	if len(list) == 0 {
		b.WriteString("[]")
		return nil
	}
	b.WriteByte('[')
	for i, x := range list {
		if i > 0 {
			b.WriteString(s.ItemSep)
		}
		s.newline(b, depth+1)
		if err := s.write(b, x, depth+1); err != nil {
			return err
		}
	}
	s.newline(b, depth)
	b.WriteByte(']')
	return nil
}

func (s *JSONStyle) dict(b *strings.Builder, d *Dict, depth int) error {
	if d.Len() == 0 {
		b.WriteString("{}")
		return nil
	}
	order := make([]int, d.Len())
	for i := range order {
		order[i] = i
	}
	if s.SortKeys {
		var fault error
		sort.SliceStable(order, func(i, j int) bool {
			less, err := (&run{limits: Limits{Steps: math.MaxInt}}).lessThan(d.keys[order[i]], d.keys[order[j]])
			if err != nil {
				fault = err
			}
			return less
		})
		if fault != nil {
			return fault
		}
	}
	b.WriteByte('{')
	for n, i := range order {
		if n > 0 {
			b.WriteString(s.ItemSep)
		}
		s.newline(b, depth+1)
		switch k := d.keys[i].(type) {
		case string:
			s.quote(b, k)
		case nil:
			b.WriteString(`"null"`)
		case bool:
			b.WriteString(strconv.Quote(strconv.FormatBool(k)))
		case int64, *big.Int:
			b.WriteString(strconv.Quote(Str(k)))
		case float64:
			b.WriteString(strconv.Quote(jsonFloat(k)))
		default:
			return fmt.Errorf("keys must be str, int, float, bool or None, not %s", typeName(k))
		}
		b.WriteString(s.KeySep)
		if err := s.write(b, d.vals[i], depth+1); err != nil {
			return err
		}
	}
	s.newline(b, depth)
	b.WriteByte('}')
	return nil
}

// quote writes a JSON string with Python's escapes.
func (s *JSONStyle) quote(b *strings.Builder, text string) {
	b.WriteByte('"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c != '"' && c != '\\' && (c < 0x7f || !s.EnsureASCII) {
			i++
			continue
		}
		b.WriteString(text[start:i])
		n := 1
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\b':
			b.WriteString(`\b`)
		case c == '\f':
			b.WriteString(`\f`)
		case c < 0x20 || c == 0x7f:
			writeHex(b, 'u', uint32(c), 4)
		default:
			var r rune
			if r, n = utf8.DecodeRuneInString(text[i:]); r > 0xffff {
				r -= 0x10000
				writeHex(b, 'u', uint32(0xd800+r>>10), 4)
				writeHex(b, 'u', uint32(0xdc00+r&0x3ff), 4)
			} else {
				writeHex(b, 'u', uint32(r), 4)
			}
		}
		i += n
		start = i
	}
	b.WriteString(text[start:])
	b.WriteByte('"')
}
