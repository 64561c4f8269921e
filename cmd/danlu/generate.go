package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"danlu/generate"
	"danlu/internal/locale"
)

func init() { verbs = append(verbs, newGenerate) }

func newGenerate(o *options) *cobra.Command {
	var model, prompt string
	var how inference
	req := generate.Request{}
	cmd := &cobra.Command{
		Use:     "generate MODEL --prompt-ids IDS",
		Short:   locale.Text("Continue a text of token ids", "续写一段 token id"),
		Example: "  danlu generate model.gguf --prompt-ids 1,4093,198 --max-new 48 --temperature 0 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, rest, err := modelArg(cmd, &model, args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return fmt.Errorf("unexpected argument %q", rest[0])
			}
			if req.Prompt, err = parseIDs(prompt); err != nil {
				return err
			}
			if req.MaxNew < 1 {
				return fmt.Errorf("--max-new: want at least 1, got %d", req.MaxNew)
			}
			m, err := openModel(name)
			if err != nil {
				return err
			}
			defer m.source.Close()
			info := m.model.Info()
			for _, id := range req.Prompt {
				if id < 0 || int(id) >= info.VocabSize {
					return fmt.Errorf("--prompt-ids: want ids below %d, got %d", info.VocabSize, id)
				}
			}
			eng, err := o.newEngine()
			if err != nil {
				return err
			}
			defer eng.Close()
			r, shut, err := how.runner(m, eng, o.quiet || o.json, generate.Options{Context: min(info.MaxPosition, len(req.Prompt)+req.MaxNew)})
			if err != nil {
				return err
			}
			defer shut()
			seq, err := r.Open()
			if err != nil {
				return err
			}
			for _, id := range info.EOS {
				req.End = append(req.End, int32(id))
			}
			res, err := r.Generate(cmd.Context(), seq, req)
			if err != nil {
				return err
			}
			ids, logprobs := []int32{}, []float64{}
			for _, t := range res.Tokens {
				ids, logprobs = append(ids, t.ID), append(logprobs, t.LogProb)
			}
			if o.json {
				return printJSON(map[string]any{"ids": ids, "logprobs": logprobs, "finish_reason": res.Stop})
			}
			fmt.Println(strings.Trim(fmt.Sprint(ids), "[]"))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringVar(&prompt, "prompt-ids", "", locale.Text("prompt as token ids, separated by commas or spaces", "以逗号或空格分隔的提示 token id"))
	f.IntVar(&req.MaxNew, "max-new", 128, locale.Text("most new tokens", "最多生成的 token 数"))
	f.Float64Var(&req.Sampling.Temperature, "temperature", 0, locale.Text("0: always the most probable token", "0 表示总取概率最大的 token"))
	f.IntVar(&req.Sampling.TopK, "top-k", 0, locale.Text("choose among so many; 0: all", "只在前 K 个中选择；0 表示全部"))
	f.Float64Var(&req.Sampling.TopP, "top-p", 0, locale.Text("choose among the fewest whose probability exceeds this; 0: all", "累计概率阈值；0 表示全部"))
	f.Uint64Var(&req.Sampling.Seed, "seed", 0, locale.Text("of the choices", "随机种子"))
	how.flags(f)
	f.StringVar(&o.engine, "engine", "cpu", locale.Text("cpu or ref", "cpu 或 ref"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

// parseIDs reads token ids.
func parseIDs(s string) ([]int32, error) {
	var ids []int32
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '[' || r == ']' }) {
		n, err := strconv.ParseInt(f, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--prompt-ids: want numbers, got %q", f)
		}
		ids = append(ids, int32(n))
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("--prompt-ids: is missing or empty")
	}
	return ids, nil
}
