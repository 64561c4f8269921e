package adapter

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/format/safetensors"
	"danlu/kernel"
	"danlu/nn"
	"danlu/tensor"
)

// filePrefix is what PEFT puts before the names of the model's modules.
const filePrefix = "base_model.model."

// factor is one tensor of an adapter: its name in the store and behind filePrefix in files, its shape there, and the
// axis along which the store's is padded with zeros to the largest rank (-1: none).
type factor struct {
	name   string
	shape  []int
	padded int
	full   int // the store's size along that axis
}

// factors lists the tensors of part i of a target.
func (t *Target) factors(i int) []factor {
	name, r := t.Name(i), t.Ranks[i]
	if r == 0 {
		return nil
	}
	if t.Kind == nn.EmbeddingModule { // a table [V, D] maps V to D
		return []factor{{name + ".lora_embedding_A", []int{r, t.Out}, 0, t.Rank}, {name + ".lora_embedding_B", []int{t.In, r}, 1, t.Rank}}
	}
	list := []factor{{name + ".lora_A.weight", []int{r, t.In}, 0, t.Rank}, {name + ".lora_B.weight", []int{t.Out, r}, 1, t.Rank}}
	if t.DoRA {
		list = append(list, factor{name + ".lora_magnitude_vector", []int{t.Out}, -1, 0})
	}
	return list
}

// all lists the factors of the set.
func (s *Set) all() []factor {
	var list []factor
	for i := range s.Targets {
		for k := range s.Targets[i].Ranks {
			list = append(list, s.Targets[i].factors(k)...)
		}
	}
	return list
}

// stored is the shape in the store.
func (f *factor) stored() []int {
	shape := slices.Clone(f.shape)
	if f.padded >= 0 {
		shape[f.padded] = f.full
	}
	return shape
}

// pad copies a tensor of the file's shape into the store's, or back where out is smaller.
func (f *factor) pad(out, in *tensor.Tensor) {
	if f.padded < 0 {
		copy(out.F32(), in.F32())
		return
	}
	n, m := min(out.Shape[0], in.Shape[0]), min(out.Shape[1], in.Shape[1])
	for i := range n {
		copy(out.F32()[i*out.Shape[1]:i*out.Shape[1]+m], in.F32()[i*in.Shape[1]:])
	}
}

// float32s is a tensor's values in float32.
func float32s(t *tensor.Tensor) (*tensor.Tensor, error) {
	out := tensor.New(dtype.F32, t.Shape...)
	switch t.DType {
	case dtype.F32:
		copy(out.Data, t.Data)
	case dtype.BF16:
		kernel.BF16ToF32(out.F32(), t.U16())
	case dtype.F16:
		kernel.F16ToF32(out.F32(), t.U16())
	default:
		return nil, fmt.Errorf("want float32, bfloat16 or float16, got %v", t)
	}
	return out, nil
}

// File is an adapter's tensors, open for reading.
type File struct {
	Set  *Set
	file *safetensors.File
}

// Open opens the adapter in a folder for a model.
func Open(dir string, m family.Model) (*File, error) {
	c, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	s, err := Resolve(c, m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return s.OpenFile(filepath.Join(dir, WeightsFile))
}

// OpenFile opens a file of the set's tensors; each must be there in its shape, and nothing else.
func (s *Set) OpenFile(path string) (*File, error) {
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	f := &File{Set: s, file: file}
	if err := f.check(); err != nil {
		file.Close()
		return nil, fmt.Errorf("adapter: %s: %w", path, err)
	}
	return f, nil
}

func (f *File) check() error {
	have := map[string]bool{}
	for _, n := range f.file.Names() {
		have[n] = true
	}
	for _, x := range f.Set.all() {
		t, err := f.file.Tensor(filePrefix + x.name)
		if err != nil {
			return err
		}
		if !slices.Equal(t.Shape, x.shape) {
			return fmt.Errorf("tensor %q: want shape %v, got %v", filePrefix+x.name, x.shape, t.Shape)
		}
		delete(have, filePrefix+x.name)
	}
	specs, err := family.Params(f.Set.Model)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		for i := range spec.Parts() {
			name := f.replaced(spec.PartName(i))
			if name == "" {
				continue
			}
			t, err := f.file.Tensor(name)
			if err != nil {
				return err
			}
			if !slices.Equal(t.Shape, spec.PartType().Shape) {
				return fmt.Errorf("tensor %q: want shape %v, got %v", name, spec.PartType().Shape, t.Shape)
			}
			delete(have, name)
		}
	}
	if f.Set.twin != "" && have[twinName] {
		if err := f.checkTwin(); err != nil {
			return err
		}
		delete(have, twinName)
	}
	if len(have) > 0 {
		var names []string
		for n := range have {
			names = append(names, n)
		}
		sort.Strings(names)
		return fmt.Errorf("%d tensors belong to no part of the adapter: %s", len(names), strings.Join(names[:min(5, len(names))], ", "))
	}
	return nil
}

// replaced is the file's tensor that takes the place of a parameter of the model, "" where there is none: of a module
// that was trained as a whole, or an embedding under an adapter that PEFT stored with it.
func (f *File) replaced(param string) string {
	if f.Set.Config.Saves(moduleOf(param)) {
		return filePrefix + param
	}
	if p, ok := f.Set.of[param]; ok && f.Set.Targets[p.target].Kind == nn.EmbeddingModule {
		name := filePrefix + moduleOf(param) + ".base_layer.weight"
		if slices.Contains(f.file.Names(), name) {
			return name
		}
	}
	return ""
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// read is a factor in the store's shape.
func (f *File) read(x factor) (out *tensor.Tensor, err error) {
	err = f.file.Guard(func() error {
		t, err := f.file.Tensor(filePrefix + x.name)
		if err != nil {
			return err
		}
		if t, err = float32s(t); err != nil {
			return fmt.Errorf("adapter: tensor %q: %w", filePrefix+x.name, err)
		}
		out = tensor.New(dtype.F32, x.stored()...)
		x.pad(out, t)
		return nil
	})
	return out, err
}

// Load puts the factors into a store that has declared them, and the modules that were trained as a whole.
func (f *File) Load(store engine.Store) error {
	for _, x := range f.Set.all() {
		t, err := f.read(x)
		if err == nil {
			err = store.Set(x.name, t)
		}
		if err != nil {
			return err
		}
	}
	return f.Set.eachSaved(func(name string) error {
		t, err := f.file.Tensor(filePrefix + name)
		if err == nil {
			err = f.file.Guard(func() error { return store.Set(name, t) })
		}
		return err
	})
}

// eachSaved calls do for every parameter of the modules that are stored as a whole.
func (s *Set) eachSaved(do func(name string) error) error {
	specs, err := family.Params(s.Model)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		for i := range spec.Parts() {
			if name := spec.PartName(i); s.Config.Saves(moduleOf(name)) {
				if err := do(name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Save writes adapter_config.json and adapter_model.safetensors into dir, in float32.
func (s *Set) Save(dir string, store engine.Store) error {
	if err := s.Config.Write(dir); err != nil {
		return err
	}
	return s.SaveFile(filepath.Join(dir, WeightsFile), store)
}

// SaveFile writes the set's tensors.
func (s *Set) SaveFile(path string, store engine.Store) error {
	var infos []safetensors.Info
	from := map[string]factor{}
	add := func(f factor) {
		infos = append(infos, safetensors.Info{Name: filePrefix + f.name, DType: dtype.F32, Shape: f.shape})
		from[filePrefix+f.name] = f
	}
	for _, f := range s.all() {
		add(f)
	}
	specs, err := family.Params(s.Model)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		for i := range spec.Parts() {
			if name := spec.PartName(i); s.Config.Saves(moduleOf(name)) {
				add(factor{name: name, shape: spec.PartType().Shape, padded: -1})
			}
			if name := spec.PartName(i); name == s.twin {
				infos = append(infos, safetensors.Info{Name: twinName, DType: dtype.F32, Shape: spec.PartType().Shape})
				from[twinName] = factor{name: name, shape: spec.PartType().Shape, padded: -1}
			}
		}
	}
	sort.Slice(infos, func(i, j int) bool { return infos[i].Name < infos[j].Name })
	return safetensors.Write(path, infos, map[string]string{"format": "pt"}, func(i safetensors.Info) (*tensor.Tensor, error) {
		f := from[i.Name]
		t, err := store.Get(f.name)
		if err != nil {
			return nil, err
		}
		if t, err = float32s(t); err != nil || f.padded < 0 {
			return t, err
		}
		out := tensor.New(dtype.F32, f.shape...)
		f.pad(out, t)
		return out, nil
	})
}
