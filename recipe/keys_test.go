package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The defaults of LLaMA-Factory and of the TrainingArguments that it builds on, so that a recipe that leaves a key out
// trains as it does there.
var factoryDefaults = map[string]string{
	"stage": "sft", "finetuning_type": "lora", "model_revision": "main", "train_from_scratch": "false", "resize_vocab": "false",
	"split_special_tokens": "false", "disable_gradient_checkpointing": "false", "quantization_method": "bnb", "quantization_type": "nf4",
	"double_quantization": "true", "image_max_pixels": "589824", "image_min_pixels": "1024", "quantization_bit": "", "rope_scaling": "",
	"moe_aux_loss_coef": "", "template": "", "dataset": "", "eval_dataset": "", "dataset_dir": "data", "media_dir": "", "cutoff_len": "2048",
	"train_on_prompt": "false", "mask_history": "false", "streaming": "false", "mix_strategy": "concat", "interleave_probs": "",
	"overwrite_cache": "false", "preprocessing_batch_size": "1000", "preprocessing_num_workers": "", "max_samples": "", "val_size": "0.0",
	"eval_on_each_dataset": "false", "packing": "", "neat_packing": "false", "tool_format": "", "default_system": "", "enable_thinking": "true",
	"preserve_thinking": "false", "tokenized_path": "",
	"freeze_trainable_layers": "2", "freeze_trainable_modules": "all", "freeze_extra_modules": "", "additional_target": "", "lora_alpha": "",
	"lora_dropout": "0.0", "lora_rank": "8", "lora_target": "all", "loraplus_lr_ratio": "", "loraplus_lr_embedding": "1e-06", "use_rslora": "false",
	"use_dora": "false", "pissa_init": "false", "pissa_iter": "16", "pissa_convert": "false", "create_new_adapter": "false", "pref_beta": "0.1",
	"pref_ftx": "0.0", "pref_loss": "sigmoid", "dpo_label_smoothing": "0.0", "kto_chosen_weight": "1.0", "kto_rejected_weight": "1.0",
	"simpo_gamma": "0.5", "ppo_buffer_size": "1", "ppo_epochs": "4", "ppo_score_norm": "false", "ppo_target": "6.0", "ppo_whiten_rewards": "false",
	"ref_model": "", "ref_model_adapters": "", "ref_model_quantization_bit": "", "reward_model": "", "reward_model_adapters": "",
	"reward_model_quantization_bit": "", "reward_model_type": "lora", "pure_bf16": "false", "freeze_vision_tower": "true",
	"freeze_multi_modal_projector": "true", "freeze_language_model": "false", "compute_accuracy": "false", "disable_shuffling": "false",
	"early_stopping_steps": "", "plot_loss": "false", "overwrite_output_dir": "false",
	"do_sample": "true", "temperature": "0.95", "top_p": "0.7", "top_k": "50", "max_new_tokens": "1024", "repetition_penalty": "1.0",
	"export_size": "5", "export_dir": "",
	"per_device_train_batch_size": "8", "per_device_eval_batch_size": "8", "gradient_accumulation_steps": "1", "learning_rate": "5e-05",
	"weight_decay": "0.0", "adam_beta1": "0.9", "adam_beta2": "0.999", "adam_epsilon": "1e-08", "max_grad_norm": "1.0", "num_train_epochs": "3.0",
	"max_steps": "-1", "lr_scheduler_type": "linear", "lr_scheduler_kwargs": "", "warmup_ratio": "0.0", "warmup_steps": "0", "optim": "adamw_torch",
	"seed": "42", "data_seed": "", "bf16": "false", "fp16": "false", "logging_steps": "500", "logging_first_step": "false",
	"logging_strategy": "steps", "save_steps": "500", "save_strategy": "steps", "save_total_limit": "", "save_only_model": "false",
	"eval_strategy": "no", "eval_steps": "", "load_best_model_at_end": "false", "metric_for_best_model": "", "neftune_noise_alpha": "",
	"resume_from_checkpoint": "",
}

func TestDefaultsAreLLaMAFactorys(t *testing.T) {
	for key, want := range factoryDefaults {
		k := keyIndex[key]
		if k == nil {
			t.Errorf("%s is not in the table", key)
			continue
		}
		if k.Default != want {
			t.Errorf("%s: default: want %q, got %q", key, want, k.Default)
		}
	}
	r, err := Parse(nil, "none.yaml", []string{"model_name_or_path=m", "dataset=d", "output_dir=o"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Optim.LearningRate != 5e-5 || r.Optim.Epochs != 3 || r.Data.CutoffLen != 2048 || r.LoraAlpha() != 16 || r.Data.Packing != nil || r.Method.LoraTarget[0] != "all" || r.Optim.Seed != 42 {
		t.Errorf("defaults did not reach the fields: %+v", r.Groups)
	}
}

func TestTableIsConsistent(t *testing.T) {
	for _, k := range Keys() {
		if k.Name == "" {
			t.Errorf("a field of group %d has no key", k.group)
		}
		if meaningless[k.Name] {
			t.Errorf("%s is both implemented and without meaning", k.Name)
		}
		if _, ok := refused[k.Name]; ok {
			t.Errorf("%s is both implemented and refused", k.Name)
		}
		if _, ok := aliases[k.Name]; ok {
			t.Errorf("%s is both a key and an alias", k.Name)
		}
		if k.Default != "" && len(k.OneOf) > 0 && !oneOf(k.OneOf, k.Default) {
			t.Errorf("%s: default %s is not allowed", k.Name, k.Default)
		}
	}
	for k := range refused {
		if meaningless[k] {
			t.Errorf("%s is both refused and without meaning", k)
		}
	}
	for a, to := range aliases {
		if keyIndex[to] == nil {
			t.Errorf("alias %s: no key %s", a, to)
		}
		if meaningless[a] {
			t.Errorf("%s is both an alias and without meaning", a)
		}
	}
}

// parse adds what every recipe needs.
func parse(text string, overrides ...string) (*Recipe, error) {
	return Parse([]byte("model_name_or_path: m\noutput_dir: o\n"+text), "r.yaml", overrides)
}

func TestErrorsNamePlaceKeyGotAndWant(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"dataset: d\nlearning_rate: fast\n", `recipe: r.yaml:4: learning_rate: want a number of at least 0, got "fast"`},
		{"dataset: d\nlearning_rate: -1\n", `recipe: r.yaml:4: learning_rate: want a number of at least 0, got "-1"`},
		{"dataset: d\nlearning_rate: .nan\n", `recipe: r.yaml:4: learning_rate: want a number of at least 0, got ".nan"`},
		{"dataset: d\ncutoff_len: 12.5\n", `recipe: r.yaml:4: cutoff_len: want a whole number of at least 2, got "12.5"`},
		{"dataset: d\ncutoff_len: \"128\"\n", `recipe: r.yaml:4: cutoff_len: want a whole number of at least 2, got the string "128"`},
		{"dataset: d\nbf16: maybe\n", `recipe: r.yaml:4: bf16: want true or false, got "maybe"`},
		{"dataset: d\nstage: stf\n", `recipe: r.yaml:4: stage: want one of pt, sft, rm, ppo, dpo, kto, grpo, distill, rft, cloze, got "stf"`},
		{"dataset: d\nlearning_rte: 1\n", `recipe: r.yaml:4: learning_rte: unknown key; did you mean learning_rate?`},
		{"dataset: d\nuse_galore: true\n", `recipe: r.yaml:4: use_galore: not supported; use finetuning_type: lora to save optimiser memory`},
		{"dataset: d\ndataset: e\n", `recipe: r.yaml:4: dataset: stands in line 3 too`},
		{"dataset: {a: b}\n", `recipe: r.yaml:3: dataset: want a list or comma-separated string, got a mapping`},
		{"dataset: d\nquantization_bit: 3\n", `recipe: r.yaml:4: quantization_bit: want one of 4, 8, got "3"`},
		{"dataset: a,b\nmix_strategy: interleave_over\ninterleave_probs: [1]\n", `recipe: r.yaml:5: interleave_probs: want 2 numbers, one per dataset, got 1`},
	} {
		_, err := parse(c.text)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q:\nwant %s\ngot  %v", c.text, c.want, err)
		}
	}
	_, err := parse("dataset: d\n", "learning_rate=quick")
	if want := `recipe: command line: learning_rate: want a number of at least 0, got "quick"`; err == nil || err.Error() != want {
		t.Errorf("want %s, got %v", want, err)
	}
}

func TestImpossiblePairsAreRefused(t *testing.T) {
	for _, c := range []struct{ text, key string }{
		{"", "dataset"},
		{"dataset: d\nval_size: 0.1\neval_dataset: e\n", "val_size"},
		{"dataset: d\nmask_history: true\ntrain_on_prompt: true\n", "mask_history"},
		{"dataset: d\nstage: pt\nmask_history: true\n", "mask_history"},
		{"dataset: d\nstage: dpo\npacking: true\n", "packing"},
		{"dataset: d\nstage: ppo\n", "reward_model"},
		{"dataset: d\nstage: ppo\nreward_model: r\nfinetuning_type: full\n", "reward_model_type"},
		{"dataset: d\nstage: grpo\n", "reward_funcs"},
		{"dataset: d\nstage: distill\n", "teacher_model"},
		{"dataset: d\nfinetuning_type: full\nquantization_bit: 4\n", "quantization_bit"},
		{"dataset: d\nfinetuning_type: full\nuse_dora: true\n", "use_dora"},
		{"dataset: d\nfinetuning_type: full\nadapter_name_or_path: a\n", "adapter_name_or_path"},
		{"dataset: d\ntrain_from_scratch: true\nfinetuning_type: lora\n", "train_from_scratch"},
		{"dataset: d\nbf16: true\nfp16: true\n", "fp16"},
		{"dataset: d\nstreaming: true\n", "max_steps"},
		{"dataset: d\nstreaming: true\nmax_steps: 5\nval_size: 0.1\n", "val_size"},
		{"dataset: d\neval_strategy: steps\n", "eval_strategy"},
		{"dataset: d\nload_best_model_at_end: true\n", "load_best_model_at_end"},
		{"dataset: d\ninterleave_probs: 0.5\n", "interleave_probs"},
		{"dataset: d\nstage: dpo\npissa_init: true\n", "pissa_init"},
		{"dataset: d\nstage: dpo\npref_loss: ipo\ndpo_label_smoothing: 0.1\n", "dpo_label_smoothing"},
		{"dataset: d\npretraining_objective: infilling\n", "pretraining_objective"},
		{"dataset: d\nlogging_steps: 2.5\n", "logging_steps"},
		{"dataset: d\nmax_steps: 0\n", "max_steps"},
		{"dataset: d\nreport_to: printer\n", "report_to"},
	} {
		_, err := parse(c.text)
		if err == nil || !strings.Contains(err.Error(), " "+c.key+": ") {
			t.Errorf("%q: want an error about %s, got %v", c.text, c.key, err)
		}
	}
}

func TestOverridesWinAndReachIntoMappings(t *testing.T) {
	r, err := parse("dataset: a, b\nlearning_rate: 1.0e-4\nlr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs:\n  min_lr_rate: 0.2\nmax_steps: 10\n",
		"learning_rate=3e-4", "lr_scheduler_kwargs.min_lr_rate=0.1", "lr_scheduler_kwargs.inner.deep=2", "max_steps=null", "lora_target=q_proj,v_proj", "--seed=7")
	if err != nil {
		t.Fatal(err)
	}
	if r.Optim.LearningRate != 3e-4 || r.Optim.SchedulerKwargs["min_lr_rate"] != 0.1 || r.Optim.MaxSteps != -1 || len(r.Method.LoraTarget) != 2 || r.Optim.Seed != 7 || len(r.Data.Dataset) != 2 || r.Data.Dataset[1] != "b" {
		t.Errorf("got %+v %+v %+v", r.Optim, r.Method.LoraTarget, r.Data.Dataset)
	}
	if inner, ok := r.Optim.SchedulerKwargs["inner"].(map[string]any); !ok || inner["deep"] != 2 {
		t.Errorf("inner: got %v", r.Optim.SchedulerKwargs)
	}
	if r.IsSet("max_steps") || r.Place("learning_rate") != "command line" || r.Place("lr_scheduler_type") != "r.yaml:5" {
		t.Errorf("places: %v", r.places)
	}
}

func TestIgnoredKeysAreListedOnce(t *testing.T) {
	r, err := parse("dataset: d\ndeepspeed: ds.json\nflash_attn: fa2\nddp_timeout: 180000000\ntrust_remote_code: true\nuse_galore: false\n", "ddp_timeout=1")
	if err != nil {
		t.Fatal(err)
	}
	if want := "ddp_timeout, deepspeed, flash_attn, trust_remote_code"; !strings.HasSuffix(r.IgnoredLine(), want) {
		t.Errorf("want %s, got %s", want, r.IgnoredLine())
	}
}

func TestUnusedKeysAreNoted(t *testing.T) {
	r, err := parse("dataset: d\nlora_rank: 4\nstage: kto\npref_beta: 0.2\n", "finetuning_type=full")
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(r.Notes, "\n"); !strings.Contains(all, "lora_rank") || strings.Contains(all, "pref_beta") {
		t.Errorf("notes: %s", all)
	}
}

func TestStagesShareKeysAndTakeOverrides(t *testing.T) {
	text := "name: two\ndataset: d\nlearning_rate: 1e-4\npublished:\n  learning_rate: 6e-4\nstages:\n- name: first\n  stage: pt\n- name: second\n  stage: sft\n  learning_rate: 2e-4\n"
	r, err := parse(text, "second.cutoff_len=64", "max_steps=5")
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "two" || len(r.Stages) != 2 || r.Published["learning_rate"] != 6e-4 {
		t.Fatalf("got %q %d %v", r.Name, len(r.Stages), r.Published)
	}
	a, b := r.Stages[0], r.Stages[1]
	if a.Name != "first" || a.Optim.LearningRate != 1e-4 || a.Data.CutoffLen != 2048 || !a.Packed() || a.Optim.MaxSteps != 5 {
		t.Errorf("first: %+v", a.Groups)
	}
	if b.Optim.LearningRate != 2e-4 || b.Data.CutoffLen != 64 || b.Packed() || b.Optim.MaxSteps != 5 {
		t.Errorf("second: %+v", b.Groups)
	}
	if _, err := parse(strings.Replace(text, "stage: pt", "stage: dpo\n  packing: true", 1)); err == nil || !strings.Contains(err.Error(), "stage first") {
		t.Errorf("want an error that names the stage, got %v", err)
	}
}

func TestDerivedValues(t *testing.T) {
	r, err := parse("dataset: d\nwarmup_ratio: 0.1\nnum_train_epochs: 1.5\nval_size: 1\n")
	if err != nil {
		t.Fatal(err)
	}
	if r.Steps(11) != 17 || r.Warmup(17) != 2 || Every(0.1, 95) != 10 || Every(7, 95) != 7 || !r.ReportsTo("tensorboard") {
		t.Errorf("steps %d, warm-up %d, every %d %d", r.Steps(11), r.Warmup(17), Every(0.1, 95), Every(7, 95))
	}
	if r, err = parse("dataset: d\nwarmup_steps: 0.25\nmax_steps: 40\nreport_to: none\n"); err != nil {
		t.Fatal(err)
	}
	if r.Steps(11) != 40 || r.Warmup(40) != 10 || r.ReportsTo("tensorboard") {
		t.Errorf("steps %d, warm-up %d", r.Steps(11), r.Warmup(40))
	}
	if r, err = parse("dataset: d\nstage: grpo\nreward_funcs: accuracy\ntop_p: 0.9\n"); err != nil {
		t.Fatal(err)
	}
	if r.Generation.Temperature != 1 || r.Generation.TopP != 0.9 || r.Generation.TopK != 0 {
		t.Errorf("grpo sampling: %+v", r.Generation)
	}
	out, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(out, "again.yaml", nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if again.Generation != r.Generation || again.Optim.LearningRate != r.Optim.LearningRate {
		t.Errorf("a written recipe reads differently:\n%s", out)
	}
}

func TestExportRecipes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "merge.yaml")
	if err := os.WriteFile(path, []byte("model_name_or_path: m\nadapter_name_or_path: a\ntemplate: qwen3\nexport_dir: out\nexport_device: cpu\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := LoadExport(path, []string{"export_size=2"})
	if err != nil || r.Export.Dir != "out" || r.Export.Size != 2 || r.Model.Adapters[0] != "a" {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := LoadExport(path, []string{"export_dir=null"}); err == nil || !strings.Contains(err.Error(), "export_dir") {
		t.Errorf("want an error about export_dir, got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"dataset: d\nlearning_rate: 1e-4\n", "stages:\n- name: a\n  stage: pt\n", "a: &x [1, *x]\n", "lr_scheduler_kwargs: {a: 1}\n", "? [a]\n: b\n", "\xff\xfe", "dataset: !!binary abc\n"} {
		f.Add(s, "seed=1")
	}
	f.Fuzz(func(t *testing.T, text, override string) {
		r, err := parse(text, override)
		if err == nil && len(r.Stages) == 0 && r.Output.Dir == "" {
			t.Error("a recipe without output_dir passed")
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error of several lines: %q", err)
		}
	})
}
