package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"danlu/dtype"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/recipe"
	"danlu/weights"
)

func init() { verbs = append(verbs, newExport) }

func newExport(o *options) *cobra.Command {
	var model, output, kind, file string
	var window int
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
		Example: "  danlu export merge.yaml\n  danlu export --model base --adapter run --output merged\n  danlu export --model base --adapter run --output merged.gguf --type q8_0\n  danlu export merge.yaml quantization_bit=4 --file sample.txt",
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
			report := map[string]any{"export_dir": r.Export.Dir, "format": c.Format, "files": c.Files, "bytes": c.Bytes, "dtypes": c.DTypes}
			if !o.json {
				fmt.Printf(locale.Text("%s: %s in %d files\n", "%s：%s，%d 个文件\n"), r.Export.Dir, progress.Bytes(c.Bytes), len(c.Files))
			}
			if file != "" {
				if err := o.mergeReport(cmd.Context(), r, file, window, report); err != nil {
					return err
				}
			}
			if o.json {
				return printJSON(report)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("base model", "基座模型"))
	f.StringArrayVar(&adapters, "adapter", nil, locale.Text("folder of an adapter; several are added one after another", "适配器目录；可给多个，依次合并"))
	f.StringVarP(&output, "output", "o", "", locale.Text("new folder, or a name that ends in .gguf", "新目录，或以 .gguf 结尾的文件名"))
	f.StringVar(&kind, "type", "", locale.Text("type of the weights, as of danlu convert; default: the base model's", "权重类型，同 danlu convert；默认与基座相同"))
	f.StringVar(&file, "file", "", locale.Text("text on which the written model is compared with the one that was trained", "用于比较写出的模型与训练所得模型的文本"))
	f.IntVar(&window, "ctx", 512, locale.Text("tokens of a window of the text", "文本窗口的 token 数"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// mergeReport adds how far predictions on a text are from those of the model as it was trained, with its adapter beside
// the base: after the merge, and where the base was quantized, also with the adapter on the base as it was before.
func (o *options) mergeReport(ctx context.Context, r *recipe.Recipe, file string, window int, report map[string]any) error {
	ids, bos, err := encodeFile(r.Model.Path, file)
	if err != nil {
		return err
	}
	eng, err := o.newEngine()
	if err != nil {
		return err
	}
	defer eng.Close()
	trained, shut, err := recipe.Trained(r, eng, generate.Options{Context: window, Store: dtype.F32})
	if err != nil {
		return err
	}
	defer shut()
	compare := func(path string, adapters []string) (float64, error) {
		m, err := openModel(path)
		if err != nil {
			return 0, err
		}
		defer func() { m.source.Close() }()
		how := inference{quant: weights.QuantKeep, precision: "f32", adapters: adapters}
		other, shut, err := how.runner(m, eng, true, generate.Options{Context: window})
		if err != nil {
			return 0, err
		}
		defer shut()
		f, err := generate.Compare(ctx, trained, other, ids, generate.PerplexityOptions{Window: window, BOS: bos})
		if err != nil {
			return 0, err
		}
		return f.KL, nil
	}
	kl, err := compare(r.Export.Dir, nil)
	if err != nil {
		return err
	}
	report["kl"] = kl
	if !o.json {
		fmt.Printf(locale.Text("KL divergence from the model as it was trained: %.6f nats\n", "与训练所得模型的 KL 散度：%.6f nats\n"), kl)
	}
	if r.Model.QuantizationBit == nil {
		return nil
	}
	var adapters []string
	for _, a := range r.Model.Adapters {
		adapters = append(adapters, filepath.Join(r.Model.AdapterFolder, a))
	}
	before, err := compare(r.Model.Path, adapters)
	if err != nil {
		return err
	}
	report["kl_unquantized_base"] = before
	if !o.json {
		fmt.Printf(locale.Text("of the adapter on the base before it was quantized: %.6f nats\n", "适配器加在量化前的基座上：%.6f nats\n"), before)
	}
	return nil
}
