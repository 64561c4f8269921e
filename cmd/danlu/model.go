package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"danlu/adapter"
	"danlu/engine"
	"danlu/family"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/nn"
	"danlu/weights"
)

// opened is a model whose weights can be read.
type opened struct {
	model  family.Model
	source weights.Source
	config []byte
	// vocabulary is where the tokenizer lies when an adapter brings its own; "": with the model.
	vocabulary string
}

// openModel reads the config of a model folder or GGUF file and opens its weights.
func openModel(path string) (*opened, error) {
	_, missing := os.Stat(filepath.Join(path, "config.json"))
	if c, err := adapter.ReadConfig(path); err == nil && missing != nil {
		return nil, fmt.Errorf("%s: holds an adapter without its model; give the model (%s) and --adapter %s", path, c.Base, path)
	}
	c, err := family.Open(path, "optimizer.safetensors")
	if err != nil {
		return nil, err
	}
	if f, ok := c.Model.(family.BlankFiller); ok && f.Blanks().SOP < 0 { // the config leaves it to the tokenizer
		if t, err := tokenizerOf(path); err == nil {
			family.FindBlanks(c.Model, t)
		}
	}
	return &opened{model: c.Model, source: c.Weights, config: c.Config}, nil
}

// declare makes a store for the model's weights, kept as kind says (weights.Storage), and says how each is kept. What does
// not fit is found here; fill then reads the weights.
func (m *opened) declare(eng engine.Engine, kind string, quiet bool) (store engine.Store, storage nn.Storage, fill func(context.Context) error, err error) {
	specs, err := family.Params(m.model)
	if err != nil {
		return nil, nil, nil, err
	}
	opts := weights.LoadOptions{Ignored: m.model.Info().Ignored}
	if err := weights.Check(specs, m.source, opts); err != nil {
		return nil, nil, nil, err
	}
	if storage, err = weights.Storage(m.source, specs, kind, opts); err != nil {
		return nil, nil, nil, err
	}
	if specs, err = family.StoredParams(m.model, storage); err != nil {
		return nil, nil, nil, err
	}
	store = eng.NewStore()
	for _, s := range specs {
		if err := store.Declare(s); err != nil {
			store.Close()
			return nil, nil, nil, err
		}
	}
	return store, storage, func(ctx context.Context) error {
		bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("loading", "加载"), Quiet: quiet, Chinese: locale.Chinese()})
		defer bar.Done()
		opts.Context, opts.Progress = ctx, func(done, total int64) {
			bar.SetTotal(total)
			bar.Update(done)
		}
		return weights.Load(store, specs, m.source, opts)
	}, nil
}
