package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"danlu/internal/locale"
	"danlu/tokenizer"
)

func newTokenizerMerge(o *options) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "merge BASE SECOND --output_dir DIR",
		Short: locale.Text("Extend a SentencePiece vocabulary by the new pieces of a second one", "用第二个词表的新词元扩充 SentencePiece 词表"),
		Long: locale.Text(`Extend a SentencePiece vocabulary by the new pieces of a second one, as Chinese-LLaMA did (32,000 + 20,000 pieces → 49,953).

The base keeps its ids and its special tokens; each piece of SECOND that it lacks follows, with score 0.`, `用第二个词表的新词元扩充 SentencePiece 词表，做法同 Chinese-LLaMA（32,000 + 20,000 → 49,953）。

BASE 的 id 与特殊 token 不变；SECOND 中 BASE 没有的词元依次追加，分数为 0。`),
		Example: "  danlu tokenizer merge llama/tokenizer.model zh/tokenizer.model --output_dir merged",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if dir == "" {
				return errors.New("--output-dir: is missing; give a folder")
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
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}
