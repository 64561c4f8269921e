package jinja

// filterFunc computes v|name(args).
type filterFunc func(r *run, v Value, a *args) Value

// filters are Jinja's filters, without those that guess (random) or make HTML (urlize, xmlattr). They are filled by
// init, since map and select name others.
var filters map[string]filterFunc

// soft is the text of a value for filters that take any.
func soft(f func(r *run, s string, a *args) Value) filterFunc {
	return func(r *run, v Value, a *args) Value { return f(r, r.str(v), a) }
}

// method makes a filter of a string method.
func method(name string) filterFunc {
	return soft(func(r *run, s string, a *args) Value { return stringMethods[name](r, s, a) })
}

func init() {
	filters = map[string]filterFunc{
		"upper": method("upper"), "lower": method("lower"), "capitalize": method("capitalize"), "trim": method("strip"),
		"string":      soft(func(_ *run, s string, _ *args) Value { return s }),
		"safe":        func(r *run, v Value, _ *args) Value { return markup(r.str(v)) },
		"escape":      func(r *run, v Value, _ *args) Value { return r.escape(v) },
		"e":           func(r *run, v Value, _ *args) Value { return r.escape(v) },
		"forceescape": func(r *run, v Value, _ *args) Value { return r.escape(plain(v)) },
		"title":       soft(titleFilter),
		"center": soft(func(r *run, s string, a *args) Value {
			return r.pad(s, a.integer(r, 0, "width", 80), " ", 0)
		}),
		"replace": soft(func(r *run, s string, a *args) Value {
			return r.replace(s, r.str(a.value(0, "old", nil)), r.str(a.value(1, "new", nil)), a.integerOrNone(r, 2, "count", -1))
		}),
		"indent":   soft(indent),
		"truncate": soft(truncate),
		"wordwrap": soft(wordwrap),
		"wordcount": soft(func(r *run, s string, _ *args) Value {
			r.charge(len(s))
			return int64(len(wordPattern.FindAllString(s, -1)))
		}),
		"striptags":      soft(stripTags),
		"urlencode":      urlEncode,
		"pprint":         func(r *run, v Value, _ *args) Value { return r.repr(v) },
		"format":         formatFilter,
		"tojson":         toJSON,
		"int":            intFilter,
		"float":          floatFilter,
		"abs":            absFilter,
		"round":          roundFilter,
		"default":        defaultFilter,
		"d":              defaultFilter,
		"length":         lengthFilter,
		"count":          lengthFilter,
		"first":          func(r *run, v Value, _ *args) Value { return edge(r.items(v), 0) },
		"last":           func(r *run, v Value, _ *args) Value { l := r.items(v); return edge(l, len(l)-1) },
		"list":           func(r *run, v Value, _ *args) Value { return List(r.items(v)) },
		"items":          itemsFilter,
		"join":           joinFilter,
		"reverse":        reverseFilter,
		"attr":           func(r *run, v Value, a *args) Value { return attrFilter(r, v, a.text(r, 0, "name")) },
		"sort":           sortFilter,
		"dictsort":       dictSort,
		"unique":         uniqueFilter,
		"groupby":        groupBy,
		"min":            func(r *run, v Value, a *args) Value { return extreme(r, v, a, -1) },
		"max":            func(r *run, v Value, a *args) Value { return extreme(r, v, a, 1) },
		"sum":            sumFilter,
		"batch":          batch,
		"slice":          sliceFilter,
		"map":            mapFilter,
		"select":         func(r *run, v Value, a *args) Value { return selecting(r, v, a, false, true) },
		"reject":         func(r *run, v Value, a *args) Value { return selecting(r, v, a, false, false) },
		"selectattr":     func(r *run, v Value, a *args) Value { return selecting(r, v, a, true, true) },
		"rejectattr":     func(r *run, v Value, a *args) Value { return selecting(r, v, a, true, false) },
		"filesizeformat": func(r *run, v Value, a *args) Value { return fileSize(r, v, a.truth(0, "binary")) },
	}
}

// integerOrNone is integer with None for the default.
func (a *args) integerOrNone(r *run, i int, name string, otherwise int) int {
	if v := a.value(i, name, nil); v != nil {
		return r.integer(v)
	}
	return otherwise
}

func defaultFilter(_ *run, v Value, a *args) Value {
	if _, undefined := v.(*Undefined); undefined || a.truth(1, "boolean") && !Truth(v) {
		return a.value(0, "default_value", "")
	}
	return v
}
