package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
)

// Value is what templates compute with, the counterpart of a Python object: nil (None), bool, int64, *big.Int, float64,
// string, List, Tuple, *Dict, *Undefined, and the internal kinds of functions, methods, macros and namespaces.
type Value = any

// List is a list. Templates cannot change one.
type List []Value

// Tuple is a tuple; it differs from List in how it prints.
type Tuple []Value

// iterator is what map, select and others give, and the views of a dict. A generator (no name) is spent once it was
// iterated over, has no length and no JSON form.
type iterator struct {
	view  string // dict_keys, dict_values, dict_items; "": a generator
	items []Value
}

// markup is a string that safe or escape marked as HTML: what is added to it is escaped. Everything else treats it as a
// plain string.
type markup string

// plain is v without the mark.
func plain(v Value) Value {
	if m, ok := v.(markup); ok {
		return string(m)
	}
	return v
}

// Undefined is the result of looking up what is not there: it prints as nothing, is false and empty, and is an error
// in any other use.
type Undefined struct{ what string }

// Dict keeps its keys in the order of insertion.
type Dict struct {
	keys  []Value
	vals  []Value
	index map[Value]int
}

// NewDict returns an empty dict.
func NewDict() *Dict { return &Dict{index: map[Value]int{}} }

// Len is the number of entries.
func (d *Dict) Len() int { return len(d.keys) }

// At returns entry i in order.
func (d *Dict) At(i int) (key, value Value) { return d.keys[i], d.vals[i] }

// Set adds or replaces an entry. The key must be a string, a number, a bool, None or a tuple of those.
func (d *Dict) Set(key, value Value) error {
	h, err := hashKey(key)
	if err != nil {
		return err
	}
	if i, ok := d.index[h]; ok {
		d.vals[i] = value
		return nil
	}
	d.index[h] = len(d.keys)
	d.keys, d.vals = append(d.keys, key), append(d.vals, value)
	return nil
}

// SetString adds or replaces the entry of a string key.
func (d *Dict) SetString(key string, value Value) {
	if i, ok := d.index[key]; ok {
		d.vals[i] = value
		return
	}
	d.index[key] = len(d.keys)
	d.keys, d.vals = append(d.keys, key), append(d.vals, value)
}

// Get returns the value of a key.
func (d *Dict) Get(key Value) (Value, bool) {
	if s, ok := key.(string); ok {
		i, ok := d.index[s]
		if !ok {
			return nil, false
		}
		return d.vals[i], true
	}
	h, err := hashKey(key)
	if err != nil {
		return nil, false
	}
	i, ok := d.index[h]
	if !ok {
		return nil, false
	}
	return d.vals[i], true
}

// Clone returns a copy with the same values.
func (d *Dict) Clone() *Dict {
	c := NewDict()
	for i, k := range d.keys {
		h, _ := hashKey(k)
		c.index[h] = i
	}
	c.keys, c.vals = append(c.keys, d.keys...), append(c.vals, d.vals...)
	return c
}

// maxKey bounds the size of a tuple that is a key.
const maxKey = 1 << 12

// tupleKey is a tuple as a map key.
type tupleKey string

// hashKey returns a comparable stand-in under which equal keys are the same: 1, 1.0 and true are one key in Python.
func hashKey(key Value) (Value, error) {
	switch k := key.(type) {
	case nil, string, int64:
		return k, nil
	case bool:
		if k {
			return int64(1), nil
		}
		return int64(0), nil
	case float64:
		if n := int64(k); float64(n) == k {
			return n, nil
		}
		return k, nil
	case *big.Int:
		return tupleKey(k.String()), nil
	case Tuple:
		s := "("
		for _, x := range k {
			h, err := hashKey(x)
			if err != nil {
				return nil, err
			}
			if s += fmt.Sprintf("%T:%v,", h, h); len(s) > maxKey {
				return nil, errors.New("the tuple is too large for a key")
			}
		}
		return tupleKey(s), nil
	}
	return nil, fmt.Errorf("unhashable type: '%s'", typeName(key))
}

// typeName is the name of a value's type in messages.
func typeName(v Value) string {
	switch x := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string, markup:
		return "str"
	case List:
		return "list"
	case Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	case *Undefined:
		return "Undefined"
	case *iterator:
		if x.view != "" {
			return x.view
		}
		return "generator"
	case *namespace:
		return "Namespace"
	case *macro:
		return "Macro"
	case *loop:
		return "LoopContext"
	}
	return "function"
}

// Truth is Python's bool(v).
func Truth(v Value) bool {
	switch x := v.(type) {
	case nil, *Undefined:
		return false
	case bool:
		return x
	case int64:
		return x != 0
	case *big.Int:
		return x.Sign() != 0
	case float64:
		return x != 0
	case string:
		return x != ""
	case markup:
		return x != ""
	case List:
		return len(x) > 0
	case Tuple:
		return len(x) > 0
	case *Dict:
		return len(x.keys) > 0
	case *iterator:
		return x.view == "" || len(x.items) > 0
	}
	return true
}

// number returns v as a number: whole (bools count), or a float64. The int64 of a larger whole number is the nearest.
func number(v Value) (i int64, f float64, isInt, ok bool) {
	switch x := v.(type) {
	case bool:
		if x {
			return 1, 1, true, true
		}
		return 0, 0, true, true
	case int64:
		return x, float64(x), true, true
	case float64:
		return 0, x, false, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(x).Float64()
		if x.Sign() < 0 {
			return math.MinInt64, f, true, true
		}
		return math.MaxInt64, f, true, true
	}
	return 0, 0, false, false
}

// bigOf is a whole number, a bool included, as a big one.
func bigOf(v Value) *big.Int {
	if x, ok := v.(*big.Int); ok {
		return x
	}
	n, _, _, _ := number(v)
	return big.NewInt(n)
}

// Equal is Python's a == b.
func Equal(a, b Value) bool { return (&run{limits: Limits{Steps: math.MaxInt}}).equal(a, b, 0) }

// equal is Equal within the limits.
func (r *run) equal(a, b Value, depth int) bool {
	r.step(1)
	if depth > maxNesting {
		r.fail("values nest deeper than %d", maxNesting)
	}
	a, b = plain(a), plain(b)
	switch x := a.(type) {
	case nil:
		return b == nil
	case string:
		y, ok := b.(string)
		return ok && x == y
	case List:
		y, ok := b.(List)
		return ok && r.equalLists(x, y, depth)
	case Tuple:
		y, ok := b.(Tuple)
		return ok && r.equalLists(x, y, depth)
	case *Dict:
		y, ok := b.(*Dict)
		if !ok || len(x.keys) != len(y.keys) {
			return false
		}
		for i, k := range x.keys {
			v, ok := y.Get(k)
			if !ok || !r.equal(x.vals[i], v, depth+1) {
				return false
			}
		}
		return true
	case *Undefined:
		_, ok := b.(*Undefined)
		return ok
	}
	if i, f, isInt, ok := number(a); ok {
		j, g, isInt2, ok2 := number(b)
		switch {
		case !ok2:
			return false
		case isInt && isInt2:
			return i == j && bigOf(a).Cmp(bigOf(b)) == 0
		}
		return f == g
	}
	return sameObject(a, b)
}

func (r *run) equalLists(x, y []Value, depth int) bool {
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if !r.equal(x[i], y[i], depth+1) {
			return false
		}
	}
	return true
}

// sameObject compares values that have an identity, such as macros.
func sameObject(a, b Value) bool {
	switch a.(type) {
	case *namespace, *macro, *loop, *function, *iterator:
		return a == b
	}
	return false
}
