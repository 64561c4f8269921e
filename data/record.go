package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Field is one named value of a Row: a JSON value, or plain text where the format has no types (.txt, .csv).
type Field struct {
	Name string
	Raw  json.RawMessage // nil when the value is Text
	Text string
}

// Row is one record of a dataset file.
type Row struct {
	File   string
	Line   int64 // 1-based line where the record starts; the row number for parquet
	Fields []Field
}

// RowError is a malformed record. The reader stays usable: the next call to Next yields the record after it.
type RowError struct {
	File string
	Line int64
	Err  error
}

func (e *RowError) Error() string { return fmt.Sprintf("data: %s:%d: %v", e.File, e.Line, e.Err) }
func (e *RowError) Unwrap() error { return e.Err }

// Get returns the field with that name.
func (r *Row) Get(name string) (Field, bool) {
	if name == "" {
		return Field{}, false
	}
	for _, f := range r.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// Names lists the fields in file order.
func (r *Row) Names() []string {
	names := make([]string, len(r.Fields))
	for i, f := range r.Fields {
		names[i] = f.Name
	}
	return names
}

// IsNull reports a missing value: JSON null, or no text at all in a typeless format.
func (f Field) IsNull() bool {
	if f.Raw == nil {
		return f.Text == ""
	}
	return string(f.Raw) == "null"
}

// String returns a text value; ok is false when the JSON value is no string.
func (f Field) String() (s string, ok bool) {
	if f.Raw == nil {
		return f.Text, true
	}
	if len(f.Raw) == 0 || f.Raw[0] != '"' || json.Unmarshal(f.Raw, &s) != nil {
		return "", false
	}
	return s, true
}

// JSON returns the value as JSON text. Text that is itself a JSON array or object (a .csv cell, or a JSON string
// that holds JSON, as parquet exports often do) is returned as that array or object.
func (f Field) JSON() json.RawMessage {
	text := f.Text
	if f.Raw != nil {
		s, ok := f.String()
		if !ok {
			return f.Raw
		}
		text = s
	}
	if t := strings.TrimSpace(text); t != "" && (t[0] == '[' || t[0] == '{') && json.Valid([]byte(t)) {
		return json.RawMessage(t)
	}
	return quoteJSON(text)
}

// kind names the value's type for error messages.
func (f Field) kind() string {
	if f.Raw == nil {
		return "text"
	}
	return kindOfJSON(f.Raw)
}

func kindOfJSON(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// quoteJSON writes a JSON string without escaping <, > and &.
func quoteJSON(s string) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string always encodes
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

var (
	errInvalidUTF8 = errors.New("invalid UTF-8")
	errRowTooLong  = errors.New("record is longer than the limit")
)

// parseObject splits a JSON object into its fields in order; values stay raw. Of a name given twice the last wins,
// as in encoding/json.
func parseObject(b []byte) ([]Field, error) {
	if !utf8.Valid(b) {
		return nil, errInvalidUTF8
	}
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return nil, errors.New("empty record")
	}
	if b[0] != '{' {
		if !json.Valid(b) {
			return nil, jsonError(b)
		}
		return nil, fmt.Errorf("want a JSON object, got %s", kindOfJSON(b))
	}
	if !json.Valid(b) {
		return nil, jsonError(b)
	}
	var fields []Field
	i := skipSpace(b, 1)
	for b[i] != '}' {
		end := skipValue(b, i)
		var name string
		if err := json.Unmarshal(b[i:end], &name); err != nil {
			return nil, err
		}
		i = skipSpace(b, skipSpace(b, end)+1) // the colon
		end = skipValue(b, i)
		raw := json.RawMessage(b[i:end:end])
		replaced := false
		for k := range fields {
			if fields[k].Name == name {
				fields[k].Raw, replaced = raw, true
			}
		}
		if !replaced {
			fields = append(fields, Field{Name: name, Raw: raw})
		}
		if i = skipSpace(b, end); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return fields, nil
}

// jsonError says what is wrong with invalid JSON text.
func jsonError(b []byte) error {
	var v json.RawMessage
	err := json.Unmarshal(b, &v)
	if err == nil {
		err = errors.New("invalid JSON")
	}
	return err
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the JSON value that starts at i in valid JSON text.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return i
	}
	for i < len(b) && !strings.ContainsRune(",]} \n\t\r", rune(b[i])) && b[i] != ':' {
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}
