package recipe

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"danlu/adapter"
	"danlu/data"
	"danlu/family"
	"danlu/graph"
	"danlu/tensor"
	"danlu/train"
	"danlu/weights"
)

// second is a model that is only read beside the one in training: a reference, a reward model, a teacher, or the one
// in training as it was before or is now.
type second struct {
	train.Forward
	job    *job
	source *source // where its weights come from; nil: the trained model's store
	// adapters are folders of adapters that are added to the weights, and headDir is where value_head.safetensors lies.
	adapters []string
	head     *train.ScalarHead // nil: none
	headDir  string
	states   []*graph.StateSpec
	filled   func() error // called when it has its weights; nil: nothing
	rowwise  bool         // batches are read row by row
}

// reader reads batches with the model in training.
func (j *job) reader(m *trainee, reading train.Reading) *second {
	return &second{Forward: train.Forward{Engine: j.engine, Store: m.store, Model: m.Model, Policy: m.policy, Reading: reading, Prepare: m.prepare}, job: j}
}

// second opens the model that a key names, in a store of its own, to be filled when it is known that it fits.
func (j *job) second(key, path string, scratch bool, reading func(*source) train.Reading) (*second, error) {
	src, err := j.openModel(key, path, scratch)
	if err == nil && key == "model_name_or_path" {
		err = j.reshaped(src)
	}
	if err == nil && !sameRows(src.model, j.source.model) {
		err = j.Errorf(key, "the %s family numbers and masks texts in another way than %s, with whose rows it is given", src.model.Info().Family, j.source.model.Info().Family)
	}
	if err != nil {
		return nil, err
	}
	s := &second{job: j, source: src, Forward: train.Forward{Engine: j.engine, Store: j.engine.NewStore(), Model: src.model, Policy: j.policy(), Reading: reading(src)}}
	if s.states, err = s.States(); err == nil {
		for _, spec := range s.states {
			err = errors.Join(err, s.Store.Declare(spec))
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// reference is the model that the trained one is compared with: ref_model, else the model as it was at the start.
func (j *job) reference(m *trainee) (*second, error) {
	if j.Method.RefModel == "" && m.base != nil {
		s := j.reader(m, train.LogProbs)
		s.Prepare = m.base
		return s, nil
	}
	logProbs := func(*source) train.Reading { return train.LogProbs }
	if j.Method.RefModel != "" {
		s, err := j.second("ref_model", j.Method.RefModel, false, logProbs)
		if err == nil && j.Method.RefAdapters != "" {
			s.adapters = []string{j.Method.RefAdapters}
		}
		return s, err
	}
	s, err := j.second("model_name_or_path", j.Model.Path, j.Model.FromScratch, logProbs)
	if err == nil {
		for _, dir := range j.Model.Adapters {
			s.adapters = append(s.adapters, filepath.Join(j.Model.AdapterFolder, dir))
		}
	}
	return s, err
}

// fill gives a second model its weights.
func (s *second) fill() error {
	if s.source != nil {
		if err := s.load(); err != nil {
			return err
		}
	}
	if s.filled == nil {
		return nil
	}
	return s.filled()
}

func (s *second) load() error {
	if s.source.files == nil {
		return weights.Init(s.Store, s.states, uint64(s.job.Optim.Seed))
	}
	src := s.source.files.Weights
	for _, dir := range s.adapters {
		f, err := adapter.Open(dir, s.source.model)
		if err != nil {
			return err
		}
		defer f.Close()
		if src, err = f.Merge(src); err != nil {
			return err
		}
	}
	opts := weights.LoadOptions{Ignored: append([]string{"lm_head.weight"}, s.source.model.Info().Ignored...)}
	if s.head == nil {
		return weights.Load(s.Store, s.states, src, opts)
	}
	opts.Optional = func(name string) bool { return name == s.head.Weight || name == s.head.Bias }
	if err := weights.Load(s.Store, s.states, src, opts); err != nil {
		return err
	}
	return s.head.Load(filepath.Join(s.headDir, train.HeadFile), s.Store)
}

// close frees the programs and, unless the model is the one in training, its store.
func (s *second) close() error {
	err := s.Close()
	if s.source != nil {
		err = errors.Join(err, s.Store.Close(), s.source.close())
	}
	return err
}

// bytes is what a second model takes besides its programs.
func (s *second) bytes() int64 {
	if s.source == nil {
		return 0
	}
	return s.Store.Bytes()
}

// logps are the log-probabilities of a batch's targets [B, T] that the model gives.
func (s *second) logps(ctx context.Context, x *data.Batch) ([]float32, error) {
	out, err := s.Run(ctx, x)
	if err != nil {
		return nil, err
	}
	return slices.Clone(out["logp"].F32()), nil
}

// rowLogps are the log-probabilities of whole rows [B].
func (s *second) rowLogps(ctx context.Context, x *data.Batch) ([]float32, error) {
	out, err := s.Run(ctx, x)
	if err != nil {
		return nil, err
	}
	sums, all := make([]float32, x.B), out["logp"].F32()
	for i := range sums {
		sum := 0.0
		for _, v := range all[i*x.T : (i+1)*x.T] {
			sum += float64(v)
		}
		sums[i] = float32(sum)
	}
	return sums, nil
}

// vectorOf is a float32 input [len(x)].
func vectorOf(x []float32) *tensor.Tensor { return tensor.FromF32(x, len(x)) }

// number is a float32 input without axes.
func number(x float64) *tensor.Tensor {
	return tensor.FromF32([]float32{float32(x)})
}

// sameRows reports whether rows that are laid out for one model can be read by the other.
func sameRows(a, b family.Model) bool {
	return a.Info().PositionRows == b.Info().PositionRows && family.Prefixed(a) == family.Prefixed(b)
}
