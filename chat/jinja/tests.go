package jinja

import (
	"math/big"
	"unicode"
)

// testFunc decides v is name(args).
type testFunc func(r *run, v Value, a *args) bool

// tests are Jinja's tests. They are filled by init, since some name others.
var tests map[string]testFunc

func kindIs[T any](_ *run, v Value, _ *args) bool { _, ok := v.(T); return ok }

// comparing makes a test of an operator.
func comparing(op string) testFunc {
	return func(r *run, v Value, a *args) bool { return r.compare(op, v, a.value(0, "other", nil)) }
}

// whole is an integer test on v.
func whole(f func(n, by int64) bool) testFunc {
	return func(r *run, v Value, a *args) bool {
		n, _, isInt, ok := number(v)
		by, _, byInt, ok2 := number(a.value(0, "num", int64(1)))
		if !ok || !isInt || !ok2 || !byInt || by == 0 {
			r.use(v)
			r.fail("want an integer, got %s", typeName(v))
		}
		return f(n, by)
	}
}

func init() {
	eq, ne, lt, le, gt, ge := comparing("=="), comparing("!="), comparing("<"), comparing("<="), comparing(">"), comparing(">=")
	tests = map[string]testFunc{
		"defined":   func(r *run, v Value, a *args) bool { return !kindIs[*Undefined](r, v, a) },
		"undefined": kindIs[*Undefined],
		"none":      func(_ *run, v Value, _ *args) bool { return v == nil },
		"string":    kindIs[string], "mapping": kindIs[*Dict], "boolean": kindIs[bool], "float": kindIs[float64],
		"true":  func(_ *run, v Value, _ *args) bool { return v == true },
		"false": func(_ *run, v Value, _ *args) bool { return v == false },
		"integer": func(_ *run, v Value, _ *args) bool {
			switch v.(type) {
			case int64, *big.Int:
				return true
			}
			return false
		},
		"number": func(_ *run, v Value, _ *args) bool { _, _, _, ok := number(v); return ok },
		"sequence": func(_ *run, v Value, _ *args) bool {
			switch v.(type) {
			case string, List, Tuple, *Dict, *Undefined:
				return true
			}
			return false
		},
		"iterable": func(_ *run, v Value, _ *args) bool {
			switch v.(type) {
			case string, List, Tuple, *Dict, *Undefined, *iterator, *loop:
				return true
			}
			return false
		},
		"callable": func(_ *run, v Value, _ *args) bool {
			switch v.(type) {
			case *function, *macro, *loop:
				return true
			}
			return false
		},
		"sameas": func(r *run, v Value, a *args) bool {
			other := a.value(0, "other", nil)
			return typeName(v) == typeName(other) && r.equal(v, other, 0)
		},
		"in":      func(r *run, v Value, a *args) bool { return r.contains(a.value(0, "seq", nil), v) },
		"escaped": func(*run, Value, *args) bool { return false },
		"lower":   func(r *run, v Value, _ *args) bool { return cased(r.str(v), unicode.IsLower, unicode.IsUpper) },
		"upper":   func(r *run, v Value, _ *args) bool { return cased(r.str(v), unicode.IsUpper, unicode.IsLower) },
		"odd":     whole(func(n, _ int64) bool { return n%2 != 0 }), "even": whole(func(n, _ int64) bool { return n%2 == 0 }),
		"divisibleby": whole(func(n, by int64) bool { return n%by == 0 }),
		"filter":      func(r *run, v Value, _ *args) bool { _, ok := filters[r.text(v)]; return ok },
		"test":        func(r *run, v Value, _ *args) bool { _, ok := tests[r.text(v)]; return ok },
		"eq":          eq, "equalto": eq, "==": eq, "ne": ne, "!=": ne, "lt": lt, "lessthan": lt, "<": lt, "le": le, "<=": le,
		"gt": gt, "greaterthan": gt, ">": gt, "ge": ge, ">=": ge,
	}
}
