package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"danlu/engine"
	"danlu/internal/locale"
	"danlu/recipe"
)

func init() { verbs = append(verbs, newData) }

func newData(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "data", Short: locale.Text("Look at training data", "查看训练数据"), Args: cobra.NoArgs}
	cmd.AddCommand(newDataPreview(o))
	return cmd
}

func newDataPreview(o *options) *cobra.Command {
	p := recipe.PreviewOptions{}
	cmd := &cobra.Command{
		Use:   "preview RECIPE.yaml|NAME [key=value ...]",
		Short: locale.Text("Show a recipe's data as they will be trained on", "按训练时的形式展示配方的数据"),
		Long: locale.Text("Show a recipe's data as they will be trained on: text with the scored tokens marked, token ids, the share that is scored. No weight is read.",
			"按训练时的形式展示配方的数据：标出计入损失的 token、token id 与计入损失的比例。不读取权重。"),
		Example: `  danlu data preview my.yaml --samples 3
  danlu data preview my.yaml --svg > row.svg`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := loadRecipe(args)
			if err != nil {
				return err
			}
			if p.Samples < 1 {
				return fmt.Errorf("--samples: want at least 1, got %d", p.Samples)
			}
			r.Output.Quiet = r.Output.Quiet || o.quiet
			p.Colour = recipe.Colours(os.Stdout)
			newEngine := func(name string, _ int) (engine.Engine, error) { return o.newEngine() }
			text, err := recipe.Preview(cmd.Context(), r, recipe.RunOptions{NewEngine: newEngine, Stderr: os.Stderr}, p)
			if err == nil {
				_, err = fmt.Println(text)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVarP(&p.Samples, "samples", "n", 1, locale.Text("how many samples", "展示多少条样本"))
	f.BoolVar(&p.SVG, "svg", false, locale.Text("draw the first row and its attention mask as SVG", "以 SVG 画出第一行及其注意力掩码"))
	return cmd
}
