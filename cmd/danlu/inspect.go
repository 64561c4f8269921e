package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"danlu/family"
	"danlu/internal/locale"
	"danlu/internal/progress"
)

func init() { verbs = append(verbs, newInspect) }

func newInspect(o *options) *cobra.Command {
	var model string
	cmd := &cobra.Command{
		Use:   "inspect MODEL",
		Short: locale.Text("Say what a model is: sizes, types, cache, licence, memory to run", "查看模型信息：规模、数据类型、缓存、许可证、运行所需内存"),
		Long: locale.Text(`MODEL is a folder, a GGUF or safetensors file, a config.json, or the name of a preset. Weights are checked against the
configuration (names, shapes) but not read.`,
			`MODEL 可以是模型目录、GGUF 或 safetensors 文件、config.json，或预设名称。权重只按配置核对（名称、形状），不读取内容。`),
		Example: "  danlu inspect my-model\n  danlu inspect model.gguf --json\n  danlu inspect deepseek-v3",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, rest, err := modelArg(cmd, &model, args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return fmt.Errorf("unexpected argument %q", rest[0])
			}
			in, err := family.Inspect(name)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(in)
			}
			printInspection(in)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

func printInspection(in *family.Inspection) {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	defer w.Flush()
	row := func(en, zh, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", locale.Text(en, zh), fmt.Sprintf(format, args...))
	}
	row("model", "模型", "%s (%s)", in.Model, in.Kind)
	row("architecture", "架构", "%s, %s", in.Architecture, in.Family)
	params := fmt.Sprintf("%.2fB (%d)", float64(in.ParamsTotal)/1e9, in.ParamsTotal)
	if in.ParamsTotal < 1e9 {
		params = fmt.Sprintf("%.1fM (%d)", float64(in.ParamsTotal)/1e6, in.ParamsTotal)
	}
	if in.ParamsActive != in.ParamsTotal {
		params += fmt.Sprintf(locale.Text(", %.2fB active for a token", "，每个 token 激活 %.2fB"), float64(in.ParamsActive)/1e9)
	}
	row("parameters", "参数量", "%s", params)
	row("layers, width", "层数、宽度", "%d, %d", in.Layers, in.HiddenSize)
	if in.Tensors > 0 {
		var parts []string
		for _, d := range slices.Sorted(maps.Keys(in.DTypes)) {
			parts = append(parts, d+" "+progress.Bytes(in.DTypes[d]))
		}
		row("weights", "权重", locale.Text("%s in %d tensors: %s", "%s，%d 个张量：%s"), progress.Bytes(in.WeightBytes), in.Tensors, strings.Join(parts, ", "))
	}
	vocabulary := fmt.Sprint(in.Vocabulary)
	if in.Tokenizer != "" {
		vocabulary += fmt.Sprintf(locale.Text(", %d pieces in %s", "，%d 个词元，来自 %s"), in.Pieces, in.Tokenizer)
	}
	row("vocabulary", "词表", "%s", vocabulary)
	if in.Kind != "preset" && in.Kind != "config" {
		template := locale.Text("none", "无")
		if in.Template {
			template = locale.Text("the model's own", "模型自带")
		}
		row("chat template", "对话模板", "%s", template)
	}
	row("context", "上下文", "%d tokens", in.Context)
	row("KV cache", "KV 缓存", locale.Text("%d bytes a token (16-bit), %s for the whole context", "每 token %d 字节（16 位），整个上下文 %s"), in.KVBytesPerToken, progress.Bytes(in.KVBytesPerToken*int64(in.Context)))
	row("licence", "许可证", "%s: %s", in.LicenseName, in.Commercial.Text())
	var memory []string
	for _, kind := range []string{"stored", "f32", "bf16", "q8_0", "q4_0"} {
		if n, ok := in.Memory[kind]; ok {
			name := kind
			if kind == "stored" {
				name = locale.Text("as stored", "按原样")
			}
			memory = append(memory, name+" "+progress.Bytes(n))
		}
	}
	row("memory to run", "运行内存", locale.Text("%s (%d tokens of context)", "%s（上下文 %d）"), strings.Join(memory, ", "), in.MemoryContext)
	if len(in.UnknownKeys) > 0 {
		row("unknown keys", "未知配置项", "%s", strings.Join(in.UnknownKeys, ", "))
	}
}
