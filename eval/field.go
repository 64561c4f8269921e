package eval

import (
	"fmt"
	"strings"

	"danlu/chat/jinja"
)

// Doc is one item of a dataset: its columns by name.
type Doc = *jinja.Dict

// field is how a task makes a value of an item: a column, a template, a constant or a function.
type field struct {
	key      string // in the task file, for messages
	source   string
	template *jinja.Template
	constant jinja.Value                    // a number or a list; nil: none
	call     func(Doc) (jinja.Value, error) // nil: none
}

// newField reads a template, which may also be the name of a column.
func newField(key, source string) (*field, error) {
	t, err := jinja.ParsePrompt(source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return &field{key: key, source: source, template: t}, nil
}

// value is the field of an item; of a column the value itself, of a template its text.
func (f *field) value(d Doc) (jinja.Value, error) {
	switch {
	case f.constant != nil:
		return f.constant, nil
	case f.call != nil:
		v, err := f.call(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.key, err)
		}
		return v, nil
	}
	if v, ok := d.Get(f.source); ok {
		return v, nil
	}
	if f.template == nil {
		return nil, fmt.Errorf("%s: there is no column %s; there are %s", f.key, f.source, strings.Join(columns(d), ", "))
	}
	res, err := f.template.Render(d, jinja.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w; the columns are %s", f.key, err, strings.Join(columns(d), ", "))
	}
	return res.Text, nil
}

// text is the field of an item as a text.
func (f *field) text(d Doc) (string, error) {
	if f == nil {
		return "", nil
	}
	v, err := f.value(d)
	if err != nil {
		return "", err
	}
	return jinja.Str(v), nil
}

// target is the field of an item whose text may spell a whole number (an index of choices) or a list.
func (f *field) target(d Doc, choices bool) (jinja.Value, error) {
	v, err := f.value(d)
	s, isText := v.(string)
	if err != nil || !isText || f.template == nil {
		return v, err
	}
	if _, column := d.Get(f.source); column {
		return v, nil
	}
	if choices && digits(s) || strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") && len(s) >= 2 {
		if l, err := jinja.Literal(s); err == nil {
			return l, nil
		}
	}
	return s, nil
}

// list is the field of an item as texts: a list, the values of a dict, or a text that spells a list.
func (f *field) list(d Doc) ([]string, error) {
	v, err := f.value(d)
	if err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		if v, err = jinja.Literal(s); err != nil {
			return nil, fmt.Errorf("%s: want a list, got %q", f.key, short(s))
		}
	}
	var items []jinja.Value
	switch x := v.(type) {
	case jinja.List:
		items = x
	case jinja.Tuple:
		items = x
	case *jinja.Dict:
		for i := range x.Len() {
			_, v := x.At(i)
			items = append(items, v)
		}
	default:
		return nil, fmt.Errorf("%s: want a list, got %s", f.key, short(jinja.Repr(v)))
	}
	out := make([]string, len(items))
	for i, x := range items {
		out[i] = jinja.Str(x)
	}
	return out, nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func columns(d Doc) []string {
	var names []string
	for i := range d.Len() {
		k, _ := d.At(i)
		names = append(names, jinja.Str(k))
	}
	return names
}

// short cuts a text for a message.
func short(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
