package generate

import (
	"slices"

	"danlu/grammar"
)

// Constraint says which tokens may come next in one answer.
type Constraint interface {
	// Allowed are the tokens that may come next, nil for all. They hold until Accept and may be changed by the caller.
	Allowed() (grammar.Mask, error)
	// Accept goes on by a token that is no end token; ended says that nothing can follow it.
	Accept(id int32) (ended bool, err error)
}

// Form holds one answer to a grammar.
type Form struct {
	matcher *grammar.Matcher
	end     []int32
	mask    grammar.Mask
}

// NewForm returns a form for an answer that one of the end tokens ends where the grammar is complete.
func NewForm(g *grammar.Grammar, end []int32) *Form { return &Form{matcher: g.Matcher(), end: end} }

// Allowed implements Constraint.
func (f *Form) Allowed() (grammar.Mask, error) {
	mask, complete, err := f.matcher.Mask()
	if err != nil {
		return nil, err
	}
	if f.mask == nil {
		f.mask = slices.Clone(mask)
	}
	copy(f.mask, mask)
	if complete {
		for _, id := range f.end {
			f.mask.Set(id)
		}
	}
	return f.mask, nil
}

// Accept implements Constraint.
func (f *Form) Accept(id int32) (ended bool, err error) {
	err = f.matcher.Accept(id)
	return f.matcher.Ended(), err
}

// Under chooses a token that a constraint allows; nil allows all.
func (s *Sampler) Under(c Constraint, logits []float32, seen []int32) (int32, error) {
	if c == nil {
		return s.Next(logits, seen, nil)
	}
	allowed, err := c.Allowed()
	if err != nil {
		return 0, err
	}
	return s.Next(logits, seen, allowed)
}

func accept(c Constraint, id int32) (ended bool, err error) {
	if c == nil {
		return false, nil
	}
	return c.Accept(id)
}
