package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unicode/utf8"
)

// run is the state of one rendering. Faults are panics of *Error and *RaisedError.
type run struct {
	limits Limits
	now    func() time.Time
	out    *output
	around string // what bodyExpr stands for
	line   int    // of the expression at hand, for messages
	steps  int
	bytes  int
	depth  int
	spans  []Span
}

// output collects what is printed; the root one is the rendered text.
type output struct {
	b    []byte
	root bool
}

type scope struct {
	vars   map[string]Value
	parent *scope
}

func (s *scope) get(name string) (Value, bool) {
	for ; s != nil; s = s.parent {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

func (s *scope) set(name string, v Value) {
	if s.vars == nil {
		s.vars = map[string]Value{}
	}
	s.vars[name] = v
}

func (r *run) fail(format string, args ...any) { failAt(r.line, format, args...) }

// step counts work.
func (r *run) step(n int) {
	if r.steps += n; r.steps > r.limits.Steps {
		r.fail("the template takes more than %d steps", r.limits.Steps)
	}
}

// charge counts bytes about to be built or read.
func (r *run) charge(n int) {
	if n < 0 || r.bytes+n > r.limits.Bytes {
		r.fail("the template builds more than %d bytes of text", r.limits.Bytes)
	}
	r.bytes += n
	r.step(n >> 8)
}

// product is a*b, or more than any limit allows.
func product(a, b int) int {
	if a > 0 && b > math.MaxInt32/a {
		return math.MaxInt32 * 2
	}
	return a * b
}

func (r *run) call() {
	if r.depth++; r.depth > r.limits.Depth {
		r.fail("the template calls itself more than %d deep", r.limits.Depth)
	}
}

func (r *run) write(s string) {
	r.charge(len(s))
	r.out.b = append(r.out.b, s...)
}

func (r *run) body(list []stmt, s *scope) jump {
	for _, x := range list {
		r.step(1)
		if j := x.run(r, s); j != none {
			return j
		}
	}
	return none
}

// capture returns what a body prints.
func (r *run) capture(list []stmt, s *scope) (string, jump) {
	before := r.out
	r.out = &output{}
	j := r.body(list, s)
	text := string(r.out.b)
	r.out = before
	return text, j
}

func (t *textStmt) run(r *run, _ *scope) jump { r.write(t.text); return none }

func (p *printStmt) run(r *run, s *scope) jump {
	v := p.e.eval(r, s)
	r.line = p.line
	r.write(r.str(v))
	return none
}

// str is Str within the limits.
func (r *run) str(v Value) string {
	switch x := v.(type) {
	case string:
		return x
	case markup:
		return string(x)
	}
	r.charge(r.size(v, 0))
	return Str(v)
}

// size is about the length of a value's text.
func (r *run) size(v Value, depth int) int {
	r.step(1)
	if depth > maxNesting {
		r.fail("values nest deeper than %d", maxNesting)
	}
	n := 8
	add := func(list []Value) {
		for _, x := range list {
			n += 2 + r.size(x, depth+1)
		}
	}
	switch x := v.(type) {
	case string:
		n += len(x)
	case markup:
		n += len(x)
	case List:
		add(x)
	case Tuple:
		add(x)
	case *Dict:
		add(x.keys)
		add(x.vals)
	case *iterator:
		add(x.items)
	case *namespace:
		add(x.vars.vals)
	}
	return n
}

func (i *ifStmt) run(r *run, s *scope) jump {
	for k, c := range i.conds {
		if Truth(c.eval(r, s)) {
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
			if Truth(f.cond.eval(r, inner)) {
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

func (b *bodyExpr) eval(r *run, _ *scope) Value { return r.around }

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
	case Truth(c.cond.eval(r, s)):
		return c.then.eval(r, s)
	case c.otherwise == nil:
		return &Undefined{"the inline if-expression evaluated to false and no else section was defined"}
	}
	return c.otherwise.eval(r, s)
}

func (l *logicExpr) eval(r *run, s *scope) Value {
	a := l.a.eval(r, s)
	if Truth(a) == l.or {
		return a
	}
	return l.b.eval(r, s)
}

func (n *notExpr) eval(r *run, s *scope) Value { return !Truth(n.e.eval(r, s)) }

func (c *compareExpr) eval(r *run, s *scope) Value {
	a := c.first.eval(r, s)
	for i, op := range c.ops {
		b := c.rest[i].eval(r, s)
		r.line = c.line
		if !r.compare(op, a, b) {
			return false
		}
		a = b
	}
	return true
}

func (r *run) compare(op string, a, b Value) bool {
	r.step(1)
	a, b = plain(a), plain(b)
	switch op {
	case "==":
		return Equal(a, b)
	case "!=":
		return !Equal(a, b)
	case "in":
		return r.contains(b, a)
	case "not in":
		return !r.contains(b, a)
	}
	r.use(a)
	r.use(b)
	c, ordered, err := compare(a, b, op)
	if err != nil {
		r.fail("%v", err)
	}
	switch {
	case !ordered:
		return false
	case op == "<":
		return c < 0
	case op == "<=":
		return c <= 0
	case op == ">":
		return c > 0
	}
	return c >= 0
}

// contains is Python's x in container.
func (r *run) contains(container, x Value) bool {
	switch c := container.(type) {
	case string:
		s, ok := x.(string)
		if !ok {
			r.fail("'in <string>' requires string as left operand, not %s", typeName(x))
		}
		r.step(len(c) >> 6)
		return strings.Contains(c, s)
	case *Dict:
		_, ok := c.Get(x)
		return ok
	case *namespace, nil, bool, int64, float64:
		r.fail("argument of type '%s' is not iterable", typeName(container))
	}
	for _, y := range r.items(container) {
		r.step(1)
		if Equal(x, y) {
			return true
		}
	}
	return false
}

func (b *binaryExpr) eval(r *run, s *scope) Value {
	x := b.a.eval(r, s)
	y := b.b.eval(r, s)
	r.line = b.line
	r.step(1)
	if b.op == "~" {
		p, q := r.str(x), r.str(y)
		r.charge(len(p) + len(q))
		return p + q
	}
	r.use(x)
	r.use(y)
	if b.op == "+" {
		if v, ok := r.addMarkup(x, y); ok {
			return v
		}
	}
	x, y = plain(x), plain(y)
	switch b.op {
	case "+":
		return r.add(x, y)
	case "*":
		if v, ok := r.repeat(x, y); ok {
			return v
		}
		if v, ok := r.repeat(y, x); ok {
			return v
		}
	case "%":
		if f, ok := x.(string); ok {
			return r.printf(f, y)
		}
	}
	return r.arithmetic(b.op, x, y)
}

// addMarkup is a + b where one is marked as HTML: the other is escaped.
func (r *run) addMarkup(a, b Value) (Value, bool) {
	_, first := a.(markup)
	_, second := b.(markup)
	if !first && !second || typeName(a) != "str" || typeName(b) != "str" {
		return nil, false
	}
	x, y := r.escape(a), r.escape(b)
	r.charge(len(x) + len(y))
	return x + y, true
}

// escape is v as HTML.
func (r *run) escape(v Value) markup {
	if m, ok := v.(markup); ok {
		return m
	}
	s := r.str(v)
	r.charge(5 * len(s))
	return markup(htmlEscaper.Replace(s))
}

func (r *run) add(a, b Value) Value {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		if !ok {
			r.fail("can only concatenate str (not \"%s\") to str", typeName(b))
		}
		r.charge(len(x) + len(y))
		return x + y
	case List:
		if y, ok := b.(List); ok {
			r.charge(16 * (len(x) + len(y)))
			return append(append(make(List, 0, len(x)+len(y)), x...), y...)
		}
	case Tuple:
		if y, ok := b.(Tuple); ok {
			r.charge(16 * (len(x) + len(y)))
			return append(append(make(Tuple, 0, len(x)+len(y)), x...), y...)
		}
	}
	return r.arithmetic("+", a, b)
}

// repeat is a sequence times a number.
func (r *run) repeat(a, b Value) (Value, bool) {
	n, _, isInt, ok := number(b)
	if !ok || !isInt {
		return nil, false
	}
	count := int(min(max(n, 0), math.MaxInt32))
	switch x := a.(type) {
	case string:
		r.charge(product(len(x), count))
		return strings.Repeat(x, count), true
	case List:
		return List(r.repeatList(x, count)), true
	case Tuple:
		return Tuple(r.repeatList(x, count)), true
	}
	return nil, false
}

func (r *run) repeatList(x []Value, count int) []Value {
	r.charge(product(16*len(x), count))
	var out []Value
	for range count {
		out = append(out, x...)
	}
	return out
}

func (r *run) arithmetic(op string, a, b Value) Value {
	i, f, isInt, ok := number(a)
	j, g, isInt2, ok2 := number(b)
	if !ok || !ok2 {
		r.fail("unsupported operand type(s) for %s: '%s' and '%s'", op, typeName(a), typeName(b))
	}
	if isInt && isInt2 {
		if v, done := r.integers(op, i, j); done {
			return v
		}
		f, g = float64(i), float64(j)
	}
	if g == 0 && (op == "/" || op == "//" || op == "%") {
		r.fail("division by zero")
	}
	switch op {
	case "+":
		return f + g
	case "-":
		return f - g
	case "*":
		return f * g
	case "/":
		return f / g
	case "//":
		return math.Floor(f / g)
	case "%":
		m := math.Mod(f, g)
		if m != 0 && (m < 0) != (g < 0) {
			m += g
		}
		return m
	}
	return math.Pow(f, g)
}

// integers computes with whole numbers; done is false where Python gives a float.
func (r *run) integers(op string, i, j int64) (v Value, done bool) {
	x, y, z := big.NewInt(i), big.NewInt(j), new(big.Int)
	switch op {
	case "+":
		z.Add(x, y)
	case "-":
		z.Sub(x, y)
	case "*":
		z.Mul(x, y)
	case "//", "%":
		if j == 0 {
			r.fail("integer division or modulo by zero")
		}
		m := new(big.Int)
		z.DivMod(x, y, m) // Euclidean; Python floors
		if m.Sign() != 0 && j < 0 {
			z.Sub(z, big.NewInt(1))
			m.Add(m, y)
		}
		if op == "%" {
			z = m
		}
	case "**":
		if j < 0 {
			return nil, false
		}
		if j > 4096 && i != 0 && i != 1 && i != -1 {
			r.fail("the power is too large")
		}
		z.Exp(x, y, nil)
	default:
		return nil, false
	}
	if z.IsInt64() {
		return z.Int64(), true
	}
	r.charge(z.BitLen())
	return z, true
}

func (u *signExpr) eval(r *run, s *scope) Value {
	v := u.e.eval(r, s)
	r.line = u.line
	r.use(v)
	switch x := v.(type) {
	case float64:
		if u.minus {
			return -x
		}
		return x
	case *big.Int:
		if u.minus {
			return new(big.Int).Neg(x)
		}
		return x
	}
	n, _, _, ok := number(v)
	if !ok {
		r.fail("bad operand type for unary sign: '%s'", typeName(v))
	}
	if u.minus {
		if n == math.MinInt64 {
			return new(big.Int).Neg(big.NewInt(n))
		}
		return -n
	}
	return n
}

func (a *attrExpr) eval(r *run, s *scope) Value {
	v := a.e.eval(r, s)
	r.line = a.line
	return r.attr(v, a.name)
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
	if _, ok := key.(string); !ok {
		return &Undefined{fmt.Sprintf("%s object has no element %s", typeName(v), Repr(key))}
	}
	if v == nil {
		return &Undefined{fmt.Sprintf("'None' has no attribute %s", Repr(key))}
	}
	return &Undefined{fmt.Sprintf("'%s object' has no attribute %s", typeName(v), Repr(key))}
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
