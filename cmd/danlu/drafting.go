package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"danlu/engine"
	"danlu/generate"
	"danlu/hub"
	"danlu/internal/locale"
)

// drafting is what guesses tokens ahead, so that several are read in one pass: the flags of verbs that write.
type drafting struct {
	source string
	most   int
}

// Names of what guesses without a second model: prompt lookup, and the model's own prediction module.
const (
	ngrams = "ngram"
	itself = "self"
)

func (d *drafting) flags(f *pflag.FlagSet) {
	f.StringVar(&d.source, "draft", "", locale.Text("guess tokens ahead, which changes no answer: a smaller model with the same vocabulary, ngram to look them up in the text, or self for the model's own prediction module (DeepSeek-V3; not in serve)", "预先猜测 token（不改变回答）：同词表的小模型，ngram（在已有文本中查找），或 self（模型自带的预测模块，如 DeepSeek-V3；serve 除外）"))
	f.IntVar(&d.most, "draft-tokens", 8, locale.Text("most guesses of one pass", "每次前向最多猜测的 token 数"))
}

// makeDrafter makes the drafter of one answer on a sequence, which must be empty where the model guesses for itself.
type makeDrafter func(s *generate.Sequence) (generate.Drafter, error)

// maker returns what makes drafters for a model whose path and runner are given, nil without --draft; up to several of
// them at a time. shut frees what they share.
func (d *drafting) maker(ctx context.Context, eng engine.Engine, path string, r *generate.Runner, several int, quiet bool) (_ makeDrafter, shut func(), err error) {
	nothing := func() {}
	switch {
	case d.source == "":
		return nil, nothing, nil
	case d.most < 1 || d.most > 64:
		return nil, nil, fmt.Errorf("--draft-tokens: want 1 to 64, got %d", d.most)
	}
	if err := r.CanDraft(); err != nil {
		return nil, nil, fmt.Errorf("--draft: %w", err)
	}
	switch d.source {
	case ngrams:
		return func(*generate.Sequence) (generate.Drafter, error) { return &generate.NGrams{}, nil }, nothing, nil
	case itself:
		if several > 1 {
			return nil, nil, errors.New("--draft: self guesses for one text at a time: generate and chat take it")
		}
		return func(s *generate.Sequence) (generate.Drafter, error) { return r.NewSelfDraft(s) }, nothing, nil
	}
	small, closeSmall, err := d.model(ctx, eng, path, r, several, quiet)
	if err != nil {
		return nil, nil, fmt.Errorf("--draft: %w", err)
	}
	return func(*generate.Sequence) (generate.Drafter, error) {
		if !small.Free() {
			return nil, nil // the reply goes without
		}
		return generate.NewSmallModel(small, r.Info().VocabSize)
	}, closeSmall, nil
}

// model loads the smaller model.
func (d *drafting) model(ctx context.Context, eng engine.Engine, path string, r *generate.Runner, several int, quiet bool) (_ *generate.Runner, shut func(), err error) {
	name := hub.Resolve(d.source)
	ours, err := tokenizerOf(path)
	if err != nil {
		return nil, nil, err
	}
	theirs, err := tokenizerOf(name)
	if err != nil {
		return nil, nil, err
	}
	if err := generate.SameVocabulary(ours, theirs); err != nil {
		return nil, nil, err
	}
	m, err := openModel(name)
	if err != nil {
		return nil, nil, err
	}
	how := inference{quant: "keep", precision: "int8"}
	opts := generate.Options{Context: r.Context(), Sequences: several}
	if most := m.model.Info().MaxPosition; most > 0 {
		opts.Context = min(opts.Context, most)
	}
	ready, err := how.load(ctx, m, eng, quiet)
	if err != nil {
		return nil, nil, errors.Join(err, m.source.Close())
	}
	small, err := ready.runner(opts)
	if err != nil {
		return nil, nil, errors.Join(err, ready.close(), m.source.Close())
	}
	return small, func() { small.Shut(); ready.close(); m.source.Close() }, nil
}

// tell says how many guesses were right.
func tell(x *generate.Drafting) {
	if x == nil || x.Drafted == 0 {
		return
	}
	fmt.Fprintf(os.Stderr, locale.Text("(%d of %d guesses were right, in %d passes)\n", "（%[2]d 个猜测中 %[1]d 个正确，共 %[3]d 次前向）\n"), x.Agreed, x.Drafted, x.Passes)
}
