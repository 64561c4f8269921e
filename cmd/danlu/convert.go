package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"danlu/dtype"
	"danlu/family"
	"danlu/internal/locale"
	"danlu/internal/progress"
)

func init() { verbs = append(verbs, newConvert) }

func newConvert(o *options) *cobra.Command {
	var opts family.ConvertOptions
	var kind, shard string
	cmd := &cobra.Command{
		Use:   "convert SRC DST",
		Short: locale.Text("Write a model in another format: safetensors or GGUF", "转换模型格式：safetensors 或 GGUF"),
		Long: locale.Text(`SRC is a model folder, a GGUF file or a safetensors file. DST is a new folder, which gets safetensors and everything that
goes with the model, or a name that ends in .gguf. Only the format changes: without --type weights stay as they are, except
that safetensors get float32 for block types, which they do not have. A name mmproj-*.gguf gets the vision tower of
Qwen2.5-VL alone, as llama.cpp's programs read it beside the GGUF of the text part.`,
			`SRC 为模型目录、GGUF 文件或 safetensors 文件。DST 为新目录（写入 safetensors 及模型附带文件），或以 .gguf 结尾的文件名。
只转换格式：不加 --type 时权重类型不变；safetensors 没有块量化类型，遇到时写为 float32。
文件名形如 mmproj-*.gguf 时只写 Qwen2.5-VL 的视觉塔，供 llama.cpp 与文本部分的 GGUF 一起使用。`),
		Example: "  danlu convert my-model my-model.gguf --type q8_0\n  danlu convert model.gguf my-model --type bf16\n  danlu convert pytorch-model safetensors-model --shard-size 2GB",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if kind != "" {
				if opts.DType, err = dtype.Parse(kind); err != nil {
					return fmt.Errorf("--type: %w", err)
				}
			}
			if shard != "" {
				if opts.ShardBytes, err = parseBytes(shard); err != nil {
					return fmt.Errorf("--shard-size: %w", err)
				}
			}
			bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("converting", "转换"), Quiet: o.quiet || o.json, Chinese: locale.Chinese()})
			opts.Progress = func(done, total int64) {
				bar.SetTotal(total)
				bar.Update(done)
			}
			r, err := family.Convert(args[0], args[1], opts)
			bar.Done()
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(r)
			}
			for d, n := range r.Substituted {
				fmt.Fprintf(os.Stderr, locale.Text("%d matrices have rows that do not fit %s: stored as %s\n", "%d 个矩阵的行长不适合 %s，存为 %s\n"), n, kind, d)
			}
			if len(r.LeftOut) > 0 {
				fmt.Fprintf(os.Stderr, locale.Text("%d tensors have no place in the format: %s, ...\n", "%d 个张量在该格式中没有位置：%s 等\n"), len(r.LeftOut), r.LeftOut[0])
			}
			fmt.Printf(locale.Text("%s: %s in %d files\n", "%s：%s，%d 个文件\n"), args[1], progress.Bytes(r.Bytes), len(r.Files))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Format, "to", "", locale.Text("safetensors, gguf or mmproj; by default as DST is named", "safetensors、gguf 或 mmproj；默认由 DST 的名字决定"))
	f.StringVar(&kind, "type", "", locale.Text("type of the weights: f32, bf16, f16; in a GGUF also q8_0, q6_k, q5_k, q4_k, q5_1, q5_0, q4_1, q4_0, q3_k, q2_k", "权重类型：f32、bf16、f16；GGUF 另有 q8_0、q6_k、q5_k、q4_k、q5_1、q5_0、q4_1、q4_0、q3_k、q2_k"))
	f.StringVar(&shard, "shard-size", "", locale.Text("most that one file holds, such as 2GB; default 5GB for safetensors, one file for a GGUF", "单个文件的上限，如 2GB；safetensors 默认 5GB，GGUF 默认单文件"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// parseBytes reads a size such as 500MB, 5GB or 4GiB.
func parseBytes(s string) (int64, error) {
	units := []struct {
		name string
		size float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1}}
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		x, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(x*u.size >= 1) || x*u.size >= 1<<62 {
			break
		}
		return int64(x * u.size), nil
	}
	return 0, fmt.Errorf("want a size such as 500MB or 5GB, got %q", s)
}
