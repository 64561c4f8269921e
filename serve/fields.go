package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
)

// fields are the members of a request's object. Reading one by its name takes it away, so that what is left at the end is
// unknown.
type fields struct {
	raw map[string]json.RawMessage
	err *apiError // the first that was wrong
}

// readFields reads a JSON object. Names are exact, each once; null is the same as leaving a field out.
func readFields(body []byte) (*fields, *apiError) {
	bad := func(format string, args ...any) *apiError {
		return fault(http.StatusBadRequest, invalidRequest, "", "the body is not a JSON object: "+format, args...)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		if err == nil {
			err = errors.New("it does not start with {")
		}
		return nil, bad("%v", err)
	}
	f := &fields{raw: map[string]json.RawMessage{}}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, bad("%v", err)
		}
		key := name.(string) // a member's name can be nothing else
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, bad("%s: %v", key, err)
		}
		if _, twice := f.raw[key]; twice {
			return nil, badField(key, "is given twice")
		}
		f.raw[key] = v
	}
	if _, err := d.Token(); err != nil {
		return nil, bad("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad("more text behind it at byte %d", d.InputOffset())
	}
	for key, v := range f.raw {
		if string(v) == "null" {
			delete(f.raw, key)
		}
	}
	return f, nil
}

func (f *fields) fail(e *apiError) {
	if f.err == nil {
		f.err = e
	}
}

// take returns a field and takes it away.
func (f *fields) take(name string) (json.RawMessage, bool) {
	v, ok := f.raw[name]
	delete(f.raw, name)
	return v, ok
}

// read fills in a value of a Go type; what says what is wanted.
func read[T any](f *fields, name, what string, to *T) (given bool) {
	v, ok := f.take(name)
	if !ok {
		return false
	}
	var x T
	if err := json.Unmarshal(v, &x); err != nil {
		f.fail(badField(name, "want %s, got %s", what, short(v)))
		return false
	}
	*to = x
	return true
}

// float reads a number in lo .. hi.
func (f *fields) float(name string, lo, hi float64, to *float64) (given bool) {
	var x float64
	if !read(f, name, "a number", &x) {
		return false
	}
	if x < lo || x > hi {
		f.fail(badField(name, "want %v to %v, got %v", lo, hi, x))
		return false
	}
	*to = x
	return true
}

// int reads a whole number in lo .. hi.
func (f *fields) int(name string, lo, hi int, to *int) (given bool) {
	var x float64 // 64.0 is a whole number as well
	if !read(f, name, "a whole number", &x) {
		return false
	}
	if x != math.Trunc(x) || x < float64(lo) || x > float64(hi) {
		f.fail(badField(name, "want a whole number of %d to %d, got %v", lo, hi, x))
		return false
	}
	*to = int(x)
	return true
}

func (f *fields) bool(name string, to *bool) (given bool) { return read(f, name, "true or false", to) }

// word reads one of several words.
func (f *fields) word(name string, to *string, words ...string) {
	var x string
	switch {
	case !read(f, name, "a text", &x):
	case !slices.Contains(words, x):
		f.fail(badField(name, "want %s, got %q", strings.Join(words, " or "), x))
	default:
		*to = x
	}
}

// strings reads a string or a list of at most n of them.
func (f *fields) strings(name string, n int, to *[]string) {
	v, ok := f.take(name)
	if !ok {
		return
	}
	var one string
	var list []string
	if json.Unmarshal(v, &one) == nil {
		list = []string{one}
	} else if json.Unmarshal(v, &list) != nil {
		f.fail(badField(name, "want a string or a list of strings, got %s", short(v)))
		return
	}
	if len(list) > n || slices.Contains(list, "") {
		f.fail(badField(name, "want at most %d strings that are not empty, got %s", n, short(v)))
		return
	}
	*to = list
}

// labels takes away fields that name or group requests for OpenAI's own bookkeeping and change no reply.
func (f *fields) labels() {
	for _, name := range []string{"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"} {
		f.take(name)
	}
}

// only accepts a field with one of the values that mean what is done anyway; the reason is for others.
func (f *fields) only(name, reason string, values ...string) {
	v, ok := f.take(name)
	if !ok {
		return
	}
	var compact bytes.Buffer
	if json.Compact(&compact, v) != nil || !slices.Contains(values, compact.String()) {
		f.fail(cannot(name, "%s; got %s", reason, short(v)))
	}
}

// extensions are fields of other servers that clients send and that this one does not have.
var extensions = strings.Fields(`
	audio modalities web_search_options verbosity functions function_call suffix best_of
	bad_words chat_template guided_json guided_regex guided_choice guided_grammar
	reasoning_format priority return_token_ids include_stop_str_in_output
	skip_special_tokens use_beam_search length_penalty
	n_predict dry_multiplier dry_base dry_allowed_length xtc_probability xtc_threshold mirostat mirostat_tau mirostat_eta
	samplers id_slot n_probs lora keep_alive options format think`)

// done reports the first thing that was wrong, or the fields that nobody read.
func (f *fields) done() *apiError {
	if f.err != nil || len(f.raw) == 0 {
		return f.err
	}
	var names []string
	for name := range f.raw {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if slices.Contains(extensions, name) {
			return cannot(name, "this server cannot honour it")
		}
	}
	return badField(names[0], "unknown field")
}

// within ends the reading of a field that is an object itself.
func (f *fields) within(name string, inner *fields) {
	if e := inner.done(); e != nil {
		e.Param = &name
		e.Message = name + "." + e.Message
		f.fail(e)
	}
}

// short is a value's beginning, for messages.
func short(v json.RawMessage) string {
	const most = 80
	s := []rune(strings.ToValidUTF8(string(v), "�"))
	if len(s) > most {
		return string(s[:most]) + "..."
	}
	return string(s)
}
