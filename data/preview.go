package data

import (
	"fmt"
	"strings"
)

// Run is a stretch of tokens that are all scored or all given.
type Run struct {
	IDs    []int32
	Scored bool
}

// Runs cuts a sequence where scoring starts or stops.
func (s Sequence) Runs() []Run {
	var runs []Run
	for i, id := range s.IDs {
		scored := s.Labels == nil || s.Labels[i] != Ignore
		if n := len(runs); n == 0 || runs[n-1].Scored != scored {
			runs = append(runs, Run{Scored: scored})
		}
		last := &runs[len(runs)-1]
		last.IDs = append(last.IDs, id)
	}
	return runs
}

// Preview shows a sequence as it is trained: its text with the scored tokens in green (between »« without colour), its
// ids, and the share that is scored. decode must keep special tokens visible.
func Preview(s Sequence, decode func(ids []int32) string, colour bool) string {
	open, shut := "»", "«"
	if colour {
		open, shut = "\x1b[32m", "\x1b[0m"
	}
	var b strings.Builder
	for _, r := range s.Runs() {
		text := strings.Map(visible, decode(r.IDs))
		if r.Scored {
			text = open + text + shut
		}
		b.WriteString(text)
	}
	ids := fmt.Sprint(s.IDs)
	const longest = 64
	if len(s.IDs) > longest {
		ids = strings.TrimSuffix(fmt.Sprint(s.IDs[:longest]), "]") + fmt.Sprintf(" ... %d more]", len(s.IDs)-longest)
	}
	share := 0.0
	if len(s.IDs) > 0 {
		share = 100 * float64(s.Scored()) / float64(len(s.IDs))
	}
	fmt.Fprintf(&b, "\nids %s\n%d tokens, %d scored (%.1f%%)", ids, len(s.IDs), s.Scored(), share)
	return b.String()
}

// PreviewRow shows a row of a batch that is laid out in a way of its own: its text, the token that each place is to
// predict, and its rows of positions. decode must keep special tokens visible.
func (x *Batch) PreviewRow(row int, decode func(ids []int32) string) string {
	n := 0
	for n < x.T && x.Segments[row*x.T+n] != NoSegment {
		n++
	}
	cut := func(v []int32) []int32 { return v[row*x.T : row*x.T+n] }
	ids, targets := cut(x.IDs), cut(x.Targets)
	prefix := 0
	if x.Prefix != nil {
		prefix = int(x.Prefix[row])
	}
	var b strings.Builder
	show := func(part []int32) string { return strings.Map(visible, decode(part)) }
	fmt.Fprintf(&b, "%s┃%s\n", show(ids[:prefix]), show(ids[prefix:]))
	scored := 0
	wanted := make([]string, n)
	for i, id := range targets {
		wanted[i] = "·"
		if id != Ignore {
			wanted[i] = fmt.Sprint(id)
			scored++
		}
	}
	fmt.Fprintf(&b, "ids       %v\ntargets   %v\n", ids, wanted)
	for p := range x.P {
		fmt.Fprintf(&b, "positions %v\n", x.Positions[p*x.B*x.T+row*x.T:][:n])
	}
	fmt.Fprintf(&b, "%d tokens, of which the first %d see each other; %d scored (%.1f%%)", n, prefix, scored, 100*float64(scored)/float64(max(n, 1)))
	return b.String()
}

// visible keeps a terminal safe from control characters in a dataset.
func visible(r rune) rune {
	if r < 0x20 && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return '\ufffd'
	}
	return r
}
