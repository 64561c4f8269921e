package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"danlu/engine/xla/pjrt"
	"danlu/engine/xla/pjrt/install"
	"danlu/internal/locale"
	"danlu/internal/progress"
)

func newEngineInstall(o *options) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "install cpu|cuda13",
		Short: locale.Text("Download a plugin", "下载插件"),
		Long: locale.Text(`The plugin comes as Python wheels, which pip downloads and checks; no Python runs after that. Without pip set
PIP_INDEX_URL to a package index; without a network give a folder of wheels (--from). It goes to ~/.cache/danlu/plugins
($DANLU_HOME/plugins). cpu is 63 MB; cuda13 with NVIDIA's libraries is about 2.5 GB.`,
			`插件以 Python wheel 形式发布，由 pip 下载并校验；之后不再需要 Python。没有 pip 时把 PIP_INDEX_URL 设为软件包索引；
没有网络时用 --from 指定存放 wheel 的文件夹。插件存放于 ~/.cache/danlu/plugins（$DANLU_HOME/plugins）。
cpu 为 63 MB；cuda13 连同 NVIDIA 的库约 2.5 GB。`),
		Example: "  danlu engine install cpu\n  danlu engine install cuda13 --from wheels/",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := pjrt.KindOf(args[0])
			if err != nil {
				return err
			}
			bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("downloading", "下载"), Quiet: o.quiet || o.json, Chinese: locale.Chinese()})
			place, err := install.Plugin(cmd.Context(), kind, install.Options{From: from, Stderr: os.Stderr, Progress: func(done, total int64) {
				bar.SetTotal(total)
				bar.Update(done)
			}})
			bar.Done()
			if err != nil {
				return failure{err, exitFail}
			}
			if o.json {
				return printJSON(engineRow{Engine: "xla:" + kind.Name, Installed: true, Path: place.Path, From: place.From})
			}
			fmt.Println(place.Path)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", locale.Text("folder of wheels, in the place of the network", "wheel 文件夹，代替网络下载"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}
