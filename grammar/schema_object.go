package grammar

import (
	"fmt"
	"slices"
	"strings"

	"danlu/chat/jinja"
)

// member is a property of an object.
type member struct {
	name     string
	value    piece
	required bool
}

// rule makes a piece a rule of its own.
func (c *compiler) rule(name string, p piece) piece {
	r := c.a.declare(name)
	if c.a.err != nil {
		return nothing
	}
	c.a.define(r, p)
	return call(r)
}

// members is an object with the schema's properties, in the schema's order.
func (c *compiler) members(d *jinja.Dict, path string) (piece, error) {
	for _, key := range []string{"minProperties", "maxProperties"} {
		if n, err := count(d, key, path); err != nil || n >= 0 && (key == "maxProperties" || n > 1) {
			if err != nil {
				return nil, err
			}
			return nil, at(path, "%q is not supported", key)
		}
	}
	list, err := c.properties(d, path)
	if err != nil {
		return nil, err
	}
	extra, err := c.additional(d, list, path)
	if err != nil {
		return nil, err
	}
	if n, _ := count(d, "minProperties", path); n == 1 && !slices.ContainsFunc(list, func(m member) bool { return m.required }) {
		return nil, at(path, `"minProperties" is not supported where no property is required`)
	}
	if closed, _ := d.Get("additionalProperties"); list == nil && extra == nil && closed != false {
		return call(c.jsonRules.object), nil
	}
	return c.rule(path, c.enclosed("{", "}", sequence(c.written(list, extra), call(c.blank)))), nil
}

// properties reads the members that a schema names; those that are required only, last.
func (c *compiler) properties(d *jinja.Dict, path string) ([]member, error) {
	required, err := names(d, path)
	if err != nil {
		return nil, err
	}
	var list []member
	if v, ok := d.Get("properties"); ok {
		props, ok := v.(*jinja.Dict)
		if !ok {
			return nil, at(path, "properties: want an object")
		}
		list = []member{}
		for i := range props.Len() {
			k, schema := props.At(i)
			name := jinja.Str(k)
			p, err := c.value(schema, path+"/properties/"+name)
			if err != nil {
				return nil, err
			}
			list = append(list, member{name, p, slices.Contains(required, name)})
		}
	}
	for _, name := range required {
		if slices.ContainsFunc(list, func(m member) bool { return m.name == name }) {
			continue
		}
		schema, ok := d.Get("additionalProperties")
		if schema == false {
			return nil, at(path, "%q is required and additionalProperties forbids it", name)
		}
		if !ok {
			schema = true
		}
		p, err := c.value(schema, path+"/additionalProperties")
		if err != nil {
			return nil, err
		}
		list = append(list, member{name, p, true})
	}
	return list, nil
}

// names reads required.
func names(d *jinja.Dict, path string) ([]string, error) {
	v, ok := d.Get("required")
	if !ok {
		return nil, nil
	}
	list, ok := v.(jinja.List)
	var out []string
	for _, x := range list {
		s, isText := x.(string)
		if ok = ok && isText; !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if !ok {
		return nil, at(path, "required: want a list of names")
	}
	return out, nil
}

// additional is a member that properties does not name, nil where there is none.
func (c *compiler) additional(d *jinja.Dict, list []member, path string) (piece, error) {
	schema, ok := d.Get("additionalProperties")
	switch {
	case !ok && list != nil, schema == false:
		return nil, nil
	case !ok, schema == true && list == nil:
		return nil, nil // any object
	}
	value, err := c.value(schema, path+"/additionalProperties")
	if err != nil {
		return nil, err
	}
	var taken []string
	for _, m := range list {
		taken = append(taken, m.name)
	}
	slices.Sort(taken)
	name := c.rule(path+"/name", quoted(otherThan(taken)))
	return sequence(name, c.colon(), value), nil
}

// otherThan reads the characters of a name, none of which needs an escape, that is not one of the sorted names.
func otherThan(names []string) piece {
	return func(a *automaton, from int32) int32 {
		end := a.add()
		rest := repeat(unescaped.one, 0, unbounded)
		var differ func(from int32, names []string)
		differ = func(from int32, names []string) {
			if names[0] != "" {
				a.skip(from, end)
			}
			other := unescaped
			for len(names) > 0 && a.err == nil {
				if names[0] == "" {
					names = names[1:]
					continue
				}
				r := []rune(names[0])[0]
				var tails []string
				for len(names) > 0 && strings.HasPrefix(names[0], string(r)) {
					tails = append(tails, strings.TrimPrefix(names[0], string(r)))
					names = names[1:]
				}
				if one := (runes{{r, r}}); unescaped.has(r) {
					differ(one.one(a, from), tails)
					other = other.common(one.without())
				}
			}
			a.skip(rest(a, other.one(a, from)), end)
		}
		if len(names) == 0 {
			return rest(a, from)
		}
		differ(from, names)
		return end
	}
}

// written reads members with commas between those that are there.
func (c *compiler) written(list []member, extra piece) piece {
	return func(a *automaton, from int32) int32 {
		const never = -1
		end := a.add()
		first, more := from, int32(never) // before the next member, with nothing and with something before it
		enter := func() (here int32) {
			here = a.add()
			if first != never {
				a.skip(first, here)
			}
			if more != never {
				a.skip(c.comma()(a, more), here)
			}
			return here
		}
		for _, m := range list {
			here := enter()
			to := sequence(literal(jsonText(m.name)), c.colon(), m.value)(a, here)
			after := a.add()
			a.skip(to, after)
			if m.required {
				first = never
			} else if more != never {
				a.skip(more, after)
			}
			more = after
		}
		if extra != nil {
			here := enter()
			to := extra(a, here)
			a.skip(c.comma()(a, to), here)
			a.skip(to, end)
		}
		for _, s := range []int32{first, more} {
			if s != never {
				a.skip(s, end)
			}
		}
		return end
	}
}

// jsonText is a text as JSON.
func jsonText(s string) string {
	text, _ := jinja.DumpJSON(s, jinja.JSONStyle{}) // a text can always be written
	return text
}

// items is a list.
func (c *compiler) items(d *jinja.Dict, path string) (piece, error) {
	lo, hi, err := bounds(d, "minItems", "maxItems", path)
	if err != nil {
		return nil, err
	}
	var first []piece
	rest, hasRest := d.Get("items")
	prefix, hasPrefix := d.Get("prefixItems")
	if list, ok := rest.(jinja.List); ok && !hasPrefix { // the older spelling
		prefix, hasPrefix, rest, hasRest = list, true, nil, false
	}
	if hasPrefix {
		list, ok := prefix.(jinja.List)
		if !ok {
			return nil, at(path, "prefixItems: want a list of schemas")
		}
		for i, x := range list {
			p, err := c.value(x, fmt.Sprintf("%s/prefixItems/%d", path, i))
			if err != nil {
				return nil, err
			}
			first = append(first, p)
		}
	}
	if !hasRest {
		if rest = true; hasPrefix && hi < 0 {
			hi = max(lo, len(first)) // no more than is asked for
		}
	}
	item, err := c.value(rest, path+"/items")
	if err != nil {
		return nil, err
	}
	if rest == false {
		if hi < 0 || hi > len(first) {
			hi = len(first)
		}
		if lo > hi {
			return nil, at(path, "minItems %d is more than the items that there are", lo)
		}
	}
	item = c.rule(path+"/items", item)
	if len(first) == 0 {
		return c.rule(path, c.enclosed("[", "]", c.listed(item, lo, hi))), nil
	}
	return c.rule(path, c.enclosed("[", "]", c.tuple(first, item, lo, hi))), nil
}

// tuple reads lo to hi items, the first of which have schemas of their own.
func (c *compiler) tuple(first []piece, item piece, lo, hi int) piece {
	return func(a *automaton, from int32) int32 {
		end := a.add()
		leave := func(n int, s int32) {
			if n >= lo {
				a.skip(call(c.blank)(a, s), end)
			}
		}
		if lo == 0 {
			a.skip(from, end)
		}
		n := 0
		for ; n < len(first) && (hi < 0 || n < hi); n++ {
			if n > 0 {
				from = c.comma()(a, from)
			}
			from = first[n](a, from)
			leave(n+1, from)
		}
		least, most := max(lo-n, 0), unbounded
		if hi >= 0 {
			most = hi - n
		}
		if most != 0 && n == len(first) {
			from = repeat(sequence(c.comma(), item), max(least, 1), most)(a, from)
			a.skip(call(c.blank)(a, from), end)
		}
		return end
	}
}
