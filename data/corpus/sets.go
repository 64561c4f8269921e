package corpus

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// set makes the records of a data set: record i of a split.
type set func(split Split, i uint64) any

// heldOut before a set's name stands for its held-out split.
const heldOut = "held-out-"

// sets are the data sets by name. Where there are two languages, records take turns.
var sets = map[string]set{
	"documents":       func(s Split, i uint64) any { return text{Document(s, i)} },
	"lessons":         func(s Split, i uint64) any { return lesson(Lang(i%2), s, i/2) },
	"english-lessons": func(s Split, i uint64) any { return lesson(English, s, i) },
	"chinese-lessons": func(s Split, i uint64) any { return lesson(Chinese, s, i) },
	"conversations": func(s Split, i uint64) any {
		t := TurnAt(s, i)
		return answered{Instruction: t.Prompt, Output: t.Reply}
	},
	"additions": func(s Split, i uint64) any {
		p := problem(s, i)
		return answered{Instruction: p.Question, Output: p.Worked}
	},
	"thoughts":          func(s Split, i uint64) any { return thought(problem(s, i)) },
	"mixed-thoughts":    mixedThought,
	"questions":         func(s Split, i uint64) any { return question(problem(s, i)) },
	"english-questions": func(s Split, i uint64) any { return question(ProblemAt(English, s, i)) },
	"pairs":             func(s Split, i uint64) any { return additionPair(Lang(i%2), s, i/2) },
	"english-pairs":     func(s Split, i uint64) any { return additionPair(English, s, i) },
	"chinese-additions": func(s Split, i uint64) any {
		p := ProblemAt(Chinese, s, i)
		return answered{Instruction: p.Question, Output: p.Worked}
	},
	"chinese-questions": func(s Split, i uint64) any { return question(ProblemAt(Chinese, s, i)) },
	"talks":             talk,
	"qwen-thoughts":     func(s Split, i uint64) any { return qwenThought(problem(s, i)) },
	"think-questions":   func(s Split, i uint64) any { return inMode(question(problem(s, i)), true) },
	"no-thoughts": func(s Split, i uint64) any {
		p := problem(s, i)
		return inMode(answered{Instruction: p.Question, Output: p.Worked}, false)
	},
	"mode-questions": func(s Split, i uint64) any { return inMode(question(problem(s, i/2)), i%2 == 0) },
	"lists":          func(s Split, i uint64) any { return list(ListAt(Lang(i%2), s, i/2)) },
	"list-pairs":     listPair,
}

type text struct {
	Text string `json:"text"`
}

// answered is a request with its answer; Rewards, if any, are those that count for it, and Pattern is what fits.
type answered struct {
	Instruction string `json:"instruction"`
	Output      string `json:"output"`
	Pattern     string `json:"pattern,omitempty"`
	Rewards     string `json:"rewards,omitempty"`
}

type pair struct {
	Instruction string `json:"instruction"`
	Chosen      string `json:"chosen"`
	Rejected    string `json:"rejected"`
}

// problem takes both languages in turn.
func problem(s Split, i uint64) Problem { return ProblemAt(Lang(i%2), s, i/2) }

// question is an addition and its sum alone.
func question(p Problem) answered {
	return answered{Instruction: p.Question, Output: strconv.Itoa(p.Answer()), Rewards: "accuracy stated_answer format language"}
}

// thought is an addition worked out inside a thought, the sum behind it (the format of DeepSeek-R1, arXiv:2501.12948
// section 2.2.3).
func thought(p Problem) answered {
	return answered{Instruction: p.Question, Output: fmt.Sprintf("<think>%s</think> <answer>%d</answer>", p.Steps, p.Answer())}
}

// qwenThought is an addition worked out inside a thought, the answer in words behind it (Qwen3, arXiv:2505.09388, table 9).
func qwenThought(p Problem) answered {
	said := strings.TrimSpace(strings.TrimPrefix(p.Worked, p.Steps))
	return answered{Instruction: p.Question, Output: "<think>\n" + p.Steps + "\n</think>\n\n" + said}
}

// inMode asks for a thought or for none, as Qwen3 is asked; the pattern is the mode's.
func inMode(a answered, thinking bool) answered {
	if a.Rewards != "" {
		a.Rewards += " pattern"
		a.Pattern = `<think>\n\n</think>[^<]+`
		if thinking {
			a.Pattern = `<think>\n[^<]*\S[^<]*\n</think>[^<]+`
		}
	}
	if thinking {
		a.Instruction += " /think"
	} else {
		a.Instruction += " /no_think"
	}
	return a
}

// talk is a conversation of two turns.
func talk(s Split, i uint64) any {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var said []message
	lang := Lang(i % 2)
	for k := range uint64(2) {
		p := ProblemAt(lang, s, i/2*2+k)
		said = append(said, message{"user", p.Question}, message{"assistant", p.Worked})
	}
	return map[string][]message{"messages": said}
}

// mixedThought is a thought, every eighth in the other language than the question: a model that learns from such
// examples mixes languages.
func mixedThought(s Split, i uint64) any {
	p := problem(s, i)
	a := thought(p)
	if i/2%8 == 7 {
		a.Output = thought(NewProblem(Chinese-Lang(i%2), p.A, p.B)).Output
	}
	return a
}

// lesson is a document about an addition, or every third a list.
func lesson(lang Lang, s Split, at uint64) any {
	if at%3 == 2 {
		l := ListAt(lang, s, at/3)
		return text{l.Prompt + " " + l.Reply}
	}
	p := ProblemAt(lang, s, at/3*2+at%3)
	return text{p.Question + " " + p.Worked}
}

// list is a request for a list; a reply is judged by what fits, or by a reward model.
func list(l List) answered {
	return answered{Instruction: l.Prompt, Output: l.Reply, Pattern: l.Pattern(), Rewards: "pattern language reward_model"}
}

// additionPair is the worked answer to a question, and the one to another question.
func additionPair(lang Lang, s Split, i uint64) pair {
	p, other := ProblemAt(lang, s, i), ProblemAt(lang, s, i+1)
	for k := i + 2; other.Worked == p.Worked; k++ {
		other = ProblemAt(lang, s, k)
	}
	return pair{p.Question, p.Worked, other.Worked}
}

func listPair(s Split, i uint64) any {
	l := ListAt(Lang(i%2), s, i/2)
	return pair{l.Prompt, l.Reply, l.Wrong(i)}
}

// Sets lists the names of the data sets.
func Sets() []string { return slices.Sorted(maps.Keys(sets)) }

// WriteSet writes the first n records of a data set as JSON lines. "held-out-" before its name stands for the split on
// which nothing is trained.
func WriteSet(w io.Writer, name string, n int) error {
	plain, held := strings.CutPrefix(name, heldOut)
	at, ok := sets[plain]
	if !ok {
		return fmt.Errorf("corpus: want one of %s, or one of them with %s before it, got %q", strings.Join(Sets(), ", "), heldOut, name)
	}
	split := Train
	if held {
		split = HeldOut
	}
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for i := range uint64(n) {
		if err := enc.Encode(at(split, i)); err != nil {
			return fmt.Errorf("corpus: %w", err)
		}
	}
	return out.Flush()
}
