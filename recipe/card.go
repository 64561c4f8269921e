package recipe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"danlu/family"
	"danlu/internal/locale"
	"danlu/weights"
)

// writeCard writes README.md, the model card: what was run, on what, with which result, and how to go on.
func (j *job) writeCard(f *finished) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	base := j.Model.Path
	line("---")
	line("library_name: transformers")
	if j.source.files != nil {
		line("base_model: %s", quotedYAML(base))
	}
	if licence := j.licence(); licence != "" {
		line("license: %s", quotedYAML(licence))
	}
	line("tags: [danlu, %s, %s]", j.Method.Stage, j.Method.FinetuningType)
	line("---\n")
	line("# %s\n", filepath.Base(j.run.final))
	if j.source.files == nil {
		line(locale.Text("A %s model trained from scratch (shape: %s).", "从零训练的 %s 模型（结构：%s）。"), j.source.model.Info().Architecture, base)
	} else {
		line(locale.Text("%s, trained further (stage %s, %s).", "在 %s 基础上继续训练（阶段 %s，%s）。"), base, j.Method.Stage, j.Method.FinetuningType)
		if j.licence() == "" {
			line(locale.Text("\nThe licence of the base model applies; its files name none, so look it up before passing this model on.", "\n基座模型的许可证依然适用；其文件中没有注明，转发本模型前请先查明。"))
		}
	}
	line(locale.Text("\n## Data\n", "\n## 数据\n"))
	total := f.rows.set.Store.Report()
	for _, s := range total.Sources {
		line(locale.Text("- %s: %d rows, %d tokens, of which %d are scored", "- %s：%d 行，%d 个 token，其中 %d 个计入损失"), s.Name, s.Samples, s.Tokens, s.Scored)
	}
	line(locale.Text("\n## Results\n", "\n## 结果\n"))
	for _, k := range []string{"train_loss", "eval_loss", "eval_perplexity", "epoch", "num_input_tokens_seen", "train_runtime", "skipped_steps"} {
		if v, ok := j.outcome.Results[k]; ok {
			line("- %s: %v", k, v)
		}
	}
	if f.options.Plot {
		line("\n![loss](training_loss.svg)")
	}
	line(locale.Text("\n## Recipe\n\n```yaml", "\n## 配方\n\n```yaml"))
	for _, kv := range j.Settings() {
		line("%s: %s", kv[0], kv[1])
	}
	line("```")
	line(locale.Text("\n## Going on\n\n```\ndanlu chat %[1]s\ndanlu train <recipe> max_steps=%[2]d    # same recipe, more steps: goes on from the newest checkpoint\n```", "\n## 继续\n\n```\ndanlu chat %[1]s\ndanlu train <配方> max_steps=%[2]d    # 同一配方、更多步数：从最新的检查点继续\n```"), j.run.final, 2*f.result.Steps)
	if err := os.WriteFile(filepath.Join(j.run.path, "README.md"), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	return nil
}

// licence is the base model's licence, "" where it is not known.
func (j *job) licence() string {
	if j.source.files == nil {
		return ""
	}
	id := ""
	if g, ok := j.source.files.Weights.(*weights.GGUF); ok {
		id, _ = g.File().Text("general.license") // many files name none
	}
	if l := family.LicenseOf(j.source.path, id); l.ID != "unknown" {
		return l.ID
	}
	return ""
}

// quotedYAML is a YAML string.
func quotedYAML(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
