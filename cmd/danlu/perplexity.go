package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"danlu/generate"
	"danlu/internal/locale"
	"danlu/internal/progress"
	"danlu/tokenizer"
)

func init() { verbs = append(verbs, newPerplexity) }

func newPerplexity(o *options) *cobra.Command {
	var model, file string
	var window int
	var how inference
	cmd := &cobra.Command{
		Use:     "perplexity MODEL --file TEXT",
		Short:   locale.Text("Score how well a model predicts a text", "测量模型对文本的困惑度"),
		Example: "  danlu perplexity model.gguf --file wiki.txt --ctx 512 --json\n  danlu perplexity model/ --file wiki.txt --quant q4_0",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, rest, err := modelArg(cmd, &model, args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return fmt.Errorf("unexpected argument %q", rest[0])
			}
			if file == "" {
				return fmt.Errorf("--file: is missing; give a text file")
			}
			ids, bos, err := encodeFile(name, file)
			if err != nil {
				return err
			}
			m, err := openModel(name)
			if err != nil {
				return err
			}
			defer m.source.Close()
			eng, err := o.newEngine()
			if err != nil {
				return err
			}
			defer eng.Close()
			r, shut, err := how.runner(m, eng, o.quiet || o.json, generate.Options{Context: generate.WindowContext(m.model, window)})
			if err != nil {
				return err
			}
			defer shut()
			bar := progress.New(os.Stderr, progress.Options{Label: locale.Text("scoring", "评分"), Quiet: o.quiet || o.json, Chinese: locale.Chinese()})
			p, err := r.Perplexity(cmd.Context(), ids, generate.PerplexityOptions{Window: window, BOS: bos, Progress: func(done, total int) {
				bar.SetTotal(int64(total))
				bar.Update(int64(done))
			}})
			bar.Done()
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(map[string]any{"model": name, "file": file, "ctx": window, "tokens": len(ids), "scored_tokens": p.Scored,
					"nll_sum": p.NLL, "perplexity": p.Value(), "running": p.Windows})
			}
			fmt.Printf("%s: perplexity %.4f over %d tokens in %d windows of %d\n", name, p.Value(), p.Scored, len(p.Windows), window)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringVar(&file, "file", "", locale.Text("text to score", "待评文本"))
	f.IntVar(&window, "ctx", 512, locale.Text("tokens of a window, of which the second half is scored", "窗口 token 数，只对后一半评分"))
	how.flags(f)
	f.StringVar(&o.engine, "engine", "cpu", engineUsage())
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// encodeFile reads a text as a model's token ids; bos is the token that starts its texts, -1 when it adds none.
func encodeFile(model, file string) (ids []int32, bos int32, err error) {
	t, err := tokenizer.Load(model)
	if err != nil {
		return nil, 0, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, 0, fmt.Errorf("--file: %w", err)
	}
	bos = -1
	if start := t.Encode("", tokenizer.Options{AddSpecial: true}); len(start) > 0 && start[0] == t.BOS() {
		bos = t.BOS()
	}
	return t.Encode(string(text), tokenizer.Options{}), bos, nil
}
