package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"danlu/eval"
	"danlu/internal/locale"
)

func newEvalPairwise(o *options) *cobra.Command {
	e := &evalFlags{}
	cmd := &cobra.Command{
		Use:   "pairwise A B --endpoint URL -m JUDGE",
		Short: locale.Text("Have a model judge which of two models answers better", "由评判模型比较两个模型的回答"),
		Long: locale.Text(`A and B are files of answers to the same questions: records with instruction and output (JSON lines, JSON, CSV, parquet). The judge
sees every pair in both orders. Reported is B's share of wins, and the share that it would have with answers of A's length.
The judge is a server's model (--endpoint), or a model here (-m FOLDER).`,
			`A 与 B 是对同一组问题的回答文件：含 instruction 与 output 的记录（JSON 行、JSON、CSV、parquet）。每对回答按两种顺序评判，
报告 B 的胜率以及长度控制后的胜率。评判者可以是服务端模型（--endpoint），也可以是本地模型（-m 目录）。`),
		Example: "  danlu eval pairwise base.jsonl tuned.jsonl --endpoint http://127.0.0.1:8000/v1 -m judge\n  danlu eval pairwise base.jsonl tuned.jsonl -m judge-folder --json",
		Args:    cobra.ExactArgs(2),
		RunE:    func(cmd *cobra.Command, args []string) error { return e.pairwise(cmd, o, args[0], args[1]) },
	}
	f := cmd.Flags()
	f.StringVarP(&e.model, "model", "m", "", locale.Text("the judge", "评判模型"))
	f.StringVar(&e.template, "template", "", locale.Text("prompt format instead of the judge's own template", "使用的对话格式（代替评判模型自带模板）"))
	f.StringVar(&e.options.Cache, "use-cache", "", locale.Text("file of replies that are not asked again", "应答缓存文件"))
	e.modelFlags(f)
	f.StringVar(&o.engine, "engine", "cpu", locale.Text("cpu or ref", "cpu 或 ref"))
	f.BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

func (e *evalFlags) pairwise(cmd *cobra.Command, o *options, a, b string) error {
	pairs, err := eval.ReadPairs(a, b)
	if err != nil {
		return err
	}
	e.options.Chat = true
	if err := e.complete(cmd); err != nil {
		return err
	}
	m, shut, err := e.open(cmd, o, nil)
	if err != nil {
		return err
	}
	defer shut()
	bar := newTaskBar(o.quiet || o.json)
	j, err := eval.Judge(cmd.Context(), m, pairs, e.options.Cache, func(done, total int) { bar.update(locale.Text("judging", "评判"), done, total) })
	bar.done()
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(j)
	}
	fmt.Printf(locale.Text("%s against %s, %d pairs: wins %.1f%% ± %.1f, with lengths made equal %.1f%%; mean lengths %.0f and %.0f characters; %d verdicts changed with the order, %d were not readable\n",
		"%s 对 %s，%d 对：胜率 %.1f%% ± %.1f，长度控制后 %.1f%%；平均长度 %.0f 与 %.0f 字符；%d 个结论随顺序改变，%d 个无法读取\n"),
		filepath.Base(b), filepath.Base(a), j.Pairs, 100*j.WinRate, 100*j.Stderr, 100*j.Controlled, j.LengthB, j.LengthA, j.Swayed, j.Unread)
	return nil
}
