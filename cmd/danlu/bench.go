package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"danlu/bench"
	"danlu/dtype"
	"danlu/family"
	"danlu/internal/locale"
	"danlu/internal/parallel"
	"danlu/kernel"
)

func init() { verbs = append(verbs, newBench) }

func newBench(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: locale.Text("Measure speed and memory", "测量速度与内存")}
	cmd.AddCommand(newBenchTrain(o), newBenchGEMM(o), newBenchInfer(o), newBenchTokenizer(o))
	return cmd
}

// printJSON prints v as one line of JSON.
func printJSON(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Println(string(line))
	}
	return err
}

func newBenchTrain(o *options) *cobra.Command {
	var model, precision, frozen string
	var batch, seq, steps, rank int
	var foretell bool
	cmd := &cobra.Command{
		Use:     "train MODEL",
		Short:   locale.Text("Time training steps of a model with random weights", "测量随机权重模型的训练步速度"),
		Example: "  danlu bench train smollm2-135m --batch 2 --seq 512 --dtype bf16 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, rest, err := modelArg(cmd, &model, args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return fmt.Errorf("unexpected argument %q", rest[0])
			}
			m, _, err := family.Shape(name)
			if err != nil {
				return err
			}
			policy, err := policyOf(precision)
			if err != nil {
				return err
			}
			if batch < 1 || seq < 2 || steps < 1 || batch > 1<<16 || seq > 1<<22 {
				return fmt.Errorf("--batch, --seq, --steps: want at least 1, 2 and 1")
			}
			if rank < 0 {
				return fmt.Errorf("--lora: want a rank of at least 1, or 0 for none, got %d", rank)
			}
			eng, err := o.newEngine()
			if err != nil {
				return err
			}
			defer eng.Close()
			t := bench.Training{Model: m, Policy: policy, Batch: batch, Seq: seq, Rank: rank}
			frozen = cmp.Or(frozen, precision) // as danlu train keeps them
			if t.Frozen, err = dtype.Parse(frozen); err != nil {
				return fmt.Errorf("--frozen: %w", err)
			}
			run, err := t.Open(eng)
			if err != nil {
				return err
			}
			defer run.Close()
			memory := run.Memory().Total
			if err := run.Init(); err != nil {
				return err
			}
			var foretold time.Duration
			if foretell {
				if foretold, err = run.StepTime(cmd.Context()); err != nil {
					return failure{err, exitFail}
				}
			}
			const warm = 2
			var times []float64
			loss := 0.0
			for i := range warm + steps {
				start := time.Now()
				if loss, err = run.Step(cmd.Context(), int64(i+1)); err != nil {
					return failure{err, exitFail}
				}
				if i >= warm {
					times = append(times, time.Since(start).Seconds())
				}
			}
			best := float64(batch*seq) / slices.Min(times)
			if o.json {
				return printJSON(map[string]any{"model": name, "batch": batch, "seq": seq, "dtype": precision, "lora": rank, "frozen": frozen, "tokens_per_s": best, "step_s": times, "foretold_step_s": foretold.Seconds(), "peak_rss_bytes": peakRSS(), "foretold_bytes": memory, "loss": loss})
			}
			fmt.Printf("%s %dx%d %s: %.0f tokens/s (best of %d), peak memory %.2f GB, loss %.4f\n", name, batch, seq, precision, best, steps, float64(peakRSS())/1e9, loss)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.IntVar(&batch, "batch", 2, locale.Text("sequences of a step", "每步序列数"))
	f.IntVar(&seq, "seq", 512, locale.Text("tokens of a sequence", "每条序列的 token 数"))
	f.IntVar(&steps, "steps", 5, locale.Text("timed steps, after 2 to warm up", "计时步数（预热 2 步之后）"))
	f.IntVar(&rank, "lora", 0, locale.Text("train LoRA adapters of this rank on all linear layers; 0: all weights", "在所有线性层上训练此秩的 LoRA 适配器；0 表示训练全部权重"))
	f.StringVar(&frozen, "frozen", "", locale.Text("with --lora: how linear layers are kept: f32, bf16, nf4 or nf4_double; default: as --dtype", "配合 --lora：线性层的存储类型 f32、bf16、nf4 或 nf4_double；默认同 --dtype"))
	f.StringVar(&precision, "dtype", "bf16", locale.Text("compute in f32 or bf16", "以 f32 或 bf16 计算"))
	f.BoolVar(&foretell, "foretell", false, locale.Text("foretell the time of a step before it is timed, as plan does", "计时前先像 plan 那样预测每步时间"))
	f.StringVar(&o.engine, "engine", "cpu", engineUsage())
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

func newBenchGEMM(o *options) *cobra.Command {
	var precision, sizes string
	cmd := &cobra.Command{
		Use:     "gemm",
		Short:   locale.Text("Time matrix products", "测量矩阵乘法速度"),
		Example: "  danlu bench gemm --dtype bf16 --mkn 1024x1024x1024,2048x576x1536 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := dtype.Parse(precision)
			if err != nil {
				return err
			}
			if d != dtype.F32 && d != dtype.BF16 && !kernel.CanPack(d) {
				return fmt.Errorf("--dtype: want f32, bf16, f16 or a block type such as q8_0 or q4_0, got %s", precision)
			}
			pool := parallel.NewPool(o.threads)
			defer pool.Close()
			var gflops []float64
			for _, size := range strings.Split(sizes, ",") {
				m, k, n, err := parseMKN(size)
				if err != nil {
					return err
				}
				g, err := bench.Product(pool, m, k, n, d)
				if err != nil {
					return fmt.Errorf("--mkn: %w", err)
				}
				gflops = append(gflops, g)
				if !o.json {
					fmt.Printf("%s %s → f32: %.1f GFLOP/s\n", precision, size, g)
				}
			}
			if o.json {
				return printJSON(map[string]any{"dtype": precision, "output_dtype": "f32", "mkn": strings.Split(sizes, ","), "gflops": gflops})
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&precision, "dtype", "f32", locale.Text("type of the factors, f32 or bf16, or of the weights: f16, q8_0, q4_0, ...", "因子类型 f32 或 bf16；或权重类型 f16、q8_0、q4_0 等"))
	f.StringVar(&sizes, "mkn", "1024x1024x1024,2048x576x1536,2048x576x49152", locale.Text("sizes MxKxN, separated by commas", "尺寸 MxKxN，逗号分隔"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// parseMKN reads MxKxN.
func parseMKN(s string) (m, k, n int, err error) {
	var v [3]int
	parts := strings.Split(s, "x")
	for i, p := range parts {
		if i < 3 {
			v[i], err = strconv.Atoi(p)
		}
		if err != nil || len(parts) != 3 || v[i] < 1 || v[i] > 1<<17 {
			return 0, 0, 0, fmt.Errorf("--mkn: want MxKxN with sizes of 1 to %d, got %q", 1<<17, s)
		}
	}
	return v[0], v[1], v[2], nil
}
