package plan

import (
	"fmt"

	"danlu/internal/locale"
)

// change is a change of a request that needs less memory. apply reports whether it changes anything.
type change struct {
	text  string
	apply func(q *Request) bool
}

// changes are what could be changed, those that do not change what is learned first.
func (q *Request) changes() []change {
	list := []change{}
	add := func(text string, apply func(q *Request) bool) { list = append(list, change{text, apply}) }
	if q.Task != Inference {
		add("--checkpointing full", func(q *Request) bool { was := q.Checkpointing; q.Checkpointing = KeepInput; return was != KeepInput })
	}
	add("--batch 1", func(q *Request) bool { was := q.Batch; q.Batch = 1; return was != 1 })
	for c := q.Context / 2; c >= 512; c /= 2 {
		add(fmt.Sprintf("--context %d", c), func(q *Request) bool { q.Context = c; return true })
	}
	smaller := func(p Precision) {
		add("--precision "+string(p), func(q *Request) bool { was := q.Precision; q.Precision = p; return was != p })
	}
	task := func(t Task, p Precision) {
		add(fmt.Sprintf("--task %s --precision %s", t, p), func(q *Request) bool { q.Task, q.Precision = t, p; return true })
	}
	switch q.Task {
	case Inference:
		if q.Precision != INT4 {
			if q.Precision != INT8 && q.Precision != FP8 {
				smaller(INT8)
			}
			smaller(INT4)
		}
	case Full:
		if q.Host == nil {
			smaller(PureBF16)
		}
		task(LoRA, BF16)
		task(QLoRA, INT4)
	case LoRA:
		if q.Host == nil {
			task(QLoRA, INT8)
		}
		task(QLoRA, INT4)
	case QLoRA:
		smaller(INT4)
	}
	return list
}

// maxAdvice is how many changes are named.
const maxAdvice = 4

// advice names what makes the request fit: single changes, or else all together, and the number of cards.
func (q *Request) advice() ([]string, error) {
	var list []string
	all, together := *q, ""
	try := func(r Request) (bool, error) {
		if r.GPUs == 0 {
			r.GPUs = 1
		}
		_, _, fits, err := r.place(r.GPUs)
		return fits, err
	}
	context := false // the longest context that fits is enough
	for _, c := range q.changes() {
		one := *q
		if !c.apply(&one) || context && one.Context != q.Context {
			continue
		}
		fits, err := try(one)
		if err != nil {
			return nil, err
		}
		if fits {
			context = context || one.Context != q.Context
			list = append(list, fmt.Sprintf(locale.Text("%s fits", "%s 可以放下"), c.text))
			continue
		}
		if one.Context != q.Context { // contexts shrink one after the other: only the last would count
			continue
		}
		c.apply(&all)
		together += " " + c.text
		if fits, err = try(all); err != nil {
			return nil, err
		}
		if fits && len(list) == 0 {
			list = append(list, fmt.Sprintf(locale.Text("together%s fits", "同时使用%s 可以放下"), together))
			break
		}
	}
	if len(list) > maxAdvice {
		list = list[:maxAdvice]
	}
	if q.Host == nil {
		more := *q
		more.GPUs = 0
		l, _, fits, err := more.fewest()
		if err != nil {
			return nil, err
		}
		if fits {
			list = append(list, fmt.Sprintf(locale.Text("--gpus %d fits (%s)", "--gpus %d 可以放下（%s）"), l.GPUs(), l))
		}
	}
	if len(list) == 0 {
		list = append(list, locale.Text("use a smaller model or a card with more memory", "换用更小的模型或显存更大的显卡"))
	}
	return list, nil
}
