package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"danlu/bench"
	"danlu/hardware"
	"danlu/internal/atomicfile"
	"danlu/internal/locale"
	"danlu/pipeline"
	"danlu/plan"
)

func init() { verbs = append(verbs, newPlan) }

// planFlags are the flags that plan and its parts share.
type planFlags struct{ gpu, hardware string }

func (f *planFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.gpu, "gpu", "A100-80GB", locale.Text("card, by its name or a part of it; cpu: this machine, measured", "显卡名称或其中一部分；cpu 表示本机，实测"))
	flags.StringVar(&f.hardware, "hardware", "", locale.Text("YAML file with more cards", "补充显卡的 YAML 文件"))
}

func (f *planFlags) card() (*hardware.GPU, error) {
	known, err := hardware.KnownGPUs(f.hardware)
	if err != nil {
		return nil, err
	}
	return known.Find(f.gpu)
}

func newPlan(o *options) *cobra.Command {
	var q plan.Request
	var on planFlags
	var html string
	cmd := &cobra.Command{
		Use:   "plan RECIPE.yaml|MODEL [key=value ...]",
		Short: locale.Text("Say what a model needs: memory, cards, time, cost, energy", "规划模型所需：显存、显卡、时间、费用、能耗"),
		Long: locale.Text(`MODEL is a preset, a model folder, a config.json, a GGUF file, or a size such as 7B. A recipe brings task, precision, context
and batch; flags replace them. The status is 1 when the plan does not fit.`,
			`MODEL 可以是预设名称、模型目录、config.json、GGUF 文件，或 7B 这样的规模。配方给出任务、精度、上下文和批大小，可用参数覆盖。
放不下时退出码为 1。`),
		Example: `  danlu plan 7B --task qlora --gpu "RTX 4090"
  danlu plan llama-3-70b --task pretrain --gpu h100 --gpus 1024 --tokens 15e12
  danlu plan qwen3-32b --task inference --precision int4 --context 8192 --batch 16 --json
  danlu plan my.yaml --gpu a6000
  danlu plan smollm2-135m --task full --batch 2 --context 512 --gpu cpu
  danlu plan 7B --task lora --html plan.html`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := planRecipe(cmd, &q, args); err != nil {
				return err
			}
			var err error
			if strings.EqualFold(on.gpu, "cpu") {
				eng, err := o.newEngine()
				if err != nil {
					return err
				}
				defer eng.Close()
				q.Host = bench.Host{Context: cmd.Context(), Engine: eng}
				if q.GPU, err = bench.Card(o.threads); err != nil {
					return err
				}
			} else if q.GPU, err = on.card(); err != nil {
				return err
			}
			if html != "" {
				if o.json {
					return fmt.Errorf("--html and --json: want one of them")
				}
				if q.Host != nil {
					return fmt.Errorf("--html with --gpu cpu: a page has hundreds of plans, each of which would be compiled and timed")
				}
				return atomicfile.Write(html, func(w io.Writer) error { return plan.WritePage(w, q) })
			}
			p, err := plan.New(q)
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(p)
			} else {
				err = p.Write(os.Stdout)
			}
			if err == nil && !p.Fits {
				return notOK
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar((*string)(&q.Task), "task", "inference", choices(plan.Tasks))
	f.StringVar((*string)(&q.Precision), "precision", "", choices(plan.Precisions)+locale.Text(" (default bf16; qlora int4)", "（默认 bf16；qlora 为 int4）"))
	f.StringVar((*string)(&q.Checkpointing), "checkpointing", "", locale.Text("which activations are computed again: ", "重算哪些激活：")+choices(plan.Policies)+locale.Text(" (default full; pretrain selective)", "（默认 full；预训练为 selective）"))
	f.IntVar(&q.Context, "context", 0, locale.Text("tokens of a text (default the model's, at most 4096)", "每条文本的 token 数（默认取模型上下文，至多 4096）"))
	f.IntVar(&q.Batch, "batch", 1, locale.Text("texts at a time: of each card in training, of all in inference", "同时处理的文本数：训练时为每卡，推理时为总数"))
	f.IntVar(&q.Rank, "rank", 8, locale.Text("rank of the adapter", "适配器的秩"))
	f.Float64Var(&q.Tokens, "tokens", 0, locale.Text("tokens to train on or to generate, for time, cost and energy", "训练或生成的 token 数，用于计算时间、费用与能耗"))
	f.IntVar(&q.GPUs, "gpus", 0, locale.Text("number of cards (default the fewest that fit)", "显卡数（默认取能放下的最少卡数）"))
	f.Float64Var(&q.Price, "price", 0, locale.Text("dollars for a card and hour (default the table's assumption)", "每卡每小时美元价格（默认取表中的假设值）"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	f.StringVar(&html, "html", "", locale.Text("write a page with sliders into this file instead", "改为把带滑块的网页写入该文件"))
	on.add(f)
	cmd.AddCommand(newPlanTable(o), newPlanPipeline(o))
	return cmd
}

func choices[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return strings.Join(out, "|")
}

// planRecipe fills the request from a recipe, where the first argument is one, and puts the flags that were given on top.
func planRecipe(cmd *cobra.Command, q *plan.Request, args []string) error {
	ext := filepath.Ext(args[0])
	if ext != ".yaml" && ext != ".yml" && !strings.Contains(args[0], "=") {
		if len(args) > 1 {
			return fmt.Errorf("unexpected argument %q", args[1])
		}
		q.Model = args[0]
		return nil
	}
	r, err := loadRecipe(args)
	if err != nil {
		return err
	}
	given := map[string]string{}
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	if *q, err = r.Plan(); err != nil {
		return err
	}
	for name, value := range given {
		if err := cmd.Flags().Set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func newPlanTable(o *options) *cobra.Command {
	var on planFlags
	format := plan.TextFormat
	cmd := &cobra.Command{
		Use:     "table",
		Short:   locale.Text("The reference table of sizes, computed, beside the rules usually quoted", "各规模的参考表：计算值与通行说法对照"),
		Example: "  danlu plan table\n  danlu plan table --format md --gpu h100\n  DANLU_LANG=zh danlu plan table",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			g, err := on.card()
			if err != nil {
				return err
			}
			t, err := plan.Reference(g)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(t)
			}
			return t.Write(os.Stdout, format)
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", format, choices(plan.Formats))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	on.add(f)
	return cmd
}

func newPlanPipeline(o *options) *cobra.Command {
	var schedule, svg string
	var ranks, micros int
	t := pipeline.Times{F: 1, B: 2, W: 1, FB: 3}
	cmd := &cobra.Command{
		Use:     "pipeline",
		Short:   locale.Text("Simulate a pipeline schedule: bubbles, activations held, timeline", "模拟流水线调度：气泡、激活峰值、时间线"),
		Example: "  danlu plan pipeline --schedule DualPipe --ranks 8 --micro-batches 20 --svg dualpipe.svg",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := plan.Pipeline(schedule, ranks, micros, t)
			if err != nil {
				return err
			}
			if svg != "" {
				if err := atomicfile.Write(svg, func(w io.Writer) error { _, err := io.WriteString(w, s.SVG); return err }); err != nil {
					return err
				}
			}
			if o.json {
				return printJSON(s)
			}
			return s.Write(os.Stdout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&schedule, "schedule", "1F1B", "1F1B|ZB1P|DualPipe|DualPipeV")
	f.IntVar(&ranks, "ranks", 8, locale.Text("pipeline ranks", "流水线设备数"))
	f.IntVar(&micros, "micro-batches", 20, locale.Text("micro-batches of a step", "每步的微批数"))
	f.Float64Var(&t.F, "forward", t.F, locale.Text("time of a forward pass, in any unit", "前向时间（任意单位）"))
	f.Float64Var(&t.B, "backward", t.B, locale.Text("time of a backward pass, weight gradients included", "反向时间（含权重梯度）"))
	f.Float64Var(&t.W, "weight-grad", t.W, locale.Text("time of the weight gradients", "权重梯度时间"))
	f.Float64Var(&t.FB, "overlapped", t.FB, locale.Text("time of a forward overlapped with a backward", "前向与反向重叠执行的时间"))
	f.Float64Var(&t.Link, "link", 0, locale.Text("time between ranks", "设备间通信时间"))
	f.StringVar(&svg, "svg", "", locale.Text("draw the timeline into this file", "把时间线画到该文件"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}
