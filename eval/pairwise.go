package eval

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"danlu/chat"
	"danlu/chat/jinja"
)

// Pair is a question with the answers of two models.
type Pair struct{ Question, A, B string }

// Verdict is what a judge thinks of a pair.
type Verdict struct {
	Question  string   `json:"instruction"`
	B         float64  `json:"b_preferred"` // share of the two orders in which B is preferred; a tie counts half
	Judged    int      `json:"orders"`      // of the two, those in which the judge's answer could be read
	LengthA   int      `json:"length_a"`    // in characters
	LengthB   int      `json:"length_b"`
	Responses []string `json:"judge"`
}

// Judgement is what a judge thinks of two models.
type Judgement struct {
	Pairs      int       `json:"pairs"`
	Unread     int       `json:"unreadable"` // pairs of which no order could be read
	WinRate    float64   `json:"win_rate"`   // of B
	Stderr     float64   `json:"win_rate_stderr"`
	Controlled float64   `json:"length_controlled_win_rate"`
	LengthA    float64   `json:"mean_length_a"`
	LengthB    float64   `json:"mean_length_b"`
	Swayed     int       `json:"swayed_by_order"` // pairs in which the verdict changed with the order
	Verdicts   []Verdict `json:"-"`
}

// readColumns are the columns in which answers' files have a question and an answer.
var readColumns = [2][]string{{"instruction", "prompt", "question"}, {"output", "response", "answer"}}

// ReadPairs reads two models' answers to the same questions: files of records with instruction and output.
func ReadPairs(a, b string) ([]Pair, error) {
	x, err := readAnswers(a)
	if err != nil {
		return nil, err
	}
	y, err := readAnswers(b)
	if err != nil {
		return nil, err
	}
	at := map[string]string{}
	for _, p := range y {
		at[p[0]] = p[1]
	}
	var pairs []Pair
	for _, p := range x {
		if other, ok := at[p[0]]; ok {
			pairs = append(pairs, Pair{p[0], p[1], other})
		}
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("eval: %s and %s answer no question in common", a, b)
	}
	return pairs, nil
}

func readAnswers(file string) ([][2]string, error) {
	docs, err := readDocs([]string{file})
	if err != nil {
		return nil, fmt.Errorf("eval: %w", err)
	}
	var out [][2]string
	for i, d := range docs {
		var row [2]string
		for k, names := range readColumns {
			found := false
			for _, n := range names {
				if v, ok := d.Get(n); ok && !found {
					row[k], found = jinja.Str(v), true
				}
			}
			if !found {
				return nil, fmt.Errorf("eval: %s: record %d: want a column %s, got %s", file, i+1, strings.Join(names, " or "), strings.Join(columns(d), ", "))
			}
		}
		out = append(out, row)
	}
	return out, nil
}

const (
	judgeSystem = "You compare two answers to a question. Judge which one a careful reader would prefer: whether it is right, does what was asked, and is clear. Length is no merit."
	judgeForm   = "Question:\n%s\n\nAnswer A:\n%s\n\nAnswer B:\n%s\n\nWhich answer is better? Reply with one letter: A, B, or C if neither is."
)

// Judge has a model compare answers, each pair in both orders.
func Judge(ctx context.Context, m Model, pairs []Pair, cacheFile string, progress func(done, total int)) (*Judgement, error) {
	var kept *cache
	if cacheFile != "" {
		var err error
		if kept, err = openCache(cacheFile, m.Identity()); err != nil {
			return nil, err
		}
		defer kept.Close()
	}
	items := make([]*item, len(pairs))
	for i, p := range pairs {
		items[i] = &item{at: i, answers: make([]Response, 2)}
		for _, order := range [][2]string{{p.A, p.B}, {p.B, p.A}} {
			prompt, err := m.Template([]*jinja.Dict{chat.NewMessage("system", judgeSystem), chat.NewMessage("user", fmt.Sprintf(judgeForm, p.Question, order[0], order[1]))}, true)
			if err != nil {
				return nil, fmt.Errorf("eval: judge: %w", err)
			}
			items[i].requests = append(items[i].requests, Request{Output: Generate, Context: prompt, Generation: Generation{MaxTokens: 16, Until: []string{}}})
		}
	}
	if _, err := answer(ctx, m, items, kept, progress); err != nil {
		return nil, fmt.Errorf("eval: judge: %w", err)
	}
	var verdicts []Verdict
	for i, p := range pairs {
		verdicts = append(verdicts, verdict(p, items[i].answers))
	}
	return summed(verdicts)
}

var verdictLetter = regexp.MustCompile(`\b([ABC])\b`)

// verdict reads the judge's letters; in the second order A is B.
func verdict(p Pair, answers []Response) Verdict {
	v := Verdict{Question: p.Question, LengthA: utf8.RuneCountInString(p.A), LengthB: utf8.RuneCountInString(p.B)}
	for order, a := range answers {
		v.Responses = append(v.Responses, a.Text)
		m := verdictLetter.FindStringSubmatch(a.Text)
		if m == nil {
			continue
		}
		score := map[string]float64{"A": 0, "B": 1, "C": 0.5}[m[1]]
		if order == 1 {
			score = 1 - score
		}
		v.B, v.Judged = v.B+score, v.Judged+1
	}
	if v.Judged > 0 {
		v.B /= float64(v.Judged)
	}
	return v
}

func summed(verdicts []Verdict) (*Judgement, error) {
	j := &Judgement{Pairs: len(verdicts), Verdicts: verdicts}
	var read []Verdict
	var wins []Value
	for _, v := range verdicts {
		j.LengthA += float64(v.LengthA) / float64(len(verdicts))
		j.LengthB += float64(v.LengthB) / float64(len(verdicts))
		if v.Judged == 0 {
			j.Unread++
			continue
		}
		if v.Judged == 2 && v.B == 0.5 && !strings.Contains(strings.Join(v.Responses, ""), "C") {
			j.Swayed++
		}
		read, wins = append(read, v), append(wins, Value{X: v.B})
	}
	if len(read) == 0 {
		return nil, fmt.Errorf("eval: judge: none of its %d replies names A, B or C; the first is %q", 2*len(verdicts), short(verdicts[0].Responses[0]))
	}
	j.WinRate = mean(wins)
	if j.Stderr = stderr("mean", wins, 1); math.IsNaN(j.Stderr) {
		j.Stderr = 0
	}
	j.Controlled = lengthControlled(read)
	return j, nil
}

// lengthControlled is the share of wins that B would have with answers of A's length: a logistic model of the wins by a
// constant and tanh of the difference of lengths over its spread, of which the constant alone is kept (Dubois et al.
// 2024, arXiv:2404.04475, section 3, without the term of the question's difficulty, which takes many models to fit).
func lengthControlled(verdicts []Verdict) float64 {
	n := float64(len(verdicts))
	mu, spread := 0.0, 0.0
	for _, v := range verdicts {
		mu += float64(v.LengthB-v.LengthA) / n
	}
	for _, v := range verdicts {
		d := float64(v.LengthB-v.LengthA) - mu
		spread += d * d / n
	}
	spread = math.Sqrt(spread)
	if spread == 0 {
		spread = 1
	}
	const ridge = 1e-2 // keeps the model finite where one side always wins
	a, b := 0.0, 0.0
	for range 50 { // Newton's method
		ga, gb, haa, hab, hbb := -ridge*a, -ridge*b, ridge, 0.0, ridge
		for _, v := range verdicts {
			x := math.Tanh(float64(v.LengthB-v.LengthA) / spread)
			p := 1 / (1 + math.Exp(-a-b*x))
			w := p * (1 - p)
			ga, gb = ga+v.B-p, gb+(v.B-p)*x
			haa, hab, hbb = haa+w, hab+w*x, hbb+w*x*x
		}
		det := haa*hbb - hab*hab
		if det < 1e-12 {
			break
		}
		da, db := (hbb*ga-hab*gb)/det, (haa*gb-hab*ga)/det
		a, b = a+da, b+db
		if math.Abs(da)+math.Abs(db) < 1e-10 {
			break
		}
	}
	return 1 / (1 + math.Exp(-a))
}
