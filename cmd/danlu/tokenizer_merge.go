package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/tokenizer"
	"danlu/weights"
)

func newTokenizerMerge(o *options) *cobra.Command {
	var dir, model, initial string
	cmd := &cobra.Command{
		Use:   "merge BASE SECOND --output_dir DIR [--model MODEL]",
		Short: locale.Text("Extend a SentencePiece vocabulary by the new pieces of a second one", "用第二个词表的新词元扩充 SentencePiece 词表"),
		Long: locale.Text(`Extend a SentencePiece vocabulary by the new pieces of a second one, as Chinese-LLaMA did (32,000 + 20,000 pieces → 49,953).

The base keeps its ids and its special tokens; each piece of SECOND that it lacks follows, with score 0. With --model the
folder becomes a whole model, whose embedding and output head have a row for each new piece: the mean of the rows of the
base's tokens for the same text (--init subword), or of all rows (--init mean).`, `用第二个词表的新词元扩充 SentencePiece 词表，做法同 Chinese-LLaMA（32,000 + 20,000 → 49,953）。

BASE 的 id 与特殊 token 不变；SECOND 中 BASE 没有的词元依次追加，分数为 0。给出 --model 时输出完整模型，词嵌入与输出层为
每个新词元增加一行：取 BASE 对同一文本的各 token 行的均值（--init subword），或所有行的均值（--init mean）。`),
		Example: "  danlu tokenizer merge llama/tokenizer.model zh/tokenizer.model --output_dir merged --model llama/",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if dir == "" {
				return errors.New("--output-dir: is missing; give a folder")
			}
			if initial != "subword" && initial != "mean" {
				return fmt.Errorf("--init: want subword or mean, got %q", initial)
			}
			base, err := tokenizer.Load(args[0])
			if err != nil {
				return err
			}
			second, err := tokenizer.Load(args[1])
			if err != nil {
				return err
			}
			data, r, err := tokenizer.Merge(base, second)
			if err != nil {
				return err
			}
			t, err := tokenizer.FromSPM(filepath.Join(dir, "tokenizer.model"), data)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if model != "" {
				if err := resizeModel(dir, model, base, t, initial == "subword", o.quiet || o.json); err != nil {
					return err
				}
			}
			if err := t.Save(dir); err != nil {
				return err
			}
			if o.json {
				return printJSON(map[string]any{"base": r.Base, "second": r.Second, "overlap": r.Overlap, "appended": r.Appended, "size": r.Size})
			}
			fmt.Printf(locale.Text("%d + %d pieces, %d in both: %d appended, %d in all\n", "%d + %d 个词元，重叠 %d：追加 %d，共 %d\n"), r.Base, r.Second, r.Overlap, r.Appended, r.Size)
			return nil
		},
	}
	f := cmd.Flags()
	f.SetNormalizeFunc(underscores)
	f.StringVar(&dir, "output-dir", "", locale.Text("folder to write", "输出目录"))
	f.StringVarP(&model, "model", "m", "", locale.Text("model folder to extend by rows for the new pieces", "为新词元扩充嵌入行的模型目录"))
	f.StringVar(&initial, "init", "subword", locale.Text("new rows: subword or mean", "新行的初值：subword 或 mean"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// resizeModel writes the model into dir with rows for the pieces of t that base lacks, and its config with the new size.
func resizeModel(dir, model string, base, t *tokenizer.Tokenizer, subword, quiet bool) error {
	file := filepath.Join(model, "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	config := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&config); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	number, _ := config["vocab_size"].(json.Number)
	rows, err := number.Int64()
	if err != nil || rows < int64(base.VocabSize()) {
		return fmt.Errorf("%s: vocab_size: want at least the base's %d, got %v", file, base.VocabSize(), config["vocab_size"])
	}
	src, err := weights.Open(model, weights.OpenOptions{})
	if err != nil {
		return err
	}
	defer src.Close()
	size := weights.Resize{Old: int(rows), New: max(int(rows), t.VocabSize()), From: func(r int) []int {
		if r < base.VocabSize() || r >= t.VocabSize() {
			return []int{r}
		}
		if !subword {
			return nil
		}
		return base.Spelling(t, int32(r))
	}}
	bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("writing", "写出"), Quiet: quiet, Chinese: locale.Chinese()})
	defer bar.Done()
	if err := weights.CopyResized(dir, src, size, weights.CopyOptions{Progress: func(done, total int64) {
		bar.SetTotal(total)
		bar.Update(done)
	}}); err != nil {
		return err
	}
	config["vocab_size"] = size.New
	out, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), append(out, '\n'), 0o644); err != nil {
		return err
	}
	if gen, err := os.ReadFile(filepath.Join(model, "generation_config.json")); err == nil {
		return os.WriteFile(filepath.Join(dir, "generation_config.json"), gen, 0o644)
	}
	return nil
}
