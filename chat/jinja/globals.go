package jinja

import "strings"

// globalFunctions are the functions that every template sees.
var globalFunctions = map[string]Value{
	"raise_exception": &function{"raise_exception", func(r *run, a *args) Value {
		panic(&RaisedError{r.str(a.value(0, "message", ""))})
	}},
	"strftime_now": &function{"strftime_now", func(r *run, a *args) Value {
		format := a.text(r, 0, "format")
		r.charge(16 * len(format))
		return strftime(r.now(), format)
	}},
	"range": &function{"range", rangeOf},
	"dict": &function{"dict", func(r *run, a *args) Value {
		return r.dict(a)
	}},
	"namespace": &function{"namespace", func(r *run, a *args) Value {
		d := r.dict(a)
		for _, k := range d.keys {
			if s, ok := k.(string); ok && strings.HasPrefix(s, "_") {
				r.fail("a namespace takes no attribute named %q", s)
			}
		}
		return &namespace{d}
	}},
	"cycler": &function{"cycler", func(r *run, a *args) Value { return cycler(r, a.pos) }},
	"joiner": &function{"joiner", func(r *run, a *args) Value {
		sep, used := a.value(0, "sep", ", "), false
		return &function{"joiner", func(*run, *args) Value {
			if !used {
				used = true
				return ""
			}
			return sep
		}}
	}},
}

// dict is Python's dict(mapping or pairs, **named).
func (r *run) dict(a *args) *Dict {
	d := NewDict()
	if len(a.pos) > 0 {
		if given, ok := a.pos[0].(*Dict); ok {
			r.charge(64 * given.Len())
			d = given.Clone()
		} else {
			for _, pair := range r.items(a.pos[0]) {
				p := r.items(pair)
				if len(p) != 2 {
					r.fail("dict: want pairs of a key and a value")
				}
				r.put(d, p[0], p[1])
			}
		}
	}
	for i, n := range a.names {
		r.charge(64)
		d.SetString(n, a.named[i])
	}
	return d
}

// maxRange is the sandbox's limit of a range.
const maxRange = 100000

func rangeOf(r *run, a *args) Value {
	if len(a.pos) < 1 || len(a.pos) > 3 {
		r.fail("range expected 1 to 3 arguments, got %d", len(a.pos))
	}
	from, to, step := 0, r.integer(a.pos[0]), 1
	if len(a.pos) > 1 {
		from, to = to, r.integer(a.pos[1])
	}
	if len(a.pos) > 2 {
		step = r.integer(a.pos[2])
	}
	if step == 0 {
		r.fail("range() arg 3 must not be zero")
	}
	n := 0
	if step > 0 && to > from {
		n = (to - from + step - 1) / step
	} else if step < 0 && to < from {
		n = (from - to - step - 1) / -step
	}
	if n > maxRange {
		r.fail("range too big: at most %d items", maxRange)
	}
	r.charge(16 * n)
	out := make(List, n)
	for i := range out {
		out[i] = int64(from + i*step)
	}
	return out
}

// cycler goes through values in turn.
func cycler(r *run, values []Value) Value {
	if len(values) == 0 {
		r.fail("at least one item has to be provided")
	}
	at := 0
	d := NewDict()
	d.SetString("next", &function{"next", func(*run, *args) Value {
		v := values[at]
		at = (at + 1) % len(values)
		return v
	}})
	d.SetString("reset", &function{"reset", func(*run, *args) Value { at = 0; return nil }})
	return &namespace{d}
}
