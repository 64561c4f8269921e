package grammar

import (
	"errors"
	"fmt"
)

// Limits of a grammar's size, so that a stranger's cannot take the memory.
const (
	maxSource = 1 << 20 // bytes of a grammar or schema
	maxStates = 1 << 18
	maxRules  = 1 << 14
)

// state is a place in a rule. Its edges read a byte, read nothing, or read what another rule stands for.
type state struct {
	bytes []byteEdge
	empty []int32
	calls []callEdge
}

type byteEdge struct {
	lo, hi byte
	to     int32
}

type callEdge struct{ rule, to int32 }

// rule is a part of the automaton with a name.
type rule struct {
	name       string
	start, end int32 // end is where the rule has been read; start is -1 before the rule is defined
}

// automaton is a set of rules while they are put together. Once err is set nothing more is added.
type automaton struct {
	states []state
	rules  []rule
	err    error
}

func (a *automaton) fail(format string, args ...any) {
	if a.err == nil {
		a.err = fmt.Errorf(format, args...)
	}
}

// add adds a state.
func (a *automaton) add() int32 {
	if len(a.states) >= maxStates {
		a.fail("it needs more than %d states: are there large counts (maxLength, maxItems, {m,n})?", maxStates)
		return 0
	}
	a.states = append(a.states, state{})
	return int32(len(a.states) - 1)
}

func (a *automaton) read(from int32, lo, hi byte, to int32) {
	s := &a.states[from]
	s.bytes = append(s.bytes, byteEdge{lo, hi, to})
}

func (a *automaton) skip(from, to int32) {
	if from != to {
		s := &a.states[from]
		s.empty = append(s.empty, to)
	}
}

func (a *automaton) call(from, rule, to int32) {
	s := &a.states[from]
	s.calls = append(s.calls, callEdge{rule, to})
}

// declare adds a rule that is defined later.
func (a *automaton) declare(name string) int32 {
	if len(a.rules) >= maxRules {
		a.fail("it has more than %d rules", maxRules)
		return 0
	}
	a.rules = append(a.rules, rule{name, -1, -1})
	return int32(len(a.rules) - 1)
}

// define says what a rule reads.
func (a *automaton) define(r int32, p piece) {
	start := a.add()
	end := p(a, start)
	a.rules[r].start, a.rules[r].end = start, end
}

// finish checks the automaton and takes away what leads nowhere. Rule 0 is the whole.
func (a *automaton) finish() error {
	if a.err != nil {
		return a.err
	}
	for _, r := range a.rules {
		if r.start < 0 {
			return fmt.Errorf("rule %q is not defined", r.name)
		}
	}
	a.prune()
	if !a.reachable(true)[a.rules[0].start] {
		return errors.New("no text satisfies it")
	}
	return a.leftRecursion()
}

// reachable marks the states from which their rule's end can be reached; without bytes, by reading nothing.
func (a *automaton) reachable(bytes bool) []bool {
	before := make([][]int32, len(a.states)) // states with an edge to this one
	callers := make([][]callEdge, len(a.rules))
	for i, s := range a.states {
		for _, to := range s.empty {
			before[to] = append(before[to], int32(i))
		}
		for _, e := range s.bytes {
			if bytes {
				before[e.to] = append(before[e.to], int32(i))
			}
		}
		for _, c := range s.calls {
			callers[c.rule] = append(callers[c.rule], callEdge{int32(i), c.to}) // from, to
		}
	}
	ruleOf := map[int32][]int32{} // rules by start
	live, done := make([]bool, len(a.states)), make([]bool, len(a.rules))
	var queue []int32
	mark := func(s int32) {
		if !live[s] {
			live[s] = true
			queue = append(queue, s)
		}
	}
	waiting := map[int32][]int32{} // callers of rules that are done, by the state behind the call
	for i, r := range a.rules {
		ruleOf[r.start] = append(ruleOf[r.start], int32(i))
		mark(r.end)
	}
	for len(queue) > 0 {
		s := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, from := range before[s] {
			mark(from)
		}
		for _, from := range waiting[s] {
			mark(from)
		}
		for _, r := range ruleOf[s] {
			if done[r] {
				continue
			}
			done[r] = true
			for _, c := range callers[r] {
				if from := c.rule; live[c.to] {
					mark(from)
				} else {
					waiting[c.to] = append(waiting[c.to], from)
				}
			}
		}
	}
	return live
}

// prune takes away edges after which no text can end.
func (a *automaton) prune() {
	live := a.reachable(true)
	for i := range a.states {
		s, kept := &a.states[i], state{}
		for _, e := range s.bytes {
			if live[e.to] {
				kept.bytes = append(kept.bytes, e)
			}
		}
		for _, to := range s.empty {
			if live[to] {
				kept.empty = append(kept.empty, to)
			}
		}
		for _, c := range s.calls {
			if live[c.to] && live[a.rules[c.rule].start] {
				kept.calls = append(kept.calls, c)
			}
		}
		*s = kept
	}
}

// leftRecursion refuses rules that come to themselves before they have read anything: their stack would not end.
func (a *automaton) leftRecursion() error {
	nullable := a.reachable(false)
	called := make([][]int32, len(a.rules)) // rules that a rule calls before it has read anything
	seen := make([]int32, len(a.states))    // by which rule, plus one
	for r := range a.rules {
		queue := []int32{a.rules[r].start}
		for len(queue) > 0 {
			i := queue[len(queue)-1]
			queue = queue[:len(queue)-1]
			if seen[i] == int32(r)+1 {
				continue
			}
			seen[i] = int32(r) + 1
			queue = append(queue, a.states[i].empty...)
			for _, c := range a.states[i].calls {
				called[r] = append(called[r], c.rule)
				if nullable[a.rules[c.rule].start] {
					queue = append(queue, c.to)
				}
			}
		}
	}
	const open, closed = 1, 2
	mark := make([]byte, len(a.rules))
	var visit func(r int32) error
	visit = func(r int32) error {
		mark[r] = open
		for _, next := range called[r] {
			if mark[next] == open {
				return fmt.Errorf("rule %q comes to itself before it has read anything (left recursion)", a.rules[next].name)
			}
			if mark[next] == 0 {
				if err := visit(next); err != nil {
					return err
				}
			}
		}
		mark[r] = closed
		return nil
	}
	for r := range a.rules {
		if mark[r] == 0 {
			if err := visit(int32(r)); err != nil {
				return err
			}
		}
	}
	return nil
}
