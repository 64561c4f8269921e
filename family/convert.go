package family

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"danlu/dtype"
	"danlu/format/gguf"
	"danlu/hub"
	"danlu/tokenizer"
	"danlu/weights"
)

// The formats that models are written in.
const (
	FormatSafetensors = "safetensors"
	FormatGGUF        = "gguf"
	FormatMMProj      = "mmproj" // a vision tower in a GGUF of its own, as llama.cpp's programs read it
)

// ConvertOptions says how a model is written in another format.
type ConvertOptions struct {
	Format string // FormatSafetensors or FormatGGUF; "": by the name of the destination
	// DType is the type of the weights; dtype.Invalid: as they are. Safetensors hold float32, bfloat16 and float16.
	DType dtype.DType
	// More is the type of the matrices that lose most by rounding, in a GGUF (weights.Mix); dtype.Invalid: DType.
	More dtype.DType
	// ShardBytes is the most that one file holds; 0: 5 GB for safetensors, one file for a GGUF.
	ShardBytes int64
	Progress   func(done, total int64)
	// Change, if set, says what is written in the place of the source's weights: with adapters added, for example.
	Change func(c *Checkpoint) (weights.Source, error)

	content weights.Source
}

// Conversion says what was written.
type Conversion struct {
	Format      string           `json:"format"`
	Files       []string         `json:"files"`
	Bytes       int64            `json:"bytes"`
	LeftOut     []string         `json:"left_out,omitempty"`    // tensors that the format has no place for
	Substituted map[string]int   `json:"substituted,omitempty"` // matrices whose rows do not fit the type, by what they are stored as
	License     string           `json:"license"`
	DTypes      map[string]int64 `json:"dtypes"`
}

// Convert writes the model src as dst: a folder of safetensors with everything beside them that the model brings, or a
// GGUF file. Nothing is left at dst when it fails.
func Convert(src, dst string, opts ConvertOptions) (*Conversion, error) {
	if opts.Format == "" {
		opts.Format = FormatSafetensors
		if strings.HasSuffix(dst, ".gguf") {
			opts.Format = FormatGGUF
		}
		if name := filepath.Base(dst); opts.Format == FormatGGUF && strings.HasPrefix(name, FormatMMProj) {
			opts.Format = FormatMMProj
		}
	}
	if err := opts.check(dst); err != nil {
		return nil, err
	}
	src = hub.Resolve(src)
	c, err := Open(src, notWeights...)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	specs, err := Params(c.Model)
	if err != nil {
		return nil, err
	}
	if err := weights.Check(specs, c.Weights, weights.LoadOptions{Ignored: c.Model.Info().Ignored}); err != nil {
		return nil, err
	}
	opts.content = c.Weights
	if opts.Change != nil {
		if opts.content, err = opts.Change(c); err != nil {
			return nil, err
		}
	}
	out := &Conversion{Format: opts.Format, DTypes: map[string]int64{}}
	write := out.safetensors
	switch opts.Format {
	case FormatGGUF:
		write = out.gguf
	case FormatMMProj:
		write = out.mmproj
	}
	if err := write(c, src, dst, opts); err != nil {
		return nil, err
	}
	if opts.Format == FormatMMProj {
		return out, nil // it has been measured: no model of its own
	}
	return out, out.measure(dst)
}

// check refuses what cannot be written.
func (o ConvertOptions) check(dst string) error {
	switch o.Format {
	case FormatGGUF, FormatMMProj:
		if !strings.HasSuffix(dst, ".gguf") {
			return fmt.Errorf("convert: %s: want a name that ends in .gguf", dst)
		}
		if o.Format == FormatMMProj && o.ShardBytes > 0 {
			return fmt.Errorf("convert: shard size: a vision tower is one file")
		}
	case FormatSafetensors:
		if strings.HasSuffix(dst, ".gguf") || strings.HasSuffix(dst, ".safetensors") {
			return fmt.Errorf("convert: %s: want the name of a folder for safetensors", dst)
		}
		if !slices.Contains([]dtype.DType{dtype.Invalid, dtype.F32, dtype.BF16, dtype.F16}, o.DType) {
			return fmt.Errorf("convert: type: safetensors hold f32, bf16 or f16, not %v; write a .gguf for it", o.DType)
		}
		if entries, err := os.ReadDir(dst); err == nil && len(entries) > 0 {
			return fmt.Errorf("convert: %s: is not empty; give a new folder", dst)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("convert: %w", err)
		}
	default:
		return fmt.Errorf("convert: format: want %s, %s or %s, got %q", FormatSafetensors, FormatGGUF, FormatMMProj, o.Format)
	}
	return nil
}

// gguf writes a GGUF file.
func (out *Conversion) gguf(c *Checkpoint, src, dst string, opts ConvertOptions) error {
	license := c.license(src)
	out.License = license.ID
	w := weights.GGUFOptions{DType: opts.DType, More: opts.More, Name: strings.TrimSuffix(filepath.Base(filepath.Clean(src)), ".gguf"), SplitBytes: opts.ShardBytes, Progress: opts.Progress,
		General: []gguf.KV{{Key: "general.license", Value: license.ID}}}
	tok, err := tokenizer.Load(cmp.Or(c.Vocabulary, c.beside(src)))
	switch {
	case err == nil:
		if w.Vocabulary, err = tok.GGUF(c.Model.Info().VocabSize); err != nil {
			return err
		}
	case !errors.Is(err, tokenizer.ErrNone):
		return err
	}
	report, err := weights.WriteGGUF(dst, opts.content, c.Config, w)
	if err != nil {
		return err
	}
	out.Files, out.LeftOut, out.Substituted = report.Files, report.LeftOut, map[string]int{}
	for d, n := range report.Substituted {
		out.Substituted[d.String()] = n
	}
	return nil
}

// mmproj writes the vision tower.
func (out *Conversion) mmproj(c *Checkpoint, src, dst string, opts ConvertOptions) error {
	m, ok := c.Model.(*Qwen25VL)
	if !ok {
		return fmt.Errorf("convert: %s: vision towers are written of Qwen2.5-VL only, got %s", src, c.Model.Info().Architecture)
	}
	p, err := m.eye(c.beside(src))
	if err != nil {
		return err
	}
	license := c.license(src)
	out.License, out.Files = license.ID, []string{dst}
	infos, err := weights.WriteMMProj(dst, opts.content, c.Config, weights.MMProjOptions{DType: opts.DType, Name: strings.TrimSuffix(filepath.Base(filepath.Clean(src)), ".gguf"),
		General: []gguf.KV{{Key: "general.license", Value: license.ID}}, Mean: p.Mean, Std: p.Std})
	for _, i := range infos {
		out.Bytes += i.Bytes()
		out.DTypes[i.DType.String()] += i.Bytes()
	}
	return err
}

// license is that of the open checkpoint.
func (c *Checkpoint) license(path string) License {
	id := ""
	if g, ok := c.Weights.(*weights.GGUF); ok {
		id, _ = g.File().Text("general.license")
	}
	return LicenseOf(path, id)
}

// beside is where a model's vocabulary lies: in its folder, or in its GGUF.
func (c *Checkpoint) beside(src string) string {
	if g, ok := c.Weights.(*weights.GGUF); ok {
		return g.Path()
	}
	if st, err := os.Stat(src); err == nil && !st.IsDir() {
		return filepath.Dir(src)
	}
	return src
}

// safetensors writes a model folder, beside dst first.
func (out *Conversion) safetensors(c *Checkpoint, src, dst string, opts ConvertOptions) error {
	dst = filepath.Clean(dst)
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dst), "."+filepath.Base(dst)+"-")
	if err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	if g, ok := c.Weights.(*weights.GGUF); ok {
		err = out.fromGGUF(c, g, src, tmp, opts)
	} else {
		err = out.fromFolder(c, src, tmp, opts)
	}
	if err == nil && c.Vocabulary != "" {
		err = replaceVocabulary(tmp, c.Vocabulary)
	}
	if err == nil {
		err = weights.Copy(tmp, opts.content, weights.CopyOptions{DType: opts.DType, ShardBytes: opts.ShardBytes, Progress: opts.Progress})
	}
	if err != nil {
		return err
	}
	if err := os.Remove(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("convert: %w", err)
	}
	if err := os.Rename(tmp, dst); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	return nil
}

// replaceVocabulary writes the tokenizer of another folder.
func replaceVocabulary(dir, from string) error {
	t, err := tokenizer.Load(from)
	if err != nil {
		return err
	}
	return t.Save(dir)
}

// fromFolder copies what a model folder holds besides its weights; config.json changes where the type does.
func (out *Conversion) fromFolder(c *Checkpoint, src, dir string, opts ConvertOptions) error {
	out.License = c.license(src).ID
	if err := copyBeside(c.beside(src), dir); err != nil {
		return err
	}
	config, d := c.Config, opts.DType
	if d == dtype.Invalid && weights.Stored(c.Weights) != c.Weights {
		d = dtype.F32 // packed matrices are written expanded
	}
	if d != dtype.Invalid {
		var err error
		if config, err = SavedConfig(config, map[string]any{"torch_dtype": torchName(d)}); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, configFile), config)
}

// fromGGUF writes what a GGUF's metadata hold as the files of a model folder.
func (out *Conversion) fromGGUF(c *Checkpoint, g *weights.GGUF, src, dir string, opts ConvertOptions) error {
	license := c.license(src)
	out.License = license.ID
	d := opts.DType
	if d == dtype.Invalid {
		d = dtype.F32
	}
	config, err := SavedConfig(c.Config, map[string]any{"torch_dtype": torchName(d)})
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, configFile), config); err != nil {
		return err
	}
	tok, err := tokenizer.Load(g.Path())
	if err == nil {
		err = tok.Save(dir)
	}
	if err != nil && !errors.Is(err, tokenizer.ErrNone) {
		return err
	}
	generation := map[string]any{}
	info := c.Model.Info()
	if info.BOS >= 0 {
		generation["bos_token_id"] = info.BOS
	}
	if len(info.EOS) > 0 {
		generation["eos_token_id"] = info.EOS
	}
	data, err := json.MarshalIndent(generation, "", "  ")
	if err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	if err := writeFile(filepath.Join(dir, "generation_config.json"), append(data, '\n')); err != nil {
		return err
	}
	card := fmt.Sprintf("---\nlicense: %s\n---\n# %s\n\nConverted from %s by danlu. %s: %s.\n", license.ID, filepath.Base(src), filepath.Base(src), license.Name, license.Commercial.Text())
	return writeFile(filepath.Join(dir, "README.md"), []byte(card))
}

// torchName is PyTorch's name of a type.
func torchName(d dtype.DType) string {
	return map[dtype.DType]string{dtype.F32: "float32", dtype.BF16: "bfloat16", dtype.F16: "float16"}[d]
}

// besides are the files of a model folder that go with its weights: configurations, vocabularies, templates, cards and
// licences, and code that other libraries load.
var besides = []string{"*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py", "LICENSE*", "MODEL_LICENSE*", "NOTICE*", "README*", "USE_POLICY*"}

// notBesides are files of those names that belong to the weights' old form, or to a run.
var notBesides = []string{configFile, "*.index.json", "trainer_state.json", "checksums.json", "adapter_config.json", "golden.json", "all_results.json", "train_results.json", "eval_results.json", "requirements.txt"}

// copyBeside copies the files that go with a model, and those in folders of the model that hold the config of a part
// (vision towers, further templates).
func copyBeside(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("convert: %w", err)
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return fmt.Errorf("convert: %w", err)
		}
		name := e.Name()
		if e.IsDir() {
			hidden := strings.HasPrefix(name, ".") && rel != "."
			if hidden || strings.HasPrefix(name, "checkpoint-") || strings.Count(rel, string(filepath.Separator)) > 1 {
				return fs.SkipDir
			}
			return nil
		}
		is := func(pattern string) bool { ok, _ := filepath.Match(pattern, name); return ok }
		top := filepath.Dir(rel) == "."
		if !slices.ContainsFunc(besides, is) || top && slices.ContainsFunc(notBesides, is) {
			return nil
		}
		st, err := os.Stat(path) // through the links of a cache
		if err != nil || !st.Mode().IsRegular() || st.Size() > maxBeside {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o755)
		}
		if err != nil {
			return fmt.Errorf("convert: %w", err)
		}
		return writeFile(filepath.Join(to, rel), data)
	})
}

// maxBeside bounds the files copied; the largest vocabularies are near 35 MB.
const maxBeside = 1 << 28

func writeFile(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	return nil
}

// measure opens what was written and adds up its tensors.
func (out *Conversion) measure(dst string) error {
	if len(out.Files) > 0 {
		dst = out.Files[0]
	} else {
		entries, err := os.ReadDir(dst)
		if err != nil {
			return fmt.Errorf("convert: %w", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".safetensors") {
				out.Files = append(out.Files, filepath.Join(dst, e.Name()))
			}
		}
	}
	src, err := weights.Open(dst, weights.OpenOptions{})
	if err != nil {
		return err
	}
	defer src.Close()
	in := Inspection{DTypes: out.DTypes}
	if err := in.add(src); err != nil {
		return err
	}
	out.Bytes = in.WeightBytes
	return nil
}
