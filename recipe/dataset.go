package recipe

import (
	"fmt"

	"danlu/data"
)

// Datasets resolves the recipe's datasets (or its validation sets) and checks that they suit the stage.
func (r *Recipe) Datasets(validation bool) ([]*data.Attr, error) {
	names, key := r.Data.Dataset, "dataset"
	if validation {
		names, key = r.Data.EvalDataset, "eval_dataset"
	}
	names, err := r.written(key, names)
	if err != nil {
		return nil, err
	}
	attrs, err := data.Find(names, r.Data.DatasetDir)
	if err != nil {
		return nil, err
	}
	pairs := r.Method.Stage == "rm" || r.Method.Stage == "dpo"
	for _, a := range attrs {
		if a.TextUnit == "" || r.IsSet("text_unit") {
			a.TextUnit = r.Data.TextUnit
		}
		switch {
		case len(a.Paths) == 0:
			return nil, r.Errorf(key, "%s lies on a hub (%s%s); fetch its files and name them as file_name in %s", a.Name, a.HubURL, a.ModelScope, data.InfoFile)
		case pairs && !a.Ranking:
			return nil, r.Errorf(key, "%s holds no preference pairs (chosen and rejected, \"ranking\": true), which stage: %s needs", a.Name, r.Method.Stage)
		case !pairs && a.Ranking:
			return nil, r.Errorf(key, "%s holds preference pairs, which only stages rm and dpo read, got %s", a.Name, r.Method.Stage)
		case r.Method.Stage == "kto" && a.Columns.KTOTag == "":
			return nil, r.Errorf(key, "%s has no true or false column (kto_tag), which stage: kto needs", a.Name)
		}
	}
	return attrs, nil
}

// BuildOptions says how data.Build encodes datasets for this recipe. tokenizer identifies the tokenizer's files, so that
// a prepared tokenized_path is not reused for another one.
func (r *Recipe) BuildOptions(attrs []*data.Attr, encoder data.Encoder, tokenizer string, validation bool) data.BuildOptions {
	d := &r.Data
	opt := data.BuildOptions{Datasets: attrs, MediaDir: r.MediaDir(), Encoder: encoder, Strict: d.Strict, Path: d.TokenizedPath, Overwrite: d.OverwriteCache}
	if validation && opt.Path != "" {
		opt.Path += "-eval"
	}
	if d.MaxSamples != nil {
		opt.MaxSamples = *d.MaxSamples
	}
	if d.Workers != nil {
		opt.Workers = *d.Workers
	}
	if d.Streaming && !validation {
		// What the run can use: every row of every step full, and the validation rows on top.
		rows := int64(r.Optim.MaxSteps)*int64(r.Optim.BatchSize)*int64(r.Optim.Accumulation) + int64(d.ValSize)
		opt.TokenBudget = rows * int64(d.CutoffLen)
	}
	switch r.Method.Stage {
	case "ppo", "grpo", "rft":
		opt.AllowNone = true // prompts alone
	}
	system := ""
	if d.DefaultSystem != nil {
		system = *d.DefaultSystem
	}
	opt.Fingerprint = fmt.Sprintf("%s stage=%s template=%s cutoff=%d prompt=%v history=%v packed=%v tools=%s system=%q thinking=%v,%v group=%d objective=%s split=%v cloze=%q%v", tokenizer, r.Method.Stage, d.Template,
		d.CutoffLen, d.TrainOnPrompt, d.MaskHistory, r.Packed(), d.ToolFormat, system, d.EnableThinking == nil || *d.EnableThinking, d.PreserveThinking, d.GroupSize, d.Objective, r.Model.SplitSpecial, d.ClozePattern, d.ClozeWords)
	return opt
}

// MixOptions says how the encoded datasets are mixed and split.
func (r *Recipe) MixOptions(attrs []*data.Attr) data.MixOptions {
	opt := data.MixOptions{Strategy: r.Data.MixStrategy, Probs: r.Data.InterleaveProbs, ByTokens: r.Data.InterleaveBy == "tokens", ValSize: r.Data.ValSize, Seed: uint64(r.Optim.Seed)}
	if r.Data.MaxSamples != nil {
		opt.MaxSamples = *r.Data.MaxSamples
	}
	for i, a := range attrs {
		if a.NumSamples > 0 && opt.NumSamples == nil {
			opt.NumSamples = make([]int, len(attrs))
		}
		if a.NumSamples > 0 {
			opt.NumSamples[i] = a.NumSamples
		}
	}
	return opt
}

// widths is into how many widths the batches of unpacked rows fall: each needs a program of its own, and every row is
// padded to the next one.
const widths = 16

// LoaderOptions says how training rows become batches. Packed rows all have cutoff_len tokens.
func (r *Recipe) LoaderOptions(pad int32, rank, world int) data.LoaderOptions {
	return data.LoaderOptions{
		Packing: r.PackingStrategy(), CutoffLen: r.Data.CutoffLen, BatchSize: r.Optim.BatchSize, Accumulation: r.Optim.Accumulation,
		Rank: rank, World: world, Seed: uint64(r.DataSeed()), Shuffle: !r.Data.DisableShuffling, FixedShape: r.Packed(), PadID: pad,
		PadMultiple: max(8, (r.Data.CutoffLen/widths+7)/8*8),
	}
}

// EvalLoaderOptions says how validation rows become batches: in order, one micro-batch a step.
func (r *Recipe) EvalLoaderOptions(pad int32, rank, world int) data.LoaderOptions {
	opt := r.LoaderOptions(pad, rank, world)
	opt.BatchSize, opt.Accumulation, opt.Shuffle = r.Optim.EvalBatchSize, 1, false
	return opt
}
