package adapter

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"danlu/family"
	"danlu/nn"
)

// tiedHead is the module that holds the output matrix. Where a model's head is its embedding, adapters that train it as a
// whole hold it under both modules, since PEFT keeps a copy for each.
const tiedHead = "lm_head"

// embedding is the module of a model's embedding.
func embedding(m family.Model) (string, error) {
	modules, err := family.Modules(m)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(modules, func(x nn.Module) bool { return x.Kind == nn.EmbeddingModule })
	if i < 0 {
		return "", fmt.Errorf("adapter: the %s model has no embedding", m.Info().Family)
	}
	return modules[i].Name(0), nil
}

// TieHead adds the head to the modules that are stored as a whole where the model's embedding, which is its head too, is
// one of them under the name that transformers give it.
func (c *Config) TieHead(m family.Model) error {
	if !m.Info().TiedHead || slices.Contains(c.Saved, tiedHead) {
		return nil
	}
	name, err := embedding(m)
	if err == nil && c.Saves(name) && strings.HasSuffix(name, "embed_tokens") {
		c.Saved = append(slices.Clone(c.Saved), tiedHead)
	}
	return err
}

// findTwin says which parameter files hold a second time, as the head's.
func (s *Set) findTwin() error {
	if !s.Model.Info().TiedHead || !slices.Contains(s.Config.Saved, tiedHead) {
		return nil
	}
	name, err := embedding(s.Model)
	if err != nil {
		return err
	}
	if !s.Config.Saves(name) {
		return fmt.Errorf("adapter: modules_to_save: %s: the model's head is its embedding; want %s too", tiedHead, last(name))
	}
	s.twin = name + ".weight"
	return nil
}

// twinName is the file's tensor of a parameter that stands there twice.
const twinName = filePrefix + tiedHead + ".weight"

// checkTwin makes sure that the head of a file is its embedding.
func (f *File) checkTwin() error {
	head, err := f.file.Tensor(twinName)
	if err != nil {
		return err
	}
	table, err := f.file.Tensor(filePrefix + f.Set.twin)
	if err != nil {
		return err
	}
	return f.file.Guard(func() error {
		if head.DType != table.DType || !slices.Equal(head.Shape, table.Shape) || !bytes.Equal(head.Data, table.Data) {
			return fmt.Errorf("tensor %q: was trained apart from the embedding, which is the model's head; merge it where both can stand", twinName)
		}
		return nil
	})
}
