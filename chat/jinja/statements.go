package jinja

import "strings"

func (t *textStmt) run(r *run, _ *scope) jump { r.write(t.text); return none }

func (p *printStmt) run(r *run, s *scope) jump {
	v := p.e.eval(r, s)
	r.line = p.line
	if r.strict {
		r.use(v)
	}
	r.write(r.str(v))
	return none
}

func (i *ifStmt) run(r *run, s *scope) jump {
	for k, c := range i.conds {
		if r.truth(c.eval(r, s)) {
			return r.body(i.bodies[k], s)
		}
	}
	return r.body(i.otherwise, s)
}

func (f *forStmt) run(r *run, s *scope) jump {
	over := f.over.eval(r, s)
	r.line = f.line
	f.iterate(r, s, r.items(over), 0)
	return none
}

// iterate runs the loop over items; depth counts the levels of a recursive one.
func (f *forStmt) iterate(r *run, s *scope, items []Value, depth int) {
	if f.cond != nil {
		var kept []Value
		for _, x := range items {
			inner := &scope{parent: s}
			r.assign(f.target, x, inner)
			if r.truth(f.cond.eval(r, inner)) {
				kept = append(kept, x)
			}
		}
		items = kept
	}
	l := &loop{stmt: f, scope: s, items: items, depth: depth}
	for i, x := range items {
		r.step(1)
		r.line = f.line
		l.index = i
		inner := &scope{parent: s}
		inner.set("loop", l)
		r.assign(f.target, x, inner)
		if r.body(f.body, inner) == breaks {
			break
		}
	}
	if len(items) == 0 {
		r.body(f.otherwise, &scope{parent: s})
	}
}

// assign sets a target; parts take the items of the value.
func (r *run) assign(t target, v Value, s *scope) {
	if t.parts == nil {
		s.set(t.name, v)
		return
	}
	items := r.items(v)
	if len(items) != len(t.parts) {
		r.fail("want %d values to unpack, got %d", len(t.parts), len(items))
	}
	for i, x := range items {
		r.assign(t.parts[i], x, s)
	}
}

func (x *setStmt) run(r *run, s *scope) jump {
	var v Value
	if x.value != nil {
		v = x.value.eval(r, s)
	} else {
		text, j := r.capture(x.body, &scope{parent: s})
		if j != none {
			return j
		}
		v = r.filtered(x.filter, text, s)
	}
	r.line = x.line
	if x.attr == "" {
		r.assign(x.target, v, s)
		return none
	}
	ns, _ := s.get(x.space)
	n, ok := ns.(*namespace)
	if !ok {
		r.fail("cannot assign attribute on non-namespace object %s", x.space)
	}
	n.set(r, x.attr, v)
	return none
}

// filtered runs a filter chain over a printed text.
func (r *run) filtered(chain expr, text string, s *scope) Value {
	before := r.around
	r.around = text
	v := chain.eval(r, s)
	r.around = before
	return v
}

func (f *filterStmt) run(r *run, s *scope) jump {
	text, j := r.capture(f.body, &scope{parent: s})
	if j != none {
		return j
	}
	r.write(r.str(r.filtered(f.filter, text, s)))
	return none
}

func (m *macroStmt) run(_ *run, s *scope) jump {
	bound := *m.m
	bound.scope = s
	s.set(m.m.name, &bound)
	return none
}

func (c *callStmt) run(r *run, s *scope) jump {
	caller := *c.caller
	caller.scope, caller.name = s, "caller"
	r.line = c.call.line
	f := c.call.f.eval(r, s)
	a := r.arguments(c.call.args, s)
	a.names, a.named = append(a.names, "caller"), append(a.named, &caller)
	r.write(r.str(r.invoke(f, a)))
	return none
}

func (w *withStmt) run(r *run, s *scope) jump {
	inner := &scope{parent: s}
	for i, e := range w.values {
		v := e.eval(r, s)
		inner.set(w.names[i], v)
	}
	return r.body(w.body, inner)
}

func (g *generationStmt) run(r *run, s *scope) jump {
	start := len(r.out.b)
	j := r.body(g.body, &scope{parent: s})
	if end := len(r.out.b); r.out.root && end > start {
		r.spans = append(r.spans, Span{start, end})
	}
	return j
}

func (b *scopeStmt) run(r *run, s *scope) jump { return r.body(b.body, &scope{parent: s}) }

func (j *jumpStmt) run(*run, *scope) jump {
	if j.breaks {
		return breaks
	}
	return continues
}

func (f *failStmt) run(*run, *scope) jump { failAt(f.line, "%s", f.message); return none }

// loop is the variable "loop" of a for statement.
type loop struct {
	stmt  *forStmt
	scope *scope
	items []Value
	index int
	depth int
	last  Value // what changed() saw
	seen  bool
}

func (l *loop) attr(name string) (Value, bool) {
	n := len(l.items)
	at := func(i int, what string) Value {
		if i < 0 || i >= n {
			return &Undefined{what}
		}
		return l.items[i]
	}
	switch name {
	case "index":
		return int64(l.index + 1), true
	case "index0":
		return int64(l.index), true
	case "revindex":
		return int64(n - l.index), true
	case "revindex0":
		return int64(n - l.index - 1), true
	case "first":
		return l.index == 0, true
	case "last":
		return l.index == n-1, true
	case "length":
		return int64(n), true
	case "depth":
		return int64(l.depth + 1), true
	case "depth0":
		return int64(l.depth), true
	case "previtem":
		return at(l.index-1, "there is no previous item"), true
	case "nextitem":
		return at(l.index+1, "there is no next item"), true
	}
	return nil, false
}

// again is loop(items) of a recursive loop.
func (l *loop) again(r *run, items []Value) string {
	if !l.stmt.recursive {
		r.fail("the loop is not recursive")
	}
	r.call()
	before := r.out
	r.out = &output{}
	l.stmt.iterate(r, l.scope, items, l.depth+1)
	text := string(r.out.b)
	r.out = before
	r.depth--
	return text
}

// namespace holds attributes that {% set ns.x = ... %} changes.
type namespace struct{ vars *Dict }

func (n *namespace) set(r *run, name string, v Value) {
	if strings.HasPrefix(name, "_") {
		r.fail("a namespace takes no attribute named %q", name)
	}
	n.vars.SetString(name, v)
}
