package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"danlu/dtype"
	"danlu/engine"
	"danlu/family"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/nn"
)

func init() { verbs = append(verbs, newVerify) }

func newVerify(o *options) *cobra.Command {
	var precision string
	var tol float64
	cmd := &cobra.Command{
		Use:   "verify DIR...",
		Short: locale.Text("Compare models with the reference data beside them", "把模型与其旁边的参考数据逐项比对"),
		Long: locale.Text(`Each DIR holds a model (config.json, weights) and what the original implementation computes with it
(golden.safetensors, golden.json). Compared are logits, hidden states, the loss, every gradient, padded rows, and
generation with a KV cache. Exit status 0: all within tolerance; 1: not; 2: bad input.`,
			`每个 DIR 包含一个模型（config.json 与权重）以及原实现的计算结果（golden.safetensors、golden.json）。
比对内容：logits、各层隐藏状态、损失、全部梯度、填充行，以及带 KV 缓存的生成。退出码 0：全部在容差内；1：有超差；2：输入有误。`),
		Example: "  danlu verify testdata/goldens/models/*/\n  danlu verify --json --dtype bf16 --tol 100 my-model",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, dirs []string) error {
			policy, err := policyOf(precision)
			if err != nil {
				return err
			}
			eng, err := o.newEngine()
			if err != nil {
				return err
			}
			defer eng.Close()
			opts := family.VerifyOptions{Engine: eng, Policy: policy, Tol: tol, Cached: cachedRun(eng, policy)}
			table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			if !o.json {
				fmt.Fprintln(table, "case\tlogits\thidden\textra\tloss\tgrad\tcached\tpadded\tgreedy\ttensors\t")
			}
			ok := true
			var why []string
			for _, dir := range dirs {
				r, err := family.Verify(cmd.Context(), dir, opts)
				if err != nil {
					table.Flush()
					return err
				}
				ok = ok && r.OK
				if o.json {
					line, err := json.Marshal(r)
					if err != nil {
						return err
					}
					fmt.Println(string(line))
					continue
				}
				mark := "ok"
				if !r.OK {
					mark = "FAIL"
				}
				for _, w := range r.Why {
					why = append(why, r.Case+": "+w)
				}
				fmt.Fprintf(table, "%s\t%.1e\t%.1e\t%.1e\t%.1e\t%.1e\t%.1e\t%.1e\t%v\t%d/%d\t%s\n", r.Case, r.LogitsErr, r.HiddenErr, r.ExtraErr, r.LossErr, r.GradErr,
					r.CachedLogitsErr, r.PaddedLogitsErr, r.GreedyMatch, r.TensorsChecked, r.TensorsInGolden, mark)
			}
			table.Flush()
			for _, w := range why {
				fmt.Fprintln(os.Stderr, w)
			}
			if !ok {
				return notOK
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, locale.Text("one JSON line per case", "每个用例输出一行 JSON"))
	f.StringVar(&o.engine, "engine", "cpu", engineUsage())
	f.StringVar(&precision, "dtype", "f32", locale.Text("compute in f32 or bf16", "以 f32 或 bf16 计算"))
	f.Float64Var(&tol, "tol", 1, locale.Text("multiply every tolerance by this", "容差倍数"))
	return cmd
}

// policyOf reads a --dtype flag.
func policyOf(name string) (nn.Policy, error) {
	d, err := dtype.Parse(name)
	if err != nil {
		return nn.Policy{}, err
	}
	switch d {
	case dtype.F32:
		return nn.Float32, nil
	case dtype.BF16:
		return nn.BFloat16, nil
	}
	return nn.Policy{}, fmt.Errorf("dtype: want f32 or bf16, got %s", name)
}

// cachedRun reads texts through a KV cache, in passes of different sizes, for verification.
func cachedRun(eng engine.Engine, policy nn.Policy) family.CachedRun {
	return func(store engine.Store, m family.Model, capacity int) (family.CachedModel, error) {
		r, err := generate.NewRunner(eng, store, m, generate.Options{Policy: policy, Context: capacity, PageLen: 16, Store: dtype.F32, Chunk: capacity})
		if err != nil {
			return nil, err
		}
		return r.Verifier()
	}
}
