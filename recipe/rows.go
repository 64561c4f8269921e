package recipe

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"danlu/data"
	"danlu/family"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/tokenizer"
	"danlu/train"
)

// rows are the encoded datasets of a run.
type rows struct {
	tokenizer  *tokenizer.Tokenizer
	stores     []*data.Store
	set        *data.Set
	loader     *data.Loader
	validation []train.Validation
	decode     func(ids []int32) string
	prefix     bool // rows have a prefix that sees itself both ways
	drawn      bool // what is scored is drawn row by row
}

func (r *rows) close() {
	for _, s := range r.stores {
		s.Close()
	}
}

func presetOnly(path string) ([]byte, bool) {
	if _, err := os.Stat(path); err == nil {
		return nil, false
	}
	return family.PresetConfig(path)
}

// rows reads, converts, encodes and mixes the datasets.
func (j *job) rows(ctx context.Context, t *tokenizer.Tokenizer, encoder data.Encoder) (_ *rows, err error) {
	r := &rows{tokenizer: t, decode: func(ids []int32) string { return t.Decode(ids, false) }}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	store, attrs, err := j.build(ctx, t, encoder, j.Recipe, false)
	if err != nil {
		return nil, err
	}
	r.stores = append(r.stores, store)
	mix, err := j.mixOf(store, attrs)
	if err != nil {
		return nil, err
	}
	set, held, err := data.Mix(store, mix)
	if err != nil {
		return nil, err
	}
	r.set = set
	if len(set.Mix) > 1 {
		for _, share := range set.Mix {
			j.say("%s", share)
		}
	}
	pad := padding(t)
	opt := j.laidOut(j.LoaderOptions(pad, 0, 1))
	r.prefix, r.drawn = opt.Number != nil, opt.Infill != nil
	if r.loader, err = data.NewLoader(set, opt); err != nil {
		return nil, err
	}
	if j.preview != nil {
		return nil, j.preview(r)
	}
	if held != nil {
		r.validation = append(r.validation, j.validation("", held, pad))
	}
	if !j.Evaluates() {
		return r, nil
	}
	sets, names := j.evalRecipes()
	for i, s := range sets {
		store, attrs, err := j.build(ctx, t, encoder, s, true)
		if err != nil {
			return nil, err
		}
		r.stores = append(r.stores, store)
		opt := s.MixOptions(attrs)
		opt.ValSize = 0
		set, _, err := data.Mix(store, opt)
		if err != nil {
			return nil, err
		}
		r.validation = append(r.validation, j.validation(names[i], set, pad))
	}
	return r, nil
}

// evalRecipes are the recipe once for each validation set that is scored on its own.
func (j *job) evalRecipes() (sets []*Recipe, names []string) {
	d := j.Data.EvalDataset
	switch {
	case len(d) == 0:
		return nil, nil
	case !j.Data.EvalOnEach:
		return []*Recipe{j.Recipe}, []string{""}
	}
	for i := range d {
		one := *j.Recipe
		one.Data.EvalDataset = d[i : i+1]
		if one.Data.TokenizedPath != "" {
			one.Data.TokenizedPath += "-" + strconv.Itoa(i)
		}
		sets, names = append(sets, &one), append(names, d[i])
	}
	return sets, names
}

func (j *job) validation(name string, set *data.Set, pad int32) train.Validation {
	return train.Validation{Name: name, Open: func() (*data.Loader, error) { return data.NewLoader(set, j.laidOut(j.EvalLoaderOptions(pad, 0, 1))) }}
}

// build encodes the training or the validation sets.
func (j *job) build(ctx context.Context, t *tokenizer.Tokenizer, encoder data.Encoder, r *Recipe, validation bool) (*data.Store, []*data.Attr, error) {
	attrs, err := r.Datasets(validation)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range attrs {
		if a.Detected {
			j.say("%s", a)
		}
	}
	key := "dataset"
	if validation {
		key = "eval_dataset"
	}
	if err := j.checkMedia(key, attrs); err != nil {
		return nil, nil, err
	}
	opt := r.BuildOptions(attrs, encoder, vocabularyPrint(t), validation)
	if p := j.pictures; p != nil {
		opt.Media = true
		opt.Fingerprint += fmt.Sprintf(" pictures=%v,%v,%v", p.Picture, p.Frame, p.VideoSampling)
	}
	bar := progress.New(j.Stderr, progress.Options{Label: locale.Text("reading", "读取数据"), Quiet: j.Output.Quiet, Chinese: locale.Chinese()})
	opt.Progress = func(records int64) { bar.Update(records) }
	store, err := data.Build(ctx, opt)
	bar.Done()
	if err != nil {
		return nil, nil, err
	}
	j.say("%s", store.Report())
	return store, attrs, nil
}

// laidOut are the options for the rows of the model in training, which GLM's families number and mask in their own way
// and some hold pictures.
func (j *job) laidOut(opt data.LoaderOptions) data.LoaderOptions {
	opt.Infill, opt.Pictures, opt.PositionRows = j.infill, j.pictures, j.source.model.Info().PositionRows
	if family.Prefixed(j.source.model) {
		opt.Number = j.source.model.(family.Layouter).Layout
	}
	return opt
}

// preview shows the first sample as it is trained, and the counts of all.
func (r *rows) preview(colour bool) (string, error) {
	text, err := r.sample(0, colour)
	return text + "\n" + r.counts(), err
}

// counts says what became of the records.
func (r *rows) counts() string {
	total := r.set.Store.Report().Total()
	if r.drawn {
		return fmt.Sprintf(locale.Text("%d documents in %d rows, %d tokens; %d truncated, %d dropped, %d malformed", "%d 篇文档，%d 行，%d 个 token；截断 %d，丢弃 %d，格式错误 %d"),
			total.Samples, r.loader.RowsPerEpoch(), total.Tokens, total.Truncated+r.loader.Truncated(), total.Dropped, total.Malformed)
	}
	return fmt.Sprintf(locale.Text("%d rows, %d tokens, %.1f%% scored; %d truncated, %d dropped, %d malformed", "%d 行，%d 个 token，%.1f%% 计入损失；截断 %d，丢弃 %d，格式错误 %d"),
		total.Samples, total.Tokens, 100*float64(total.Scored)/float64(max(total.Tokens, 1)), total.Truncated+r.loader.Truncated(), total.Dropped, total.Malformed)
}
