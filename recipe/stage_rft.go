package recipe

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"danlu/data"
	"danlu/internal/locale"
	"danlu/task"
	"danlu/train"
)

func init() { stages["rft"] = rejectionSampling }

const (
	keptFile = "rft.jsonl"
	// promptsAtOnce is how many prompts are answered before what was kept is written.
	promptsAtOnce = 16
)

// rejectionSampling draws several answers to each prompt, keeps the best that are good enough, and writes them as a
// dataset for stage: sft: rft.jsonl, with a dataset_info.json that names it rft.
func rejectionSampling(ctx context.Context, j *job) error {
	x := &j.Reinforce
	r, err := j.reinforce(ctx, promptsAtOnce*x.NumGenerations, x.NumGenerations)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.load(); err != nil {
		return err
	}
	of := fmt.Sprintf("%s %s seed=%d %+v %+v", r.rows.set.Store.Checksum(), j.Model.Path, j.Optim.Seed, j.Generation, j.Reinforce)
	path, state, err := j.collect(ctx, of, r.rows.set, promptsAtOnce, r.sift)
	if ctx.Err() != nil {
		j.outcome.Steps, j.outcome.Stopped = state.Prompts, true
		j.say(locale.Text("stopped after %d prompts; run the same command again to go on", "已在 %d 条提示后停止；再次运行同一命令即可继续"), state.Prompts)
		return nil
	}
	if err != nil {
		return err
	}
	return j.reportSifted(path, state)
}

// load checks that drawing and judging answers fits, and loads the models.
func (r *reinforced) load() error {
	j := r.job
	t := training{model: r.model, rows: r.rows, beside: r.judges.beside(), more: r.rollouts.Memory()}
	if err := t.reserve(r.shape(train.Largest{P: r.model.Info().PositionRows, Prefix: r.rows.prefix})); err != nil {
		return err
	}
	if err := j.fits(j.measure(t, 0), func(int64) string { return "use a smaller model or a smaller max_completion_length" }); err != nil {
		return err
	}
	if err := r.model.fill(); err != nil {
		return err
	}
	for _, s := range t.beside {
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

// sift answers prompts and keeps the best answers.
func (r *reinforced) sift(ctx context.Context, from, to int64) ([]conversation, map[string]float64, error) {
	asked, err := r.rows.questionsAt(r.rows.set, from, to)
	if err != nil {
		return nil, nil, err
	}
	e, err := r.answer(ctx, asked, mixed(uint64(r.job.Optim.Seed), uint64(from)))
	if err != nil {
		return nil, nil, err
	}
	x := &r.job.Reinforce
	sums := map[string]float64{"answers": float64(len(e.answers))}
	var lines []conversation
	for i, q := range asked {
		rewards := e.total[i*r.each : (i+1)*r.each]
		passed := task.AtLeast(rewards, x.RewardThreshold)
		sums["accepted"] += float64(len(passed))
		sums["pass_at_1"] += task.PassAtK(r.each, len(passed), 1)
		sums["pass_at_n"] += task.PassAtK(r.each, len(passed), r.each)
		for _, v := range rewards {
			sums["reward"] += v
		}
		slices.SortStableFunc(passed, func(a, b int) int { return cmp.Compare(rewards[b], rewards[a]) })
		var kept []string
		for _, k := range passed {
			text := e.answers[i*r.each+k].text
			if len(kept) == x.KeepPerPrompt || slices.Contains(kept, text) {
				continue
			}
			kept = append(kept, text)
			c, err := q.conversation(text)
			if err != nil {
				return nil, nil, err
			}
			lines = append(lines, c)
		}
	}
	sums["kept"] = float64(len(lines))
	return lines, sums, nil
}

// reportSifted writes the dataset and the numbers.
func (j *job) reportSifted(path string, state answered) error {
	if err := copyFile(filepath.Join(j.run.path, keptFile), path); err != nil {
		return err
	}
	info := map[string]any{"rft": map[string]any{"file_name": keptFile, "formatting": "sharegpt", "columns": map[string]string{"messages": "messages"},
		"tags": map[string]string{"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system", "observation_tag": "tool", "function_tag": "function"}}}
	if err := writeJSON(filepath.Join(j.run.path, data.InfoFile), info); err != nil {
		return err
	}
	s, n := state.Sums, float64(state.Prompts)
	results := map[string]any{"prompts": state.Prompts, "answers": s["answers"], "accepted": s["accepted"], "kept": s["kept"],
		"acceptance": s["accepted"] / max(s["answers"], 1), "mean_reward": s["reward"] / max(s["answers"], 1), "pass@1": s["pass_at_1"] / n,
		fmt.Sprintf("pass@%d", j.Reinforce.NumGenerations): s["pass_at_n"] / n}
	j.outcome.Steps, j.outcome.Results = state.Prompts, results
	j.say(locale.Text("kept %.0f of %.0f answers to %d prompts; the dataset is %s", "保留 %.0f / %.0f 个回答（%d 条提示）；数据集为 %s"), s["kept"], s["answers"], state.Prompts, filepath.Join(j.run.path, keptFile))
	return writeJSON(filepath.Join(j.run.path, "all_results.json"), results)
}

// copyFile copies a file beside its place and renames it.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	defer in.Close()
	out, err := os.Create(to + ".new")
	if err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	return nil
}

// openAnswersDir opens the folder of a run that makes a dataset: it goes on from what is done without being asked.
func openAnswersDir(j *job) (*runDir, error) {
	d := &runDir{final: j.Output.Dir, path: j.Output.Dir}
	if j.Output.Overwrite {
		for _, name := range []string{answersFolder, keptFile, data.InfoFile, "all_results.json"} {
			if err := os.RemoveAll(filepath.Join(d.path, name)); err != nil {
				return nil, fmt.Errorf("recipe: %w", err)
			}
		}
	}
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return nil, j.Errorf("output_dir", "%v", err)
	}
	return d, nil
}
