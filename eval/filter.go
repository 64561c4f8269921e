package eval

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"

	"danlu/internal/pyre"
)

// Filter turns generated texts into answers, step by step (an entry of filter_list).
type Filter struct {
	Name  string
	steps []step
}

// step changes the texts that were generated for one item, repeats in order.
type step func(d Doc, texts []string) ([]string, error)

// each is a step that changes every text by itself.
func each(f func(s string) string) step {
	return func(_ Doc, texts []string) ([]string, error) {
		out := make([]string, len(texts))
		for i, s := range texts {
			out[i] = f(s)
		}
		return out, nil
	}
}

// apply runs the steps.
func (f *Filter) apply(d Doc, texts []string) (_ []string, err error) {
	for _, s := range f.steps {
		if texts, err = s(d, texts); err != nil {
			return nil, fmt.Errorf("filter %s: %w", f.Name, err)
		}
	}
	return texts, nil
}

func readFilters(t *Task, n *yaml.Node) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return errors.New("want a list of {name, filter}")
	}
	for _, c := range n.Content {
		var f Filter
		err := pairs(c, func(key string, v *yaml.Node) (err error) {
			switch key {
			case "name":
				f.Name, err = text(v)
			case "filter":
				for _, s := range v.Content {
					x, err := readStep(t, s)
					if err != nil {
						return err
					}
					f.steps = append(f.steps, x)
				}
			default:
				return errors.New("unknown key; known are name and filter")
			}
			return err
		})
		if err != nil {
			return err
		}
		if f.Name == "" {
			return errors.New("name: is missing")
		}
		t.Filters = append(t.Filters, f)
	}
	return nil
}

// filterOptions are the keys of a step.
type filterOptions struct {
	name, pattern, fallback       string
	ignoreCase, ignorePunctuation bool
	ignore                        []*pyre.Regexp
	group, k                      int
	mapping                       map[string]string
	otherwise                     string
}

func readStep(t *Task, n *yaml.Node) (step, error) {
	o := filterOptions{pattern: `#### (\-?[0-9\.\,]+)`, fallback: "[invalid]"}
	custom := ""
	err := pairs(n, func(key string, v *yaml.Node) (err error) {
		switch key {
		case "function":
			o.name, err = text(v)
		case "filter_fn":
			name, _ := function(v)
			if custom, err = lookUpFilter(t, name); err != nil {
				return err
			}
		case "regex_pattern":
			o.pattern, err = text(v)
		case "group_select":
			err = v.Decode(&o.group)
		case "fallback":
			o.fallback, err = text(v)
		case "ignore_case":
			o.ignoreCase, err = truth(v)
		case "ignore_punctuation":
			o.ignorePunctuation, err = truth(v)
		case "regexes_to_ignore":
			o.ignore, err = patterns(v)
		case "k":
			o.k, err = whole(v)
		case "mapping_dict":
			err = v.Decode(&o.mapping)
		case "default_value":
			o.otherwise, err = text(v)
		default:
			return errors.New("unknown key")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.name == "custom" {
		o.name = custom
	}
	build, ok := steps[o.name]
	if !ok {
		return nil, fmt.Errorf("function: %q is not known; there is regex, multi_choice_regex, take_first, take_first_k, majority_vote, remove_whitespace, lowercase, uppercase and map", o.name)
	}
	return build(o)
}

func lookUpFilter(t *Task, name string) (string, error) {
	filter, ok := lookUp(t.Name, name, func(k known) map[string]string { return k.filters })
	if !ok {
		return "", notSupported(name)
	}
	return filter, nil
}

// steps builds the steps by the name of their function.
var steps = map[string]func(filterOptions) (step, error){
	"regex":              regexStep,
	"multi_choice_regex": choiceStep,
	"take_first": func(filterOptions) (step, error) {
		return func(_ Doc, texts []string) ([]string, error) { return texts[:1], nil }, nil
	},
	"take_first_k": func(o filterOptions) (step, error) {
		return func(_ Doc, texts []string) ([]string, error) {
			if o.k < 1 || o.k > len(texts) {
				return nil, fmt.Errorf("take_first_k: want 1 to %d answers (repeats), got %d", len(texts), o.k)
			}
			return texts[:o.k], nil
		}, nil
	},
	"majority_vote": func(filterOptions) (step, error) { return majority, nil },
	"remove_whitespace": func(filterOptions) (step, error) {
		return each(strings.TrimSpace), nil
	},
	"lowercase": func(filterOptions) (step, error) { return each(strings.ToLower), nil },
	"uppercase": func(filterOptions) (step, error) { return each(strings.ToUpper), nil },
	"map": func(o filterOptions) (step, error) {
		return each(func(s string) string {
			if to, ok := o.mapping[s]; ok {
				return to
			}
			return o.otherwise
		}), nil
	},
	"fenced_code": func(filterOptions) (step, error) { return each(fencedCode), nil },
	"humaneval":   func(filterOptions) (step, error) { return humanEvalProgram, nil },
	"humaneval_instruct": func(filterOptions) (step, error) {
		return func(d Doc, texts []string) ([]string, error) {
			texts, _ = each(func(s string) string { head, _, _ := strings.Cut(s, "```"); return head })(d, texts)
			return humanEvalProgram(d, texts)
		}, nil
	},
}

// majority keeps the most frequent text, the first of equals.
func majority(_ Doc, texts []string) ([]string, error) {
	count := map[string]int{}
	best := ""
	for _, s := range texts {
		count[s]++
	}
	for _, s := range texts {
		if count[s] > count[best] {
			best = s
		}
	}
	return []string{best}, nil
}

// regexStep takes the chosen match of a pattern: its first group that is not empty, or the whole where it has no groups.
func regexStep(o filterOptions) (step, error) {
	re, err := pyre.Compile(o.pattern)
	if err != nil {
		return nil, err
	}
	return func(_ Doc, texts []string) ([]string, error) {
		out := make([]string, len(texts))
		for i, s := range texts {
			found, ok, err := selected(re, s, o.group)
			if err != nil {
				return nil, err
			}
			if out[i] = found; !ok {
				out[i] = o.fallback
			}
		}
		return out, nil
	}, nil
}

// selected is the match of a pattern that group_select names, counted from the end when negative.
func selected(re *pyre.Regexp, s string, at int) (string, bool, error) {
	all, err := re.FindAll(s)
	if err != nil {
		return "", false, err
	}
	if at < 0 {
		at += len(all)
	}
	if at < 0 || at >= len(all) {
		return "", false, nil
	}
	groups := all[at]
	switch len(groups) {
	case 1:
		return strings.TrimSpace(groups[0]), true, nil
	case 2:
		return strings.TrimSpace(groups[1]), true, nil
	}
	for _, g := range groups[1:] {
		if g != "" {
			return strings.TrimSpace(g), true, nil
		}
	}
	return "", false, nil
}

// choiceStep finds the letter of a choice: by the pattern, else by a choice's text, else behind a colon.
func choiceStep(o filterOptions) (step, error) {
	re, err := pyre.Compile(o.pattern)
	if err != nil {
		return nil, err
	}
	plain := func(s string) (string, error) {
		for _, r := range o.ignore {
			var err error
			if s, err = r.Sub(s, "", 0); err != nil {
				return "", err
			}
		}
		if o.ignoreCase {
			s = strings.ToLower(s)
		}
		if o.ignorePunctuation {
			s = strings.Map(func(r rune) rune {
				if unicode.IsPunct(r) {
					return -1
				}
				return r
			}, s)
		}
		return s, nil
	}
	return func(d Doc, texts []string) ([]string, error) {
		finder, err := newChoiceFinder(d, plain)
		if err != nil {
			return nil, err
		}
		out := make([]string, len(texts))
		for i, s := range texts {
			found, ok, err := selected(re, s, o.group)
			if err != nil {
				return nil, err
			}
			if !ok || found == "" {
				if found, err = finder.find(s, o.group); err != nil {
					return nil, err
				}
			}
			if out[i] = found; found == "" {
				out[i] = o.fallback
			}
		}
		return out, nil
	}, nil
}

// choiceFinder looks for an item's choices in a text.
type choiceFinder struct {
	byText, byLetter *pyre.Regexp
	letter           map[string]string // "(A)" by the choice's text
	plain            func(string) (string, error)
}

func newChoiceFinder(d Doc, plain func(string) (string, error)) (*choiceFinder, error) {
	list, err := (&field{key: "choices", source: "choices"}).list(d)
	if err != nil {
		return nil, err
	}
	f := &choiceFinder{letter: map[string]string{}, plain: plain}
	var texts, letters []string
	for i, c := range list {
		s, err := plain(strings.TrimSpace(c))
		if err != nil {
			return nil, err
		}
		letter := string(rune('A' + i))
		f.letter[s] = "(" + letter + ")"
		texts, letters = append(texts, regexp.QuoteMeta(s)), append(letters, letter)
	}
	sort.SliceStable(texts, func(i, j int) bool { return len(texts[i]) > len(texts[j]) })
	if f.byText, err = pyre.Compile(strings.Join(texts, "|")); err != nil {
		return nil, err
	}
	f.byLetter, err = pyre.Compile(`:[\s]*(` + strings.Join(letters, "|") + ")")
	return f, err
}

func (f *choiceFinder) find(s string, at int) (string, error) {
	plain, err := f.plain(s)
	if err != nil {
		return "", err
	}
	found, _, err := selected(f.byText, plain, at)
	if err != nil {
		return "", err
	}
	if letter, ok := f.letter[found]; ok && found != "" {
		return letter, nil
	}
	if found, _, err = selected(f.byLetter, s, at); found != "" {
		return "(" + found + ")", err
	}
	return "", err
}
