package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"danlu/eval"
	"danlu/internal/locale"
)

func newEvalCompare(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: locale.Text("Compare two runs item by item", "逐题比较两次评测"),
		Long: locale.Text(`Compares the folders of two runs (--output-path ... --log-samples) over the items that both asked: the difference of the means,
its standard error item by item, a 95% interval by the bootstrap, and how often chance alone makes a difference as large.`,
			`比较两次评测的目录（--output-path ... --log-samples）中共同的题目：均值之差、逐题标准误、自助法 95% 区间，以及随机情况下出现同样大差异的概率。`),
		Example: "  danlu eval compare runs/before runs/after\n  danlu eval compare runs/before runs/after --json",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			list, err := eval.Compare(args[0], args[1])
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(list)
			}
			fmt.Print(eval.DifferencesMarkdown(list, filepath.Base(args[0]), filepath.Base(args[1])))
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}
