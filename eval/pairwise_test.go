package eval

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"danlu/chat/jinja"
)

// reader prefers the answer that holds a word, else the first, else the longer one.
type reader struct {
	letters
	word   string
	longer bool
}

func (*reader) Template(m []*jinja.Dict, _ bool) (string, error) {
	v, _ := m[1].Get("content")
	return v.(string), nil
}

func (r *reader) Answer(_ context.Context, requests []Request, done func(int, Response) error) error {
	for i, q := range requests {
		a, rest, _ := strings.Cut(q.Context[strings.Index(q.Context, "Answer A:\n")+10:], "\n\nAnswer B:\n")
		b, _, _ := strings.Cut(rest, "\n\nWhich")
		letter := "A"
		switch {
		case r.longer && len(b) > len(a), r.word != "" && strings.Contains(b, r.word):
			letter = "B"
		case r.word == "unread":
			letter = "neither of them"
		}
		if err := done(i, Response{Text: letter + "."}); err != nil {
			return err
		}
	}
	return nil
}

func TestJudge(t *testing.T) {
	dir := write(t, map[string]string{
		"a.jsonl": `{"instruction": "one", "output": "plain"}` + "\n" + `{"instruction": "two", "output": "plain"}` + "\n" + `{"instruction": "only here", "output": "x"}` + "\n",
		"b.jsonl": `{"prompt": "two", "response": "a good one"}` + "\n" + `{"prompt": "one", "response": "good"}` + "\n",
	})
	pairs, err := ReadPairs(filepath.Join(dir, "a.jsonl"), filepath.Join(dir, "b.jsonl"))
	if err != nil || len(pairs) != 2 {
		t.Fatalf("got %v %v", pairs, err)
	}
	nothing := func(int, int) {}
	j, err := Judge(context.Background(), &reader{word: "good"}, pairs, "", nothing)
	if err != nil || j.WinRate != 1 || j.Swayed != 0 || j.Controlled < 0.9 {
		t.Errorf("the better answer: %+v %v", j, err)
	}
	if j, err = Judge(context.Background(), &reader{}, pairs, "", nothing); err != nil || j.WinRate != 0.5 || j.Swayed != 2 {
		t.Errorf("a judge who takes the first: %+v %v", j, err)
	}
	if _, err = Judge(context.Background(), &reader{word: "unread"}, pairs, "", nothing); err == nil || !strings.Contains(err.Error(), "names A, B or C") {
		t.Errorf("a judge who cannot be read: %v", err)
	}
}

// A judge who only looks at length prefers a model of longer answers, but not under length control.
func TestLengthControl(t *testing.T) {
	var pairs []Pair
	for i := range 60 {
		p := Pair{"q", strings.Repeat("a", 50+i), strings.Repeat("b", 80+(i*37)%60)}
		pairs = append(pairs, p)
	}
	j, err := Judge(context.Background(), &reader{longer: true}, pairs, "", func(int, int) {})
	if err != nil || j.WinRate < 0.7 || math.Abs(j.Controlled-0.5) > 0.12 {
		t.Errorf("win rate %v, controlled %v, %v", j.WinRate, j.Controlled, err)
	}
}
