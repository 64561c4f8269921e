package jinja

func (b *bodyExpr) eval(r *run, _ *scope) Value { return r.around }

func (c *constExpr) eval(*run, *scope) Value { return c.v }

func (n *nameExpr) eval(r *run, s *scope) Value {
	r.step(1)
	if v, ok := s.get(n.name); ok {
		return v
	}
	return &Undefined{"'" + n.name + "' is undefined"}
}

func (l *listExpr) eval(r *run, s *scope) Value {
	items := make([]Value, len(l.items))
	for i, e := range l.items {
		items[i] = e.eval(r, s)
	}
	r.charge(16 * len(items))
	if l.tuple {
		return Tuple(items)
	}
	return List(items)
}

func (d *dictExpr) eval(r *run, s *scope) Value {
	out := NewDict()
	for i, k := range d.keys {
		key := k.eval(r, s)
		r.line = d.line
		r.put(out, key, d.vals[i].eval(r, s))
	}
	return out
}

func (r *run) put(d *Dict, key, value Value) {
	r.charge(64)
	if err := d.Set(key, value); err != nil {
		r.fail("%v", err)
	}
}

func (c *condExpr) eval(r *run, s *scope) Value {
	switch {
	case r.truth(c.cond.eval(r, s)):
		return c.then.eval(r, s)
	case c.otherwise == nil:
		return &Undefined{"the inline if-expression evaluated to false and no else section was defined"}
	}
	return c.otherwise.eval(r, s)
}

func (l *logicExpr) eval(r *run, s *scope) Value {
	a := l.a.eval(r, s)
	if r.truth(a) == l.or {
		return a
	}
	return l.b.eval(r, s)
}

func (n *notExpr) eval(r *run, s *scope) Value { return !r.truth(n.e.eval(r, s)) }

func (a *attrExpr) eval(r *run, s *scope) Value {
	v := a.e.eval(r, s)
	r.line = a.line
	return r.attr(v, a.name)
}

func (i *itemExpr) eval(r *run, s *scope) Value {
	v := plain(i.e.eval(r, s))
	if slice, ok := i.key.(*sliceExpr); ok {
		r.line = i.line
		r.use(v)
		return slice.of(r, s, v)
	}
	key := i.key.eval(r, s)
	r.line = i.line
	return r.item(v, key)
}

func (c *callExpr) eval(r *run, s *scope) Value {
	// A method of a value is called without being made a value first.
	if a, ok := c.f.(*attrExpr); ok {
		v := plain(a.e.eval(r, s))
		r.line = c.line
		r.use(v)
		if m := methodOf(v, a.name); m != nil {
			arguments := r.arguments(c.args, s)
			r.line = c.line
			r.step(1)
			return m(r, v, arguments)
		}
		f := r.attr(v, a.name)
		return r.invokeAt(f, c, s)
	}
	return r.invokeAt(c.f.eval(r, s), c, s)
}

func (r *run) invokeAt(f Value, c *callExpr, s *scope) Value {
	a := r.arguments(c.args, s)
	r.line = c.line
	return r.invoke(f, a)
}

func (f *filterExpr) eval(r *run, s *scope) Value {
	v := f.e.eval(r, s)
	if !f.marks {
		v = plain(v)
	}
	a := r.arguments(f.args, s)
	r.line = f.line
	r.step(1)
	return f.f(r, v, a)
}

func (t *testExpr) eval(r *run, s *scope) Value {
	v := plain(t.e.eval(r, s))
	a := r.arguments(t.args, s)
	r.line = t.line
	r.step(1)
	return t.f(r, v, a) != t.negate
}
