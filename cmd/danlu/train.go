package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"danlu/engine"
	"danlu/internal/locale"
	"danlu/recipe"
)

func init() { verbs = append(verbs, newTrain) }

func newTrain(o *options) *cobra.Command {
	var force bool
	var nodes nodeFlags
	cmd := &cobra.Command{
		Use:   "train RECIPE.yaml|NAME [key=value ...]",
		Short: locale.Text("Train a model by a recipe", "按配方训练模型"),
		Long: locale.Text("Train a model by a recipe: a YAML file with LLaMA-Factory's keys, or the name of a built-in one. key=value replaces a key of the recipe.",
			"按配方训练模型：配方是使用 LLaMA-Factory 键名的 YAML 文件，或内置配方的名字。key=value 覆盖配方中的键。"),
		Example: `  danlu train my.yaml
  danlu train my.yaml learning_rate=1e-4 max_steps=100
  danlu train stage=pt model_name_or_path=llama-tiny train_from_scratch=true dataset=notes.txt output_dir=out`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := loadRecipe(args)
			if err != nil {
				return err
			}
			r.Each(func(r *recipe.Recipe) {
				r.Output.Force = r.Output.Force || force
				r.Output.Quiet = r.Output.Quiet || o.quiet
			})
			hosts, err := nodes.options()
			if err != nil {
				return err
			}
			if hosts != nil && hosts.Rank > 0 { // each process keeps its own run folder
				r.Each(func(r *recipe.Recipe) { r.Output.Dir += fmt.Sprintf("-rank-%d", hosts.Rank) })
			}
			newEngine := func(name string, threads int) (engine.Engine, error) {
				flags := *o
				flags.engine = name
				if threads > 0 {
					flags.threads = threads
				}
				return flags.newEngine()
			}
			outcomes, err := recipe.Run(cmd.Context(), r, recipe.RunOptions{NewEngine: newEngine, Stderr: os.Stderr, Hosts: hosts})
			var failed *recipe.Failure
			if errors.As(err, &failed) {
				return failure{err, exitFail}
			}
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(outcomes)
			}
			return nil
		},
	}
	f := cmd.Flags()
	nodes.flags(f)
	f.BoolVar(&force, "force", false, locale.Text("train although memory or disk seem too small", "即使内存或磁盘看起来不够也训练"))
	f.BoolVar(&o.json, "json", false, locale.Text("print the results as JSON", "以 JSON 输出结果"))
	return cmd
}
