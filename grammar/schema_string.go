package grammar

import (
	"fmt"
	"slices"
	"strings"

	"danlu/chat/jinja"
)

// formats are expressions for the values of format.
var formats = map[string]string{
	"date":      date,
	"time":      clock,
	"date-time": date + "T" + clock,
	"uuid":      `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`,
	"ipv4":      octet + `(\.` + octet + `){3}`,
	"ipv6":      `([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}`,
	"email":     `[a-zA-Z0-9]([._+-]?[a-zA-Z0-9]){0,31}@` + label + `(\.` + label + `){0,3}\.[a-zA-Z]{2,12}`,
	"hostname":  label + `(\.` + label + `){0,6}`,
	"duration":  `P(\d{1,4}W|\d{1,4}D(T\d{1,4}H)?|T(\d{1,4}H(\d{1,4}M(\d{1,4}S)?)?|\d{1,4}M(\d{1,4}S)?|\d{1,4}S))`,
}

const (
	// Days that every month of any year has, the longer ones of the months that do, and leap days.
	date  = `([0-9]{4}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|[0-9]{2}(0[48]|[2468][048]|[13579][26])-02-29)`
	clock = `([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])`
	octet = `(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])`
	label = `[a-zA-Z0-9](-?[a-zA-Z0-9]){0,15}`
)

// stringOf is a text with a schema's length, pattern or format.
func stringOf(d *jinja.Dict, path string) (piece, error) {
	lo, hi, err := bounds(d, "minLength", "maxLength", path)
	if err != nil {
		return nil, err
	}
	format, pattern, err := formOf(d, path)
	if err != nil {
		return nil, err
	}
	expr, ok := formats[format]
	switch {
	case format != "" && !ok:
		return nil, at(path, "format %q is not supported, want one of %s", format, strings.Join(slices.Sorted(keys(formats)), ", "))
	case format != "" && pattern != "":
		return nil, at(path, "pattern beside format is not supported")
	case (format != "" || pattern != "") && (lo > 0 || hi >= 0):
		return nil, at(path, "minLength and maxLength beside pattern or format are not supported")
	case pattern != "":
		expr = pattern
	case format == "" && lo == 0 && hi < 0:
		return quoted(repeat(anyChar, 0, unbounded)), nil
	case format == "":
		return quoted(repeat(inString(anyRune), lo, hi)), nil
	}
	body, err := regex(expr, inString, format != "")
	if err != nil {
		return nil, at(path, "pattern %q: %v", expr, err)
	}
	return quoted(body), nil
}

// formOf reads format and pattern.
func formOf(d *jinja.Dict, path string) (format, pattern string, err error) {
	for _, x := range []struct {
		key string
		to  *string
	}{{"format", &format}, {"pattern", &pattern}} {
		v, ok := d.Get(x.key)
		if !ok {
			continue
		}
		if *x.to, ok = v.(string); !ok {
			return "", "", at(path, "%s: want a text, got %s", x.key, jinja.Repr(v))
		}
	}
	return format, pattern, nil
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// numberOf is a number within a schema's bounds.
func numberOf(d *jinja.Dict, whole bool, path string) (piece, error) {
	r, err := rangeOf(d, whole, path)
	if err != nil {
		return nil, err
	}
	switch {
	case r == nil && whole:
		return integer, nil
	case r == nil:
		return number, nil
	case r.lo > r.hi || r.lo == r.hi && (r.above || r.below):
		return nil, at(path, "no number lies between the bounds")
	}
	return r.piece(whole), nil
}

// interval is what bounds of a number leave.
type interval struct {
	lo, hi       int64
	above, below bool // the bounds themselves are out; of whole numbers never
}

// largest bounds numbers that a schema leaves unbounded, as maxDigits does.
const largest = 999_999_999_999_999

// rangeOf reads bounds, nil where there are none.
func rangeOf(d *jinja.Dict, whole bool, path string) (*interval, error) {
	r, given := &interval{lo: -largest, hi: largest}, false
	for _, key := range []string{"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"} {
		v, ok := d.Get(key)
		if !ok {
			continue
		}
		x, ok := float(v)
		if !ok || !(x >= -largest && x <= largest) {
			return nil, at(path, "%s: want a number of at most %d digits, got %s", key, maxDigits, jinja.Repr(v))
		}
		given = true
		n, isWhole := int64(x), x == float64(int64(x))
		if !isWhole && !whole {
			return nil, at(path, "%s: bounds of numbers have to be whole, got %s", key, jinja.Repr(v))
		}
		r.bound(key, n, x, isWhole, whole)
	}
	if !given {
		return nil, nil
	}
	return r, nil
}

// bound takes in a bound x, which is n where it is whole.
func (r *interval) bound(key string, n int64, x float64, isWhole, whole bool) {
	exclusive := strings.HasPrefix(key, "exclusive")
	lower := strings.HasSuffix(strings.ToLower(key), "minimum")
	if whole && !isWhole { // the next whole number inside; n is x cut off towards zero
		exclusive = false
		if lower && x > 0 {
			n++
		} else if !lower && x < 0 {
			n--
		}
	}
	if whole && exclusive {
		exclusive = false
		if lower {
			n++
		} else {
			n--
		}
	}
	switch {
	case lower && (n > r.lo || n == r.lo && exclusive):
		r.lo, r.above = n, exclusive
	case !lower && (n < r.hi || n == r.hi && exclusive):
		r.hi, r.below = n, exclusive
	}
}

// piece reads the numbers of an interval.
func (r interval) piece(whole bool) piece {
	var all []piece
	if r.lo < 0 {
		negative := interval{lo: max(0, -r.hi), hi: -r.lo, above: r.hi <= 0 && r.below, below: r.above}
		if negative.lo == 0 && whole {
			negative.lo = 1 // zero has no sign
		}
		all = append(all, sequence(literal("-"), negative.magnitudes(whole)))
	}
	if r.hi >= 0 {
		positive := interval{lo: max(0, r.lo), hi: r.hi, above: r.lo >= 0 && r.above, below: r.below}
		all = append(all, positive.magnitudes(whole))
	}
	return either(all...)
}

// magnitudes reads the numbers of an interval that is not below zero.
func (r interval) magnitudes(whole bool) piece {
	if whole {
		return between(r.lo, r.hi)
	}
	var all []piece
	zeros := sequence(literal("."), repeat(literal("0"), 1, maxFraction))
	some := sequence(literal("."), repeat(literal("0"), 0, maxFraction-1), runes{{'1', '9'}}.one, repeat(digit.one, 0, maxFraction-1))
	if r.lo < r.hi {
		low := literal(fmt.Sprint(r.lo))
		if r.above {
			all = append(all, sequence(low, some))
		} else {
			all = append(all, sequence(low, optional(fraction)))
		}
		if r.lo+1 < r.hi {
			all = append(all, sequence(between(r.lo+1, r.hi-1), optional(fraction)))
		}
	}
	if !r.below && (r.lo < r.hi || !r.above) {
		all = append(all, sequence(literal(fmt.Sprint(r.hi)), optional(zeros)))
	}
	return either(all...)
}

// between reads the whole numbers from lo to hi, neither below zero.
func between(lo, hi int64) piece {
	return func(a *automaton, from int32) int32 {
		w := words{a: a, lo: '0', hi: '9', rest: []int32{a.add()}}
		for lo <= hi { // a part for each number of digits
			last := int64(9)
			for last < lo {
				last = 10*last + 9
			}
			last = min(last, hi)
			w.between(from, []byte(fmt.Sprint(lo)), []byte(fmt.Sprint(last)))
			lo = last + 1
		}
		return w.rest[0]
	}
}
