package eval

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"danlu/internal/nearest"
)

// anls is the average normalised Levenshtein similarity of DocVQA for one question (Biten et al. 2019): the best of the
// right answers, and 0 where that is below one half.
func anls(_ *Metric, answer string, golds []string) (float64, error) {
	best := 0.0
	for _, g := range golds {
		a, b := folded(answer), folded(g)
		n := max(utf8.RuneCountInString(a), utf8.RuneCountInString(b))
		if n == 0 {
			return 1, nil
		}
		best = max(best, 1-float64(nearest.Distance(a, b))/float64(n))
	}
	if best < 0.5 {
		return 0, nil
	}
	return best, nil
}

func folded(s string) string { return strings.Join(strings.Fields(strings.ToLower(s)), " ") }

// vqaAccuracy is VQA's accuracy of an answer to a question that several people answered (Antol et al. 2015): the mean
// over all groups of all people but one of min(1, those who said the same / 3). Where there are fewer answers than two,
// it is 1 when the answer is there.
func vqaAccuracy(_ *Metric, answer string, golds []string) (float64, error) {
	a := vqaNormal(answer)
	same := 0
	for _, g := range golds {
		if vqaNormal(g) == a {
			same++
		}
	}
	n := len(golds)
	if n < 2 {
		return oneIf(same > 0), nil
	}
	score := func(k int) float64 { return min(1, float64(k)/3) }
	return (float64(same)*score(same-1) + float64(n-same)*score(same)) / float64(n), nil
}

var (
	vqaArticles = map[string]bool{"a": true, "an": true, "the": true}
	vqaNumbers  = map[string]string{"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
		"eight": "8", "nine": "9", "ten": "10"}
	vqaContractions = contractions(`aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'd've I'm I've
		isn't it'd it'll let's ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't she'd've should've shouldn't somebody'd
		somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd they'll they're they've
		'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's who've why'll why're why's
		won't would've wouldn't y'all you'd you'll you're you've`)
	vqaPeriod = regexp.MustCompile(`([^0-9])\.|\.([^0-9])|\.$`)
	vqaComma  = regexp.MustCompile(`([0-9]),([0-9])`)
)

// contractions maps words without their apostrophe to those with it.
func contractions(words string) map[string]string {
	m := map[string]string{}
	for _, w := range strings.Fields(words) {
		m[strings.ReplaceAll(strings.ToLower(w), "'", "")] = strings.ToLower(w)
	}
	return m
}

// vqaNormal is an answer as VQA compares it: lower case, without articles and punctuation, numbers as digits.
func vqaNormal(s string) string {
	s = strings.TrimSpace(strings.NewReplacer("\n", " ", "\t", " ").Replace(s))
	commas := vqaComma.MatchString(s)
	for _, r := range `;/[]"{}()=+\_-><@` + "`" + `,?!` {
		p := string(r)
		if strings.Contains(s, p+" ") || strings.Contains(s, " "+p) || commas {
			s = strings.ReplaceAll(s, p, "")
		} else {
			s = strings.ReplaceAll(s, p, " ")
		}
	}
	s = vqaPeriod.ReplaceAllString(s, "$1$2")
	var words []string
	for _, w := range strings.Fields(strings.ToLower(s)) {
		if n, ok := vqaNumbers[w]; ok {
			w = n
		}
		if vqaArticles[w] {
			continue
		}
		if c, ok := vqaContractions[w]; ok {
			w = c
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// tokenF1 is SQuAD's F1 of the words of the answer and the best right one (Rajpurkar et al. 2016).
func tokenF1(_ *Metric, answer string, golds []string) (float64, error) {
	best := 0.0
	for _, g := range golds {
		best = max(best, wordF1(squadWords(answer), squadWords(g)))
	}
	return best, nil
}

func wordF1(a, b []string) float64 {
	if len(a) == 0 || len(b) == 0 {
		return oneIf(len(a) == len(b))
	}
	count := map[string]int{}
	for _, w := range b {
		count[w]++
	}
	same := 0
	for _, w := range a {
		if count[w] > 0 {
			count[w]--
			same++
		}
	}
	return 2 * float64(same) / float64(len(a)+len(b))
}

func squadWords(s string) []string {
	var words []string
	for _, w := range strings.Fields(without(strings.ToLower(s), asciiPunctuation)) {
		if !vqaArticles[w] {
			words = append(words, w)
		}
	}
	return words
}
