package jinja

import (
	"math"
	"time"
)

// run is the state of one rendering. Faults are panics of *Error and *RaisedError.
type run struct {
	limits Limits
	now    func() time.Time
	out    *output
	strict bool
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

// truth is Truth of a condition.
func (r *run) truth(v Value) bool {
	if r.strict {
		r.use(v)
	}
	return Truth(v)
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

// repr is Repr within the limits.
func (r *run) repr(v Value) string {
	r.charge(r.size(v, 0))
	return Repr(v)
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
