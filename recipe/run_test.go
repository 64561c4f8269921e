package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/format/safetensors"
)

// attempt carries out the text of a recipe and returns what it wrote to standard error.
func attempt(t *testing.T, text string, words ...string) (string, error) {
	t.Helper()
	r, err := Parse([]byte(text), "recipe.yaml", words)
	if err != nil {
		return "", err
	}
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	newEngine := func(string, int) (engine.Engine, error) { return cpu.New(cpu.Options{Threads: 2}) }
	_, err = Run(context.Background(), r, RunOptions{NewEngine: newEngine, Stderr: stderr})
	said, _ := os.ReadFile(stderr.Name())
	return string(said), err
}

// tinyModel trains a model for a step and returns its folder.
func tinyModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("The cat sat on the mat. 小猫坐在垫子上。\n", 40)), 0o644); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.json")
	if err := os.WriteFile(config, []byte(`{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":32,"intermediate_size":64,"num_hidden_layers":4,
"num_attention_heads":4,"num_key_value_heads":2,"rms_norm_eps":1e-5,"rope_theta":10000.0,"vocab_size":4096,"max_position_embeddings":256,"tie_word_embeddings":false,
"torch_dtype":"bfloat16"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "base")
	if said, err := attempt(t, "stage: pt\ntrain_from_scratch: true\ntokenizer_name_or_path: llama-tiny\ncutoff_len: 64\nmax_steps: 1\nreport_to: none\nlearning_rate: 0.001\n",
		"model_name_or_path="+config, "dataset="+text, "output_dir="+out); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

// Samples are logged with their step and prompt, in turn, and a resumed run cuts those that it writes again.
func TestSamplesAreLogged(t *testing.T) {
	dir := tinyModel(t)
	out := filepath.Join(t.TempDir(), "out")
	text := filepath.Join(filepath.Dir(dir), "text.txt")
	const recipe = "stage: pt\ncutoff_len: 64\nreport_to: none\nsample_prompts: [The cat, 小猫]\nsample_steps: 2\nsample_tokens: 4\nlogging_steps: 2\nsave_steps: 2\nlr_scheduler_type: constant\n"
	read := func() (steps []int64, prompts []string) {
		data, err := os.ReadFile(filepath.Join(out, "samples.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			var x struct {
				Step         int64
				Prompt, Text string
			}
			if err := json.Unmarshal([]byte(line), &x); err != nil || x.Text == "" {
				t.Fatalf("%q: %v", line, err)
			}
			steps, prompts = append(steps, x.Step), append(prompts, x.Prompt)
		}
		return steps, prompts
	}
	for _, run := range []struct{ words, want string }{{"max_steps=4", "[2 4]"}, {"max_steps=6", "[2 4 6]"}} {
		if said, err := attempt(t, recipe, "model_name_or_path="+dir, "dataset="+text, "output_dir="+out, run.words); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		steps, prompts := read()
		if fmt.Sprint(steps) != run.want || prompts[0] != "The cat" || prompts[1] != "小猫" {
			t.Errorf("%s: samples at %v of %q", run.words, steps, prompts)
		}
	}
}

// Recipes with the keys of LLaMA-Factory's examples, in their sections; only the model's path is another.
var factoryRecipes = map[string]string{
	"full supervised": `
### model
model_name_or_path: MODEL
trust_remote_code: true
use_v1_kernels: true
flash_attn: auto

### method
stage: sft
do_train: true
finetuning_type: full
deepspeed: examples/deepspeed/ds_z3_config.json  # choices: [ds_z0_config.json, ds_z2_config.json, ds_z3_config.json]

### dataset
dataset: identity,alpaca_demo
template: chatml
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16
dataloader_num_workers: 4
overwrite_cache: true

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
gradient_accumulation_steps: 2
learning_rate: 1.0e-5
num_train_epochs: 1.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null

### eval
val_size: 0.1
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 5
`,
	"pretraining": `
### model
model_name_or_path: MODEL
trust_remote_code: true

### method
stage: pt
do_train: true
finetuning_type: full

### dataset
dataset: c4_demo
cutoff_len: 128
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
report_to: none

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
`,
	"freeze": `
model_name_or_path: MODEL
stage: sft
do_train: true
finetuning_type: freeze
freeze_trainable_layers: 1
freeze_trainable_modules: mlp,self_attn
freeze_extra_modules: lm_head
dataset: conversations
template: chatml
cutoff_len: 1024
packing: true
neat_packing: true
gradient_checkpointing: true
output_dir: OUT
logging_steps: 1
save_strategy: epoch
report_to: none
per_device_train_batch_size: 2
learning_rate: 1.0e-2
max_steps: 4
fp16: true
`,
}

// factoryData is a data folder like LLaMA-Factory's: dataset_info.json and files in its two formats, and documents.
func factoryData(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"dataset_info.json": `{"identity": {"file_name": "identity.json"}, "alpaca_demo": {"file_name": "alpaca.json"},
"c4_demo": {"file_name": "c4.jsonl", "columns": {"prompt": "text"}},
"conversations": {"file_name": "talk.json", "formatting": "sharegpt", "columns": {"messages": "conversations", "system": "system"},
 "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}}}`,
		"identity.json": "[" + repeated(10, `{"instruction": "Who are you?", "input": "", "output": "I am a small model."}`) + "]",
		"alpaca.json":   "[" + repeated(10, `{"instruction": "Add.", "input": "1+2", "output": "3", "history": [["1+1", "2"]]}`) + "]",
		"c4.jsonl":      strings.ReplaceAll(repeated(40, `{"text": "Every morning the cat goes to the river and looks at the fish. 每天早上小猫都去河边看鱼。"}`), "},", "}\n"),
		"talk.json":     "[" + repeated(12, `{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}, {"from": "human", "value": "Bye"}, {"from": "gpt", "value": "See you."}], "system": "Be short."}`) + "]",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func repeated(n int, row string) string { return strings.TrimSuffix(strings.Repeat(row+",", n), ",") }

func TestLLaMAFactorysRecipes(t *testing.T) {
	model, datasets := tinyModel(t), factoryData(t)
	for name, text := range factoryRecipes {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "saves", "run")
			said, err := attempt(t, strings.NewReplacer("MODEL", model, "OUT", out).Replace(text), "dataset_dir="+datasets)
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			for _, f := range []string{"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
				"all_results.json", "train_results.json", "trainer_state.json", "trainer_log.jsonl", "metrics.jsonl", "README.md"} {
				if _, err := os.Stat(filepath.Join(out, f)); err != nil {
					t.Error(err)
				}
			}
			if strings.Contains(text, "plot_loss") {
				for _, f := range []string{"training_loss.png", "training_loss.svg"} {
					if _, err := os.Stat(filepath.Join(out, f)); err != nil {
						t.Error(err)
					}
				}
			}
			if strings.Contains(text, "trust_remote_code") && strings.Count(said, "trust_remote_code") != 1 {
				t.Errorf("the keys without meaning stand in one line:\n%s", said)
			}
			if name == "freeze" {
				checkFrozen(t, model, out)
			}
		})
	}
}

// checkFrozen holds a model against the one it was trained from: changed are the named modules of the last layer and the
// head, and nothing else.
func checkFrozen(t *testing.T, before, after string) {
	t.Helper()
	open := func(dir string) *safetensors.File {
		f, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(before), open(after)
	for _, n := range a.Names() {
		x, err := a.Tensor(n)
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.Tensor(n)
		if err != nil {
			t.Fatal(err)
		}
		trained := n == "lm_head.weight" || strings.HasPrefix(n, "model.layers.3.mlp") || strings.HasPrefix(n, "model.layers.3.self_attn")
		if x.DType != y.DType {
			t.Errorf("%s: came as %v and was saved as %v", n, x.DType, y.DType)
		}
		if changed := !bytes.Equal(x.Data, y.Data); changed != trained {
			t.Errorf("%s: changed %v, want %v", n, changed, trained)
		}
	}
}

func TestRunErrors(t *testing.T) {
	model, datasets := tinyModel(t), factoryData(t)
	common := "stage: sft\nfinetuning_type: full\nmax_steps: 1\nreport_to: none\ndataset: identity\n"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"a preset without train_from_scratch", common + "model_name_or_path: llama-tiny\ntemplate: chatml\n", []string{"model_name_or_path", "train_from_scratch"}},
		{"no such model", common + "model_name_or_path: /none\ntemplate: chatml\n", []string{"model_name_or_path", "/none"}},
		{"no template", common + "model_name_or_path: MODEL\n", []string{"template", "chatml"}},
		{"an unknown template", common + "model_name_or_path: MODEL\ntemplate: chatmll\n", []string{"template", "chatml"}},
		{"a shape without a vocabulary", common + "model_name_or_path: smollm2-135m\ntrain_from_scratch: true\ntemplate: chatml\n", []string{"tokenizer_name_or_path"}},
		{"no such module", common + "model_name_or_path: MODEL\ntemplate: chatml\nfinetuning_type: freeze\nfreeze_trainable_modules: attention\n", []string{"freeze_trainable_modules", "attention", "self_attn"}},
		{"no memory", common + "model_name_or_path: MODEL\ntemplate: chatml\npacking: true\nper_device_train_batch_size: 1000000\n", []string{"memory", "per_device_train_batch_size"}},
		{"no such feature", common + "model_name_or_path: MODEL\ntemplate: chatml\nref_model_quantization_bit: 4\n", []string{"ref_model_quantization_bit", "not supported"}},
		{"nothing scored", common + "model_name_or_path: MODEL\ntemplate: chatml\ncutoff_len: 2\n", []string{"scored"}},
	} {
		text := strings.Replace(c.text, "finetuning_type: full\n", "", strings.Count(c.text, "finetuning_type")-1)
		said, err := attempt(t, strings.ReplaceAll(text, "MODEL", model), "dataset_dir="+datasets, "output_dir="+filepath.Join(t.TempDir(), "out"))
		if err == nil {
			t.Errorf("%s: no error\n%s", c.name, said)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v\nwant %q in it", c.name, err, w)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", c.name, err)
		}
	}
}

// A longer context than the model's is stretched as rope_scaling says, in the saved config too.
func TestRopeScaling(t *testing.T) {
	model, datasets := tinyModel(t), factoryData(t)
	run := func(words ...string) (string, string) {
		out := filepath.Join(t.TempDir(), "out")
		said, err := attempt(t, "stage: pt\nfinetuning_type: full\ndataset: c4_demo\nmax_steps: 1\nreport_to: none\nsave_strategy: no\n",
			append(words, "model_name_or_path="+model, "dataset_dir="+datasets, "output_dir="+out, "per_device_train_batch_size=1")...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", words, err, said)
		}
		config, err := os.ReadFile(filepath.Join(out, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(config), said
	}
	config, _ := run("rope_scaling=yarn", "cutoff_len=600", "rope_theta=20000")
	for _, want := range []string{`"factor": 3`, `"max_position_embeddings": 768`, `"original_max_position_embeddings": 256`, `"rope_type": "yarn"`, `"rope_theta": 20000`, `"rope_parameters"`} {
		if !strings.Contains(config, want) {
			t.Errorf("no %s in\n%s", want, config)
		}
	}
	if config, said := run("rope_scaling=linear", "cutoff_len=128"); strings.Contains(config, "linear") || !strings.Contains(said, "rope_scaling") {
		t.Errorf("%s\n%s", said, config)
	}
}
