package recipe

import (
	"errors"
	"fmt"
	"path/filepath"

	"danlu/adapter"
	"danlu/engine"
	"danlu/family"
	"danlu/generate"
	"danlu/nn"
	"danlu/weights"
)

// Trained runs the model of an export recipe as it was trained: its last adapter beside the base, which is quantized
// where the recipe says so. The returned function frees it.
func Trained(r *Recipe, eng engine.Engine, opts generate.Options) (*generate.Runner, func(), error) {
	n := len(r.Model.Adapters)
	if n == 0 {
		return nil, nil, r.Errorf("adapter_name_or_path", "is missing; there is nothing to compare with")
	}
	c, err := family.Open(r.Model.Path, notModels...)
	if err != nil {
		return nil, nil, r.Errorf("model_name_or_path", "%v", err)
	}
	defer c.Close()
	src := c.Weights
	var f *adapter.File
	for i, dir := range r.Model.Adapters {
		if f, err = adapter.Open(filepath.Join(r.Model.AdapterFolder, dir), c.Model); err != nil {
			return nil, nil, r.Errorf("adapter_name_or_path", "%v", err)
		}
		defer f.Close()
		if i == n-1 {
			break
		}
		if src, err = f.Merge(src); err != nil {
			return nil, nil, err
		}
	}
	modules, err := family.Modules(c.Model)
	if err != nil {
		return nil, nil, err
	}
	storage := nn.Storage(r.codes(modules))
	opts.Policy, opts.Storage, opts.Prepare = nn.Float32, storage, f.Set.Prepare
	store := eng.NewStore()
	err = fillStore(store, c.Model, src, f, storage)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	run, err := generate.NewRunner(eng, store, c.Model, opts)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return run, func() { run.Shut(); store.Close() }, nil
}

// fillStore loads a base in the given storage and an adapter beside it.
func fillStore(store engine.Store, m family.Model, src weights.Source, f *adapter.File, storage nn.Storage) error {
	specs, err := family.Params(m, func(b *nn.Build) {
		b.Storage = storage
		f.Set.Prepare(b)
	})
	if err != nil {
		return err
	}
	for _, s := range specs {
		if err := store.Declare(s); err != nil {
			return err
		}
	}
	if err := weights.Load(store, specs, src, weights.LoadOptions{Ignored: m.Info().Ignored, Optional: adapter.IsFactor}); err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	return f.Load(store)
}
