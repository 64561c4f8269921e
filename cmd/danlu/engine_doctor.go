package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"danlu/engine/xla"
	"danlu/engine/xla/pjrt"
	"danlu/internal/locale"
)

// diagnosis is what danlu engine doctor finds about a plugin.
type diagnosis struct {
	Engine string `json:"engine"`
	OK     bool   `json:"ok"`
	Path   string `json:"path,omitempty"`
	*xla.Facts
	Error string `json:"error,omitempty"`
}

func newEngineDoctor(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [cpu|cuda13]",
		Short: locale.Text("Load plugins, look at their devices and run a small program", "加载插件、检查设备并试运行小程序"),
		Long: locale.Text("Exit status 0: the plugin named works (without a name: those that are installed do); 1: not.",
			"退出码 0：指定的插件可用（不指定时：已安装的插件均可用）；1：不可用。"),
		Example: "  danlu engine doctor\n  danlu engine doctor cuda13 --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			kinds := pjrt.Kinds
			if len(args) > 0 {
				kind, err := pjrt.KindOf(args[0])
				if err != nil {
					return err
				}
				kinds = []pjrt.Kind{kind}
			}
			var found []diagnosis
			ok := true
			for _, k := range kinds {
				d := diagnose(k)
				ok = ok && (d.OK || d.Path == "" && len(args) == 0)
				found = append(found, d)
			}
			if err := showDiagnoses(o, found); err != nil {
				return err
			}
			if !ok {
				return notOK
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

func diagnose(k pjrt.Kind) diagnosis {
	d := diagnosis{Engine: "xla:" + k.Name}
	place, err := k.Find()
	if err == nil {
		d.Path = place.Path
		d.Facts, err = xla.Probe(place.Path)
	}
	if err != nil {
		d.Error = err.Error()
		return d
	}
	d.OK = true
	return d
}

func showDiagnoses(o *options, found []diagnosis) error {
	if o.json {
		return printJSON(found)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, d := range found {
		if !d.OK {
			fmt.Fprintf(table, "%s\t%s\n", d.Engine, d.Error)
			continue
		}
		fmt.Fprintf(table, "%s\tok\t%s\tPJRT 0.%d\t%s\n", d.Engine, d.Path, d.Minor, d.Version)
		for _, dev := range d.Devices {
			memory := ""
			if dev.MemoryBytes > 0 {
				memory = fmt.Sprintf("%.1f GiB", float64(dev.MemoryBytes)/(1<<30))
			}
			fmt.Fprintf(table, "\t%d\t%s\t%s\n", dev.ID, dev.Kind, memory)
		}
	}
	return table.Flush()
}
