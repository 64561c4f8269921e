package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"danlu/engine/xla/pjrt"
	"danlu/internal/locale"
)

// engineRow is a line of danlu engine list.
type engineRow struct {
	Engine    string `json:"engine"`
	Installed bool   `json:"installed"`
	Path      string `json:"path,omitempty"`
	From      string `json:"from,omitempty"`
}

func newEngineList(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   locale.Text("List engines and where their plugins are", "列出引擎及其插件位置"),
		Example: "  danlu engine list\n  danlu engine list --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			rows := []engineRow{{Engine: "cpu", Installed: true, From: "danlu"}}
			for _, k := range pjrt.Kinds {
				row := engineRow{Engine: "xla:" + k.Name}
				if place, err := k.Find(); err == nil {
					row.Installed, row.Path, row.From = true, place.Path, place.From
				}
				rows = append(rows, row)
			}
			if o.json {
				return printJSON(rows)
			}
			table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			for _, r := range rows {
				where := r.Path
				switch {
				case !r.Installed:
					where = locale.Text("not installed", "未安装")
				case r.Path == "":
					where = locale.Text("built in", "内置")
				}
				fmt.Fprintf(table, "%s\t%s\n", r.Engine, where)
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}
