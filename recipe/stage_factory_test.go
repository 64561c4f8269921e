package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// alignmentRecipes have the keys of LLaMA-Factory's alignment examples; only the model's path is another, and fewer steps
// are made.
var alignmentRecipes = map[string]string{
	"dpo": `
### model
model_name_or_path: MODEL
trust_remote_code: true

### method
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
pref_beta: 0.1
pref_loss: sigmoid  # choices: [sigmoid (dpo), orpo, simpo]

### dataset
dataset: dpo_en_demo
`,
	"kto": `
model_name_or_path: MODEL
stage: kto
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
pref_beta: 0.1
dataset: kto_en_demo
`,
	"reward": `
model_name_or_path: MODEL
stage: rm
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: dpo_en_demo
`,
	"ppo": `
model_name_or_path: MODEL
reward_model: REWARD
stage: ppo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: identity,alpaca_demo
max_new_tokens: 16
top_k: 0
top_p: 0.9
`,
	"quantized dpo": `
model_name_or_path: MODEL
quantization_bit: 4
quantization_method: bnb
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
pref_beta: 0.1
pref_loss: orpo
dataset: dpo_en_demo
`,
}

// alignmentCommon are the sections that the examples share.
const alignmentCommon = `
template: chatml
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16
dataloader_num_workers: 4

### output
output_dir: OUT
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none  # choices: [none, wandb, tensorboard, swanlab, mlflow]

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5.0e-6
num_train_epochs: 1.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
`

// alignmentData adds LLaMA-Factory's two alignment formats to its others.
func alignmentData(t *testing.T) string {
	t.Helper()
	dir := factoryData(t)
	info, err := os.ReadFile(filepath.Join(dir, "dataset_info.json"))
	if err != nil {
		t.Fatal(err)
	}
	more := `{"dpo_en_demo": {"file_name": "dpo_en_demo.json", "ranking": true, "formatting": "sharegpt", "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}},
"kto_en_demo": {"file_name": "kto_en_demo.json", "formatting": "sharegpt", "columns": {"messages": "messages", "kto_tag": "label"},
 "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}},`
	for name, text := range map[string]string{
		"dataset_info.json": more + strings.TrimPrefix(string(info), "{"),
		"dpo_en_demo.json":  "[" + repeated(12, `{"conversations": [{"from": "human", "value": "Which river?"}], "chosen": {"from": "gpt", "value": "The long one."}, "rejected": {"from": "gpt", "value": "No idea."}}`) + "]",
		"kto_en_demo.json": "[" + repeated(6, `{"messages": [{"content": "Which river?", "role": "user"}, {"content": "The long one.", "role": "assistant"}], "label": true},
{"messages": [{"content": "Which hill?", "role": "user"}, {"content": "No idea.", "role": "assistant"}], "label": false}`) + "]",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLLaMAFactorysAlignmentRecipes(t *testing.T) {
	model, datasets, saves := tinyModel(t), alignmentData(t), t.TempDir()
	for _, name := range []string{"reward", "ppo", "dpo", "kto", "quantized dpo"} { // ppo uses what reward made
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(saves, name)
			text := strings.NewReplacer("MODEL", model, "OUT", out, "REWARD", filepath.Join(saves, "reward")).Replace(alignmentRecipes[name] + alignmentCommon)
			said, err := attempt(t, text, "dataset_dir="+datasets)
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			for _, f := range []string{"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "all_results.json", "trainer_state.json", "trainer_log.jsonl", "training_loss.png"} {
				if _, err := os.Stat(filepath.Join(out, f)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
