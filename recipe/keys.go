package recipe

// Field tags: key is the YAML key, default its value when it is left out or null (LLaMA-Factory's, else
// Hugging Face's TrainingArguments; for GRPO TRL's), oneof the allowed words, min, above and max the allowed numbers.
// A pointer field is nil when nothing is set. Comma-separated strings and YAML lists both fill slices.

// Model says what is trained and how it is stored.
type Model struct {
	Path              string         `key:"model_name_or_path"`   // folder, GGUF file, name in the local store, or preset
	Adapters          []string       `key:"adapter_name_or_path"` // adapters to load, the last one to go on with
	AdapterFolder     string         `key:"adapter_folder"`
	Revision          string         `key:"model_revision" default:"main"`
	Tokenizer         string         `key:"tokenizer_name_or_path"` // for from-scratch models; default: the model's own
	FromScratch       bool           `key:"train_from_scratch" default:"false"`
	ResizeVocab       bool           `key:"resize_vocab" default:"false"`
	SplitSpecial      bool           `key:"split_special_tokens" default:"false"`
	AddTokens         []string       `key:"add_tokens"`
	AddSpecialTokens  []string       `key:"add_special_tokens"`
	NewTokensConfig   string         `key:"new_special_tokens_config"` // YAML file: special tokens and what they mean
	InitTokens        string         `key:"init_special_tokens" default:"noise_init" oneof:"noise_init|desc_init|desc_init_w_noise|mean_init|subword_init"`
	RopeScaling       string         `key:"rope_scaling" oneof:"linear|dynamic|yarn|llama3"`
	RopeScalingFactor *float64       `key:"rope_scaling_factor" min:"1"` // default: cutoff_len over the model's context
	RopeTheta         *float64       `key:"rope_theta" above:"0"`        // adjusted base frequency
	MoEAuxLossCoef    *float64       `key:"moe_aux_loss_coef" min:"0"`
	MoESequenceCoef   float64        `key:"moe_sequence_loss_coef" default:"0.0" min:"0"`   // DeepSeek-V3's sequence-wise balance loss
	MoEBiasSpeed      float64        `key:"moe_bias_update_speed" default:"0.0" min:"0"`    // balancing without a loss
	MTPLossWeight     float64        `key:"mtp_loss_weight" default:"0.0" min:"0"`          // of the multi-token prediction module
	NoCheckpointing   bool           `key:"disable_gradient_checkpointing" default:"false"` // keep all activations, recompute none
	QuantizationBit   *int           `key:"quantization_bit" oneof:"4|8"`
	QuantMethod       string         `key:"quantization_method" default:"bnb" oneof:"bnb|bitsandbytes"`
	QuantType         string         `key:"quantization_type" default:"nf4" oneof:"nf4"`
	DoubleQuant       bool           `key:"double_quantization" default:"true"`
	ImageMaxPixels    int            `key:"image_max_pixels" default:"589824" min:"1"`
	ImageMinPixels    int            `key:"image_min_pixels" default:"1024" min:"1"`
	VideoMaxPixels    int            `key:"video_max_pixels" default:"65536" min:"1"`
	VideoMinPixels    int            `key:"video_min_pixels" default:"256" min:"1"`
	VideoFPS          float64        `key:"video_fps" default:"2.0" above:"0"`
	VideoMaxLen       int            `key:"video_maxlen" default:"128" min:"1"`
	Engine            string         `key:"engine" default:"cpu" oneof:"cpu|xla|xla:cpu|xla:cuda13|ref"`
	Threads           int            `key:"threads" default:"0" min:"0"` // 0: all cores
	Mesh              map[string]any `key:"mesh"`                        // devices along dp, fsdp, ep, tp, of engine: xla
}

// Data says what it is trained on.
type Data struct {
	Template           string         `key:"template"`
	Dataset            []string       `key:"dataset"`
	EvalDataset        []string       `key:"eval_dataset"`
	DatasetDir         string         `key:"dataset_dir" default:"data"`
	MediaDir           string         `key:"media_dir"` // default: dataset_dir
	CutoffLen          int            `key:"cutoff_len" default:"2048" min:"2"`
	TrainOnPrompt      bool           `key:"train_on_prompt" default:"false"`
	MaskHistory        bool           `key:"mask_history" default:"false"`
	Streaming          bool           `key:"streaming" default:"false"`
	MixStrategy        string         `key:"mix_strategy" default:"concat" oneof:"concat|interleave_under|interleave_over|interleave_once"`
	InterleaveProbs    []float64      `key:"interleave_probs"`
	InterleaveBy       string         `key:"interleave_by" default:"rows" oneof:"rows|tokens"`
	OverwriteCache     bool           `key:"overwrite_cache" default:"false"`
	Workers            *int           `key:"preprocessing_num_workers" min:"1"` // encoding goroutines; default: the threads
	GroupSize          int            `key:"preprocessing_batch_size" default:"1000" min:"1"`
	MaxSamples         *int           `key:"max_samples" min:"1"`
	ValSize            float64        `key:"val_size" default:"0.0" min:"0"` // below 1 a share, from 1 on a number of rows
	EvalOnEach         bool           `key:"eval_on_each_dataset" default:"false"`
	Packing            *bool          `key:"packing"` // default: on for pt, else off
	NeatPacking        bool           `key:"neat_packing" default:"false"`
	PackingStrategy    string         `key:"packing_strategy" oneof:"bfd|wrapped"` // default: wrapped for pt, else bfd
	ToolFormat         string         `key:"tool_format"`
	DefaultSystem      *string        `key:"default_system"`
	EnableThinking     *bool          `key:"enable_thinking" default:"true"`
	PreserveThinking   bool           `key:"preserve_thinking" default:"false"`
	TokenizedPath      string         `key:"tokenized_path"`
	TextUnit           string         `key:"text_unit" oneof:"line|paragraph|document"`
	Strict             bool           `key:"strict" default:"false"` // a malformed record stops the run
	DisableShuffling   bool           `key:"disable_shuffling" default:"false"`
	Objective          string         `key:"pretraining_objective" default:"causal" oneof:"causal|infilling"`
	InfillShort        float64        `key:"infilling_short" default:"0.5" min:"0" max:"1"`
	InfillSentence     float64        `key:"infilling_sentence" default:"0.0" min:"0" max:"1"`
	InfillMaskRatio    float64        `key:"infilling_mask_ratio" default:"0.15" above:"0" max:"0.9"`
	InfillLambda       float64        `key:"infilling_lambda" default:"3.0" above:"0" max:"100"`
	ClozePattern       string         `key:"cloze_pattern"`                                             // a text with [MASK]; {prompt} and {COLUMN} stand for the record's
	ClozeWords         map[string]any `key:"cloze_verbalizer"`                                          // from labels to the words that fill the blank
	InfillInstructions float64        `key:"infilling_instruction_share" default:"0.0" min:"0" max:"1"` // GLM-130B's multi-task share
}

// Method says which weights are trained and by which loss.
type Method struct {
	Stage          string   `key:"stage" default:"sft" oneof:"pt|sft|rm|ppo|dpo|kto|grpo|distill|rft|cloze"`
	FinetuningType string   `key:"finetuning_type" default:"lora" oneof:"lora|freeze|full"`
	FreezeLayers   int      `key:"freeze_trainable_layers" default:"2"`
	FreezeModules  []string `key:"freeze_trainable_modules" default:"all"`
	FreezeExtra    []string `key:"freeze_extra_modules"`
	LoraRank       int      `key:"lora_rank" default:"8" min:"1"`
	LoraAlpha      *int     `key:"lora_alpha" min:"1"` // default: 2 * lora_rank
	LoraDropout    float64  `key:"lora_dropout" default:"0.0" min:"0" max:"0.99"`
	LoraTarget     []string `key:"lora_target" default:"all"`
	ExtraTarget    []string `key:"additional_target"`
	LoraPlusRatio  *float64 `key:"loraplus_lr_ratio" above:"0"`
	LoraPlusEmbed  float64  `key:"loraplus_lr_embedding" default:"1e-06" min:"0"`
	RSLora         bool     `key:"use_rslora" default:"false"`
	DoRA           bool     `key:"use_dora" default:"false"`
	PissaInit      bool     `key:"pissa_init" default:"false"`
	PissaIter      int      `key:"pissa_iter" default:"16" min:"-1"`
	PissaConvert   bool     `key:"pissa_convert" default:"false"`
	NewAdapter     bool     `key:"create_new_adapter" default:"false"`
	FreezeVision   bool     `key:"freeze_vision_tower" default:"true"`
	FreezeMerger   bool     `key:"freeze_multi_modal_projector" default:"true"`
	FreezeLanguage bool     `key:"freeze_language_model" default:"false"`

	PrefBeta           float64  `key:"pref_beta" default:"0.1" min:"0"`
	PrefFtx            float64  `key:"pref_ftx" default:"0.0" min:"0"`
	PrefLoss           string   `key:"pref_loss" default:"sigmoid" oneof:"sigmoid|hinge|robust|cdpo|ipo|ipo_sum|sigmoid_norm|apo_zero|apo_down|exo_pair|nca_pair|sppo_hard|aot_unpaired|discopop|simpo|cpo|orpo|kto_pair"`
	LabelSmoothing     float64  `key:"dpo_label_smoothing" default:"0.0" min:"0" max:"0.5"`
	CPOAlpha           float64  `key:"cpo_alpha" default:"1.0" min:"0"`
	SimPOGamma         float64  `key:"simpo_gamma" default:"0.5"`
	KTOChosenWeight    float64  `key:"kto_chosen_weight" default:"1.0" min:"0"`
	KTORejectedWeight  float64  `key:"kto_rejected_weight" default:"1.0" min:"0"`
	RefModel           string   `key:"ref_model"`
	RefAdapters        string   `key:"ref_model_adapters"`
	RefQuantBit        *int     `key:"ref_model_quantization_bit" oneof:"4|8"`
	RewardModel        string   `key:"reward_model"`
	RewardAdapters     string   `key:"reward_model_adapters"`
	RewardQuantBit     *int     `key:"reward_model_quantization_bit" oneof:"4|8"`
	RewardModelType    string   `key:"reward_model_type" default:"lora" oneof:"lora|full|api"`
	ComputeAccuracy    bool     `key:"compute_accuracy" default:"false"`
	EarlyStoppingSteps *int     `key:"early_stopping_steps" min:"1"`
	NEFTuneAlpha       *float64 `key:"neftune_noise_alpha" min:"0"`
	ZLoss              float64  `key:"z_loss" default:"0.0" min:"0"` // coefficient of mean(logsumexp^2)
}

// Reinforce holds the keys of ppo (LLaMA-Factory's), grpo (TRL's) and rft.
type Reinforce struct {
	PPOBufferSize    int     `key:"ppo_buffer_size" default:"1" min:"1"`
	PPOEpochs        int     `key:"ppo_epochs" default:"4" min:"1"`
	PPOScoreNorm     bool    `key:"ppo_score_norm" default:"false"`
	PPOTarget        float64 `key:"ppo_target" default:"6.0" above:"0"`
	PPOWhitenRewards bool    `key:"ppo_whiten_rewards" default:"false"`
	KLCoef           float64 `key:"kl_coef" default:"0.05" min:"0"`
	ClipRange        float64 `key:"cliprange" default:"0.2" above:"0"`
	ClipRangeValue   float64 `key:"cliprange_value" default:"0.2" above:"0"`
	ValueCoef        float64 `key:"vf_coef" default:"0.1" min:"0"`
	Gamma            float64 `key:"gamma" default:"1.0" min:"0" max:"1"`
	Lambda           float64 `key:"lam" default:"0.95" min:"0" max:"1"`

	RewardFuncs         []string  `key:"reward_funcs"`
	RewardWeights       []float64 `key:"reward_weights"`
	NumGenerations      int       `key:"num_generations" default:"8" min:"1"`
	MaxPromptLength     *int      `key:"max_prompt_length" min:"1"`
	MaxCompletionLength int       `key:"max_completion_length" default:"256" min:"1"`
	Beta                float64   `key:"beta" default:"0.0" min:"0"`
	Epsilon             float64   `key:"epsilon" default:"0.2" above:"0"`
	EpsilonHigh         *float64  `key:"epsilon_high" above:"0"`
	LossType            string    `key:"loss_type" default:"dapo" oneof:"grpo|bnpo|dr_grpo|dapo|gspo|cispo"`
	ScaleRewards        string    `key:"scale_rewards" default:"group" oneof:"group|batch|none|true|false"`
	Advantage           string    `key:"advantage" default:"group" oneof:"group|rloo|reinforce_pp_baseline"`
	NumIterations       int       `key:"num_iterations" default:"1" min:"1"`
	MaskTruncated       bool      `key:"mask_truncated_completions" default:"false"`
	DynamicSampling     bool      `key:"dynamic_sampling" default:"false"`   // DAPO: draw again for groups of equal rewards
	OverlongCache       int       `key:"overlong_cache" default:"0" min:"0"` // DAPO: tokens of the soft length punishment
	RewardThreshold     float64   `key:"reward_threshold" default:"1.0"`     // rft: keep answers that score at least this
	KeepPerPrompt       int       `key:"keep_per_prompt" default:"1" min:"1"`
}

// Distill holds the keys of the distill stage.
type Distill struct {
	Teacher     string  `key:"teacher_model"`
	TeacherAPI  string  `key:"teacher_api_base"` // an OpenAI endpoint for sequence-level distillation
	Loss        string  `key:"distill_loss" default:"forward_kl" oneof:"forward_kl|reverse_kl|jsd|sequence"`
	Temperature float64 `key:"distill_temperature" default:"1.0" above:"0"`
	Alpha       float64 `key:"distill_alpha" default:"0.0" min:"0" max:"1"` // share of plain cross-entropy
	Beta        float64 `key:"distill_beta" default:"0.5" min:"0" max:"1"`  // of the JSD mixture
	TopK        int     `key:"distill_top_k" default:"0" min:"0"`           // 0: the whole vocabulary
}

// Optim holds batch sizes, optimiser, schedule and precision.
type Optim struct {
	BatchSize       int            `key:"per_device_train_batch_size" default:"8" min:"1"`
	EvalBatchSize   int            `key:"per_device_eval_batch_size" default:"8" min:"1"`
	Accumulation    int            `key:"gradient_accumulation_steps" default:"1" min:"1"`
	LearningRate    float64        `key:"learning_rate" default:"5e-05" min:"0"`
	WeightDecay     float64        `key:"weight_decay" default:"0.0" min:"0"`
	Beta1           float64        `key:"adam_beta1" default:"0.9" min:"0" max:"0.999999"`
	Beta2           float64        `key:"adam_beta2" default:"0.999" min:"0" max:"0.9999999"`
	Epsilon         float64        `key:"adam_epsilon" default:"1e-08" above:"0"`
	MaxGradNorm     float64        `key:"max_grad_norm" default:"1.0" min:"0"` // 0: no clipping
	Optimizer       string         `key:"optim" default:"adamw_torch" oneof:"adamw_torch|adamw_torch_fused|adamw|adam|sgd|adafactor|adafactor_torch|muon"`
	UseMuon         bool           `key:"use_muon" default:"false"` // optim: muon
	Epochs          float64        `key:"num_train_epochs" default:"3.0" above:"0"`
	MaxSteps        int            `key:"max_steps" default:"-1" min:"-1"`
	Scheduler       string         `key:"lr_scheduler_type" default:"linear" oneof:"linear|cosine|cosine_with_restarts|cosine_with_min_lr|polynomial|constant|constant_with_warmup|inverse_sqrt|warmup_stable_decay|wsd"`
	SchedulerKwargs map[string]any `key:"lr_scheduler_kwargs"`
	WarmupRatio     float64        `key:"warmup_ratio" default:"0.0" min:"0" max:"1"`
	WarmupSteps     float64        `key:"warmup_steps" default:"0" min:"0"` // below 1 a ratio, as in transformers 5
	Seed            int64          `key:"seed" default:"42" min:"0"`
	DataSeed        *int64         `key:"data_seed" min:"0"`
	BF16            bool           `key:"bf16" default:"false"`
	FP16            bool           `key:"fp16" default:"false"`
	PureBF16        bool           `key:"pure_bf16" default:"false"`
}

// Output says what is written, and when.
type Output struct {
	Dir              string   `key:"output_dir"`
	Overwrite        bool     `key:"overwrite_output_dir" default:"false"`
	DoTrain          *bool    `key:"do_train"`
	DoEval           *bool    `key:"do_eval"`
	LoggingSteps     float64  `key:"logging_steps" default:"500" above:"0"` // below 1 a share of all steps, as the next two
	LoggingFirstStep bool     `key:"logging_first_step" default:"false"`
	LoggingStrategy  string   `key:"logging_strategy" default:"steps" oneof:"no|steps|epoch"`
	SaveSteps        float64  `key:"save_steps" default:"500" above:"0"`
	SaveStrategy     string   `key:"save_strategy" default:"steps" oneof:"no|steps|epoch|best"`
	SaveTotalLimit   *int     `key:"save_total_limit" min:"1"`
	SaveOnlyModel    bool     `key:"save_only_model" default:"false"`
	EvalStrategy     string   `key:"eval_strategy" default:"no" oneof:"no|steps|epoch"`
	EvalSteps        *float64 `key:"eval_steps" above:"0"` // default: logging_steps
	LoadBest         bool     `key:"load_best_model_at_end" default:"false"`
	BestMetric       string   `key:"metric_for_best_model"`
	GreaterIsBetter  *bool    `key:"greater_is_better"`
	PlotLoss         bool     `key:"plot_loss" default:"false"`
	ReportTo         []string `key:"report_to"` // default: tensorboard; none for no events
	LoggingDir       string   `key:"logging_dir"`
	Resume           string   `key:"resume_from_checkpoint"` // "true": the newest complete one in output_dir; a path; "" or "false": none
	SamplePrompts    []string `key:"sample_prompts"`         // what the model is asked while it learns, in turn
	SampleSteps      float64  `key:"sample_steps" default:"100" above:"0"`
	SampleTokens     int      `key:"sample_tokens" default:"128" min:"1"`
	Force            bool     `key:"force" default:"false"` // train although the memory or disk check fails
	Quiet            bool     `key:"quiet" default:"false"`
}

// Generation holds the sampling keys of rollouts and samples. grpo and rft default to the whole distribution
// (temperature 1, top_p 1, top_k 0), as TRL does.
type Generation struct {
	DoSample          bool    `key:"do_sample" default:"true"`
	Temperature       float64 `key:"temperature" default:"0.95" min:"0"`
	TopP              float64 `key:"top_p" default:"0.7" above:"0" max:"1"`
	TopK              int     `key:"top_k" default:"50" min:"0"`
	MinP              float64 `key:"min_p" default:"0.0" min:"0" max:"1"`
	MaxNewTokens      int     `key:"max_new_tokens" default:"1024" min:"1"`
	RepetitionPenalty float64 `key:"repetition_penalty" default:"1.0" above:"0"`
}

// Export holds the keys of `danlu export`.
type Export struct {
	Dir  string `key:"export_dir"`
	Size int    `key:"export_size" default:"5" min:"1"` // GB of a shard
}

// meaningless keys are accepted and do nothing here: they tune GPUs, processes, libraries or hubs that are not there.
var meaningless = words(`
	trust_remote_code use_fast_tokenizer low_cpu_mem_usage cache_dir hf_hub_token ms_hub_token om_hub_token
	flash_attn use_unsloth use_unsloth_gc enable_liger_kernel use_reentrant_gc upcast_layernorm upcast_lmhead_output
	use_kv_cache use_v1_kernels infer_backend infer_dtype offload_folder print_param_status quantization_device_map
	gradient_checkpointing gradient_checkpointing_kwargs
	deepspeed fsdp fsdp_config fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap accelerator_config parallelism_config
	ddp_timeout ddp_backend ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers local_rank log_on_each_node
	dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
	preprocessing_cache data_shared_file_system buffer_size group_by_length length_column_name remove_unused_columns
	ignore_pad_token_for_loss tf32 bf16_full_eval fp16_full_eval fp16_opt_level half_precision_backend jit_mode_eval use_ipex
	no_cuda use_cpu use_mps_device torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps
	save_safetensors save_on_each_node push_to_hub hub_model_id hub_strategy hub_token hub_private_repo hub_always_push hub_revision
	run_name include_effective_tokens_per_second skip_special_tokens
	log_level log_level_replica disable_tqdm logging_nan_inf_filter skip_memory_metrics include_num_input_tokens_seen
	include_tokens_per_second past_index eval_accumulation_steps batch_eval_metrics eval_use_gather_object prediction_loss_only
	auto_find_batch_size full_determinism ignore_data_skip restore_callback_states_from_checkpoint average_tokens_across_devices
	ray_num_workers ray_run_name ray_storage_path ray_storage_filesystem ray_init_kwargs resources_per_worker placement_strategy master_addr master_port
	swanlab_project swanlab_workspace swanlab_run_name swanlab_mode swanlab_api_key swanlab_logdir swanlab_lark_webhook_url swanlab_lark_secret
	project trackio_space_id export_device export_legacy_format
	vllm_maxlen vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank vllm_config
	sglang_maxlen sglang_mem_fraction sglang_tp_size sglang_config sglang_lora_backend
	badam_verbose profiler_output_dir profiler_wait_steps profiler_warmup_steps profiler_active_steps profiler_repeat
	profiler_record_shapes profiler_profile_memory profiler_with_stack kt_cpu_activation kt_config
	use_audio_in_video audio_sampling_rate
	eval_num_beams generation_max_length generation_num_beams num_beams length_penalty max_length
	galore_target galore_rank galore_update_interval galore_scale galore_proj_type galore_layerwise
	apollo_target apollo_rank apollo_update_interval apollo_scale apollo_proj apollo_proj_type apollo_scale_type apollo_layerwise apollo_scale_front
	badam_mode badam_start_block badam_switch_mode badam_switch_interval badam_update_ratio badam_mask_mode
	oft_rank oft_block_size oft_target module_dropout asft_alpha eaft_alpha
	export_quantization_nsamples export_quantization_maxlen fp8_backend ld_alpha hyper_parallel_cp_size hyper_parallel_args
`)

// refused keys exist elsewhere and change what is trained. They are accepted at the value that turns them off, and
// refused by name otherwise.
var refused = map[string]struct{ off, instead string }{
	"use_galore":                        {"false", "use finetuning_type: lora to save optimiser memory"},
	"use_apollo":                        {"false", "use finetuning_type: lora to save optimiser memory"},
	"use_badam":                         {"false", "use finetuning_type: freeze to train part of the layers"},
	"use_adam_mini":                     {"false", "use optim: adafactor to save optimiser memory"},
	"use_llama_pro":                     {"false", "use finetuning_type: freeze"},
	"use_dft_loss":                      {"false", "there is no such loss here"},
	"use_asft_loss":                     {"false", "there is no such loss here"},
	"use_eaft_loss":                     {"false", "there is no such loss here"},
	"use_swanlab":                       {"false", "use report_to: tensorboard"},
	"use_mca":                           {"false", "use engine: xla for several devices"},
	"use_megatron_bridge":               {"false", "use engine: xla for several devices"},
	"use_hyper_parallel":                {"false", "use engine: xla for several devices"},
	"use_kt":                            {"false", "the CPU engine needs no such key"},
	"enable_torch_profiler":             {"false", "there is no torch here"},
	"profile_modules":                   {"", "there is no torch here"},
	"shift_attn":                        {"false", "use rope_scaling for longer contexts"},
	"mixture_of_depths":                 {"", "there is no such model here"},
	"pref_bco_weight":                   {"0.0", "there is no such loss term here"},
	"predict_with_generate":             {"false", "use danlu eval or danlu generate"},
	"do_predict":                        {"false", "use danlu eval or danlu generate"},
	"label_smoothing_factor":            {"0.0", "there is no such loss here; for dpo use dpo_label_smoothing"},
	"fp8":                               {"false", "use bf16: true"},
	"fp8_enable_fsdp_float8_all_gather": {"false", "use bf16: true"},
	"export_quantization_bit":           {"", "use danlu quantize on the exported model"},
	"export_quantization_dataset":       {"", "use danlu quantize on the exported model"},
	"export_hub_model_id":               {"", "export to a folder and upload it"},
	"crop_to_patches":                   {"false", "there is no such image processor here"},
	"image_do_pan_and_scan":             {"false", "there is no such image processor here"},
	"dataloader_drop_last":              {"false", "the last batch is always trained on"},
	"layer_wise_lr":                     {"", "use loraplus_lr_ratio or freeze"},
}

// aliases are other names of a key: older Hugging Face spellings, axolotl's and TRL's.
var aliases = map[string]string{
	"evaluation_strategy":   "eval_strategy",
	"base_model":            "model_name_or_path",
	"model":                 "model_name_or_path",
	"sequence_len":          "cutoff_len",
	"max_seq_length":        "cutoff_len",
	"sample_packing":        "packing",
	"micro_batch_size":      "per_device_train_batch_size",
	"num_epochs":            "num_train_epochs",
	"lora_r":                "lora_rank",
	"val_set_size":          "val_size",
	"dataset_prepared_path": "tokenized_path",
	"lora_target_modules":   "lora_target",
	"train_dataset":         "dataset",
}
