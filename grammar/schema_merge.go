package grammar

import (
	"slices"

	"danlu/chat/jinja"
)

// merged is a schema that admits what both admit.
func (c *compiler) merged(base *jinja.Dict, other jinja.Value, path string) (*jinja.Dict, error) {
	if c.depth++; c.depth > maxSchemaDepth {
		return nil, at(path, "schemas nest deeper than %d", maxSchemaDepth)
	}
	defer func() { c.depth-- }()
	if other == true {
		return base, nil
	}
	d, ok := other.(*jinja.Dict)
	if !ok {
		return nil, at(path, "want a schema, got %s", jinja.Repr(other))
	}
	if ref, ok := d.Get("$ref"); ok {
		target, err := c.resolve(ref)
		if err != nil {
			return nil, at(path, "$ref: %v", err)
		}
		merged, err := c.merged(base, target, path)
		if err != nil {
			return nil, err
		}
		return c.merged(merged, without(d, "$ref"), path)
	}
	if err := closed(base, d, path); err != nil {
		return nil, err
	}
	out := base.Clone()
	for i := range d.Len() {
		k, v := d.At(i)
		key := jinja.Str(k)
		old, both := out.Get(key)
		if !both || jinja.Equal(old, v) || slices.Contains(annotations, key) {
			out.SetString(key, v)
			continue
		}
		joined, err := join(key, old, v)
		if err != nil {
			return nil, at(path, "%v", err)
		}
		out.SetString(key, joined)
	}
	return out, nil
}

// closed refuses to merge a schema without other members with one that names others: neither order of the two rules is
// what their conjunction means.
func closed(a, b *jinja.Dict, path string) error {
	for _, x := range [][2]*jinja.Dict{{a, b}, {b, a}} {
		if v, ok := x[0].Get("additionalProperties"); !ok || v == true {
			continue
		}
		mine, _ := x[0].Get("properties")
		theirs, _ := x[1].Get("properties")
		own, _ := mine.(*jinja.Dict)
		others, _ := theirs.(*jinja.Dict)
		for i := 0; others != nil && i < others.Len(); i++ {
			if k, _ := others.At(i); own == nil {
				return at(path, "additionalProperties of one schema and properties of another cannot be merged")
			} else if _, ok := own.Get(k); !ok {
				return at(path, "additionalProperties of one schema and the property %q of another cannot be merged", k)
			}
		}
	}
	return nil
}

// join is what two values of a keyword come to together.
func join(key string, a, b jinja.Value) (jinja.Value, error) {
	listA, okA := a.(jinja.List)
	listB, okB := b.(jinja.List)
	dictA, _ := a.(*jinja.Dict)
	dictB, _ := b.(*jinja.Dict)
	in := func(list jinja.List, x jinja.Value) bool {
		return slices.ContainsFunc(list, func(y jinja.Value) bool { return jinja.Equal(x, y) })
	}
	switch key {
	case "properties":
		if dictA != nil && dictB != nil {
			return joinProperties(dictA, dictB), nil
		}
	case "required":
		if okA && okB {
			out := slices.Clone(listA)
			for _, x := range listB {
				if !in(out, x) {
					out = append(out, x)
				}
			}
			return out, nil
		}
	case "type", "enum":
		if !okA {
			listA = jinja.List{a}
		}
		if !okB {
			listB = jinja.List{b}
		}
		var out jinja.List
		for _, x := range listA {
			switch {
			case in(listB, x), x == "integer" && in(listB, "number"):
				out = append(out, x)
			case x == "number" && in(listB, "integer"):
				out = append(out, "integer")
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	case "items", "additionalProperties":
		return both(a, b), nil
	case "allOf":
		if okA && okB {
			return slices.Concat(listA, listB), nil
		}
	case "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties":
		x, okX := float(a)
		y, okY := float(b)
		if okX && okY {
			larger := key[:3] == "min" || key == "exclusiveMinimum"
			if (x > y) == larger {
				return a, nil
			}
			return b, nil
		}
	}
	return nil, errNotMerged(key)
}

type errNotMerged string

// Error implements error.
func (e errNotMerged) Error() string {
	return "the values of " + string(e) + " of two schemas that both hold cannot be merged"
}

// both is a schema that admits what two admit.
func both(a, b jinja.Value) jinja.Value {
	switch {
	case a == false || b == false:
		return false
	case a == true:
		return b
	case b == true:
		return a
	}
	d := jinja.NewDict()
	d.SetString("allOf", jinja.List{a, b})
	return d
}

func joinProperties(a, b *jinja.Dict) *jinja.Dict {
	out := a.Clone()
	for i := range b.Len() {
		k, v := b.At(i)
		if old, ok := out.Get(k); ok && !jinja.Equal(old, v) {
			v = both(old, v)
		}
		out.SetString(jinja.Str(k), v)
	}
	return out
}

func float(v jinja.Value) (float64, bool) {
	switch x := v.(type) {
	case int64:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}
