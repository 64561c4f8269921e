package recipe

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"danlu/adapter"
	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/family"
	"danlu/format/safetensors"
)

// questions are conversations with one kind of answer.
func questions(n int) (rows []any) {
	for i := range n {
		rows = append(rows, map[string]any{"instruction": fmt.Sprintf("where is item %d?", i), "output": fmt.Sprintf("item %d is on the shelf", i)})
	}
	return rows
}

// trainedBase is a small model with weights.
func trainedBase(t *testing.T) string {
	t.Helper()
	dir, _ := runRecipe(t, context.Background(), scratch("stage=sft", "dataset="+writeRows(t, questions(8)...), "output_dir="+t.TempDir(), "cutoff_len=64",
		"per_device_train_batch_size=4", "max_steps=2")...)
	return dir
}

func sftOn(base, data, dir string, extra ...string) []string {
	return append([]string{"stage=sft", "finetuning_type=lora", "model_name_or_path=" + base, "dataset=" + data, "output_dir=" + dir, "cutoff_len=64",
		"per_device_train_batch_size=4", "learning_rate=5e-3", "lr_scheduler_type=constant", "seed=3", "max_steps=12"}, extra...)
}

// Each kind of adapter learns, leaves PEFT's files and no copy of the base, and its files load.
func TestMethodLoRA(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	base, data := trainedBase(t), writeRows(t, questions(24)...)
	m, _, err := family.Load(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][]string{
		{"lora_rank=4"},
		{"lora_rank=4", "bf16=true", "lora_dropout=0.1"},
		{"use_rslora=true", "lora_target=q_proj,v_proj", "loraplus_lr_ratio=4"},
		{"use_dora=true", "lora_alpha=16"},
		{"additional_target=lm_head", "lora_target=q_proj,up_proj"},
		{"pissa_init=true"},
		{"quantization_bit=4"},
		{"quantization_bit=4", "double_quantization=false", "bf16=true", "use_dora=true"},
		{"quantization_bit=8"},
	} {
		t.Run(fmt.Sprint(keys), func(t *testing.T) {
			if keys[0] == "additional_target=lm_head" && m.Info().TiedHead {
				keys[0] = "additional_target=embed_tokens"
			}
			dir, lines := runRecipe(t, context.Background(), sftOn(base, data, t.TempDir(), keys...)...)
			first, end := lines[0]["loss"].(float64), last(lines, "loss")
			if !(end < first-0.3) {
				t.Errorf("loss from %v to %v", first, end)
			}
			f, err := adapter.Open(dir, m)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err == nil {
				t.Error("the base model was saved with its adapter")
			}
		})
	}
}

func sameFiles(t *testing.T, a, b, name string) {
	t.Helper()
	x, err1 := os.ReadFile(filepath.Join(a, name))
	y, err2 := os.ReadFile(filepath.Join(b, name))
	if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
		t.Errorf("%s: %v %v: differs", name, err1, err2)
	}
}

// A run with dropout that was cut off goes on as if it had not been; its checkpoint holds the adapter and its moments.
func TestMethodLoRAResumes(t *testing.T) {
	base, data := trainedBase(t), writeRows(t, questions(24)...)
	whole, parts := t.TempDir(), t.TempDir()
	keys := []string{"lora_dropout=0.2", "gradient_accumulation_steps=2", "save_steps=3"}
	pissa, cut := t.TempDir(), t.TempDir()
	runRecipe(t, context.Background(), sftOn(base, data, pissa, "pissa_init=true", "max_steps=4")...)
	runRecipe(t, context.Background(), sftOn(base, data, cut, "pissa_init=true", "max_steps=2")...)
	runRecipe(t, context.Background(), sftOn(base, data, cut, "pissa_init=true", "max_steps=4", "resume_from_checkpoint=true")...)
	sameFiles(t, pissa, cut, adapter.WeightsFile)
	runRecipe(t, context.Background(), sftOn(base, data, whole, append(keys, "max_steps=6")...)...)
	runRecipe(t, context.Background(), sftOn(base, data, parts, append(keys, "max_steps=3")...)...)
	f, err := safetensors.Open(filepath.Join(parts, "checkpoint-3", "optimizer.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range f.Names() {
		if !adapter.IsFactor(name) {
			t.Errorf("the checkpoint holds %s", name)
		}
	}
	f.Close()
	runRecipe(t, context.Background(), sftOn(base, data, parts, append(keys, "max_steps=6", "resume_from_checkpoint=true")...)...)
	sameFiles(t, whole, parts, adapter.WeightsFile)
}

// The last adapter is trained on, those before it become part of the base; a new one can follow the old.
func TestMethodLoRAContinues(t *testing.T) {
	base, data := trainedBase(t), writeRows(t, questions(24)...)
	first, _ := runRecipe(t, context.Background(), sftOn(base, data, t.TempDir())...)
	_, lines := runRecipe(t, context.Background(), sftOn(base, data, t.TempDir(), "adapter_name_or_path="+first, "learning_rate=1e-9")...)
	end := last(readLines(t, filepath.Join(first, "metrics.jsonl")), "loss")
	if loss := lines[0]["loss"].(float64); !(loss < end+0.5) {
		t.Errorf("loss %v when an adapter goes on that had reached %v", loss, end)
	}
	second, lines := runRecipe(t, context.Background(), sftOn(base, data, t.TempDir(), "adapter_name_or_path="+first, "create_new_adapter=true", "lora_rank=2", "learning_rate=1e-9")...)
	if loss := lines[0]["loss"].(float64); !(loss < end+0.5) {
		t.Errorf("loss %v when a new adapter follows one that had reached %v", loss, end)
	}
	_, lines = runRecipe(t, context.Background(), sftOn(base, data, t.TempDir(), "adapter_name_or_path="+first+","+second, "learning_rate=1e-9")...)
	if loss := lines[0]["loss"].(float64); !(loss < end+0.5) {
		t.Errorf("loss %v with both adapters", loss)
	}
}

// DPO's reference is the model without its adapter: at the first step the loss is that of equal models.
func TestMethodLoRAReference(t *testing.T) {
	base := trainedBase(t)
	_, lines := runRecipe(t, context.Background(), sftOn(base, writeRows(t, preferences(16)...), t.TempDir(), "stage=dpo", "learning_rate=1e-3", "max_steps=20")...)
	if first := lines[0]["loss"].(float64); !(math.Abs(first-math.Ln2) < 1e-5) || !(last(lines, "rewards/accuracies") > 0.9) {
		t.Errorf("loss %v, accuracy %v", first, last(lines, "rewards/accuracies"))
	}
}

// What cannot be is refused with the key.
func TestMethodRefuses(t *testing.T) {
	base, data := trainedBase(t), writeRows(t, questions(4)...)
	for _, c := range [][]string{
		{"lora_target=q_porj", "lora_target"},
		{"additional_target=scor", "lora_target"},
		{"adapter_name_or_path=" + t.TempDir(), "adapter_name_or_path"},
	} {
		words := []string{"quiet=true", "template=default"}
		words = append(words, sftOn(base, data, t.TempDir(), strings.Fields(c[0])...)...)
		err := tryRecipe(t, words)
		if err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: want an error that names %s, got %v", c[0], c[1], err)
		}
	}
}

// tryRecipe carries out a recipe and returns its error.
func tryRecipe(t *testing.T, words []string) error {
	t.Helper()
	r, err := Parse(nil, "test", words)
	if err != nil {
		return err
	}
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	newEngine := func(string, int) (engine.Engine, error) { return cpu.New(cpu.Options{Threads: 2}) }
	_, err = Run(context.Background(), r, RunOptions{NewEngine: newEngine, Stderr: stderr})
	return err
}
