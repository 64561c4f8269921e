package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"danlu/internal/locale"
	"danlu/train"
	"danlu/weights"
)

// finished is a training that came to its end, or was stopped.
type finished struct {
	training
	options train.Options
	result  train.Result
}

// report writes the final model and the results, and says how to go on.
func (j *job) report(f *finished) error {
	r := f.result
	j.outcome.Steps, j.outcome.Stopped = r.Steps, r.Stopped
	if r.Stopped {
		j.say(locale.Text("stopped at step %d; run the same command again to go on", "已停在第 %d 步；再次运行同一命令即可继续"), r.Steps)
		return nil
	}
	if err := j.saveFinal(f.model); err != nil {
		return err
	}
	if r.Done == 0 && j.run.resume != "" {
		j.outcome.Finished = true
		j.say(locale.Text("nothing to do: the run in %s has its %d steps; raise num_train_epochs or max_steps to go on", "无事可做：%s 中的训练已完成 %d 步；增大 num_train_epochs 或 max_steps 可继续"), j.run.path, r.Steps)
		return nil
	}
	j.outcome.Results = j.results(f)
	for name, v := range resultFiles(j.outcome.Results) {
		if err := writeJSON(filepath.Join(j.run.path, name), v); err != nil {
			return err
		}
	}
	if err := j.writeCard(f); err != nil {
		return err
	}
	j.say(locale.Text("done: %d steps, loss %.4f; the model is in %s", "完成：%d 步，损失 %.4f；模型在 %s"), r.Steps, r.Loss, j.run.path)
	return nil
}

// saveFinal writes the model into the run's folder. What an earlier end of the run left there goes first, so that no
// shard of it stays.
func (j *job) saveFinal(m *trainee) error {
	if err := weights.RemoveModel(j.run.path); err != nil {
		return err
	}
	if err := m.save(j.run.path); err != nil {
		return err
	}
	return j.run.replaceOld()
}

// resultFiles are the files of numbers: of training, of evaluation, and all.
func resultFiles(all map[string]any) map[string]map[string]any {
	files := map[string]map[string]any{"all_results.json": all, "train_results.json": {"epoch": all["epoch"]}}
	for k, v := range all {
		if !strings.HasPrefix(k, "eval_") {
			files["train_results.json"][k] = v
			continue
		}
		if files["eval_results.json"] == nil {
			files["eval_results.json"] = map[string]any{"epoch": all["epoch"]}
		}
		files["eval_results.json"][k] = v
	}
	return files
}

// results are the numbers of all_results.json, under the Trainer's names.
func (j *job) results(f *finished) map[string]any {
	r := f.result
	out := map[string]any{"epoch": f.rows.loader.Progress(), "train_loss": r.Loss, "train_runtime": r.Seconds, "num_input_tokens_seen": r.Tokens, "skipped_steps": r.Skipped}
	if r.Seconds > 0 {
		out["train_samples_per_second"] = float64(r.Samples) / r.Seconds
		out["train_steps_per_second"] = float64(r.Done) / r.Seconds
	}
	for k, v := range r.Record {
		out[k] = v
	}
	return out
}

func writeJSON(path string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // templates are full of < and >
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	return nil
}
