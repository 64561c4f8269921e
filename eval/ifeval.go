package eval

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"danlu/chat/jinja"
	"danlu/internal/pyre"
)

// instruction checks whether an answer follows one of IFEval's verifiable instructions (Zhou et al. 2023, arXiv:2311.07911,
// table 1). args are the item's kwargs of the instruction.
type instruction func(answer string, args *arguments) bool

// instructions are the checks by id. Sentences and languages are told by rules of our own (ifeval_text.go) where the
// reference uses NLTK and langdetect.
var instructions = map[string]instruction{
	"keywords:existence": func(s string, a *arguments) bool {
		return !slices.ContainsFunc(a.list("keywords"), func(k string) bool { return a.count(k, s) == 0 })
	},
	"keywords:frequency": func(s string, a *arguments) bool {
		return a.compare(a.count(a.text("keyword"), s), "frequency", "relation")
	},
	"keywords:forbidden_words": func(s string, a *arguments) bool {
		return !slices.ContainsFunc(a.list("forbidden_words"), func(w string) bool { return a.count(`\b`+w+`\b`, s) > 0 })
	},
	"keywords:letter_frequency": func(s string, a *arguments) bool {
		return a.compare(strings.Count(strings.ToLower(s), strings.ToLower(a.text("letter"))), "let_frequency", "let_relation")
	},
	"language:response_language": func(s string, a *arguments) bool { return inLanguage(s, a.text("language")) },
	"length_constraints:number_sentences": func(s string, a *arguments) bool {
		return a.compare(len(sentences(s)), "num_sentences", "relation")
	},
	"length_constraints:number_paragraphs": func(s string, a *arguments) bool {
		n, ok := paragraphs(s)
		return ok && n == a.whole("num_paragraphs")
	},
	"length_constraints:number_words": func(s string, a *arguments) bool {
		return a.compare(len(wordLike.FindAllString(s, -1)), "num_words", "relation")
	},
	"length_constraints:nth_paragraph_first_word": func(s string, a *arguments) bool {
		n, word := nthFirstWord(s, a.whole("nth_paragraph"))
		return n == a.whole("num_paragraphs") && word == strings.ToLower(a.text("first_word"))
	},
	"detectable_content:number_placeholders": func(s string, a *arguments) bool {
		return len(placeholder.FindAllString(s, -1)) >= a.whole("num_placeholders")
	},
	"detectable_content:postscript": func(s string, a *arguments) bool { return postscript(s, a.text("postscript_marker")) },
	"detectable_format:number_bullet_lists": func(s string, a *arguments) bool {
		return len(starBullet.FindAllString(s, -1))+len(dashBullet.FindAllString(s, -1)) == a.whole("num_bullets")
	},
	"detectable_format:constrained_response": func(s string, _ *arguments) bool {
		return slices.ContainsFunc([]string{"My answer is yes.", "My answer is no.", "My answer is maybe."}, func(w string) bool { return strings.Contains(s, w) })
	},
	"detectable_format:number_highlighted_sections": func(s string, a *arguments) bool {
		return highlights(s) >= a.whole("num_highlights")
	},
	"detectable_format:multiple_sections": func(s string, a *arguments) bool {
		return a.count(`\s?`+a.text("section_spliter")+`\s?\d+\s?`, s) >= a.whole("num_sections")
	},
	"detectable_format:json_format": func(s string, _ *arguments) bool { return isJSON(s) },
	"detectable_format:title": func(s string, _ *arguments) bool {
		return slices.ContainsFunc(titled.FindAllString(s, -1), func(t string) bool { return strings.TrimSpace(strings.Trim(t, "<>")) != "" })
	},
	"combination:two_responses": func(s string, _ *arguments) bool { return twoResponses(s) },
	"combination:repeat_prompt": func(s string, a *arguments) bool {
		return strings.HasPrefix(lowered(s), lowered(a.text("prompt_to_repeat")))
	},
	"startend:end_checker": func(s string, a *arguments) bool {
		return strings.HasSuffix(strings.ToLower(strings.Trim(strings.TrimSpace(s), `"`)), lowered(a.text("end_phrase")))
	},
	"startend:quotation": func(s string, _ *arguments) bool {
		s = strings.TrimSpace(s)
		return len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"'
	},
	"change_case:capital_word_frequency": func(s string, a *arguments) bool {
		n := 0
		for _, w := range caseWord.FindAllString(s, -1) {
			if isUpper(w) {
				n++
			}
		}
		return a.compare(n, "capital_frequency", "capital_relation")
	},
	"change_case:english_capital":   func(s string, _ *arguments) bool { return isUpper(s) && inLanguage(s, "en") },
	"change_case:english_lowercase": func(s string, _ *arguments) bool { return isLower(s) && inLanguage(s, "en") },
	"punctuation:no_comma":          func(s string, _ *arguments) bool { return !strings.Contains(s, ",") },
}

var (
	wordLike    = regexp.MustCompile(`[\p{L}\p{N}_]+`)
	caseWord    = regexp.MustCompile(`[\p{L}\p{N}_]+(?:-[\p{L}\p{N}_]+)*`)
	placeholder = regexp.MustCompile(`\[.*?\]`)
	starBullet  = regexp.MustCompile(`(?m)^\s*\*[^*\n].*$`)
	dashBullet  = regexp.MustCompile(`(?m)^\s*-.*$`)
	titled      = regexp.MustCompile(`<<[^\n]+>>`)
	oneStar     = regexp.MustCompile(`\*[^\n*]*\*`)
	twoStars    = regexp.MustCompile(`\*\*[^\n*]*\*\*`)
	divider     = regexp.MustCompile(`\s?\*\*\*\s?`)
)

func lowered(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// isUpper is Python's str.isupper: there is a letter with case, and none is lower.
func isUpper(s string) bool {
	return s != strings.ToLower(s) && !strings.ContainsFunc(s, unicode.IsLower)
}

func isLower(s string) bool {
	return s != strings.ToUpper(s) && !strings.ContainsFunc(s, unicode.IsUpper)
}

// paragraphs counts what *** parts; ok is false where one in between is empty.
func paragraphs(s string) (n int, ok bool) {
	list := divider.Split(s, -1)
	n = len(list)
	for i, p := range list {
		if strings.TrimSpace(p) != "" {
			continue
		}
		if i != 0 && i != len(list)-1 {
			return 0, false
		}
		n--
	}
	return n, true
}

// nthFirstWord counts the paragraphs that empty lines part, and returns the first word of the nth.
func nthFirstWord(s string, nth int) (n int, word string) {
	list := strings.Split(s, "\n\n")
	for _, p := range list {
		if strings.TrimSpace(p) != "" {
			n++
		}
	}
	if nth < 1 || nth > n {
		return n, ""
	}
	words := strings.Fields(list[nth-1])
	if len(words) == 0 {
		return n, ""
	}
	word = strings.TrimLeft(strings.TrimLeft(words[0], "'"), `"`)
	if i := strings.IndexAny(word, `.,?!'"`); i >= 0 {
		word = word[:i]
	}
	return n, strings.ToLower(word)
}

func postscript(s, marker string) bool {
	pattern := `\s*` + regexp.QuoteMeta(strings.ToLower(marker)) + `.*$`
	switch marker {
	case "P.P.S":
		pattern = `\s*p\.\s?p\.\s?s.*$`
	case "P.S.":
		pattern = `\s*p\.\s?s\..*$`
	}
	return regexp.MustCompile(`(?m)` + pattern).MatchString(strings.ToLower(s))
}

func highlights(s string) int {
	n := 0
	for _, h := range oneStar.FindAllString(s, -1) {
		if strings.TrimSpace(strings.Trim(h, "*")) != "" {
			n++
		}
	}
	for _, h := range twoStars.FindAllString(s, -1) {
		if strings.TrimSpace(h[2:len(h)-2]) != "" {
			n++
		}
	}
	return n
}

func isJSON(s string) bool {
	s = strings.TrimSpace(s)
	for _, p := range []string{"```json", "```Json", "```JSON", "```"} {
		s = strings.TrimPrefix(s, p)
	}
	return json.Valid([]byte(strings.TrimSpace(strings.TrimSuffix(s, "```"))))
}

func twoResponses(s string) bool {
	list := strings.Split(s, "******")
	var full []string
	for i, r := range list {
		if r = strings.TrimSpace(r); r != "" {
			full = append(full, r)
		} else if i != 0 && i != len(list)-1 {
			return false
		}
	}
	return len(full) == 2 && full[0] != full[1]
}

// arguments are an instruction's kwargs. What is missing or of a wrong type is kept as an error.
type arguments struct {
	dict *jinja.Dict
	err  error
}

func (a *arguments) get(name string) jinja.Value {
	v, _ := a.dict.Get(name)
	if v == nil && a.err == nil {
		a.err = fmt.Errorf("kwargs: %s is missing", name)
	}
	return v
}

func (a *arguments) text(name string) string { return jinja.Str(a.get(name)) }

func (a *arguments) list(name string) []string {
	list, ok := a.get(name).(jinja.List)
	if !ok && a.err == nil {
		a.err = fmt.Errorf("kwargs: %s: want a list", name)
	}
	var out []string
	for _, x := range list {
		out = append(out, jinja.Str(x))
	}
	return out
}

func (a *arguments) whole(name string) int {
	switch x := a.get(name).(type) {
	case int64:
		return int(x)
	case float64:
		return int(x)
	}
	if a.err == nil {
		a.err = fmt.Errorf("kwargs: %s: want a number", name)
	}
	return 0
}

// compare is "less than" or "at least".
func (a *arguments) compare(n int, threshold, relation string) bool {
	limit := a.whole(threshold)
	switch r := a.text(relation); r {
	case "less than":
		return n < limit
	case "at least":
		return n >= limit
	default:
		if a.err == nil {
			a.err = fmt.Errorf("kwargs: %s: want less than or at least, got %q", relation, r)
		}
		return false
	}
}

// count is how often a pattern is in a text, without regard to case.
func (a *arguments) count(pattern, s string) int {
	re, err := pyre.Compile("(?i)" + pattern)
	if err == nil {
		var all [][]string
		if all, err = re.FindAll(s); err == nil {
			return len(all)
		}
	}
	if a.err == nil {
		a.err = err
	}
	return 0
}

// judgeInstructions reports which instructions of an item an answer follows: as it is (strict), or as it is without its
// first line, its last line, both, and its stars (loose).
func judgeInstructions(d Doc, answers []string) (map[string]Value, error) {
	ids, err := (&field{key: "instruction_id_list", source: "instruction_id_list"}).list(d)
	if err != nil {
		return nil, err
	}
	kwargs, _ := d.Get("kwargs")
	list, ok := kwargs.(jinja.List)
	if !ok || len(list) != len(ids) {
		return nil, fmt.Errorf("kwargs: want a list of %d, one for each instruction", len(ids))
	}
	strict, loose := 0, 0
	for i, id := range ids {
		check, ok := instructions[id]
		if !ok {
			return nil, fmt.Errorf("instruction_id_list: %q is not known; known are %s", id, strings.Join(slices.Sorted(maps.Keys(instructions)), ", "))
		}
		args, ok := list[i].(*jinja.Dict)
		if !ok {
			return nil, fmt.Errorf("kwargs: entry %d: want keys and values", i)
		}
		a := &arguments{dict: args}
		follows := func(s string) bool { return strings.TrimSpace(s) != "" && check(s, a) }
		if follows(answers[0]) {
			strict++
		}
		if slices.ContainsFunc(loosened(answers[0]), follows) {
			loose++
		}
		if a.err != nil {
			return nil, fmt.Errorf("%s: %w", id, a.err)
		}
	}
	n := len(ids)
	return map[string]Value{
		"prompt_level_strict_acc": {X: oneIf(strict == n)},
		"inst_level_strict_acc":   {X: float64(strict), Weight: float64(n)},
		"prompt_level_loose_acc":  {X: oneIf(loose == n)},
		"inst_level_loose_acc":    {X: float64(loose), Weight: float64(n)},
	}, nil
}

// loosened are an answer and what is left of it without its first line, its last, both, and each of these without stars.
func loosened(s string) []string {
	lines := strings.Split(s, "\n")
	join := func(l []string) string { return strings.TrimSpace(strings.Join(l, "\n")) }
	list := []string{s, join(lines[1:]), join(lines[:len(lines)-1])}
	if len(lines) > 1 {
		list = append(list, join(lines[1:len(lines)-1]))
	}
	for _, x := range slices.Clone(list) {
		list = append(list, strings.ReplaceAll(x, "*", ""))
	}
	return list
}
