package corpus

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
)

// List is a request for a list of things in a given form, with a reply that does as asked.
type List struct {
	Prompt, Reply string

	lang Lang
	kind kindOfThing
	n    int
	form form
}

// kindOfThing is a word list of the grammars and what its entries are called.
type kindOfThing struct{ words, english, chinese string }

var kinds = []kindOfThing{
	{"animal", "animals", "动物"}, {"color", "colors", "颜色"}, {"thing", "things", "东西"},
	{"food", "foods", "食物"}, {"place", "places", "地方"}, {"name", "names", "名字"},
}

// form is how the entries of a list are set.
type form struct {
	english, chinese string
	numbered         bool
	between          [2]string // by language
}

var forms = []form{
	{"separated by commas", "用逗号分开", false, [2]string{", ", "，"}},
	{"one on each line", "每行一个", false, [2]string{"\n", "\n"}},
	{"as a numbered list", "加上序号", true, [2]string{"\n", "\n"}},
}

// counts are how many entries are asked for, in words.
var counts = map[int][2]string{2: {"two", "两种"}, 3: {"three", "三种"}, 4: {"four", "四种"}}

// ListAt returns list i of a split: what is asked for, how many and in which form decide to which one it belongs.
func ListAt(lang Lang, split Split, i uint64) List {
	rng := source(fmt.Sprintf("list/%d/%d", lang, split), i)
	for {
		l := List{lang: lang, kind: kinds[rng.IntN(len(kinds))], n: 2 + rng.IntN(3), form: forms[rng.IntN(len(forms))]}
		if !split.holds(l.kind.words, strconv.Itoa(l.n), l.form.english) {
			continue
		}
		l.Prompt = fmt.Sprintf("Name %s %s, %s.", counts[l.n][0], l.kind.english, l.form.english)
		if lang == Chinese {
			l.Prompt = fmt.Sprintf("说出%s%s，%s。", counts[l.n][1], l.kind.chinese, l.form.chinese)
		}
		l.Reply = l.reply(rng)
		return l
	}
}

// entries are the words that a list may have.
func (l List) entries() []string {
	var list []string
	for _, w := range l.lang.grammar().words[l.kind.words] {
		list = append(list, strings.TrimSuffix(w, "的"))
	}
	return list
}

// reply draws entries and sets them.
func (l List) reply(rng *rand.Rand) string {
	words := l.entries()
	lines := make([]string, l.n)
	for i, k := range rng.Perm(len(words))[:l.n] {
		lines[i] = words[k]
		if l.form.numbered {
			lines[i] = fmt.Sprintf("%d. %s", i+1, words[k])
		}
	}
	return strings.Join(lines, l.form.between[l.lang])
}

// Pattern matches the replies that do as asked, except that an entry may stand twice.
func (l List) Pattern() string {
	var words, lines []string
	for _, w := range l.entries() {
		words = append(words, regexp.QuoteMeta(w))
	}
	one := "(?:" + strings.Join(words, "|") + ")"
	for i := range l.n {
		if l.form.numbered {
			lines = append(lines, fmt.Sprintf(`%d\. %s`, i+1, one))
		} else {
			lines = append(lines, one)
		}
	}
	return strings.Join(lines, regexp.QuoteMeta(l.form.between[l.lang]))
}

// Wrong is a reply to something else: another number of entries, another form, another kind of thing, or the other
// language.
func (l List) Wrong(i uint64) string {
	rng := source("wrong", i)
	switch other := l; rng.IntN(4) {
	case 0:
		for other.n == l.n {
			other.n = 2 + rng.IntN(3)
		}
		return other.reply(rng)
	case 1:
		for other.form == l.form {
			other.form = forms[rng.IntN(len(forms))]
		}
		return other.reply(rng)
	case 2:
		for other.kind == l.kind {
			other.kind = kinds[rng.IntN(len(kinds))]
		}
		return other.reply(rng)
	default:
		other.lang = Chinese - l.lang
		return other.reply(rng)
	}
}
