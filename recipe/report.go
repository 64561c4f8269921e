package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"danlu/internal/locale"
	"danlu/train"
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
	if err := f.model.save(j.run.path); err != nil {
		return err
	}
	if err := j.run.replaceOld(); err != nil {
		return err
	}
	results := j.results(f)
	j.outcome.Results = results
	for _, name := range []string{"all_results.json", "train_results.json"} {
		if err := writeJSON(filepath.Join(j.run.path, name), results); err != nil {
			return err
		}
	}
	j.say(locale.Text("done: %d steps, loss %.4f; the model is in %s", "完成：%d 步，损失 %.4f；模型在 %s"), r.Steps, r.Loss, j.run.path)
	return nil
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
