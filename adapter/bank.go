package adapter

import (
	"errors"
	"fmt"
	"slices"

	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/graph"
	"danlu/nn"
	"danlu/tensor"
)

// Bank is several adapters of one model, of which each text takes one or none. Their factors lie beside each other, so
// that one product serves all texts of a batch: with A = [A1; A2; ...] and B = [B1, B2, ...] a token's update is
// B·(m ∘ (A·x)), where m holds the scale of its adapter in that adapter's rows and zeros elsewhere.
type Bank struct {
	files   []*File
	modules []banked
}

// banked is a module with the width of each adapter's factors in it.
type banked struct {
	nn.Module
	widths []int
	rank   int // their sum
}

// NewBank puts adapters of one model beside each other. Those that change more than linear layers, or more than adding
// to them, cannot be.
func NewBank(files ...*File) (*Bank, error) {
	b := &Bank{files: files}
	for k, f := range files {
		if err := f.Set.plain(); err != nil {
			return nil, fmt.Errorf("adapter: %s: %w; merge it into the model instead", f.file.Path(), err)
		}
		for _, t := range f.Set.Targets {
			i := slices.IndexFunc(b.modules, func(m banked) bool { return m.Weight.Key() == t.Weight.Key() })
			if i < 0 {
				i = len(b.modules)
				b.modules = append(b.modules, banked{Module: t.Module, widths: make([]int, len(files))})
			}
			b.modules[i].widths[k] = t.Rank
			b.modules[i].rank += t.Rank
		}
	}
	return b, nil
}

// plain refuses adapters that a bank cannot hold.
func (s *Set) plain() error {
	if len(s.Config.Saved) > 0 {
		return fmt.Errorf("modules_to_save: %v are stored as a whole", s.Config.Saved)
	}
	for _, t := range s.Targets {
		switch {
		case t.DoRA:
			return errors.New("use_dora: lengths of weights belong to all texts")
		case t.Kind != nn.LinearModule:
			return fmt.Errorf("target_modules: %s is no linear layer", t.Name(0))
		}
	}
	return nil
}

// Len is the number of adapters.
func (b *Bank) Len() int { return len(b.files) }

// Prepare puts the bank into a build whose tokens take none of it, until the build's Choice says otherwise.
func (b *Bank) Prepare(build *nn.Build) {
	a := &nn.Adapters{Of: map[string]nn.Adapter{}}
	for _, m := range b.modules {
		for i := range m.Weight.Parts() {
			x := nn.Adapter{Kind: m.Kind, Rank: m.rank, Members: make([]nn.Member, b.Len())}
			for k, f := range b.files {
				x.Members[k] = nn.Member{Rank: m.widths[k]}
				if p, ok := f.Set.of[m.Weight.PartName(i)]; ok {
					x.Members[k].Scale = f.Set.Targets[p.target].Scales[p.part]
				}
			}
			a.Of[m.Weight.PartName(i)] = x
		}
	}
	if build.IDs != nil {
		a.Choice = build.G.Const(tensor.New(dtype.F32, append(slices.Clone(build.IDs.Shape), b.Len())...))
	}
	build.Adapters = a
}

// Declare adds the bank's factors to a store of the model, whose weights are kept as storage says.
func (b *Bank) Declare(store engine.Store, m family.Model, storage nn.Storage) error {
	specs, err := family.Params(m, func(build *nn.Build) { build.Storage = storage; b.Prepare(build) })
	if err != nil {
		return err
	}
	for _, s := range specs {
		if s.Role == graph.Param && IsFactor(s.Label) {
			if err := store.Declare(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// Load fills the factors in a store that has declared them.
func (b *Bank) Load(store engine.Store) error {
	for _, m := range b.modules {
		for i := range m.Weight.Parts() {
			low, up, err := b.factors(m, i)
			if err == nil {
				err = errors.Join(store.Set(m.Name(i)+".lora_A.weight", low), store.Set(m.Name(i)+".lora_B.weight", up))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// factors are A [R, In] and B [Out, R] of a module's part.
func (b *Bank) factors(m banked, part int) (low, up *tensor.Tensor, err error) {
	low, up = tensor.New(dtype.F32, m.rank, m.In), tensor.New(dtype.F32, m.Out, m.rank)
	at := 0
	for k, f := range b.files {
		p, ok := f.Set.of[m.Weight.PartName(part)]
		if ok {
			own := f.Set.Targets[p.target].factors(p.part)
			a, err := f.read(own[0])
			if err != nil {
				return nil, nil, err
			}
			c, err := f.read(own[1])
			if err != nil {
				return nil, nil, err
			}
			copy(low.F32()[at*m.In:], a.F32())
			for row := range m.Out {
				copy(up.F32()[row*m.rank+at:], c.F32()[row*m.widths[k]:(row+1)*m.widths[k]])
			}
		}
		at += m.widths[k]
	}
	return low, up, nil
}
