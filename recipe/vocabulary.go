package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"slices"

	"go.yaml.in/yaml/v4"

	"danlu/family"
	"danlu/hub"
	"danlu/internal/locale"
	"danlu/nn"
	"danlu/tokenizer"
	"danlu/weights"
)

// vocabulary is what a recipe does to the model's vocabulary.
type vocabulary struct {
	rows  int                            // of the grown matrices
	from  func(row, old int) []int       // whose mean a new row becomes (weights.Resize)
	noise func(row int, value []float32) // nil: none
}

// rowsMultiple is what the number of rows is rounded up to, as in LLaMA-Factory.
const rowsMultiple = 64

func rowsFor(t *tokenizer.Tokenizer) int {
	return (t.VocabSize() + rowsMultiple - 1) / rowsMultiple * rowsMultiple
}

// extend adds the recipe's tokens to the tokenizer, and rows to the model where it has too few of them.
func (j *job) extend(t *tokenizer.Tokenizer, key string) error {
	m := &j.Model
	described, err := j.describedTokens()
	if err != nil {
		return err
	}
	special := slices.Concat(m.AddSpecialTokens, described.names)
	if j.Data.Objective == "infilling" && m.FromScratch {
		special = append(special, t.Blanks().Missing()...)
	}
	added := 0
	for _, list := range []struct {
		texts   []string
		special bool
	}{{m.AddTokens, false}, {special, true}} {
		n, err := t.Extend(list.texts, list.special)
		if err != nil {
			return j.Errorf("add_tokens", "%v", err)
		}
		added += n
	}
	if added > 0 {
		j.say(locale.Text("vocabulary: %d tokens added, %d in all", "词表：新增 %d 个 token，共 %d 个"), added, t.VocabSize())
	}
	rows := j.source.model.Info().VocabSize
	if t.VocabSize() <= rows {
		return nil
	}
	if added == 0 && !m.ResizeVocab {
		return j.Errorf(key, "the tokenizer has %d ids and the model %d rows for them; resize_vocab: true adds rows", t.VocabSize(), rows)
	}
	j.vocabulary = &vocabulary{rows: rowsFor(t)}
	if err := j.vocabulary.initialise(j, t, described); err != nil {
		return err
	}
	j.say(locale.Text("vocabulary: the model's %d rows become %d", "词表：模型的 %d 行扩充为 %d 行"), rows, j.vocabulary.rows)
	return j.grow(j.source)
}

// described are new special tokens with what they mean.
type described struct {
	names []string
	texts map[string]string
}

// describedTokens reads new_special_tokens_config: a mapping from tokens to descriptions.
func (j *job) describedTokens() (d described, err error) {
	path := j.Model.NewTokensConfig
	if path == "" {
		return d, nil
	}
	raw, err := os.ReadFile(path)
	if err == nil && len(raw) > maxRecipeBytes {
		err = fmt.Errorf("want at most %d bytes, got %d", maxRecipeBytes, len(raw))
	}
	if err == nil {
		err = yaml.Unmarshal(raw, &d.texts)
	}
	if err != nil {
		return d, j.Errorf("new_special_tokens_config", "%s: want a mapping from tokens to descriptions: %s", path, oneLine(err))
	}
	for name := range d.texts {
		d.names = append(d.names, name)
	}
	slices.Sort(d.names)
	if len(d.names) == 0 {
		return d, j.Errorf("new_special_tokens_config", "%s: holds no tokens", path)
	}
	return d, nil
}

// initialise says what new rows begin with (init_special_tokens).
func (v *vocabulary) initialise(j *job, t *tokenizer.Tokenizer, d described) error {
	v.from = func(int, int) []int { return nil } // the mean of all rows
	switch how := j.Model.InitTokens; how {
	case "subword_init":
		base, err := tokenizer.Open(hub.Resolve(j.source.path))
		if err != nil {
			return j.Errorf("init_special_tokens", "subword_init needs the model's own tokenizer: %v", err)
		}
		v.from = func(row, old int) []int {
			if row >= t.VocabSize() {
				return nil
			}
			return below(base.Spelling(t, int32(row)), old)
		}
	case "desc_init", "desc_init_w_noise":
		if len(d.names) == 0 {
			return j.Errorf("init_special_tokens", "%s needs new_special_tokens_config, which describes the tokens", how)
		}
		v.from = func(row, old int) []int {
			var ids []int
			for _, id := range t.Encode(d.texts[t.Piece(int32(row))], tokenizer.Options{}) {
				ids = append(ids, int(id))
			}
			return below(ids, old)
		}
	}
	if how := j.Model.InitTokens; how == "noise_init" || how == "desc_init_w_noise" {
		v.noise = func(row int, value []float32) {
			r := rand.New(rand.NewPCG(uint64(j.Optim.Seed), uint64(row)))
			for i := range value {
				value[i] += float32(r.NormFloat64() / math.Sqrt(float64(len(value))))
			}
		}
	}
	return nil
}

// below keeps the ids of rows that the old matrix has.
func below(ids []int, rows int) []int {
	return slices.DeleteFunc(ids, func(id int) bool { return id >= rows })
}

// grow gives a model the rows of the recipe's vocabulary.
func (j *job) grow(s *source) error {
	old := s.model
	var err error
	if s.model, s.config, err = j.vocabulary.shape(s.path, old, s.config); err != nil {
		return j.Errorf("resize_vocab", "%v", err)
	}
	if s.files != nil {
		s.files.Weights, err = j.vocabulary.weights(old, s.files.Weights)
	}
	return err
}

// shape is a model with the vocabulary's rows.
func (v *vocabulary) shape(path string, m family.Model, config []byte) (family.Model, []byte, error) {
	sizes := map[string]any{"vocab_size": v.rows}
	if bytes.Contains(config, []byte(`"padded_vocab_size"`)) {
		sizes["padded_vocab_size"] = v.rows
	}
	config, err := changedConfig(config, sizes)
	if err != nil {
		return nil, nil, err
	}
	grown, _, err := family.Parse(path, config)
	if err == nil && grown.Info().VocabSize != v.rows {
		err = fmt.Errorf("the vocabulary of the %s family does not grow", m.Info().Family)
	}
	return grown, config, err
}

// weights is the checkpoint of a model with the vocabulary's rows.
func (v *vocabulary) weights(m family.Model, src weights.Source) (weights.Source, error) {
	names, err := vocabularyNames(m)
	if err != nil {
		return nil, err
	}
	old := m.Info().VocabSize
	return weights.Grown(src, names, weights.Resize{Old: old, New: v.rows, Change: v.noise, From: func(row int) []int {
		if row < old || v.from == nil {
			return []int{min(row, old-1)}
		}
		return v.from(row, old)
	}})
}

// GrownFor gives a checkpoint the rows of an adapter in the folder dir whose vocabulary has outgrown it, and notes that
// vocabulary; others stay as they are. src is the checkpoint's weights, what was added to them included. What the new
// rows hold is the adapter's affair.
func GrownFor(c *family.Checkpoint, src weights.Source, dir string) (weights.Source, error) {
	t, err := tokenizer.Load(dir)
	if errors.Is(err, tokenizer.ErrNone) || errors.Is(err, fs.ErrNotExist) {
		return src, nil
	}
	if err != nil {
		return nil, err
	}
	if t.VocabSize() <= c.Model.Info().VocabSize {
		return src, nil
	}
	v := &vocabulary{rows: rowsFor(t)}
	if src, err = v.weights(c.Model, src); err != nil {
		return nil, err
	}
	c.Model, c.Config, err = v.shape(dir, c.Model, c.Config)
	c.Vocabulary = dir
	return src, err
}

// vocabularyNames are the names of a model's matrices with a row for each token.
func vocabularyNames(m family.Model) ([]string, error) {
	modules, err := family.Modules(m)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, x := range modules {
		if name := x.Weight.PartName(0); (x.Kind == nn.EmbeddingModule || x.Kind == nn.HeadModule) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}
