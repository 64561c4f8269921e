package task

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Reply is what a reward function judges.
type Reply struct {
	Prompt string
	Text   string
	Gold   string // reference answer; "" where the data has none
	Tokens int    // of the reply
	Limit  int    // most tokens that a reply may have
	Cache  int    // of them, those over which the soft length punishment grows
	Extra  map[string]string
}

// Reward judges one reply. Rewards are deterministic and safe for concurrent use.
type Reward func(r Reply) (float64, error)

var rewards = map[string]Reward{
	"accuracy":      Accuracy,
	"stated_answer": StatedAnswer,
	"pattern":       Pattern,
	"format":        func(r Reply) (float64, error) { return one(Format(r.Text)), nil },
	"format_strict": func(r Reply) (float64, error) { return one(FormatStrict(r.Text)), nil },
	"tag_count":     func(r Reply) (float64, error) { return TagCount(r.Text), nil },
	"language":      func(r Reply) (float64, error) { return LanguageConsistency(r.Prompt, r.Text), nil },
	"overlong":      func(r Reply) (float64, error) { return Overlong(r.Tokens, r.Limit, r.Cache), nil },
	"repetition":    func(r Reply) (float64, error) { return Repetition(r.Text, 3), nil },
}

// Rewards lists the names of the rule rewards.
func Rewards() []string { return slices.Sorted(maps.Keys(rewards)) }

// RewardNamed finds a rule reward; TRL's names with _reward behind are understood too.
func RewardNamed(name string) (Reward, error) {
	if r, ok := rewards[strings.TrimSuffix(name, "_reward")]; ok {
		return r, nil
	}
	return nil, fmt.Errorf("task: reward %q: want one of %s", name, strings.Join(Rewards(), ", "))
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Accuracy is 1 when the reply's final answer equals the reference answer. A reference that is a worked solution counts
// by its own final answer.
func Accuracy(r Reply) (float64, error) {
	gold := r.Gold
	if final, ok := Extract(gold); ok {
		gold = final
	}
	if strings.TrimSpace(gold) == "" {
		return 0, fmt.Errorf("task: accuracy: the sample has no reference answer")
	}
	got, ok := Extract(r.Text)
	return one(ok && Equal(got, gold)), nil
}

var statement = regexp.MustCompile(`(?i:answer is):?\s*|答案[是为]?[：:]?\s*`)

// StatedAnswer is Accuracy for replies in plain words: what counts is behind the last "the answer is" (答案是), up to the
// end of the line or sentence.
func StatedAnswer(r Reply) (float64, error) {
	if strings.TrimSpace(r.Gold) == "" {
		return 0, fmt.Errorf("task: stated_answer: the sample has no reference answer")
	}
	all := statement.FindAllStringIndex(r.Text, -1)
	gold := r.Gold
	if at := statement.FindAllStringIndex(gold, -1); len(at) > 0 {
		gold = sentence(gold[at[len(at)-1][1]:])
	}
	if len(all) == 0 {
		return 0, nil
	}
	return one(Equal(sentence(r.Text[all[len(all)-1][1]:]), gold)), nil
}

var sentenceEnd = regexp.MustCompile(`[.!?]?\s*(\n|$)|[.!?]\s|[。！？]`)

// sentence is the text up to the end of its first sentence or line.
func sentence(text string) string {
	if at := sentenceEnd.FindStringIndex(text); at != nil {
		return text[:at[0]]
	}
	return text
}

// Pattern is 1 when the whole reply matches the sample's regular expression, its column pattern.
func Pattern(r Reply) (float64, error) {
	want := r.Extra["pattern"]
	if want == "" {
		return 0, fmt.Errorf("task: pattern: the sample has no pattern")
	}
	re, err := regexp.Compile(`^(?:` + want + `)$`)
	if err != nil {
		return 0, fmt.Errorf("task: pattern: %w", err)
	}
	return one(re.MatchString(strings.TrimSpace(r.Text))), nil
}

// Format reports whether a reply is one <think> block, white space and one <answer> block, and nothing else.
func Format(text string) bool {
	text = strings.TrimSpace(text)
	for _, tag := range []string{thinkOpen, thinkClose, answerOpen, answerClose} {
		if strings.Count(text, tag) != 1 {
			return false
		}
	}
	between := func(from, to string) string {
		i, j := strings.Index(text, from)+len(from), strings.Index(text, to)
		if i > j {
			return "wrong order"
		}
		return text[i:j]
	}
	return strings.HasPrefix(text, thinkOpen) && strings.HasSuffix(text, answerClose) && strings.TrimSpace(between(thinkClose, answerOpen)) == ""
}

// FormatStrict is Format without the freedom of white space: a newline behind each opening and before each closing tag,
// one between the blocks, none outside.
func FormatStrict(text string) bool {
	body, ok := strings.CutPrefix(text, thinkOpen+"\n")
	if !ok || !Format(text) {
		return false
	}
	_, answer, ok := strings.Cut(body, "\n"+thinkClose+"\n"+answerOpen+"\n")
	return ok && strings.HasSuffix(answer, "\n"+answerClose)
}

// TagCount gives a quarter for each tag that stands exactly once with its newlines.
func TagCount(text string) float64 {
	score := 0.0
	for _, tag := range []string{thinkOpen + "\n", "\n" + thinkClose + "\n", "\n" + answerOpen + "\n", "\n" + answerClose} {
		if strings.Count(text, tag) == 1 {
			score += 0.25
		}
	}
	return score
}

// Overlong is DAPO's soft length punishment (arXiv:2503.14476, equation 13): 0 up to limit-cache tokens, then linear
// to -1 at limit.
func Overlong(tokens, limit, cache int) float64 {
	switch soft := limit - cache; {
	case tokens <= soft:
		return 0
	case tokens <= limit:
		return float64(soft-tokens) / float64(cache)
	}
	return -1
}

// words counts the Han characters and the Latin words of a text, without tags and LaTeX commands.
func words(text string) (han, latin int) {
	var previous rune
	inWord, command := false, false
	for _, r := range text {
		letter := unicode.Is(unicode.Latin, r)
		switch {
		case unicode.Is(unicode.Han, r):
			han++
		case letter && !inWord:
			if command = previous == '\\' || previous == '<' || previous == '/'; !command {
				latin++
			}
		}
		inWord, previous = letter, r
	}
	return han, latin
}

// LanguageConsistency is the share of a reply's words that are in the question's language (DeepSeek-R1,
// arXiv:2501.12948, section 2.3.2): Chinese characters against Latin words. A reply without any of them is consistent.
func LanguageConsistency(prompt, text string) float64 {
	qh, ql := words(prompt)
	han, latin := words(text)
	if han+latin == 0 || qh+ql == 0 {
		return 1
	}
	if qh > ql {
		return float64(han) / float64(han+latin)
	}
	return float64(latin) / float64(han+latin)
}

// Repetition is minus the share of word n-grams that stand in a reply before.
func Repetition(text string, n int) float64 {
	fields := strings.Fields(text)
	if len(fields) < n {
		return 0
	}
	seen := map[string]bool{}
	for i := range len(fields) - n + 1 {
		seen[strings.Join(fields[i:i+n], " ")] = true
	}
	return float64(len(seen))/float64(len(fields)-n+1) - 1
}

// PassAtK is the chance that at least one of k replies drawn from n, of which c are right, is right: 1 - C(n-c, k)/C(n, k)
// (Chen et al., arXiv:2107.03374).
func PassAtK(n, c, k int) float64 {
	if n-c < k {
		return 1
	}
	miss := 1.0
	for i := n - c + 1; i <= n; i++ {
		miss *= 1 - float64(k)/float64(i)
	}
	return 1 - miss
}

// Best is the index of the highest reward, the first of equal ones; -1 when there is none that is a number.
func Best(rewards []float64) int {
	best := -1
	for i, r := range rewards {
		if !math.IsNaN(r) && (best < 0 || r > rewards[best]) {
			best = i
		}
	}
	return best
}

// AtLeast lists the indices of rewards at or above a threshold.
func AtLeast(rewards []float64, threshold float64) []int {
	var kept []int
	for i, r := range rewards {
		if r >= threshold {
			kept = append(kept, i)
		}
	}
	return kept
}

// Majority lists the answers of the largest class of equal ones, the class seen first among equally large ones
// (self-consistency, arXiv:2203.11171).
func Majority(answers []string) []int {
	var classes [][]int
next:
	for i, a := range answers {
		for c, class := range classes {
			if Equal(answers[class[0]], a) {
				classes[c] = append(class, i)
				continue next
			}
		}
		classes = append(classes, []int{i})
	}
	var best []int
	for _, class := range classes {
		if len(class) > len(best) {
			best = class
		}
	}
	return best
}
