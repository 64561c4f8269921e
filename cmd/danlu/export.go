package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"danlu/dtype"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/recipe"
)

func init() { verbs = append(verbs, newExport) }

func newExport(o *options) *cobra.Command {
	var model, output, kind string
	var adapters []string
	cmd := &cobra.Command{
		Use:   "export RECIPE.yaml [key=value ...]",
		Short: locale.Text("Merge adapters into a model and write it", "把适配器合并进模型并写出"),
		Long: locale.Text(`Adds adapters to the weights of their base model, in float32, and writes a model folder, or a GGUF file where the name ends
in .gguf. The recipe has LLaMA-Factory's keys: model_name_or_path, adapter_name_or_path, export_dir, export_size (GB of a
file). With quantization_bit the adapters are added to what the quantized base stands for, as they were trained on it.`,
			`以 float32 把适配器加到基座模型的权重上，写出模型目录；名字以 .gguf 结尾时写出 GGUF 文件。
配方使用 LLaMA-Factory 的键：model_name_or_path、adapter_name_or_path、export_dir、export_size（单个文件的 GB 数）。
给出 quantization_bit 时，适配器加到量化基座所代表的权重上，与训练时一致。`),
		Example: "  danlu export merge.yaml\n  danlu export --model base --adapter run --output merged\n  danlu export --model base --adapter run --output merged.gguf --type q8_0",
		RunE: func(cmd *cobra.Command, args []string) error {
			var opts recipe.ExportOptions
			var err error
			if kind != "" {
				if opts.DType, err = dtype.Parse(kind); err != nil {
					return fmt.Errorf("--type: %w", err)
				}
			}
			path := ""
			if len(args) > 0 && !strings.Contains(args[0], "=") {
				path, args = args[0], args[1:]
			}
			for key, value := range map[string]string{"model_name_or_path": model, "export_dir": output, "adapter_name_or_path": strings.Join(adapters, ",")} {
				if value != "" {
					args = append(args, key+"="+value)
				}
			}
			r, err := recipe.LoadExport(path, args)
			if err != nil {
				return err
			}
			var bar *progress.Bar
			opts.Progress = func(done, total int64) {
				if bar == nil {
					bar = progress.New(os.Stderr, progress.Options{Label: locale.Text("exporting", "导出"), Quiet: o.quiet || o.json, Chinese: locale.Chinese()})
				}
				bar.SetTotal(total)
				bar.Update(done)
			}
			c, err := recipe.Merge(r, opts)
			if bar != nil {
				bar.Done()
			}
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c)
			}
			fmt.Printf(locale.Text("%s: %s in %d files\n", "%s：%s，%d 个文件\n"), r.Export.Dir, progress.Bytes(c.Bytes), len(c.Files))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("base model", "基座模型"))
	f.StringArrayVar(&adapters, "adapter", nil, locale.Text("folder of an adapter; several are added one after another", "适配器目录；可给多个，依次合并"))
	f.StringVarP(&output, "output", "o", "", locale.Text("new folder, or a name that ends in .gguf", "新目录，或以 .gguf 结尾的文件名"))
	f.StringVar(&kind, "type", "", locale.Text("type of the weights, as of danlu convert; default: the base model's", "权重类型，同 danlu convert；默认与基座相同"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}
