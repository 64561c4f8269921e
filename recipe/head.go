package recipe

import (
	"os"
	"path/filepath"
	"slices"

	"danlu/graph"
	"danlu/train"
	"danlu/weights"
)

// addHead gives the model in training a scalar head: the one beside its files or its adapter's, else one drawn from the seed. It is
// saved beside the model's files too.
func (j *job) addHead(m *trainee, head train.ScalarHead) error {
	size := m.Info().HiddenSize
	specs := head.Specs(size)
	for _, s := range specs {
		if err := m.store.Declare(s); err != nil {
			return err
		}
		m.bytes += int64(s.Type.Bytes())
	}
	fill, save, load, trainable := m.fill, m.save, m.load, m.trainable
	m.fill = func() error {
		if err := fill(); err != nil {
			return err
		}
		dirs := []string{j.source.path}
		for _, dir := range j.Model.Adapters {
			dirs = append(dirs, filepath.Join(j.Model.AdapterFolder, dir))
		}
		for _, dir := range slices.Backward(dirs) {
			path := filepath.Join(dir, train.HeadFile)
			if _, err := os.Stat(path); err == nil && j.source.files != nil {
				return head.Load(path, m.store)
			}
		}
		return weights.Init(m.store, specs, uint64(j.Optim.Seed))
	}
	m.save = func(dir string) error {
		if err := save(dir); err != nil {
			return err
		}
		return head.Save(filepath.Join(dir, train.HeadFile), m.store, size)
	}
	m.load = func(dir string) error {
		if err := load(dir); err != nil {
			return err
		}
		return head.Load(filepath.Join(dir, train.HeadFile), m.store)
	}
	if trainable != nil {
		m.trainable = func(s *graph.StateSpec) bool {
			return s.Label == head.Weight || s.Label == head.Bias || trainable(s)
		}
	}
	return nil
}
