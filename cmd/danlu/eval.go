package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"danlu/eval"
	"danlu/generate"
	"danlu/internal/locale"
	"danlu/internal/progress"
)

func init() { verbs = append(verbs, newEval) }

// evalFlags are the flags of danlu eval.
type evalFlags struct {
	model, template, output, set            string
	tasks, folders                          []string
	shots, sequences, context, tokens, seed int
	samples, apart                          bool
	options                                 eval.Options
	how                                     inference
	remote                                  eval.Remote
}

func newEval(o *options) *cobra.Command {
	e := &evalFlags{}
	cmd := &cobra.Command{
		Use:   "eval MODEL --tasks TASK,...",
		Short: locale.Text("Measure a model on tasks", "在评测任务上测量模型"),
		Long: locale.Text(`Asks a model the items of tasks and reports figures with standard errors. A task is a name (danlu eval list), a group, a tag, a
pattern with *, or a YAML file in lm-evaluation-harness's format. Flags have that program's names.
With --output-path everything is kept in a folder, and a run that was cut off goes on where it was.`,
			`向模型提出评测任务中的题目，给出指标与标准误。任务可以是名称（danlu eval list）、任务组、标签、带 * 的模式，
或 lm-evaluation-harness 格式的 YAML 文件；参数名与该程序一致。使用 --output-path 时结果存入目录，中断后可续跑。`),
		Example: "  danlu eval model.gguf --tasks danlu_arithmetic,danlu_stories\n  danlu eval qwen-folder --tasks my_task.yaml --num-fewshot 5 --limit 200 --output-path runs/a --log-samples\n" +
			"  danlu eval --endpoint http://127.0.0.1:8000/v1 -m qwen --tasks gsm8k --apply-chat-template\n  danlu eval compare runs/a runs/b",
		RunE: func(cmd *cobra.Command, args []string) error { return e.run(cmd, o, args) },
	}
	f := cmd.Flags()
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	f.StringVarP(&e.model, "model", "m", "", locale.Text("model, instead of the argument", "模型（代替参数）"))
	f.StringSliceVar(&e.tasks, "tasks", nil, locale.Text("tasks, groups, tags, patterns or task files", "任务、任务组、标签、模式或任务文件"))
	f.StringArrayVar(&e.folders, "include-path", nil, locale.Text("folder with more task files (may be repeated)", "附加任务文件目录（可重复）"))
	f.IntVarP(&e.shots, "num-fewshot", "f", 0, locale.Text("worked examples before each item; default: the task's", "每题之前的示例数；默认由任务决定"))
	f.Float64VarP(&e.options.Limit, "limit", "L", 0, locale.Text("items of each task, or below 1 a share of them", "每个任务的题数；小于 1 时为比例"))
	f.BoolVar(&e.options.Chat, "apply-chat-template", false, locale.Text("put prompts into the model's chat template", "将提示套入模型的对话模板"))
	f.BoolVar(&e.options.Multiturn, "fewshot-as-multiturn", false, locale.Text("worked examples are turns of the conversation", "示例作为对话轮次"))
	f.StringVar(&e.options.System, "system-instruction", "", locale.Text("system message", "系统消息"))
	f.StringVar(&e.template, "template", "", locale.Text("prompt format instead of the model's own template", "使用的对话格式（代替模型自带模板）"))
	f.StringVar(&e.set, "gen-kwargs", "", locale.Text("changes of how answers are generated: temperature=0.8,top_p=0.9,max_gen_toks=512", "生成参数：temperature=0.8,top_p=0.9,max_gen_toks=512"))
	f.StringVarP(&e.output, "output-path", "o", "", locale.Text("folder for results, report, samples and the cache of answers", "保存结果、报告、样本与应答缓存的目录"))
	f.BoolVarP(&e.samples, "log-samples", "s", false, locale.Text("keep every item with what was asked and answered", "保存每题的提问与应答"))
	f.StringVar(&e.options.Cache, "use-cache", "", locale.Text("file of answers that are not asked again", "应答缓存文件"))
	f.BoolVar(&e.apart, "no-shared-prefix", false, locale.Text("read prompts anew where they begin alike", "不复用相同的提示前缀"))
	f.IntVar(&e.seed, "seed", 1234, locale.Text("of the choice of worked examples", "选取示例的随机种子"))
	f.IntVar(&e.options.Rounds, "bootstrap-iters", 1000, locale.Text("rounds of the bootstrap; 0: no standard errors", "自助法轮数；0 表示不计算标准误"))
	e.modelFlags(f)
	f.StringVar(&o.engine, "engine", "cpu", locale.Text("cpu or ref", "cpu 或 ref"))
	f.BoolVar(&o.json, "json", false, locale.Text("print the results as JSON", "以 JSON 输出结果"))
	cmd.AddCommand(newEvalList(o), newEvalCompare(o), newEvalPairwise(o))
	return cmd
}

// modelFlags are the flags about the model that is asked.
func (e *evalFlags) modelFlags(f *pflag.FlagSet) {
	f.IntVarP(&e.sequences, "batch-size", "b", 32, locale.Text("prompts in work at a time", "同时处理的提示数"))
	f.IntVar(&e.context, "max-length", 0, locale.Text("tokens of a prompt with its answer; default: the model's context, at most 8192", "提示与回答的 token 上限；默认为模型上下文，至多 8192"))
	f.IntVar(&e.tokens, "cache-tokens", 0, locale.Text("tokens whose keys and values are held; default: 16384, or the context", "键值缓存的 token 数；默认 16384 或上下文长度"))
	f.StringVar(&e.remote.URL, "endpoint", "", locale.Text("ask a server in the shape of OpenAI's API, such as http://127.0.0.1:8000/v1", "向 OpenAI 接口的服务提问，如 http://127.0.0.1:8000/v1"))
	f.StringVar(&e.remote.Key, "api-key", os.Getenv("OPENAI_API_KEY"), locale.Text("key for --endpoint; default: OPENAI_API_KEY", "--endpoint 的密钥；默认取 OPENAI_API_KEY"))
	f.Lookup("api-key").DefValue = ""
	e.how.flags(f)
}

func (e *evalFlags) run(cmd *cobra.Command, o *options, args []string) error {
	lib, err := eval.NewLibrary(e.folders...)
	if err != nil {
		return err
	}
	if len(e.tasks) == 0 {
		return errors.New("--tasks: is missing; danlu eval list shows what there is")
	}
	s, err := lib.Select(e.tasks)
	if err != nil {
		return err
	}
	if err := e.complete(cmd); err != nil {
		return err
	}
	if err := s.Check(e.options); err != nil {
		return err
	}
	m, shut, err := e.open(cmd, o, args)
	if err != nil {
		return err
	}
	defer shut()
	bar := newTaskBar(o.quiet || o.json)
	e.options.Progress = bar.update
	r, err := eval.Run(cmd.Context(), m, s, e.options)
	bar.done()
	if err != nil {
		if cmd.Context().Err() != nil && e.options.Cache != "" {
			return failure{fmt.Errorf(locale.Text("cut off; the same command goes on from %s", "已中断；再次运行同一命令将从 %s 继续"), e.options.Cache), exitFail}
		}
		return err
	}
	if e.output != "" {
		if err := r.Save(e.output, e.samples); err != nil {
			return err
		}
	}
	if o.json {
		b, err := r.JSON()
		if err == nil {
			_, err = os.Stdout.Write(b)
		}
		return err
	}
	fmt.Print(r.Markdown())
	return nil
}

// complete checks the flags and makes options of them.
func (e *evalFlags) complete(cmd *cobra.Command) error {
	f := cmd.Flags()
	switch {
	case e.shots < 0:
		return fmt.Errorf("--num-fewshot: want at least 0, got %d", e.shots)
	case !(e.options.Limit >= 0):
		return fmt.Errorf("--limit: want at least 0, got %v", e.options.Limit)
	case e.sequences < 1 || e.sequences > 4096:
		return fmt.Errorf("--batch-size: want 1 to 4096, got %d", e.sequences)
	case e.seed < 0:
		return fmt.Errorf("--seed: want at least 0, got %d", e.seed)
	case e.options.Multiturn && !e.options.Chat:
		return errors.New("--fewshot-as-multiturn: needs --apply-chat-template")
	case e.samples && e.output == "":
		return errors.New("--log-samples: needs --output-path")
	}
	if f.Changed("num-fewshot") {
		e.options.Shots = &e.shots
	}
	if e.options.Rounds == 0 {
		e.options.Rounds = -1
	}
	e.options.Seed = uint64(e.seed)
	if e.output != "" && e.options.Cache == "" {
		e.options.Cache = filepath.Join(e.output, eval.CacheFile)
	}
	if !f.Changed("cache") {
		e.how.cache = "f32" // scores are compared; memory is not scarce
	}
	e.options.Sandbox = eval.Isolated{}
	if e.set == "" {
		return nil
	}
	change, err := eval.ParseGeneration(e.set)
	if err != nil {
		return fmt.Errorf("--gen-kwargs: %w", err)
	}
	e.options.Generation = change
	return nil
}

// open makes the model: a server's, or one in this process.
func (e *evalFlags) open(cmd *cobra.Command, o *options, args []string) (eval.Model, func(), error) {
	if e.remote.URL != "" {
		e.remote.Model, e.remote.Parallel = e.model, e.sequences
		if len(args) > 0 {
			e.remote.Model = args[0]
		}
		return &e.remote, func() {}, e.remote.Check()
	}
	name, rest, err := modelArg(cmd, &e.model, args)
	if err != nil {
		return nil, nil, err
	}
	if len(rest) > 0 {
		return nil, nil, fmt.Errorf("unexpected argument %q", rest[0])
	}
	return e.local(o, name)
}

// defaultContext bounds the memory of keys and values where a model's context is long.
const defaultContext = 8192

// local loads a model.
func (e *evalFlags) local(o *options, name string) (_ eval.Model, shut func(), err error) {
	m, err := openModel(name)
	if err != nil {
		return nil, nil, err
	}
	closing := []func(){func() { m.source.Close() }}
	shut = func() {
		for i := len(closing) - 1; i >= 0; i-- {
			closing[i]()
		}
	}
	defer func() {
		if err != nil {
			shut()
		}
	}()
	l := &eval.Local{Label: name, Apart: e.apart}
	if l.Tokenizer, err = tokenizerOf(name); err != nil {
		return nil, nil, err
	}
	defaults, err := generate.ReadDefaults(name)
	if err != nil {
		return nil, nil, err
	}
	l.End = endTokens(m.model.Info(), defaults)
	if id := l.Tokenizer.EOS(); id >= 0 {
		l.End = append(l.End, id)
	}
	if e.options.Chat {
		if l.Dialect, err = dialectOf(name, e.template, l.Tokenizer); err != nil {
			return nil, nil, err
		}
		ids, _ := l.Dialect.Stop()
		l.End = append(l.End, ids...)
	}
	if l.ID, err = e.identity(name); err != nil {
		return nil, nil, err
	}
	eng, err := o.newEngine()
	if err != nil {
		return nil, nil, err
	}
	closing = append(closing, func() { eng.Close() })
	context := e.context
	if context == 0 {
		if context = defaultContext; m.model.Info().MaxPosition > 0 {
			context = min(context, m.model.Info().MaxPosition)
		}
	}
	tokens := e.tokens
	if tokens == 0 {
		tokens = 16384
	}
	pages := (max(tokens, context) + 63) / 64
	r, free, err := e.how.runner(m, eng, o.quiet || o.json, generate.Options{Context: context, Sequences: e.sequences, Pages: pages})
	if err != nil {
		return nil, nil, err
	}
	closing = append(closing, free)
	l.Runner = r
	return l, shut, nil
}

// identity says what answers depend on: the files as they are, and how they are run.
func (e *evalFlags) identity(name string) (string, error) {
	var b strings.Builder
	fmt.Fprintln(&b, e.how.quant, e.how.precision, e.how.cache, e.context, e.template)
	for _, path := range append([]string{name}, e.how.adapters...) {
		err := filepath.Walk(path, func(file string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				fmt.Fprintln(&b, filepath.Base(file), info.Size(), info.ModTime().UnixNano())
			}
			return err
		})
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
	}
	return b.String(), nil
}

// taskBar shows how far each task is.
type taskBar struct {
	quiet bool
	task  string
	bar   *progress.Bar
}

func newTaskBar(quiet bool) *taskBar { return &taskBar{quiet: quiet} }

func (b *taskBar) update(task string, done, total int) {
	if b.bar == nil || task != b.task {
		b.done()
		b.task = task
		b.bar = progress.New(os.Stderr, progress.Options{Label: task, Total: int64(total), Start: int64(done), Quiet: b.quiet, Chinese: locale.Chinese()})
	}
	b.bar.Update(int64(done))
}

func (b *taskBar) done() {
	if b.bar != nil {
		b.bar.Done()
	}
}
