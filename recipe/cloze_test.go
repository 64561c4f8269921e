package recipe

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"danlu/data"
)

// opinions are records whose label follows from their text.
func opinions(n, seed int) (rows []any) {
	for i := range n {
		k := (i*7 + seed*3) % 40
		text, label := fmt.Sprintf("The cat number %d was happy and sat on the mat", k), "positive"
		if (i+seed)%2 == 0 {
			text, label = fmt.Sprintf("The cat number %d was angry and left", k), "negative"
		}
		rows = append(rows, map[string]any{"instruction": text, "output": label, "place": "here"})
	}
	return rows
}

const clozeKeys = `
stage: cloze
finetuning_type: full
report_to: none
logging_steps: 1
save_steps: 100
cutoff_len: 64
cloze_pattern: "{place}: {prompt}. It was [MASK]."
cloze_verbalizer: {positive: good, negative: quite bad}
per_device_train_batch_size: 4
`

func TestCloze(t *testing.T) {
	base, _ := pretrainedGLM(t, "glm", "max_steps=4")
	out := t.TempDir()
	rows := append(opinions(24, 1), map[string]any{"instruction": "The cat slept", "output": "no label", "place": "here"}, map[string]any{"instruction": "The cat", "output": "positive"})
	said, err := attempt(t, clozeKeys, "model_name_or_path="+base, "dataset="+writeRows(t, rows...), "eval_dataset="+writeRows(t, opinions(12, 2)...), "eval_strategy=steps", "eval_steps=40",
		"max_steps=40", "learning_rate=5e-3", "output_dir="+out)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if !strings.Contains(said, "2 dropped") || !strings.Contains(said, "no label") || !strings.Contains(said, "no column place") {
		t.Errorf("records without a known label or a column went unnoticed:\n%s", said)
	}
	lines := readLines(t, out+"/metrics.jsonl")
	if first := lines[0]["loss"].(float64); !(first > 0.1) {
		t.Errorf("the first loss is %v", first)
	}
	if a := last(lines, "eval_accuracy"); !(a > 0.9) || !(last(lines, "eval_loss") < 0.3) {
		t.Errorf("of held-out records %v are right, at a loss of %v", a, last(lines, "eval_loss"))
	}
}

// The rows of a record are its text with each word in the blank; long records lose their ends, never the pattern's.
func TestClozeRows(t *testing.T) {
	e := &data.ClozeEncoder{Tokenizer: wordTokens{}, Tokens: data.GLMTokens{Mask: 1, GMask: -1, SMask: -1, SOP: 2, EOP: 3}, Start: []int32{9}, Pattern: "{prompt} is [MASK] {note}",
		Labels: []string{"n", "y"}, Words: []string{"very bad", "good"}, CutoffLen: 14}
	ex := &data.Example{Prompt: []data.Turn{{Role: data.User, Content: "a b c d e f g"}}, Answers: []data.Turn{{Content: "y"}}, Extra: []data.Field{{Name: "note", Text: "z"}}}
	s, err := e.Encode(ex)
	if err != nil {
		t.Fatal(err)
	}
	label, err := s.ClozeLabel()
	if err != nil || label != 1 || len(s.Sequences) != 2 || !s.Truncated {
		t.Fatalf("label %d, %v, %d sequences, truncated %v", label, err, len(s.Sequences), s.Truncated)
	}
	for k, words := range []int{2, 1} {
		q := s.Sequences[k]
		// start, the record, is, the blank, z, sop, the words, eop
		if want := 1 + 6 + 3 + 1 + words + 1; len(q.IDs) != want || q.Scored() != words+1 {
			t.Errorf("sequence %d: want %d tokens of which %d count, got %v with %v", k, want, words+1, q.IDs, q.Labels)
		}
	}
	e.CutoffLen = 6
	if _, err := e.Encode(ex); err == nil {
		t.Error("a pattern that does not fit passed")
	}
}

// wordTokens is a vocabulary of words: [MASK] is 1, others are spelled by their first letter.
type wordTokens struct{}

func (wordTokens) Encode(text string) (ids []int32) {
	for _, w := range strings.Fields(text) {
		if id := int32(1); w != "[MASK]" {
			id = int32(w[0])
			ids = append(ids, id)
			continue
		}
		ids = append(ids, 1)
	}
	return ids
}

// With words that are equally likely the loss is that of guessing.
func TestClozeGuesses(t *testing.T) {
	base, _ := pretrainedGLM(t, "chatglm-6b", "max_steps=2")
	dir, lines := runRecipe(t, context.Background(), "stage=cloze", "model_name_or_path="+base, "cloze_pattern='{prompt} It was [MASK].'",
		"cloze_verbalizer={positive: same, negative: same}", "dataset="+writeRows(t, opinions(8, 1)...), "cutoff_len=64", "max_steps=1", "output_dir="+t.TempDir())
	if loss := lines[0]["loss"].(float64); !(math.Abs(loss-math.Ln2) < 1e-5) {
		t.Errorf("%s: want a loss of log 2, got %v", dir, loss)
	}
}
