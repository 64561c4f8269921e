package jinja

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// items are what iterating over a value gives.
func (r *run) items(v Value) []Value {
	switch x := plain(v).(type) {
	case List:
		return x
	case Tuple:
		return x
	case *Dict:
		return x.keys
	case *Undefined:
		if r.strict {
			r.use(v)
		}
		return nil
	case *iterator:
		list := x.items
		if x.view == "" {
			x.items = nil
		}
		return list
	case string:
		r.charge(16 * len(x))
		list := make([]Value, 0, len(x))
		for i := 0; i < len(x); {
			_, n := utf8.DecodeRuneInString(x[i:])
			list = append(list, x[i:i+n])
			i += n
		}
		return list
	}
	r.fail("'%s' object is not iterable", typeName(v))
	return nil
}

// attr is v.name: an attribute or a method, else the item of that key.
func (r *run) attr(v Value, name string) Value {
	r.step(1)
	r.use(v)
	v = plain(v)
	switch x := v.(type) {
	case *loop:
		if value, ok := x.attr(name); ok {
			return value
		}
	case *namespace:
		if value, ok := x.vars.Get(name); ok {
			return value
		}
	case *macro:
		if name == "name" {
			return x.name
		}
	}
	if m := methodOf(v, name); m != nil {
		return &function{name, func(r *run, a *args) Value { return m(r, v, a) }}
	}
	if d, ok := v.(*Dict); ok {
		if value, ok := d.Get(name); ok {
			return value
		}
	}
	return missing(v, name)
}

// missing is the undefined value of an attribute or item that is not there.
func missing(v Value, key Value) Value {
	name, ok := key.(string)
	if !ok {
		what := typeName(key)
		if n, ok := key.(int64); ok {
			what = fmt.Sprint(n)
		}
		return &Undefined{fmt.Sprintf("%s object has no element %s", typeName(v), what)}
	}
	if v == nil {
		return &Undefined{fmt.Sprintf("'None' has no attribute '%s'", name)}
	}
	return &Undefined{fmt.Sprintf("'%s object' has no attribute '%s'", typeName(v), name)}
}

// item is v[key]: the item, else the attribute or method of that name.
func (r *run) item(v, key Value) Value {
	r.step(1)
	r.use(v)
	v, key = plain(v), plain(key)
	switch x := v.(type) {
	case *Dict:
		if value, ok := x.Get(key); ok {
			return value
		}
	case List, Tuple:
		list, _ := listOf(v)
		if n, _, isInt, ok := number(key); ok && isInt {
			if n < 0 {
				n += int64(len(list))
			}
			if n < 0 || n >= int64(len(list)) {
				return missing(v, key)
			}
			return list[n]
		}
	case string:
		if n, _, isInt, ok := number(key); ok && isInt {
			if c, ok := runeAt(x, n); ok {
				return c
			}
			return missing(v, key)
		}
	}
	if name, ok := key.(string); ok {
		if _, isDict := v.(*Dict); !isDict {
			return r.attr(v, name)
		}
		if m := methodOf(v, name); m != nil {
			return &function{name, func(r *run, a *args) Value { return m(r, v, a) }}
		}
	}
	return missing(v, key)
}

// eval: a slice stands only inside brackets.
func (x *sliceExpr) eval(r *run, _ *scope) Value {
	failAt(x.line, "a slice among several indices")
	return nil
}

// of applies the slice to a list, a tuple or the characters of a string.
func (x *sliceExpr) of(r *run, s *scope, v Value) Value {
	bound := func(e expr) (int, bool) {
		if e == nil {
			return 0, false
		}
		b := e.eval(r, s)
		if b == nil {
			return 0, false
		}
		return r.integer(b), true
	}
	from, hasFrom := bound(x.from)
	to, hasTo := bound(x.to)
	step, hasStep := bound(x.step)
	if !hasStep {
		step = 1
	}
	if step == 0 {
		r.fail("slice step cannot be zero")
	}
	switch l := v.(type) {
	case List:
		return List(r.slice(l, from, hasFrom, to, hasTo, step))
	case Tuple:
		return Tuple(r.slice(l, from, hasFrom, to, hasTo, step))
	case string:
		if step == 1 && isASCII(l) {
			from, to = clampSlice(len(l), from, hasFrom, to, hasTo, 1)
			if from >= to {
				return ""
			}
			return l[from:to]
		}
		var b strings.Builder
		for _, c := range r.slice(r.items(l), from, hasFrom, to, hasTo, step) {
			b.WriteString(c.(string))
		}
		return b.String()
	}
	return missing(v, "slice")
}

func (r *run) slice(l []Value, from int, hasFrom bool, to int, hasTo bool, step int) []Value {
	from, to = clampSlice(len(l), from, hasFrom, to, hasTo, step)
	if step == 1 {
		if from >= to {
			return []Value{}
		}
		return l[from:to:to]
	}
	out := []Value{}
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		out = append(out, l[i])
	}
	r.charge(16 * len(out))
	return out
}

// clampSlice resolves bounds as Python's slice.indices does.
func clampSlice(n, from int, hasFrom bool, to int, hasTo bool, step int) (int, int) {
	low, high := 0, n
	if step < 0 {
		low, high = -1, n-1
	}
	clamp := func(x int) int {
		if x < 0 {
			x += n
		}
		return max(low, min(x, high))
	}
	a, b := low, high
	if step < 0 {
		a, b = high, low
	}
	if hasFrom {
		a = clamp(from)
	}
	if hasTo {
		b = clamp(to)
	}
	return a, b
}
