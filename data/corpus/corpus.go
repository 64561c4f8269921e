// Package corpus makes an endless bilingual text for small models: short stories from a grammar and worked additions,
// in English and Chinese. It is deterministic, has a held-out split, and can check what a model writes.
package corpus

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Lang is a language of the corpus.
type Lang uint8

// The languages.
const (
	English Lang = iota
	Chinese
)

// Split is a part of the corpus.
type Split uint8

// The splits: a story's characters and things, or an addition's operands, decide to which one it belongs.
const (
	Train Split = iota
	HeldOut
)

// Story is a short story and who it is about.
type Story struct {
	Text         string
	Name, Animal string
}

func (l Lang) grammar() *grammar {
	if l == Chinese {
		return chinese
	}
	return english
}

// source is the random source of item i of one stream.
func source(stream string, i uint64) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(stream))
	return rand.New(rand.NewPCG(h.Sum64(), i))
}

// holds reports whether the hash of what makes an item unique falls into the split: one in sixteen is held out.
func (s Split) holds(keys ...string) bool {
	h := fnv.New64a()
	for _, k := range keys {
		h.Write([]byte(k))
		h.Write([]byte{0})
	}
	sum := h.Sum64()
	return (sum^sum>>32)%16 == 0 == (s == HeldOut)
}

// storySplit is decided by who the story is about.
func storySplit(s Split, b bindings) bool {
	return s.holds(b["name"], b["animal"], b["trait"])
}

// StoryAt returns story i of a split.
func StoryAt(lang Lang, split Split, i uint64) Story {
	g := lang.grammar()
	rng := source(fmt.Sprintf("story/%d/%d", lang, split), i)
	for {
		b := bindings{}
		text := g.generate(rng, g.start, b)
		if storySplit(split, b) {
			return Story{Text: text, Name: b["name"], Animal: b["animal"]}
		}
	}
}

// ParseStory checks that text is a story of the grammar; the error says where it stops being one.
func ParseStory(text string) (Story, Lang, error) {
	text = strings.TrimSpace(text)
	lang := English
	if strings.IndexFunc(text, func(r rune) bool { return unicode.Is(unicode.Han, r) }) >= 0 {
		lang = Chinese
	}
	g := lang.grammar()
	b, far, ok := g.parse(text, g.start)
	if !ok {
		return Story{}, lang, fmt.Errorf("corpus: not a story of the grammar after %q", tail(text[:far], 24))
	}
	return Story{Text: text, Name: b["name"], Animal: b["animal"]}, lang, nil
}

func tail(s string, n int) string {
	r := []rune(s)
	return string(r[max(0, len(r)-n):])
}

// Problem is an addition of two two-digit numbers.
type Problem struct {
	A, B     int
	Question string // in words
	Steps    string // digit by digit
	Worked   string // the steps and the answer
}

// Answer is the sum.
func (p Problem) Answer() int { return p.A + p.B }

// ProblemAt returns addition i of a split.
func ProblemAt(lang Lang, split Split, i uint64) Problem {
	rng := source(fmt.Sprintf("addition/%d/%d", lang, split), i)
	for {
		a, b := 10+rng.IntN(90), 10+rng.IntN(90)
		if split.holds(strconv.Itoa(a), strconv.Itoa(b)) {
			return NewProblem(lang, a, b)
		}
	}
}

// NewProblem words an addition and works it out: units first, then tens with the carry.
func NewProblem(lang Lang, a, b int) Problem {
	p := Problem{A: a, B: b}
	units := a%10 + b%10
	tens, carry := a/10+b/10, units/10
	step := fmt.Sprintf("%d + %d = %d", a%10, b%10, units)
	second := fmt.Sprintf("%d + %d = %d", a/10, b/10, tens)
	if carry > 0 {
		second = fmt.Sprintf("%d + %d + 1 = %d", a/10, b/10, tens+1)
	}
	if lang == Chinese {
		p.Question = fmt.Sprintf("%d + %d 等于多少？", a, b)
		p.Steps = fmt.Sprintf("个位：%s。十位：%s。", step, second)
		p.Worked = fmt.Sprintf("%s答案是 %d。", p.Steps, a+b)
	} else {
		p.Question = fmt.Sprintf("What is %d + %d?", a, b)
		p.Steps = fmt.Sprintf("Ones: %s. Tens: %s.", step, second)
		p.Worked = fmt.Sprintf("%s The answer is %d.", p.Steps, a+b)
	}
	return p
}

var answer = regexp.MustCompile(`(?:The answer is|答案是)\s*(\d+)`)

// ReadAnswer finds the stated sum in a worked answer.
func ReadAnswer(text string) (int, bool) {
	m := answer.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

// kind says what item i is, and which of its kind: of every ten items three stories and two additions in each language.
func kind(i uint64) (story bool, lang Lang, at uint64) {
	const stories, additions = 3, 2
	group, place := i/10, i%10
	lang, place = Lang(place%2), place/2
	if place < stories {
		return true, lang, stories*group + place
	}
	return false, lang, additions*group + place - stories
}

// Document returns document i of a split.
func Document(split Split, i uint64) string {
	story, lang, at := kind(i)
	if story {
		return StoryAt(lang, split, at).Text
	}
	p := ProblemAt(lang, split, at)
	if lang == Chinese {
		return p.Question + p.Worked
	}
	return p.Question + " " + p.Worked
}

// Turn is a request and its answer, for supervised fine-tuning.
type Turn struct{ Prompt, Reply string }

// requests is where the items of requests begin in their streams, far behind those of documents.
const requests = 1 << 32

// TurnAt returns request i of a split.
func TurnAt(split Split, i uint64) Turn {
	story, lang, at := kind(i)
	if story {
		return StoryRequest(lang, split, requests+at)
	}
	p := ProblemAt(lang, split, requests+at)
	return Turn{p.Question, p.Worked}
}

// StoryRequest asks for story i of a split.
func StoryRequest(lang Lang, split Split, i uint64) Turn {
	s := StoryAt(lang, split, i)
	if lang == Chinese {
		return Turn{fmt.Sprintf("讲一个关于%s%s的故事。", s.Animal, s.Name), s.Text}
	}
	return Turn{fmt.Sprintf("Tell me a story about a %s named %s.", s.Animal, s.Name), s.Text}
}
