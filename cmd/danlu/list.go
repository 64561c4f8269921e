package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"danlu/hub"
	"danlu/internal/locale"
	"danlu/internal/progress"
)

func init() { verbs = append(verbs, newList, newRemove) }

func newList(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   locale.Text("List the downloaded models", "列出已下载的模型"),
		Example: "  danlu list\n  danlu list --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			models, err := hub.List()
			if err != nil {
				return err
			}
			if o.json {
				for _, m := range models {
					if err := printJSON(m); err != nil {
						return err
					}
				}
				return nil
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			defer w.Flush()
			for _, m := range models {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.ID, progress.Bytes(m.Bytes), m.Hub, m.Path)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, locale.Text("one JSON line per model", "每个模型输出一行 JSON"))
	return cmd
}

func newRemove(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rm ORG/NAME",
		Short:   locale.Text("Delete a downloaded model with all its revisions", "删除已下载的模型（包括全部版本）"),
		Example: "  danlu rm Qwen/Qwen3-0.6B",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := hub.Remove(args[0])
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(m)
			}
			fmt.Printf(locale.Text("%s: %s freed\n", "%s：已释放 %s\n"), m.ID, progress.Bytes(m.Bytes))
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}
