package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"danlu/engine"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/weights"
)

func init() { verbs = append(verbs, newQuantize) }

func newQuantize(o *options) *cobra.Command {
	var kind, file string
	var window int
	cmd := &cobra.Command{
		Use:   "quantize MODEL DST.gguf --type TYPE",
		Short: locale.Text("Store a model in fewer bits, with a report of what that costs", "量化模型并报告精度损失"),
		Long: locale.Text(`MODEL is a model folder, a GGUF file or a safetensors file. With --file, both models are scored on that text: perplexities,
the mean KL divergence of the new model's predictions from the old one's, and how often both find the same token most probable.`,
			`MODEL 为模型目录、GGUF 文件或 safetensors 文件。给出 --file 时在该文本上比较两个模型：困惑度、预测分布的平均 KL 散度、
以及两者首选 token 相同的比例。`),
		Example: "  danlu quantize my-model my-model.q4_k_m.gguf --type q4_k_m --file sample.txt",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			mix, err := weights.ParseMix(kind)
			if err != nil {
				return fmt.Errorf("--type: %w", err)
			}
			before, err := os.Stat(args[0])
			if err != nil {
				return err
			}
			var ids []int32
			bos := int32(-1)
			if file != "" {
				if ids, bos, err = encodeFile(args[0], file); err != nil {
					return err
				}
			}
			bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("quantizing", "量化"), Quiet: o.quiet || o.json, Chinese: locale.Chinese()})
			r, err := family.Convert(args[0], args[1], family.ConvertOptions{Format: family.FormatGGUF, DType: mix.Base, More: mix.More, Progress: func(done, total int64) {
				bar.SetTotal(total)
				bar.Update(done)
			}})
			bar.Done()
			if err != nil {
				return err
			}
			report := map[string]any{"source": args[0], "file": args[1], "type": kind, "bytes": r.Bytes, "dtypes": r.DTypes, "substituted": r.Substituted}
			if !before.IsDir() {
				report["source_bytes"] = before.Size()
			}
			if !o.json {
				fmt.Printf(locale.Text("%s: %s\n", "%s：%s\n"), args[1], progress.Bytes(r.Bytes))
			}
			if file != "" {
				f, err := o.fidelity(cmd.Context(), args[0], args[1], ids, generate.PerplexityOptions{Window: window, BOS: bos})
				if err != nil {
					return err
				}
				report["source_perplexity"], report["perplexity"], report["kl"], report["top1_agreement"] = f.Source.Value(), f.Model.Value(), f.KL, f.Top1
				if !o.json {
					fmt.Printf(locale.Text("perplexity %.4f, was %.4f (%+.2f%%); KL divergence %.5f nats; same most probable token at %.2f%% of %d places\n",
						"困惑度 %.4f，原为 %.4f（%+.2f%%）；KL 散度 %.5f nats；首选 token 相同 %.2f%%，共 %d 处\n"),
						f.Model.Value(), f.Source.Value(), 100*(f.Model.Value()/f.Source.Value()-1), f.KL, 100*f.Top1, f.Model.Scored)
				}
			}
			if o.json {
				return printJSON(report)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&kind, "type", "q4_k_m", locale.Text("q8_0, q6_k, q5_k_m, q5_k, q4_k_m, q4_k, q5_1, q5_0, q4_1, q4_0, q3_k, q2_k, f16 or bf16", "q8_0、q6_k、q5_k_m、q5_k、q4_k_m、q4_k、q5_1、q5_0、q4_1、q4_0、q3_k、q2_k、f16 或 bf16"))
	f.StringVar(&file, "file", "", locale.Text("text on which both models are compared", "用于比较两个模型的文本"))
	f.IntVar(&window, "ctx", 512, locale.Text("tokens of a window of the text", "文本窗口的 token 数"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// fidelity scores a text with a model, its weights as they are, and with what became of it.
func (o *options) fidelity(ctx context.Context, source, model string, ids []int32, opts generate.PerplexityOptions) (*generate.Fidelity, error) {
	eng, err := o.newEngine()
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	open := func(path string) (*generate.Runner, func(), error) {
		return openForScoring(path, eng, opts.Window)
	}
	a, closeA, err := open(source)
	if err != nil {
		return nil, err
	}
	defer closeA()
	b, closeB, err := open(model)
	if err != nil {
		return nil, err
	}
	defer closeB()
	bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("comparing", "比较"), Quiet: o.quiet || o.json, Chinese: locale.Chinese()})
	opts.Progress = func(done, total int) {
		bar.SetTotal(int64(total))
		bar.Update(int64(done))
	}
	defer bar.Done()
	return generate.Compare(ctx, a, b, ids, opts)
}

// openForScoring opens a model with exact activations, so that only its weights are compared.
func openForScoring(path string, eng engine.Engine, window int) (*generate.Runner, func(), error) {
	m, err := openModel(path)
	if err != nil {
		return nil, nil, err
	}
	how := inference{quant: weights.QuantKeep, precision: "f32"}
	r, shut, err := how.runner(m, eng, true, generate.Options{Context: window})
	if err != nil {
		m.source.Close()
		return nil, nil, err
	}
	return r, func() { shut(); m.source.Close() }, nil
}
