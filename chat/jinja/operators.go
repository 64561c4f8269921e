package jinja

import (
	"math"
	"math/big"
	"strings"
)

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
		return r.equal(a, b, 0)
	case "!=":
		return !r.equal(a, b, 0)
	case "in":
		return r.contains(b, a)
	case "not in":
		return !r.contains(b, a)
	}
	r.use(a)
	r.use(b)
	c, ordered, err := r.order(a, b, op, 0)
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
		if r.equal(x, y, 0) {
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
	_, f, isInt, ok := number(a)
	_, g, isInt2, ok2 := number(b)
	if !ok || !ok2 {
		r.fail("unsupported operand type(s) for %s: '%s' and '%s'", op, typeName(a), typeName(b))
	}
	if isInt && isInt2 {
		if v, done := r.integers(op, bigOf(a), bigOf(b)); done {
			return v
		}
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
func (r *run) integers(op string, x, y *big.Int) (v Value, done bool) {
	z := new(big.Int)
	r.charge(x.BitLen() + y.BitLen())
	switch op {
	case "+":
		z.Add(x, y)
	case "-":
		z.Sub(x, y)
	case "*":
		z.Mul(x, y)
	case "//", "%":
		if y.Sign() == 0 {
			r.fail("integer division or modulo by zero")
		}
		m := new(big.Int)
		z.DivMod(x, y, m) // Euclidean; Python floors
		if m.Sign() != 0 && y.Sign() < 0 {
			z.Sub(z, big.NewInt(1))
			m.Add(m, y)
		}
		if op == "%" {
			z = m
		}
	case "**":
		if y.Sign() < 0 {
			return nil, false
		}
		if !y.IsInt64() || product(x.BitLen(), int(min(y.Int64(), math.MaxInt32))) > 1<<15 {
			r.fail("the power is too large")
		}
		z.Exp(x, y, nil)
	default:
		return nil, false
	}
	if z.IsInt64() {
		return z.Int64(), true
	}
	if z.BitLen() > 1<<15 {
		r.fail("the number is too large")
	}
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
