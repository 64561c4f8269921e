package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"danlu/eval"
	"danlu/internal/locale"
)

func newEvalList(o *options) *cobra.Command {
	var folders []string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   locale.Text("List the tasks, groups and tags that can be named", "列出可用的任务、任务组与标签"),
		Example: "  danlu eval list\n  danlu eval list --include-path my_tasks --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			lib, err := eval.NewLibrary(folders...)
			if err != nil {
				return err
			}
			tasks, groups, tags := lib.Names()
			if o.json {
				return printJSON(map[string]any{"tasks": tasks, "groups": groups, "tags": tags})
			}
			fmt.Printf("%s\n  %s\n", locale.Text("tasks", "任务"), strings.Join(tasks, "\n  "))
			fmt.Printf("%s\n  %s\n", locale.Text("groups", "任务组"), strings.Join(groups, "\n  "))
			fmt.Printf("%s\n  %s\n", locale.Text("tags", "标签"), strings.Join(tags, "\n  "))
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&folders, "include-path", nil, locale.Text("folder with more task files (may be repeated)", "附加任务文件目录（可重复）"))
	cmd.Flags().BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}
