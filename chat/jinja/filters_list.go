package jinja

import (
	"math"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

func edge(list []Value, at int) Value {
	if len(list) == 0 {
		return &Undefined{"the sequence was empty"}
	}
	return list[at]
}

func lengthFilter(r *run, v Value, _ *args) Value {
	if s, ok := v.(string); ok {
		r.step(len(s) >> 8)
		return int64(utf8.RuneCountInString(s))
	}
	if l, ok := v.(*loop); ok {
		return int64(len(l.items))
	}
	if it, ok := v.(*iterator); ok && it.view != "" {
		return int64(len(it.items))
	}
	switch v.(type) {
	case List, Tuple, *Dict, *Undefined:
		return int64(len(r.items(v)))
	}
	r.fail("object of type '%s' has no len()", typeName(v))
	return nil
}

func itemsFilter(r *run, v Value, _ *args) Value {
	switch x := v.(type) {
	case *Undefined:
		return &iterator{}
	case *Dict:
		return &iterator{"", r.pairs(x)}
	}
	r.fail("can only get item pairs from a mapping")
	return nil
}

func joinFilter(r *run, v Value, a *args) Value {
	items := r.items(v)
	get := r.getter(a.value(1, "attribute", nil), nil)
	texts := make([]string, len(items))
	for i, x := range items {
		texts[i] = r.str(get(x))
	}
	return r.join(r.str(a.value(0, "d", "")), texts)
}

func reverseFilter(r *run, v Value, _ *args) Value {
	items := append([]Value(nil), r.items(v)...)
	reverse(items)
	if _, ok := v.(string); !ok {
		return &iterator{"", items}
	}
	var b strings.Builder
	for _, c := range items {
		b.WriteString(c.(string))
	}
	return b.String()
}

func attrFilter(r *run, v Value, name string) Value {
	if _, isDict := v.(*Dict); isDict && methodOf(v, name) == nil {
		return missing(v, name)
	}
	return r.attr(v, name)
}

// getter returns what looks up an attribute path such as "a.b.0" in a value; nil is the value itself. otherwise, if not
// nil, takes the place of what is undefined.
func (r *run) getter(attribute, otherwise Value) func(Value) Value {
	if attribute == nil {
		return func(v Value) Value { return v }
	}
	var path []Value
	switch x := attribute.(type) {
	case string:
		for _, p := range strings.Split(x, ".") {
			if n, err := strconv.ParseInt(p, 10, 64); err == nil && n >= 0 {
				path = append(path, n)
			} else {
				path = append(path, p)
			}
		}
	default:
		path = []Value{attribute}
	}
	return func(v Value) Value {
		for _, key := range path {
			v = r.item(v, key)
			if _, undefined := v.(*Undefined); undefined && otherwise != nil {
				v = otherwise
			}
		}
		return v
	}
}

// folded makes letters of strings comparable without case.
func folded(v Value, caseSensitive bool) Value {
	if s, ok := v.(string); ok && !caseSensitive {
		return lower(s)
	}
	return v
}

// sortBy sorts a copy of items stably by keys.
func (r *run) sortBy(items []Value, descending bool, key func(Value) Value) List {
	type row struct{ key, item Value }
	rows := make([]row, len(items))
	for i, x := range items {
		rows[i] = row{key(x), x}
	}
	sort.SliceStable(rows, func(i, j int) bool {
		r.step(1)
		a, b := rows[i].key, rows[j].key
		if descending {
			a, b = b, a
		}
		less, err := r.lessThan(a, b)
		if err != nil {
			r.use(a)
			r.use(b)
			r.fail("%v", err)
		}
		return less
	})
	out := make(List, len(rows))
	for i := range rows {
		out[i] = rows[i].item
	}
	r.charge(16 * len(out))
	return out
}

func sortFilter(r *run, v Value, a *args) Value {
	caseSensitive := a.truth(1, "case_sensitive")
	var getters []func(Value) Value
	if s, ok := a.value(2, "attribute", nil).(string); ok && strings.Contains(s, ",") {
		for _, p := range strings.Split(s, ",") {
			getters = append(getters, r.getter(p, nil))
		}
	} else {
		getters = append(getters, r.getter(a.value(2, "attribute", nil), nil))
	}
	return r.sortBy(r.items(v), a.truth(0, "reverse"), func(x Value) Value {
		var keys Tuple
		for _, get := range getters {
			keys = append(keys, folded(get(x), caseSensitive))
		}
		if len(keys) == 1 {
			return keys[0]
		}
		return keys
	})
}

func dictSort(r *run, v Value, a *args) Value {
	d, ok := v.(*Dict)
	if !ok {
		r.fail("dictsort: want a mapping, got %s", typeName(v))
	}
	at := 0
	switch a.value(1, "by", "key") {
	case "key":
	case "value":
		at = 1
	default:
		r.fail(`dictsort: by must be "key" or "value"`)
	}
	return r.sortBy(r.pairs(d), a.truth(2, "reverse"), func(x Value) Value {
		return folded(x.(Tuple)[at], a.truth(0, "case_sensitive"))
	})
}

func uniqueFilter(r *run, v Value, a *args) Value {
	get := r.getter(a.value(1, "attribute", nil), nil)
	seen := NewDict()
	out := List{}
	for _, x := range r.items(v) {
		key := folded(get(x), a.truth(0, "case_sensitive"))
		if _, ok := seen.Get(key); !ok {
			r.put(seen, key, true)
			out = append(out, x)
		}
	}
	return &iterator{"", out}
}

func groupBy(r *run, v Value, a *args) Value {
	get := r.getter(a.value(0, "attribute", nil), a.value(1, "default", nil))
	key := func(x Value) Value { return folded(get(x), a.truth(2, "case_sensitive")) }
	out := List{}
	var last Value
	for i, x := range r.sortBy(r.items(v), false, key) {
		k := key(x)
		if i == 0 || !r.equal(k, last, 0) {
			group := NewDict() // unpacked below as (grouper, list)
			group.SetString("grouper", get(x))
			group.SetString("list", List{})
			out = append(out, group)
		}
		last = k
		g := out[len(out)-1].(*Dict)
		list, _ := g.Get("list")
		g.SetString("list", append(list.(List), x))
	}
	for i, g := range out {
		out[i] = Tuple(g.(*Dict).vals)
	}
	return out
}

func extreme(r *run, v Value, a *args, sign int) Value {
	items := r.items(v)
	if len(items) == 0 {
		return &Undefined{"no aggregated item, the sequence was empty"}
	}
	get := r.getter(a.value(1, "attribute", nil), nil)
	best, bestKey := Value(nil), Value(nil)
	for i, x := range items {
		r.step(1)
		key := folded(get(x), a.truth(0, "case_sensitive"))
		if i > 0 {
			c, ordered, err := r.order(key, bestKey, "<", 0)
			if err != nil {
				r.fail("%v", err)
			}
			if !ordered || c*sign <= 0 {
				continue
			}
		}
		best, bestKey = x, key
	}
	return best
}

func sumFilter(r *run, v Value, a *args) Value {
	get := r.getter(a.value(0, "attribute", nil), nil)
	total := a.value(1, "start", int64(0))
	for _, x := range r.items(v) {
		r.step(1)
		y := get(x)
		r.use(y)
		total = r.add(total, y)
	}
	return total
}

func batch(r *run, v Value, a *args) Value {
	n := a.integer(r, 0, "linecount", 0)
	if n < 1 {
		r.fail("batch: want at least 1 item a line")
	}
	fill, filled := a.get(1, "fill_with")
	filled = filled && fill != nil
	out := List{}
	for items := r.items(v); len(items) > 0; {
		k := min(n, len(items))
		line := append(List(nil), items[:k]...)
		items = items[k:]
		if filled && k < n {
			r.charge(product(16, n))
			for len(line) < n {
				line = append(line, fill)
			}
		}
		out = append(out, line)
	}
	return &iterator{"", out}
}

func sliceFilter(r *run, v Value, a *args) Value {
	n := a.integer(r, 0, "slices", 0)
	if n < 1 {
		r.fail("slice: want at least 1 slice")
	}
	fill, filled := a.get(1, "fill_with")
	filled = filled && fill != nil
	items := r.items(v)
	r.charge(product(32, n))
	each, extra, at := len(items)/n, len(items)%n, 0
	out := List{}
	for i := range n {
		k := each
		if i < extra {
			k++
		}
		line := append(List{}, items[at:at+k]...)
		if at += k; filled && i >= extra && extra > 0 {
			line = append(line, fill)
		}
		out = append(out, line)
	}
	return &iterator{"", out}
}

func mapFilter(r *run, v Value, a *args) Value {
	apply := r.getter(a.value(math.MaxInt, "attribute", nil), a.value(math.MaxInt, "default", nil))
	if len(a.pos) > 0 {
		name := r.text(a.pos[0])
		f, ok := filters[name]
		if !ok {
			r.fail("no filter named %q", name)
		}
		rest := &args{a.pos[1:], a.names, a.named}
		apply = func(x Value) Value { return f(r, x, rest) }
	} else if len(a.names) == 0 {
		r.fail("map requires a filter or an attribute")
	}
	out := List{}
	if !Truth(v) {
		return &iterator{} // None too
	}
	for _, x := range r.items(v) {
		r.step(1)
		out = append(out, apply(x))
	}
	r.charge(16 * len(out))
	return &iterator{"", out}
}

// selecting is select, reject, selectattr and rejectattr.
func selecting(r *run, v Value, a *args, byAttribute, keep bool) Value {
	rest := a.pos
	get := r.getter(nil, nil)
	if byAttribute {
		if len(rest) == 0 {
			r.fail("missing the name of an attribute")
		}
		get, rest = r.getter(rest[0], nil), rest[1:]
	}
	ok := func(x Value) bool { return Truth(x) }
	if len(rest) > 0 {
		name := r.text(rest[0])
		test, known := tests[name]
		if !known {
			r.fail("no test named %q", name)
		}
		arguments := &args{rest[1:], a.names, a.named}
		ok = func(x Value) bool { return test(r, x, arguments) }
	}
	out := List{}
	if !Truth(v) {
		return &iterator{} // None too
	}
	for _, x := range r.items(v) {
		r.step(1)
		if ok(get(x)) == keep {
			out = append(out, x)
		}
	}
	r.charge(16 * len(out))
	return &iterator{"", out}
}
