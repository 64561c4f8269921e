package recipe

import (
	"fmt"
	"strings"

	"danlu/graph"
	"danlu/hardware"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/train"
)

// need is what a run takes, in bytes.
type need struct {
	parameters, gradients, optimizer int64
	activations                      int64 // arenas of the compiled programs, their scratch memory and outputs
	disk                             int64 // of the checkpoints that stand at the same time, and the final model
}

// process is what the program itself takes: code, tokenizer, batches, buffers of files.
const process = 64 << 20

func (n need) memory() int64 {
	return n.parameters + n.gradients + n.optimizer + n.activations + process
}

func (n need) String() string {
	return fmt.Sprintf(locale.Text("memory: %s (parameters %s, gradients %s, optimizer %s, activations %s)", "内存：%s（参数 %s，梯度 %s，优化器 %s，激活 %s）"),
		progress.Bytes(n.memory()), progress.Bytes(n.parameters), progress.Bytes(n.gradients), progress.Bytes(n.optimizer), progress.Bytes(n.activations))
}

// measure takes the need from what was compiled and declared. No weight has been read yet.
func (j *job) measure(t training, activations int64) need {
	m, n := t.model, need{activations: activations + t.more}
	states := int64(0)
	for _, s := range m.store.Specs() {
		b := int64(s.Type.Bytes())
		switch {
		case s.Role == graph.OptState:
			n.optimizer += b
			states += b
		case strings.HasPrefix(s.Label, "grad."):
			n.gradients += b
		default:
			n.parameters += b
		}
	}
	// A checkpoint: the model's files, the moments, and float32 parameters where the files are rounded.
	checkpoint := m.bytes + states
	if m.rounded != nil {
		for _, s := range m.specs {
			if m.rounded(s) && (m.trainable == nil || m.trainable(s)) {
				checkpoint += int64(s.Type.Bytes())
			}
		}
	}
	if j.Output.SaveOnlyModel {
		checkpoint = m.bytes
	}
	kept := int64(j.checkpointsKept())
	n.disk = checkpoint*kept + m.bytes
	return n
}

// checkpointsKept is how many checkpoints stand at the same time at most: a new one is written before an old one goes.
func (j *job) checkpointsKept() int {
	if j.Output.SaveStrategy == "no" {
		return 0
	}
	if j.Output.SaveTotalLimit != nil {
		return *j.Output.SaveTotalLimit + 1
	}
	return 2 // the least that goes on: more are kept while there is room, and a full disk keeps the last
}

// fits prints what the run needs and what is free, and refuses a run that does not fit.
func (j *job) fits(n need, smaller func(free int64) string) error {
	free, known := hardware.FreeMemory()
	disk, diskKnown := hardware.FreeDisk(j.run.final)
	line := n.String()
	if known {
		line += fmt.Sprintf(locale.Text("; free %s", "；可用 %s"), progress.Bytes(free))
	}
	j.say("%s", line)
	line = fmt.Sprintf(locale.Text("disk: %s", "磁盘：%s"), progress.Bytes(n.disk))
	if diskKnown {
		line += fmt.Sprintf(locale.Text("; free %s", "；可用 %s"), progress.Bytes(disk))
	}
	j.say("%s", line)
	switch {
	case j.Output.Force:
	case known && n.memory() > free:
		return fmt.Errorf("recipe: memory: the run needs %s and %s are free; %s, or --force to try", progress.Bytes(n.memory()), progress.Bytes(free), smaller(free))
	case diskKnown && n.disk > disk:
		return fmt.Errorf("recipe: output_dir: the run needs %s on the disk of %s and %s are free; choose another disk, save_only_model: true, a lower save_total_limit, or --force to try", progress.Bytes(n.disk), j.run.final, progress.Bytes(disk))
	}
	return nil
}

// refused words the system's refusal to set aside as much memory as a run needs, which comes before anything is known to
// fit or not.
func (j *job) refused(err error, t training, first train.Largest, eval *train.Largest) error {
	free, known := hardware.FreeMemory()
	if !known {
		return fmt.Errorf("recipe: memory: %w", err)
	}
	return fmt.Errorf("recipe: memory: %w; %s are free; %s", err, progress.Bytes(free), j.smaller(t, first, eval, free))
}

// change is a change of a recipe that needs less memory.
type change struct {
	text  string
	apply func(r *Recipe, first *train.Largest)
}

// changes are what could be changed, the smallest change first: the first ones do not change what is learned.
func (j *job) changes() []change {
	var list []change
	rows := j.Optim.BatchSize
	for b := rows / 2; b >= 1; b /= 2 {
		if rows%b != 0 {
			continue
		}
		accumulation := j.Optim.Accumulation * rows / b
		list = append(list, change{fmt.Sprintf("per_device_train_batch_size: %d with gradient_accumulation_steps: %d fits", b, accumulation), func(r *Recipe, first *train.Largest) {
			r.Optim.BatchSize, r.Optim.Accumulation = b, accumulation
			first.B = first.B / rows * b
		}})
	}
	one := func(r *Recipe, first *train.Largest) {
		r.Optim.BatchSize, r.Optim.Accumulation = 1, j.Optim.Accumulation*rows
		first.B /= rows
	}
	small := ""
	if rows > 1 {
		small = fmt.Sprintf("per_device_train_batch_size: 1 with gradient_accumulation_steps: %d and ", j.Optim.Accumulation*rows)
	}
	for t := j.Data.CutoffLen / 2; t >= 128; t /= 2 {
		list = append(list, change{fmt.Sprintf("%scutoff_len: %d fits", small, t), func(r *Recipe, first *train.Largest) {
			one(r, first)
			first.T = min(first.T, t)
		}})
	}
	if j.Method.FinetuningType != "lora" && methods["lora"] != nil && !j.Model.FromScratch {
		list = append(list, change{small + "finetuning_type: lora fits", func(r *Recipe, first *train.Largest) {
			one(r, first)
			r.Method.FinetuningType = "lora"
		}})
	}
	return list
}

// smaller says what the smallest change is that fits into the free bytes.
func (j *job) smaller(t training, first train.Largest, eval *train.Largest, free int64) string {
	if !j.Model.NoCheckpointing {
		t.recompute = everything
	}
	for _, c := range j.changes() {
		r, largest := *j.Recipe, first
		c.apply(&r, &largest)
		other := *j
		other.Recipe = &r
		if n, err := other.tryNeed(t, largest, eval); err == nil && n.memory() <= free {
			return c.text
		}
	}
	return "use a smaller model"
}

// tryNeed measures a changed recipe in a store of its own.
func (j *job) tryNeed(t training, first train.Largest, eval *train.Largest) (need, error) {
	m, err := j.model(t.rows.tokenizer)
	if err != nil {
		return need{}, err
	}
	defer m.store.Close()
	t.model = m
	s, err := j.stepper(t)
	if err != nil {
		return need{}, err
	}
	defer s.Close()
	bytes, err := s.Reserve(first, eval)
	return j.measure(t, bytes), err
}
