package recipe

import (
	"math"
	"sort"
	"strings"
)

// stagesWithout lists stages for which a key cannot be meant.
const allButSFT = "pt rm ppo dpo kto grpo rft cloze"

// finish resolves defaults that depend on other keys and refuses impossible pairs by name, before anything is read.
func (r *Recipe) finish() error {
	r.resolve()
	for _, check := range []func() error{r.checkModel, r.checkData, r.checkMethod, r.checkReinforce, r.checkOptim, r.checkOutput} {
		if err := check(); err != nil {
			return err
		}
	}
	r.noteUnused()
	return r.checkPending()
}

// pending are keys of the table that nothing reads yet, with what to do instead. They are refused at any value but the
// default, so that no setting is passed over in silence.
var pending = map[string]string{
	"model_revision":                "give the folder of the revision",
	"ref_model_quantization_bit":    "leave it out",
	"reward_model_quantization_bit": "leave it out",
}

func (r *Recipe) checkPending() error {
	for _, key := range r.order {
		instead, ok := pending[key]
		if node := r.values[key]; ok && node != nil && !isNull(node) && !sameValue(node.Value, keyIndex[key].Default) {
			return r.Errorf(key, "is not supported yet; %s", instead)
		}
	}
	if !r.Trains() {
		return r.Errorf("do_train", "want true: a recipe trains; danlu perplexity and danlu eval measure")
	}
	return nil
}

// resolve fills in defaults that depend on other keys.
func (r *Recipe) resolve() {
	if r.Model.FromScratch && !r.IsSet("finetuning_type") {
		r.Method.FinetuningType = "full"
		r.note("finetuning_type is full: a model from scratch has no base for an adapter")
	}
	if r.Data.NeatPacking {
		on := true
		r.Data.Packing = &on
	}
	if r.Method.Stage == "grpo" || r.Method.Stage == "rft" {
		for _, d := range []struct {
			key string
			set func()
		}{
			{"temperature", func() { r.Generation.Temperature = 1 }},
			{"top_p", func() { r.Generation.TopP = 1 }},
			{"top_k", func() { r.Generation.TopK = 0 }},
		} {
			if !r.IsSet(d.key) {
				d.set()
			}
		}
	}
	if r.Optim.UseMuon {
		r.Optim.Optimizer = "muon"
	}
	if r.Method.PissaInit && r.IsSet("pissa_convert") && !r.Method.PissaConvert {
		r.note("pissa_convert is true: a PiSSA adapter is always saved as a plain one, which belongs to the model as it is")
	}
	if r.Optim.FP16 && !r.Optim.BF16 {
		r.note("fp16: computed in bfloat16, which needs no loss scaling")
	}
}

// Packed reports whether several documents share a row: LLaMA-Factory packs in pretraining unless told otherwise.
func (r *Recipe) Packed() bool {
	if r.Data.Packing == nil {
		return r.Method.Stage == "pt" && r.Data.Objective == "causal"
	}
	return *r.Data.Packing
}

// PackingStrategy returns "wrapped" or "bfd" where Packed, else "none".
func (r *Recipe) PackingStrategy() string {
	switch {
	case !r.Packed():
		return "none"
	case r.Data.PackingStrategy != "":
		return r.Data.PackingStrategy
	case r.Method.Stage == "pt":
		return "wrapped"
	}
	return "bfd"
}

// LoraAlpha returns lora_alpha or its default, twice the rank.
func (r *Recipe) LoraAlpha() int {
	if r.Method.LoraAlpha != nil {
		return *r.Method.LoraAlpha
	}
	return 2 * r.Method.LoraRank
}

// MediaDir returns where relative image paths lie.
func (r *Recipe) MediaDir() string {
	if r.Data.MediaDir != "" {
		return r.Data.MediaDir
	}
	return r.Data.DatasetDir
}

// Trains reports whether the run updates weights; do_train: false with do_eval only evaluates.
func (r *Recipe) Trains() bool { return r.Output.DoTrain == nil || *r.Output.DoTrain }

// Evaluates reports whether validation data are scored.
func (r *Recipe) Evaluates() bool {
	return r.Output.EvalStrategy != "no" || r.Output.DoEval != nil && *r.Output.DoEval
}

// BFloat16 reports whether matrices are multiplied in bfloat16.
func (r *Recipe) BFloat16() bool { return r.Optim.BF16 || r.Optim.FP16 || r.Optim.PureBF16 }

// DataSeed returns the seed of shuffling.
func (r *Recipe) DataSeed() int64 {
	if r.Optim.DataSeed != nil {
		return *r.Optim.DataSeed
	}
	return r.Optim.Seed
}

// Steps returns how many optimiser steps a run has: max_steps, else the epochs.
func (r *Recipe) Steps(stepsPerEpoch int64) int64 {
	if r.Optim.MaxSteps > 0 {
		return int64(r.Optim.MaxSteps)
	}
	return int64(math.Ceil(r.Optim.Epochs * float64(stepsPerEpoch)))
}

// Warmup returns the warm-up steps of a run of total steps: warmup_steps where it is set, else warmup_ratio.
func (r *Recipe) Warmup(total int64) int64 {
	switch w := r.Optim.WarmupSteps; {
	case w >= 1:
		return int64(w)
	case w > 0:
		return int64(math.Ceil(w * float64(total)))
	}
	return int64(math.Ceil(r.Optim.WarmupRatio * float64(total)))
}

// Every resolves logging_steps, save_steps or eval_steps: a number of steps, or below 1 a share of all.
func Every(value float64, total int64) int64 {
	if value < 1 {
		return max(1, int64(math.Ceil(value*float64(total))))
	}
	return int64(value)
}

// ReportsTo reports whether a logger is on; TensorBoard is unless report_to names others.
func (r *Recipe) ReportsTo(logger string) bool {
	if r.Output.ReportTo == nil {
		return logger == "tensorboard"
	}
	for _, l := range r.Output.ReportTo {
		if l == logger || l == "all" {
			return true
		}
	}
	return false
}

func (r *Recipe) checkModel() error {
	m := &r.Model
	lora := r.Method.FinetuningType == "lora"
	switch {
	case m.Path == "":
		return r.Errorf("model_name_or_path", "is missing; give a folder, a GGUF file or a preset")
	case len(m.Adapters) > 0 && !lora:
		return r.Errorf("adapter_name_or_path", "only goes with finetuning_type: lora, got %s", r.Method.FinetuningType)
	case m.QuantizationBit != nil && !lora:
		return r.Errorf("quantization_bit", "only goes with finetuning_type: lora, got %s; quantized weights are not trained", r.Method.FinetuningType)
	case m.QuantizationBit != nil && r.Method.PissaInit:
		return r.Errorf("pissa_init", "does not go with quantization_bit: PiSSA needs the plain weights")
	case m.QuantizationBit != nil && m.ResizeVocab:
		return r.Errorf("resize_vocab", "does not go with quantization_bit: the embedding rows are not quantized yet when they are added")
	case m.QuantizationBit != nil && len(m.Adapters) > 0 && r.Method.NewAdapter:
		return r.Errorf("create_new_adapter", "does not go with quantization_bit: the old adapter cannot be merged into quantized weights")
	case m.QuantizationBit != nil && len(m.Adapters) > 1:
		return r.Errorf("adapter_name_or_path", "only one adapter goes with quantization_bit, got %d; merge them first", len(m.Adapters))
	case m.FromScratch && lora:
		return r.Errorf("train_from_scratch", "does not go with finetuning_type: lora; use full")
	case m.FromScratch && m.QuantizationBit != nil:
		return r.Errorf("train_from_scratch", "does not go with quantization_bit")
	case m.FromScratch && r.Method.FinetuningType == "freeze":
		return r.Errorf("train_from_scratch", "does not go with finetuning_type: freeze; use full")
	case m.ImageMaxPixels < m.ImageMinPixels:
		return r.Errorf("image_max_pixels", "want at least image_min_pixels %d, got %d", m.ImageMinPixels, m.ImageMaxPixels)
	case m.VideoMaxPixels < m.VideoMinPixels:
		return r.Errorf("video_max_pixels", "want at least video_min_pixels %d, got %d", m.VideoMinPixels, m.VideoMaxPixels)
	case (len(m.AddTokens) > 0 || len(m.AddSpecialTokens) > 0) && m.QuantizationBit != nil:
		return r.Errorf("add_tokens", "does not go with quantization_bit: new rows would have to be quantized")
	}
	return nil
}

func (r *Recipe) checkData() error {
	d, stage := &r.Data, r.Method.Stage
	other := strings.Contains(" "+allButSFT+" ", " "+stage+" ")
	switch {
	case r.Trains() && len(d.Dataset) == 0:
		return r.Errorf("dataset", "is missing; give names of %s/dataset_info.json or paths", d.DatasetDir)
	case len(d.Dataset) == 0 && d.ValSize > 0:
		return r.Errorf("val_size", "does not go without dataset")
	case len(d.EvalDataset) > 0 && d.ValSize > 0:
		return r.Errorf("val_size", "does not go with eval_dataset: there would be two validation sets")
	case d.InterleaveProbs != nil && d.MixStrategy == "concat":
		return r.Errorf("interleave_probs", "does not go with mix_strategy: concat")
	case d.InterleaveProbs != nil && len(d.InterleaveProbs) != len(d.Dataset):
		return r.Errorf("interleave_probs", "want %d numbers, one per dataset, got %d", len(d.Dataset), len(d.InterleaveProbs))
	case d.Streaming && d.ValSize > 0 && d.ValSize < 1:
		return r.Errorf("val_size", "want a number of rows with streaming, got the share %v: the number of rows is not known", d.ValSize)
	case d.Streaming && d.MaxSamples != nil:
		return r.Errorf("max_samples", "does not go with streaming; use max_steps")
	case d.Streaming && r.Optim.MaxSteps <= 0:
		return r.Errorf("max_steps", "is needed with streaming: the number of rows is not known")
	case d.MaskHistory && d.TrainOnPrompt:
		return r.Errorf("mask_history", "does not go with train_on_prompt")
	case d.NeatPacking && other:
		return r.Errorf("neat_packing", "only goes with stage: sft, got %s", stage)
	case d.TrainOnPrompt && other:
		return r.Errorf("train_on_prompt", "only goes with stage: sft, got %s", stage)
	case d.MaskHistory && other:
		return r.Errorf("mask_history", "only goes with stage: sft, got %s", stage)
	case r.IsSet("packing") && r.Packed() && stage != "pt" && stage != "sft" && stage != "distill":
		return r.Errorf("packing", "only goes with stage pt, sft and distill, got %s", stage)
	case stage == "cloze" && strings.Count(d.ClozePattern, "[MASK]") != 1:
		return r.Errorf("cloze_pattern", "want a text with one [MASK], such as \"{prompt} It was [MASK].\", got %q", d.ClozePattern)
	case stage == "cloze" && len(d.ClozeWords) < 2:
		return r.Errorf("cloze_verbalizer", "want a mapping from at least two labels to words, got %d", len(d.ClozeWords))
	case d.Objective == "infilling" && stage != "pt":
		return r.Errorf("pretraining_objective", "infilling only goes with stage: pt, got %s", stage)
	case d.Objective == "infilling" && r.Packed():
		return r.Errorf("packing", "does not go with pretraining_objective: infilling, whose rows hold one document")
	case d.InfillShort+d.InfillSentence > 1:
		return r.Errorf("infilling_sentence", "want at most 1 together with infilling_short, got %v", d.InfillShort+d.InfillSentence)
	case r.Evaluates() && len(d.EvalDataset) == 0 && d.ValSize == 0:
		return r.Errorf("eval_strategy", "needs eval_dataset or val_size")
	case d.EvalOnEach && len(d.EvalDataset) == 0:
		return r.Errorf("eval_on_each_dataset", "needs eval_dataset")
	}
	return nil
}

// smoothedLosses are the losses on pairs that know of pairs labelled the wrong way round.
var smoothedLosses = []string{"sigmoid", "robust", "cdpo", "sigmoid_norm", "exo_pair", "aot_unpaired", "simpo", "cpo"}

func (r *Recipe) checkMethod() error {
	m := &r.Method
	lora := m.FinetuningType == "lora"
	hasReference := m.Stage == "dpo" && m.PrefLoss != "orpo" && m.PrefLoss != "simpo" && m.PrefLoss != "cpo"
	for _, k := range []struct {
		key string
		on  bool
	}{{"loraplus_lr_ratio", m.LoraPlusRatio != nil}, {"use_rslora", m.RSLora}, {"use_dora", m.DoRA}, {"pissa_init", m.PissaInit}} {
		if k.on && !lora {
			return r.Errorf(k.key, "only goes with finetuning_type: lora, got %s", m.FinetuningType)
		}
	}
	switch {
	case m.PissaInit && (m.Stage == "ppo" || m.Stage == "kto" || hasReference):
		return r.Errorf("pissa_init", "does not go with stage: %s, whose reference is the model without its adapter", m.Stage)
	case m.Stage == "dpo" && m.LabelSmoothing > 0 && !oneOf(smoothedLosses, m.PrefLoss):
		return r.Errorf("dpo_label_smoothing", "only goes with pref_loss %s, got %s", strings.Join(smoothedLosses, ", "), m.PrefLoss)
	case m.FinetuningType == "freeze" && m.FreezeLayers == 0:
		return r.Errorf("freeze_trainable_layers", "want the last n (above 0) or the first n (below 0), got 0")
	case m.Stage == "distill" && r.Distill.Teacher == "" && r.Distill.TeacherAPI == "":
		return r.Errorf("teacher_model", "is needed by stage: distill")
	case m.Stage == "distill" && r.Distill.Teacher == "" && r.Distill.Loss != "sequence":
		return r.Errorf("distill_loss", "an endpoint gives no logits: want sequence with teacher_api_base, got %s", r.Distill.Loss)
	case m.RefQuantBit != nil:
		return r.Errorf("ref_model_quantization_bit", "is not supported: the reference model is kept as it comes; with finetuning_type: lora it is the base of the model in training")
	case m.RewardQuantBit != nil:
		return r.Errorf("reward_model_quantization_bit", "is not supported: the reward model is kept as it comes")
	case m.RefAdapters != "" && m.RefModel == "":
		return r.Errorf("ref_model_adapters", "needs ref_model")
	case m.RewardAdapters != "" && m.RewardModel == "":
		return r.Errorf("reward_model_adapters", "needs reward_model")
	case m.Stage == "kto" && m.KTOChosenWeight == 0 && m.KTORejectedWeight == 0:
		return r.Errorf("kto_chosen_weight", "does not go with kto_rejected_weight: 0, both are 0")
	}
	return nil
}

func (r *Recipe) checkReinforce() error {
	x, m := &r.Reinforce, &r.Method
	switch {
	case m.Stage == "ppo" && m.RewardModel == "" && len(x.RewardFuncs) == 0:
		return r.Errorf("reward_model", "is needed by stage: ppo (or reward_funcs)")
	case m.Stage == "ppo" && m.RewardModel != "" && m.RewardModelType == "lora" && m.FinetuningType != "lora":
		return r.Errorf("reward_model_type", "lora does not go with finetuning_type: %s; use full", m.FinetuningType)
	case (m.Stage == "grpo" || m.Stage == "rft") && m.RewardModel == "" && len(x.RewardFuncs) == 0:
		return r.Errorf("reward_funcs", "is needed by stage: %s (or reward_model)", m.Stage)
	case m.Stage == "grpo" && x.NumGenerations < 2:
		return r.Errorf("num_generations", "want at least 2: advantages compare the answers of a group, got %d", x.NumGenerations)
	case x.RewardWeights != nil && len(x.RewardWeights) != len(x.RewardFuncs)+count(m.RewardModel != ""):
		return r.Errorf("reward_weights", "want %d numbers, one per reward, got %d", len(x.RewardFuncs)+count(m.RewardModel != ""), len(x.RewardWeights))
	case x.EpsilonHigh != nil && *x.EpsilonHigh < x.Epsilon && x.LossType == "dapo":
		return r.Errorf("epsilon_high", "want at least epsilon %v, got %v", x.Epsilon, *x.EpsilonHigh)
	case x.OverlongCache >= x.MaxCompletionLength:
		return r.Errorf("overlong_cache", "want less than max_completion_length %d, got %d", x.MaxCompletionLength, x.OverlongCache)
	}
	return nil
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *Recipe) checkOptim() error {
	o := &r.Optim
	switch {
	case o.BF16 && o.FP16:
		return r.Errorf("fp16", "does not go with bf16")
	case o.MaxSteps == 0:
		return r.Errorf("max_steps", "want at least 1, or -1 for num_train_epochs, got 0")
	case o.WarmupSteps > 1 && o.WarmupSteps != math.Trunc(o.WarmupSteps):
		return r.Errorf("warmup_steps", "want a whole number, or a share below 1, got %v", o.WarmupSteps)
	}
	return nil
}

func (r *Recipe) checkOutput() error {
	o := &r.Output
	for _, k := range []struct {
		key string
		v   float64
	}{{"logging_steps", o.LoggingSteps}, {"save_steps", o.SaveSteps}} {
		if k.v > 1 && k.v != math.Trunc(k.v) {
			return r.Errorf(k.key, "want a whole number, or a share below 1, got %v", k.v)
		}
	}
	switch {
	case o.Dir == "":
		return r.Errorf("output_dir", "is missing")
	case o.EvalSteps != nil && *o.EvalSteps > 1 && *o.EvalSteps != math.Trunc(*o.EvalSteps):
		return r.Errorf("eval_steps", "want a whole number, or a share below 1, got %v", *o.EvalSteps)
	case o.LoadBest && (r.Method.Stage == "rm" || r.Method.Stage == "ppo"):
		return r.Errorf("load_best_model_at_end", "does not go with stage: %s", r.Method.Stage)
	case o.LoadBest && o.EvalStrategy == "no":
		return r.Errorf("load_best_model_at_end", "needs eval_strategy steps or epoch")
	case o.LoadBest && o.SaveStrategy != "best" && o.SaveStrategy != o.EvalStrategy:
		return r.Errorf("load_best_model_at_end", "needs save_strategy and eval_strategy to be equal, got %s and %s", o.SaveStrategy, o.EvalStrategy)
	case o.SaveStrategy == "best" && o.EvalStrategy == "no":
		return r.Errorf("save_strategy", "best needs eval_strategy steps or epoch")
	case r.Method.EarlyStoppingSteps != nil && o.EvalStrategy == "no":
		return r.Errorf("early_stopping_steps", "needs eval_strategy steps or epoch")
	case o.Overwrite && o.Resume != "" && o.Resume != "false":
		return r.Errorf("overwrite_output_dir", "does not go with resume_from_checkpoint: %s", o.Resume)
	}
	for _, l := range o.ReportTo {
		switch l {
		case "none", "tensorboard", "all":
		case "wandb", "swanlab", "mlflow", "comet_ml", "clearml", "neptune", "trackio":
			r.note("report_to: " + l + " is not here; metrics.jsonl and TensorBoard events are")
		default:
			return r.Errorf("report_to", "want none or tensorboard, got %q", l)
		}
	}
	return nil
}

// noteUnused remarks on keys that the chosen stage or method does not read, so that none is ignored in silence.
func (r *Recipe) noteUnused() {
	stage, method := r.Method.Stage, r.Method.FinetuningType
	var unused []string
	for _, g := range []struct {
		used bool
		keys string
	}{
		{method == "lora", "lora_rank lora_alpha lora_dropout lora_target additional_target loraplus_lr_embedding pissa_iter pissa_convert create_new_adapter"},
		{method == "freeze", "freeze_trainable_layers freeze_trainable_modules freeze_extra_modules"},
		{stage == "pt" || stage == "sft", "z_loss moe_aux_loss_coef moe_sequence_loss_coef moe_bias_update_speed mtp_loss_weight"},
		{stage == "dpo", "pref_beta pref_ftx pref_loss dpo_label_smoothing cpo_alpha simpo_gamma"},
		{stage == "kto", "kto_chosen_weight kto_rejected_weight"},
		{stage == "ppo", "ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards kl_coef cliprange cliprange_value vf_coef gamma lam"},
		{stage == "grpo" || stage == "rft", "num_generations max_prompt_length max_completion_length"},
		{stage == "grpo", "beta epsilon epsilon_high loss_type scale_rewards advantage num_iterations mask_truncated_completions dynamic_sampling overlong_cache"},
		{stage == "rft", "reward_threshold keep_per_prompt"},
		{stage == "grpo" || stage == "rft" || stage == "ppo", "reward_funcs reward_weights reward_model reward_model_adapters reward_model_quantization_bit reward_model_type"},
		{stage == "distill", "teacher_model teacher_api_base distill_loss distill_temperature distill_alpha distill_beta distill_top_k"},
		{r.Data.Objective == "infilling", "infilling_short infilling_sentence infilling_mask_ratio infilling_lambda infilling_instruction_share"},
		{r.Packed(), "packing_strategy"},
		{stage == "sft", "compute_accuracy"},
		{stage == "cloze", "cloze_pattern cloze_verbalizer"},
		{strings.HasPrefix(r.Data.MixStrategy, "interleave"), "interleave_by"},
	} {
		if g.used {
			continue
		}
		for _, k := range strings.Fields(g.keys) {
			if r.IsSet(k) && !(stage == "kto" && (k == "pref_beta" || k == "pref_ftx")) {
				unused = append(unused, k)
			}
		}
	}
	if len(unused) > 0 {
		sort.Strings(unused)
		r.note("not used with stage: " + stage + " and finetuning_type: " + method + ": " + strings.Join(unused, ", "))
	}
}
