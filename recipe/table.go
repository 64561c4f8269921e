package recipe

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"danlu/internal/nearest"
)

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// Key is an implemented key: a line of `danlu recipe keys` and of the table test.
type Key struct {
	Name    string
	Type    string // string, bool, int, number, list, numbers, mapping
	Default string // as in YAML; "" when unset
	OneOf   []string
	group   int
	field   int
	tag     reflect.StructTag
}

var keyTable, keyIndex = buildTable()

func buildTable() ([]Key, map[string]*Key) {
	var table []Key
	groups := reflect.TypeFor[Groups]()
	for g := range groups.NumField() {
		group := groups.Field(g).Type
		for f := range group.NumField() {
			field := group.Field(f)
			k := Key{Name: field.Tag.Get("key"), Default: field.Tag.Get("default"), Type: typeName(field.Type), group: g, field: f, tag: field.Tag}
			if s := field.Tag.Get("oneof"); s != "" {
				k.OneOf = strings.Split(s, "|")
			}
			table = append(table, k)
		}
	}
	index := map[string]*Key{}
	for i := range table {
		if index[table[i].Name] != nil {
			panic("recipe: key " + table[i].Name + " stands twice in the table")
		}
		index[table[i].Name] = &table[i]
	}
	return table, index
}

func typeName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int64:
		return "int"
	case reflect.Float64:
		return "number"
	case reflect.Map:
		return "mapping"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Float64 {
			return "numbers"
		}
		return "list"
	}
	panic("recipe: no such key type: " + t.String())
}

// Keys returns the table of implemented keys in the order of the groups.
func Keys() []Key { return append([]Key(nil), keyTable...) }

// IsKey reports whether a recipe may hold a key, be it one that means nothing here or is refused.
func IsKey(name string) bool {
	_, alias := aliases[name]
	_, no := refused[name]
	return keyIndex[name] != nil || alias || no || meaningless[name]
}

// Meaningless returns the keys that are accepted and do nothing here, sorted.
func Meaningless() []string {
	var names []string
	for n := range meaningless {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// want words the expected value of a key.
func (k *Key) want() string {
	if len(k.OneOf) > 0 {
		return "one of " + strings.Join(k.OneOf, ", ")
	}
	w := map[string]string{"string": "a string", "bool": "true or false", "int": "a whole number", "number": "a number", "list": "a list or comma-separated string", "numbers": "a list of numbers", "mapping": "a mapping"}[k.Type]
	for _, bound := range []struct{ tag, text string }{{"min", "of at least"}, {"above", "above"}, {"max", "up to"}} {
		if v := k.tag.Get(bound.tag); v != "" {
			w += " " + bound.text + " " + v
		}
	}
	return w
}

// set stores a YAML value into a field. The error holds want and got, without the place.
func (k *Key) set(field reflect.Value, n *yaml.Node) error {
	bad := func() error { return fmt.Errorf("want %s, got %s", k.want(), describe(n)) }
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if field.Kind() == reflect.Pointer {
		target := reflect.New(field.Type().Elem())
		if err := k.set(target.Elem(), n); err != nil {
			return err
		}
		field.Set(target)
		return nil
	}
	switch field.Kind() {
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			return bad()
		}
		m := map[string]any{}
		if err := n.Decode(&m); err != nil {
			return fmt.Errorf("want %s: %s", k.want(), oneLine(err))
		}
		field.Set(reflect.ValueOf(m))
		return nil
	case reflect.Slice:
		return k.setSlice(field, n, bad)
	}
	if n.Kind != yaml.ScalarNode {
		return bad()
	}
	text := n.Value
	if len(k.OneOf) > 0 && !oneOf(k.OneOf, text) {
		return bad()
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Bool:
		b, ok := parseBool(text)
		if !ok || quoted(n) {
			return bad()
		}
		field.SetBool(b)
	case reflect.Int, reflect.Int64:
		v, ok := parseNumber(text)
		if !ok || quoted(n) || v != math.Trunc(v) || math.Abs(v) > 1<<53 || !k.inRange(v) {
			return bad()
		}
		if i, err := strconv.ParseInt(text, 10, 64); err == nil { // exact beyond 2^53
			field.SetInt(i)
		} else {
			field.SetInt(int64(v))
		}
	case reflect.Float64:
		v, ok := parseNumber(text)
		if !ok || quoted(n) || !k.inRange(v) {
			return bad()
		}
		field.SetFloat(v)
	}
	return nil
}

func (k *Key) setSlice(field reflect.Value, n *yaml.Node, bad func() error) error {
	var parts []*yaml.Node
	switch {
	case n.Kind == yaml.SequenceNode:
		parts = n.Content
	case n.Kind == yaml.ScalarNode:
		for _, s := range strings.Split(n.Value, ",") {
			if s = strings.TrimSpace(s); s != "" {
				parts = append(parts, &yaml.Node{Kind: yaml.ScalarNode, Value: s})
			}
		}
	default:
		return bad()
	}
	out := reflect.MakeSlice(field.Type(), 0, len(parts))
	for _, p := range parts {
		if p.Kind == yaml.AliasNode {
			p = p.Alias
		}
		if p.Kind != yaml.ScalarNode || isNull(p) {
			return bad()
		}
		if field.Type().Elem().Kind() == reflect.String {
			out = reflect.Append(out, reflect.ValueOf(p.Value))
			continue
		}
		v, ok := parseNumber(p.Value)
		if !ok || quoted(p) {
			return bad()
		}
		out = reflect.Append(out, reflect.ValueOf(v))
	}
	field.Set(out)
	return nil
}

func oneOf(allowed []string, s string) bool {
	for _, a := range allowed {
		if a == s {
			return true
		}
	}
	return false
}

// parseNumber reads what YAML 1.1 and 1.2 users write for numbers, 1e-4 and 1_000 among it; NaN and infinities are none.
func parseNumber(s string) (float64, bool) {
	v, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	return v, err == nil && !math.IsNaN(v) && !math.IsInf(v, 0)
}

func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}

func (k *Key) inRange(v float64) bool {
	for _, bound := range []struct {
		tag string
		ok  func(limit float64) bool
	}{
		{"min", func(l float64) bool { return v >= l }},
		{"above", func(l float64) bool { return v > l }},
		{"max", func(l float64) bool { return v <= l }},
	} {
		if s := k.tag.Get(bound.tag); s != "" {
			limit, err := strconv.ParseFloat(s, 64)
			if err != nil || !bound.ok(limit) {
				return false
			}
		}
	}
	return true
}

func quoted(n *yaml.Node) bool {
	return n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
}

func isNull(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n.Kind == yaml.ScalarNode && !quoted(n) && (n.Tag == "!!null" || n.Value == "" || n.Value == "~" || strings.EqualFold(n.Value, "null") || n.Value == "None")
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return describe(n.Alias)
	}
	if quoted(n) {
		return "the string " + strconv.Quote(n.Value)
	}
	return strconv.Quote(n.Value)
}

// nearestKey returns the known key closest to a misspelt one, "" when none is close.
func nearestKey(name string) string {
	known := slices.Concat(slices.Collect(maps.Keys(meaningless)), slices.Collect(maps.Keys(refused)))
	for _, k := range keyTable {
		known = append(known, k.Name)
	}
	return nearest.Of(name, known)
}
