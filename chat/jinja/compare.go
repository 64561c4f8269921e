package jinja

import "fmt"

// lessThan is Python's a < b.
func (r *run) lessThan(a, b Value) (bool, error) {
	c, ordered, err := r.order(a, b, "<", 0)
	return ordered && c < 0, err
}

// order compares two values; ordered is false beside a NaN. op is the operator for the message.
func (r *run) order(a, b Value, op string, depth int) (c int, ordered bool, err error) {
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			switch {
			case x < y: // UTF-8 order is code point order
				return -1, true, nil
			case x > y:
				return 1, true, nil
			}
			return 0, true, nil
		}
	}
	if _, f, isInt, ok := number(a); ok {
		if _, g, isInt2, ok2 := number(b); ok2 {
			switch {
			case isInt && isInt2:
				return bigOf(a).Cmp(bigOf(b)), true, nil
			case f < g:
				return -1, true, nil
			case f > g:
				return 1, true, nil
			}
			return 0, f == g, nil
		}
	}
	x, okX := listOf(a)
	y, okY := listOf(b)
	if okX && okY && typeName(a) == typeName(b) {
		for i := 0; i < len(x) && i < len(y); i++ {
			if !r.equal(x[i], y[i], depth+1) {
				return r.order(x[i], y[i], op, depth+1)
			}
		}
		return len(x) - len(y), true, nil
	}
	return 0, false, fmt.Errorf("'%s' not supported between instances of '%s' and '%s'", op, typeName(a), typeName(b))
}

// listOf returns the items of a list or tuple.
func listOf(v Value) ([]Value, bool) {
	switch x := v.(type) {
	case List:
		return x, true
	case Tuple:
		return x, true
	}
	return nil, false
}
