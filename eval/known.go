package eval

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"danlu/chat/jinja"
)

// known is what stands in for the Python functions of a published task, whose file names them by !function.
type known struct {
	task      string // beginning of the tasks' names
	processes map[string]func(Doc) (Doc, error)
	fields    map[string]func(Doc) (jinja.Value, error)
	judges    map[string]judge
	counted   map[string]string // function to the column whose words and bytes are counted
	metrics   map[string]string // function to metric
	filters   map[string]string // function to filter
	combines  map[string]string // function to aggregation
}

var knownTasks = []known{
	{task: "hellaswag", processes: map[string]func(Doc) (Doc, error){"utils.process_docs": hellaswag}},
	{task: "winogrande", fields: map[string]func(Doc) (jinja.Value, error){
		"preprocess_winogrande.doc_to_text":   winograndeRight,
		"preprocess_winogrande.doc_to_target": winograndeEnd,
		"preprocess_winogrande.doc_to_choice": winograndeBeginnings,
	}},
	{task: "wikitext", fields: map[string]func(Doc) (jinja.Value, error){"preprocess_wikitext.wikitext_detokenizer": wikitextPage},
		counted: map[string]string{"preprocess_wikitext.process_results": "page"}},
	{task: "hendrycks_math", processes: map[string]func(Doc) (Doc, error){"utils.process_docs": mathItem}, judges: map[string]judge{"utils.process_results": judgeMath}},
	{task: "humaneval", metrics: map[string]string{"utils.pass_at_k": "pass_at_k"},
		filters: map[string]string{"utils.build_predictions": "humaneval", "utils.build_predictions_instruct": "humaneval_instruct"}},
	{task: "ifeval", judges: map[string]judge{"utils.process_results": judgeInstructions}, combines: map[string]string{"utils.agg_inst_level_acc": "weighted_mean"}},
	// Names that files of danlu's own give without !function.
	{judges: map[string]judge{"instructions": judgeInstructions, "math": judgeMath}},
}

// lookUp finds a function of a task in one of the tables.
func lookUp[F any](task, name string, table func(known) map[string]F) (f F, ok bool) {
	for _, k := range knownTasks {
		if strings.HasPrefix(task, k.task) {
			if f, ok = table(k)[name]; ok {
				return f, true
			}
		}
	}
	return f, false
}

func hellaswag(d Doc) (Doc, error) {
	var text [3]string
	for i, c := range []string{"activity_label", "ctx_a", "ctx_b"} {
		s, err := column(d, c)
		if err != nil {
			return nil, err
		}
		text[i] = s
	}
	endings, err := (&field{key: "endings", source: "endings"}).list(d)
	if err != nil {
		return nil, err
	}
	label, _ := d.Get("label")
	gold, err := jinja.Literal(jinja.Str(label))
	if err != nil {
		return nil, fmt.Errorf("label: want a number, got %s", jinja.Repr(label))
	}
	choices := make(jinja.List, len(endings))
	for i, e := range endings {
		choices[i] = hellaswagText(e)
	}
	out := d.Clone()
	out.SetString("query", hellaswagText(text[0]+": "+text[1]+" "+capitalized(text[2])))
	out.SetString("choices", choices)
	out.SetString("gold", gold)
	return out, nil
}

var brackets = regexp.MustCompile(`\[.*?\]`)

// hellaswagText takes out what WikiHow's pages left in brackets.
func hellaswagText(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), " [title]", ". ")
	return strings.ReplaceAll(brackets.ReplaceAllString(s, ""), "  ", " ")
}

// capitalized is Python's str.capitalize.
func capitalized(s string) string {
	r := []rune(strings.ToLower(s))
	if len(r) > 0 {
		r[0] = unicode.ToTitle(r[0])
	}
	return string(r)
}

// column is a column's text.
func column(d Doc, name string) (string, error) {
	v, ok := d.Get(name)
	if !ok {
		return "", fmt.Errorf("there is no column %s; there are %s", name, strings.Join(columns(d), ", "))
	}
	return jinja.Str(v), nil
}

func winograndeRight(d Doc) (jinja.Value, error) {
	answer, err := column(d, "answer")
	if err != nil || answer != "1" && answer != "2" {
		return nil, fmt.Errorf("answer: want 1 or 2, got %q", answer)
	}
	return int64(answer[0] - '1'), nil
}

func winograndeEnd(d Doc) (jinja.Value, error) {
	_, after, err := winogrande(d)
	return strings.TrimSpace(after), err
}

func winograndeBeginnings(d Doc) (jinja.Value, error) {
	before, _, err := winogrande(d)
	if err != nil {
		return nil, err
	}
	var list jinja.List
	for _, c := range []string{"option1", "option2"} {
		o, err := column(d, c)
		if err != nil {
			return nil, err
		}
		list = append(list, before+o)
	}
	return list, nil
}

func winogrande(d Doc) (before, after string, err error) {
	s, err := column(d, "sentence")
	if err != nil {
		return "", "", err
	}
	before, after, ok := strings.Cut(s, "_")
	if !ok {
		return "", "", fmt.Errorf("sentence: has no _")
	}
	return before, after, nil
}

var (
	wikitextWords = strings.NewReplacer(" @-@ ", "-", " @,@ ", ",", " @.@ ", ".")
	wikitextPairs = []struct {
		re *regexp.Regexp
		by string
	}{{regexp.MustCompile(`\(\s*([^\)]*?)\s*\)`), "($1)"}, {regexp.MustCompile(`\[\s*([^\]]*?)\s*\]`), "[$1]"}, {regexp.MustCompile(`{\s*([^}]*?)\s*}`), "{$1}"},
		{regexp.MustCompile(`"\s*([^"]*?)\s*"`), `"$1"`}, {regexp.MustCompile(`'\s*([^']*?)\s*'`), "'$1'"}}
)

// wikitextPage undoes the spaces that WikiText put between tokens.
func wikitextPage(d Doc) (jinja.Value, error) {
	s, err := column(d, "page")
	if err != nil {
		return nil, err
	}
	s = wikitextWords.Replace(strings.ReplaceAll(s, "s '", "s'"))
	for _, p := range []string{":", ";", ".", "!", "?", ","} {
		s = strings.ReplaceAll(s, " "+p+" ", p+" ")
	}
	for _, p := range wikitextPairs {
		s = p.re.ReplaceAllString(s, p.by)
	}
	for _, p := range [][2]string{{"= = = =", "===="}, {"= = =", "==="}, {"= =", "=="}, {" ° ", "°"}, {" \n", "\n"}, {"\n ", "\n"}, {" N ", " 1 "}, {" 's", "'s"}} {
		s = strings.ReplaceAll(s, p[0], p[1])
	}
	return s, nil
}
