package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// parseInt is Python's int(s, base).
func parseInt(s string, base int) (Value, bool) {
	s = strings.ReplaceAll(trimSpace(s), "_", "")
	if prefix, ok := map[int]string{2: "0b", 8: "0o", 16: "0x"}[base]; ok && len(s) > 2 && strings.EqualFold(s[:2], prefix) {
		s = s[2:]
	}
	if n, err := strconv.ParseInt(s, base, 64); err == nil {
		return n, true
	}
	if n, ok := new(big.Int).SetString(s, base); ok && len(s) <= 4300 {
		return n, true
	}
	return nil, false
}

func parseFloat(s string) (float64, bool) {
	s = trimSpace(s)
	if strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	return f, err == nil || math.IsInf(f, 0)
}

func intFilter(r *run, v Value, a *args) Value {
	otherwise, base := a.value(0, "default", int64(0)), a.integer(r, 1, "base", 10)
	r.use(v)
	f := 0.0
	switch x := v.(type) {
	case string:
		if base < 0 || base == 1 || base > 36 {
			r.fail("int: a base of %d", base)
		}
		if n, ok := parseInt(x, base); ok {
			return n
		}
		var ok bool
		if f, ok = parseFloat(x); !ok {
			return otherwise
		}
	case *big.Int:
		return x
	default:
		n, g, isInt, ok := number(v)
		switch {
		case !ok:
			return otherwise
		case isInt:
			return n
		}
		f = g
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return otherwise
	}
	if math.Abs(f) < 1<<62 {
		return int64(f)
	}
	n, _ := big.NewFloat(f).Int(nil)
	return n
}

func floatFilter(r *run, v Value, a *args) Value {
	r.use(v)
	if s, ok := v.(string); ok {
		if f, ok := parseFloat(s); ok {
			return f
		}
		return a.value(0, "default", 0.0)
	}
	n, f, isInt, ok := number(v)
	switch {
	case !ok:
		return a.value(0, "default", 0.0)
	case isInt:
		return float64(n)
	}
	return f
}

func absFilter(r *run, v Value, _ *args) Value {
	r.use(v)
	switch x := v.(type) {
	case float64:
		return math.Abs(x)
	case *big.Int:
		return new(big.Int).Abs(x)
	}
	n, _, _, ok := number(v)
	if !ok {
		r.fail("bad operand type for abs(): '%s'", typeName(v))
	}
	if n < 0 {
		return (&signExpr{e: &constExpr{n}, minus: true}).eval(r, nil)
	}
	return n
}

func roundFilter(r *run, v Value, a *args) Value {
	r.use(v)
	n, f, isInt, ok := number(v)
	precision, how := a.integer(r, 0, "precision", 0), "common"
	if x, ok := a.get(1, "method"); ok {
		how = r.text(x)
	}
	if !ok || precision < -300 || precision > 300 {
		r.fail("round: bad value or precision")
	}
	if isInt {
		f = float64(n)
	}
	switch how {
	case "common":
		if isInt && precision >= 0 {
			return n
		}
		if precision < 0 {
			p := math.Pow(10, float64(-precision))
			f = math.RoundToEven(f/p) * p
		} else if rounded, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64); err == nil {
			f = rounded // decimal rounding of the exact value, as CPython does
		}
		if isInt {
			return int64(f)
		}
		return f
	case "ceil", "floor":
		p := math.Pow(10, float64(precision))
		if how == "ceil" {
			return math.Ceil(f*p) / p
		}
		return math.Floor(f*p) / p
	}
	r.fail("round: method must be common, ceil or floor")
	return nil
}

func fileSize(r *run, v Value, binary bool) Value {
	f, _ := floatFilter(r, v, &args{}).(float64)
	base, units := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if binary {
		base, units = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	if f == 1 {
		return "1 Byte"
	}
	if f < base {
		return strconv.FormatInt(int64(f), 10) + " Bytes"
	}
	i := 0
	for f /= base; f >= base && i < len(units)-1; i++ {
		f /= base
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}
