package recipe

import (
	"strings"

	"danlu/plan"
)

// Plan is what the recipe asks of a machine, as a request to the planner. The cards are left open.
func (r *Recipe) Plan() (plan.Request, error) {
	if len(r.Stages) > 0 {
		return plan.Request{}, r.Errorf("stages", "plan takes one stage at a time: give a recipe of that stage")
	}
	q := plan.Request{Model: r.Model.Path, Precision: plan.FP32, Checkpointing: plan.KeepInput, Context: r.Data.CutoffLen, Batch: r.Optim.BatchSize, Rank: r.Method.LoraRank}
	if r.Model.NoCheckpointing {
		q.Checkpointing = plan.KeepAll
	}
	switch {
	case r.Optim.PureBF16:
		q.Precision = plan.PureBF16
	case r.Optim.BF16:
		q.Precision = plan.BF16
	case r.Optim.FP16:
		q.Precision = plan.FP16
	}
	switch {
	case r.Method.FinetuningType == "freeze":
		return q, r.Errorf("finetuning_type", "plan knows full and lora, not freeze")
	case !strings.HasPrefix(r.Optim.Optimizer, "adam"):
		return q, r.Errorf("optim", "plan knows the memory of Adam, not of %s", r.Optim.Optimizer)
	case !planned(r.Method.Stage, r.Method.FinetuningType):
		return q, r.Errorf("stage", "plan knows pt, sft and rm, dpo with lora, and ppo with full; not %s with %s", r.Method.Stage, r.Method.FinetuningType)
	case r.Method.Stage == "ppo":
		q.Task = plan.RLHF
	case r.Model.QuantizationBit != nil:
		q.Task, q.Precision = plan.QLoRA, plan.INT4
		if *r.Model.QuantizationBit == 8 {
			q.Precision = plan.INT8
		}
	case r.Method.FinetuningType == "lora":
		q.Task = plan.LoRA
	case r.Model.FromScratch:
		q.Task = plan.Pretrain
	default:
		q.Task = plan.Full
	}
	if r.Method.Stage == "dpo" || r.Method.Stage == "rm" {
		q.Batch *= 2 // pairs
	}
	if n := r.Optim.MaxSteps; n > 0 {
		q.Tokens = float64(n) * float64(q.Batch) * float64(r.Optim.Accumulation) * float64(r.Data.CutoffLen)
	}
	return q, nil
}

// planned reports whether the planner knows what a stage keeps in memory: with lora the base is the reference of dpo.
func planned(stage, finetuning string) bool {
	switch stage {
	case "pt", "sft", "rm":
		return true
	case "dpo":
		return finetuning == "lora"
	case "ppo":
		return finetuning == "full"
	}
	return false
}
