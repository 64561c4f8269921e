package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"danlu/engine"
	"danlu/engine/cpu"
	"danlu/engine/ref"
	"danlu/engine/xla"
	"danlu/engine/xla/pjrt"
	"danlu/internal/locale"
	"danlu/internal/parallel"
)

func init() { verbs = append(verbs, newEngineVerb) }

func newEngineVerb(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "engine", Short: locale.Text("List, install and check plugins for accelerators", "列出、安装和检查加速器插件")}
	cmd.AddCommand(newEngineList(o), newEngineInstall(o), newEngineDoctor(o))
	return cmd
}

func engineUsage() string {
	return locale.Text("cpu, ref, or xla: a plugin for accelerators (xla:cpu and xla:cuda13 name one)", "cpu、ref，或 xla：加速器插件（xla:cpu、xla:cuda13 指定插件）")
}

// newEngine makes the engine that the flags name.
func (o *options) newEngine() (engine.Engine, error) {
	name, plugin, _ := strings.Cut(o.engine, ":")
	switch name {
	case "", "cpu":
		e, err := cpu.New(cpu.Options{Threads: o.threads})
		if err == nil {
			parallel.Configure(o.threads)
		}
		return e, err
	case "ref":
		return ref.New(), nil
	case "xla":
		compiled, err := pjrt.Home("compiled")
		if err != nil {
			return nil, err
		}
		return xla.New(xla.Options{Plugin: plugin, CacheDir: compiled})
	}
	return nil, fmt.Errorf("engine: want cpu, xla, xla:cpu, xla:cuda13 or ref, got %q", o.engine)
}
