package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"danlu/adapter"
	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/nn"
	"danlu/recipe"
)

// inference is how a model is run: the flags of all verbs that generate or score.
type inference struct {
	quant, precision, cache string
	adapters                []string
	choices                 []string // folders of adapters of which each text takes one or none
}

func (i *inference) flags(f *pflag.FlagSet) {
	f.StringVar(&i.quant, "quant", "keep", locale.Text("keep weights as the checkpoint has them (keep), in float32 (none), or as q8_0, q4_0, q4_k, ...", "权重保持原样（keep）、转为 float32（none）或量化为 q8_0、q4_0、q4_k 等"))
	f.StringVar(&i.precision, "dtype", "int8", locale.Text("compute in f32, bf16 or int8 (f32, but 8-bit activations where weights are block-quantized)", "以 f32、bf16 或 int8 计算（int8：遇到块量化权重时激活取 8 位，其余为 f32）"))
	f.StringArrayVar(&i.adapters, "adapter", nil, locale.Text("folder of a LoRA adapter to add to the weights; several are added one after another", "要加到权重上的 LoRA 适配器目录；可给多个，依次相加"))
	f.StringVar(&i.cache, "cache", "", locale.Text("keep keys and values in f32, f16, bf16 or q8_0; f16 unless --dtype f32", "键值缓存类型 f32、f16、bf16 或 q8_0；默认 f16，--dtype f32 时为 f32"))
}

// policy is what --dtype names.
func (i *inference) policy() (nn.Policy, error) {
	if i.precision == "int8" {
		return nn.Int8, nil
	}
	p, err := policyOf(i.precision)
	if err != nil {
		return p, fmt.Errorf("--dtype: want f32, bf16 or int8, got %q", i.precision)
	}
	return p, nil
}

// store is the type of keys and values.
func (i *inference) store() (dtype.DType, error) {
	if i.cache == "" {
		if i.precision == "f32" {
			return dtype.F32, nil
		}
		return dtype.F16, nil
	}
	d, err := dtype.Parse(i.cache)
	if err != nil || d != dtype.F32 && d != dtype.F16 && d != dtype.BF16 && d != dtype.Q8_0 {
		return d, fmt.Errorf("--cache: want f32, f16, bf16 or q8_0, got %q", i.cache)
	}
	return d, nil
}

// adapt adds the adapters to the model's weights.
func (i *inference) adapt(m *opened) error {
	for _, dir := range i.adapters {
		c := &family.Checkpoint{Model: m.model, Config: m.config, Weights: m.source, Vocabulary: m.vocabulary}
		grown, err := recipe.GrownFor(c, m.source, dir)
		if err != nil {
			return err
		}
		m.model, m.config, m.vocabulary = c.Model, c.Config, c.Vocabulary
		f, err := adapter.Open(dir, m.model)
		if err != nil {
			return err
		}
		src, err := f.Merge(grown)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		m.source = src
	}
	return nil
}

// loaded is a model whose weights are read into a store, while its programs are compiled and its prompt is made.
type loaded struct {
	*opened
	engine engine.Engine
	store  engine.Store
	opts   generate.Options // Policy, Store and Storage
	bank   *adapter.Bank    // of the choices; nil: none
	files  []*adapter.File
	cancel context.CancelFunc
	done   chan struct{} // closed when the weights are there, or err says why not
	err    error
}

// load starts to fill a store with a model's weights. What does not fit is found at once. close has to follow before the
// model's source is closed.
func (i *inference) load(ctx context.Context, m *opened, eng engine.Engine, quiet bool) (*loaded, error) {
	l := &loaded{opened: m, engine: eng, done: make(chan struct{})}
	var err error
	if l.opts.Policy, err = i.policy(); err != nil {
		return nil, err
	}
	if l.opts.Store, err = i.store(); err != nil {
		return nil, err
	}
	if err := i.adapt(m); err != nil {
		return nil, err
	}
	var fill func(context.Context) error
	if l.store, l.opts.Storage, fill, err = m.declare(eng, i.quant, quiet); err != nil {
		return nil, err
	}
	if err := l.offer(i.choices); err != nil {
		return nil, errors.Join(err, l.shut())
	}
	ctx, l.cancel = context.WithCancel(ctx)
	go func() {
		defer close(l.done)
		if l.err = fill(ctx); errors.Is(l.err, context.Canceled) {
			l.err = failure{l.err, exitFail}
		}
	}()
	return l, nil
}

// offer puts adapters beside the weights, for each text to choose from.
func (l *loaded) offer(dirs []string) error {
	for _, dir := range dirs {
		f, err := adapter.Open(dir, l.model)
		if err != nil {
			return err
		}
		l.files = append(l.files, f)
	}
	if len(dirs) == 0 {
		return nil
	}
	var err error
	if l.bank, err = adapter.NewBank(l.files...); err != nil {
		return err
	}
	if err := l.bank.Declare(l.store, l.model, l.opts.Storage); err != nil {
		return err
	}
	return l.bank.Load(l.store)
}

// shut frees the store and the adapters.
func (l *loaded) shut() error {
	err := l.store.Close()
	for _, f := range l.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// wait returns when the weights are there.
func (l *loaded) wait() error {
	<-l.done
	return l.err
}

// close frees the weights; programs are shut before.
func (l *loaded) close() error {
	l.cancel()
	<-l.done
	return l.shut()
}

// runner compiles the model and waits for its weights; the caller shuts it before the model is closed.
func (l *loaded) runner(opts generate.Options) (*generate.Runner, error) {
	opts.Policy, opts.Store, opts.Storage = l.opts.Policy, l.opts.Store, l.opts.Storage
	if l.bank != nil {
		opts.Prepare, opts.Adapters = l.bank.Prepare, l.bank.Len()
	}
	r, err := generate.NewRunner(l.engine, l.store, l.model, opts)
	if err != nil {
		return nil, err
	}
	if err := l.wait(); err != nil {
		return nil, errors.Join(err, r.Shut())
	}
	return r, nil
}

// runner loads a model and compiles it; the returned function frees both.
func (i *inference) runner(m *opened, eng engine.Engine, quiet bool, opts generate.Options) (_ *generate.Runner, shut func(), err error) {
	l, err := i.load(context.Background(), m, eng, quiet)
	if err != nil {
		return nil, nil, err
	}
	r, err := l.runner(opts)
	if err != nil {
		return nil, nil, errors.Join(err, l.close())
	}
	return r, func() { r.Shut(); l.close() }, nil
}
