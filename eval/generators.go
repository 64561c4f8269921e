package eval

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"danlu/chat/jinja"
	"danlu/data/corpus"
)

// generators make the items of danlu's own data sets from the options of dataset_kwargs.
var generators = map[string]func(o *options, split corpus.Split) ([]Doc, error){
	"additions": additions, "stories": stories, "formats": formats, "passkey": passkey,
}

// options are dataset_kwargs, each of which has to be asked for.
type options struct {
	given *jinja.Dict
	asked map[string]bool
	err   error
}

// generate makes the items of a split.
func (s *Dataset) generate(name, split string) ([]Doc, error) {
	g, ok := generators[name]
	if !ok {
		return nil, fmt.Errorf("dataset_path: %q is no generator; there is %s", name, strings.Join(slices.Sorted(maps.Keys(generators)), ", "))
	}
	o := &options{given: s.Options, asked: map[string]bool{}}
	if o.given == nil {
		o.given = jinja.NewDict()
	}
	part := corpus.HeldOut
	if split == "train" {
		part = corpus.Train
	}
	docs, err := g(o, part)
	if err == nil {
		err = o.err
	}
	for _, c := range columns(o.given) {
		if err == nil && !o.asked[c] {
			err = fmt.Errorf("dataset_kwargs: %s: unknown key; known are %s", c, strings.Join(slices.Sorted(maps.Keys(o.asked)), ", "))
		}
	}
	return docs, err
}

// whole is a whole number from lo to hi.
func (o *options) whole(name string, otherwise, lo, hi int) int {
	o.asked[name] = true
	v, ok := o.given.Get(name)
	if !ok {
		return otherwise
	}
	n, ok := v.(int64)
	if (!ok || int(n) < lo || int(n) > hi) && o.err == nil {
		o.err = fmt.Errorf("dataset_kwargs: %s: want a whole number from %d to %d, got %s", name, lo, hi, jinja.Repr(v))
	}
	return int(n)
}

// numbers is a list of numbers from lo to hi.
func (o *options) numbers(name string, otherwise []float64, lo, hi float64) []float64 {
	o.asked[name] = true
	v, ok := o.given.Get(name)
	if !ok {
		return otherwise
	}
	list, _ := v.(jinja.List)
	var out []float64
	for _, x := range list {
		f, ok := x.(float64)
		if n, whole := x.(int64); whole {
			f, ok = float64(n), true
		}
		if ok && f >= lo && f <= hi {
			out = append(out, f)
		}
	}
	if (len(out) == 0 || len(out) < len(list)) && o.err == nil {
		o.err = fmt.Errorf("dataset_kwargs: %s: want a list of numbers from %v to %v, got %s", name, lo, hi, jinja.Repr(v))
	}
	return out
}

// language is en or zh.
func (o *options) language() corpus.Lang {
	o.asked["language"] = true
	v, _ := o.given.Get("language")
	switch v {
	case "zh":
		return corpus.Chinese
	case "en", nil:
	default:
		if o.err == nil {
			o.err = fmt.Errorf("dataset_kwargs: language: want en or zh, got %s", jinja.Repr(v))
		}
	}
	return corpus.English
}

// newDoc is an item of columns and values in turn.
func newDoc(pairs ...jinja.Value) Doc {
	d := jinja.NewDict()
	for i := 0; i+1 < len(pairs); i += 2 {
		d.SetString(pairs[i].(string), pairs[i+1])
	}
	return d
}

// additions are sums of two two-digit numbers.
func additions(o *options, split corpus.Split) ([]Doc, error) {
	lang, n := o.language(), o.whole("items", 200, 1, 100000)
	var docs []Doc
	for i := range n {
		p := corpus.ProblemAt(lang, split, uint64(i))
		docs = append(docs, newDoc("question", p.Question, "worked", p.Worked, "answer", int64(p.Answer())))
	}
	return docs, o.err
}

// stories are stories without their last sentence, which stands among those of others.
func stories(o *options, split corpus.Split) ([]Doc, error) {
	lang, n := o.language(), o.whole("items", 200, 1, 100000)
	rng := rand.New(rand.NewPCG(uint64(lang), uint64(split)))
	var docs []Doc
	for i := range n {
		context, ending := lastSentence(corpus.StoryAt(lang, split, uint64(i)).Text)
		endings := []string{ending}
		for k := 1; len(endings) < 4; k++ {
			_, other := lastSentence(corpus.StoryAt(lang, split, uint64(i+k*7919)).Text)
			if !slices.Contains(endings, other) {
				endings = append(endings, other)
			}
		}
		right := rng.IntN(4)
		endings[0], endings[right] = endings[right], endings[0]
		list := make(jinja.List, len(endings))
		for k, e := range endings {
			list[k] = e
		}
		docs = append(docs, newDoc("context", context, "endings", list, "label", int64(right)))
	}
	return docs, o.err
}

// lastSentence cuts a story before its last sentence.
func lastSentence(story string) (before, last string) {
	list := sentences(strings.TrimSpace(story))
	last = list[len(list)-1]
	return strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(story), last)), last
}
