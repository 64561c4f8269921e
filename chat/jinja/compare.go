package jinja

import (
	"fmt"
	"math/big"
)

// lessThan is Python's a < b.
func lessThan(a, b Value) (bool, error) {
	c, ordered, err := compare(a, b, "<")
	return ordered && c < 0, err
}

// compare orders two values; ordered is false beside a NaN. op is the operator for the message.
func compare(a, b Value, op string) (c int, ordered bool, err error) {
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
	if i, f, isInt, ok := number(a); ok {
		if j, g, isInt2, ok2 := number(b); ok2 {
			x, bigX := a.(*big.Int)
			y, bigY := b.(*big.Int)
			switch {
			case bigX && bigY:
				return x.Cmp(y), true, nil
			case isInt && isInt2:
				f, g = 0, 0
				if i < j {
					return -1, true, nil
				} else if i > j {
					return 1, true, nil
				}
			}
			switch {
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
			if !Equal(x[i], y[i]) {
				return compare(x[i], y[i], op)
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
