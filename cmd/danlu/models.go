package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"danlu/family/guide"
	"danlu/internal/locale"
)

func init() { verbs = append(verbs, newModels) }

func newModels(o *options) *cobra.Command {
	format := guide.TextFormat
	cmd := &cobra.Command{
		Use:     "models",
		Short:   locale.Text("What is known of the published models, with sources", "已发布模型的各项事实与来源"),
		Example: "  danlu models list\n  danlu models show qwen3-8b\n  danlu models compare llama2 baichuan2 --format md",
	}
	flags := cmd.PersistentFlags()
	flags.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	flags.StringVar(&format, "format", format, locale.Text("of the table: ", "表格格式：")+strings.Join(guide.Formats, ", "))
	show := func(versions []*guide.Version, list bool) error {
		switch {
		case o.json:
			return printJSON(versions)
		case list:
			return guide.List(os.Stdout, versions, format, locale.Chinese())
		}
		return guide.Compare(os.Stdout, versions, format, locale.Chinese())
	}
	named := func(_ *cobra.Command, names []string) error {
		var versions []*guide.Version
		for _, n := range names {
			v, err := guide.Find(n)
			if err != nil {
				return err
			}
			versions = append(versions, v)
		}
		return show(versions, false)
	}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: locale.Text("A line for each version", "每个版本一行"), Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			all, err := guide.All()
			if err != nil {
				return err
			}
			return show(all, true)
		}},
		&cobra.Command{Use: "show M", Short: locale.Text("Everything about one version", "某个版本的全部信息"), Args: cobra.ExactArgs(1), RunE: named},
		&cobra.Command{Use: "compare A B...", Short: locale.Text("Versions side by side", "并排比较多个版本"), Args: cobra.MinimumNArgs(2), RunE: named},
	)
	return cmd
}
