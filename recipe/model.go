package recipe

import (
	"encoding/json"

	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/nn"
	"danlu/tokenizer"
	"danlu/weights"
)

// trainee is the model that is trained, with what the method does to it.
type trainee struct {
	family.Model
	store  engine.Store
	specs  []*graph.StateSpec // what model files hold
	policy nn.Policy

	// prepare says what every build of the model is to have: adapters, storage of weights; nil: nothing.
	prepare func(b *nn.Build)
	// base is prepare for the model as it was before the training, where that is still in the store, without the adapter
	// that is trained; nil: the weights themselves are trained.
	base func(b *nn.Build)
	// trainable reports whether a parameter is trained; nil: all are.
	trainable func(*graph.StateSpec) bool
	// fill gives the parameters their values before the first step.
	fill func() error
	// save writes the files of a model folder that can be loaded, load reads them back.
	save, load func(dir string) error
	// rounded reports whether save keeps fewer bits of a parameter than are trained; nil: of none.
	rounded func(*graph.StateSpec) bool
	// bytes is the size of what save writes.
	bytes int64
}

// method is what a finetuning_type does to the model; it declares the parameters in a new store.
type method func(j *job, t *tokenizer.Tokenizer) (*trainee, error)

// methods are what `finetuning_type:` may name.
var methods = map[string]method{}

// model declares the model's parameters, to be filled when it is known that they fit.
func (j *job) model(t *tokenizer.Tokenizer) (*trainee, error) {
	return methods[j.Method.FinetuningType](j, t)
}

// policy is the precision that the recipe asks for.
func (j *job) policy() nn.Policy {
	if j.BFloat16() {
		return nn.BFloat16
	}
	return nn.Float32
}

// newTrainee declares the model of the source in a store of its own, all of it trained.
// prepare, which may be nil, is the trainee's.
func (j *job) newTrainee(t *tokenizer.Tokenizer, prepare func(b *nn.Build)) (*trainee, error) {
	m := &trainee{Model: j.source.model, store: j.engine.NewStore(), policy: j.policy(), prepare: prepare}
	var all []func(b *nn.Build)
	if prepare != nil {
		all = append(all, prepare)
	}
	var err error
	if m.specs, err = family.Params(m.Model, all...); err != nil {
		return nil, err
	}
	for _, s := range m.specs {
		if err := m.store.Declare(s); err != nil {
			return nil, err
		}
	}
	stored, err := j.storedAs()
	if err != nil {
		return nil, err
	}
	m.fill = func() error { return j.fill(m.store, m.specs, j.source) }
	saved := weights.SaveOptions{DType: stored}
	kind := stored(largest(m.specs))
	m.bytes = weights.SavedBytes(m.specs, saved)
	m.rounded = func(s *graph.StateSpec) bool {
		for i := range s.Parts() {
			if stored(s.PartName(i)) != dtype.F32 {
				return true
			}
		}
		return false
	}
	m.save = func(dir string) error {
		if err := weights.Save(dir, m.store, m.specs, saved); err != nil {
			return err
		}
		return j.writeFolder(dir, t, kind)
	}
	m.load = func(dir string) error {
		src, err := weights.Open(dir, weights.OpenOptions{Skip: notModels})
		if err != nil {
			return err
		}
		defer src.Close()
		return weights.Load(m.store, m.specs, src, weights.LoadOptions{Ignored: m.Info().Ignored})
	}
	return m, nil
}

// fill gives the states their values: of the source's files, or drawn from the seed.
func (j *job) fill(store engine.Store, specs []*graph.StateSpec, s *source) error {
	if s.files == nil {
		return weights.Init(store, specs, uint64(j.Optim.Seed))
	}
	bar := progress.New(j.Stderr, progress.Options{Label: locale.Text("loading", "加载"), Quiet: j.Output.Quiet, Chinese: locale.Chinese()})
	defer bar.Done()
	return weights.Load(store, specs, s.files.Weights, weights.LoadOptions{Ignored: s.model.Info().Ignored, Progress: func(done, total int64) {
		bar.SetTotal(total)
		bar.Update(done)
	}})
}

// storedAs says in which type the model is saved: as it came. What came without weights or in blocks of codes is saved
// as its config says, and in float32 where that says nothing.
func (j *job) storedAs() (func(name string) dtype.DType, error) {
	other := configDType(j.source.config)
	if j.source.files == nil {
		return func(string) dtype.DType { return other }, nil
	}
	return weights.StoredAs(j.source.files.Weights, other)
}

// full trains everything, or the parts of a model that sees that are not frozen.
func full(j *job, t *tokenizer.Tokenizer) (*trainee, error) {
	m, err := j.newTrainee(t, nil)
	if err == nil {
		m.trainable = j.trainsPart()
	}
	return m, err
}

func init() { methods["full"] = full }

// configDType is the type that a config.json names, float32 when it names none.
func configDType(config []byte) dtype.DType {
	var c struct {
		Torch string `json:"torch_dtype"`
		DType string `json:"dtype"`
	}
	if json.Unmarshal(config, &c) != nil {
		return dtype.F32
	}
	for _, name := range []string{c.Torch, c.DType} {
		for d, n := range configNames {
			if n == name {
				return d
			}
		}
	}
	return dtype.F32
}

// configNames are the names of types in config.json.
var configNames = map[dtype.DType]string{dtype.F32: "float32", dtype.BF16: "bfloat16", dtype.F16: "float16"}

// largest is the name of the largest tensor among specs, which stands for the type of a model.
func largest(specs []*graph.StateSpec) string {
	name, most := "", -1
	for _, s := range specs {
		if n := s.PartType().Len(); n > most {
			name, most = s.PartName(0), n
		}
	}
	return name
}
