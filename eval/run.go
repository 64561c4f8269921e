package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"danlu/chat/jinja"
)

// Options of a run. The zero value asks every item of every task as its file says.
type Options struct {
	Limit     float64 // items of each task, or below 1 a share of them; 0: all
	Shots     *int    // in the place of num_fewshot
	Chat      bool    // put prompts into the model's chat template
	Multiturn bool    // few-shot examples are turns of their own
	System    string  // system message
	Seed      uint64  // of the choice of examples [1234]
	Rounds    int     // of the bootstrap [1000]; negative: no standard errors
	Cache     string  // file of answers that are not asked again; "": none
	// Generation, if set, changes how answers are generated.
	Generation func(*Generation)
	// Sandbox runs programs for tasks that judge code; nil: such tasks are refused.
	Sandbox Sandbox
	// Progress, if set, is told of a task's requests as they are answered.
	Progress func(task string, done, total int)
}

func (o *Options) defaults() {
	if o.Seed == 0 {
		o.Seed = 1234
	}
	if o.Rounds == 0 {
		o.Rounds = 1000
	}
}

// item is an item of a task with its requests.
type item struct {
	at       int // in the split
	doc      Doc
	requests []Request
	answers  []Response
}

// Run asks a model the tasks and reports how it did.
func Run(ctx context.Context, m Model, s *Selection, o Options) (*Report, error) {
	o.defaults()
	if o.Multiturn && !o.Chat {
		return nil, errors.New("eval: few-shot examples as turns need the chat template")
	}
	var kept *cache
	if o.Cache != "" {
		var err error
		if kept, err = openCache(o.Cache, m.Identity()); err != nil {
			return nil, err
		}
		defer kept.Close()
	}
	r := newReport(m, o)
	for _, t := range s.Tasks {
		if err := runTask(ctx, m, t, o, kept, r); err != nil {
			return nil, fmt.Errorf("eval: task %s: %w", t.Name, err)
		}
	}
	r.group(s.Groups)
	return r, nil
}

// Check makes the first item of every task, so that what is wrong with files is told before a model is loaded.
func (s *Selection) Check(o Options) error {
	o.defaults()
	o.Chat, o.Multiturn, o.Limit = false, false, 1
	for _, t := range s.Tasks {
		set, err := t.set(o)
		if err == nil {
			_, _, err = set.items(nil, o)
		}
		if err != nil {
			return fmt.Errorf("eval: task %s: %w", t.Name, err)
		}
	}
	return nil
}

// set is the task as a run's options have it.
func (t *Task) set(o Options) (*Task, error) {
	switch {
	case t.unsafe && o.Sandbox == nil:
		return nil, errors.New("unsafe_code: answers are programs, and there is nothing to run them in here")
	case t.has("pass_at_k") && o.Sandbox == nil:
		return nil, errors.New("pass_at_k: answers are programs, and there is nothing to run them in here")
	}
	set := *t
	if o.Shots != nil {
		set.Shots = *o.Shots
	}
	if o.Generation != nil {
		o.Generation(&set.Generation)
	}
	return &set, nil
}

// runTask asks one task and adds it to the report.
func runTask(ctx context.Context, m Model, t *Task, o Options, kept *cache, r *Report) error {
	set, err := t.set(o)
	if err != nil {
		return err
	}
	items, all, err := set.items(m, o)
	if err != nil {
		return err
	}
	began, before := time.Now(), m.Usage()
	fromCache, err := answer(ctx, m, items, kept, func(done, total int) {
		if o.Progress != nil {
			o.Progress(t.Name, done, total)
		}
	})
	if err != nil {
		return err
	}
	e := Efficiency{Seconds: time.Since(began).Seconds(), Usage: m.Usage().minus(before), Cached: fromCache}
	scored := make([]*scores, len(items))
	for i, x := range items {
		e.Requests += len(x.requests)
		if scored[i], err = set.score(ctx, x, o.Sandbox); err != nil {
			return fmt.Errorf("item %d: %w", x.at, err)
		}
		for _, a := range x.answers {
			if a.Cut {
				e.Cut++
			}
		}
	}
	r.add(set, items, scored, all, e, o)
	return nil
}

// items are the items to be asked, with their requests, and the number of items that there are.
func (t *Task) items(m Model, o Options) ([]*item, int, error) {
	split := t.Testing
	if split == "" {
		split = t.Validation
	}
	docs, err := t.docs(split)
	if err != nil {
		return nil, 0, err
	}
	if t.many, err = t.manyInputs(docs[0]); err != nil {
		return nil, 0, fmt.Errorf("item 0: %w", err)
	}
	all := len(docs)
	n := all
	switch {
	case o.Limit >= 1:
		n = min(n, int(o.Limit))
	case o.Limit > 0:
		n = min(n, int(math.Ceil(float64(n)*o.Limit)))
	}
	p := &prompter{task: t, random: newPythonRandom(o.Seed), system: o.System, multiturn: o.Multiturn}
	if o.Chat {
		p.template = m.Template
	}
	if t.Shots > 0 {
		if p.docs, err = t.exampleDocs(docs, split); err != nil {
			return nil, 0, err
		}
	}
	items := make([]*item, n)
	for i, d := range docs[:n] {
		items[i] = &item{at: i, doc: d}
		if items[i].requests, err = t.requests(p, d); err != nil {
			return nil, 0, fmt.Errorf("item %d: %w", i, err)
		}
		items[i].answers = make([]Response, len(items[i].requests))
	}
	return items, all, nil
}

// docs are the items of a split after process_docs.
func (t *Task) docs(split string) ([]Doc, error) {
	docs, err := t.Dataset.load(split)
	if err != nil || t.process == nil {
		return docs, err
	}
	var out []Doc
	for i, d := range docs {
		d, err := t.process(d)
		if err != nil {
			return nil, fmt.Errorf("process_docs: item %d: %w", i, err)
		}
		if d != nil {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("process_docs: split %s: no item is left", split)
	}
	return out, nil
}

// exampleDocs are the items that worked examples are drawn from.
func (t *Task) exampleDocs(asked []Doc, askedSplit string) ([]Doc, error) {
	split := t.fewshot.split
	switch {
	case split != "":
	case t.fewshot.samples != nil:
		return t.fewshot.samples, nil
	case t.Training != "":
		split = t.Training
	case t.Validation != "":
		split = t.Validation
	default:
		split = t.Testing
	}
	if split == askedSplit {
		return chosen(asked, t.fewshot.indices)
	}
	docs, err := t.docs(split)
	if err != nil {
		return nil, err
	}
	return chosen(docs, t.fewshot.indices)
}

func chosen(docs []Doc, indices []int) ([]Doc, error) {
	if indices == nil {
		return docs, nil
	}
	var out []Doc
	for _, i := range indices {
		if i < 0 || i >= len(docs) {
			return nil, fmt.Errorf("fewshot_config: fewshot_indices: want 0 to %d, got %d", len(docs)-1, i)
		}
		out = append(out, docs[i])
	}
	return out, nil
}

// requests are what an item asks of a model.
func (t *Task) requests(p *prompter, d Doc) ([]Request, error) {
	if t.Output == Rolling {
		s, err := t.target.text(d)
		if err == nil && s == "" {
			err = errors.New("doc_to_target: the text is empty")
		}
		return []Request{{Output: Rolling, Target: s}}, err
	}
	prompts, err := p.prompts(d)
	if err != nil {
		return nil, err
	}
	switch t.Output {
	case Likelihood:
		s, err := t.target.text(d)
		if err == nil && s == "" {
			err = errors.New("doc_to_target: the text is empty")
		}
		return []Request{{Output: Likelihood, Context: prompts[0], Target: s}}, err
	case MultipleChoice:
		return t.choiceRequests(p, d, prompts)
	}
	if prompts[0] == "" {
		return nil, errors.New("doc_to_text: the prompt is empty")
	}
	list := make([]Request, t.Repeats)
	for i := range list {
		list[i] = Request{Output: Generate, Context: prompts[0], Generation: t.Generation, Repeat: i}
	}
	return list, nil
}

// choiceRequests are one request for each choice, and one without the prompt where a metric compares with that.
func (t *Task) choiceRequests(p *prompter, d Doc, prompts []string) ([]Request, error) {
	choices, err := t.choices(d)
	if err != nil {
		return nil, err
	}
	if _, err := t.gold(d, choices); err != nil {
		return nil, err
	}
	delimiter := t.TargetDelimiter
	if p.template != nil && (t.prefix == nil || !apart(t.prefix.source, "x")) {
		delimiter = ""
	}
	var list []Request
	for i, c := range choices {
		q := Request{Output: Likelihood, Context: prompts[0], Target: delimiter + c}
		if t.many {
			v, err := t.target.target(d, true)
			if err != nil {
				return nil, err
			}
			q = Request{Output: Likelihood, Context: prompts[i], Target: delimiter + jinja.Str(v)}
		}
		list = append(list, q)
	}
	if t.has("acc_mutual_info") {
		for _, c := range choices {
			list = append(list, Request{Output: Likelihood, Target: delimiter + c})
		}
	}
	return list, nil
}

// has reports whether a metric is asked for.
func (t *Task) has(metric string) bool {
	for _, m := range t.Metrics {
		if m.Name == metric {
			return true
		}
	}
	return false
}

// answer has the items' requests answered, from the cache where it has them, and returns how many came from there. Equal
// requests are asked once.
func answer(ctx context.Context, m Model, items []*item, kept *cache, progress func(done, total int)) (fromCache int, err error) {
	var asked []Request
	var wanted [][]*Response // by request
	seen := map[string]int{}
	done, total := 0, 0
	for _, x := range items {
		total += len(x.requests)
		for i, q := range x.requests {
			key := q.key()
			if r, ok := kept.get(key); ok {
				x.answers[i] = r
				fromCache++
				continue
			}
			at, ok := seen[key]
			if !ok {
				at = len(asked)
				seen[key] = at
				asked, wanted = append(asked, q), append(wanted, nil)
			}
			wanted[at] = append(wanted[at], &x.answers[i])
		}
	}
	done = fromCache
	progress(done, total)
	if len(asked) == 0 {
		return fromCache, nil
	}
	return fromCache, m.Answer(ctx, asked, func(i int, r Response) error {
		if math.IsNaN(r.LogLikelihood) {
			return fmt.Errorf("the model's log-likelihood of %q is not a number", short(asked[i].Target))
		}
		for _, w := range wanted[i] {
			*w = r
		}
		done += len(wanted[i])
		progress(done, total)
		return kept.put(asked[i].key(), r)
	})
}
