package grammar

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"danlu/chat/jinja"
)

// FromSchema admits the values of a JSON Schema. What the grammar admits is valid; what is valid and not admitted is
// another order of members than the schema's, members that properties does not name unless additionalProperties says
// more, and unusual spellings. oneOf is read as anyOf. A keyword that constrains values and that no grammar here can hold
// is an error that names it.
func FromSchema(schema []byte, v *Vocabulary) (*Grammar, error) {
	j := newJSON()
	p, err := j.schema(schema)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	j.a.define(root, p)
	g, err := j.a.compile(v)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return g, nil
}

// schema is what a document admits.
func (j *jsonRules) schema(document []byte) (piece, error) {
	if len(document) > maxSource {
		return nil, fmt.Errorf("it has %d bytes, want at most %d", len(document), maxSource)
	}
	v, err := jinja.ParseJSON(document)
	if err != nil {
		return nil, err
	}
	return j.compiler(v).value(v, "#")
}

// compiler turns the schemas of a document into rules.
type compiler struct {
	*jsonRules
	document jinja.Value
	refs     map[string]int32 // rules by reference
	seen     int              // schemas read so far
	depth    int
}

func (j *jsonRules) compiler(document jinja.Value) *compiler {
	return &compiler{jsonRules: j, document: document, refs: map[string]int32{}}
}

// Limits of a schema: merging can multiply what a document holds.
const (
	maxSchemas     = 1 << 13
	maxSchemaDepth = 64
)

// annotations say nothing about which values are valid.
var annotations = strings.Fields(`title description default examples example deprecated readOnly writeOnly nullable $schema $id $comment $anchor
	$defs definitions contentMediaType contentEncoding strict discriminator externalDocs xml`)

// at is an error about a place of the document.
func at(path, format string, args ...any) error {
	return fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...))
}

// value is what a schema admits.
func (c *compiler) value(schema jinja.Value, path string) (piece, error) {
	if c.seen++; c.seen > maxSchemas {
		return nil, at(path, "the document comes to more than %d schemas", maxSchemas)
	}
	if c.depth++; c.depth > maxSchemaDepth {
		return nil, at(path, "schemas nest deeper than %d", maxSchemaDepth)
	}
	defer func() { c.depth-- }()
	switch x := schema.(type) {
	case bool:
		if x {
			return call(c.jsonRules.value), nil
		}
		return runes(nil).one, nil // no value
	case *jinja.Dict:
		return c.object(x, path)
	}
	return nil, at(path, "want an object or true or false, got %s", jinja.Repr(schema))
}

// object is what a schema that is an object admits.
func (c *compiler) object(d *jinja.Dict, path string) (piece, error) {
	if ref, ok := d.Get("$ref"); ok {
		if other := constraint(d, "$ref"); other != "" {
			merged, err := c.merged(jinja.NewDict(), d, path)
			if err != nil {
				return nil, err
			}
			return c.value(merged, path)
		}
		return c.reference(ref, path)
	}
	for _, key := range []string{"allOf", "anyOf", "oneOf"} {
		if list, ok := d.Get(key); ok {
			return c.combined(d, key, list, path)
		}
	}
	for i := range d.Len() {
		if key := jinja.Str(keyOf(d, i)); !slices.Contains(annotations, key) && !slices.Contains(keywords, key) {
			return nil, at(path, "%q is not supported", key)
		}
	}
	if list, ok := constants(d); ok {
		return c.constants(d, list, path)
	}
	return c.typed(d, path)
}

func keyOf(d *jinja.Dict, i int) jinja.Value {
	k, _ := d.At(i)
	return k
}

// keywords are what typed and constants read.
var keywords = strings.Fields(`type enum const properties required additionalProperties minProperties maxProperties items prefixItems minItems maxItems
	pattern minLength maxLength format minimum maximum exclusiveMinimum exclusiveMaximum`)

// constraint is the first key besides except that is no annotation, "" for none.
func constraint(d *jinja.Dict, except string) string {
	for i := range d.Len() {
		if key := jinja.Str(keyOf(d, i)); key != except && !slices.Contains(annotations, key) {
			return key
		}
	}
	return ""
}

func without(d *jinja.Dict, key string) *jinja.Dict {
	out := jinja.NewDict()
	for i := range d.Len() {
		if k, v := d.At(i); k != key {
			out.SetString(jinja.Str(k), v)
		}
	}
	return out
}

// reference calls the rule of what a $ref points to.
func (c *compiler) reference(ref jinja.Value, path string) (piece, error) {
	target, err := c.resolve(ref)
	if err != nil {
		return nil, at(path, "$ref: %v", err)
	}
	name := ref.(string) // resolve takes nothing else
	if r, ok := c.refs[name]; ok {
		return call(r), nil
	}
	r := c.a.declare(name)
	c.refs[name] = r
	body, err := c.value(target, name)
	if err != nil {
		return nil, err
	}
	c.a.define(r, body)
	return call(r), nil
}

// resolve finds what a reference within the document points to.
func (c *compiler) resolve(v jinja.Value) (jinja.Value, error) {
	ref, ok := v.(string)
	pointer, local := strings.CutPrefix(ref, "#")
	if !ok || !local || pointer != "" && pointer[0] != '/' {
		return nil, fmt.Errorf("want a place in this schema such as #/$defs/name, got %s", jinja.Repr(v))
	}
	if v = c.document; pointer == "" {
		return v, nil
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for part := range strings.SplitSeq(pointer[1:], "/") {
		key, found := unescape.Replace(part), false
		switch x := v.(type) {
		case *jinja.Dict:
			v, found = x.Get(key)
		case jinja.List:
			if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(x) {
				v, found = x[i], true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no %s", ref)
		}
	}
	return v, nil
}

// combined reads allOf, anyOf or oneOf; what stands beside it holds for all alternatives.
func (c *compiler) combined(d *jinja.Dict, key string, v jinja.Value, path string) (piece, error) {
	list, ok := v.(jinja.List)
	if !ok || len(list) == 0 {
		return nil, at(path, "%s: want a list of schemas", key)
	}
	base := without(d, key)
	if key == "allOf" {
		for i, x := range list {
			var err error
			if base, err = c.merged(base, x, fmt.Sprintf("%s/allOf/%d", path, i)); err != nil {
				return nil, err
			}
		}
		return c.value(base, path)
	}
	var all []piece
	for i, x := range list {
		here := fmt.Sprintf("%s/%s/%d", path, key, i)
		if constraint(base, "") != "" {
			merged, err := c.merged(base, x, here)
			if err != nil {
				return nil, err
			}
			x = merged
		}
		p, err := c.value(x, here)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return either(all...), nil
}

// constants are the values of const or enum.
func constants(d *jinja.Dict) (jinja.Value, bool) {
	if v, ok := d.Get("const"); ok {
		return jinja.List{v}, true
	}
	return d.Get("enum")
}

func (c *compiler) constants(d *jinja.Dict, v jinja.Value, path string) (piece, error) {
	list, ok := v.(jinja.List)
	if !ok {
		return nil, at(path, "enum: want a list of values")
	}
	types, err := typesOf(d, path)
	if err != nil {
		return nil, err
	}
	for _, key := range keywords {
		if _, ok := d.Get(key); ok && !slices.Contains([]string{"enum", "const", "type"}, key) {
			return nil, at(path, "%q beside values that are listed is not supported", key)
		}
	}
	if both, ok := d.Get("enum"); ok {
		if among, ok := both.(jinja.List); !ok || !slices.ContainsFunc(among, func(x jinja.Value) bool {
			return slices.ContainsFunc(list, func(y jinja.Value) bool { return jinja.Equal(x, y) })
		}) {
			return nil, at(path, "const and enum have no value in common")
		}
	}
	var texts []string
	for _, x := range list {
		if !slices.ContainsFunc(types, func(t string) bool { return isOf(x, t) }) {
			continue
		}
		s, err := jinja.DumpJSON(x, jinja.JSONStyle{})
		if err != nil {
			return nil, at(path, "enum: %v", err)
		}
		texts = append(texts, s)
	}
	if len(texts) == 0 {
		return nil, at(path, "no value is of the type and in the list")
	}
	return oneOf(texts), nil
}

var allTypes = []string{"object", "array", "string", "number", "integer", "boolean", "null"}

// typesOf reads type: a name or a list of names; nothing stands for all.
func typesOf(d *jinja.Dict, path string) ([]string, error) {
	v, ok := d.Get("type")
	list, isList := v.(jinja.List)
	switch {
	case !ok:
		return allTypes, nil
	case !isList:
		list = jinja.List{v}
	}
	var types []string
	for _, x := range list {
		name, ok := x.(string)
		if !ok || !slices.Contains(allTypes, name) {
			return nil, at(path, "type: want %s, got %s", strings.Join(allTypes, ", "), jinja.Repr(x))
		}
		types = append(types, name)
	}
	if len(types) == 0 {
		return nil, at(path, "type: the list is empty")
	}
	if v, _ := d.Get("nullable"); v == true {
		types = append(types, "null")
	}
	return types, nil
}

// isOf reports whether a value is of a type.
func isOf(v jinja.Value, kind string) bool {
	switch x := v.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string"
	case jinja.List:
		return kind == "array"
	case *jinja.Dict:
		return kind == "object"
	case float64:
		return kind == "number" || kind == "integer" && x == float64(int64(x))
	}
	return kind == "number" || kind == "integer" // int64 and larger
}

// typed is a schema's value by its types.
func (c *compiler) typed(d *jinja.Dict, path string) (piece, error) {
	types, err := typesOf(d, path)
	if err != nil {
		return nil, err
	}
	if _, given := d.Get("type"); !given {
		if types = implied(d); types == nil {
			return call(c.jsonRules.value), nil
		}
	}
	var all []piece
	for _, t := range types {
		if t == "integer" && slices.Contains(types, "number") {
			continue
		}
		p, err := c.ofType(t, d, path)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return either(all...), nil
}

// implied are the types that a schema without one speaks of, nil where it speaks of none.
func implied(d *jinja.Dict) []string {
	var types []string
	for _, x := range []struct{ kind, keys string }{{"object", "properties required additionalProperties minProperties maxProperties"}, {"array", "items prefixItems minItems maxItems"},
		{"string", "pattern minLength maxLength format"}, {"number", "minimum maximum exclusiveMinimum exclusiveMaximum"}} {
		if slices.ContainsFunc(strings.Fields(x.keys), func(key string) bool { _, ok := d.Get(key); return ok }) {
			types = append(types, x.kind)
		}
	}
	return types
}

func (c *compiler) ofType(kind string, d *jinja.Dict, path string) (piece, error) {
	switch kind {
	case "object":
		return c.members(d, path)
	case "array":
		return c.items(d, path)
	case "string":
		return stringOf(d, path)
	case "number", "integer":
		return numberOf(d, kind == "integer", path)
	case "boolean":
		return oneOf([]string{"true", "false"}), nil
	case "null":
		return literal("null"), nil
	}
	return nil, errors.New(kind) // typesOf knows no others
}

// count reads a number of things, -1 for none given.
func count(d *jinja.Dict, key, path string) (int, error) {
	v, ok := d.Get(key)
	if !ok {
		return -1, nil
	}
	switch x := v.(type) {
	case int64:
		if x >= 0 && x <= maxStates {
			return int(x), nil
		}
	case float64:
		if x >= 0 && x <= maxStates && x == float64(int(x)) {
			return int(x), nil
		}
	}
	return 0, at(path, "%s: want a whole number of 0 to %d, got %s", key, maxStates, jinja.Repr(v))
}

// bounds reads two counts that belong together; most is unbounded where it is not given.
func bounds(d *jinja.Dict, least, most, path string) (lo, hi int, err error) {
	if lo, err = count(d, least, path); err != nil {
		return 0, 0, err
	}
	if hi, err = count(d, most, path); err != nil {
		return 0, 0, err
	}
	if lo = max(lo, 0); hi >= 0 && hi < lo {
		return 0, 0, at(path, "%s %d is more than %s %d", least, lo, most, hi)
	}
	return lo, hi, nil
}
