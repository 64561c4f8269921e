package eval

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"danlu/task"
)

// passes runs the programs that answers make with the item's tests (doc_to_target), and adds the unbiased estimate of
// pass@k (Chen et al. 2021, section 2.1) for each k.
func (t *Task) passes(ctx context.Context, m *Metric, d Doc, answers []string, box Sandbox, values map[string]Value) error {
	tests, err := t.target.text(d)
	if err != nil {
		return err
	}
	right := 0
	for _, a := range answers {
		ok, err := box.Run(ctx, a+"\n"+tests)
		if err != nil {
			return fmt.Errorf("pass_at_k: %w", err)
		}
		if ok {
			right++
		}
	}
	ks := m.k
	if ks == nil {
		ks = []int{1}
	}
	for _, k := range ks {
		if k < 1 || k > len(answers) {
			return fmt.Errorf("pass_at_k: k: want 1 to %d answers (repeats), got %d", len(answers), k)
		}
		values[fmt.Sprintf("pass@%d", k)] = Value{X: task.PassAtK(len(answers), right, k)}
	}
	return nil
}

var fence = regexp.MustCompile("(?s)```(?:[a-zA-Z]*\n)?(.*?)(?:```|$)")

// fencedCode is the first block of code of an answer, the whole answer where it has none.
func fencedCode(s string) string {
	if m := fence.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return s
}

// humanEvalProgram is the filter of HumanEval: the item's prompt goes before each answer.
func humanEvalProgram(d Doc, answers []string) ([]string, error) {
	prompt, _ := d.Get("prompt")
	head, ok := prompt.(string)
	if !ok {
		return nil, fmt.Errorf("there is no column prompt; there are %s", strings.Join(columns(d), ", "))
	}
	out := make([]string, len(answers))
	for i, a := range answers {
		out[i] = head + a
	}
	return out, nil
}
