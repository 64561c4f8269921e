package generate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
)

// SelfDraft guesses by a model's own module for the token after the next (DeepSeek-V3, arXiv:2412.19437, section 2.2): one
// guess behind each token, at the cost of one layer. The module's keys lie in the pages of the sequence that it guesses for.
type SelfDraft struct {
	// Surest is the least probability of a guess [0.4]; below 0: every guess is made.
	Surest float64

	runner  *Runner
	seq     *Sequence
	program engine.Program
	rows    []float32 // the model's hidden rows, of the sequence's tokens from the first on
	read    []int32   // tokens that the module has read: place i read token i+1
}

// NewSelfDraft compiles the module of the runner's model for a sequence, which must be empty.
func (r *Runner) NewSelfDraft(s *Sequence) (*SelfDraft, error) {
	info := r.model.Info()
	m, ok := r.model.(family.MultiToken)
	if !ok || len(s.IDs) > 0 {
		return nil, fmt.Errorf("generate: guesses of its own: want an empty sequence of a model that has a prediction module, got %d tokens of %s", len(s.IDs), info.Architecture)
	}
	has := false
	perSeq := len(r.in.pages) / len(r.slots)
	g, err := graph.Build(func(g *graph.Graph) {
		b, err := nn.CachedInputs(g, r.opts.Policy, info.PositionRows, r.opts.Chunk, r.opts.Sequences, perSeq, graph.CacheSpec{Pages: r.opts.Pages, PageLen: r.opts.PageLen, Store: r.opts.Store})
		if err != nil {
			graph.Failf("%v", err)
		}
		b.Storage = r.opts.Storage
		r.opts.prepare(b)
		t := graph.Of(dtype.F32, r.opts.Chunk, 1, info.HiddenSize)
		t.Rows = true
		next := m.MTPNext(b, graph.Convert(g.Input("hidden", t), r.opts.Policy.Residual))
		if has = next != nil; has {
			g.Output("next", graph.Convert(next, dtype.F32))
		}
	})
	if err == nil && !has {
		err = errors.New("generate: guesses of its own: the model has no prediction module")
	}
	if err != nil {
		return nil, err
	}
	d := &SelfDraft{Surest: surest, runner: r, seq: s}
	if d.program, err = r.engine.Compile(g, r.store, engine.Options{}); err != nil {
		return nil, err
	}
	s.watch = d.watch
	return d, nil
}

// watch keeps the hidden rows of what a pass read.
func (d *SelfDraft) watch(from int, rows []float32) {
	n := d.runner.Info().HiddenSize
	if from*n > len(d.rows) { // another sequence read what stands before
		return
	}
	d.rows = append(d.rows[:from*n], rows...)
	d.read = d.read[:min(len(d.read), from)]
}

// Draft implements Drafter.
func (d *SelfDraft) Draft(ctx context.Context, text []int32, n int) ([]int32, error) {
	places, width := len(text)-1, d.runner.Info().HiddenSize
	if n < 1 || places < 1 || len(d.seq.IDs) < places || len(d.rows) < places*width {
		return nil, nil
	}
	same := 0
	for same < min(len(d.read), places) && d.read[same] == text[same+1] {
		same++
	}
	d.read = d.read[:min(same, places-1)] // the last place's result is wanted
	var last []float32
	for len(d.read) < places {
		from := len(d.read)
		to := min(from+d.runner.opts.Chunk, places)
		out, err := d.program.Run(ctx, d.inputs(text, from, to))
		if err != nil {
			return nil, err
		}
		d.read = append(d.read, text[from+1:to+1]...)
		last = out["next"].F32()[(to-from-1)*width : (to-from)*width]
	}
	out, err := d.runner.head.Run(ctx, engine.Tensors{"rows": tensor.FromF32(slices.Clone(last), 1, width)})
	if err != nil {
		return nil, err
	}
	logits := out["logits"].F32()
	id, err := greedy(logits, nil)
	if err != nil || math.Exp(float64(logits[id])-logSumExp(logits)) < d.Surest {
		return nil, err
	}
	return []int32{id}, nil
}

// inputs are those of places [from, to): each a hidden row and the token behind it.
func (d *SelfDraft) inputs(text []int32, from, to int) engine.Tensors {
	r, n := d.runner, to-from
	rows, width, page := r.Info().PositionRows, r.Info().HiddenSize, r.opts.PageLen
	positions, at, slots := make([]int32, 0, n*rows), make([]int32, n), make([]int32, n)
	for i := range n {
		at[i] = int32(from + i)
		slots[i] = d.seq.pages[(from+i)/page]*int32(page) + at[i]%int32(page)
		for range rows {
			positions = append(positions, at[i])
		}
	}
	pages := make([]int32, len(r.in.pages))
	copy(pages[d.seq.slot*len(pages)/len(r.slots):], d.seq.pages)
	return engine.Tensors{
		"ids":       tensor.FromI32(slices.Clone(text[from+1:to+1]), n, 1),
		"lengths":   tensor.FromI32(slices.Repeat([]int32{int32(len(text))}, n), n, 1),
		"positions": tensor.FromI32(positions, n, 1, rows),
		"seqs":      tensor.FromI32(slices.Repeat([]int32{int32(d.seq.slot)}, n), n),
		"at":        tensor.FromI32(at, n), "slots": tensor.FromI32(slots, n),
		"pages":  tensor.FromI32(pages, len(r.slots), len(pages)/len(r.slots)),
		"hidden": tensor.FromF32(d.rows[from*width:to*width], n, 1, width),
	}
}

// Close implements Drafter.
func (d *SelfDraft) Close() {
	d.seq.watch = nil
	d.program.Close()
}
