package recipe

import (
	"strings"
	"testing"

	"danlu/plan"
)

func TestPlan(t *testing.T) {
	base := "model_name_or_path: llama-7b\ndataset: x.json\noutput_dir: out\ntemplate: default\ncutoff_len: 1024\nper_device_train_batch_size: 2\ngradient_accumulation_steps: 4\nmax_steps: 10\n"
	for _, c := range []struct {
		keys string
		want plan.Request
		err  string
	}{
		{"finetuning_type: full\nbf16: true\n", plan.Request{Task: plan.Full, Precision: plan.BF16, Checkpointing: plan.KeepInput, Batch: 2, Tokens: 81920}, ""},
		{"finetuning_type: lora\n", plan.Request{Task: plan.LoRA, Precision: plan.FP32, Checkpointing: plan.KeepInput, Batch: 2, Tokens: 81920}, ""},
		{"finetuning_type: lora\nquantization_bit: 8\ndisable_gradient_checkpointing: true\n", plan.Request{Task: plan.QLoRA, Precision: plan.INT8, Checkpointing: plan.KeepAll, Batch: 2, Tokens: 81920}, ""},
		{"finetuning_type: lora\nstage: dpo\nbf16: true\n", plan.Request{Task: plan.LoRA, Precision: plan.BF16, Checkpointing: plan.KeepInput, Batch: 4, Tokens: 163840}, ""},
		{"finetuning_type: full\nstage: dpo\n", plan.Request{}, "stage: plan knows"},
		{"finetuning_type: freeze\n", plan.Request{}, "finetuning_type: plan knows"},
		{"finetuning_type: full\noptim: sgd\n", plan.Request{}, "optim: plan knows"},
	} {
		r, err := Parse([]byte(base+c.keys), "r.yaml", nil)
		if err != nil {
			t.Fatalf("%s: %v", c.keys, err)
		}
		got, err := r.Plan()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.keys, err, c.err)
			}
			continue
		}
		c.want.Model, c.want.Context, c.want.Rank = "llama-7b", 1024, 8
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", c.keys, got, err, c.want)
		}
	}
}
