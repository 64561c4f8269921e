package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"danlu/generate"
	"danlu/internal/locale"
)

func newBenchInfer(o *options) *cobra.Command {
	var model string
	var how inference
	var prompt, decode, reps int
	cmd := &cobra.Command{
		Use:     "infer MODEL",
		Short:   locale.Text("Time reading a prompt and writing tokens, as llama-bench counts them", "测量预填充与解码速度（与 llama-bench 计法相同）"),
		Example: "  danlu bench infer model.gguf -p 512 -n 64 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, rest, err := modelArg(cmd, &model, args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return fmt.Errorf("unexpected argument %q", rest[0])
			}
			if prompt < 0 || decode < 0 || prompt+decode < 1 || reps < 1 {
				return fmt.Errorf("-p, -n, --reps: want at least one token and one repetition")
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
			r, shut, err := how.runner(m, eng, o.quiet || o.json, generate.Options{Context: max(prompt, decode)})
			if err != nil {
				return err
			}
			defer shut()
			b := inferBench{runner: r, vocab: m.model.Info().VocabSize}
			ctx := cmd.Context()
			var prefills, decodes []float64
			for i := range 1 + reps { // the first warms up
				p, err := b.rate(ctx, prompt, prompt)
				if err != nil {
					return err
				}
				d, err := b.rate(ctx, decode, 1)
				if err != nil {
					return err
				}
				if i > 0 {
					prefills, decodes = append(prefills, p), append(decodes, d)
				}
			}
			if o.json {
				return printJSON(map[string]any{"model": name, "prompt": prompt, "decode": decode, "dtype": how.precision, "quant": how.quant,
					"prefill_tokens_per_s": prefills, "decode_tokens_per_s": decodes, "peak_rss_bytes": peakRSS()})
			}
			fmt.Printf("%s: prefill %d: %.1f tokens/s, decode %d: %.1f tokens/s (medians of %d), peak memory %.2f GB\n", name, prompt, middle(prefills), decode, middle(decodes), reps, float64(peakRSS())/1e9)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.IntVarP(&prompt, "prompt", "p", 512, locale.Text("tokens of the prompt; 0: do not read one", "提示 token 数；0 表示不测"))
	f.IntVarP(&decode, "decode", "n", 64, locale.Text("tokens to write; 0: write none", "生成 token 数；0 表示不测"))
	f.IntVar(&reps, "reps", 5, locale.Text("repetitions, after one to warm up", "重复次数（预热一次之后）"))
	how.flags(f)
	f.StringVar(&o.engine, "engine", "cpu", engineUsage())
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// inferBench times passes of random tokens.
type inferBench struct {
	runner *generate.Runner
	vocab  int
}

// rate reads n tokens into an empty sequence, at most step at a time, with the last one's logits of each step, and
// returns tokens per second.
func (b *inferBench) rate(ctx context.Context, n, step int) (float64, error) {
	if n == 0 {
		return 0, nil
	}
	seq, err := b.runner.Open()
	if err != nil {
		return 0, err
	}
	defer b.runner.Close(seq)
	rng := rand.New(rand.NewPCG(1, 2))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(rng.IntN(b.vocab))
	}
	start := time.Now()
	for at := 0; at < n; {
		to := min(n, at+min(step, b.runner.Chunk()))
		if _, err := b.runner.Run(ctx, []generate.Work{{Sequence: seq, IDs: ids[at:to], Logits: 1}}); err != nil {
			return 0, err
		}
		at = to
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// middle is the median.
func middle(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
