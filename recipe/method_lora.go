package recipe

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"danlu/adapter"
	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/nn"
	"danlu/optim"
	"danlu/tokenizer"
	"danlu/weights"
)

func init() { methods["lora"] = lora }

// lora trains an adapter beside weights that stay as they are, quantized where the recipe asks for it.
func lora(j *job, t *tokenizer.Tokenizer) (*trainee, error) {
	a, err := j.adapterPlan()
	if err != nil {
		return nil, err
	}
	storage, err := a.storage()
	if err != nil {
		return nil, err
	}
	m := &trainee{Model: j.source.model, store: j.engine.NewStore(), policy: j.policy(), trainable: a.set.Trains}
	base := func(b *nn.Build) { b.Storage, b.Plain = storage, true }
	m.prepare = func(b *nn.Build) {
		base(b)
		a.set.Prepare(b)
	}
	if len(a.set.Config.Saved) == 0 && !a.pissa() {
		m.base = base
	}
	if m.specs, err = family.Params(m.Model, m.prepare); err != nil {
		return nil, err
	}
	for _, s := range m.specs {
		if err := m.store.Declare(s); err != nil {
			return nil, err
		}
	}
	trained, err := a.set.Params()
	if err != nil {
		return nil, err
	}
	j.say(locale.Text("adapter: %d trained numbers in %d kinds of modules", "适配器：%d 个可训练参数，分布在 %d 类模块中"), trained, len(a.set.Targets))
	m.bytes = 4 * trained
	if a.pissa() {
		m.bytes *= 2
		j.say("%s", locale.Text("pissa_init: the adapter is saved as a plain one of twice the rank, which belongs to the model as it is", "pissa_init：适配器保存为两倍秩的普通 LoRA，可直接用于原模型"))
	}
	loaded := false
	m.fill = func() error {
		loaded = true
		return a.fill(m)
	}
	m.save = func(dir string) error {
		save := a.set.Save
		if a.pissa() {
			save = func(dir string, store engine.Store) error { return a.set.SavePiSSA(dir, store, a.start) }
		}
		if err := save(dir, m.store); err != nil {
			return err
		}
		return t.Save(dir)
	}
	m.load = func(dir string) error {
		if !loaded {
			if err := m.fill(); err != nil {
				return err
			}
		}
		if a.pissa() {
			return a.set.LoadPiSSA(dir, m.store)
		}
		f, err := a.set.OpenFile(filepath.Join(dir, adapter.WeightsFile))
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Load(m.store)
	}
	return m, nil
}

// adapterPlan is what a recipe does with adapters: those that are added to the weights, and the one that is trained.
type adapterPlan struct {
	j      *job
	merged []string // folders of adapters that become part of the base
	begin  string   // folder of the adapter that is trained on; "": a new one
	set    *adapter.Set
	start  adapter.Start // where a PiSSA adapter began
}

// pissa reports whether the adapter begins with the weights' largest singular values.
func (a *adapterPlan) pissa() bool { return a.j.Method.PissaInit && a.begin == "" }

func (j *job) adapterPlan() (*adapterPlan, error) {
	a := &adapterPlan{j: j}
	for _, dir := range j.Model.Adapters {
		a.merged = append(a.merged, filepath.Join(j.Model.AdapterFolder, dir))
	}
	if n := len(a.merged); n > 0 && !j.Method.NewAdapter {
		a.merged, a.begin = a.merged[:n-1], a.merged[n-1]
		f, err := adapter.Open(a.begin, j.source.model)
		if err != nil {
			return nil, j.Errorf("adapter_name_or_path", "%v", err)
		}
		a.set = f.Set
		return a, f.Close()
	}
	c, err := j.adapterConfig()
	if err != nil {
		return nil, err
	}
	if a.set, err = adapter.Resolve(c, j.source.model); err != nil {
		return nil, j.Errorf("lora_target", "%v", err)
	}
	return a, nil
}

// saveNewRows has the embedding and the head trained as a whole where the vocabulary has grown and the recipe does not say
// otherwise.
func (j *job) saveNewRows(c *adapter.Config) error {
	if j.vocabulary != nil && !j.IsSet("additional_target") {
		names, err := vocabularyNames(j.source.model)
		if err != nil {
			return err
		}
		for _, n := range names {
			module := strings.TrimSuffix(n, ".weight")
			c.Saved = append(c.Saved, module[strings.LastIndexByte(module, '.')+1:])
		}
		j.say(locale.Text("additional_target: %s, whose new rows are to be learned", "additional_target：%s，其新行需要学习"), strings.Join(c.Saved, ", "))
	}
	return c.TieHead(j.source.model)
}

// adapterConfig is the configuration of a new adapter.
func (j *job) adapterConfig() (*adapter.Config, error) {
	m := &j.Method
	c := adapter.AllLinear(m.LoraRank)
	c.Alpha, c.Dropout, c.RSLora, c.DoRA, c.Saved, c.Base = float64(j.LoraAlpha()), m.LoraDropout, m.RSLora, m.DoRA, m.ExtraTarget, j.Model.Path
	if err := j.saveNewRows(c); err != nil {
		return nil, err
	}
	c.Targets = adapter.Names{List: m.LoraTarget}
	viewer, sees := j.source.model.(family.Viewer)
	if all := slices.Equal(m.LoraTarget, []string{"all"}); !all && !sees {
		return c, nil
	}
	modules, err := family.Modules(j.source.model)
	if err != nil {
		return nil, err
	}
	if sees { // whose vision tower has modules of the same names
		c.Targets.List, err = j.seeingTargets(viewer, modules)
		return c, err
	}
	c.Targets.List = adapter.Kinds(slices.DeleteFunc(modules, func(m nn.Module) bool { return m.Kind != nn.LinearModule && m.Kind != nn.ExpertModule }))
	return c, nil
}

// source is the base model's checkpoint with the adapters added that become part of it. The returned function closes
// those.
func (a *adapterPlan) source() (src weights.Source, shut func() error, err error) {
	src = a.j.source.files.Weights
	var files []*adapter.File
	shut = func() error {
		var err error
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return err
	}
	for _, dir := range a.merged {
		f, err := adapter.Open(dir, a.j.source.model)
		if err == nil {
			files = append(files, f)
			src, err = f.Merge(src)
		}
		if err != nil {
			return nil, nil, errors.Join(a.j.Errorf("adapter_name_or_path", "%v", err), shut())
		}
	}
	return src, shut, nil
}

// storage says how the frozen matrices are kept: quantized as the recipe asks, in bfloat16 where that changes no result,
// and in float32 otherwise.
func (a *adapterPlan) storage() (nn.Storage, error) {
	src, shut, err := a.source()
	if err != nil {
		return nil, err
	}
	modules, err := family.Modules(a.j.source.model)
	if err != nil {
		return nil, errors.Join(err, shut())
	}
	s := nn.Storage{}
	for _, m := range modules {
		for i := range m.Weight.Parts() {
			if name := m.Weight.PartName(i); !a.set.Config.Saves(m.Name(i)) {
				from, _, err := src.Describe(name)
				if err != nil {
					return nil, errors.Join(err, shut())
				}
				s[name] = a.kept(&m, from)
			}
		}
	}
	return s, shut()
}

// kept is the type in which a frozen matrix is kept that comes as from. Factors are rounded to the type in which they are
// multiplied anyway; an embedding's rows, and the lengths of rows that DoRA measures, are not.
func (a *adapterPlan) kept(m *nn.Module, from dtype.DType) dtype.DType {
	inner := m.Kind == nn.LinearModule || m.Kind == nn.ExpertModule
	if d, ok := a.j.quantized(m); ok {
		return d
	}
	if a.pissa() && inner { // what PiSSA leaves of a weight has more bits than the weight
		return dtype.F32
	}
	if from == dtype.BF16 || a.j.policy().Compute == dtype.BF16 && !a.set.Config.DoRA && (inner || m.Kind == nn.HeadModule) {
		return dtype.BF16
	}
	return dtype.F32
}

// fill loads the base and gives the adapter its first values.
func (a *adapterPlan) fill(m *trainee) error {
	src, shut, err := a.source()
	if err != nil {
		return err
	}
	bar := progress.New(a.j.Stderr, progress.Options{Label: locale.Text("loading", "加载"), Quiet: a.j.Output.Quiet, Chinese: locale.Chinese()})
	err = weights.Load(m.store, m.specs, src, weights.LoadOptions{Ignored: m.Info().Ignored, Optional: adapter.IsFactor, Progress: func(done, total int64) {
		bar.SetTotal(total)
		bar.Update(done)
	}})
	bar.Done()
	if err = errors.Join(err, shut()); err != nil {
		return err
	}
	if a.pissa() {
		a.start, err = a.set.InitPiSSA(m.store, a.j.Method.PissaIter, uint64(a.j.Optim.Seed))
		return err
	}
	if a.begin == "" {
		return a.set.Init(m.store, uint64(a.j.Optim.Seed))
	}
	f, err := adapter.Open(a.begin, m.Model)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Load(m.store)
}

// rates gives B of an adapter its own learning rate (LoRA+, arXiv:2402.12354), and B of an embedding's a fixed one.
func (r *Recipe) rates(o optim.Optimizer) optim.Optimizer {
	m := &r.Method
	if m.LoraPlusRatio == nil {
		return o
	}
	return optim.Groups{Optimizer: o, Factor: func(s *graph.StateSpec) float64 {
		switch {
		case strings.HasSuffix(s.Label, ".lora_embedding_B"):
			return m.LoraPlusEmbed / r.Optim.LearningRate
		case strings.HasSuffix(s.Label, ".lora_B.weight") || len(s.PartType().Shape) == 1:
			return *m.LoraPlusRatio
		}
		return 1
	}}
}
