package jinja

import "math"

// macro is a macro bound to the scope in which it was defined.
type macro struct {
	name                    string
	params                  []string
	defaults                []expr // of the last parameters
	body                    []stmt
	varargs, kwargs, caller bool // the body reads these
	scope                   *scope
}

func (m *macro) call(r *run, a *args) Value {
	r.call()
	s := &scope{parent: m.scope}
	if len(a.pos) > len(m.params) && !m.varargs {
		r.fail("macro %s takes at most %d arguments, got %d", m.name, len(m.params), len(a.pos))
	}
	kwargs := NewDict()
	given := map[string]bool{}
	for i, name := range a.names {
		known := name == "caller" && m.caller
		for k, p := range m.params {
			if p == name {
				if k < len(a.pos) {
					r.fail("macro %s got two values for %s", m.name, name)
				}
				known = true
			}
		}
		switch {
		case known:
			s.set(name, a.named[i])
			given[name] = true
		case m.kwargs:
			kwargs.SetString(name, a.named[i])
		default:
			r.fail("macro %s takes no argument %s", m.name, name)
		}
	}
	for i, p := range m.params {
		switch d := i - (len(m.params) - len(m.defaults)); {
		case i < len(a.pos):
			s.set(p, a.pos[i])
		case given[p]:
		case d >= 0:
			s.set(p, m.defaults[d].eval(r, s))
		default:
			s.set(p, &Undefined{"parameter '" + p + "' was not provided"})
		}
	}
	if m.varargs {
		s.set("varargs", Tuple(a.pos[min(len(a.pos), len(m.params)):]))
	}
	if m.kwargs {
		s.set("kwargs", kwargs)
	}
	if m.caller && !given["caller"] {
		s.set("caller", &Undefined{"no caller defined"})
	}
	text, _ := r.capture(m.body, s)
	r.depth--
	return text
}

// function is a built-in function or a bound method.
type function struct {
	name string
	call func(r *run, a *args) Value
}

// args are the arguments of a call.
type args struct {
	pos   []Value
	names []string
	named []Value
}

// get returns argument i, which may be given by name; ok is false when it is not given.
func (a *args) get(i int, name string) (Value, bool) {
	if i < len(a.pos) {
		return a.pos[i], true
	}
	for k, n := range a.names {
		if n == name {
			return a.named[k], true
		}
	}
	return nil, false
}

// value returns argument i, or a default.
func (a *args) value(i int, name string, otherwise Value) Value {
	if v, ok := a.get(i, name); ok {
		return v
	}
	return otherwise
}

func (a *args) truth(i int, name string) bool { return Truth(a.value(i, name, false)) }

// integer returns argument i as an int.
func (a *args) integer(r *run, i int, name string, otherwise int) int {
	v, ok := a.get(i, name)
	if !ok {
		return otherwise
	}
	return r.integer(v)
}

func (r *run) integer(v Value) int {
	n, _, isInt, ok := number(v)
	if !ok || !isInt {
		r.use(v)
		r.fail("'%s' object cannot be interpreted as an integer", typeName(v))
	}
	return int(max(min(n, math.MaxInt32), -math.MaxInt32))
}

// text returns argument i as a string.
func (a *args) text(r *run, i int, name string) string {
	v, ok := a.get(i, name)
	if !ok {
		r.fail("missing argument %s", name)
	}
	return r.text(v)
}

func (r *run) text(v Value) string {
	s, ok := plain(v).(string)
	if !ok {
		r.use(v)
		r.fail("want a string, got %s", typeName(v))
	}
	return s
}

// use fails for an undefined value.
func (r *run) use(v Value) {
	if u, ok := v.(*Undefined); ok {
		r.fail("%s", u.what)
	}
}

func (r *run) arguments(a *argsExpr, s *scope) *args {
	out := &args{}
	for _, e := range a.pos {
		out.pos = append(out.pos, plain(e.eval(r, s)))
	}
	for i, e := range a.named {
		out.names, out.named = append(out.names, a.names[i]), append(out.named, plain(e.eval(r, s)))
	}
	if a.star != nil {
		out.pos = append(out.pos, r.items(a.star.eval(r, s))...)
	}
	if a.starStar != nil {
		d, ok := a.starStar.eval(r, s).(*Dict)
		if !ok {
			r.fail("arguments behind ** have to be a mapping")
		}
		for i, k := range d.keys {
			out.names, out.named = append(out.names, r.text(k)), append(out.named, d.vals[i])
		}
	}
	return out
}

// invoke calls a value.
func (r *run) invoke(f Value, a *args) Value {
	r.step(1)
	switch x := f.(type) {
	case *function:
		return x.call(r, a)
	case *macro:
		return x.call(r, a)
	case *loop:
		if len(a.pos) != 1 {
			r.fail("loop() takes one argument, got %d", len(a.pos))
		}
		return x.again(r, r.items(a.pos[0]))
	}
	r.use(f)
	r.fail("'%s' object is not callable", typeName(f))
	return nil
}
