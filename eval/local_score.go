package eval

import (
	"context"
	"runtime"
	"slices"
	"sort"
	"sync"

	"danlu/generate"
	"danlu/kernel"
)

// siblings are texts that share a prompt.
type siblings struct {
	prompt []int32
	texts  []scored
}

// gather puts texts together by prompt, prompts that begin alike beside each other. Apart are texts of several tokens if
// so wished; those of one token are all told by the row behind the prompt.
func gather(all []scored, apart bool) []*siblings {
	var list []*siblings
	at := map[string]*siblings{}
	for _, p := range all {
		key := idsKey(p.prompt)
		f := at[key]
		if alone := apart && len(p.target) > 1; f == nil || alone {
			f = &siblings{prompt: p.prompt}
			if list = append(list, f); !alone {
				at[key] = f
			}
		}
		f.texts = append(f.texts, p)
	}
	sort.SliceStable(list, func(i, j int) bool { return slices.Compare(list[i].prompt, list[j].prompt) < 0 })
	return list
}

func idsKey(ids []int32) string {
	b := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		b = append(b, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	return string(b)
}

// longest is the number of tokens of the longest text with its prompt.
func (s *siblings) longest() int {
	n := 0
	for _, t := range s.texts {
		n = max(n, len(t.target))
	}
	return len(s.prompt) + n - 1
}

// reading is siblings in work: a sequence that holds the prompt and then one text after another.
type reading struct {
	*siblings
	seq   *generate.Sequence
	anew  bool     // every text is read with the prompt again
	heads []judged // of each text's first token, which the prompt's last row tells; nil: not known yet
	next  int      // the text at hand
	ids   []int32  // prompt and text at hand, without its last token
	judged
	seen int // tokens of the text that are scored
}

// judged is how likely tokens are together, and whether each was the most likely one.
type judged struct {
	ll   float64
	fits bool
}

func (j *judged) add(k judged) { j.ll, j.fits = j.ll+k.ll, j.fits && k.fits }

// scoreDone is told of a text that is scored.
type scoreDone func(p scored, ll float64, greedy bool) error

// score finds how likely texts are behind their prompts. A prompt is read once for all its texts, and what it shares
// with the one before it on its sequence is not read again; as many are in work as the runner holds, so that passes are
// full.
func (l *Local) score(ctx context.Context, all []scored, done scoreDone) error {
	r := l.Runner
	waiting, scope := gather(all, l.alone()), r.Scope()
	var live []*reading
	defer func() {
		for _, x := range live {
			r.Close(x.seq)
		}
	}()
	for len(waiting) > 0 || len(live) > 0 {
		for len(waiting) > 0 && l.admits(live, waiting[0], scope) {
			x, err := l.open(waiting[0], scope)
			if err != nil {
				return err
			}
			waiting = waiting[1:]
			live = append(live, x)
		}
		work, readers := l.pass(live)
		rows, err := r.Run(ctx, work)
		if err != nil {
			return err
		}
		for _, x := range readers {
			if len(x.seq.IDs) >= len(x.prompt) {
				r.Share(x.seq)
			}
		}
		for _, x := range measure(readers, work, rows) {
			if err := x.finish(r, done); err != nil {
				return err
			}
		}
		live = slices.DeleteFunc(live, func(x *reading) bool {
			if x.next < len(x.texts) {
				return false
			}
			r.Close(x.seq)
			return true
		})
	}
	return nil
}

// open begins to read siblings, with what the cache holds of their prompt.
func (l *Local) open(s *siblings, scope string) (*reading, error) {
	r := l.Runner
	seq, err := r.Open()
	if err != nil {
		return nil, err
	}
	x := &reading{siblings: s, seq: seq}
	r.Next(seq, s.prompt, 0) // finds the prefix
	// Keys that depend on how the text goes on are of one text; texts of one token go on alike.
	x.anew = (l.alone() || seq.Prefix > 0) && s.longest() > len(s.prompt)
	if !l.alone() {
		r.Adopt(seq, s.prompt, scope)
	}
	x.begin(r)
	return x, nil
}

// alone reports whether texts share nothing that was read for others.
func (l *Local) alone() bool { return l.Apart || !l.Runner.Shares() }

// admits reports whether there is a sequence and room in the cache for more siblings, and nobody in work is just reading
// what their prompt begins with.
func (l *Local) admits(live []*reading, s *siblings, scope string) bool {
	r := l.Runner
	if len(live) == 0 {
		return true
	}
	need := r.Pages(s.longest())
	for _, x := range live {
		need += r.Pages(x.longest())
	}
	if len(live) == r.Sequences() || need > r.Pages(r.Capacity()) {
		return false
	}
	cached := r.Cached(s.prompt, scope)
	return l.alone() || !slices.ContainsFunc(live, func(x *reading) bool {
		return len(x.seq.IDs) < len(x.prompt) && r.Shareable(x.prompt, s.prompt) > cached
	})
}

// begin makes ready for the text at hand: the sequence is cut back to what it shares with it.
func (x *reading) begin(r *generate.Runner) {
	t := x.texts[x.next].target
	x.ids = append(x.prompt[:len(x.prompt):len(x.prompt)], t[:len(t)-1]...)
	x.judged, x.seen = judged{fits: true}, 0
	if x.anew {
		x.heads = nil
		r.Truncate(x.seq, 0)
	}
	if x.heads != nil {
		x.judged, x.seen = x.heads[x.next], 1
	}
	r.Truncate(x.seq, min(len(x.seq.IDs), len(x.prompt)))
}

// finish tells of the text at hand and goes on to the next, and to those after it of one token, which are known by then.
func (x *reading) finish(r *generate.Runner, done scoreDone) error {
	for {
		if err := done(x.texts[x.next], x.ll, x.fits); err != nil {
			return err
		}
		if x.next++; x.next == len(x.texts) {
			return nil
		}
		if x.begin(r); x.seen < len(x.texts[x.next].target) {
			return nil
		}
	}
}

// pass is the next pass: of every sequence what there is room for.
func (l *Local) pass(live []*reading) (work []generate.Work, readers []*reading) {
	room := l.Runner.Chunk()
	for _, x := range live {
		if room == 0 {
			break
		}
		w := l.Runner.Next(x.seq, x.ids, room)
		if len(w.IDs) == 0 {
			continue
		}
		// Row i predicts token i+1. The rows of a text begin with the prompt's last, unless that is known.
		from := len(x.seq.IDs)
		first := max(from, len(x.prompt)-1+min(x.seen, 1))
		w.Logits = max(0, from+len(w.IDs)-first)
		work, readers = append(work, w), append(readers, x)
		room -= len(w.IDs)
	}
	return work, readers
}

// measure adds the rows of a pass to their texts, and returns the readings whose text has ended.
func measure(readers []*reading, work []generate.Work, rows [][]float32) (ended []*reading) {
	var tokens []int32 // that each row predicts
	for i, x := range readers {
		tokens = append(tokens, x.texts[x.next].target[x.seen:x.seen+work[i].Logits]...)
	}
	marks := make([]judged, len(rows))
	inParallel(len(rows), func(i int) { marks[i] = judge1(rows[i], kernel.LogSumExp(rows[i]), tokens[i]) })
	row := 0
	for i, x := range readers {
		for range work[i].Logits {
			if x.seen == 0 {
				x.head(rows[row])
			}
			x.add(marks[row])
			x.seen++
			row++
		}
		if x.seen == len(x.texts[x.next].target) {
			ended = append(ended, x)
		}
	}
	return ended
}

// head judges the first tokens of all texts by the row behind the prompt.
func (x *reading) head(row []float32) {
	lse := kernel.LogSumExp(row)
	x.heads = make([]judged, len(x.texts))
	for i, t := range x.texts {
		x.heads[i] = judge1(row, lse, t.target[0])
	}
}

func judge1(row []float32, lse float32, id int32) judged {
	return judged{float64(row[id]) - float64(lse), kernel.ArgMax(row) == int(id)}
}

// inParallel calls f for 0 .. n-1 on all processors.
func inParallel(n int, f func(i int)) {
	workers := min(n, runtime.NumCPU())
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wait.Wait()
}
